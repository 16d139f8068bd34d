"""Patches where a forecaster is uncertain: rules against loops, budgets, training, kept scores."""

from __future__ import annotations

import copy
import math
from itertools import combinations

import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers import entropy
from adaptivepatch.patchers.entropy import EntropyPatcher
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


def test_limited_patches_have_the_greatest_total_score(trained):
    patcher = like(trained, compression_rate=4, min_length=2, max_length=7)
    series = regimes(ROWS)[0][:, 20:36]  # 16 steps, 4 patches
    value = scores(patcher, series)
    for n, found in enumerate(patcher(series).mode.boundary_mask):
        total = {}
        for starts in combinations(range(1, 16), 3):
            lengths = [b - a for a, b in zip((0, *starts), (*starts, 16), strict=True)]
            if min(lengths) >= 2 and max(lengths) <= 7:
                total[starts] = float(value[n, list(starts)].sum())
        chosen = tuple(found.nonzero()[1:, 0].tolist())
        assert total[chosen] == max(total.values())


def test_filled_gaps_start_nothing(trained):
    patcher, series = like(trained, compression_rate=6), regimes(ROWS)[0]
    observed = torch.ones(ROWS, STEPS, dtype=torch.bool)
    observed[:, 20:30] = False
    mask = patcher(series, observed).mode.boundary_mask
    assert not mask[:, 20:31].any()  # step 30 follows a gap: its forecast does, too
    assert mask.sum(1).tolist() == [10] * ROWS


@pytest.mark.parametrize("budget", ["target", "min"])
def test_thresholds_are_not_reached_at_gaps(trained, budget):
    patcher, series = like(trained, compression_rate=6, budget=budget), regimes(ROWS)[0]
    observed = torch.rand(ROWS, STEPS, generator=generator(4)) < 0.6
    observed[0] = False
    mode = patcher(series, observed).mode
    known = observed & torch.cat([torch.zeros(ROWS, 1).bool(), observed[:, :-1]], 1)
    assert not (mode.boundary_mask & ~known)[:, 1:].any()
    assert mode.boundary_mask[:, 1:].any()
    assert mode.num_patches[0] == 1


def test_an_exact_budget_is_filled_up_at_gaps(trained):
    patcher, series = like(trained, compression_rate=6), regimes(ROWS)[0]
    observed = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    observed[1:, 40:44] = True
    mask = patcher(series, observed).mode.boundary_mask
    assert mask.sum(1).tolist() == [10] * ROWS
    assert mask[1:, 41:44].all()  # all that have a score
    assert torch.equal(mask[0], Segmentation.even(STEPS, 10).boundary_mask[0])


def test_a_group_uses_the_mean_over_its_rows_with_a_score(trained):
    patcher, series = like(trained, compression_rate=6), regimes(ROWS)[0]
    observed = torch.rand(ROWS, STEPS, generator=generator(5)) < 0.7
    group = torch.tensor([3, 1, 3, 3, 1, 0, 3, 1])
    mask, value = patcher(series, observed, group).mode.boundary_mask, scores(patcher, series)
    even = Segmentation.even(STEPS, 10).boundary_mask[0]
    for number in (0, 1, 3):
        members, mean = (group == number).nonzero()[:, 0].tolist(), [0.0]
        for t in range(1, STEPS):
            own = [float(value[n, t]) for n in members if observed[n, t] and observed[n, t - 1]]
            mean.append(sum(own) / len(own) if own else -math.inf)
        order = sorted(range(1, STEPS), key=lambda t: (-mean[t], not bool(even[t]), t))
        for n in members:
            assert set(mask[n].nonzero()[:, 0].tolist()) == {0, *order[:9]}


# ------------------------------------------------------------------------------- what a row may see


@pytest.mark.parametrize("score", ["entropy", "surprisal"])
@pytest.mark.parametrize("rule", ["level", "rise"])
def test_starts_by_a_threshold_depend_on_the_past(trained, score, rule):
    patcher = like(trained, compression_rate=4, budget="target", score=score, rule=rule)
    series = regimes(ROWS)[0]
    before = patcher(series).mode.boundary_mask
    for step in (1, 2, 15, STEPS - 1):
        changed = series.clone()
        changed[:, step:] = 30 * torch.randn(ROWS, STEPS - step, generator=generator(step))
        after = patcher(changed).mode.boundary_mask
        told = step + 1 if score == "entropy" else step  # entropy: of x_t nothing but its past
        assert torch.equal(after[:, :told], before[:, :told])
    assert before[:, 1:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_steps", [2, 3, 7, 33, STEPS])
def test_scores_are_the_same_wherever_a_row_stands(trained, dtype, num_steps):
    patcher = copy.deepcopy(trained).to(dtype)
    series = regimes(70)[0][:, :num_steps].to(dtype)
    together, order = patcher._ticks(series), torch.randperm(70, generator=generator())
    assert torch.equal(patcher._ticks(series[order]), together[order])
    for n in (0, 31, 32, 69):
        assert torch.equal(patcher._ticks(series[n : n + 1])[0], together[n])


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_a_constant_row_is_cut_evenly_where_its_scores_are_equal(trained, value):
    patcher = like(trained, compression_rate=10)
    mask = patcher(torch.full((2, 400), value)).mode.boundary_mask
    late = mask[0].nonzero()[:, 0]
    late = late[late > 40]  # earlier steps see the start of the row
    assert len(late) > 5
    even = Segmentation.even(400, 40).boundary_mask[0]
    assert even[late].all()
    assert torch.equal(mask[0], mask[1])


def test_a_single_step_is_one_patch():
    for budget in ("exact", "min", "target"):
        patcher = EntropyPatcher(4, budget, width=2)
        patcher.prepare(torch.randn(8, 1, generator=generator()), None, generator())
        assert patcher(torch.zeros(3, 1)).mode.patch_lengths.tolist() == [[1]] * 3


def test_less_precise_arithmetic_of_the_network_changes_nothing(trained):
    series = regimes(ROWS)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = copy.deepcopy(trained)(series).mode.boundary_mask
    assert torch.equal(found, trained(series).mode.boundary_mask)


# -------------------------------------------------------------------------------------- training


def test_the_forecaster_is_better_than_a_random_walk():
    # x_t = 0.9 x_{t-1} - 0.5 x_{t-2} + e, where e is calm or wild
    def process(seed):
        noise, values = regimes(300, seed=seed)[0], [torch.zeros(300)] * 2
        for t in range(STEPS):
            values.append(0.9 * values[-1] - 0.5 * values[-2] + noise[:, t])
        return torch.stack(values[2:], 1)

    patcher = EntropyPatcher(6)
    with torch.no_grad():  # as a fit calls it
        patcher.prepare(process(0), None, generator())
        found = float(patcher.predictor.loss(process(5)))
    change = process(5).diff(dim=1).std()
    assert found < float(change.log()) + 0.5 * math.log(2 * math.pi * math.e) - 0.5


def test_few_windows_are_passed_over_30_times(monkeypatch):
    calls = []
    monkeypatch.setattr(entropy, "fit_next_point", lambda *_, **options: calls.append(options))
    for num_rows in (1, 8, 100, 20_000):
        EntropyPatcher(6).prepare(torch.randn(num_rows, 48), None, generator())
    assert [(c["num_steps"], c["batch_size"]) for c in calls] == [
        (30, 1),
        (120, 2),
        (120, 25),
        (400, 128),
    ]


def test_only_prepared_weights_are_used(trained):
    series = regimes(ROWS)[0]
    fresh = clone(trained)
    with pytest.raises(NotFittedError, match="cannot place patches before"):
        fresh(series)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(series).mode.boundary_mask, trained(series).mode.boundary_mask)
    assert fresh.set_params(train_steps=9)(series).mode.exact
    with pytest.raises(NotFittedError, match="cannot place patches before"):
        fresh.set_params(width=4)(series)
    assert not any(weight.requires_grad for weight in fresh.parameters())


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
    fresh.set_params(score="surprisal")  # of which none is kept yet
    other = copy.deepcopy(fresh)
    assert torch.equal(fresh(series).mode.boundary_mask, other(series).mode.boundary_mask)
    assert not torch.equal(fresh(series).mode.boundary_mask, changed.mode.boundary_mask)


def test_what_is_not_possible_is_said(trained):
    series = regimes(ROWS)[0]
    with pytest.raises(NotFittedError, match="EntropyPatcher cannot place patches before"):
        EntropyPatcher(6)(series)
    other = copy.deepcopy(trained).set_params(budget="target", compression_rate=8.0)
    with pytest.raises(InvalidParameterError, match="for compression_rate=6, score='entropy'"):
        other(series)
    with pytest.raises(InvalidParameterError, match="'width' parameter.*must be even.*Use 8"):
        EntropyPatcher(width=7)
    for params, message in (
        ({"score": "spread"}, "'score' parameter.*must be one of"),
        ({"rule": "fall"}, "'rule' parameter.*must be one of"),
        ({"budget": "min", "min_length": 2}, "can be limited only with budget='exact'"),
        ({"min_length": 20}, "10 patches of 20 to 60 steps cannot fill"),
        ({"train_steps": 0}, r"'train_steps' parameter.*\[1, inf\)"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            EntropyPatcher(6, **params)(series)
