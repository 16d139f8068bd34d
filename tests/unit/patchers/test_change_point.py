from __future__ import annotations

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone

from adaptivepatch.bench.planted_patchers import LeastSquaresPatcher
from adaptivepatch.errors import InvalidParameterError, MissingDependencyError
from adaptivepatch.nn.layers.gaps import interpolate_gaps
from adaptivepatch.patchers import ChangePointPatcher
from adaptivepatch.patchers import change_point as module


def rows(num_rows=6, num_steps=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64).cumsum(1)


def starts(mode):
    return [row.nonzero()[:, 0].tolist() for row in mode.boundary_mask]


def error_of(row, cut, seen=None):
    """Squared error around the means of patches, over observed steps."""
    total = 0.0
    for start, end in itertools.pairwise([*cut, len(row)]):
        values = [row[t] for t in range(start, end) if seen is None or seen[t]]
        mean = sum(values) / max(1, len(values))
        total += sum((v - mean) ** 2 for v in values)
    return total


def partitions(num_steps, num_patches, min_length):
    for cut in itertools.combinations(range(1, num_steps), num_patches - 1):
        if min(np.diff([0, *cut, num_steps])) >= min_length:
            yield (0, *cut)


@pytest.mark.parametrize("min_length", [1, 2, 3])
@pytest.mark.parametrize("rate", [3.0, 4.0, 6.0])
def test_the_error_is_the_least_of_all_partitions(rate, min_length):
    series = rows(5, 12)
    found = starts(ChangePointPatcher(rate, min_length)(series).mode)
    for row, cut in zip(series.tolist(), found, strict=True):
        assert len(cut) == 12 // rate
        assert min(np.diff([*cut, 12])) >= min_length
        least = min(error_of(row, c) for c in partitions(12, len(cut), min_length))
        assert error_of(row, cut) == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("options", [(16, 1), (16, 8), (7, 1), (7.5, 4), (48, 20), (1, 1)])
def test_it_agrees_with_the_dynamic_program_of_the_planted_benchmark(options):
    series = torch.cat([rows(8, 150), torch.randn(8, 150, dtype=torch.float64)])
    ours, theirs = (
        starts(cls(*options)(series).mode) for cls in (ChangePointPatcher, LeastSquaresPatcher)
    )
    for row, one, other in zip(series.tolist(), ours, theirs, strict=True):
        assert len(one) == len(other)
        assert min(np.diff([*one, 150])) >= options[1]
        assert error_of(row, one) == pytest.approx(error_of(row, other), rel=1e-6, abs=1e-9)


def test_jumps_are_found_whatever_level_and_scale():
    step = torch.arange(336)
    levels = (step >= 50).double() + 2.0 * (step >= 57) - 4.0 * (step >= 300)
    noise = 0.1 * torch.randn(336, generator=torch.Generator().manual_seed(0))
    series = torch.stack([levels + noise, 1e4 + levels + noise, 1e-4 * (levels + noise)])
    assert starts(ChangePointPatcher(84)(series).mode) == [[0, 50, 57, 300]] * 3


def test_constant_stretches_are_cut_evenly():
    series = torch.full((2, 96), 0.1)
    series[1, 64:] = 7.0
    even = list(range(0, 96, 8))
    assert starts(ChangePointPatcher(8)(series).mode) == [even, even]
    series[1, 61:] = 7.0
    (cut,) = starts(ChangePointPatcher(8)(series[1:]).mode)
    assert 61 in cut
    assert set(np.diff([*cut, 96])) <= {7, 8, 9}


def test_a_group_shares_the_patches_of_least_total_error():
    series = rows(6, 12)
    group = torch.tensor([2, 0, 2, 5, 2, 0])
    found = starts(ChangePointPatcher(3)(series, None, group).mode)
    for number in (0, 2, 5):
        members = (group == number).nonzero()[:, 0].tolist()
        assert [found[n] for n in members] == [found[members[0]]] * len(members)

        def total(cut, members=members):
            return sum(error_of(series[n].tolist(), cut) for n in members)

        least = min(total(cut) for cut in partitions(12, 4, 1))
        assert total(found[members[0]]) == pytest.approx(least, rel=1e-5)
    alone = starts(ChangePointPatcher(3)(series).mode)
    assert alone[3] == found[3]
    assert alone != found


def test_only_observed_steps_count():
    series = rows(8, 14)
    observed = torch.rand(8, 14, generator=torch.Generator().manual_seed(3)) < 0.7
    assert bool((observed.sum(1) >= 6).all())
    for min_length in (1, 2):
        patcher = ChangePointPatcher(14 / 3, min_length)
        found = starts(patcher(interpolate_gaps(series, observed), observed).mode)
        other = torch.where(observed, series, 1e3)  # whatever stands at gaps
        assert starts(patcher(other, observed).mode) == found
        for row, seen, cut in zip(series.tolist(), observed.tolist(), found, strict=True):
            assert all(seen[t] for t in cut[1:])
            legal = [
                c
                for c in partitions(14, 3, 1)
                if all(sum(seen[a:b]) >= min_length for a, b in itertools.pairwise([*c, 14]))
            ]
            assert cut in [list(c) for c in legal]
            least = min(error_of(row, c, seen) for c in legal)
            assert error_of(row, cut, seen) == pytest.approx(least, rel=1e-5, abs=1e-9)


def test_rows_with_hardly_an_observed_step_are_cut_evenly():
    series, observed = rows(3, 24), torch.zeros(3, 24, dtype=torch.bool)
    observed[1, [3, 11, 20]] = True
    observed[2, 9:15] = True  # as many as patches
    found = starts(ChangePointPatcher(4)(series, observed).mode)
    even = [0, 4, 8, 12, 16, 20]
    assert found == [even, even, [0, 10, 11, 12, 13, 14]]
    assert starts(ChangePointPatcher(4, 2)(series, observed).mode) == [even] * 3
    # In a group a step counts where any row is observed.
    group = torch.zeros(3, dtype=torch.long)
    shared = starts(ChangePointPatcher(4)(series, observed, group).mode)
    assert shared == [shared[0]] * 3
    assert all(bool(observed[:, t].any()) for t in shared[0][1:])


def test_each_look_back_is_searched_once(monkeypatch):
    searched = []
    search = module._change_points

    def counted(signal, num_patches, min_length):
        searched.append((num_patches, min_length))
        return search(signal, num_patches, min_length)

    monkeypatch.setattr(module, "_change_points", counted)
    patcher, series = ChangePointPatcher(5), rows()
    observed = torch.ones(6, 60, dtype=torch.bool)
    first = starts(patcher(series).mode)
    again = patcher(series.flip(0), observed)  # a mask without gaps changes nothing
    assert starts(again.mode) == first[::-1]
    assert searched == [(12, 1)] * 6
    observed[0, 7] = False
    patcher(series, observed)
    patcher.set_params(min_length=2)(series[:1])
    patcher.set_params(compression_rate=6)(series[:1])
    patcher(series[:2], None, torch.zeros(2, dtype=torch.long))
    assert searched[6:] == [(12, 1), (12, 2), (10, 2), (10, 2)]


def test_what_is_kept_is_bounded_and_no_part_of_copies(monkeypatch):
    monkeypatch.setattr(module, "_RESULTS_KEPT", 4)
    patcher, series = ChangePointPatcher(5), rows()
    patcher(series[:4])
    kept = list(patcher._results)
    patcher(series[:1])  # the first is used again
    patcher(series[4:5])
    assert list(patcher._results)[:3] == [kept[2], kept[3], kept[0]]
    assert len(patcher._results) == 4
    assert patcher.state_dict() == {}
    for other in (clone(patcher), copy.deepcopy(patcher), pickle.loads(pickle.dumps(patcher))):
        assert len(other._results) == 0
        assert starts(other(series).mode) == starts(patcher(series).mode)


def test_one_patch_and_one_step_need_no_search():
    patcher = ChangePointPatcher(16, min_length=9)
    assert starts(patcher(torch.ones(2, 1)).mode) == [[0], [0]]
    assert starts(patcher(rows(2, 5)).mode) == [[0], [0]]
    assert len(patcher._results) == 0


def test_float32_rows_are_searched_in_float64():
    series = 1000 + rows(4, 96).float()
    patcher = ChangePointPatcher(8)
    assert starts(patcher(series).mode) == starts(patcher(series.double()).mode)


def test_ruptures_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruptures", None)
    message = r"ChangePointPatcher needs the 'ruptures' package.*forecasting\[changepoint\]"
    with pytest.raises(MissingDependencyError, match=message):
        ChangePointPatcher(5)(rows())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"min_length": 5},
            r"15 patches of at least 5 steps do not fit into a look-back of 60 steps. Lower "
            r"'min_length', or raise 'compression_rate'.",
        ),
        ({"min_length": 0}, r"'min_length' parameter of ChangePointPatcher must be an int"),
        ({"min_length": 1.5}, r"'min_length' parameter of ChangePointPatcher must be an int"),
    ],
)
def test_parameter_errors(options, message):
    patcher = ChangePointPatcher(4, **options)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(rows())
    with pytest.raises(InvalidParameterError, match=message):
        patcher.capacity(60)
