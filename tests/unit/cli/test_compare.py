"""``adaptivepatch compare``: a file is turned into a table, a verdict and a folder."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from adaptivepatch import InvalidFrameError, InvalidParameterError
from adaptivepatch.cli.compare import compare

QUICK = ["--horizon", "4", "--context-length", "16", "--seeds", "1", "--max-steps", "2"]


@pytest.fixture
def run(tmp_path):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare)
    step = np.arange(220)
    stamps = pd.date_range("2024-01-01", periods=220, freq="h")
    values = np.sin(step / 3) + 0.1 * np.random.default_rng(0).normal(size=220)
    pd.DataFrame({"date": stamps, "load": values}).to_csv(tmp_path / "my.csv", index=False)

    def invoke(*options):
        arguments = [str(tmp_path / "my.csv"), *QUICK, *options]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


def test_prints_table_controls_and_verdict(run, tmp_path):
    result = run("--out", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert "fixed 8" in result.stdout
    assert "learned patchers: run: reinpatch 8" in result.stdout
    assert "the same patcher without learning: run: frozen 8, even_chunks 8" in result.stdout
    assert "week before" in result.stdout
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("Not shown: an answer needs 5 trainings of every model (seeds)")
    assert "[1/16] fixed 4, seed 0: fitted" in result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"table.csv", "runs.csv", "verdict.json", "comparison.png"}


def test_json_is_one_document(run):
    document = json.loads(run("--json", "--metric", "MAE", "--patcher", "recency").stdout)
    assert document["settings"]["metric"] == "MAE"
    assert [row["arm"] for row in document["table"]] == [
        *("fixed 4", "fixed 8", "recency 8", "random 8"),
        *("last value", "day before", "week before"),
    ]
    assert document["answer"] == "not shown"
    assert document["table"][0]["low"] is None


def test_a_thorough_comparison_tries_more_patch_lengths(run):
    options = ["--json", "--patcher", "recency", "--context-length", "48"]
    short, thorough = (json.loads(run(*options, *more).stdout) for more in ([], ["--thorough"]))
    names = [
        [row["arm"] for row in found["table"] if row["role"] == "challenger"]
        for found in (short, thorough)
    ]
    assert names == [["recency 24"], ["recency 16", "recency 24"]]
    assert [found["settings"]["effort"] for found in (short, thorough)] == ["default", "thorough"]


def test_challengers_are_named(run):
    with pytest.raises(InvalidParameterError, match=r"Unknown patcher 'recenty'"):
        run("--patcher", "recenty")


def test_a_pretrained_patcher_is_a_challenger(run):
    document = json.loads(run("--json", "--patcher", "reinpatch-small").stdout)
    roles = {row["arm"]: row["role"] for row in document["table"]}
    assert roles["reinpatch-small 8"] == "challenger"


def test_a_class_of_the_user_is_a_challenger(run, tmp_path, monkeypatch):
    (tmp_path / "mine_of_compare.py").write_text(
        "from adaptivepatch.patchers import DeviationPatcher\n"
        "class Mine(DeviationPatcher):\n"
        "    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("--patcher", "mine_of_compare:Mine")
    assert result.exit_code == 0
    assert "mine 8" in result.stdout


def test_existing_results_are_refused_before_any_fit(run, tmp_path):
    (tmp_path / "table.csv").touch()
    with pytest.raises(InvalidParameterError, match=r"replaced only with overwrite=True"):
        run("--out", str(tmp_path))


def test_absent_columns_are_named(run):
    with pytest.raises(InvalidFrameError, match=r"must have the column 'laod'"):
        run("--target", "laod")


def test_the_step_of_integer_stamps_is_an_integer(run, tmp_path):
    frame = pd.read_csv(tmp_path / "my.csv").rename_axis("time").drop(columns="date")
    frame.to_csv(tmp_path / "my.csv")
    assert run("--freq", "1", "--patcher", "recency").exit_code == 0
