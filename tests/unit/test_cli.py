"""The command line answers mistakes in one line, without a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from adaptivepatch.cli import app


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from adaptivepatch.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [[], ["bench"], ["demo"], ["bench", "run"], ["bench", "verify"], ["bench", "report"]],
)
def test_every_command_explains_itself(arguments):
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_errors_are_one_line_with_exit_status_2():
    result = run("bench", "run", "recencies", "--out", "x.csv")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("adaptivepatch: Unknown suite 'recencies'.")
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_unreadable_document_is_named(tmp_path):
    result = run("bench", "report", str(tmp_path / "absent.md"))
    assert result.returncode == 2
    assert "absent.md" in result.stderr
    assert "Traceback" not in result.stderr
