"""``adaptivepatch pretrain-patcher``: corpora are turned into the folder of a patcher."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from adaptivepatch import load_patcher
from adaptivepatch.cli import app as whole_app
from adaptivepatch.cli.pretrain import pretrain_patcher
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.errors import DatasetError, InvalidModelError, InvalidParameterError
from tests.corpora import write_corpus

pytest.importorskip("pyarrow")

QUICK = ["--cell", "32x8", "--cell", "48x8", "--steps", "4", "--validate-every", "2"]
QUICK += ["--batch-size", "4", "--set", "width=4"]


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(0)
    held = {"a": np.sin(np.arange(600) / 5), "b": rng.normal(size=500)}
    return write_corpus(tmp_path / "tiny.parquet", held)


@pytest.fixture
def run(tmp_path, corpus):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(pretrain_patcher)

    def invoke(*more, given=(corpus,), quick=QUICK):
        arguments = [*map(str, given), "--out", str(tmp_path / "out"), *quick, *more]
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


def test_a_folder_is_written_that_loads(run, tmp_path):
    result = run()
    assert result.exit_code == 0
    assert "4 steps on 1100 points of 2 series" in result.stdout
    assert result.stderr.count("held-out") == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    patcher = load_patcher(tmp_path / "out", compression_rate=6)
    assert (patcher.width, patcher.gradient.reward) == (4, "log_loss")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| tiny | 2 | 1100 | not stated | tiny.parquet |" in card
    assert "tiny.parquet --out out --set width=4 --cell 32x8 --cell 48x8 --steps 4" in card
    assert str(tmp_path) not in card


def test_json_is_one_document(run):
    document = json.loads(run("--json").stdout)
    assert (document["steps"], document["corpora"], document["points"]) == (4, ["tiny"], 1100)
    assert [row["step"] for row in document["history"]] == [2, 4]


def test_nothing_is_replaced_without_force(run, tmp_path):
    with pytest.raises(InvalidParameterError, match="Resuming needs the checkpoint"):
        run("--resume")
    run()
    with pytest.raises(InvalidParameterError, match="replaced only with --force"):
        run()
    assert run("--force").exit_code == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameterError, match="is a file"):
        run("--out", str(tmp_path / "file"))


def test_an_interrupted_run_is_resumed(run, tmp_path, monkeypatch):
    from adaptivepatch.pretraining import pretrain as pretraining

    run("--out", str(tmp_path / "whole"))
    once = pretraining.PretrainingLoop.next_step

    def interrupted(self, done):
        if done == 3:
            raise KeyboardInterrupt
        return once(self, done)

    monkeypatch.setattr(pretraining.PretrainingLoop, "next_step", interrupted)
    result = run()
    assert result.exit_code == 130
    assert "run the same command with --resume" in result.stderr
    assert (tmp_path / "out" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    with pytest.raises(InvalidParameterError, match="Pass --resume"):
        run()
    with pytest.raises(InvalidModelError, match="different data or settings"):
        run("--resume", "--seed", "1")
    assert run("--resume").exit_code == 0
    weights = [(tmp_path / f / "model.safetensors").read_bytes() for f in ("whole", "out")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "out" / "checkpoint.safetensors").exists()


def test_cells_that_need_longer_series_are_omitted_and_named(run, tmp_path):
    result = run(quick=["--steps", "1", "--batch-size", "2", "--set", "width=4"])
    assert "no series is long enough for 336x16" in result.stderr
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "points per patch): 96x8, 96x16, 192x8, 192x32." in card


def test_mistakes_are_reported_before_training(run, tmp_path):
    with pytest.raises(InvalidParameterError, match="such as 336x16"):
        run("--cell", "32")
    with pytest.raises(InvalidParameterError, match="no parameter 'widht'.*mean 'width'"):
        run("--set", "widht=4")
    with pytest.raises(InvalidParameterError, match="Use ReinPatcher"):
        run("--patcher", "random", quick=QUICK[:-2])
    with pytest.raises(DatasetError, match="Unknown corpus 'clasics'"):
        run(given=["clasics"])
    short = write_corpus(tmp_path / "short.parquet", {"a": np.arange(50.0) ** 2})
    for quick in ([], ["--cell", "48x8"]):
        with pytest.raises(
            DatasetError, match=r"needs a series of about .* The longest series has 50"
        ):
            run(given=[short], quick=quick)


def test_a_corpus_that_holds_a_benchmark_series_is_refused(run, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    known = {"ETTh1/OT": rng.normal(size=3000).cumsum()}
    monkeypatch.setattr("adaptivepatch.datasets.overlap.benchmark_series", lambda: known)
    copy = write_corpus(tmp_path / "copy.parquet", {"a": 3 - 2 * known["ETTh1/OT"][500:1500:2]})
    with pytest.raises(InvalidParameterError, match=r"copy/a from \d+ is ETTh1/OT from \d+"):
        run("--check-overlap", given=[copy])
    assert run("--check-overlap").exit_code == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "found no series of ETTh1 in the training data" in card


def test_etth1_is_refused(run, tmp_path, ltsf_data):
    values = load_dataset("ETTh1")["OT"].to_numpy()[:4000]
    copy = write_corpus(tmp_path / "copy.parquet", {"a": values})
    with pytest.raises(InvalidParameterError, match=r"copy/a from \d+ is ETT[hm]1/OT from \d+"):
        run("--check-overlap", given=[copy])


def test_the_command_is_listed():
    shown = CliRunner().invoke(whole_app, ["--help"]).stdout
    assert "pretrain-patcher" in shown
