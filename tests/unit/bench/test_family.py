"""One CSV for all patchers: planted tasks and real series fill the same columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from adaptivepatch.bench.family import run_family
from adaptivepatch.bench.record import FamilyRecord, column_names, windows_path
from adaptivepatch.bench.report_family import (
    family_etth1,
    family_planted,
    score_function_noise,
)
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.task import read_suite
from adaptivepatch.components import patcher_from_settings
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.errors import DatasetError
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.registry import PATCHERS

PLANTED = {
    "tasks": [
        {
            "dataset": "planted_b",
            "horizon": 24,
            "context_length": 192,
            "protocol": "family_planted",
        }
    ],
    "seeds": [1],
    "base": {
        "reward": "none",
        "backbone": {"name": "transformer", "d_model": 8, "num_layers": 1, "num_heads": 2},
        "trainer": {"max_steps": 2, "validate_every": 2},
    },
    "arms": {
        "oracle": {"patcher": {"name": "truth", "compression_rate": 24}},
        "fixed": {"patcher": {"name": "fixed", "compression_rate": 24}},
        "chunking": {
            "patcher": {
                "name": "dynamic_chunking",
                "compression_rate": 24,
                "budget": "exact",
                "wiring": "encoder",
            }
        },
    },
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    (folder / "trial.yaml").write_text(yaml.safe_dump(PLANTED))
    run_suite(folder / "trial.yaml", folder / "family.csv")
    return folder


def test_planted_rows_have_all_columns_and_true_boundaries_are_found(planted):
    table = pd.read_csv(planted / "family.csv").set_index("arm")
    assert ["arm", *table.columns] == sorted(column_names(FamilyRecord), key=lambda c: c != "arm")
    assert table.tokens.tolist() == [8, 8, 8]
    assert table.boundary_f1["oracle"] == 1
    assert table.boundary_f1["fixed"] < 0.5
    # Jumps surprise; spikes of this task do, too, so that the truth is not all there is.
    assert table.enrichment["oracle"] > 2 > table.enrichment["fixed"]
    assert table.enrichment_z["oracle"] > 10
    assert table.train_rate.tolist() == [24, 24, 24]
    assert table.churn.isna().all()
    assert (table.test_mae > 0).all()
    assert len(pd.read_csv(planted / "family.curves.csv")) == 3


def test_rows_that_are_there_are_not_run_again(planted):
    assert run_suite(planted / "trial.yaml", planted / "family.csv") == []


def test_real_rows_measure_every_window_and_the_boundaries_of_some(tmp_path):
    try:
        load_dataset("ETTh1")
    except DatasetError as error:
        pytest.skip(f"needs the benchmark data: {error}")
    run = next(run for run in read_suite("family_etth1") if run.arm.name == "deviation_48")
    settings = run.arm.settings
    settings["backbone"] = {"name": "patchtst", "d_model": 8, "num_layers": 1, "num_heads": 2}
    settings["trainer"] = {"max_steps": 2, "batch_size": 4, "validate_every": 2}
    record, curve, errors = run_family(run)
    assert record.num_windows == len(errors) == 2785
    assert record.test_mse == pytest.approx(errors.mean())
    assert record.tokens == 7
    assert record.tokens_std == 0
    assert record.train_rate == record.compression_rate == 48
    assert record.enrichment > 1.5
    assert 0 < record.churn < 0.9
    assert np.isnan(record.boundary_f1)
    assert record.fit_cpu_seconds > 0
    assert len(curve) == 1


def test_suites_hold_every_patcher_and_can_be_built():
    arms = {run.arm.name: run.arm.settings for run in read_suite("family_etth1")}
    patchers = [patcher_from_settings(settings["patcher"]) for settings in arms.values()]
    assert {patcher.name for patcher in patchers} == set(PATCHERS)
    assert all(isinstance(patcher, Patcher) for patcher in patchers)
    exact = [p for p in patchers if getattr(p, "budget", "exact") == "exact"]
    assert {p.capacity(336) for p in exact} == {7, 21, 28, 14, 42, 84}


def rows(suite, arms, **columns):
    table = pd.DataFrame(dict.fromkeys(column_names(FamilyRecord), np.nan), range(len(arms)))
    return table.assign(suite=suite, arm=arms, **columns)


def test_tables_rank_at_equal_tokens_and_at_equal_time(tmp_path):
    arms = ["fixed_aligned_48", "fixed_16", "chunking_48"]
    etth1 = rows(
        "family_etth1",
        3 * arms,
        dataset="ETTh1",
        task="t",
        settings_id="s",
        context_length=336,
        horizon=2,
        seed=[1, 1, 1, 2, 2, 2, 3, 3, 3],
        test_mse=3 * [0.5, 0.4, 0.45],
        predict_cpu_seconds=3 * [1.0, 2.0, 3.0],
        fit_cpu_seconds=1.0,
        train_rate=48.0,
        compression_rate=[50.0, 50.0, 49.0, 50.0, 50.0, 50.0, 50.0, 50.0, 51.0],
        enrichment=2.0,
        enrichment_z=9.0,
        churn=0.5,
    )
    noise = np.random.default_rng(0).normal(size=200)
    for row in etth1.to_dict("records"):
        path = windows_path(tmp_path / "family.csv", row)
        path.parent.mkdir(exist_ok=True)
        np.save(path, (row["test_mse"] * (1 + 0.1 * noise)).astype(np.float32))
    planted = rows(
        "family_planted",
        ["fixed", "oracle"],
        dataset="planted_a",
        context_length=192,
        horizon=24,
        seed=1,
        test_mse=[1.0, 0.25],
        boundary_f1=[0.2, 1.0],
        fit_cpu_seconds=3.0,
    )
    pd.concat([etth1, planted]).to_csv(tmp_path / "family.csv", index=False)
    pairs = pd.DataFrame({"arm": "chunking_48", "beyond_chance": [0.2, 0.3, 0.4]})
    pairs.to_csv(tmp_path / "boundary_agreement.csv", index=False)
    lines = [line.split(" | ") for line in family_etth1(tmp_path).splitlines()[2:]]
    assert [line[1] for line in lines] == ["chunking", "fixed aligned", "fixed"]
    assert lines[0][2] == "0.4500 ± 0.0000"
    assert lines[0][3:5] == ["-10.0 %", "-10.0 to -10.0 %"]  # equal windows, 10 % apart
    assert lines[0][5] == "+12.5 %"  # fixed patches of 16 points are as fast, and better
    assert lines[0][6:10] == ["48.0 / 50.0 (49.0 to 51.0)", "2.00 (z 9)", "0.50", "0.30"]
    assert lines[1][6:10] == ["48.0 / 50.0", "2.00 (z 9)", "0.50", ""]
    assert lines[1][3:6] == ["", "", "+0.0 %"]
    assert lines[2][3:6] == ["", "", "+0.0 %"]
    planted_lines = family_planted(tmp_path).splitlines()[2:]
    assert [line.split(" | ")[:4] for line in planted_lines] == [
        ["| A", "oracle", "0.2500", "0.25"],
        ["| A", "fixed", "1.0000", "1.00"],
    ]


def test_the_table_of_noise_compares_networks_with_themselves(tmp_path):
    """Noise is a geometric mean of ratios; a ratio that may be zero gives a bound of steps."""
    parts = pd.DataFrame({"setting": ["all", "none"], "signal_to_noise": [0.25, -0.001]})
    networks = [
        parts.assign(form="direct", window=1, seed=seed, noise=[noise, noise * times])
        for seed, noise, times in ((1, 1.0, 4.0), (2, 100.0, 9.0))
    ]
    table = pd.concat(networks).assign(standard_error=0.01)
    table.to_csv(tmp_path / "score_function_noise.csv", index=False)
    lines = [line.split(" | ") for line in score_function_noise(tmp_path).splitlines()[2:]]
    assert [line[2] for line in lines] == ["all", "none"]
    assert lines[0][3:] == ["0.25 ± 0.007", "0.25 to 0.25", "4", "1 |"]
    assert lines[1][3:] == ["-0.001 ± 0.007", "-0.001 to -0.001", "over 71", "6 |"]
