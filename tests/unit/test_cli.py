"""The command line reports mistakes in one line, without a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import warnings

import pytest

from adaptivepatch import cli
from adaptivepatch.cli import main
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

COMMANDS = [
    *(["fit"], ["predict"], ["evaluate"], ["segment"], ["compare"], ["demo"]),
    *(["datasets"], ["datasets", "list"], ["datasets", "path"], ["datasets", "fetch"]),
    *(["bench"], ["bench", "run"], ["bench", "verify"]),
]


@pytest.fixture
def call(capsys):
    """Run a command in this process; return exit status, output and error stream."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return end.value.code, out, err

    return run


@pytest.fixture
def raising(monkeypatch):
    """Let `datasets list` raise an error."""

    def install(error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("adaptivepatch.datasets.sources.dataset_table", fail)

    return install


@pytest.mark.parametrize("command", [[], *COMMANDS])
def test_every_command_explains_itself(call, command):
    status, out, err = call(*command, "--help")
    assert (status, err) == (0, "")
    assert "Usage" in out


@pytest.mark.parametrize("command", ["fit", "predict", "evaluate", "segment", "demo"])
def test_help_has_an_example_and_fits_on_a_screen(call, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = call(command, "--help")[1]
    assert f" adaptivepatch {command} " in out.split("Example")[1]
    assert max(map(len, out.splitlines())) <= 80


def test_without_a_command_help_is_shown_with_exit_status_2(call):
    status, out, _ = call()
    assert status == 2
    assert "Commands" in out


def test_version(call):
    assert call("--version")[:2] == (0, f"adaptivepatch {cli.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fot"], "No such command 'fot'"),
        (["fit", "x.csv", "--model", "m"], "Missing option '--horizon'. See: adaptivepatch fit"),
        (["fit", "x.csv", "--horizn", "3"], "No such option: --horizn"),
        (["fit", "x.csv", "--horizon", "many", "--model", "m"], "Invalid value for '--horizon'"),
        (["evaluate", "m", "x.csv", "--by", "day"], "Invalid value for '--by'"),
        (["datasets", "path", "ETTh11"], "Did you mean 'ETTh1'?"),
        (["bench", "run", "recencies", "--out", "x.csv"], "Unknown suite 'recencies'."),
    ],
)
def test_wrong_use_is_one_line_with_exit_status_2(call, arguments, message):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("adaptivepatch: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InvalidFrameError("Bad\nframe."), 2, "adaptivepatch: Bad frame."),
        (OSError(28, "No space left on device", "x"), 2, "No space left on device: 'x'."),
        (MemoryError(), 2, "There is not enough memory (MemoryError)."),
        (OSError(12, "Cannot allocate memory"), 2, "There is not enough memory (OSError)."),
        (RuntimeError("can't start new thread"), 2, "There is not enough memory (RuntimeError)."),
        (
            ImportError("libtorch.so: failed to map segment from shared object"),
            2,
            "There is not enough memory (ImportError).",
        ),
        (ImportError("cannot import name 'x'"), 70, "This is a bug in adaptivepatch: ImportError"),
        (
            UnicodeEncodeError("latin-1", "a°Ω", 2, 3, "ordinal not in range(256)"),
            2,
            "Its encoding, 'latin-1', lacks 'Ω'. Set the environment variable PYTHONIOENCODING",
        ),
        (RuntimeError("not enough memory: you tried to allocate"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "adaptivepatch: interrupted."),
        (KeyError("x"), 70, "This is a bug in adaptivepatch: KeyError: 'x'"),
        (TypeError("f() got"), 70, "--traceback"),
    ],
)
def test_any_error_is_one_line_with_its_exit_status(call, raising, error, status, message):
    raising(error)
    found, out, err = call("datasets", "list")
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_errors_name_the_option_of_their_parameter(call, monkeypatch, tmp_path):
    def fail(*_: object, **__: object) -> None:
        raise InvalidParameterError("Pass overwrite=True.", parameter="overwrite")

    monkeypatch.setattr("adaptivepatch.demo.run_demo", fail)
    assert call("demo", "--out", tmp_path)[2] == (
        "adaptivepatch: Pass overwrite=True. (Option: --force.)\n"
    )


def test_a_traceback_is_shown_on_request(raising):
    raising(KeyError("x"))
    with pytest.raises(KeyError):
        main(["datasets", "list", "--traceback"])


def test_warnings_are_single_lines(call, monkeypatch):
    def warn() -> list:
        warnings.warn("Short\nseries.", UserWarning, stacklevel=2)
        return []

    monkeypatch.setattr("adaptivepatch.datasets.sources.dataset_table", warn)
    status, out, err = call("datasets", "list", "--json")
    assert (status, json.loads(out)) == (0, {"datasets": []})
    assert err == "adaptivepatch: warning: Short series.\n"


def test_a_reader_that_goes_away_ends_the_command_silently():
    program = "from adaptivepatch.cli import main; main(['datasets', 'list', '--json'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (cli.NO_READER, b"")


LIST = "import sys; from adaptivepatch.cli import main; main(['datasets', *sys.argv[1:]])"


def in_a_shell(redirection, *arguments, program=LIST, **environment):
    """Run a command in a shell with redirected streams; return exit status, output and errors."""
    words = shlex.join([sys.executable, "-c", program, *arguments])
    done = subprocess.run(
        ["bash", "-c", f"{words} {redirection}"],
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_results_are_not_lost_in_a_closed_output_stream():
    status, _, err = in_a_shell(">&-", "list", "--json")
    assert status == 2
    assert err.startswith("adaptivepatch: Results need an output stream.")
    assert err.count("\n") == 1


def test_a_closed_or_full_error_stream_keeps_the_status_and_the_result():
    status, out, _ = in_a_shell("2>&-", "list", "--json")
    assert status == 0
    assert json.loads(out)["datasets"]
    for redirection in ("2>&-", "2>/dev/full"):
        assert in_a_shell(redirection, "path", "ETTh11")[:2] == (2, "")


def test_a_full_output_stream_is_a_mistake_of_one_line():
    status, _, err = in_a_shell(">/dev/full", "list", "--json")
    assert (status, err) == (2, "adaptivepatch: No space left on device.\n")


WRITE = """
import pandas as pd
from adaptivepatch import datasets
from adaptivepatch.cli import main, screen
from adaptivepatch.datasets import sources
def table():
    screen.write_csv(pd.DataFrame({"größe": ["Ω"]}))
    return []
sources.dataset_table = table
main(["datasets", "list", "--json"])
"""


def test_tables_are_written_whole_in_utf_8_or_not_at_all():
    status, out, err = in_a_shell("", program=WRITE, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (status, err) == (0, "")
    assert out.startswith("größe\nΩ\n")
    status, out, err = in_a_shell("", program=WRITE, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (status, out) == (2, "")
    assert "Its encoding, 'latin-1', lacks '\\u03a9'" in err
