"""Suites are read strictly, runs are recorded with their origin, finished runs are skipped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from adaptivepatch import Forecaster, InvalidParameterError
from adaptivepatch.bench.ltsf_fit import make_forecaster
from adaptivepatch.bench.protocols import PROTOCOLS, find_protocol
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.task import Arm, Run, Task, read_suite
from adaptivepatch.cli import app
from adaptivepatch.pretrained import load_patcher, weights_digest
from adaptivepatch.resolver import patcher_from_settings

TINY = """
about: one step, to see the harness at work
tasks:
  - {dataset: ETTh1, horizon: 96, context_length: 96}
seeds: [1, 2]
base:
  trainer: {max_steps: 2, batch_size: 8, validate_every: 2}
  backbone: {name: transformer, d_model: 8, num_layers: 1}
arms:
  fixed: {patcher: {name: fixed, patch_length: 48}}
  recency: {patcher: {name: recency, compression_rate: 48}}
  elsewhere: {only: [336], patcher: {name: fixed}}
"""


SUITES = ["patchtst_etth1", "patchtst_as_run_etth1", "recency", "levels_etth1", "small_weather"]
COLUMNS = list(find_protocol("ltsf").columns)


def forecaster_of(arm: Arm, task: Task) -> Forecaster:
    return make_forecaster(Forecaster, Run("suite", task, arm, 1))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_suites_list_their_runs_seed_by_seed(suite):
    runs = read_suite(suite)
    assert [(run.seed, run.arm.name) for run in runs] == [
        (1, "fixed"),
        (1, "recency"),
        (2, "fixed"),
        (2, "recency"),
    ]
    assert len({run.key for run in runs}) == 4


@pytest.mark.parametrize("name", SUITES)
def test_packaged_suites_build_their_forecasters(name):
    for run in read_suite(name):
        model = make_forecaster(Forecaster, run)
        assert model.context_length == run.task.context_length
        assert model.random_state == run.seed


def test_patchtst_as_run_differs_from_patchtst_in_its_schedule_only():
    (stated,) = {run.arm.name: run for run in read_suite("patchtst_etth1")}.values()
    (as_run,) = {run.arm.name: run for run in read_suite("patchtst_as_run_etth1")}.values()
    assert stated.task == as_run.task
    ours = make_forecaster(Forecaster, as_run).set_params(trainer__schedule="patchtst")
    assert repr(ours) == repr(make_forecaster(Forecaster, stated))


def test_recency_suite_compares_equal_token_counts():
    tokens = {
        make_forecaster(Forecaster, run).patcher.capacity(run.task.context_length)
        for run in read_suite("recency")
    }
    assert tokens == {21}


def test_levels_suite_compares_nearly_equal_work():
    work, tokens = {}, {}
    for run in read_suite("levels_etth1"):
        network = make_forecaster(Forecaster, run).make_network().eval()
        series = torch.zeros(8, run.task.context_length)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(series)
        work[run.arm.name] = counter.get_total_flops() / 8
        level = network.patcher.reference_patches(run.task.context_length)
        tokens[run.arm.name] = [level.capacity]
        while level.parent is not None:
            level = level.parent
            tokens[run.arm.name].append(level.capacity)
    assert tokens.pop("three_levels_learned") == tokens["three_levels"]
    assert tokens == {"one_level": [42], "two_levels": [42, 14], "three_levels": [42, 14, 7]}
    for arm, share in work.items():
        assert abs(share / work["one_level"] - 1) < 0.05, arm


def test_parts_of_patchers_and_backbones_are_built_from_their_names():
    layer = {"name": "transformer", "d_model": 8, "num_layers": 1}
    settings = {
        "patcher": {
            "name": "hierarchical",
            "fine": {"name": "fixed", "patch_length": 8},
            "coarse": {"name": "hierarchical", "coarse": {"name": "random", "seed": 3}},
        },
        "backbone": {"name": "multi_level", "encoder": layer, "inner": layer},
    }
    model = forecaster_of(Arm("levels", settings), Task("ETTh1", 96, 96))
    assert model.patcher.fine.patch_length == 8
    assert model.patcher.coarse.coarse.seed == 3
    assert model.patcher.coarse.fine is None
    assert model.backbone.inner.d_model == 8
    assert model.backbone.decoder is None
    wrong = {**settings, "patcher": {"name": "hierarchical", "fine": {"name": "fixd"}}}
    with pytest.raises(InvalidParameterError, match="Unknown patcher 'fixd'"):
        forecaster_of(Arm("wrong", wrong), Task("ETTh1", 96, 96))


def test_a_pretrained_patcher_is_named_with_its_weights():
    digest = weights_digest(load_patcher("reinpatch-small"))
    settings = {"pretrained": "reinpatch-small", "weights": digest[:8], "compression_rate": 48}
    patcher = patcher_from_settings(
        {"name": "hierarchical", "fine": {"name": "fixed"}, "coarse": settings}
    )
    assert patcher.coarse.is_frozen
    assert patcher.coarse.compression_rate == 48
    for wrong in ("0" * 8, digest[:7]):
        with pytest.raises(InvalidParameterError, match=f"weights '{wrong}' for 'reinpatch"):
            patcher_from_settings({**settings, "weights": wrong})


def test_arms_of_unlike_histories_share_a_file(tmp_path, ltsf_data):
    path, out = tmp_path / "mixed.yaml", tmp_path / "results.csv"
    path.write_text(
        TINY.replace("context_length: 96}", "context_length: 96, protocol: small}").replace(
            "  recency: {patcher: {name: recency, compression_rate: 48}}",
            "  learned: {patcher: {name: hierarchical, fine: {name: reinpatch}}}",
        )
    )
    rows = run_suite(path, out, only=lambda run: run.seed == 1, device="cpu")
    assert [row.run.task.protocol for row in rows] == ["small", "small"]
    curves = pd.read_csv(out.with_suffix(".curves.csv"))
    found = [json.loads(text) for text in curves.patcher]
    assert found[0] == {}
    assert "fine_compression_rate" in found[1]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_states_each_column_once(name):
    columns = find_protocol(name).columns
    assert len({*columns}) == len(columns)
    assert columns[:4] == ("suite", "task", "dataset", "protocol")
    assert columns[-1] == "settings"


def test_fingerprints_follow_every_field():
    task = Task("ETTh1", 96, 336)
    assert task.fingerprint == Task("ETTh1", 96, 336).fingerprint
    others = {Task("ETTh2", 96, 336), Task("ETTh1", 192, 336), Task("ETTh1", 96, 337)}
    assert task.fingerprint not in {other.fingerprint for other in others}


def test_unknown_suites_and_keys_are_named(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"Unknown suite 'recencies'.*mean 'recency'"):
        read_suite("recencies")
    path = tmp_path / "bad.yaml"
    path.write_text("tasks: []\narms: {}\nseeds: []\nmodels: []\n")
    with pytest.raises(InvalidParameterError, match=r"must have the keys.*'models'.*bad.yaml"):
        read_suite(path)


def test_finished_runs_are_recorded_and_skipped(suite, tmp_path, ltsf_data):
    out = tmp_path / "results.csv"
    first = run_suite(suite, out, only=lambda run: run.seed == 1, device="cpu")
    assert [row.run.arm.name for row in first] == ["fixed", "recency"]
    started = []
    second = run_suite(
        suite, out, device="cpu", on_start=lambda run, number, total: started.append(run.seed)
    )
    assert started == [2, 2]
    assert run_suite(suite, out, device="cpu") == []

    table = pd.read_csv(out)
    assert table.columns.tolist() == COLUMNS
    assert len(table) == len(first) + len(second) == 4
    assert (table.num_windows == 2785).all()
    assert np.isfinite(table.test_mse).all()
    assert (table.tokens == 2).all()
    curves = pd.read_csv(out.with_suffix(".curves.csv"))
    assert len(curves) == 4
    assert set(curves.columns) >= {"arm", "seed", "step", "validation_loss"}


def test_the_command_runs_a_suite(suite, tmp_path, ltsf_data):
    out = tmp_path / "results.csv"
    arguments = ["bench", "run", str(suite), "--out", str(out), "--seed", "1", "--arm", "fixed"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "test MSE" in result.output
    again = CliRunner().invoke(app, arguments)
    assert "Nothing to do" in again.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--arm", "fixd", r"Unknown arm 'fixd' .* Available: \['fixed', .*Did you mean 'fixed'"),
        ("--dataset", "ETTh3", r"Unknown data set 'ETTh3' .* Available: \['ETTh1'\]"),
        ("--seed", "7", r"Unknown seed 7 of the suite. Available: \[1, 2\]"),
    ],
)
def test_the_command_names_what_a_suite_does_not_have(suite, tmp_path, option, value, message):
    out = tmp_path / "results.csv"
    result = CliRunner().invoke(app, ["bench", "run", str(suite), "--out", str(out), option, value])
    assert isinstance(result.exception, InvalidParameterError)
    assert re.search(message, str(result.exception))
    assert not out.exists()


def test_the_command_verifies_the_oracle(ltsf_data):
    result = CliRunner().invoke(app, ["bench", "verify"])
    assert result.exit_code == 0, result.output
    assert "40 of 40 agree" in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patch_length: 48", "patch_len: 48", "'fixed' has a setting .*'patch_len'"),
        ("max_steps: 2", "max_step: 2", "has a setting .*'max_step'"),
        ("horizon: 96", "horizn: 96", "'horizn'.*fields of Task"),
        ("seeds: [1, 2]", "seeds: one", r"lists seeds \(integers\)"),
    ],
)
def test_mistakes_in_a_suite_are_named(tmp_path, old, new, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(TINY.replace(old, new))

    def build_all():
        return [make_forecaster(Forecaster, run) for run in read_suite(path)]

    with pytest.raises(InvalidParameterError, match=message):
        build_all()


def test_results_are_not_appended_to_another_table(suite, tmp_path, ltsf_data):
    out = tmp_path / "load.csv"
    out.write_text("date,load\n2024-01-01,3\n")
    with pytest.raises(InvalidParameterError, match="not a file of results.*Write to a new file"):
        run_suite(suite, out, device="cpu")
    assert out.read_text() == "date,load\n2024-01-01,3\n"


def test_rows_of_another_kind_are_refused_before_anything_runs(tmp_path):
    out, started = tmp_path / "results.csv", []
    out.write_text(",".join(COLUMNS) + "\n")
    with pytest.raises(InvalidParameterError, match="but the new rows have"):
        run_suite("planted", out, device="cpu", on_start=lambda *run: started.append(run))
    assert not started
