"""Files of results: rows of runs, rows of validations, and the error of every test window."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.bench.record import Record
from adaptivepatch.bench.task import KEY
from adaptivepatch.errors import InvalidParameterError


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file in one write, after its header if the file is new.

    Parameters
    ----------
    path : Path
        CSV file; its folder is made.
    rows : iterable of mapping
        Rows with the same keys in the same order.

    Raises
    ------
    InvalidParameterError
        If the file has different columns.
    """
    rows = list(rows)
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    check_columns(path, list(rows[0]))
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Raise `InvalidParameterError` if the file exists and has different columns."""
    if not path.exists():
        return
    header, columns = _header(path), list(columns)
    if header != columns:
        raise InvalidParameterError(
            f"Rows must have the columns of the file they are appended to. {str(path)!r} has "
            f"{header}, the new rows {columns}. Write to a new file.",
            parameter="path",
        )


def finished_keys(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the runs in a CSV file; none if the file does not exist.

    Raises
    ------
    InvalidParameterError
        If the file lacks the columns of a key.
    """
    if not path.exists():
        return set()
    columns = list(KEY)
    if not {*columns} <= {*_header(path)}:
        raise InvalidParameterError(
            f"Rows are appended to a file of results, with the columns {columns}. {str(path)!r} "
            "lacks some of them. Write to a new file.",
            parameter="path",
        )
    table = pd.read_csv(path, usecols=columns, dtype=str)[columns]
    return set(table.itertuples(index=False, name=None))


def _header(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").partition("\n")[0].split(",")


def write_windows(results: Path, record: Record, window_mse: NDArray[np.float64]) -> Path:
    """Save the error of every test window, from which intervals of differences are computed.

    Parameters
    ----------
    results : Path
        CSV file of the rows; the folder ``NAME.windows`` next to it receives one file per run.
    record : Record
        Record of the run.
    window_mse : ndarray of shape (windows,)
        Mean squared error over steps and channels; stored in float32.

    Returns
    -------
    Path
        The new file.
    """
    path = windows_path(results, record.values)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, window_mse.astype(np.float32))
    return path


def windows_path(results: Path, row: Mapping[str, Any]) -> Path:
    """Return the path of the errors of a run's windows, given its row."""
    names = ("dataset", "horizon", "context_length", "arm", "settings_id", "seed")
    name = "-".join(str(row[key]) for key in names)
    return results.with_suffix(".windows") / f"{name}.npy"
