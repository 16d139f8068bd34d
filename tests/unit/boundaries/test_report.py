"""`segment(..., by="series")`: one row on the boundaries of every series."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    PatchTSTBackbone,
    RandomPatcher,
    Trainer,
    segment,
)
from adaptivepatch.distributions import Deterministic
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.nn.placement.surprise import fit_next_point
from adaptivepatch.patchers.rate import RatePatcher
from adaptivepatch.segmentation import Segmentation

COLUMNS = ["item_id", "target_name", "windows", "patches", "compression_rate", "churn"]
MEASURES = ["enrichment", "enrichment_z", "rank_enrichment", "rank_enrichment_z"]


class JumpPatcher(RatePatcher):
    """Starts patches at the largest steps."""

    name = "jump"
    budget = "exact"

    def __init__(self, compression_rate=8.0):
        super().__init__()
        self.compression_rate = compression_rate

    def propose(self, series, observed, group):
        size = torch.nn.functional.pad(series.diff(dim=1).abs(), (1, 0))
        return Deterministic(Segmentation.from_scores(size, self.num_patches(series.shape[1])))


def frame(num_steps=400, seed=0, gaps=0.0):
    rng = np.random.default_rng(seed)
    stamps = pd.date_range("2026-01-01", periods=num_steps, freq="h")
    jumps = 5 * rng.normal(size=(num_steps, 2)) * (rng.random((num_steps, 2)) < 0.1)
    values = 1e6 + jumps.cumsum(0) + 0.1 * rng.normal(size=(num_steps, 2))
    values[rng.random(values.shape) < gaps] = np.nan
    return pd.DataFrame(values, stamps, ["b", "a"])


@pytest.fixture(autouse=True)
def _brief_reference(monkeypatch):
    """Train the reference forecaster for a few steps: it starts as the last value."""
    brief = functools.partial(fit_next_point, num_steps=20)
    monkeypatch.setattr(
        "adaptivepatch.boundaries.surprise.fit_next_point",
        lambda *given, num_steps, **rest: brief(*given, **rest),
    )


def test_one_row_per_series_in_the_order_of_the_frame():
    report = segment(FixedPatcher(compression_rate=8), frame(), context_length=64, by="series")
    assert report.columns.tolist() == COLUMNS + MEASURES
    assert report.target_name.tolist() == ["b", "a"]
    assert report.windows.tolist() == [32, 32]
    assert report.patches.tolist() == [8, 8]
    assert report.compression_rate.tolist() == [8, 8]
    assert report.churn.tolist() == [1, 1]  # a grid moves with the look-back
    assert np.isfinite(report[MEASURES]).all(axis=None)


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_boundaries_at_jumps_are_enriched_and_stay(gaps):
    data = frame(gaps=gaps)
    jumps = segment(JumpPatcher(8), data, context_length=64, by="series")
    random = segment(RandomPatcher(8), data, context_length=64, by="series")
    assert (jumps.enrichment > 2).all()
    assert (jumps.rank_enrichment > 1.2).all()
    assert (jumps.enrichment_z > 10).all()
    assert (jumps.churn < 0.3).all()
    assert (random.churn > 0.5).all()
    assert (random.enrichment_z.abs() < 5).all()
    again = segment(JumpPatcher(8), data, context_length=64, by="series")
    pd.testing.assert_frame_equal(again, jumps)


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_patchers_are_compared_series_by_series(gaps):
    data = frame(gaps=gaps)
    columns = {"context_length": 64, "by": "series"}
    same = segment(JumpPatcher(8), data, others=[JumpPatcher(8)], **columns)
    assert same.columns.tolist() == [*COLUMNS, *MEASURES, "agreement"]
    assert same.agreement.tolist() == pytest.approx([1, 1])
    others = [RandomPatcher(8, seed=s) for s in (1, 2, 3)]
    random = segment(RandomPatcher(8), data, others=others, **columns)
    assert (random.agreement.abs() < 0.4).all()  # one draw for all look-backs of a series
    mixed = segment(JumpPatcher(8), data, others=[JumpPatcher(8), *others[:1]], **columns)
    assert (mixed.agreement < same.agreement).all()
    assert (mixed.agreement > random.agreement).all()
    pd.testing.assert_frame_equal(mixed.drop(columns="agreement"), same.drop(columns="agreement"))


def test_what_is_compared_must_be_patchers_and_by_series():
    with pytest.raises(InvalidParameterError, match="Got by='patch'.*Use by='series'"):
        segment(FixedPatcher(8), frame(), context_length=64, others=[FixedPatcher(8)])
    with pytest.raises(TypeError, match="segment needs a Patcher instance. Got 'fixed'"):
        segment(FixedPatcher(8), frame(), context_length=64, by="series", others=["fixed"])


def test_a_forecaster_reports_its_own():
    model = Forecaster(
        horizon=4,
        context_length=64,
        patcher=FixedPatcher(compression_rate=16),
        backbone=PatchTSTBackbone(d_model=8, num_layers=1, num_heads=2),
        trainer=Trainer(max_steps=2, batch_size=4),
    ).fit(frame())
    expected = segment(model.patcher_, frame(), context_length=64, by="series")
    pd.testing.assert_frame_equal(model.segment(frame(), by="series"), expected)
    with pytest.raises(InvalidFrameError, match="a forecaster keeps only one look-back"):
        model.segment(by="series")


def test_series_that_are_too_short_or_empty_are_refused():
    with pytest.raises(InvalidFrameError, match="need 65 steps.*has 64.*shorter context_len"):
        segment(FixedPatcher(8), frame(64), context_length=64, by="series")
    empty = frame()
    empty.iloc[100:200, 1] = np.nan
    with pytest.raises(InvalidFrameError, match="at least 2 observed steps.*'a'.*holds 0"):
        segment(FixedPatcher(8), empty, context_length=64, by="series")
    with pytest.raises(InvalidParameterError, match="'by' parameter must be one of"):
        segment(FixedPatcher(8), frame(), context_length=64, by="step")
