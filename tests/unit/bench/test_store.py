"""Results of runs appear at once, once each, and survive kills, full disks and damage."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from adaptivepatch import InvalidParameterError
from adaptivepatch.bench import claims
from adaptivepatch.bench.claims import claim_file, wait_for_file
from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.results import append_rows, windows_path
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.store import Store, _digest
from adaptivepatch.bench.task import read_suite
from adaptivepatch.cli import app
from adaptivepatch.errors import AdaptivePatchError, OutputError, OutputExistsError
from tests.unit.bench.store_worker import (
    SUITE,
    TIMES,
    bench_run,
    die_at,
    do_all,
    measure,
    process,
    run_together,
)

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def suite_of(folder: Path, num_seeds: int) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SUITE.replace("SEEDS", str(list(range(1, num_seeds + 1)))))
    return path


@pytest.fixture
def suite(tmp_path):
    return suite_of(tmp_path, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "mine" / "results.csv")


@pytest.fixture
def done(store, suite):
    """A store with the results of the whole suite."""
    do_all(suite, store.results)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def units(store: Store) -> list[Path]:
    return sorted(store.folder.glob("*.json"))


# ---------------------------------------------------------------------------------------- tables


def test_tables_hold_each_result_and_nothing_else_is_left(done, suite):
    runs = read_suite(suite)
    table = pd.read_csv(done.results, float_precision="round_trip")
    assert table.columns.tolist() == list(find_protocol("planted").columns)
    assert list(zip(table.seed, table.arm, strict=True)) == [
        (run.seed, run.arm.name) for run in runs
    ]
    assert table.test_mse.tolist() == [float(measure(run).row.measures["test_mse"]) for run in runs]
    assert (table.commit == "é").all()
    curves = pd.read_csv(done.curves)
    assert curves.step.tolist() == 4 * [1, 2]
    assert curves.validation_loss.isna().all()
    for run in runs:
        found = np.load(windows_path(done.results, run.identity))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, measure(run).window_mse.astype(np.float32))
    assert done.finished() == {run.key for run in runs}
    assert len(units(done)) == len(list(done.folder.iterdir())) == 4
    assert len(contents(done.results.parent)) == 4 + 4 + 2


def test_tables_do_not_depend_on_the_order_of_runs(done, suite, tmp_path):
    other = Store(tmp_path / "other" / "results.csv")
    for run in reversed(read_suite(suite)):
        other.put(measure(run))
    other.tables()
    assert contents(other.results.parent) == contents(done.results.parent)


def test_tables_are_made_again_from_the_results(done):
    before = contents(done.results.parent)
    for path in (done.results, done.curves, *done.results.parent.glob("results.windows/*")):
        path.unlink()
    done.tables()
    assert contents(done.results.parent) == before


def test_tables_that_are_up_to_date_are_not_written(done):
    times = {path: path.stat().st_mtime_ns for path in done.results.parent.rglob("*.*")}
    done.tables()
    assert {path: path.stat().st_mtime_ns for path in times if path != done.folder} == {
        path: found for path, found in times.items() if path != done.folder
    }


def test_results_of_runs_can_have_any_name(store):
    suite = store.results.parent.parent / "a b.yaml"
    suite.write_text(SUITE.replace("SEEDS", "[1]").replace("oracle:", "'Ünï/x, \"y\"':"))
    do_all(suite, store.results)
    assert store.finished() == {run.key for run in read_suite(suite)}
    assert all(re.fullmatch(r"[\w-]+\.json", path.name, re.ASCII) for path in units(store))
    before = store.results.read_bytes()
    store.tables()
    assert store.results.read_bytes() == before


def test_two_files_of_results_have_two_stores(tmp_path):
    names = ("a.csv", "a.v1", "a.v2", "b")
    assert len({Store(tmp_path / name).folder for name in names}) == 4
    assert Store(tmp_path / "a.v1.csv").folder.name == "a.v1.results"


# ---------------------------------------------------------------------------------------- claims


def test_a_claimed_run_is_skipped_and_a_finished_one_too(store, suite):
    first, second, *_ = read_suite(suite)
    claim = store.claim(first)
    assert Store(store.results).claim(first) is None
    with Store(store.results).claim(second):
        pass
    assert [path.suffix for path in store.folder.iterdir()] == [".claim"]
    store.put(measure(first))
    claim.release()
    assert store.claim(first) is None
    assert list(store.folder.iterdir()) == units(store)
    with pytest.raises(OutputExistsError, match="already holds the result of the run"):
        store.put(measure(first))


def hold(path, ready):
    assert claim_file(Path(path)) is not None
    ready.set()
    time.sleep(600)


@pytest.fixture(params=["flock", "exclusive creation"])
def locks(request, monkeypatch):
    if request.param == "flock":
        pytest.importorskip("fcntl")
    else:
        monkeypatch.setattr(claims, "fcntl", None)


def test_a_claim_is_exclusive_until_it_is_released(locks, tmp_path):
    path = tmp_path / "x.claim"
    claim = claim_file(path)
    assert claim_file(path) is None
    claim.release()
    assert not path.exists()
    with wait_for_file(path):
        assert claim_file(path) is None
    assert not path.exists()


def test_a_file_that_nobody_holds_can_be_claimed(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "x.claim"
    path.touch()
    with claim_file(path):
        assert claim_file(path) is None


def test_a_claim_of_a_file_that_was_removed_meanwhile_does_not_count(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path, flock = tmp_path / "x.claim", fcntl.flock

    def late(handle, kind):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()  # the holder releases between the opening and the lock
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with claim_file(path):
        assert path.exists()
        assert claim_file(path) is None


def test_a_claim_ends_with_its_process(tmp_path):
    pytest.importorskip("fcntl")
    path, ready = tmp_path / "x.claim", multiprocessing.get_context("forkserver").Event()
    holder = process(hold, path, ready)
    assert ready.wait(60)
    assert claim_file(path) is None
    holder.kill()
    holder.join()
    assert path.exists()
    with claim_file(path):
        pass
    assert not path.exists()


def test_without_locks_a_claim_of_a_dead_process_of_this_host_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "fcntl", None)
    path = tmp_path / "x.claim"
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()
    host = claims.socket.gethostname()
    for held in (f"{dead} elsewhere", f"{os.getppid()} {host}", ""):
        path.write_text(held)
        assert claim_file(path) is None
        assert path.read_text() == held
    path.write_text(f"{dead} {host}")
    with claim_file(path):
        assert path.read_text() == f"{os.getpid()} {host}"
    assert list(tmp_path.iterdir()) == []


def test_tables_are_written_by_one_process_at_a_time(done, monkeypatch):
    done.results.unlink()
    claim, waits = claim_file(done.folder / "tables.claim"), []

    def wait(seconds):
        waits.append(done.results.exists())
        claim.release()

    monkeypatch.setattr(claims.time, "sleep", wait)
    done.tables()
    assert waits == [False]
    assert done.results.exists()
    assert sorted(done.folder.iterdir()) == units(done)


def test_claims_need_a_folder_that_can_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"x\.claim' cannot be claimed: No such file"):
        claim_file(tmp_path / "none" / "x.claim")


def test_two_runners_share_a_suite(tmp_path):
    suite, out, log = suite_of(tmp_path, 3), tmp_path / "results.csv", tmp_path / "log"
    barrier = multiprocessing.get_context("forkserver").Barrier(2)
    runners = [process(run_together, suite, out, log, barrier) for _ in range(2)]
    for runner in runners:
        runner.join()
    assert [runner.exitcode for runner in runners] == [0, 0]
    started = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    assert {pid for pid, _ in started} == {str(runner.pid) for runner in runners}
    wanted = [(run.seed, run.arm.name) for run in read_suite(suite)]
    assert sorted(run for _, run in started) == sorted(f"{arm} {seed}" for seed, arm in wanted)
    table = pd.read_csv(out)
    assert list(zip(table.seed, table.arm, strict=True)) == wanted
    assert len(pd.read_csv(tmp_path / "results.curves.csv")) == 12
    store = Store(out)
    assert sorted(store.folder.iterdir()) == units(store)
    assert len(list(store.folder.iterdir())) == 6


def test_the_command_says_how_many_runs_other_processes_do(suite, store, monkeypatch):
    monkeypatch.setattr("adaptivepatch.bench.planted_fit.NUM_TEST", 60)
    command = ["bench", "run", str(suite), "--out", str(store.results), "--seed", "1"]
    with store.claim(read_suite(suite)[0]):
        output = CliRunner().invoke(app, command).output
    assert "[2/2] planted_b-24 L=192 random" in output
    assert "[1/2]" not in output
    assert "Chosen runs left to other processes: 1 (claims" in output
    assert len(pd.read_csv(store.results)) == 1


# ----------------------------------------------------------------------------------------- kills


def results_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of both tables, without times and provenance."""
    found = {}
    for name, times in (("results.csv", TIMES), ("results.curves.csv", ["seconds"])):
        table = pd.read_csv(folder / name, dtype=str).drop(columns=times)
        found[name] = table.to_dict("records")
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    suite, out = suite_of(folder, 2), folder / "results.csv"
    process(os.getpid).join()  # waits for the imports
    started = time.monotonic()
    runner = process(bench_run, suite, out)
    runner.join()
    assert runner.exitcode == 0
    return folder, time.monotonic() - started


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(more, marks=pytest.mark.slow) for more in range(1, 6))]
)
def test_six_kills_at_random_moments_lose_and_double_nothing(number, uninterrupted, tmp_path):
    folder, seconds = uninterrupted
    suite, out = suite_of(tmp_path, 2), tmp_path / "results.csv"
    moments, kept = random.Random(number), 0
    for _ in range(6):
        runner = process(bench_run, suite, out)
        runner.join(moments.uniform(0, seconds / 2))
        runner.kill()
        runner.join()
        kept, before = len(units(Store(out))), kept
        assert kept >= before
    runner = process(bench_run, suite, out)
    runner.join()
    assert runner.exitcode == 0
    assert results_of(tmp_path) == results_of(folder)
    assert {*contents(tmp_path)} == {*contents(folder)}


@pytest.mark.slow
def test_the_command_is_killed_and_repeated(tmp_path):
    suite, out = suite_of(tmp_path, 2), tmp_path / "results.csv"
    command = [sys.executable, "-c", "from adaptivepatch.cli import main; main()"]
    command += ["bench", "run", str(suite), "--out", str(out)]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in runner.stdout:
        if line.startswith("[2/4]"):
            runner.send_signal(signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[3/3]" in again.stdout
    table = pd.read_csv(out)
    assert table[["seed", "arm"]].to_numpy().tolist() == [
        [run.seed, run.arm.name] for run in read_suite(suite)
    ]


def assert_rows_are_whole(store):
    """A run with a row has its curve and its window errors, at any moment."""
    if store.results.exists():
        curves = pd.read_csv(store.curves).groupby(["arm", "seed"]).size()
        for row in pd.read_csv(store.results).to_dict("records"):
            assert curves[row["arm"], row["seed"]] == 2
            assert len(np.load(windows_path(store.results, row))) == 5


@pytest.mark.parametrize("num_runs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_kill_before_any_operation_on_a_file_loses_and_doubles_nothing(num_runs, tmp_path):
    """Every operation of a run and of its tables is one moment; all are tried."""
    suite = suite_of(tmp_path, num_runs)
    suite.write_text(suite.read_text().replace("  random", "  # random"))
    do_all(suite, tmp_path / "whole" / "results.csv")
    wanted = contents(tmp_path / "whole")
    for number in range(1, 500):
        out = tmp_path / f"killed_{number}" / "results.csv"
        out.parent.mkdir()
        runner = process(die_at, number, suite, out)
        runner.join()
        assert_rows_are_whole(Store(out))
        do_all(suite, out)
        assert contents(out.parent) == wanted, number
        if runner.exitcode == 0:
            break
        assert runner.exitcode == -signal.SIGKILL
    assert number > 25 * num_runs


# ------------------------------------------------------------------------------ full disk, damage


def test_a_full_disk_loses_only_the_current_result(store, suite, monkeypatch):
    runs = read_suite(suite)
    quick = replace(find_protocol("planted"), measure=lambda run, **_: measure(run))
    monkeypatch.setattr("adaptivepatch.bench.runner.find_protocol", lambda _: quick)
    write_bytes = Path.write_bytes

    def full(path, content):
        if runs[2].arm.name in path.name and "-2-" in path.name:
            write_bytes(path, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left on device"):
            run_suite(suite, store.results)
    assert store.finished() == {run.key for run in runs[:2]}
    assert len(pd.read_csv(store.results)) == 2
    assert sorted(store.folder.iterdir()) == units(store)
    assert [row.run for row in run_suite(suite, store.results)] == runs[2:]
    assert len(pd.read_csv(store.results)) == 4
    assert len(list(store.folder.iterdir())) == 4


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def edit(path):
    path.write_text(path.read_text().replace('"arm": "', '"arm": "x'))


def rename(path):
    path.rename(path.with_name("copy.json"))
    return path.with_name("copy.json")


def of_a_later_version(path):
    found = json.loads(path.read_text())
    found["result"]["format"] = 2
    found["sha256"] = _digest(found["result"])
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "Unterminated string|Expecting"),
        (edit, "its checksum differs"),
        (rename, "its name does not belong to its run"),
        (of_a_later_version, "it has format 2, but this version reads 1"),
        (lambda path: path.write_bytes(b""), "Expecting value"),
        (lambda path: path.write_bytes(b"[]"), "indices must be"),
        (lambda path: path.write_bytes(b"\xff{}"), "decode"),
    ],
)
def test_a_damaged_result_is_named_and_the_others_stay(store, suite, damage, reason):
    runs = read_suite(suite)
    for run in runs:
        store.put(measure(run))
    path = units(store)[0]
    if damage is rename:
        path = rename(path)
    else:
        damage(path)
    found = store.finished()
    assert len(found) == 3
    with pytest.raises(AdaptivePatchError) as caught:
        store.tables()
    assert re.search(rf"'{re.escape(str(path))}' \(.*({reason}).*\)\. Delete", str(caught.value))
    table = pd.read_csv(store.results, dtype=str)
    assert {tuple(row) for row in table[["arm", "seed"]].to_numpy()} == {
        (key[2], key[4]) for key in found
    }
    with pytest.raises(AdaptivePatchError, match="cannot be read: "):  # before anything is trained
        run_suite(suite, store.results, on_start=lambda *_: pytest.fail("a run was started"))
    path.unlink()
    do_all(suite, store.results)
    assert store.finished() == {run.key for run in runs}


def test_the_row_of_a_result_that_was_damaged_later_stays(done):
    before = contents(done.results.parent)
    path = units(done)[1]
    cut(path)
    with pytest.raises(AdaptivePatchError, match=re.escape(path.name)):
        done.tables()
    assert len(pd.read_csv(done.results)) == len(done.finished()) == 4
    path.unlink()
    done.tables()
    after = contents(done.results.parent)
    for name in ("results.csv", "results.curves.csv"):
        assert sorted(after[name].splitlines()) == sorted(before[name].splitlines())


# ------------------------------------------------------------------------- results without a store


@pytest.fixture
def old(done):
    """Results of an earlier version: tables without files of results; seed 1 only."""
    for path in units(done):
        path.unlink()
    done.folder.rmdir()
    for path, count in ((done.results, 3), (done.curves, 5)):
        lines = path.read_bytes().splitlines(keepends=True)[:count]
        path.write_bytes(b"".join(lines).replace("é".encode(), b"\xff, odd"[:1]))
    for path in done.results.parent.glob("results.windows/*-2.npy"):
        path.unlink()
    return done


def test_old_results_are_finished_and_stay_byte_for_byte(old, suite):
    before = contents(old.results.parent)
    runs = read_suite(suite)
    assert old.finished() == {run.key for run in runs[:2]}
    old.tables()
    assert contents(old.results.parent) == before
    assert old.claim(runs[0]) is None
    do_all(suite, old.results)
    after = contents(old.results.parent)
    assert len(units(old)) == 2
    for name, content in before.items():
        assert after[name].startswith(content)
    assert after["results.csv"].count(b"\n") == 5
    assert after["results.curves.csv"].count(b"\n") == 9


def torn(lines):
    return [*lines[:2], lines[2][:-40]], 3


def without_line_break(lines):
    return [*lines[:2], lines[2][:-1]], 3


def torn_before_a_later_row(lines):
    return [lines[0], lines[1][:90] + lines[2]], 2


COMMITTED = sorted(RESULTS.glob("*.curves.csv"))


@pytest.mark.parametrize("curves", COMMITTED, ids=lambda path: path.name.split(".")[0])
def test_committed_results_are_finished_and_stay_byte_for_byte(curves, tmp_path, suite):
    original = Store(curves.with_name(curves.name.replace(".curves", "")))
    assert len(original.finished()) == len(pd.read_csv(original.results)) > 0
    copy = Store(tmp_path / original.results.name)
    shutil.copy(original.results, copy.results)
    shutil.copy(original.curves, copy.curves)
    before = contents(tmp_path)
    copy.tables()
    assert contents(tmp_path) == before
    if original.results.name == "planted.csv":  # rows of the same columns
        do_all(suite, copy.results)
        for path in (copy.results, copy.curves):
            assert path.read_bytes().startswith(before[path.name])
        assert copy.finished() == original.finished() | {run.key for run in read_suite(suite)}


@pytest.mark.parametrize("damage", [torn, without_line_break, torn_before_a_later_row])
def test_a_torn_line_is_named_with_its_number(old, suite, damage):
    lines, number = damage(old.results.read_bytes().splitlines(keepends=True))
    old.results.write_bytes(b"".join(lines))
    before = contents(old.results.parent)
    message = rf"Line {number} of .*results\.csv' is incomplete.*Delete all lines of this"
    for use in (
        lambda: run_suite(suite, old.results, on_start=lambda *_: pytest.fail("started")),
        old.finished,
        lambda: append_rows(old.results, [dict.fromkeys(find_protocol("planted").columns, 1)]),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            use()
    assert contents(old.results.parent) == before
    old.results.write_bytes(b"".join(lines[: number - 1]))
    assert len(old.finished()) == number - 2


def test_a_torn_curve_is_named_before_anything_is_trained(old, suite):
    old.curves.write_bytes(old.curves.read_bytes()[:-4])
    with pytest.raises(InvalidParameterError, match=r"Line 5 of .*curves\.csv' is incomplete"):
        run_suite(suite, old.results, on_start=lambda *_: pytest.fail("started"))


def test_an_empty_table_holds_no_runs(old, suite):
    old.results.write_bytes(b"")
    old.curves.write_bytes(b"")
    do_all(suite, old.results)
    assert len(pd.read_csv(old.results)) == 4


def test_protocols_of_one_file_have_the_same_columns(tmp_path):
    path = tmp_path / "mixed.yaml"
    task = "  - {dataset: planted_b, horizon: 24, context_length: 192, protocol: "
    text = SUITE.replace("SEEDS", "[1]")
    path.write_text(text.replace(f"{task}planted}}", f"{task}planted}}\n{task}family_planted}}"))
    with pytest.raises(InvalidParameterError, match=r"\['family_planted', 'planted'\]\. Choose"):
        run_suite(path, tmp_path / "results.csv")
    assert not (tmp_path / "results.csv").exists()
