"""Files that replace others together, leftovers of killed processes, paths, and unpacking."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaptivepatch import Forecaster, ReinPatcher, files, load_dataset, load_patcher, model_folder
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.cli import main
from adaptivepatch.comparison.result import check_folder
from adaptivepatch.errors import (
    AdaptivePatchError,
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    OutputError,
    shortened,
)
from adaptivepatch.registry import PATCHERS
from tests.bad_inputs.helpers import tiny, wide

OPTIONS = ["--horizon=4", "--context-length=12", "--max-steps=1", "--device=cpu", "--threads=1"]


def write(text):
    return lambda target: target.write_text(text)


# ------------------------------------------------------------------------------- replacing


def test_files_are_replaced_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")

    def fail(target):
        target.write_text("new")
        raise OSError(28, "No space left on device")

    def write_both(write_second):
        with files.Replacement() as replacement:
            replacement.write(first, write("new"))
            replacement.write(second, write_second)

    with pytest.raises(OutputError, match="No space left"):
        write_both(fail)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}
    with files.Replacement() as replacement:
        temporary = replacement.write(first, write("new"))
        replacement.write(second, write("new"))
        assert (temporary.read_text(), first.read_text()) == ("new", "old")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new"}


def killed_write(folder):
    """Leave the temporary file of a process that was killed; return its name."""
    code = (
        "import os, signal, sys; from pathlib import Path; from adaptivepatch import files\n"
        "files.write_atomic(Path(sys.argv[1]) / 'a.txt', lambda _: os.kill(os.getpid(), 9))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    (left,) = (path for path in folder.iterdir() if path.name.startswith(".a.txt."))
    return left


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_leftovers_of_killed_processes_are_removed(tmp_path):
    left = killed_write(tmp_path)
    files.write_atomic(tmp_path / "b.txt", write("b"))
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    machine, pid, start, digits = left.name.removeprefix(".a.txt.").split("-")
    own = f"{machine}-{os.getpid()}-{files._start_of(os.getpid()) or 0}-{digits}"
    kept = {
        f".a.txt.{own}",  # of a process that runs
        f".a.txt.00000000-{pid}-{start}-{digits}",  # of another machine
        ".a.txt.swp",  # of an editor
        f"a.txt.{machine}-{pid}-{start}-{digits}",
    }
    for name in kept:
        (tmp_path / name).touch()
    files.write_atomic(tmp_path / "b.txt", write("b"))
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "b.txt"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_with_the_number_of_a_dead_one_does_not_keep_its_files(tmp_path):
    machine, digits = files._machine(), "abcd1234"
    earlier = tmp_path / f".a.{machine}-{os.getpid()}-1-{digits}"
    earlier.touch()
    files.write_atomic(tmp_path / "b", write("b"))
    assert not earlier.exists()


# ------------------------------------------------------------------------------- paths


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_every_path_may_begin_with_the_home_folder(home):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    model = tiny().fit(wide())
    model.save("~/model")
    assert Forecaster.load("~/model").predict().equals(model.predict())
    assert Forecaster.load(Path("~/model")).predict().equals(model.predict())
    with pytest.raises(Stop):
        tiny().fit(wide(), init="~/model", checkpoint="~/run", callback=stop)
    tiny().fit(wide(), init="~/model", resume="~/run")
    ReinPatcher(4).save_pretrained("~/patcher")
    assert isinstance(load_patcher("~/patcher"), ReinPatcher)
    assert isinstance(ReinPatcher.from_pretrained("~/patcher"), ReinPatcher)
    tiny(patcher="~/patcher").make_network()
    with pytest.raises(AdaptivePatchError, match=r"home/data.*is not a folder"):
        load_dataset("ETTh1", folder="~/data")
    assert {path.name for path in home.parent.iterdir()} == {"home"}
    assert {path.name for path in home.iterdir()} == {"model", "run", "patcher"}


def test_options_may_begin_with_the_home_folder(home, capsys):
    wide(40).rename_axis("date").to_csv(home / "load.csv")
    with pytest.raises(SystemExit, match="^0$"):
        main(["fit", "~/load.csv", *OPTIONS, "--model=~/out"])
    with pytest.raises(SystemExit, match="^0$"):
        main(["predict", "~/out", "~/load.csv", "--out=~/forecast.csv"])
    assert {path.name for path in home.iterdir()} == {"load.csv", "out", "forecast.csv"}
    capsys.readouterr()
    with pytest.raises(SystemExit, match="^2$"):
        main(["predict", "~nobody-of-this-name/out"])
    assert "pass './~nobody-of-this-name/out'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Forecaster.load(5), "path"),
        (lambda: tiny().fit(wide(), checkpoint=5), "checkpoint"),
        (lambda: tiny().fit(wide(), resume=b"run"), "resume"),
        (lambda: load_patcher(None), "path"),
        (lambda: load_dataset("ETTh1", folder=5), "folder"),
    ],
)
def test_a_wrong_type_of_path_names_the_argument(call, name):
    with pytest.raises(TypeError, match=f"^The '{name}' argument must be a str or Path. Got "):
        call()


def test_an_unknown_home_folder_is_refused():
    with pytest.raises(InvalidParameterError, match=r"^The home folder that '~"):
        files.as_path("~nobody-of-this-name/x")


# ------------------------------------------------------------------------------- unpacking


@pytest.mark.parametrize(("kind", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_unpacking_is_bounded(kind, pack, monkeypatch):
    monkeypatch.setattr(files, "_LEAST_UNPACKED", 1 << 20)
    assert files.unpack(pack(b"abc" * 1000), kind) == b"abc" * 1000
    with pytest.raises(files.PackedTooLargeError, match="it unpacks to more than 1 MiB from"):
        files.unpack(pack(bytes(1 << 21)), kind)
    with pytest.raises(ValueError, match="."):
        files.unpack(pack(b"abc" * 1000)[:-9], kind)


def test_a_table_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    from adaptivepatch.cli.tables import Columns, read_table

    monkeypatch.setattr(files, "_LEAST_UNPACKED", 1 << 20)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(bytes(1 << 21)))
    with pytest.raises(InvalidFrameError, match=r"If this is right, unpack it and name the"):
        read_table(tmp_path / "a.csv.gz", Columns())


def test_a_data_set_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LEAST_UNPACKED", 1 << 20)
    (tmp_path / "ili.csv.xz").write_bytes(lzma.compress(bytes(1 << 21)))
    with pytest.raises(AdaptivePatchError, match=r"because it unpacks to more than 1 MiB"):
        load_dataset("ili", tmp_path)


# ------------------------------------------------------------------------------- folders


def test_a_config_states_the_digest_of_the_weights(tmp_path):
    folder = tiny().fit(wide()).save(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    assert config["weights_sha256"] == files.digest_of(folder / "model.safetensors")


def test_a_folder_of_two_saves_is_refused(tmp_path):
    for name, width in (("one", 8), ("other", 8)):
        torch.manual_seed(len(name))
        ReinPatcher(4, width=width).save_pretrained(tmp_path / name)
    other = (tmp_path / "other" / "model.safetensors").read_bytes()
    (tmp_path / "one" / "model.safetensors").write_bytes(other)
    with pytest.raises(InvalidModelError, match=r"not have the digest.*or copy the whole folder"):
        load_patcher(tmp_path / "one")


def test_a_full_disk_keeps_all_files_of_a_model(tmp_path, monkeypatch):
    folder = tiny().fit(wide()).save(tmp_path / "m")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    fsync, calls = os.fsync, []

    def full_at_the_config(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", full_at_the_config)
    with pytest.raises(OutputError, match=r"config\.json' cannot be written: No space left"):
        tiny(random_state=1).fit(wide()).save(folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_card_must_be_text(tmp_path):
    ReinPatcher(4).save_pretrained(tmp_path)
    (tmp_path / "README.md").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(InvalidModelError, match=r"^The model card .* as UTF-8 text .*delete it"):
        load_patcher(tmp_path)


def test_damaged_notes_of_a_fit_are_refused(tmp_path, capsys):
    wide(40).rename_axis("date").to_csv(tmp_path / "load.csv")
    load, out = str(tmp_path / "load.csv"), str(tmp_path / "out")
    with pytest.raises(SystemExit, match="^0$"):
        main(["fit", load, *OPTIONS, "--model", out])
    (tmp_path / "out" / "cli.json").write_text("[")
    with pytest.raises(SystemExit, match="^2$"):
        main(["predict", out, load])
    assert "cli.json' is not the JSON that fit wrote" in capsys.readouterr().err
    (tmp_path / "out" / "cli.json").unlink()
    with pytest.raises(SystemExit, match="^0$"):
        main(["predict", out, load])


# ------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", list(PATCHERS))
def test_networks_are_built_far_within_the_bounds(name):
    """A valid model must never be refused: it needs less than a tenth of what is allowed."""
    patcher = PATCHERS[name]()
    backbone = TransformerBackbone(causal=patcher.needs_causal_backbone)
    model = tiny(context_length=96, patcher=patcher, backbone=backbone)
    weights = model.make_network().state_dict()
    with model_folder.WithinWeights(weights, "m") as within:
        calls, values = within.calls_left, within.values_left
        model.make_network()
    assert calls - within.calls_left < 0.1 * 32 * len(weights)
    assert values - within.values_left < 0.1 * 32 * sum(w.numel() for w in weights.values())


@pytest.mark.parametrize("create", [torch.zeros, torch.empty, torch.ones, torch.randn])
def test_much_larger_networks_are_not_allocated(create):
    with (
        model_folder.WithinWeights({"a": torch.ones(3)}, "m"),
        pytest.raises(InvalidModelError, match="which describes a much larger network"),
    ):
        create(2**40)


def test_messages_quote_values_up_to_a_length(tmp_path):
    assert shortened("x" * 500) == "x" * 500
    assert shortened("x" * 10**7) == "x" * 500 + "... (10000000 characters)"
    with pytest.raises(AdaptivePatchError) as caught:
        tiny(horizon="x" * 10**7).fit(wide())
    assert len(str(caught.value)) < 1000
    with pytest.raises(AdaptivePatchError) as caught:
        load_patcher("x" * 10**7)
    assert len(str(caught.value)) < 1000


def test_the_folder_of_a_comparison_may_be_in_the_home_folder(home):
    (home / "comparison").mkdir()
    check_folder(files.as_path("~/comparison", "folder"), overwrite=False)
