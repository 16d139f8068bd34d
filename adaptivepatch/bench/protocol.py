"""The long-horizon protocol: its cells, borders, test windows, and the oracle that proves them.

Series are scaled with the mean and deviation of their training rows; test windows follow one
another by one step, have all their targets in the test rows, and every one counts. The oracle is
the Repeat forecast, the last observed value for every step: it needs no training, so a harness
that does not reproduce its known errors has other data, borders, scaling or windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.datasets.catalog import SplitBorders, split_borders
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.errors import InvalidParameterError, suggest

PROTOCOLS = {"full": 1, "drop_last_32": 32, "drop_last_128": 128}
"""Test batch whose incomplete last one is dropped; 1 drops nothing, the only honest choice."""

TOLERANCE = 1e-9


class Cell(NamedTuple):
    """One cell of the benchmark: a data set and a horizon in time steps."""

    dataset: str
    horizon: int


CELLS = tuple(
    Cell(dataset, horizon)
    for dataset in ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather")
    for horizon in (96, 192, 336, 720)
)
"""Cells of which the oracle's figures are known."""


@dataclass(frozen=True)
class RepeatCheck:
    """Observed and expected error of the Repeat forecast in one cell under one protocol."""

    dataset: str
    horizon: int
    protocol: str
    num_windows: int
    mse: float
    mae: float
    expected_num_windows: int
    expected_mse: float
    expected_mae: float

    @property
    def relative_error(self) -> float:
        """Larger of the two relative deviations."""
        return max(
            abs(self.mse / self.expected_mse - 1),
            abs(self.mae / self.expected_mae - 1),
        )

    @property
    def is_reproduced(self) -> bool:
        """Whether windows are counted alike and both errors agree to 1e-9."""
        same = self.num_windows == self.expected_num_windows
        return same and self.relative_error <= TOLERANCE


def load_ltsf(name: str, folder: str | Path | None = None) -> tuple[pd.DataFrame, SplitBorders]:
    """Read a data set without its unused last rows, and its borders.

    Returns
    -------
    frame : pandas.DataFrame of shape (test_end, channels)
        In original units, indexed by row number.
    borders : SplitBorders
    """
    frame = load_dataset(name, folder)
    borders = split_borders(name, len(frame))
    return frame.iloc[: borders.test_end], borders


def scaled_panel(frame: pd.DataFrame, borders: SplitBorders) -> tuple[Panel, Scaling]:
    """Return the series in units of their training rows, and the scaling that undoes it."""
    panel = read_frame(frame)
    scaling = Scaling.fit(panel, borders.train_end)
    return scaling.apply(panel), scaling


def num_test_windows(borders: SplitBorders, horizon: int, protocol: str = "full") -> int:
    """Return how many test windows count under a protocol, whatever the look-back.

    Examples
    --------
    >>> borders = split_borders("ETTh1")
    >>> num_test_windows(borders, 96), num_test_windows(borders, 96, "drop_last_32")
    (2785, 2784)
    """
    if protocol not in PROTOCOLS:
        raise InvalidParameterError(
            f"Unknown protocol {protocol!r}. Available: {list(PROTOCOLS)!r}."
            f"{suggest(protocol, PROTOCOLS)}"
        )
    count = borders.test_end - borders.val_end - horizon + 1
    batch = PROTOCOLS[protocol]
    return max(0, count // batch * batch)


def verify_repeat_oracle(
    progress: Callable[[RepeatCheck], None] | None = None,
    *,
    cells: Iterable[Cell] = CELLS,
    protocols: Iterable[str] = ("full", "drop_last_32"),
    folder: str | Path | None = None,
) -> list[RepeatCheck]:
    """Compare the Repeat forecast with its known errors.

    Parameters
    ----------
    progress : callable, optional
        Called with every check as soon as it is made.
    cells : iterable of Cell
        Cells to check; by default all.
    protocols : iterable of str, default=("full", "drop_last_32")
        Names of `PROTOCOLS`.
    folder : path, optional
        Where the data is; by default ``ADAPTIVEPATCH_DATA``.

    Returns
    -------
    list of RepeatCheck
        One per cell and protocol. A harness must refuse to report anything unless
        ``is_reproduced`` holds for all of them.

    Raises
    ------
    DatasetError
        If a file is absent or is not the original.
    InvalidParameterError
        If a cell or a protocol has no known figures.
    """
    expected = _expected_figures()
    horizons: dict[str, list[int]] = {}
    for name, horizon in cells:
        if str(horizon) not in expected.get(name, {}):
            raise InvalidParameterError(
                f"The Repeat oracle has no figures for {name!r} at horizon {horizon!r}. "
                f"Available: {sorted(expected)!r} at the horizons 96, 192, 336 and 720."
            )
        horizons.setdefault(name, []).append(horizon)
    checks, names = [], tuple(protocols)
    for name, wanted in horizons.items():
        frame, borders = load_ltsf(name, folder)
        panel, _ = scaled_panel(frame, borders)
        for horizon, squared, absolute in repeat_errors(panel.values, borders, sorted(wanted)):
            for protocol in names:
                kept = num_test_windows(borders, horizon, protocol)
                figures = expected[name][str(horizon)][protocol]
                check = RepeatCheck(
                    dataset=name,
                    horizon=horizon,
                    protocol=protocol,
                    num_windows=kept,
                    mse=float(squared[:kept].mean()),
                    mae=float(absolute[:kept].mean()),
                    expected_num_windows=figures["windows"],
                    expected_mse=figures["mse"],
                    expected_mae=figures["mae"],
                )
                checks.append(check)
                if progress is not None:
                    progress(check)
    return checks


def repeat_errors(
    values: NDArray[np.float64], borders: SplitBorders, horizons: Iterable[int]
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield the errors of the Repeat forecast per test window, horizon after horizon.

    Windows are never laid out: the error at step h of all windows at once is the difference of
    two slices, h rows apart, and a longer horizon continues the sums of a shorter one.

    Parameters
    ----------
    values : ndarray of shape (rows, channels)
        Scaled series.
    borders : SplitBorders
        Borders of `values`.
    horizons : iterable of int
        Increasing, in time steps.

    Yields
    ------
    horizon : int
    squared, absolute : ndarray of shape (windows, channels)
        Mean squared and mean absolute error over the horizon.
    """
    origin, done = borders.val_end - 1, 0  # row of the first cutoff
    squared = np.zeros((borders.test_end - borders.val_end, values.shape[1]))
    absolute = np.zeros_like(squared)
    for horizon in horizons:
        count = num_test_windows(borders, horizon)
        squared, absolute = squared[:count], absolute[:count]
        last = values[origin : origin + count]
        for step in range(done + 1, horizon + 1):
            error = values[origin + step : origin + step + count] - last
            absolute += np.abs(error)
            squared += np.square(error, out=error)
        done = horizon
        yield horizon, squared / horizon, absolute / horizon


def _expected_figures() -> dict[str, Any]:
    """Return the known figures by data set, horizon (as text) and protocol."""
    text = resources.files("adaptivepatch.bench").joinpath("repeat_oracle.json").read_text("utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures
