"""Default season of naive forecasts, derived from the time step."""

from __future__ import annotations

from typing import cast

import pandas as pd

from adaptivepatch.data.steps import Step

_HOUR, _DAY, _WEEK = (pd.Timedelta(unit) for unit in ("1h", "1D", "7D"))
_YEAR_IN_WEEKS = 52
_PER_MONTHS = (
    pd.offsets.MonthBegin,
    pd.offsets.MonthEnd,
    pd.offsets.BusinessMonthBegin,
    pd.offsets.BusinessMonthEnd,
)


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
