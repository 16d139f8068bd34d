from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.gaps import interpolate_gaps
from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.periodic import PeriodicPatcher, _autocorrelation
from adaptivepatch.patchers.random import RandomPatcher
from tests.builders import small_network

NO_CYCLE = r"period='auto' found no cycle in .*clear peak from 2 to 84 steps.*period=24"


def sines(periods, num_rows=40, num_steps=168, noise=0.5, seed=0):
    """Rows of sums of sines (length, amplitude) at phases of their own, plus white noise."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.arange(num_steps, dtype=torch.float64)
    series = noise * torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64)
    for length, amplitude in periods:
        phase = 2 * math.pi * torch.rand(num_rows, 1, generator=generator, dtype=torch.float64)
        series += amplitude * torch.sin(2 * math.pi * step / length + phase)
    return series


def found(series, observed=None):
    patcher = PeriodicPatcher("auto")
    patcher.prepare(series, observed, torch.Generator())
    return int(patcher.found_period)


# ---------------------------------------------------------------------------------- patches


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 400), st.integers(1, 90), st.sampled_from([0.3, 0.5, 1.0, 1.5, 2.0]))
def test_patches_are_whole_and_counted_back_from_the_origin(num_steps, period, cycles):
    length = max(1, math.floor(cycles * period + 0.5))
    expected, left = [], num_steps
    while left >= length:
        expected.insert(0, length)
        left -= length
    if left and (2 * left >= length or not expected):
        expected.insert(0, left)
    elif left:
        expected[0] += left
    patcher = PeriodicPatcher(period, cycles)
    mode = patcher(torch.zeros(2, num_steps)).mode
    assert mode.patch_lengths.tolist() == [expected] * 2
    assert mode.exact
    assert mode.is_shared
    assert patcher.capacity(num_steps) == len(expected)
    reference = patcher.reference_patches(num_steps)
    assert reference.patch_lengths.tolist() == [expected]
    assert patcher.nominal_length(num_steps) == expected[-1]


def test_a_found_period_makes_the_patches_of_a_given_one():
    series = sines([(21, 1.0)])
    auto, given_ = PeriodicPatcher("auto", 0.5, 30), PeriodicPatcher(21, 0.5)
    before = auto.reference_patches(168).patch_lengths.tolist(), auto.nominal_length(168)
    assert auto.capacity(168) == 168  # half cycles of the shortest period, 2
    auto.prepare(series, None, torch.Generator())
    assert torch.equal(auto(series).mode.boundary_mask, given_(series).mode.boundary_mask)
    # What the network was built for stays, so that it can be built again from its parameters.
    after = auto.reference_patches(168).patch_lengths.tolist(), auto.nominal_length(168)
    assert after == before == ([[18, *[15] * 10]], 15)
    assert auto.capacity(168) == 168

    again = PeriodicPatcher("auto", 0.5, 30)
    again.load_state_dict(auto.state_dict())
    assert torch.equal(again(series).mode.boundary_mask, auto(series).mode.boundary_mask)


@pytest.mark.parametrize("cycles", [0.3, 0.5, 1.0, 2.0])
def test_no_period_exceeds_the_capacity_of_auto(cycles):
    for num_steps in range(1, 60):
        patcher = PeriodicPatcher("auto", cycles)
        slots = patcher.capacity(num_steps)
        assert patcher.reference_patches(num_steps).capacity <= slots <= num_steps
        for period in range(2, num_steps // 2 + 1):
            patcher.found_period.fill_(period)
            assert patcher(torch.zeros(1, num_steps)).mode.capacity <= slots


def test_a_network_forecasts_with_a_period_other_than_the_nominal_one():
    network = small_network(patcher=PeriodicPatcher(24), context_length=48)
    network.patcher = PeriodicPatcher("auto")
    network.patcher.prepare(sines([(7, 1.0)], num_steps=48), None, torch.Generator())
    assert network.patcher(torch.zeros(1, 48)).mode.num_patches.tolist() == [7]
    assert bool(network(torch.randn(3, 48, dtype=torch.float64)).isfinite().all())


def test_a_coarse_level_finds_its_period_in_the_means_of_the_fine_patches():
    patcher = HierarchicalPatcher(PeriodicPatcher(4), PeriodicPatcher("auto", nominal_period=6))
    patcher.prepare(sines([(24, 1.0)]), None, torch.Generator())
    assert int(patcher.coarse.found_period) == 6
    assert patcher(sines([(24, 1.0)], 1)).mode.coarse.patch_lengths[0].tolist()[:7] == [24] * 7


# ---------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("length", [2, 3, 7, 12, 24, 30, 60, 84])
def test_the_period_of_noisy_sines_is_found(length):
    series = sines([(length, 1.0)], 60)
    assert abs(found(series) - length) <= length // 40  # exact from four cycles on
    assert found(series.float()) == found(series)


def test_the_autocorrelation_is_that_of_pairs_of_observed_steps():
    series = sines([(5, 1.0)], 4, 22)
    observed = torch.rand(4, 22, generator=torch.Generator().manual_seed(0)) < 0.7
    step, products, pairs = np.arange(22.0), np.zeros(22), np.zeros(22)
    for row, seen in zip(series.numpy(), observed.numpy(), strict=True):
        slope, level = np.polyfit(step[seen], row[seen], 1)
        rest = row - level - slope * step
        for s, t in np.ndindex(22, 22):
            if t >= s and seen[s] and seen[t]:
                products[t - s] += rest[s] * rest[t]
                pairs[t - s] += 1
    lags, correlation = _autocorrelation(series, observed)
    assert lags == list(range(17))  # up to 3 T / 4
    mean = products / pairs
    np.testing.assert_allclose(correlation, mean[:17] / mean[0], rtol=1e-10)


def test_trends_and_slow_drift_do_not_hide_the_period():
    generator = torch.Generator().manual_seed(5)
    slope = torch.randn(60, 1, generator=generator, dtype=torch.float64)
    series = sines([(24, 1.0)], 60) + slope * torch.arange(168) / 10
    walk = torch.randn(60, 168, generator=generator, dtype=torch.float64).cumsum(1)
    assert found(series) == 24
    assert found(series + 0.3 * walk) == 24


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_gaps_do_not_hide_the_period(share):
    series = sines([(24, 1.0)], 60)
    observed = torch.rand(series.shape, generator=torch.Generator().manual_seed(2)) >= share
    observed[:5] = False
    assert found(interpolate_gaps(series, observed), observed) == 24
    # Values at gaps have no influence.
    assert found(torch.where(observed, series, 1e3 * series**2), observed) == 24
    # Steps that are never observed together leave lags without an estimate.
    every_second = (torch.arange(168) % 2 == 0).expand(60, -1)
    assert found(torch.where(every_second, series, 0.0), every_second) == 24


def test_of_two_periods_the_one_that_explains_more():
    assert found(sines([(8, 1.0), (36, 0.5)], 60)) == 8
    assert found(sines([(9, 0.5), (36, 1.0)], 60)) == 36
    # A cycle inside a cycle that it divides is no period of the sum.
    assert found(sines([(12, 0.7), (24, 1.0)], 60)) == 24
    assert found(sines([(24, 1.0), (72, 0.3)], 60)) == 24


@pytest.mark.parametrize(
    "name",
    ["constant", "trend", "parabola", "noise", "walk", "too long", "unobserved"],
)
def test_windows_without_a_cycle_are_refused(name):
    generator, step = torch.Generator().manual_seed(0), torch.linspace(-1, 1, 168)
    noise = torch.randn(1000, 168, generator=generator)
    series = {
        "constant": torch.full((5, 168), 0.1),
        "trend": (torch.arange(5.0)[:, None] - 2.2) * step,
        "parabola": step.square().expand(5, -1),
        "noise": noise,
        "walk": noise.cumsum(1),
        "too long": sines([(120, 1.0)]),
        "unobserved": sines([(24, 1.0)]),
    }[name]
    observed = torch.zeros_like(series, dtype=torch.bool) if name == "unobserved" else None
    with pytest.raises(InvalidParameterError, match=NO_CYCLE):
        found(series, observed)


def test_short_look_backs_hold_no_two_cycles():
    for num_steps in (1, 2, 3):
        with pytest.raises(InvalidParameterError, match=rf"from 2 to {num_steps // 2} steps"):
            found(sines([(2, 1.0)], 9, num_steps))
    alternating = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert found(alternating) == 2


@pytest.mark.parametrize(
    ("name", "context_length", "period"),
    [("ETTh1", 96, 24), ("ETTh1", 336, 24), ("ETTm1", 336, 96)],
)
def test_the_day_of_public_data_is_found(ltsf_data, name, context_length, period):
    file = ltsf_data / "ltsf" / f"{name}.csv.xz"
    if not file.exists():
        pytest.skip(f"{file} does not exist")
    values = torch.tensor(pd.read_csv(file).drop(columns="date").to_numpy()[:8640])
    windows = values.unfold(0, context_length, 1)[::40].flatten(0, 1)
    normalised, _ = InstanceNorm()(windows)
    assert found(normalised) == period


# ---------------------------------------------------------------------------------- errors


def test_auto_is_found_before_it_is_used():
    with pytest.raises(NotFittedError, match="A PeriodicPatcher cannot place patches before"):
        PeriodicPatcher("auto")(torch.zeros(1, 48))
    given_ = PeriodicPatcher(24)
    given_.prepare(torch.zeros(1, 48), None, torch.Generator())  # nothing to find
    assert int(given_.found_period) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": "daily"}, r"must be an int of at least 1, or 'auto'. Got 'daily' instead."),
        ({"period": 0}, r"'period' parameter of PeriodicPatcher must be an int .* Got 0"),
        ({"period": 24.0}, r"'period' parameter of PeriodicPatcher must be an int .* Got 24.0"),
        ({"period": None}, r"'period' parameter of PeriodicPatcher must be an int .* Got None"),
        ({"cycles": 0}, r"'cycles' parameter of PeriodicPatcher must be a float in the range"),
        ({"cycles": math.inf}, r"'cycles' parameter of PeriodicPatcher must be a float in the"),
        ({"nominal_period": 1}, r"'nominal_period' parameter of PeriodicPatcher must be an int"),
    ],
)
def test_parameter_errors(options, message):
    patcher = PeriodicPatcher(**options)
    for use in (patcher.capacity, patcher.reference_patches, patcher.nominal_length):
        with pytest.raises(InvalidParameterError, match=message):
            use(48)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(torch.zeros(1, 48))


def test_a_fine_level_of_another_kind_leaves_gaps_to_the_search():
    """Means of random patches, some of them without an observed step."""
    series = sines([(24, 1.0)], 60, noise=0.1)
    observed = torch.rand(series.shape, generator=torch.Generator().manual_seed(1)) >= 0.5
    patcher = HierarchicalPatcher(RandomPatcher(4), PeriodicPatcher("auto", nominal_period=6))
    patcher.prepare(interpolate_gaps(series, observed), observed, torch.Generator())
    assert abs(int(patcher.coarse.found_period) - 6) <= 1
