"""The causal forecaster of the next value: what it may see, its densities, its training."""

import math

import pytest
import torch
from torch.distributions import Normal

from adaptivepatch.nn.placement.surprise import NextPointPredictor, fit_next_point

ROWS, STEPS = 6, 50


def predictor(width=8, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = NextPointPredictor(width).double()
        with torch.no_grad():
            for weight in made.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    return made


def autoregressive(num_rows=400, num_steps=STEPS, seed=0):
    """x_t = 0.9 x_{t-1} - 0.5 x_{t-2} + e, e with a deviation of 0.3."""
    noise = 0.3 * torch.randn(num_rows, num_steps + 20, generator=generator(seed)).double()
    values = [noise[:, 0], noise[:, 1]]
    for t in range(2, num_steps + 20):
        values.append(0.9 * values[-1] - 0.5 * values[-2] + noise[:, t])
    return torch.stack(values[20:], 1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("step", [0, 1, 2, 7, 30, STEPS - 1])
def test_a_step_is_forecast_from_those_before_it(step):
    model, series = predictor(), autoregressive(ROWS)
    changed = series.clone()
    changed[:, step:] += 100 * torch.randn(ROWS, STEPS - step, generator=generator(1))
    for ours, other in zip(model(series), model(changed), strict=True):
        assert torch.equal(ours[:, : step + 1], other[:, : step + 1])
        if step + 1 < STEPS:
            assert not torch.equal(ours[:, step + 1], other[:, step + 1])


def test_it_reads_31_steps():
    model, series = predictor(), autoregressive(ROWS)
    gradient = (
        torch.autograd.grad(model(series.requires_grad_())[0][:, -1].sum(), series)[0].abs().sum(0)
    )
    assert (gradient[: STEPS - 1 - 32] == 0).all()
    assert (gradient[STEPS - 1 - 30 : STEPS - 1] > 0).all()
    assert gradient[-1] == 0


def test_densities_are_those_of_the_normal_distribution():
    model, series = predictor(), autoregressive(ROWS)
    mean, log_scale = model(series)
    exact = Normal(mean, log_scale.exp())
    torch.testing.assert_close(model.surprisal(series), -exact.log_prob(series))
    torch.testing.assert_close(model.entropy(series), exact.entropy())
    torch.testing.assert_close(model.squared_error(series), (series - mean).square())
    tail = 2 * (1 - exact.cdf(mean + (series - mean).abs()))
    torch.testing.assert_close(model.tail_probability(series), tail)


def test_the_loss_is_over_observed_steps_whose_last_is_observed():
    model, series = predictor(), autoregressive(ROWS)
    surprisal = model.surprisal(series)
    torch.testing.assert_close(model.loss(series), surprisal[:, 1:].mean())
    observed = torch.rand(ROWS, STEPS, generator=generator(3)) < 0.7
    total, count = 0.0, 0
    for n in range(ROWS):
        for t in range(1, STEPS):
            if observed[n, t] and observed[n, t - 1]:
                total, count = total + surprisal[n, t], count + 1
    torch.testing.assert_close(model.loss(series, observed), total / count)
    assert float(model.loss(series, torch.zeros_like(observed)).detach()) == 0
    assert float(model.loss(series[:, :1]).detach()) == 0


def test_training_finds_the_process_and_is_repeatable():
    series, state = autoregressive(), torch.get_rng_state()
    with torch.no_grad():  # as `prepare` is called
        first, second = NextPointPredictor(8).double(), NextPointPredictor(8).double()
        second.load_state_dict(first.state_dict())
        losses = fit_next_point(first, series, None, generator(5), num_steps=150)
        again = fit_next_point(second, series, None, generator(5), num_steps=150)
        assert losses == again
        assert all(map(torch.equal, first.parameters(), second.parameters()))
        found = float(first.loss(autoregressive(seed=9)))
    torch.set_rng_state(state)
    best = math.log(0.3) + 0.5 * math.log(2 * math.pi * math.e)
    change = series.diff(dim=1).std()
    random_walk = float(change.log()) + 0.5 * math.log(2 * math.pi * math.e)
    assert found < best + 0.25 * (random_walk - best)


def test_training_leaves_the_global_generator_alone():
    model, series = predictor(), autoregressive(20)
    state = torch.get_rng_state()
    fit_next_point(model, series, None, generator(), num_steps=2)
    assert torch.equal(torch.get_rng_state(), state)
