"""Reading of data files: CSV, plain or compressed, and parquet. ``outputs.py`` writes them.

A file is read without guessing: either every value of it is read, or an error names the wrong
line. ``stamps.py`` defines which columns of stamps are understood.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivepatch.cli import stamps
from adaptivepatch.cli.screen import note
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidParameterError,
    MissingDependencyError,
    shortened,
    suggest,
)
from adaptivepatch.files import PackedTooLargeError, unpack

if TYPE_CHECKING:
    import datetime

    import pandas as pd

ENDINGS = (".csv", ".csv.gz", ".csv.xz", ".tsv", ".tsv.gz", ".tsv.xz", ".parquet")
ITEM_ID = "item_id"  # name of the column unless the user names one
_SEPARATORS = (",", ";", "\t")
_UNNAMED = "Unnamed: 0"  # the name pandas gives a first column without one: a saved index
_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None"]


@dataclass(frozen=True)
class Columns:
    """Roles of the columns of a file; None stands for the defaults in ``--help``.

    Parameters
    ----------
    item_id, timestamp : str, optional
        Names of the key columns.
    target : sequence of str, optional
        Names of the channels.
    date_format : str, optional
        Format of stamps in the codes of strftime.
    index : str, optional
        Name of the index that held the stamps of `fit`; a column of this name holds the stamps of
        the file.
    zone : tzinfo, optional
        Time zone to which dates with offsets are converted. Default: that of the dates.
    text : sequence of str, default=()
        Names of further columns that are read as text, if the file has them.
    numbered : bool, default=True
        Whether the rows of a file without stamps are numbered; otherwise it is refused. In a
        result: whether they were numbered.
    """

    item_id: str | None = None
    timestamp: str | None = None
    target: Sequence[str] | None = None
    date_format: str | None = None
    index: str | None = None
    zone: datetime.tzinfo | None = None
    text: Sequence[str] = ()
    numbered: bool = True


@dataclass(frozen=True)
class Table:
    """Content of a file.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows with stamps as dates or integers, and item ids as text.
    columns : Columns
        Columns that were found; ``timestamp`` is None if rows are numbered.
    """

    frame: pd.DataFrame
    columns: Columns


def read_table(path: Path, columns: Columns) -> Table:
    """Read a file of series.

    Raises
    ------
    InvalidFrameError
        If the file is not a table that can be read without guessing.
    OSError
        If the file cannot be opened.
    """
    ending = ending_of(path, "a data file")
    if path.is_dir():
        raise InvalidFrameError(
            f"A data file is needed. {str(path)!r} is a folder. Name a file in it."
        )
    if not path.exists():
        near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InvalidFrameError(
            f"A data file is needed. {str(path)!r} does not exist.{suggest(path.name, near)}"
        )
    frame = _read_parquet(path) if ending == ".parquet" else _read_csv(path, ending, columns)
    if frame.empty:
        raise InvalidFrameError(
            f"A data file needs rows and columns. {str(path)!r} has {frame.shape[0]} rows below "
            f"the header and {frame.shape[1]} columns. Check how it was written."
        )
    _check_present(path, frame, columns)
    item_id = columns.item_id or ITEM_ID
    is_long = item_id in frame.columns
    named = columns.timestamp
    if named is None and columns.index in frame.columns:
        named = columns.index
    timestamp = stamps.find(frame, named, item_id, columns.target or ())
    if timestamp is None and not columns.numbered:
        raise InvalidFrameError(
            f"The stamps of a file must be in a column. {path.name!r} has "
            f"{_shorten(list(frame.columns))}, and none is known to hold them. Name the column "
            "with --timestamp."
        )
    if _UNNAMED in frame.columns and timestamp != _UNNAMED and _is_row_number(frame[_UNNAMED]):
        frame = frame.drop(columns=_UNNAMED)  # a saved RangeIndex
    if is_long:
        ids = frame[item_id]
        frame[item_id] = ids.astype(object).where(ids.isna(), ids.astype(str))
    if timestamp is not None:
        items = frame[item_id] if is_long else None
        frame[timestamp] = stamps.parse(
            frame[timestamp], timestamp, columns.date_format, columns.zone, items
        )
        if not is_long:
            _check_distinct(path, frame[timestamp])
    keys = {item_id, timestamp, *columns.text}
    if ending != ".parquet":  # columns that could have been keys were read as text
        for name in frame.columns:
            if name not in keys and stamps.is_text(frame[name]):
                frame[name] = _numbers_again(frame[name])
    for name in columns.target or [name for name in frame.columns if name not in keys]:
        _check_numbers(frame, name, has_stamps=timestamp is not None)
    if timestamp is None and not is_long:
        frame = frame.reset_index(drop=True)
        note(
            f"{path.name} has no column of stamps (timestamp, date, ds, time, or dates in the "
            "first column): its rows are numbered 0, 1, 2, ..."
        )
    found = replace(columns, item_id=item_id, timestamp=timestamp, numbered=timestamp is None)
    return Table(frame, found)


def ending_of(path: Path, what: str) -> str:
    """Return the known ending of a file name."""
    name = path.name.lower()
    matching = [ending for ending in ENDINGS if name.endswith(ending)]
    if not matching:
        raise InvalidParameterError(
            f"The name of {what} must end in one of {', '.join(ENDINGS)}. Got {str(path)!r}. "
            "Rename or convert it."
        )
    return max(matching, key=len)


def _check_present(path: Path, frame: pd.DataFrame, columns: Columns) -> None:
    """Raise unless the file has every column that the user named."""
    named = [columns.item_id, columns.timestamp, *(columns.target or ())]
    for name in [name for name in named if name is not None]:
        if name not in frame.columns:
            available = list(frame.columns)
            raise InvalidFrameError(
                f"{path.name!r} must have the column {name!r}. It has {_shorten(available)}."
                f"{suggest(name, available)}"
            )


def _shorten(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _is_row_number(column: pd.Series[Any]) -> bool:
    numbers = stamps.as_integers(column)
    return numbers is not None and bool((numbers == range(len(column))).all())


def _check_distinct(path: Path, column: pd.Series[Any]) -> None:
    """Raise if a wide file repeats a stamp; it may be a long file without --item-id."""
    copies = column.duplicated()
    if copies.any():
        row = int(copies.to_numpy().argmax())
        raise InvalidFrameError(
            f"A wide file has one row per stamp. {path.name!r} repeats {str(column.iloc[row])!r} "
            f"in data row {row + 1}. If rows belong to several series, name the column of series "
            "names with --item-id; otherwise drop or aggregate the copies."
        )


def _check_numbers(frame: pd.DataFrame, name: str, *, has_stamps: bool) -> None:
    """Raise if a channel holds text, and name its first row; `Forecaster` checks other types.

    Parameters
    ----------
    frame : pandas.DataFrame
        Content of the file.
    name : str
        Name of the channel.
    has_stamps : bool
        Whether another column holds the stamps.
    """
    import pandas as pd

    column = frame[name]
    if not stamps.is_text(column):
        return
    as_numbers = pd.to_numeric(column, errors="coerce")
    bad = as_numbers.isna() & column.notna()
    if not bad.any():
        return
    row = int(bad.to_numpy().argmax())
    value = str(column.iloc[row])
    if re.fullmatch(r"\s*[+-]?[\d.]*,\d+\s*", value):
        raise InvalidFrameError(
            "Numbers must use a decimal point and no thousands separators. Column "
            f"{name!r} has {value!r} in data row {row + 1}. Write the file with decimal points. "
            "pandas can read the present file with read_csv(..., decimal=',')."
        )
    keys = "--item-id" if has_stamps else "--timestamp or --item-id"
    raise InvalidFrameError(
        f"A channel must hold numbers. Column {name!r} has {value!r} in data row {row + 1}. Name "
        f"it with {keys} if it is a key, list the channels with --target, or correct the file."
    )


# ------------------------------------------------------------------------------------------ read


def _read_csv(path: Path, ending: str, columns: Columns) -> pd.DataFrame:
    import pandas as pd

    text = _text_of(path)
    separator = "\t" if ".tsv" in ending else _separator(text)
    header = _check_shape(path, text, separator)
    width = len(header)
    names = [name.strip() or f"Unnamed: {k}" for k, name in enumerate(header)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidFrameError(
            f"Column names must be unique. {path.name!r} repeats {_shorten(repeated)} in its "
            "header. Rename or drop the copies."
        )
    if all(map(stamps.is_value, names)):
        raise InvalidFrameError(
            f"The first line must name the columns. That of {path.name!r} holds values: "
            f"{_shorten(header)}. Add a header line."
        )
    # Keys stay text: 007 is not a number, and NA may be Namibia.
    keys = {columns.item_id or ITEM_ID, columns.timestamp, columns.index, names[0], *columns.text}
    keys |= {name for name in names if name.lower() in stamps.NAMES}
    missing = {name: [""] if name in keys else _MISSING for name in names}
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=0,
            names=names,
            index_col=False,
            dtype={name: str for name in keys if name in names},
            keep_default_na=False,
            na_values=missing,
            float_precision="round_trip",
            skip_blank_lines=width > 1,  # in a file of one column, a blank line is a missing value
            skipinitialspace=True,
            low_memory=False,
        )
    except ValueError as error:  # base class of pandas' parser errors
        raise InvalidFrameError(
            f"A CSV file must be one that pandas can read. {path.name!r} is not "
            f"({shortened(str(error))}). Correct it."
        ) from error


def _numbers_again(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column that was read as text as exact numbers, if it holds numbers only."""
    import pandas as pd

    text = column.to_frame("value").to_csv(index=False)
    read: pd.Series[Any] = pd.read_csv(
        io.StringIO(text), float_precision="round_trip", skip_blank_lines=False
    )["value"]
    return read.set_axis(column.index)


def _text_of(path: Path) -> str:
    """Return the text of a file; its first bytes, not its name, tell how it is compressed."""
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = unpack(content, "gz")
        elif content.startswith(b"\xfd7zXZ\x00"):
            content = unpack(content, "xz")
        elif path.suffix.lower() in (".gz", ".xz") and content:
            raise ValueError("it does not begin like a compressed file")
    except PackedTooLargeError as error:
        raise InvalidFrameError(
            f"A compressed file must not be far larger than it seems. Reading {str(path)!r} was "
            f"ended, because {error}. If this is right, unpack it and name the unpacked file."
        ) from error
    except ValueError as error:
        raise InvalidFrameError(
            f"A compressed file must be complete. {str(path)!r} is damaged or cut short "
            f"({error}). Copy or download it again."
        ) from error
    if not content.strip():
        raise InvalidFrameError(
            f"A data file needs a header line and rows. {str(path)!r} is empty. Check how it was "
            "written."
        )
    if b"\x00" in content:
        raise InvalidFrameError(
            f"A CSV file must be text in UTF-8. {str(path)!r} holds bytes that are not text. It "
            "has another format, or is UTF-16. Save it as CSV in UTF-8."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidFrameError(
            f"A CSV file must be text in UTF-8. {str(path)!r} has the byte "
            f"0x{content[error.start]:02x} in line {line}. Convert it, for example with: "
            "iconv -f latin1 -t utf-8."
        ) from error


def _separator(text: str) -> str:
    """Return the separator that splits the first lines into equally many columns."""
    lines = [line for line in text[:65536].splitlines()[:20] if line.strip()]
    if len(text) > 65536 and len(lines) > 1:
        lines.pop()  # may be incomplete
    best, most = ",", 1
    for separator in _SEPARATORS:
        widths = {len(row) for row in csv.reader(lines, delimiter=separator)}
        if len(widths) == 1 and max(widths) > most:
            best, most = separator, max(widths)
    if most == 1:  # lines of different lengths, or one column: the header decides
        best = max(_SEPARATORS, key=lines[0].count)
    return best


def _check_shape(path: Path, text: str, separator: str) -> list[str]:
    """Return the header after checking that every line has the same number of fields."""
    csv.field_size_limit(1 << 30)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        header = next(row for row in rows if row)
        width = len(header)
        for row in rows:
            if len(row) != width and row:
                raise InvalidFrameError(
                    f"Every line must have a value for each column. Line {rows.line_num} of "
                    f"{path.name!r} has {len(row)} fields, the header {width}. Correct the line."
                )
    except csv.Error as error:
        raise InvalidFrameError(
            f"A CSV file must have one row per line. Line {rows.line_num} of {path.name!r} cannot "
            f"be read ({error}). Correct it."
        ) from error
    return header


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise MissingDependencyError(
            "Parquet needs the 'pyarrow' package, which is not installed. "
            'Install it with: pip install "adaptivepatch-forecasting[data]".'
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:  # also of damaged metadata
        if isinstance(error, PermissionError):
            raise
        raise InvalidFrameError(
            f"A parquet file must be complete. {str(path)!r} is damaged or in another format "
            f"({shortened(str(error))}). Write it again."
        ) from error
    frame.columns = frame.columns.astype(str)
    if not frame.columns.is_unique:
        raise InvalidFrameError(
            f"Column names must be unique. {path.name!r} repeats some. Rename or drop the copies."
        )
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    taken = [name for name in frame.index.names if name is None or name in frame.columns]
    if isinstance(frame.index, pd.MultiIndex) and taken:
        raise InvalidFrameError(
            f"The levels of the index must have names that no column has. Those of {path.name!r} "
            f"are {list(frame.index.names)!r}. Write the file after df.reset_index()."
        )
    if taken:
        frame.index.name = "timestamp"
    if frame.index.name in frame.columns:
        return frame.reset_index(drop=True)
    return frame.reset_index()
