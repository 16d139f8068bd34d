"""The output and the error stream of a process, also where they are closed or cannot be written."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

from adaptivepatch.errors import OutputError


class _ClosedOutput(io.TextIOBase):
    """An output stream that was closed before the process began; results must not get lost."""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise OutputError(
            "Results need an output stream. It was closed before the command began. Leave it "
            f"open, redirect it to {os.devnull}, or write a file with --out where the command "
            "has this option."
        )


def replace_closed() -> None:
    """Replace the streams that Python could not open when the process began.

    Writing results to a closed output stream is refused. Notes to a closed error stream are lost,
    as the user asks for.
    """
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, kept open


def flush() -> None:
    """Write what is pending; a stream that cannot be written is redirected, for a quiet exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def _discard(stream: Any) -> None:
    try:
        number = stream.fileno()
    except OSError:  # a stream without a file, such as one of a test
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
