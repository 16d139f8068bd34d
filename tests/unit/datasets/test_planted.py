"""The planted tasks have every property that their definition states."""

from __future__ import annotations

import numpy as np
import pytest

from adaptivepatch import InvalidParameterError
from adaptivepatch.datasets.planted import PLANTED_TASKS, planted_windows

W = 4000


@pytest.fixture(scope="module")
def task_a():
    return planted_windows("planted_a", W, np.random.default_rng(1))


@pytest.fixture(scope="module")
def task_b():
    return planted_windows("planted_b", W, np.random.default_rng(1))


def lengths_of(mask):
    starts = np.nonzero(mask)[1].reshape(len(mask), 8)
    return np.diff(np.append(starts, np.full((len(mask), 1), 192), axis=1), axis=1)


def regime_means(windows):
    index = windows.boundary_mask.cumsum(1) - 1
    one_hot = index[:, :, None] == np.arange(8)
    return np.einsum("wt,wtk->wk", windows.series, one_hot) / one_hot.sum(1)


def test_shapes_and_eight_regimes_of_at_least_eight_steps(task_a):
    assert task_a.series.shape == (W, 192)
    assert task_a.target.shape == (W, 24)
    assert task_a.boundary_mask.shape == (W, 192)
    assert task_a.boundary_mask[:, 0].all()
    assert (task_a.boundary_mask.sum(1) == 8).all()
    lengths = lengths_of(task_a.boundary_mask)
    assert lengths.min() == 8
    assert (lengths.sum(1) == 192).all()


def test_lengths_follow_the_formula():
    """Drawn first, so that the same generator reproduces them one window at a time."""
    mask = planted_windows("planted_a", 50, np.random.default_rng(3)).boundary_mask
    exponentials = np.random.default_rng(3).exponential(size=(50, 8))
    for row, draws in zip(lengths_of(mask), exponentials, strict=True):
        expected = [8 + int(128 * draw / draws.sum()) for draw in draws]
        expected[-1] += 192 - sum(expected)
        assert row.tolist() == expected


def test_lengths_are_those_of_uniform_spacings(task_a):
    """A share is Beta(1, 7): mean 1/8, P(share > x) = (1 - x)^7; the floor takes 1/2 a step."""
    lengths = lengths_of(task_a.boundary_mask)
    assert lengths[:, :7].mean() == pytest.approx(8 + 128 / 8 - 0.5, abs=0.3)
    assert lengths[:, 7].mean() == pytest.approx(8 + 128 / 8 + 3.5, abs=0.8)
    for x in (0.125, 0.25, 0.5):
        share = (lengths[:, :7] >= 8 + 128 * x).mean()
        assert share == pytest.approx((1 - x) ** 7, abs=0.01)


def test_noise_has_deviation_point_three_and_is_independent(task_a):
    index = task_a.boundary_mask.cumsum(1) - 1
    fitted = np.take_along_axis(regime_means(task_a), index, axis=1)
    noise = task_a.series - fitted
    per_row = (noise**2).sum(1) / (192 - 8)  # 8 means were fitted
    assert np.sqrt(per_row.mean()) == pytest.approx(0.3, abs=0.002)
    correlation = (noise[:, 1:] * noise[:, :-1]).mean() / noise.var()
    assert abs(correlation) < 0.06  # the fitted means leave about -1/24
    kurtosis = (noise**4).mean() / (noise**2).mean() ** 2
    assert kurtosis == pytest.approx(3, abs=0.1)


def test_target_repeats_the_means_three_steps_each(task_a):
    means = regime_means(task_a)
    error = task_a.target - means.repeat(3, axis=1)
    lengths = lengths_of(task_a.boundary_mask).repeat(3, axis=1)
    standardised = error / (0.3 * np.sqrt(1 + 1 / lengths))
    assert standardised.mean() == pytest.approx(0, abs=0.02)
    assert standardised.std() == pytest.approx(1, abs=0.02)
    assert np.abs(standardised).max() < 6


@pytest.mark.parametrize("task", PLANTED_TASKS)
def test_adjacent_means_differ_by_at_least_one(task, monkeypatch):
    monkeypatch.setattr("adaptivepatch.datasets.planted.NOISE", 0.0)
    means = planted_windows(task, W, np.random.default_rng(2)).target[:, ::3]
    change = np.abs(np.diff(means, axis=1))
    assert change.min() >= 1.0
    assert change.min() < 1.01  # no more than that
    assert means[:, 0].mean() == pytest.approx(0, abs=0.06)
    assert means[:, 0].std() == pytest.approx(1, abs=0.04)


def test_means_are_redrawn_normals_given_the_one_before(monkeypatch):
    """P(mean > 0 | before) for a normal outside (before - 1, before + 1)."""
    monkeypatch.setattr("adaptivepatch.datasets.planted.NOISE", 0.0)
    means = planted_windows("planted_a", 20_000, np.random.default_rng(4)).target[:, ::3]
    before, after = means[:, :-1].ravel(), means[:, 1:].ravel()
    near = np.abs(before - 0.5) < 0.05  # allowed: below -0.5 or above 1.5
    above = (after[near] > 0).mean()
    assert above == pytest.approx(0.0668 / (0.0668 + 0.3085), abs=0.02)


def added_by_doublets(monkeypatch, count):
    """The same windows without noise, with doublets less without."""
    monkeypatch.setattr("adaptivepatch.datasets.planted.NOISE", 0.0)
    monkeypatch.setattr("adaptivepatch.datasets.planted.NUM_DOUBLETS", count)
    plain = planted_windows("planted_a", W, np.random.default_rng(5))
    doublets = planted_windows("planted_b", W, np.random.default_rng(5))
    np.testing.assert_array_equal(plain.target, doublets.target)
    np.testing.assert_array_equal(plain.boundary_mask, doublets.boundary_mask)
    return (doublets.series - plain.series).round(9)


def test_a_doublet_is_four_up_and_four_down_or_the_reverse(monkeypatch):
    added = added_by_doublets(monkeypatch, 1)
    start = (added != 0).argmax(1)
    sign = np.sign(np.take_along_axis(added, start[:, None], axis=1))
    shape = np.repeat([4.0, -4.0], 5)
    expected = np.zeros_like(added)
    np.put_along_axis(expected, start[:, None] + np.arange(10), sign * shape, axis=1)
    np.testing.assert_array_equal(added, expected)
    assert (sign > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert (start.min(), start.max()) == (0, 182)
    assert start.mean() == pytest.approx(91, abs=3)
    assert start.std() == pytest.approx(183 / np.sqrt(12), abs=1.5)


def test_there_are_two_doublets_and_the_future_knows_nothing_of_them(monkeypatch):
    from adaptivepatch.datasets.planted import NUM_DOUBLETS

    added = added_by_doublets(monkeypatch, NUM_DOUBLETS)
    total = np.abs(added).sum(1)
    assert total.max() == 2 * 40
    apart = (total == 80).mean()  # but for overlaps of opposite signs
    assert apart > 0.9


def test_doublets_lie_at_uniform_places(task_a, task_b):
    added = np.abs(task_b.series - task_a.series) > 0.5
    touched = added.mean(0)
    inside = touched[10:-10]
    share = 1 - (1 - 10 / 183) ** 2
    # Where two doublets of opposite sign meet, they cancel: a quarter of a percent.
    assert inside == pytest.approx(share, abs=0.025)
    assert inside.mean() == pytest.approx(share, abs=0.004)
    assert touched[0] == pytest.approx(2 / 183, abs=0.008)
    assert touched[-1] == pytest.approx(2 / 183, abs=0.008)


@pytest.mark.parametrize("task", PLANTED_TASKS)
def test_windows_are_a_function_of_the_seed(task):
    first = planted_windows(task, 5, np.random.default_rng([7, 1]))
    again = planted_windows(task, 5, np.random.default_rng([7, 1]))
    other = planted_windows(task, 5, np.random.default_rng([7, 2]))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.series, other.series)
    assert not np.array_equal(first.boundary_mask, other.boundary_mask)


def test_unknown_tasks_and_counts_are_refused():
    with pytest.raises(InvalidParameterError, match=r"Unknown planted task 'planted_c'.*mean"):
        planted_windows("planted_c", 1, np.random.default_rng(0))
    with pytest.raises(InvalidParameterError, match=r"'num_windows' parameter.*Got 0"):
        planted_windows("planted_a", 0, np.random.default_rng(0))
