"""Patches where a forecaster is uncertain: rules against loops, budgets, training, kept scores."""

from __future__ import annotations

import copy

import pytest
import torch
from sklearn.exceptions import NotFittedError

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers import EntropyPatcher
from adaptivepatch.segmentation import Segmentation

ROWS, STEPS, TICK = 8, 60, 1e-5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def regimes(num_rows=200, num_steps=STEPS, seed=0):
    """Rows that are calm, and wild for a third of their steps."""
    start = torch.randint(10, num_steps - 20, (num_rows, 1), generator=generator(seed))
    step = torch.arange(num_steps)
    wild = (step >= start) & (step < start + num_steps // 3)
    noise = torch.randn(num_rows, num_steps, generator=generator(seed + 1))
    return torch.where(wild, noise, 0.05 * noise), wild


@pytest.fixture(scope="module")
def trained():
    patcher = EntropyPatcher(compression_rate=6, train_steps=150, width=8)
    patcher.prepare(regimes()[0], None, generator())
    return patcher


def like(trained, **params):
    """A patcher with the forecaster of another, with a threshold of its own."""
    patcher = EntropyPatcher(width=8, **params)
    patcher.predictor.load_state_dict(trained.predictor.state_dict())
    patcher.train_steps = 1
    fit = patcher.predictor.state_dict()
    patcher.prepare(regimes()[0], None, generator())
    patcher.predictor.load_state_dict(fit)
    return patcher


def scores(patcher, series):
    values = getattr(patcher.predictor, patcher.score)(series).double()
    ticks = (values / TICK).round()
    if patcher.rule == "rise":
        ticks[:, 1:] = ticks[:, 1:] - ticks[:, :-1].clone()
    return ticks


@pytest.mark.parametrize("score", ["entropy", "surprisal"])
@pytest.mark.parametrize("rule", ["level", "rise"])
def test_the_exact_budget_takes_the_highest_scores(trained, score, rule):
    patcher, series = like(trained, compression_rate=6, score=score, rule=rule), regimes(ROWS)[0]
    found, value = patcher(series).mode.boundary_mask, scores(patcher, series)
    even = Segmentation.even(STEPS, 10).boundary_mask[0]
    first = 2 if rule == "rise" else 1  # a rise needs two forecasts
    for n in range(ROWS):
        order = sorted(
            range(first, STEPS), key=lambda t: (-float(value[n, t]), not bool(even[t]), t)
        )
        assert set(found[n].nonzero()[:, 0].tolist()) == {0, *order[:9]}


@pytest.mark.parametrize("rule", ["level", "rise"])
@pytest.mark.parametrize("budget", ["target", "min"])
def test_thresholds_keep_the_rate_of_training_windows(trained, rule, budget):
    patcher = EntropyPatcher(6, budget, rule=rule, width=8, train_steps=60)
    series = regimes()[0]
    patcher.prepare(series, None, generator())
    mode, value = patcher(series).mode, scores(patcher, series) * TICK
    if budget == "target":
        assert STEPS / float(mode.num_patches.double().mean()) == pytest.approx(6, rel=0.05)
        over = value > float(patcher.threshold) + TICK / 2
        over[:, : 2 if rule == "rise" else 1] = False
        over[:, 0] = True
        assert float((mode.boundary_mask != over).double().mean()) < 1e-3  # rounding at the edge
    else:
        assert int(mode.num_patches.max()) <= 10
    assert patcher.causal == (budget == "target")


def test_uncertain_stretches_have_more_patches(trained):
    series, wild = regimes(100, seed=7)
    mask = like(trained, compression_rate=6, score="entropy")(series).mode.boundary_mask[:, 1:]
    wild = wild[:, 1:]
    assert float(mask[wild].float().mean()) > 3 * float(mask[~wild].float().mean())


def test_lengths_are_kept_within_limits(trained):
    patcher = like(trained, compression_rate=6, min_length=3, max_length=12)
    lengths = patcher(regimes(ROWS)[0]).mode.patch_lengths
    assert int(lengths.min()) >= 3
    assert int(lengths.max()) <= 12
    assert lengths.shape == (ROWS, 10)


def test_filled_gaps_start_nothing(trained):
    patcher, series = like(trained, compression_rate=6), regimes(ROWS)[0]
    observed = torch.ones(ROWS, STEPS, dtype=torch.bool)
    observed[:, 20:30] = False
    mask = patcher(series, observed).mode.boundary_mask
    assert not mask[:, 20:31].any()  # step 30 follows a gap: its forecast does, too
    assert mask.sum(1).tolist() == [10] * ROWS


def test_preparing_is_repeatable_and_leaves_the_global_generator_alone():
    first, second = (EntropyPatcher(6, width=8, train_steps=5) for _ in range(2))
    state = torch.get_rng_state()
    for patcher in (first, second):
        patcher.prepare(regimes(50)[0], None, generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    for ours, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, other)
    assert not any(weight.requires_grad for weight in first.parameters())


def test_kept_scores_are_the_computed_ones_and_are_not_copied(trained):
    patcher, series = copy.deepcopy(trained), regimes(ROWS)[0]
    assert len(patcher._kept[1]) == 0
    first = patcher(series).mode.boundary_mask
    assert len(patcher._kept[1]) == ROWS
    assert torch.equal(patcher(series.flip(0)).mode.boundary_mask, first.flip(0))
    with torch.no_grad():
        for weight in patcher.predictor.parameters():
            weight.mul_(1.5)
    changed = patcher(series)
    assert len(patcher._kept[1]) == ROWS  # of the new weights alone
    fresh = copy.deepcopy(patcher)
    assert torch.equal(fresh(series).mode.boundary_mask, changed.mode.boundary_mask)


def test_what_is_not_possible_is_said(trained):
    series = regimes(ROWS)[0]
    with pytest.raises(NotFittedError, match="EntropyPatcher must see training windows"):
        EntropyPatcher(6)(series)
    other = copy.deepcopy(trained).set_params(budget="target", compression_rate=8.0)
    with pytest.raises(InvalidParameterError, match="threshold was found for compression_rate=6"):
        other(series)
    with pytest.raises(InvalidParameterError, match="'width' parameter.*must be even.*Use 8"):
        EntropyPatcher(width=7)
    for params, message in (
        ({"score": "spread"}, "'score' parameter.*must be one of"),
        ({"rule": "fall"}, "'rule' parameter.*must be one of"),
        ({"budget": "min", "min_length": 2}, "Only the exact budget limits"),
        ({"min_length": 20}, "10 patches of 20 to 60 steps must fill the look-back"),
        ({"train_steps": 0}, r"'train_steps' parameter.*\[1, inf\)"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            EntropyPatcher(6, **params)(series)
