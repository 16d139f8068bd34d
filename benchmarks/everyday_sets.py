"""Real data sets of unlike kind, on which the default settings are chosen and measured.

Each set is a frame, a horizon and the number of rows at the end of each series that are tested. The
files are read from the folder ``ADAPTIVEPATCH_DATA``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from adaptivepatch.datasets.corpora import load_corpus
from adaptivepatch.datasets.loading import load_dataset, load_stamps


class EverydaySet(NamedTuple):
    """A data set of the comparison.

    Parameters
    ----------
    frame : DataFrame
        Wide frame, or long frame with the columns item_id, timestamp and value.
    horizon : int
        Number of steps to forecast.
    test_rows : int
        Number of rows at the end of each series that are tested.
    stride : int
        Number of steps between the cutoffs of tested windows.
    seasons : tuple of int
        Seasons of the naive forecasts, in time steps.
    """

    frame: pd.DataFrame
    horizon: int
    test_rows: int
    stride: int
    seasons: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Number of training rows of the longest series."""
        if "item_id" not in self.frame:
            return len(self.frame) - self.test_rows
        return int(self.frame["item_id"].value_counts().max()) - self.test_rows

    @property
    def channels(self) -> int:
        """Number of channels of a window."""
        return 1 if "item_id" in self.frame else self.frame.shape[1]


def wide(
    frame: pd.DataFrame, horizon: int, seasons: tuple[int, ...], rows: int = 20_000
) -> EverydaySet:
    """Return a set of the last `rows` rows of a frame, a fifth of which is tested."""
    frame = frame.iloc[-rows:]
    test_rows = len(frame) // 5
    stride = max(1, (test_rows - horizon) // 96)
    stride += stride % 2 == 0 and stride > 1  # no stride hits one phase of a day only
    return EverydaySet(frame, horizon, test_rows, stride, seasons)


def named(name: str, channels: int, horizon: int, seasons: tuple[int, ...]) -> EverydaySet:
    """Return the last rows of a data set of the package, with evenly chosen channels."""
    frame = load_dataset(name)
    chosen = np.linspace(0, frame.shape[1] - 1, min(channels, frame.shape[1])).round().astype(int)
    frame = frame.iloc[:, chosen]
    stamps = load_stamps(name)
    frame.index = pd.date_range(stamps[0], periods=len(frame), freq=stamps[1] - stamps[0])
    return wide(frame, horizon, seasons)


def corpus(
    name: str,
    channels: Sequence[str],
    freq: str,
    horizon: int,
    seasons: tuple[int, ...],
    every: int = 1,
) -> EverydaySet:
    """Return series of a corpus as columns, averaged over blocks of `every` steps."""
    series = {}
    for title, values in load_corpus(name, data_folder()).named():
        if title.split("/", 1)[1] in channels:
            blocks = values[len(values) % every :].reshape(-1, every)
            seen = np.isfinite(blocks)
            with np.errstate(invalid="ignore"):
                means = np.where(seen, blocks, 0).sum(1) / seen.sum(1)
            series[title] = means
    rows = min(map(len, series.values()))
    index = pd.date_range("2000-01-03", periods=rows, freq=freq)
    frame = pd.DataFrame({title: values[-rows:] for title, values in series.items()}, index=index)
    return wide(frame, horizon, seasons)


def competition(
    name: str, horizon: int, seasons: tuple[int, ...], starts_with: str = "", most: int = 10**9
) -> EverydaySet:
    """Return the series of a competition as items, with the official holdout as test rows."""
    items = []
    for title, values in load_corpus(name, data_folder()).named():
        item = title.split("/", 1)[1]
        if item.startswith(starts_with) and len(items) < most and len(values) > 3 * horizon:
            steps = np.arange(len(values))
            items.append(pd.DataFrame({"item_id": item, "timestamp": steps, "value": values}))
    return EverydaySet(pd.concat(items, ignore_index=True), horizon, horizon, 1, seasons)


def m3_monthly() -> EverydaySet:
    """Return the monthly series of M3."""
    found = competition("m3_competition", 18, (12,))
    number = found.frame["item_id"].str[1:].astype(int)  # N1402 to N2829 are monthly
    return found._replace(frame=found.frame[(number > 1401) & (number < 2830)])


def pulse() -> EverydaySet:
    """Return a pulse wave of about 100 Hz."""
    path = data_folder() / "extra" / "pulse_first34000.csv.xz"
    values = pd.read_csv(path).iloc[:, -1].to_numpy(dtype=float)
    return wide(pd.DataFrame({"pulse": values}), 96, ())


def data_folder() -> Path:
    """Return the folder of the files."""
    return Path(os.environ["ADAPTIVEPATCH_DATA"])


_AIR = [f"{site}/PM2.5" for site in ("Aotizhongxin", "Changping", "Dongsi", "Tiantan")]

SETS: dict[str, Callable[[], EverydaySet]] = {
    "ETTh1": lambda: named("ETTh1", 7, 96, (24, 168)),
    "weather": lambda: named("weather", 5, 96, (144,)),
    "electricity": lambda: named("electricity_6of321", 6, 96, (24, 168)),
    "traffic": lambda: named("traffic_6of862", 6, 96, (24, 168)),
    "auckland_pedestrians": lambda: named("auckland_pedestrians", 3, 48, (24, 168)),
    "beijing_air": lambda: corpus("beijing_multisite_air", _AIR, "h", 24, (24,)),
    "bike_sharing": lambda: corpus("bike_sharing_hour", ("users",), "h", 48, (24, 168)),
    "pjm": lambda: corpus("pjm_hourly", ("AEP_MW", "DAYTON_MW", "DUQ_MW"), "h", 48, (24, 168)),
    "m3_monthly": m3_monthly,
    "m4_hourly": lambda: competition("m4_hourly", 48, (24, 168)),
    "nn5_daily": lambda: competition("nn5_daily", 56, (7,)),
    "pulse": pulse,
}
"""Sets by name."""
