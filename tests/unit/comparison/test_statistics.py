"""Intervals agree with slow oracles, and have the stated error rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adaptivepatch import InvalidParameterError
from adaptivepatch.comparison.statistics import (
    _seeds,
    block_length,
    relative_difference,
    student_quantile,
)

HORIZON, TIMES, SEEDS = 12, 109, 5


def losses(rng, *, seed_sd=0.02, noise=0.1, arm_noise=0.0, persistence=0.5, repeats=1):
    """Losses (repeats, arms, seeds, windows) of two arms with the same expected loss.

    A window's loss is the mean over its steps of an autocorrelated squared error. Seeds differ by
    a factor and by independent noise; `arm_noise` moves all seeds of an arm together.
    """

    def walk(*shape):
        values = rng.normal(size=(*shape, TIMES + HORIZON - 1))
        for k in range(1, values.shape[-1]):
            fresh = np.sqrt(1 - persistence**2) * values[..., k]
            values[..., k] = persistence * values[..., k - 1] + fresh
        return values

    step = walk(repeats, 1, 1) ** 2
    size = np.sqrt(step)
    loss = step * (1 + seed_sd * rng.normal(size=(repeats, 2, SEEDS, 1)))
    loss = loss + noise * size * walk(repeats, 2, SEEDS) + arm_noise * size * walk(repeats, 2, 1)
    running = np.cumsum(np.pad(loss, [(0, 0)] * 3 + [(1, 0)]), axis=-1)
    return (running[..., HORIZON:] - running[..., :-HORIZON]) / HORIZON


def judge(pair, count=None, **settings):
    count = np.ones(pair.shape[-1]) if count is None else count
    return relative_difference(
        pair[0], pair[1], count, **{"horizon": HORIZON, "num_replicates": 500, **settings}
    )


@pytest.mark.parametrize("freedom", [1.0, 2.5, 4.0, 8.0, 37.3, 5e3])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.999])
def test_student_quantiles_are_those_of_scipy(freedom, probability):
    expected = stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-6)


def test_blocks_are_no_shorter_than_the_horizon():
    for num_times in range(1, 400):
        assert HORIZON <= block_length(num_times, HORIZON) <= 3 * HORIZON


def test_difference_is_that_of_the_means():
    pair = losses(np.random.default_rng(0))[0]
    found = judge(pair)
    assert found.difference == pytest.approx(pair[0].mean() / pair[1].mean() - 1)
    assert found.low < found.difference < found.high


def test_windows_count_by_their_observed_targets():
    rng = np.random.default_rng(1)
    pair, count = losses(rng)[0], rng.integers(1, 13, size=TIMES).astype(float)
    found = judge(pair * count, count)
    expected = np.average(pair[0], axis=1, weights=count).mean()
    expected /= np.average(pair[1], axis=1, weights=count).mean()
    assert found.difference == pytest.approx(expected - 1)


def test_seed_error_is_welchs():
    pair = losses(np.random.default_rng(2))[0]
    by_seed = pair.mean(axis=2)
    variance = (by_seed.var(axis=1, ddof=1) / SEEDS / by_seed.mean(axis=1) ** 2).sum()
    assert judge(pair).seed_error == pytest.approx(np.sqrt(variance))


def test_time_error_is_that_of_all_circular_blocks():
    """Enumerate the blocks with two loops and linearise; the bootstrap only draws from them."""
    pair = losses(np.random.default_rng(3), arm_noise=0.1)[0]
    length = block_length(TIMES, HORIZON)
    twice = np.concatenate([pair, pair], axis=2).mean(axis=1)
    mean = pair.mean(axis=(1, 2))
    effects = []
    for start in range(TIMES):
        block = [np.mean([twice[arm][start + k] for k in range(length)]) for arm in (0, 1)]
        effects.append(block[0] / mean[0] - block[1] / mean[1])
    num_blocks = TIMES / length
    seen = (1 - HORIZON / (3 * length)) * (num_blocks - 1) / num_blocks
    expected = np.sqrt(np.var(effects) / num_blocks / seen)
    assert judge(pair, num_replicates=20_000).time_error == pytest.approx(expected, rel=0.03)


def test_overlap_hides_the_share_of_the_variance_that_is_corrected():
    """For overlapping windows of white noise, blocks show 1 - H / (3 l) of the variance."""
    rng, length = np.random.default_rng(4), 2 * HORIZON
    step = rng.normal(size=200_000)
    window = np.convolve(step, np.ones(HORIZON) / HORIZON, mode="valid")
    blocks = np.convolve(window, np.ones(length) / length, mode="valid")
    seen = blocks.var() * length / 1.0  # the long-run variance of white noise is 1
    assert seen == pytest.approx(1 - HORIZON / (3 * length), rel=0.03)


def test_items_are_resampled_from_ten_on():
    rng = np.random.default_rng(5)
    item = np.repeat(np.arange(12), TIMES)
    time = np.tile(np.arange(TIMES), 12)
    pair = np.concatenate(
        [losses(rng)[0] * factor for factor in (1 + rng.random((12, 2, 1, 1)))], axis=2
    )
    found = judge(pair, time=time, item=item, num_replicates=20_000)
    by_item = pair.mean(axis=1).reshape(2, 12, TIMES).mean(axis=2)
    mean = by_item.mean(axis=1, keepdims=True)
    effect = by_item[0] / mean[0] - by_item[1] / mean[1]
    assert found.item_error == pytest.approx(effect.std(ddof=1) / np.sqrt(12), rel=0.05)
    few = item < 9
    assert judge(pair[..., few], time=time[few], item=item[few]).item_error == 0


def test_many_short_items_do_without_time_blocks():
    rng = np.random.default_rng(6)
    item, time = np.repeat(np.arange(20), 4), np.tile(np.arange(4), 20)
    found = judge(1 + 0.1 * rng.random((2, SEEDS, 80)), time=time, item=item)
    assert found.time_error == 0
    assert found.item_error > 0
    assert np.isfinite([found.low, found.high]).all()


def test_items_of_one_time_stay_together():
    """Copies of an item add no evidence about other times."""
    pair = losses(np.random.default_rng(7))[0]
    once = judge(pair)
    copies = np.concatenate([pair, pair, pair], axis=2)
    time, item = np.tile(np.arange(TIMES), 3), np.repeat(np.arange(3), TIMES)
    assert judge(copies, time=time, item=item).low == pytest.approx(once.low)


def test_order_of_windows_and_scale_do_not_matter():
    rng = np.random.default_rng(8)
    pair, order = losses(rng)[0], rng.permutation(TIMES)
    expected = judge(pair)
    shuffled = judge(100 * pair[..., order], time=order)
    assert shuffled.low == pytest.approx(expected.low)
    assert shuffled.high == pytest.approx(expected.high)


def test_more_comparisons_widen_and_more_confidence_does():
    pair = losses(np.random.default_rng(9))[0]
    one, six, sure = judge(pair), judge(pair, num_comparisons=6), judge(pair, confidence=0.99)
    for wider in (six, sure):
        assert wider.low < one.low
        assert wider.high > one.high


def test_identical_losses_have_no_difference():
    same = np.ones((2, SEEDS, TIMES))
    found = judge(same)
    assert (found.low, found.difference, found.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "no evidence"


def test_one_seed_has_no_interval():
    found = judge(losses(np.random.default_rng(10))[0][:, :1])
    assert np.isnan([found.low, found.high]).all()
    assert found.verdict == "no evidence"


def test_too_few_blocks_are_refused():
    with pytest.raises(InvalidParameterError, match=r"5 blocks of 12 cutoffs.*There are 59"):
        judge(np.ones((2, SEEDS, 59)))


@pytest.mark.parametrize(
    ("seed_sd", "noise", "arm_noise"),
    [(0.02, 0.0, 0.0), (0.02, 0.2, 0.0), (0.005, 0.05, 0.2)],
    ids=["seeds", "seeds by time", "arms by time"],
)
def test_equal_arms_get_a_verdict_at_about_the_stated_rate(seed_sd, noise, arm_noise):
    """With 5 seeds, 5 blocks and autocorrelated losses.

    300 repeats cannot distinguish 5 % from 7 %, so two standard errors above 5 % are allowed. More
    repeats are in ``benchmarks/results/compare_intervals.csv``.
    """
    rng = np.random.default_rng(11)
    pairs = losses(rng, seed_sd=seed_sd, noise=noise, arm_noise=arm_noise, repeats=300)
    verdicts = [judge(pair, seed=k).verdict for k, pair in enumerate(pairs)]
    wrong = np.mean([verdict != "no evidence" for verdict in verdicts])
    assert wrong <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(verdicts))


def test_five_percent_is_found_where_seeds_spread_by_one_and_a_half():
    pairs = losses(np.random.default_rng(12), seed_sd=0.015, noise=0.02, repeats=100)
    verdicts = [
        judge(pair * np.array([0.95, 1])[:, None, None], seed=k).verdict
        for k, pair in enumerate(pairs)
    ]
    assert np.mean([verdict == "helps" for verdict in verdicts]) >= 0.9


def test_resampled_seeds_have_the_variance_of_their_mean():
    totals = np.random.default_rng(0).normal(10, 1, size=(4, 30))
    part = _seeds(totals, np.ones(30), 40_000, np.random.default_rng(1))
    assert part.deviations.var() == pytest.approx(part.variances[0], rel=0.05)
    assert part.degrees_of_freedom == 3


def test_blocks_are_a_fifth_of_the_cutoffs_of_one_to_three_horizons():
    assert [block_length(n, 12) for n in (40, 109, 1000)] == [12, 21, 36]
