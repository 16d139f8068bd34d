"""Pretraining: windows, cells, the course of it, and that it goes on where it was killed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptivepatch.datasets.corpora import load_corpora, load_corpus
from adaptivepatch.errors import DatasetError, InvalidModelError, InvalidParameterError
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.pretrained import load_patcher, weights_digest
from adaptivepatch.pretraining import pretrain as pretraining
from adaptivepatch.pretraining.pretrain import (
    PretrainingSettings,
    fitting_cells,
    make_card,
    pretrain,
)
from adaptivepatch.pretraining.windows import CELLS, Cell, SeriesPool
from tests.corpora import write_corpus
from tests.unit.pretraining.pretrain_worker import SETTINGS, make_patcher, run

pytest.importorskip("pyarrow")


def series(n, seed):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(n) / 5) + 0.3 * rng.normal(size=n)


@pytest.fixture
def corpus(tmp_path):
    gaps = series(600, 2)
    gaps[100:140] = np.nan
    held = {"a": series(500, 0), "b": 100 + 50 * series(300, 1), "gaps": gaps, "flat": [1.0] * 400}
    return write_corpus(tmp_path / "tiny.parquet", held)


# --------------------------------------------------------------------------------------- windows


def test_cells_are_read_and_checked():
    assert Cell.parse("336x16") == Cell(336, 16)
    assert str(Cell(336, 16)) == "336x16"
    assert [Cell(96, 8).horizon, Cell(2048, 48).horizon] == [24, 96]
    for text in ("336", "336x", "axb", "336x0", "8x8", "-96x8"):
        with pytest.raises(InvalidParameterError, match="such as 336x16"):
            Cell.parse(text)


def test_the_default_cells_span_look_backs_and_rates():
    lengths, rates = zip(*CELLS, strict=True)
    assert (min(lengths), max(lengths)) == (96, 2048)
    assert (min(rates), max(rates)) == (8, 96)


def test_rows_are_in_units_of_their_look_back(corpus):
    pool = SeriesPool([load_corpus(corpus)])
    batch = pool.batch(Cell(64, 8), 50, np.random.default_rng(0))
    assert batch.series.shape == (50, 64)
    assert batch.target.shape == (50, 16)
    assert batch.observed is not None
    weight = batch.observed.float()
    mean = (batch.series * weight).sum(1) / weight.sum(1)
    assert mean.abs().max() < 1e-4
    square = (batch.series.square() * weight).sum(1) / weight.sum(1)
    torch.testing.assert_close(square, torch.ones(50), atol=1e-3, rtol=0)
    assert bool((batch.series[~batch.observed] == 0).all())
    assert bool((weight.mean(1) >= 0.5).all())


def test_windows_of_training_and_validation_share_no_target(tmp_path):
    """Values are their places, so that a row says where it is from."""
    ramp = np.arange(1000.0)
    ramp[::2] += 0.25  # not linear, so that it varies in its own units
    pool = SeriesPool([load_corpus(write_corpus(tmp_path / "ramp.parquet", {"a": ramp}))])
    cell, std, mean = Cell(64, 8), np.std(ramp), np.mean(ramp)
    ends = {}
    for part in ("train", "validation"):
        first, count = pool._ranges(cell, part)
        start = torch.arange(int(first[0]), int(first[0] + count[0]))
        rows = pool.values[start[:, None] + torch.arange(64 + 16)] * std + mean
        ends[part] = float(rows[:, 64:].min()), float(rows[:, 64:].max())
    assert ends["train"][1] < 900 <= ends["validation"][0]
    assert ends["validation"][1] > 998
    draw = pool.batch(cell, 200, np.random.default_rng(0), "validation")
    assert len(draw.series) == 200


def test_draws_follow_from_the_generator(corpus):
    pool = SeriesPool([load_corpus(corpus)])
    one, two, other = (pool.batch(Cell(32, 8), 20, np.random.default_rng(s)) for s in (1, 1, 2))
    assert torch.equal(one.series, two.series)
    assert not torch.equal(one.series, other.series)


def test_small_corpora_are_not_drowned_by_large_ones(tmp_path):
    """Weights are square roots of sizes: 1 to 10 here, not 1 to 100."""
    big = write_corpus(tmp_path / "big.parquet", {"a": series(20_000, 0)})
    small = write_corpus(tmp_path / "small.parquet", {"b": np.sign(series(200, 1)) + 2})
    pool = SeriesPool(load_corpora([big, small]))
    rows = pool.batch(Cell(32, 8), 2000, np.random.default_rng(0)).series
    two_valued = np.mean([len(np.unique(np.round(row.numpy(), 3))) == 2 for row in rows])
    assert 0.05 < two_valued < 0.15


def test_long_series_take_part_averaged_too(tmp_path):
    path = write_corpus(tmp_path / "long.parquet", {"a": series(20_000, 0)})
    assert SeriesPool([load_corpus(path)], (4, 16)).lengths.tolist() == [20_000, 5000]


def test_series_that_are_too_short_or_flat_are_refused(tmp_path, corpus):
    corpora = [load_corpus(corpus)]
    assert fitting_cells(corpora, PretrainingSettings())[-1].context_length == 192
    flat = load_corpus(write_corpus(tmp_path / "flat.parquet", {"a": [2.0] * 100}))
    with pytest.raises(DatasetError, match="series that vary"):
        SeriesPool([flat])
    empty = series(400, 0)
    empty[40:] = np.where(np.arange(360) % 3 == 0, empty[40:], np.nan)
    pool = SeriesPool([load_corpus(write_corpus(tmp_path / "holes.parquet", {"a": empty}))])
    with pytest.raises(DatasetError, match="half of their steps observed"):
        pool.batch(Cell(64, 8), 100, np.random.default_rng(0), "validation")


# -------------------------------------------------------------------------------------- training


def test_it_trains_the_patcher_on_every_cell(corpus, tmp_path):
    seen = []
    before = make_patcher()
    patcher, record = run(corpus, tmp_path / "c", on_step=seen.append)
    assert seen == list(range(1, 13))
    assert record.num_steps == 12
    assert [row["step"] for row in record.history] == [4.0, 8.0, 12.0]
    assert weights_digest(patcher) != weights_digest(before)
    assert patcher.compression_rate == before.compression_rate
    assert all(np.isfinite(row["validation_loss"]) for row in record.history)
    assert record.history[-1]["train_loss"] < record.history[0]["train_loss"]


def test_every_round_visits_every_cell_in_another_order(corpus):
    corpora = [load_corpus(corpus)]
    run = pretraining.PretrainingLoop(make_patcher(), SeriesPool(corpora), SETTINGS)
    turns = [tuple(run.cell_of_step(3 * turn + i) for i in range(3)) for turn in range(8)]
    assert all(set(turn) == set(SETTINGS.cells) for turn in turns)
    assert len(set(turns)) > 1


def test_the_callers_generator_is_left_alone(corpus, tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    patcher = make_patcher()
    torch.set_rng_state(state)
    pretrain(patcher, load_corpora([corpus]), replace(SETTINGS, steps=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_patchers_that_cannot_be_pretrained_are_refused(corpus):
    corpora = load_corpora([corpus])
    for patcher in (FixedPatcher(), RandomPatcher()):
        with pytest.raises(InvalidParameterError, match="Use ReinPatcher"):
            pretrain(patcher, corpora, SETTINGS)
    with pytest.raises(InvalidParameterError, match="the given patcher is frozen"):
        pretrain(make_patcher().freeze(), corpora, SETTINGS)
    for wrong in ({"steps": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"cells": ()}):
        with pytest.raises(InvalidParameterError):
            pretrain(make_patcher(), corpora, replace(SETTINGS, **wrong))


def test_the_card_names_data_and_course(corpus, tmp_path):
    corpora = load_corpora([corpus])
    patcher, record = run(corpus, tmp_path / "c")
    card = make_card(corpora, SETTINGS, record, command="adaptivepatch ...", notes=["Told."])
    text = card.render(patcher)
    assert corpora[0].info.sha256 in text
    assert "| tiny | 4 | 1800 | not stated |" in text
    assert "32x8, 48x8, 64x16" in text
    assert "Told." in text
    assert text.count("\n| 12 |") == 1
    assert str(tmp_path) not in text


# -------------------------------------------------------------------------------------- going on


def worker(*arguments):
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("pretrain_worker.py")), *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        env={**__import__("os").environ, "PYTHONPATH": "."},
    )


def test_a_killed_run_goes_on_to_the_same_weights(corpus, tmp_path):
    whole, _ = run(corpus, tmp_path / "whole.safetensors")
    killed = worker(corpus, tmp_path / "c.safetensors", tmp_path / "resumed", 10)
    assert killed.returncode == -9, killed.stderr
    assert not (tmp_path / "resumed").exists()
    assert (tmp_path / "c.safetensors").exists()
    steps = []
    resumed, _ = run(corpus, tmp_path / "c.safetensors", on_step=steps.append)
    assert steps[0] > 1
    resumed.save_pretrained(tmp_path / "resumed")
    assert weights_digest(resumed) == weights_digest(whole)
    assert weights_digest(load_patcher(tmp_path / "resumed")) == weights_digest(whole)
    assert weights_digest(whole) != weights_digest(make_patcher())


def test_a_run_of_other_settings_is_not_gone_on_with(corpus, tmp_path, monkeypatch):
    run(corpus, tmp_path / "c")
    monkeypatch.setattr(
        "tests.unit.pretraining.pretrain_worker.SETTINGS", replace(SETTINGS, seed=4)
    )
    with pytest.raises(InvalidModelError, match="different data or settings"):
        run(corpus, tmp_path / "c")
