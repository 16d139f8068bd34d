from __future__ import annotations

import math

import pytest
import torch

from adaptivepatch.nn.layers.dropout import Dropout


@pytest.mark.parametrize("p", [0.002, 0.1, 0.3, 0.51, 0.9, 0.996, 0.9999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_share_and_mean(p, dtype):
    torch.manual_seed(0)
    count = 400_000
    rounded = min(255, round(256 * p)) / 256
    values = Dropout(p)(torch.ones(count, dtype=dtype))
    zeros = int((values == 0).sum())
    sigma = math.sqrt(count * rounded * (1 - rounded))
    assert abs(zeros - count * rounded) <= 5 * sigma
    kept = values[values != 0]
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - rounded)))
    if p < 0.99:
        assert abs(rounded - p) <= 1 / 512
    # The expectation is exact: share kept times the factor is 1.
    assert abs(float(kept[0].double()) * (1 - rounded) - 1) < 1e-6


def test_every_byte_of_a_word_drops_alike():
    torch.manual_seed(1)
    count, p = 100_000, 0.25
    zeros = (Dropout(p)(torch.ones(count * 8)) == 0).view(count, 8)
    share = zeros.double().mean(0)
    assert float((share - p).abs().max()) < 5 * math.sqrt(p * (1 - p) / count)
    together = torch.corrcoef(zeros.double().T) - torch.eye(8)
    assert float(together.abs().max()) < 5 / math.sqrt(count)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4), (0, 4), ()])
def test_any_shape(shape):
    values = Dropout(0.5)(torch.ones(shape))
    assert values.shape == shape
    assert set(values.flatten().tolist()) <= {0.0, 2.0}


def test_is_the_identity_in_eval_and_at_zero():
    values = torch.randn(5, 3)
    assert Dropout(0.4).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_gradient_is_the_mask():
    torch.manual_seed(0)
    values = torch.randn(1000, requires_grad=True)
    result = Dropout(0.3)(values)
    result.sum().backward()
    kept = result != 0
    assert bool((values.grad[~kept] == 0).all())
    assert torch.allclose(values.grad[kept], (result / values)[kept].detach())


def test_non_contiguous_input():
    torch.manual_seed(0)
    values = torch.arange(1.0, 13).view(3, 4).T
    result = Dropout(0.5)(values)
    assert bool(((result == 0) | (result == 2 * values)).all())


def test_follows_the_global_generator():
    module, values = Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first = module(values)
    torch.manual_seed(3)
    assert torch.equal(module(values), first)
    assert not torch.equal(module(values), first)
    assert repr(module) == "Dropout(p=0.5)"
