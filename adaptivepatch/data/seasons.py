"""Default season of naive forecasts, derived from the time step."""

from __future__ import annotations

import pandas as pd

from adaptivepatch.data.steps import Step

_BY_DURATION = [  # (longest step, duration of the season)
    (pd.Timedelta(hours=1), pd.Timedelta(days=1)),
    (pd.Timedelta(days=1), pd.Timedelta(days=7)),
]
_BY_CALENDAR = {"M": 12, "Q": 4, "B": 5, "W": 52, "C": 5}


def default_season(step: Step) -> int:
    """Return the length of a season (a day, a week or a year, depending on the step) in steps.

    Parameters
    ----------
    step : pandas offset or int
        Time step. An int has no season; the result is then 1, the last-value forecast.

    Examples
    --------
    >>> from pandas.tseries.frequencies import to_offset
    >>> [default_season(to_offset(f)) for f in ("15min", "h", "D", "MS", "B")]
    [96, 24, 7, 12, 5]
    """
    if isinstance(step, int):
        return 1
    try:
        duration = pd.Timedelta(step)  # type: ignore[arg-type]
    except ValueError:
        rule = step.rule_code.removesuffix("S").removesuffix("E").partition("-")[0]
        return max(1, _BY_CALENDAR.get(rule[-1:], 1) // step.n)
    for longest, season in _BY_DURATION:
        if duration <= longest:
            return max(1, round(season / duration))
    return 1
