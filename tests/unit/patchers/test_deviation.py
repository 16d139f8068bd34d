from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.gaps import interpolate_gaps
from adaptivepatch.patchers.deviation import DeviationPatcher
from tests.oracles import from_scores


def rows(num_rows=6, num_steps=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64).cumsum(1)
    return (walk - walk.mean(1, keepdim=True)) / walk.std(1, keepdim=True)


def gaps(num_rows=6, num_steps=60, share=0.3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_rows, num_steps, generator=generator) >= share


def prepared(patcher, series, observed=None):
    patcher.prepare(series, observed, torch.Generator())
    return patcher


def starts(mode):
    return [row.nonzero()[:, 0].tolist() for row in mode.boundary_mask]


def loop_scores(row, seen, window):
    """Score of every step from the definition; -1 where there is none."""
    scores = [-1.0]
    for t in range(1, len(row)):
        before = [row[s] ** 2 for s in range(max(0, t - window), t) if seen[s]]
        if seen[t] and seen[t - 1]:
            power = max(0.01, sum(before) / len(before))
            scores.append(abs(row[t] - row[t - 1]) / math.sqrt(power))
        else:
            scores.append(-1.0)
    return np.array(scores)


@pytest.mark.parametrize("window", [1, 7, 100])
@pytest.mark.parametrize("has_gaps", [False, True])
def test_exact_patches_start_at_the_highest_scores(window, has_gaps):
    series, observed = rows(), gaps()
    if has_gaps:
        series = interpolate_gaps(series, observed)
    mode = DeviationPatcher(5, window=window)(series, observed if has_gaps else None).mode
    assert mode.exact
    for n, found in enumerate(starts(mode)):
        seen = observed[n] if has_gaps else torch.ones(60, dtype=torch.bool)
        assert found == from_scores(loop_scores(series[n].tolist(), seen.tolist(), window), 12)


@pytest.mark.parametrize("budget", ["min", "target"])
def test_thresholds_leave_the_rate_on_average_over_the_training_windows(budget):
    series, observed = rows(200), gaps(200, share=0.1)
    patcher = prepared(DeviationPatcher(6, budget, window=9), series)
    scores = np.array([loop_scores(row, [True] * 60, 9) for row in series.tolist()])
    above = np.sort(scores[:, 1:].ravel())[::-1]
    share = (60 / 6 - 1) / 59
    assert float(patcher.threshold) == pytest.approx(above[round(share * above.size)], rel=1e-6)

    counts = patcher(series).mode.num_patches
    expected = 1 + (scores[:, 1:] > float(patcher.threshold)).sum(1)
    if budget == "target":
        assert counts.tolist() == expected.tolist()
        assert float(counts.double().mean()) == pytest.approx(10, rel=0.01)
        assert int(counts.max()) > 10
    else:
        assert counts.tolist() == np.minimum(expected, 10).tolist()
        assert int(counts.min()) < 10
    # Only scored steps count, and of those the same share is above.
    again = prepared(DeviationPatcher(6, budget), interpolate_gaps(series, observed), observed)
    cut = again(interpolate_gaps(series, observed), observed).mode.boundary_mask[:, 1:]
    scored = (observed[:, 1:] & observed[:, :-1]).sum()
    assert not bool((cut & ~(observed[:, 1:] & observed[:, :-1])).any())
    if budget == "target":
        assert int(cut.sum()) == round(share * int(scored))


def test_only_the_threshold_is_causal():
    assert DeviationPatcher.causal is False
    assert [DeviationPatcher(budget=b).causal for b in ("exact", "min", "target")] == [
        False,
        False,
        True,
    ]
    series, observed, other = rows(), gaps(), 5 * rows(seed=4)
    patchers = {b: prepared(DeviationPatcher(5, b), series) for b in ("exact", "min", "target")}
    same = dict.fromkeys(patchers, True)
    for budget, step in itertools.product(patchers, range(1, 60)):
        changed = torch.cat([series[:, :step], other[:, step:]], 1)
        first, second = (patchers[budget](x, observed).mode for x in (series, changed))
        same[budget] &= bool((first.boundary_mask == second.boundary_mask)[:, :step].all())
    assert same == {"exact": False, "min": False, "target": True}


@pytest.mark.parametrize("limits", [(2, None), (None, 4), (2, 5), (3, 4)])
def test_limited_patches_have_the_greatest_total_score(limits):
    series = rows(4, 11)
    shortest, longest = limits[0] or 1, limits[1] or 11
    patcher = DeviationPatcher(11 / 3, window=4, min_length=limits[0], max_length=limits[1])
    for n, found in enumerate(starts(patcher(series).mode)):
        scores = loop_scores(series[n].tolist(), [True] * 11, 4)
        legal = [
            (0, *cut)
            for cut in itertools.combinations(range(1, 11), 2)
            if all(shortest <= d <= longest for d in np.diff([0, *cut, 11]))
        ]
        assert tuple(found) == max(legal, key=lambda cut: sum(scores[list(cut[1:])]))


def test_gaps_start_no_patch_and_filled_values_do_not_matter():
    series, observed = torch.full((1, 40), 0.3), torch.ones(1, 40, dtype=torch.bool)
    series[0, 20:] = 3.0
    series[0, 30:] = 1.0  # the smaller jump
    observed[0, 18:20] = False
    mode = DeviationPatcher(20)(series, observed).mode
    assert starts(mode) == [[0, 30]]
    changed = series.clone()
    changed[~observed] = -7.0
    assert starts(DeviationPatcher(20)(changed, observed).mode) == [[0, 30]]
    assert starts(DeviationPatcher(20)(series).mode) == [[0, 20]]


def test_an_exact_budget_holds_where_few_steps_have_a_score():
    series, observed = rows(3, 24), torch.zeros(3, 24, dtype=torch.bool)
    observed[1, ::2] = True  # no two neighbours are observed
    observed[2, 5:7] = True
    found = starts(DeviationPatcher(4)(series, observed).mode)
    even = [0, 4, 8, 12, 16, 20]
    assert found[:2] == [even, even]
    assert found[2] == [0, 4, 6, 8, 12, 16]
    for budget in ("min", "target"):
        patcher = prepared(DeviationPatcher(4, budget), rows(20, 24))
        assert starts(patcher(series, observed).mode)[:2] == [[0], [0]]


def test_a_group_cuts_at_the_mean_of_the_scores_there_are():
    series, observed = rows(), gaps()
    series = interpolate_gaps(series, observed)
    group = torch.tensor([3, 1, 3, 1, 3, 0])
    found = starts(DeviationPatcher(5, window=8)(series, observed, group).mode)
    scores = np.array(
        [
            loop_scores(row, seen, 8)
            for row, seen in zip(series.tolist(), observed.tolist(), strict=True)
        ]
    )
    for number in (0, 1, 3):
        members = (group == number).nonzero()[:, 0].tolist()
        mean = np.full(60, -1.0)
        for t in range(60):
            known = [scores[n, t] for n in members if scores[n, t] >= 0]
            if known:
                mean[t] = sum(known) / len(known)
        assert [found[n] for n in members] == [from_scores(mean, 12)] * len(members)


def test_rows_that_hardly_change_get_even_patches_beside_their_changes():
    series = torch.zeros(3, 24)
    series[1] = -2.5
    series[2, 7:] = 1.5
    even = [0, 4, 8, 12, 16, 20]
    assert starts(DeviationPatcher(4)(series).mode) == [even, even, [0, 4, 7, 8, 12, 16]]
    limited = DeviationPatcher(4, min_length=2, max_length=6)(series[:2]).mode
    assert starts(limited) == [even, even]
    for budget in ("min", "target"):
        patcher = prepared(DeviationPatcher(4, budget), series)
        assert float(patcher.threshold) == 0.0
        assert starts(patcher(series).mode) == [[0], [0], [0, 7]]


def test_the_floor_keeps_small_noise_below_a_real_jump():
    series = torch.zeros(1, 60, dtype=torch.float64)
    series[0, 40:] = 0.004 * (-1.0) ** torch.arange(20)
    series[0, 20] = 1e-9
    series[0, 10:12] = 1.0
    assert starts(DeviationPatcher(20, window=5)(series).mode) == [[0, 10, 12]]


def test_what_the_network_is_built_for():
    for budget in ("exact", "min", "target"):
        patcher = DeviationPatcher(7, budget)
        assert patcher.capacity(60) == (60 if budget == "target" else 8)
        assert patcher.reference_patches(60).patch_starts.tolist() == [
            [0, 8, 15, 23, 30, 38, 45, 53]
        ]
        assert patcher.nominal_length(60) == 8
        single = prepared(patcher, torch.ones(2, 1))
        assert starts(single(torch.ones(2, 1)).mode) == [[0], [0]]
    assert DeviationPatcher(7, min_length=3, max_length=4).capacity(5) == 1  # no limit counts


def test_the_threshold_travels_with_the_weights_and_between_types():
    series = rows(40)
    patcher = prepared(DeviationPatcher(5, "target"), series)
    expected = starts(patcher(series).mode)
    other = DeviationPatcher(5, "target")
    other.load_state_dict(patcher.state_dict())
    assert starts(other(series).mode) == expected
    assert starts(other.double()(series).mode) == expected
    # Without a need for it, nothing is found.
    assert float(prepared(DeviationPatcher(5), series).threshold) == -1
    # A saved number must be finite, also where no step has a score.
    nothing = prepared(DeviationPatcher(5, "target"), series, torch.zeros(40, 60, dtype=torch.bool))
    assert bool(nothing.threshold.isfinite())
    assert starts(nothing(series[:1]).mode) == [[0]]


@pytest.mark.parametrize("budget", ["min", "target"])
def test_a_threshold_is_found_before_it_is_used(budget):
    with pytest.raises(NotFittedError, match="A DeviationPatcher cannot place patches before"):
        DeviationPatcher(5, budget)(rows())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "max"}, r"'budget' parameter of DeviationPatcher must be one of \['exact'"),
        ({"window": 0}, r"'window' parameter of DeviationPatcher must be an int .* Got 0"),
        ({"window": 2.5}, r"'window' parameter of DeviationPatcher must be an int .* Got 2.5"),
        ({"min_length": 0}, r"'min_length' parameter of DeviationPatcher must be an int"),
        ({"max_length": "9"}, r"'max_length' parameter of DeviationPatcher must be an int"),
        (
            {"budget": "target", "max_length": 9},
            r"patches can be limited only with budget='exact'. Got {'max_length': 9} with "
            r"budget='target'. Remove the limits, or use budget='exact'.",
        ),
        (
            {"min_length": 5},
            r"15 patches of 5 to 60 steps cannot fill a look-back of 60 steps. Lower "
            r"min_length, raise max_length, or change compression_rate.",
        ),
        ({"max_length": 3}, r"15 patches of 1 to 3 steps cannot fill a look-back of 60"),
    ],
)
def test_parameter_errors(options, message):
    patcher = DeviationPatcher(4, **options)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(rows())
    with pytest.raises(InvalidParameterError, match=message):
        patcher.capacity(60)
