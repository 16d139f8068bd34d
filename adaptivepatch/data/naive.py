"""Naive forecasts of windows, the baselines that a model must beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.data.seasons import season_name
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import check_int


def last_value(windows: Windows) -> NDArray[np.float64]:
    """Repeat the last observed value before the horizon: the seasonal naive forecast of season 1.

    Parameters
    ----------
    windows : Windows
        Windows to forecast.

    Returns
    -------
    ndarray of shape (num_windows, horizon, channels)
        Forecasts in original units; NaN where no value was observed up to the cutoff.
    """
    return seasonal_naive(windows, 1)


def seasonal_naive(windows: Windows, season: int) -> NDArray[np.float64]:
    """Repeat the latest observed value of the same phase of the season.

    Parameters
    ----------
    windows : Windows
        Windows to forecast.
    season : int
        Season in time steps; 1 is the last value.

    Returns
    -------
    ndarray of shape (num_windows, horizon, channels)
        Forecasts in original units; NaN where the phase was not observed up to the cutoff.

    Raises
    ------
    InvalidParameterError
        If `season` is not a positive int.

    Notes
    -----
    The forecast of a step is the latest observed value that is a whole number of seasons earlier.
    It comes from the rows of the item up to the cutoff of the window, which may begin before the
    look-back. There is no other value in its place: where these rows are shorter than the season,
    or never observed at this phase, the forecast is NaN.
    """
    check_int(None, season=season)
    ahead = np.arange(1, windows.horizon + 1)
    back = ahead - season * -(-ahead // season)  # from the cutoff to the same phase, at most 0
    row = windows.cutoff_row[:, None] + back
    exists = row >= 0
    row = np.where(exists, row, 0) + windows.panel.row_offsets[windows.item][:, None]
    forecast = _latest_of_phase(windows.panel.values, windows.panel.row_offsets, season)[row]
    forecast[~exists] = np.nan
    return forecast


def naive_forecasts(
    windows: Windows, seasons: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the name and the values of the naive forecast of each season.

    Parameters
    ----------
    windows : Windows
        Windows to forecast.
    seasons : sequence of int
        Seasons in time steps, as `adaptivepatch.data.seasons.naive_seasons` returns them.

    Yields
    ------
    tuple of str and ndarray of shape (num_windows, horizon, channels)
        Name, such as "week before", and forecasts as in `seasonal_naive`. A season for which all
        rows up to the cutoffs are too short is left out.
    """
    for season in seasons:
        forecast = seasonal_naive(windows, season)
        if not np.isnan(forecast).all():
            yield season_name(season, windows.panel.freq), forecast


def _latest_of_phase(
    values: NDArray[np.float64], offsets: NDArray[np.int64], season: int
) -> NDArray[np.float64]:
    """Replace each gap by the latest observed value of its item a whole number of seasons earlier.

    Parameters
    ----------
    values : ndarray of shape (rows, channels)
        Values of all items, NaN where unobserved.
    offsets : ndarray of shape (items + 1,)
        Rows at which the items start and end.
    season : int
        Season in time steps.
    """
    if not np.isnan(values).any():
        return values
    filled = values.copy()
    for start, stop in pairwise(offsets.tolist()):
        item = values[start:stop]
        if stop - start <= season or not np.isnan(item).any():
            continue
        padded = np.pad(item, ((0, -len(item) % season), (0, 0)), constant_values=np.nan)
        cycles = padded.reshape(-1, season, item.shape[1])  # (cycle, phase, channel)
        number = np.arange(len(cycles))[:, None, None]
        latest = np.maximum.accumulate(np.where(np.isnan(cycles), 0, number), axis=0)
        known = np.take_along_axis(cycles, latest, axis=0).reshape(padded.shape)
        filled[start:stop] = known[: len(item)]
    return filled
