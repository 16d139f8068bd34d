"""Committed results are complete, and the tables of documents are rendered from them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.bench.ltsf_data import num_test_windows
from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.results import windows_path
from adaptivepatch.bench.task import KEY, read_suite
from adaptivepatch.datasets.catalog import split_borders
from benchmarks.tables.family import UNMEASURED
from benchmarks.tables.rendering import render

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SUITES = [
    *("patchtst_etth1", "recency", "small_etth"),
    *("small_weather", "levels_etth1", "recency_policy"),
]
WITH_WINDOWS = SUITES[2:]
DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "docs").glob("*.md")]
)
NUM_ROWS = {"weather": 52696, "electricity_6of321": 26304, "traffic_6of862": 17544}


@pytest.mark.parametrize("suite", SUITES)
def test_runs_are_complete_and_of_the_suite(suite):
    table = pd.read_csv(RESULTS / f"{suite}.csv")
    assert table.columns.tolist() == list(find_protocol("ltsf").columns)
    keys = list(KEY)
    assert not table.duplicated(keys).any()
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert table.commit.str.fullmatch("[0-9a-f]{12}").all()
    assert not table.dirty.any()
    known = {run.key for run in read_suite(suite)}
    found = set(table[keys].astype(str).itertuples(index=False, name=None))
    assert found <= known


@pytest.mark.parametrize("suite", SUITES)
def test_every_test_window_counts(suite):
    for row in pd.read_csv(RESULTS / f"{suite}.csv").itertuples():
        borders = split_borders(row.dataset, NUM_ROWS.get(row.dataset))
        assert row.num_windows == num_test_windows(borders, row.horizon)


@pytest.mark.parametrize("suite", SUITES)
def test_every_run_has_its_curve(suite):
    table = pd.read_csv(RESULTS / f"{suite}.csv")
    curves = pd.read_csv(RESULTS / f"{suite}.curves.csv")
    for row in table.itertuples():
        curve = curves[
            (curves.task == row.task) & (curves.arm == row.arm) & (curves.seed == row.seed)
        ]
        assert curve.validation_loss.min() == pytest.approx(row.validation_loss)


@pytest.mark.parametrize("suite", WITH_WINDOWS)
def test_errors_are_the_means_of_their_windows(suite):
    file = RESULTS / f"{suite}.csv"
    runs = pd.read_csv(file)
    for row in runs.to_dict("records"):
        errors = np.load(windows_path(file, row))
        assert errors.shape == (row["num_windows"],)
        assert errors.astype(float).mean() == pytest.approx(row["test_mse"], rel=1e-6)
    assert len(list(file.with_suffix(".windows").iterdir())) == len(runs)


def test_shared_channels_are_complete():
    runs = pd.read_csv(RESULTS / "shared_channels.csv")
    assert not runs.duplicated(["set", "arm", "seed"]).any()
    assert runs.groupby(["set", "arm"]).seed.apply(sorted).tolist() == [[1, 2, 3]] * 4
    assert not runs.dirty.any()
    for row in runs.to_dict("records"):
        name = f"{row['set']}-{row['arm']}-{row['seed']}.npy"
        errors = np.load(RESULTS / "shared_channels.windows" / name).astype(float)
        assert errors.mean() == pytest.approx(row["test_mse"], rel=1e-6)
    intervals = pd.read_csv(RESULTS / "shared_channels_intervals.csv").set_index("set")
    assert intervals.verdict.to_dict() == {"lead_lag": "helps", "independent": "hurts"}


def test_planted_rows_are_complete_and_of_the_suite():
    table = pd.read_csv(RESULTS / "planted.csv")
    assert len(table)
    assert table.columns.tolist() == list(find_protocol("planted").columns)
    keys = list(KEY)
    assert not table.duplicated(keys).any()
    assert table.notna().all(axis=None)
    assert not table.dirty.any()
    known = {run.key for run in read_suite("planted")}
    assert set(table[keys].astype(str).itertuples(index=False, name=None)) <= known
    assert (table.num_windows == 5000).all()
    assert (table.tokens <= 8).all()
    assert (table.boundary_f1[table.arm == "oracle"] == 1).all()
    assert (table.num_steps == table.num_steps[0]).all()
    curves = pd.read_csv(RESULTS / "planted.curves.csv")
    for row in table.itertuples():
        curve = curves[
            (curves.task == row.task) & (curves.arm == row.arm) & (curves.seed == row.seed)
        ]
        assert curve.validation_loss.min() == pytest.approx(row.validation_mse)


@pytest.fixture(scope="module")
def family():
    return pd.read_csv(RESULTS / "family.csv")


def test_family_rows_are_complete_and_of_their_suites(family):
    assert family.columns.tolist() == list(find_protocol("family").columns)
    keys = list(KEY)
    assert not family.duplicated(keys).any()
    assert not family.dirty.any()
    assert np.isfinite(family[["test_mse", "test_mae", "tokens", "train_rate"]]).all(axis=None)
    known = {run.key for suite in family.suite.unique() for run in read_suite(suite)}
    found = set(family[keys].astype(str).itertuples(index=False, name=None))
    assert found <= known
    curves = pd.read_csv(RESULTS / "family.curves.csv").groupby(["task", "arm", "seed"])
    best = curves.validation_loss.min()
    for row in family.itertuples():
        assert best[row.task, row.arm, row.seed] == pytest.approx(row.validation_loss)
    file = RESULTS / "family.csv"
    for row in family[family.suite == "family_etth1"].to_dict("records"):
        errors = np.load(windows_path(file, row)).astype(float)
        assert errors.mean() == pytest.approx(row["test_mse"], rel=1e-6)


def test_measured_patchers_have_all_arms_and_three_seeds(family):
    """A patcher may be without rows; the table then names it (``benchmarks/tables/family.py``)."""
    rows = family[family.suite == "family_etth1"]
    patchers = {
        run.arm.name: run.arm.settings["patcher"]["name"] for run in read_suite("family_etth1")
    }
    assert set(rows.arm) <= set(patchers)
    assert (rows.groupby("arm").seed.nunique() == 3).all()
    measured = {patchers[arm] for arm in rows.arm}
    assert [arm for arm in set(patchers) - set(rows.arm) if patchers[arm] in measured] == []


def test_planted_rows_of_the_family_hold_eight_patches(family):
    rows = family[family.suite == "family_planted"]
    wanted = {(run.task.dataset, run.arm.name, run.seed) for run in read_suite("family_planted")}
    assert set(rows[["dataset", "arm", "seed"]].itertuples(index=False, name=None)) == wanted
    assert (rows.tokens == 8).all()
    assert (rows.tokens_std == 0).all()
    assert (rows.boundary_f1[rows.arm == "oracle"] == 1).all()
    assert rows.boundary_f1.between(0, 1).all()


def test_patchers_that_only_aim_at_a_rate_reach_it(family):
    """Without a cap, within 10 % on training windows, and on test windows in the mean of seeds."""
    rows = family[family.suite == "family_etth1"].set_index("arm")
    for rate in (16, 48):
        for name in ("chunking", "pooling", "score_function", "merging"):
            found = rows.loc[f"{name}_{rate}"]
            assert (found.train_rate / rate - 1).abs().max() <= 0.10
            assert abs(found.compression_rate.mean() / rate - 1) <= 0.10


def test_noise_of_the_score_function_is_complete_and_the_early_exit_takes_most():
    table = pd.read_csv(RESULTS / "score_function_noise.csv")
    noise = table.pivot_table("noise", ["form", "window", "seed"], "setting")
    wanted = itertools.product(("direct", "next_patch"), (1, 8), (1, 2, 3))
    assert noise.index.tolist() == list(wanted)
    assert noise["no discount"].notna().tolist() == 6 * [False] + 6 * [True]
    assert noise.drop(columns="no discount").notna().all(axis=None)
    assert (noise["no early exit"] > 5 * noise["all"]).all()
    assert (noise["not centred"] > noise["all"]).all()
    assert (table.draws == 640).all()


def test_the_defaults_beat_naive_forecasts_and_are_near_the_best_tuned_settings():
    table = pd.read_csv(RESULTS / "everyday.csv")
    assert not table.duplicated(["set", "arm", "seed"]).any()
    assert {"protocol", "torch", "commit", "settings"} <= set(table.columns)
    default = table[table.arm == "default"]
    assert (default.groupby("set").seed.nunique() == 3).all()
    assert default["set"].nunique() >= 12
    error = default.groupby("set").mae.mean()
    assert (error < default.groupby("set").naive_mae.first()).all()
    tuned = table[table.arm.str.fullmatch(r"t\d\d")].groupby("set").mae.min()
    ratio = error / tuned
    assert ratio.median() <= 1.03
    assert ratio.max() <= 1.10
    assert default.groupby("set").fit_cpu_seconds.mean().median() <= 90


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gaps", ["seed", "missing_share", "filling"]),
        ("quantiles", ["seed", "model"]),
        ("dropout", ["pair"]),
        ("m3", ["group"]),
        ("peers", ["what", "library", "look_back"]),
        ("score_function_noise", ["form", "window", "setting", "seed"]),
        ("boundary_agreement", ["arm", "seed", "other_seed"]),
    ],
)
def test_single_measurements_are_unique_and_name_their_origin(name, key):
    table = pd.read_csv(RESULTS / f"{name}.csv")
    assert len(table)
    assert table.notna().all(axis=None)
    assert not table.duplicated(key).any()
    assert {"seed", "protocol", "torch", "commit"} <= set(table.columns)
    assert not table.dirty.any()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("intervals", ["windows", "seed"]),
        ("calibration", ["kind", "repeat"]),
        ("etth1_ot", ["arm"]),
        ("pedestrians", ["arm"]),
    ],
)
def test_comparisons_are_unique_and_name_their_origin(name, key):
    table = pd.read_csv(RESULTS / f"compare_{name}.csv")
    assert len(table)
    assert not table.duplicated(key).any()
    assert {"protocol", "torch", "commit", "dirty", "finished"} <= set(table.columns)
    assert table[["protocol", "torch", "commit", "finished"]].notna().all(axis=None)
    assert not table.dirty.any()


def test_a_patcher_compared_with_itself_seldom_gets_a_verdict():
    table = pd.read_csv(RESULTS / "compare_calibration.csv").set_index("kind")
    wrong = table.loc["a_a"].verdict != "no evidence"
    found = table.loc["planted"].verdict == "helps"
    assert (len(wrong), len(found)) == (200, 50)
    assert wrong.mean() <= 0.05
    assert found.mean() >= 0.8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_the_committed_results(document):
    """The line that names patchers without rows may be missing: it depends on the code."""
    text = document.read_text(encoding="utf-8")
    rendered = render(text, RESULTS)
    assert text in (rendered, re.sub(rf"\n{UNMEASURED}.*\n", "", rendered))
