"""Text for the user: results on the output stream, notes and errors on the error stream."""

from __future__ import annotations

import json
import math
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from adaptivepatch.cli.parameters import option_of_error

if TYPE_CHECKING:
    import pandas as pd


def note(text: str) -> None:
    """Print one line on the error stream; the command goes on if nobody can read it."""
    with suppress(OSError):
        typer.echo(f"adaptivepatch: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def say_error(error: BaseException, command: Any = None) -> str:
    """Return an error as one line.

    Parameters
    ----------
    error : BaseException
        Error or warning.
    command : click.Command, optional
        Command that was run. If one of its options stands for the parameter that the error is
        about, the line ends with this option.
    """
    if isinstance(error, OSError) and error.strerror is not None:
        where = "" if error.filename is None else f": {str(error.filename)!r}"
        return f"{error.strerror}{where}."
    text = one_line(str(error)) or type(error).__name__
    option = None if command is None else option_of_error(error, command)
    return text if option is None else f"{text} (Option: {option}.)"


def write_json(document: dict[str, Any]) -> None:
    """Write one JSON document to the output stream; NaN becomes null."""
    typer.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as mappings."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def write_csv(frame: pd.DataFrame) -> None:
    """Write a frame as CSV to the output stream."""
    stream = typer.get_text_stream("stdout")  # writes UTF-8 where Python would write ASCII
    stream.write(frame.to_csv(index=False, lineterminator="\n"))  # at once: all of it or nothing
    stream.flush()


def show_table(
    table: pd.DataFrame | list[dict[str, Any]], formats: dict[str, str] | None = None
) -> None:
    """Print a small table, with ruled lines on a terminal and as plain columns elsewhere.

    Parameters
    ----------
    table : pandas.DataFrame or list of dict
        One or more rows. The index of a frame is not printed.
    formats : dict of str to str, optional
        Format of each column of numbers. NaN and None are printed as a dash.
    """
    rows = table if isinstance(table, list) else records(table)
    formats, names = formats or {}, list(rows[0])
    cells = [[_cell(row[name], formats.get(name)) for name in names] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table()
        for name in names:
            drawn.add_column(name, justify="right" if name in formats else "left")
        for row in cells:
            drawn.add_row(*map(Text, row))
        Console().print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in [names, *cells]:
        parts = [
            cell.rjust(width) if name in formats else cell.ljust(width)
            for name, cell, width in zip(names, row, widths, strict=True)
        ]
        typer.echo("  ".join(parts).rstrip())


def _cell(value: object, form: str | None) -> str:
    if value is None or value != value:
        return "-"
    return str(value) if form is None else format(value, form)


def _plain(value: Any) -> Any:
    """Return a value in types that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        return value.isoformat() if value == value else None
    return str(value)
