from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.tokens.pooling import broadcast, overlap_matrix, pool_mean, pool_sum
from adaptivepatch.segmentation import Segmentation
from tests import oracles
from tests.builders import random_mask, segmentations


@settings(max_examples=100, deadline=None)
@given(segmentations(), st.integers(1, 3), st.integers(0, 2**31))
def test_pool_and_broadcast_equal_the_loops(segmentation, width, seed):
    s, generator = segmentation, torch.Generator().manual_seed(seed)
    values = torch.randn(s.num_rows, s.num_steps, width, generator=generator).double()
    mask = s.boundary_mask.numpy()
    total = pool_sum(values, s)
    np.testing.assert_allclose(
        total, oracles.pool_sum(values.numpy(), mask, s.capacity), atol=1e-13
    )
    lengths = s.patch_lengths.clamp(min=1)[..., None]
    np.testing.assert_allclose(pool_mean(values, s), total / lengths, rtol=0)
    patches = torch.randn(s.num_rows, s.capacity, width, generator=generator).double()
    steps = broadcast(patches, s)
    np.testing.assert_array_equal(steps, oracles.broadcast(patches.numpy(), mask))
    # Pooling what was broadcast gives the patches back; unused slots are 0.
    again = pool_mean(steps, s)
    np.testing.assert_allclose(again, patches * s.patch_mask[..., None], atol=1e-14)
    np.testing.assert_allclose(total.sum(1), values.sum(1), atol=1e-12)  # nothing is lost


@settings(max_examples=100, deadline=None)
@given(st.data(), segmentations())
def test_overlap_matrix_equals_the_loop(data, segmentation):
    s = segmentation
    cells = Segmentation.even(s.num_steps, data.draw(st.integers(1, s.num_steps)))
    matrix = overlap_matrix(s, cells, torch.float64)
    assert matrix.shape == (1 if s.is_shared else s.num_rows, cells.capacity, s.capacity)
    for n in range(s.num_rows):
        expected = oracles.overlap_matrix(s.boundary_mask[n], cells.boundary_mask[0])
        used = expected.shape[1]
        found = matrix[min(n, len(matrix) - 1)]
        np.testing.assert_allclose(found[:, :used], expected, atol=1e-14)
        assert float(found[:, used:].abs().sum()) == 0
    np.testing.assert_allclose(matrix.sum(2), 1, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overlap_matrix_is_the_identity_on_the_cells(dtype):
    cells = Segmentation(random_mask(1, 30, seed=2))
    assert torch.equal(
        overlap_matrix(cells, cells, dtype)[0], torch.eye(cells.capacity, dtype=dtype)
    )


def test_pooling_has_exact_gradients():
    s = Segmentation(random_mask(2, 7), capacity=7)
    values = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)
    patches = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: pool_mean(v, s), values)
    assert torch.autograd.gradcheck(lambda p: broadcast(p, s), patches)
