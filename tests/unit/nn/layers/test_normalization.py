from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.layers.normalization import InstanceNorm, Scale
from tests import oracles


def rows(seed, num_rows=4, num_steps=20, gaps=0.3):
    generator = torch.Generator().manual_seed(seed)
    series = 5 + 3 * torch.randn(num_rows, num_steps, generator=generator).double()
    observed = torch.rand(num_rows, num_steps, generator=generator) >= gaps
    series[~observed] = float("nan")
    return series, observed


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_equals_numpy_on_masked_rows(seed, gaps):
    series, observed = rows(seed, gaps=gaps)
    normalised, scale = InstanceNorm()(series, observed)
    for n in range(len(series)):
        values = series[n][observed[n]].numpy()
        mean = values.mean() if len(values) else 0.0
        std = np.sqrt((values.var() if len(values) else 0.0) + 1e-5)
        np.testing.assert_allclose(float(scale.mean[n]), mean, atol=1e-12)
        np.testing.assert_allclose(float(scale.std[n]), std, rtol=1e-12)
        raw = np.where(observed[n], (series[n] - mean) / std, np.nan)[None]
        filled = oracles.interpolate_gaps(raw, observed[n : n + 1].numpy())[0]
        np.testing.assert_allclose(normalised[n], filled, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_inverse_undoes_forward_on_observed_points(seed, enabled):
    series, observed = rows(seed)
    norm = InstanceNorm(enabled)
    normalised, scale = norm(series, observed)
    np.testing.assert_allclose(
        norm.inverse(normalised, scale)[observed], series[observed], atol=1e-12
    )
    quantiles = normalised[..., None].expand(-1, -1, 3)
    np.testing.assert_allclose(
        norm.inverse(quantiles, scale)[observed][:, 1], series[observed], atol=1e-12
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_a_full_mask_equals_no_mask_bit_for_bit(enabled):
    series = torch.randn(3, 17) * 10 + 4
    norm = InstanceNorm(enabled)
    plain, scale = norm(series)
    masked, masked_scale = norm(series, torch.ones(3, 17, dtype=torch.bool))
    assert torch.equal(plain, masked)
    assert torch.equal(scale.mean, masked_scale.mean)
    assert torch.equal(scale.std, masked_scale.std)


@pytest.mark.parametrize("level", [0.0, 7.0, 1e6])
def test_constant_rows_become_zero(level):
    series = torch.full((2, 9), level)
    normalised, scale = InstanceNorm()(series)
    assert bool((normalised.abs() < 1).all())
    assert torch.equal(InstanceNorm().inverse(torch.zeros(2, 3), scale), torch.full((2, 3), level))


def test_disabled_fills_gaps_only():
    series, observed = rows(3)
    filled, scale = InstanceNorm(enabled=False)(series, observed)
    np.testing.assert_allclose(
        filled, oracles.interpolate_gaps(series.numpy(), observed.numpy()), atol=1e-14
    )
    assert float(scale.mean.abs().max()) == 0
    assert bool((scale.std == 1).all())


def test_float32_survives_a_large_level():
    generator = torch.Generator().manual_seed(0)
    series = 1e4 + torch.randn(2, 500, generator=generator)
    normalised, _ = InstanceNorm()(series)
    exact, _ = InstanceNorm()(series.double())
    assert float((normalised - exact).abs().max()) < 2e-3  # one float32 step at 1e4 is 1e-3


def test_scale_repeats_rollout_major():
    scale = Scale(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]))
    assert scale.repeat(2).mean[:, 0].tolist() == [1, 2, 1, 2]
    assert scale.repeat(2).std[:, 0].tolist() == [3, 4, 3, 4]
