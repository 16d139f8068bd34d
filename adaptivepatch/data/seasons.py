"""Seasons of naive forecasts, derived from the time step or found on training rows."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.steps import Step

_HOUR, _DAY, _WEEK = (pd.Timedelta(unit) for unit in ("1h", "1D", "7D"))
_YEAR_IN_WEEKS = 52
_YEAR = pd.Timedelta("365D")
_PER_MONTHS = (
    pd.offsets.MonthBegin,
    pd.offsets.MonthEnd,
    pd.offsets.BusinessMonthBegin,
    pd.offsets.BusinessMonthEnd,
)
_MOST_ROWS = 1 << 15  # rows of an item in which seasons are searched for
_LEAST_HEIGHT = 0.1  # autocorrelation of a season
_LEAST_RISE = 0.03  # rise of the autocorrelation from a trough to the peak after it
_LEAST_GAIN = 0.05  # rise of a season's autocorrelation above that of all shorter seasons


def default_season(step: Step) -> int:
    """Return the season length in time steps: a day, a week or a year, whichever fits the step.

    Parameters
    ----------
    step : pandas offset or int
        One time step, as `adaptivepatch.data.steps.parse_step` returns it. Integer steps have no
        season: the result is 1, the last value.

    Examples
    --------
    >>> from pandas.tseries.frequencies import to_offset
    >>> from adaptivepatch.data.steps import normalised
    >>> names = ("15min", "h", "D", "B", "W-WED", "SMS", "MS", "QS-FEB", "YE")
    >>> [default_season(normalised(to_offset(name))) for name in names]
    [96, 24, 7, 5, 52, 24, 12, 4, 1]
    """
    if isinstance(step, int):
        return 1
    if isinstance(step, pd.offsets.BusinessDay):
        return max(1, 5 // step.n)
    if isinstance(step, pd.offsets.SemiMonthBegin | pd.offsets.SemiMonthEnd):
        return max(1, 24 // step.n)
    if isinstance(step, _PER_MONTHS):
        return max(1, 12 // step.n)
    if type(step) is pd.DateOffset:
        return max(1, 12 // int(step.kwds["months"]))
    try:
        is_day = isinstance(step, pd.offsets.Day)
        duration = step.n * _DAY if is_day else pd.Timedelta(cast("pd.offsets.Tick", step))
    except ValueError:  # such as business hours
        return 1
    if duration <= _HOUR:
        return max(1, round(_DAY / duration))
    if duration <= _DAY:
        return max(1, round(_WEEK / duration))
    if duration % _WEEK == pd.Timedelta(0):
        return max(1, _YEAR_IN_WEEKS * _WEEK // duration)
    return 1


def calendar_seasons(step: Step) -> dict[int, str]:
    """Return the day, the week and the year in time steps, where they are whole numbers of steps.

    Parameters
    ----------
    step : pandas offset or int
        One time step, as `adaptivepatch.data.steps.parse_step` returns it. Integer steps have no
        calendar.

    Returns
    -------
    dict of int to str
        Name ("day", "week" or "year") of each season of at least 2 steps. A year has 365 days if
        the step divides them, which keeps the time of day, and otherwise 52 weeks.

    Examples
    --------
    >>> from pandas.tseries.frequencies import to_offset
    >>> from adaptivepatch.data.steps import normalised
    >>> names = ("15min", "h", "D", "B", "W-WED", "MS", "QS-FEB", "YE")
    >>> [list(calendar_seasons(normalised(to_offset(name)))) for name in names]
    [[96, 672, 35040], [24, 168, 8760], [7, 365], [5, 260], [52], [12], [4], []]
    """
    if isinstance(step, int):
        return {}
    if isinstance(step, pd.offsets.BusinessDay):
        return _whole({"week": 5 / step.n, "year": 5 * _YEAR_IN_WEEKS / step.n})
    if isinstance(step, pd.offsets.SemiMonthBegin | pd.offsets.SemiMonthEnd):
        return _whole({"year": 24 / step.n})
    if isinstance(step, _PER_MONTHS):
        return _whole({"year": 12 / step.n})
    if type(step) is pd.DateOffset:
        return _whole({"year": 12 / int(step.kwds["months"])})
    try:
        is_day = isinstance(step, pd.offsets.Day)
        duration = step.n * _DAY if is_day else pd.Timedelta(cast("pd.offsets.Tick", step))
    except ValueError:  # such as business hours, or years
        return {}
    year = _YEAR if _YEAR % duration == pd.Timedelta(0) else _YEAR_IN_WEEKS * _WEEK
    return _whole({"day": _DAY / duration, "week": _WEEK / duration, "year": year / duration})


def naive_seasons(training: Panel, season: int) -> tuple[int, ...]:
    """Return the seasons of the naive forecasts that a model is compared with.

    Parameters
    ----------
    training : Panel
        Training rows.
    season : int
        Season of MASE: the one that the user gave, or `default_season`.

    Returns
    -------
    tuple of int
        Increasing seasons in time steps: 1, which is the last value, `season`, and the calendar
        seasons of the time step. Integer stamps have no calendar; their seasons are found on the
        training rows by `find_seasons`.
    """
    calendar = calendar_seasons(training.freq)
    found = find_seasons(training) if isinstance(training.freq, int) else ()
    return tuple(sorted({1, season, *calendar, *found}))


def season_name(season: int, step: Step) -> str:
    """Return the name of a naive forecast, such as "week before"; season 1 is "last value"."""
    if season == 1:
        return "last value"
    unit = calendar_seasons(step).get(season)
    return f"{season} steps before" if unit is None else f"{unit} before"


def find_seasons(training: Panel) -> tuple[int, ...]:
    """Return lags at which training rows repeat themselves, at most a third of the longest item.

    Parameters
    ----------
    training : Panel
        Training rows.

    Returns
    -------
    tuple of int
        Increasing lags in time steps; empty if nothing repeats itself.

    Notes
    -----
    The autocorrelation is computed from all pairs of observed values of one item and channel, each
    without its linear trend and in units of its deviation, on the last 32768 rows of an item. A
    season is a peak of at least 0.1 that rises by 0.03 above the lowest value since the last higher
    one, is larger than 4 deviations of white noise, and is higher than all shorter seasons by 0.05
    and 2 deviations, so that a week is found next to a day, but two days are not.
    """
    longest = int(min(training.lengths.max(initial=0), _MOST_ROWS))
    correlation, noise = _autocorrelation(training, longest // 3)
    seasons: list[int] = []
    highest = -np.inf
    for lag in range(2, len(correlation) - 1):
        height = correlation[lag]
        if not correlation[lag - 1] < height >= correlation[lag + 1]:
            continue
        higher = np.flatnonzero(correlation[:lag] > height)[-1]  # lag 0 is 1, the highest
        rises = height - correlation[higher:lag].min() >= _LEAST_RISE
        least = max(_LEAST_HEIGHT, 4 * noise[lag], highest + _LEAST_GAIN + 2 * noise[lag])
        if rises and height >= least:
            seasons.append(lag)
            highest = height
    return tuple(seasons)


def _whole(seasons: dict[str, float]) -> dict[int, str]:
    """Return names by season, for the seasons that are whole numbers of at least 2 steps."""
    return {int(n): name for name, n in seasons.items() if n >= 2 and n == int(n)}


def _autocorrelation(
    panel: Panel, most_lags: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlation of values at each lag from 0, and its deviation for white noise."""
    products, pairs = np.zeros(most_lags + 1), np.zeros(most_lags + 1)
    for start, stop in pairwise(panel.row_offsets.tolist()):
        rows = panel.values[max(start, stop - _MOST_ROWS) : stop]
        seen = ~np.isnan(rows)
        for total, values in ((products, _standardised(rows, seen)), (pairs, seen.astype(float))):
            size = 2 * len(rows)
            power = (np.abs(np.fft.rfft(values, size, axis=0)) ** 2).sum(axis=1)
            lags = min(len(rows), most_lags + 1)
            total[:lags] += np.fft.irfft(power, size)[:lags]
    count = np.maximum(np.round(pairs), 1)
    covariance = products / count
    if covariance[0] <= 0:
        return np.zeros(0), np.zeros(0)
    return np.minimum(covariance / covariance[0], 1), 1 / np.sqrt(count)


def _standardised(rows: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return rows without the linear trend of each channel, with deviation 1, and 0 at gaps."""
    count = np.maximum(seen.sum(axis=0), 1)
    step = np.arange(len(rows), dtype=np.float64)[:, None]
    time = np.where(seen, step - (step * seen).sum(axis=0) / count, 0)
    values = np.where(seen, rows, 0)
    values = np.where(seen, values - values.sum(axis=0) / count, 0)
    spread = (values**2).sum(axis=0)
    slope = (time * values).sum(axis=0) / np.maximum((time**2).sum(axis=0), 1)
    values -= slope * time
    deviation = np.sqrt((values**2).sum(axis=0) / count)
    is_noise = deviation**2 * count <= 1e-8 * spread  # only rounding is left, as for a line
    return np.where(is_noise, 0, values / np.where(is_noise, 1, deviation))
