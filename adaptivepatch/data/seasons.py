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
_LEAST_FALL = 0.03  # fall of the error from a larger one to a season after it
_ROUNDING = 1e-6  # error of a lag that is due to rounding
_LEAST_GAIN = 0.1  # share of the error of noise, or of a shorter season, that a season saves


def default_season(step: Step) -> int:
    """Return the season length in time steps: a day, a week or a year, whichever fits the step.

    Parameters
    ----------
    step : pandas offset or int
        One time step, as `adaptivepatch.data.steps.parse_step` returns it. For integer steps, the
        result is 1, with which a seasonal forecast repeats the last value.

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
    The error of a lag is half the mean squared difference of all pairs of observed values of one
    item and channel that are this far apart, each channel without its linear trend and in units of
    its deviation, on the last 32768 rows of an item. It is 1 for white noise. A lag is a candidate
    if its error is a local minimum, at most 0.9, 4 deviations of white noise below 1, and 0.03
    below the largest error since the last lower one. The first season is the shortest candidate
    whose error exceeds the lowest one by at most a tenth and 4 deviations of white noise, so that
    it is not a multiple of the true season. The search is repeated among the shorter candidates.
    """
    longest = int(min(training.lengths.max(initial=0), _MOST_ROWS))
    error, noise = _error_of_lags(training, longest // 3)
    candidates = _candidates(error, noise)
    seasons: list[int] = []
    while candidates:
        lowest = min(candidates, key=lambda lag: error[lag])
        most = error[lowest] * (1 + _LEAST_GAIN + 4 * noise[lowest]) + _ROUNDING
        seasons.append(min(lag for lag in candidates if error[lag] <= most))
        candidates = [lag for lag in candidates if lag < seasons[-1]]
    return tuple(reversed(seasons))


def _candidates(error: NDArray[np.float64], noise: NDArray[np.float64]) -> list[int]:
    """Return the lags from 2 on whose error is a clear local minimum."""
    lags = []
    for lag in range(2, len(error) - 1):
        if not error[lag - 1] > error[lag] <= error[lag + 1]:
            continue
        lower = np.flatnonzero(error[:lag] < error[lag])  # lag 0 has error 0
        fall = error[lower[-1] if len(lower) else 0 : lag].max() - error[lag]
        if fall >= _LEAST_FALL and error[lag] <= 1 - max(_LEAST_GAIN, 4 * noise[lag]):
            lags.append(lag)
    return lags


def _whole(seasons: dict[str, float]) -> dict[int, str]:
    """Return names by season, for the seasons that are whole numbers of at least 2 steps."""
    return {int(n): name for name, n in seasons.items() if n >= 2 and n == int(n)}


def _error_of_lags(panel: Panel, most_lags: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the error of each lag from 0, and its deviation for white noise."""
    squares, pairs = np.zeros(most_lags + 1), np.zeros(most_lags + 1)
    for start, stop in pairwise(panel.row_offsets.tolist()):
        rows = panel.values[max(start, stop - _MOST_ROWS) : stop]
        size, lags = 2 * len(rows), min(len(rows), most_lags + 1)
        seen = ~np.isnan(rows)
        values = _standardised(rows, seen)
        x, x2, mask = (np.fft.rfft(v, size, axis=0) for v in (values, values**2, seen * 1.0))
        # (a - b)^2 = a^2 + b^2 - 2 a b, summed over the pairs at each lag
        power = (x2 * mask.conj() + x2.conj() * mask - 2 * x * x.conj()).sum(axis=1)
        squares[:lags] += np.fft.irfft(power, size)[:lags]
        pairs[:lags] += np.fft.irfft((mask * mask.conj()).sum(axis=1), size)[:lags]
    count = np.maximum(np.round(pairs), 1)
    error = np.where(pairs > 0.5, np.maximum(squares, 0) / (2 * count), 1.0)
    return error, 1 / np.sqrt(count)


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
