"""Naive forecasts of windows, the baselines that a model must beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidParameterError


def last_value(windows: Windows) -> NDArray[np.float64]:
    """Repeat the last observed look-back value of each channel.

    Parameters
    ----------
    windows : Windows
        Windows to forecast.

    Returns
    -------
    ndarray of shape (num_windows, horizon, channels)
        Forecasts; NaN where no look-back step was observed.
    """
    last = _last_observed(windows.past())
    return np.repeat(last[:, None], windows.horizon, axis=1)


def seasonal_naive(windows: Windows, season: int) -> NDArray[np.float64]:
    """Repeat the last season of the look-back.

    Parameters
    ----------
    windows : Windows
        Windows to forecast.
    season : int
        Season in time steps, at most the look-back.

    Returns
    -------
    ndarray of shape (num_windows, horizon, channels)
        Forecasts; NaN where no look-back step was observed.

    Raises
    ------
    InvalidParameterError
        If `season` is not an int from 1 to the look-back.

    Notes
    -----
    The forecast of a step is the latest *observed* look-back value that is a whole number of
    seasons earlier. If there is none, it is the last observed value.
    """
    if not isinstance(season, int) or not 1 <= season <= windows.context_length:
        raise InvalidParameterError(
            f"season must be an int from 1 to the context_length {windows.context_length}. "
            f"Got {season!r} instead. Use a longer look-back, or last_value.",
            parameter="season",
        )
    past = windows.past()
    phases = _last_observed(_by_season(past, season))  # (w, season, c), oldest phase first
    phases = np.where(np.isnan(phases), _last_observed(past)[:, None], phases)
    return phases[:, np.arange(windows.horizon) % season]


def _by_season(past: NDArray[np.float64], season: int) -> NDArray[np.float64]:
    """Reshape (w, steps, c) to (w, seasons, season, c); NaN completes the oldest season."""
    num_windows, steps, channels = past.shape
    missing = -steps % season
    padded = np.pad(past, ((0, 0), (missing, 0), (0, 0)), constant_values=np.nan)
    return padded.reshape(num_windows, -1, season, channels)


def _last_observed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last value along axis 1 that is not NaN; NaN if all are NaN."""
    newest_first = values[:, ::-1]
    position = (~np.isnan(newest_first)).argmax(axis=1, keepdims=True)
    return np.take_along_axis(newest_first, position, axis=1)[:, 0]
