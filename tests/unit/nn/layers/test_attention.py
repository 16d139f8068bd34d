from __future__ import annotations

import pytest
import torch

from adaptivepatch.nn.layers import attention
from adaptivepatch.nn.layers.attention import attend

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 1], [0, 0, 0, 1, 0]] * 2).bool()


def direct(query, key, value, mask):
    scores = torch.einsum("bei,bej->bij", query, key)
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -torch.inf)[:, None, :]
    return torch.einsum("bij,bvj->bvi", scores.softmax(-1), value)


def inputs(scale=1.0):
    torch.manual_seed(0)
    shapes = [(6, 4, 5), (6, 4, 5), (6, 2, 5)]
    return [(scale * torch.randn(shape)).double().requires_grad_() for shape in shapes]


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("scores_at_a_time", [25, 100, 2**17])
def test_equals_the_formula_with_gradients(mask, scores_at_a_time, monkeypatch):
    monkeypatch.setattr(attention, "_CHUNK_VALUES", scores_at_a_time)  # 1, 4 and all rows
    ours, theirs = inputs(), inputs()
    mixed, expected = attend(*ours, mask), direct(*theirs, mask)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-14)
    weight = torch.randn(mixed.shape).double()
    (mixed * weight).sum().backward()
    (expected * weight).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-13)


def test_large_scores_stay_finite():
    tensors = inputs(scale=100.0)
    mixed = attend(*tensors, MASK)
    mixed.sum().backward()
    assert all(bool(t.grad.isfinite().all()) for t in tensors)
    torch.testing.assert_close(mixed, direct(*tensors, MASK))


def test_masked_keys_get_no_gradient():
    query, key, value = inputs()
    attend(query, key, value, MASK).square().sum().backward()
    hidden = ~MASK[:, None, :]
    assert not bool((key.grad * hidden).any() or (value.grad * hidden).any())


def test_under_autocast():
    tensors = [t.detach().float().requires_grad_() for t in inputs()]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attend(*tensors, MASK)
    mixed.sum().backward()
    expected = direct(*(t.double() for t in tensors), MASK)
    torch.testing.assert_close(mixed.double(), expected, rtol=0.1, atol=0.1)
