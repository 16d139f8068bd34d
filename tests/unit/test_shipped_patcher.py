"""The patcher that comes with the package: small, documented, for any look-back and rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    Forecaster,
    InvalidParameterError,
    Trainer,
    TransformerBackbone,
    load_patcher,
)
from adaptivepatch.datasets.catalog import CORPORA
from adaptivepatch.datasets.corpora import PERMITTED
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.pretrained import SHIPPED, shipped_patchers, weights_digest

NAME = "reinpatch-small"


def windows(num_steps, rows=64):
    """Excerpts with days, level changes and noise."""
    rng = np.random.default_rng(0)
    time = np.arange(num_steps)
    level = np.repeat(rng.normal(size=(rows, -(-num_steps // 20))), 20, axis=1)[:, :num_steps]
    values = np.sin(time * 2 * np.pi / 24) + 2 * level + 0.2 * rng.normal(size=level.shape)
    values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    return torch.from_numpy(values.astype(np.float32))


def agreement(patcher, rows):
    """Share of the uniform starts, the first left out, that the mode keeps."""
    uniform = patcher.reference_patches(rows.shape[1]).boundary_mask[:, 1:]
    return float(patcher(rows).mode.boundary_mask[:, 1:][:, uniform[0]].float().mean())


def test_it_is_found_by_name_and_small():
    assert shipped_patchers() == [NAME]
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 2_000_000
    assert load_patcher(NAME).is_frozen


def test_its_card_says_where_it_comes_from():
    card = (SHIPPED / NAME / "README.md").read_text(encoding="utf-8")
    for name, info in CORPORA.items():
        row = f"| {name} | {info.num_series} | {info.num_points} | {info.license} |"
        assert (row in card) == (name in PERMITTED)
        assert (info.sha256 in card) == (name in PERMITTED)
    assert "adaptivepatch pretrain-patcher permitted" in card
    for told in ("ETTh1", "ETTm2", "weather", "is in the training data", "Course of training"):
        assert told in card


@pytest.mark.parametrize("rate", [8, 16, 48, 96])
@pytest.mark.parametrize("num_steps", [96, 97, 336, 1024, 2048])
def test_it_serves_every_look_back_and_rate(num_steps, rate):
    patcher = load_patcher(NAME, compression_rate=rate)
    mode = patcher(windows(num_steps, 4)).mode
    assert mode.num_patches.tolist() == [num_steps // rate] * 4
    assert int(mode.patch_lengths.sum(1).min()) == num_steps


def test_its_patches_follow_the_series():
    rows = windows(336)
    patcher = load_patcher(NAME, compression_rate=48)
    masks = patcher(rows).mode.boundary_mask
    assert agreement(patcher, rows) < 1
    assert len(masks.unique(dim=0)) > 1


def test_its_patches_of_etth1_are_not_uniform(ltsf_data):
    values = load_dataset("ETTh1").to_numpy()
    starts = range(0, 16_000, 400)
    rows = np.concatenate([values[start : start + 336].T for start in starts])
    rows = (rows - rows.mean(1, keepdims=True)) / (rows.std(1, keepdims=True) + 1e-5)
    rows = torch.from_numpy(rows.astype(np.float32))
    for rate in (16, 48):
        patcher = load_patcher(NAME, compression_rate=rate)
        kept = agreement(patcher, rows)
        assert kept < 0.999, kept
        assert len(patcher(rows).mode.boundary_mask.unique(dim=0)) > 10


def test_a_forecaster_trains_only_what_reads_its_patches():
    index = pd.date_range("2024-01-01", periods=400, freq="h")
    df = pd.DataFrame({"load": np.sin(np.arange(400) / 4)}, index=index)
    patcher = load_patcher(NAME, compression_rate=12)
    digest = weights_digest(patcher)
    model = Forecaster(
        horizon=12,
        context_length=96,
        patcher=patcher,
        backbone=TransformerBackbone(d_model=8, num_layers=1),
        trainer=Trainer(max_steps=3),
    ).fit(df)
    assert weights_digest(model.network_.patcher) == digest
    assert len(model.predict()) == 12


def test_an_estimator_takes_it_by_name(tmp_path):
    """It is frozen, keeps its weights, and is saved with the model."""
    index = pd.date_range("2024-01-01", periods=200, freq="h")
    frame = pd.DataFrame({"load": np.sin(np.arange(200) / 4)}, index=index)
    model = Forecaster(
        horizon=8,
        context_length=96,
        patcher=NAME,
        backbone=TransformerBackbone(d_model=8, num_layers=1, num_heads=2),
        trainer=Trainer(max_steps=2, device="cpu"),
    ).fit(frame)
    assert model.patcher == NAME
    assert model.patcher_.is_frozen
    assert weights_digest(model.patcher_) == weights_digest(load_patcher(NAME))
    with pytest.raises(InvalidParameterError, match=r"load_patcher\(..., compression_rate=...\)"):
        model.set_params(patcher__compression_rate=8)
    again = Forecaster.load(model.save(tmp_path / "model"))
    pd.testing.assert_frame_equal(again.predict(), model.predict())
