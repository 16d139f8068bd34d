from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.layers.normalization import InstanceNorm, Scale
from adaptivepatch.nn.tokens.heads import SlotHead, TimeAlignedHead
from adaptivepatch.segmentation import Segmentation
from tests import oracles
from tests.builders import random_mask

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.9)


def test_is_a_flatten_head_on_the_reference_cells():
    torch.manual_seed(0)
    cells = Segmentation(random_mask(1, 20))
    head = TimeAlignedHead(cells, 3, 5).double()
    hidden = torch.randn(4, cells.capacity, 3).double()
    expected = head.projection(hidden.flatten(1))
    for segmentation in (cells.expand(4), Segmentation(cells.boundary_mask.repeat(4, 1))):
        assert torch.equal(head(hidden, segmentation), expected)


def test_equals_the_loop_elsewhere():
    torch.manual_seed(0)
    cells = Segmentation.even(20, 6)
    segmentation = Segmentation(random_mask(4, 20, seed=5), capacity=12)
    head = TimeAlignedHead(cells, 3, 5).double()
    hidden = torch.randn(4, 12, 3).double()
    found = head(hidden, segmentation)
    for n in range(4):
        matrix = oracles.overlap_matrix(segmentation.boundary_mask[n], cells.boundary_mask[0])
        tokens = torch.tensor(matrix) @ hidden[n, : matrix.shape[1]]
        expected = head.projection(tokens.flatten())
        torch.testing.assert_close(found[n], expected, rtol=0, atol=1e-14)


def test_unused_slots_have_no_influence():
    torch.manual_seed(0)
    segmentation = Segmentation(random_mask(3, 20, seed=5), capacity=12)
    head = TimeAlignedHead(Segmentation.even(20, 6), 3, 5)
    hidden = torch.randn(3, 12, 3)
    changed = torch.where(segmentation.patch_mask[..., None], hidden, torch.full_like(hidden, 1e6))
    assert torch.equal(head(hidden, segmentation), head(changed, segmentation))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([1e-6, 1.0, 1e3, 1e8, 1e30]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 10**6),
    st.sampled_from([LEVELS, (0.5,), (0.5, 0.9), (0.1, 0.5)]),
)
def test_quantiles_never_cross(magnitude, dtype, seed, levels):
    torch.manual_seed(seed)
    head = TimeAlignedHead(Segmentation.even(8, 2), 3, 6, levels).to(dtype)
    with torch.no_grad():
        head.projection.weight.copy_(magnitude * torch.randn_like(head.projection.weight))
        head.projection.bias.copy_(magnitude * torch.randn_like(head.projection.bias))
    forecast = head(10 * torch.randn(5, 2, 3, dtype=dtype), Segmentation.even(8, 2, 5))
    scale = Scale(1e4 * torch.randn(5, 1, dtype=dtype), 1e3 * torch.rand(5, 1, dtype=dtype) + 1e-3)
    denormalised = InstanceNorm().inverse(forecast, scale)
    for values in (forecast, denormalised):
        assert values.shape == (5, 6, len(levels))
        assert bool(values.isfinite().all())
        assert bool((values.diff(dim=-1) >= 0).all())


def test_the_median_is_the_plain_output():
    torch.manual_seed(0)
    head = TimeAlignedHead(Segmentation.even(8, 2), 3, 6, LEVELS).double()
    hidden = torch.randn(5, 2, 3).double()
    raw = head.projection(hidden.flatten(1)).view(5, 6, 5)
    found = head(hidden, Segmentation.even(8, 2, 5))
    assert torch.equal(found[..., 2], raw[..., 2])
    step = torch.nn.functional.softplus(raw)
    torch.testing.assert_close(found[..., 4], raw[..., 2] + step[..., 3] + step[..., 4])
    torch.testing.assert_close(found[..., 0], raw[..., 2] - step[..., 1] - step[..., 0])


@pytest.mark.parametrize("quantiles", [None, LEVELS])
def test_every_weight_gets_gradient(quantiles):
    torch.manual_seed(0)
    head = TimeAlignedHead(Segmentation.even(20, 5), 3, 4, quantiles)
    hidden = torch.randn(6, 12, 3, requires_grad=True)
    segmentation = Segmentation(random_mask(6, 20, seed=5), capacity=12)
    head(hidden, segmentation).square().sum().backward()
    assert bool((head.projection.weight.grad != 0).all())
    assert bool(((hidden.grad.abs().sum(2) > 0) == segmentation.patch_mask).all())


def test_slot_head_reads_slots_whatever_their_boundaries():
    torch.manual_seed(0)
    head = SlotHead(4, 3, 5).double()
    hidden = torch.randn(2, 4, 3).double()
    even, other = Segmentation.even(20, 4, 2), Segmentation.shared([0, 1, 2, 19], 20, 2)
    found = head(hidden, even)
    weight, bias = head.projection.weight, head.projection.bias
    for n in range(2):
        expected = sum(weight[:, 3 * k : 3 * k + 3] @ hidden[n, k] for k in range(4)) + bias
        torch.testing.assert_close(found[n], expected, rtol=0, atol=1e-14)
    assert torch.equal(head(hidden, other), found)
    assert not torch.allclose(head(hidden.roll(1, 1), even), found)


def test_a_cell_for_every_step_is_read_without_resampling():
    every = Segmentation.even(12, 12, 3)
    head = TimeAlignedHead(Segmentation.even(12, 12), 2, 4).double()
    hidden = torch.randn(3, 12, 2, dtype=torch.float64)
    assert torch.equal(head(hidden, every), head.projection(hidden.flatten(1)))
    some = Segmentation(torch.eye(12, dtype=torch.bool)[:3] | every.boundary_mask, 12)
    torch.testing.assert_close(head(hidden, some), head(hidden, every))
