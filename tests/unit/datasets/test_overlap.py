"""Copies are found whatever was done to them; what merely looks alike is not."""

from __future__ import annotations

import numpy as np
import pytest

from adaptivepatch.datasets import overlap
from adaptivepatch.datasets.corpora import PERMITTED, load_corpus
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.datasets.overlap import benchmark_series, find_overlap
from adaptivepatch.errors import DatasetError


def walk(n, seed):
    """A series with memory, days and noise, as loads and temperatures are."""
    rng = np.random.default_rng(seed)
    slow = np.zeros(n)
    for t in range(1, n):
        slow[t] = 0.98 * slow[t - 1] + rng.normal()
    return slow + 3 * np.sin(np.arange(n) * 2 * np.pi / 24) + 0.3 * rng.normal(size=n)


@pytest.fixture(scope="module")
def reference():
    return walk(6000, 0)


def hits(series, reference, **options):
    return find_overlap([("corpus/a", series)], {"set/x": reference}, **options)


def inside(copy, seed=1):
    """The copy in the middle of a longer series."""
    other = walk(3000, seed)
    return np.concatenate([other[:1500], copy, other[1500:]])


@pytest.mark.parametrize(
    ("scale", "offset"), [(1.0, 0.0), (3.7, -12.0), (-0.25, 100.0), (1e-6, 0.0), (1e7, 1e9)]
)
def test_an_excerpt_is_found_whatever_its_scale_and_sign(reference, scale, offset):
    (match,) = hits(inside(offset + scale * reference[2000:2300]), reference)
    assert (match.series, match.reference, match.kind) == ("corpus/a", "set/x", "hash")
    assert match.position - match.reference_position == 1500 - 2000
    assert match.correlation > 0.999


def test_a_corpus_at_a_finer_step_is_found(reference):
    """ETTh1 is ETTm1[::4]: here the corpus holds the finer one."""
    (match,) = hits(reference, reference[3::4])
    assert match.kind == "hash"
    assert match.step == 4 * match.reference_step
    assert match.position == 4 * match.reference_position + 3


def test_a_corpus_at_a_coarser_step_is_found(reference):
    (match,) = hits(inside(reference[2::4][:700]), reference)
    assert match.kind == "hash"
    assert 4 * match.step == match.reference_step


def test_steps_that_do_not_divide_each_other_are_found():
    fine = walk(12_000, 4)
    (match,) = hits(fine[::2], fine[::3])
    assert 2 * match.step == 3 * match.reference_step


def test_averages_are_found(reference):
    means = reference.reshape(-1, 6).mean(1)
    (match,) = hits(means, reference)
    assert match.kind == "hash"
    assert 6 * match.step == match.reference_step


def test_gaps_do_not_hide_a_copy(reference):
    copy = reference[1000:3000].copy()
    copy[::97] = np.nan
    (match,) = hits(copy, reference)
    assert match.kind == "hash"
    assert match.count > 3


@pytest.mark.parametrize("change", ["noise", "rounding", "half a step", "stretched", "smoothed"])
def test_near_copies_are_found(reference, change):
    rng = np.random.default_rng(5)
    at = np.arange(len(reference))
    series = {
        "noise": lambda: reference + 0.2 * rng.normal(size=len(reference)),
        "rounding": lambda: 5 + 10 * np.round(reference),
        "half a step": lambda: np.interp(at[:-1] + 0.5, at, reference),
        "stretched": lambda: np.interp(at[:-200] * 1.01, at, reference),
        "smoothed": lambda: np.convolve(reference, [0.25, 0.5, 0.25], "valid"),
    }[change]()
    assert [match.reference for match in hits(series, reference)] == ["set/x"]
    index = overlap.OverlapIndex({"set/x": reference}, steps=(1,))  # without averages to hash
    (flat,) = overlap.chunks([("corpus/a", series)], index.steps)
    (match,) = index.by_correlation(flat, list(overlap.views_of(flat, index.steps)))
    assert match.count >= 3
    assert 0.95 <= match.correlation < 1
    assert match.position == pytest.approx(match.reference_position, rel=0.02, abs=3)


def test_unrelated_series_have_nothing_in_common(reference):
    rng = np.random.default_rng(6)
    series = [(f"noise/{i}", rng.normal(size=20_000)) for i in range(3)]
    series += [(f"walk/{i}", walk(8000, 10 + i)) for i in range(3)]
    series.append(("counts/0", rng.poisson(2.0, 20_000).astype(float)))
    references = {"set/x": reference, "set/n": rng.normal(size=20_000)}
    references["set/c"] = rng.poisson(2.0, 20_000).astype(float)
    assert find_overlap(series, references) == []


def test_constant_and_periodic_stretches_prove_nothing():
    t = np.arange(6000.0)
    day = np.sin(t * 2 * np.pi / 24) + 0.5 * np.sin(t * 2 * np.pi / 12)
    saw = (t % 24) * np.where(t % 24 > 15, -0.5, 1.0)
    flat = np.where((t > 3000) & (t < 3003), 5.0, 1.0)
    rng = np.random.default_rng(8)
    wiggly = np.tile(rng.normal(size=48), 125)  # the same two days again and again
    shapes = {"day": day, "saw": saw, "flat": flat, "zero": 0 * t, "line": t, "wiggly": wiggly}
    corpus = [(f"corpus/{name}", 2 + 3 * values[7:5000]) for name, values in shapes.items()]
    assert find_overlap(corpus, {f"set/{n}": v for n, v in shapes.items()}) == []


def test_a_shared_daily_shape_is_no_copy():
    """Unlike a copy it fits every day: the excerpt agrees as well with its own series elsewhere."""
    rng = np.random.default_rng(9)
    day = np.repeat(rng.normal(size=24), 1).cumsum()
    one, two = (np.tile(day, 250) + 0.1 * rng.normal(size=6000) for _ in range(2))
    assert hits(one, two) == []


def test_long_series_are_looked_through_in_pieces(reference, monkeypatch):
    monkeypatch.setattr("adaptivepatch.datasets.overlap_excerpts._CHUNK", 2000)
    series = np.concatenate([walk(7000, 3), reference[:400], walk(5000, 4)])
    (match,) = hits(series, reference)
    assert match.position - match.reference_position == 7000


def test_matches_read_as_sentences(reference):
    (match,) = hits(reference[::4], reference)
    assert str(match).startswith("corpus/a from ")
    assert "at steps 1 and 4 (found by hash, correlation 1.000" in str(match)


def test_without_a_benchmark_set_there_is_nothing_to_look_for(tmp_path):
    with pytest.raises(DatasetError, match="needs at least one of .*, but none was"):
        benchmark_series(tmp_path)


def test_etth1_is_found_in_ettm1_and_the_other_way(ltsf_data):
    hourly, minutes = load_dataset("ETTh1"), load_dataset("ETTm1")
    assert np.allclose(hourly.to_numpy(), minutes.to_numpy()[::4], atol=1e-5)
    for series, other in ((hourly, minutes), (minutes, hourly)):
        copies = [(f"corpus/{name}", 7 - 0.3 * series[name].to_numpy()) for name in series]
        references = {f"set/{name}": other[name].to_numpy() for name in other}
        found = find_overlap(copies, references)
        pairs = {(m.series.partition("/")[2], m.reference.partition("/")[2]) for m in found}
        assert {(name, name) for name in series} <= pairs
        assert all(m.kind == "hash" for m in found if m.series[7:] == m.reference[4:])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_corpus_that_may_be_used_holds_a_benchmark_series(ltsf_data):
    references = benchmark_series()
    assert {name.partition("/")[0] for name in references} >= {"ETTh1", "ETTm2", "weather"}
    index = overlap.OverlapIndex(references)
    found = {}
    for name in PERMITTED:
        found[name] = index.search(load_corpus(name).named())
    assert found == {name: [] for name in PERMITTED}
