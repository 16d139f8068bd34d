"""Patchers of every kind in one file of results: real series and planted tasks, same columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.task import read_suite
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.errors import DatasetError
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.registry import PATCHERS
from adaptivepatch.resolver import patcher_from_settings

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
    columns = find_protocol("family_planted").columns
    assert columns == find_protocol("family").columns
    assert ["arm", *table.columns] == sorted(columns, key=lambda c: c != "arm")
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
    row, curve, errors = find_protocol("family").measure(run)
    measures = row.measures
    assert measures["num_windows"] == len(errors) == 2785
    assert measures["test_mse"] == pytest.approx(errors.mean())
    assert measures["tokens"] == 7
    assert measures["tokens_std"] == 0
    assert measures["train_rate"] == measures["compression_rate"] == 48
    assert measures["enrichment"] > 1.5
    assert 0 < measures["churn"] < 0.9
    assert np.isnan(measures["boundary_f1"])
    assert row.costs["fit_cpu_seconds"] > 0
    assert len(curve) == 1


def test_the_suite_can_be_built_and_its_patchers_are_registered():
    """A registered patcher may be missing: the table of the family then names it as unmeasured."""
    arms = {run.arm.name: run.arm.settings for run in read_suite("family_etth1")}
    patchers = [patcher_from_settings(settings["patcher"]) for settings in arms.values()]
    assert {patcher.name for patcher in patchers} <= set(PATCHERS)
    assert all(isinstance(patcher, Patcher) for patcher in patchers)
    exact = [p for p in patchers if getattr(p, "budget", "exact") == "exact"]
    assert {p.capacity(336) for p in exact} == {7, 21, 28, 14, 42, 84}
