"""Standard data sets of long-horizon forecasting: borders, scaling and number of test windows.

Series are scaled with the mean and the standard deviation of their training rows. Test windows have
stride 1 and all their targets in the test rows.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.datasets.catalog import SplitBorders, split_borders
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.errors import InvalidParameterError, suggest

BATCH_OF_CONVENTION = {"full": 1, "drop_last_32": 32, "drop_last_128": 128}
"""Batch size whose incomplete last batch is dropped, by convention of counting test windows.

With batches of 1 ("full"), every window counts, as in all results of this package. Older code
follows the other conventions.
"""


def load_ltsf(name: str, folder: str | Path | None = None) -> tuple[pd.DataFrame, SplitBorders]:
    """Read a data set, without its unused last rows, and its split borders.

    Parameters
    ----------
    name : str
        Name of a data set with split borders.
    folder : path, optional
        Folder of the data; by default ``ADAPTIVEPATCH_DATA``.

    Returns
    -------
    frame : pandas.DataFrame of shape (test_end, channels)
        Series in original units, indexed by row number.
    borders : SplitBorders
    """
    frame = load_dataset(name, folder)
    borders = split_borders(name, len(frame))
    return frame.iloc[: borders.test_end], borders


def scaled_panel(frame: pd.DataFrame, borders: SplitBorders) -> tuple[Panel, Scaling]:
    """Return the series, scaled by their training rows, and the scaling."""
    panel = read_frame(frame)
    scaling = Scaling.fit(panel, borders.train_end)
    return scaling.apply(panel), scaling


def num_test_windows(borders: SplitBorders, horizon: int, convention: str = "full") -> int:
    """Return the number of test windows, which does not depend on the look-back.

    Parameters
    ----------
    borders : SplitBorders
        Borders of the data set.
    horizon : int
        Number of time steps to forecast.
    convention : str, default="full"
        Name in `BATCH_OF_CONVENTION`.

    Raises
    ------
    InvalidParameterError
        If the convention is unknown.

    Examples
    --------
    >>> borders = split_borders("ETTh1")
    >>> num_test_windows(borders, 96), num_test_windows(borders, 96, "drop_last_32")
    (2785, 2784)
    """
    if convention not in BATCH_OF_CONVENTION:
        raise InvalidParameterError(
            f"Unknown convention {convention!r} of counting test windows. Available: "
            f"{list(BATCH_OF_CONVENTION)!r}.{suggest(convention, BATCH_OF_CONVENTION)}",
            parameter="convention",
        )
    count = borders.test_end - borders.val_end - horizon + 1
    batch = BATCH_OF_CONVENTION[convention]
    return max(0, count // batch * batch)
