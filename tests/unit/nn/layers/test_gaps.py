from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.layers.gaps import interpolate_gaps
from tests import oracles


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equals_numpy_interp(data):
    num_rows, num_steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 15))
    bits = st.lists(st.booleans(), min_size=num_steps, max_size=num_steps)
    observed = torch.tensor([data.draw(bits) for _ in range(num_rows)])
    series = torch.randn(
        num_rows, num_steps, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    ).double()
    series[~observed] = data.draw(st.sampled_from([float("nan"), float("inf"), 1e9]))
    filled = interpolate_gaps(series, observed)
    np.testing.assert_allclose(
        filled, oracles.interpolate_gaps(series.numpy(), observed.numpy()), atol=1e-14
    )
    assert torch.equal(filled[observed], series[observed])


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ([0, 0, 1, 0, 0], [3, 3, 3, 3, 3]),
        ([0, 1, 0, 1, 0], [2, 2, 3, 4, 4]),
        ([1, 0, 0, 0, 1], [1, 2, 3, 4, 5]),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]),
    ],
)
def test_edges_hold_and_empty_rows_are_zero(observed, expected):
    seen = torch.tensor([observed], dtype=torch.bool)
    series = torch.tensor([[1.0, 2, 3, 4, 5]]).masked_fill(~seen, float("nan"))
    assert interpolate_gaps(series, seen).tolist() == [[float(v) for v in expected]]


def test_unobserved_values_get_no_gradient():
    series = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    observed = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 0]]).bool()
    interpolate_gaps(series, observed).square().sum().backward()
    assert bool((series.grad[~observed] == 0).all())
    assert bool((series.grad[observed] != 0).all())
