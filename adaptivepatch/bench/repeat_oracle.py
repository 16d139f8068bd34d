"""The Repeat oracle: known errors of the last-value forecast, which prove data, splits and metrics.

The Repeat forecast is the last observed value at every step. It needs no training, so code that
does not reproduce its known errors has different data, borders, scaling or windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.bench.ltsf_data import load_ltsf, num_test_windows, scaled_panel
from adaptivepatch.datasets.catalog import SplitBorders
from adaptivepatch.errors import InvalidParameterError

TOLERANCE = 1e-9
"""Largest relative deviation of an error that counts as reproduced."""


class Cell(NamedTuple):
    """A data set and a horizon in time steps."""

    dataset: str
    horizon: int


CELLS = tuple(
    Cell(dataset, horizon)
    for dataset in ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather")
    for horizon in (96, 192, 336, 720)
)
"""Cells whose errors are known."""


@dataclass(frozen=True)
class RepeatCheck:
    """Observed and expected errors of the Repeat forecast in a cell.

    ``convention`` is a name in `adaptivepatch.bench.ltsf_data.BATCH_OF_CONVENTION`.
    """

    dataset: str
    horizon: int
    convention: str
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
        """Whether the number of windows is equal and both errors agree to 1e-9."""
        same = self.num_windows == self.expected_num_windows
        return same and self.relative_error <= TOLERANCE


def verify_repeat_oracle(
    progress: Callable[[RepeatCheck], None] | None = None,
    *,
    cells: Iterable[Cell] = CELLS,
    conventions: Iterable[str] = ("full", "drop_last_32"),
    folder: str | Path | None = None,
) -> list[RepeatCheck]:
    """Compare the Repeat forecast with its known errors.

    Parameters
    ----------
    progress : callable, optional
        Function that is called with every check as soon as the check is made.
    cells : iterable of Cell
        Cells to check; by default all.
    conventions : iterable of str, default=("full", "drop_last_32")
        Names in `adaptivepatch.bench.ltsf_data.BATCH_OF_CONVENTION`.
    folder : path, optional
        Folder of the data; by default ``ADAPTIVEPATCH_DATA``.

    Returns
    -------
    list of RepeatCheck
        One check per cell and convention. Nothing may be measured on a data set unless
        ``is_reproduced`` holds for all of its checks.

    Raises
    ------
    DatasetError
        If a file is absent or is not the original.
    InvalidParameterError
        If the errors of a cell are not known.
    """
    expected = _expected_figures()
    horizons: dict[str, list[int]] = {}
    for name, horizon in cells:
        if str(horizon) not in expected.get(name, {}):
            raise InvalidParameterError(
                f"The Repeat oracle has no figures for {name!r} at horizon {horizon!r}. "
                f"Available: {sorted(expected)!r} at the horizons 96, 192, 336 and 720.",
                parameter="cells",
            )
        horizons.setdefault(name, []).append(horizon)
    checks, names = [], tuple(conventions)
    for name, wanted in horizons.items():
        frame, borders = load_ltsf(name, folder)
        panel, _ = scaled_panel(frame, borders)
        for horizon, squared, absolute in repeat_errors(panel.values, borders, sorted(wanted)):
            for convention in names:
                kept = num_test_windows(borders, horizon, convention)
                figures = expected[name][str(horizon)][convention]
                check = RepeatCheck(
                    dataset=name,
                    horizon=horizon,
                    convention=convention,
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
    """Yield the errors of the Repeat forecast per test window, for one horizon after another.

    Windows are not cut out: the errors at step h of all windows are the difference of two slices
    that are h rows apart. A longer horizon continues the sums of a shorter horizon.

    Parameters
    ----------
    values : ndarray of shape (rows, channels)
        Scaled series.
    borders : SplitBorders
        Borders of `values`.
    horizons : iterable of int
        Horizons in time steps, increasing.

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
    """Return the known figures by data set, horizon (as text) and convention."""
    text = resources.files("adaptivepatch.bench").joinpath("repeat_oracle.json").read_text("utf-8")
    figures: dict[str, Any] = json.loads(text)
    return figures
