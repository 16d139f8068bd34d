"""Tables of results: CSV files whose lines stay unchanged when other lines are added."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adaptivepatch.bench.task import KEY
from adaptivepatch.errors import InvalidParameterError


class Line(NamedTuple):
    """One line of a CSV file: its text with the line break, and its values."""

    text: str
    values: list[str]


def read_lines(path: Path) -> list[Line]:
    """Read a CSV file without changing any of its lines; the first line holds the columns.

    Bytes that are not UTF-8 are kept (``surrogateescape``). A value in quotes may contain line
    breaks.

    Parameters
    ----------
    path : Path
        CSV file.

    Returns
    -------
    list of Line
        Empty if the file is empty or does not exist.

    Raises
    ------
    InvalidParameterError
        If a line is incomplete, for example because a process was killed while writing it.
    """
    if not path.exists():
        return []
    lines: list[Line] = []
    for number, text in _split(path.read_bytes().decode("utf-8", errors="surrogateescape")):
        values = next(csv.reader(io.StringIO(text, newline="")))
        num_columns = len(lines[0].values) if lines else len(values)
        is_ended = text.endswith("\n")
        if not is_ended or len(values) != num_columns:
            raise InvalidParameterError(
                f"Line {number} of the table of results {str(path)!r} is incomplete. It has "
                f"{len(values)} of {num_columns} "
                f"values{'' if is_ended else ' and no line break at its end'}. Delete all lines of "
                "this run, here and in the other tables of these results, and do the run again.",
                parameter="path",
            )
        lines.append(Line(text, values))
    return lines


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, with the line breaks inside quotes."""
    pending, first = "", 1
    for number, part in enumerate(io.StringIO(text, newline="\n"), start=1):
        first = first if pending else number
        pending += part
        if pending.count('"') % 2 == 0:
            yield first, pending
            pending = ""
    if pending:
        yield first, pending


def render_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool) -> str:
    """Return rows as lines of a CSV file, after a line of column names if `header` is True."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file in one write, after its header if the file is new.

    Parameters
    ----------
    path : Path
        CSV file; its folder is created if needed.
    rows : iterable of mapping
        Rows with the same keys in the same order.

    Raises
    ------
    InvalidParameterError
        If the file has different columns or an incomplete line.
    """
    rows = list(rows)
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    check_columns(path, columns)
    text = render_rows(rows, columns, header=not read_lines(path))
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(text)


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise `InvalidParameterError` if the file has rows with different columns."""
    lines, columns = read_lines(path), list(columns)
    if lines and lines[0].values != columns:
        raise InvalidParameterError(
            f"{str(path)!r} has the columns {lines[0].values}, but the new rows have {columns}. "
            "Write to a new file.",
            parameter="path",
        )


def keyed_lines(path: Path) -> list[tuple[tuple[str, ...], str]]:
    """Return the key of the run (the columns `KEY`) and the text of each row of a CSV file.

    Raises
    ------
    InvalidParameterError
        If the file lacks the columns of a key or has an incomplete line.
    """
    lines = read_lines(path)
    if not lines:
        return []
    columns = lines[0].values
    if not {*KEY} <= {*columns}:
        raise InvalidParameterError(
            f"{str(path)!r} is not a file of results, because it lacks some of the columns "
            f"{list(KEY)}. Write to a new file.",
            parameter="path",
        )
    places = [columns.index(column) for column in KEY]
    return [(tuple(values[place] for place in places), text) for text, values in lines[1:]]


def beside(results: Path, suffix: str) -> Path:
    """Return the path ``NAME`` plus a suffix, beside a results file ``NAME.csv``."""
    return results.with_name(results.name.removesuffix(".csv") + suffix)


def windows_path(results: Path, row: Mapping[str, Any]) -> Path:
    """Return the path of the window errors of a run, given the run's row."""
    names = ("dataset", "horizon", "context_length", "arm", "settings_id", "seed")
    name = "-".join(str(row[key]) for key in names)
    return beside(results, ".windows") / f"{name}.npy"
