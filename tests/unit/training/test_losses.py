from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.training.losses import make_loss, pinball, weighted_sum
from tests import oracles

LEVELS = (0.1, 0.5, 0.8)


def case(seed, num_rows=5, horizon=6):
    generator = torch.Generator().manual_seed(seed)
    forecast = torch.randn(num_rows, horizon, generator=generator).double() * 2
    target = torch.randn(num_rows, horizon, generator=generator).double()
    observed = torch.rand(num_rows, horizon, generator=generator) < 0.6
    observed[0] = False
    return forecast, target, observed


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["mse", "mae", "huber"]), st.integers(0, 10**6))
def test_point_losses_equal_the_loop(name, seed):
    forecast, target, observed = case(seed)
    loss = make_loss(name)
    every = torch.ones_like(observed)
    np.testing.assert_allclose(
        loss(forecast, target, None), oracles.row_loss(name, forecast, target, every), rtol=1e-12
    )
    np.testing.assert_allclose(
        loss(forecast, target, observed),
        oracles.row_loss(name, forecast, target, observed),
        rtol=1e-12,
    )


@pytest.mark.parametrize("quantiles", [None, LEVELS])
@pytest.mark.parametrize("junk", [1e30, float("nan"), float("inf")])
def test_what_stands_at_unobserved_targets_has_no_influence(junk, quantiles):
    forecast, target, observed = case(0)
    if quantiles:
        forecast = forecast[..., None] + torch.tensor([-1.0, 0, 1])
    forecast.requires_grad_()
    loss = make_loss("mse", quantiles)
    dirty = target.where(observed, torch.tensor(junk).double())
    clean = target.where(observed, torch.zeros(()).double())
    results = []
    for values in (clean, dirty):
        forecast.grad = None
        rows = loss(forecast, values, observed)
        rows.sum().backward()
        results.append((rows.detach(), forecast.grad.clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert bool(results[1][1].isfinite().all())
    assert torch.equal(results[0][1], results[1][1])


def test_pinball_equals_the_loop_and_is_minimal_at_the_quantile():
    generator = torch.Generator().manual_seed(0)
    forecast = torch.randn(3, 4, 3, generator=generator).double()
    target = torch.randn(3, 4, generator=generator).double()
    found = pinball(forecast, target, torch.tensor(LEVELS, dtype=torch.float64))
    for n in range(3):
        for h in range(4):
            expected = oracles.pinball(LEVELS, forecast[n, h].tolist(), float(target[n, h]))
            np.testing.assert_allclose(found[n, h], expected, rtol=1e-12)
    rows = make_loss("mse", LEVELS)(forecast, target, None)
    np.testing.assert_allclose(rows, found.mean((1, 2)), rtol=1e-12)

    sample = torch.randn(1, 999, generator=generator).double()
    grid = torch.linspace(-3, 3, 601).double()
    for level in (0.1, 0.5, 0.9):
        losses = [
            float(pinball(g.expand(1, 999, 1), sample, torch.tensor([level]).double()).mean())
            for g in grid
        ]
        best = float(grid[int(np.argmin(losses))])
        assert abs(best - float(sample.quantile(level))) <= 0.02


def test_weighted_sum_weights_rows_by_their_observed_targets():
    forecast, target, observed = case(3)
    rows = make_loss("mse")(forecast, target, observed)
    total, weight = weighted_sum(rows, observed)
    errors = (forecast - target).square()[observed]
    np.testing.assert_allclose(float(total / weight), float(errors.mean()), rtol=1e-12)
    total, weight = weighted_sum(rows, None)
    assert float(weight) == 5
    np.testing.assert_allclose(float(total), float(rows.sum()), rtol=1e-15)


def test_unknown_names_are_refused():
    with pytest.raises(InvalidParameterError, match="Unknown loss 'hubr'.*Did you mean 'huber'"):
        make_loss("hubr")
