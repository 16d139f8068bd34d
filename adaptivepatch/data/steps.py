"""Time steps of regular stamps: inferred or read from an argument, and used to complete a grid.

Stamps are pandas indexes, one per item and in increasing order: datetimes, or integers whose step
is an int.

Steps of hours or less are counted in absolute time, steps of days or more on the local clock. If a
clock change skips the time of day of a stamp, the stamp is the first moment after the change; if
it repeats that time, the stamp is the first of the two. Stamps of the user may also be an hour
after the skipped time, or the second of the two.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

Step = BaseOffset | int
Stamps = Sequence["pd.Index[Any]"]

_CALENDAR_STEPS = ("B", "SMS", "SME", "MS", "ME", "BMS", "BME", "QS", "QE", "YS", "YE")
_DAY = pd.Timedelta(days=1)
_HOUR = pd.Timedelta(hours=1)
_ANCHORED = (  # steps whose calendar does not depend on its start
    pd.offsets.Day,
    pd.offsets.BusinessDay,
    pd.offsets.Week,
    pd.offsets.MonthBegin,
    pd.offsets.MonthEnd,
    pd.offsets.BusinessMonthBegin,
    pd.offsets.BusinessMonthEnd,
    pd.offsets.QuarterBegin,
    pd.offsets.QuarterEnd,
    pd.offsets.YearBegin,
    pd.offsets.YearEnd,
)
_FIRST_YEAR, _LAST_YEAR = 1680, 2260  # range of stamps in nanoseconds
_MAX_SPARSITY = 1000  # most grid steps per row; sparser rows are events, not a series


def parse_step(freq: str | BaseOffset | pd.Timedelta | int, stamps: pd.Index[Any]) -> Step:
    """Return the user's `freq` as a step of `stamps`; refuse one that does not suit them."""
    step: Step | None
    freq = int(freq) if isinstance(freq, np.integer) else freq
    if isinstance(stamps, pd.DatetimeIndex):
        try:
            step = None if isinstance(freq, int) else to_offset(freq)
        except (ValueError, TypeError):
            step = None
        kind = "a pandas frequency such as 'h' or 'MS' for datetime stamps"
    else:
        step = freq if isinstance(freq, int) and not isinstance(freq, bool) else None
        kind = "a positive int for integer stamps"
    if step is None or (step if isinstance(step, int) else step.n) < 1:
        raise InvalidParameterError(
            f"The 'freq' parameter must be {kind}. Got {freq!r} instead.", parameter="freq"
        )
    return step


def find_step(index: Stamps, item_ids: Sequence[Hashable]) -> Step:
    """Infer the step that all items share.

    The step is that of the items without gaps, or of the items with gaps if there are no others.
    Items of fewer than three rows are ignored.

    Raises
    ------
    InvalidFrameError
        If all items have fewer than three rows, or two items have different steps.
    """
    voters = [(item, stamps) for item, stamps in zip(item_ids, index, strict=True)]
    voters = [(item, stamps) for item, stamps in voters if len(stamps) >= 3]
    if not voters:
        raise InvalidFrameError(
            "Inferring the frequency needs a series of at least 3 rows. The longest has "
            f"{max(len(stamps) for stamps in index)}. Pass freq=...",
            parameter="freq",
        )
    found: dict[Step, Hashable] = {}  # step -> first complete item that has it
    partial: dict[Step, Hashable] = {}
    for item, stamps in voters:
        if any(_is_complete(stamps, step) for step in found):
            continue
        step = _step_of(stamps)
        votes = found if _is_complete(stamps, step) else partial
        votes.setdefault(step, item)
    votes = found or partial
    if len(votes) == 1:
        return next(iter(votes))
    for step in votes:
        if all(_is_complete(stamps, step) for _, stamps in voters):
            return step
    (one, first), (other, second) = list(votes.items())[:2]
    raise InvalidFrameError(
        f"All series must have the same frequency. Series {first!r} has {_name(one)!r}, series "
        f"{second!r} has {_name(other)!r}. Resample them, fit them separately, or pass freq=...",
        parameter="freq",
    )


def complete_grid(
    index: Stamps, item_ids: Sequence[Hashable], step: Step, *, fill: bool
) -> tuple[tuple[pd.Index[Any], ...], NDArray[np.int64]]:
    """Place the stamps of every item on a regular grid.

    Parameters
    ----------
    index, item_ids : sequences
        Stamps and id of each item.
    step : pandas offset or int
        Time step.
    fill : bool
        Insert absent stamps; otherwise refuse an item that lacks some.

    Returns
    -------
    grids : tuple of pandas.Index
        Complete stamps of each item.
    position : ndarray of shape (num_rows,)
        Row of each given stamp in the concatenated grids.

    Raises
    ------
    InvalidFrameError
        If a stamp lies off the grid, or is absent and `fill` is False.
    """
    grids, positions, start = [], [], 0
    for item, stamps in zip(item_ids, index, strict=True):
        grid = _grid(stamps, step)
        place = np.arange(len(stamps)) if grid is stamps else _places(stamps, grid, step)
        wrong = place < 0
        wrong[1:] |= np.diff(place) <= 0  # two stamps of one repeated time of day
        if wrong.any():
            off = stamps[int(np.flatnonzero(wrong)[0])]
            raise InvalidFrameError(
                f"Stamps must lie on a grid of step {_name(step)!r}. Series {item!r} has "
                f"{str(off)!r}, which is off the grid that starts at {str(stamps[0])!r}. "
                "Round or resample the stamps, or pass freq=...",
                parameter="freq",
            )
        absent = len(grid) - len(stamps)
        if absent and not fill:
            first = grid[int(np.flatnonzero(place != np.arange(len(place)))[0])]
            raise InvalidFrameError(
                f"Stamps must be regular. Series {item!r} lacks {absent} stamp(s) of step "
                f"{_name(step)!r}, the first at {str(first)!r}. Add the rows, pass "
                'missing="mask", or name another step with freq=...',
                parameter="missing",
            )
        grids.append(_with_given(grid, stamps, place))
        positions.append(place + start)
        start += len(grid)
    return tuple(grids), np.concatenate(positions).astype(np.int64)


def _step_of(stamps: pd.Index[Any]) -> Step:
    """Return the step of one item of at least three rows."""
    common = _common_difference(stamps)
    if not isinstance(stamps, pd.DatetimeIndex):
        return common
    difference = pd.Timedelta(common, unit=stamps.unit)
    constant = _to_offset(difference)
    if difference < 28 * _DAY and _is_constant(stamps):
        return constant if _is_complete(stamps, constant) else pd.offsets.Hour(difference // _HOUR)
    with warnings.catch_warnings():  # pandas 3.1 warns that it will return an offset, not a str
        warnings.simplefilter("ignore", DeprecationWarning)
        inferred = pd.infer_freq(stamps)
    if inferred is not None:
        return _to_offset(inferred)
    steps = [constant]
    if difference >= _DAY:
        steps += map(_to_offset, _CALENDAR_STEPS)
    grids = [(step, _grid(stamps, step)) for step in steps]
    fitting = [(step, len(g)) for step, g in grids if (_places(stamps, g, step) >= 0).all()]
    return min(fitting, key=lambda fit: fit[1], default=(constant, 0))[0]  # fewest absent stamps


def _to_offset(step: str | BaseOffset | pd.Timedelta) -> BaseOffset:
    if isinstance(step, pd.Timedelta) and step % _DAY == pd.Timedelta(0):
        return pd.offsets.Day(step // _DAY)  # calendar days keep local midnights at clock changes
    return to_offset(step)


def _name(step: Step) -> str | int:
    return step if isinstance(step, int) else step.freqstr


def _ticks(stamps: pd.Index[Any]) -> NDArray[np.int64]:
    """Return stamps as integers in their own unit."""
    if isinstance(stamps, pd.DatetimeIndex):
        return cast("NDArray[np.int64]", stamps.asi8)
    return cast("NDArray[np.int64]", stamps.to_numpy(dtype="int64", copy=False))


def _moments(ticks: NDArray[np.int64], like: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Convert integers in the unit of `like` to stamps in its time zone."""
    moments = pd.DatetimeIndex(ticks.view(f"M8[{like.unit}]"))
    return moments if like.tz is None else moments.tz_localize("UTC").tz_convert(like.tz)


def _common_difference(stamps: pd.Index[Any]) -> int:
    """Return the most common difference; the smallest of them if several are."""
    differences, counts = np.unique(np.diff(_ticks(stamps)), return_counts=True)
    return int(differences[counts.argmax()])


def _is_constant(stamps: pd.Index[Any], difference: float | None = None) -> bool:
    """Return whether all neighbours differ by one constant, namely `difference` if given."""
    differences = np.diff(_ticks(stamps))
    expected = differences[:1] if difference is None else difference
    return bool((differences == expected).all())


def _fixed_ticks(stamps: pd.Index[Any], step: Step) -> float | None:
    """Return the step in the unit of the stamps; None if its length varies."""
    if isinstance(step, int):
        return step
    dates = cast("pd.DatetimeIndex", stamps)
    if isinstance(step, pd.offsets.Day):  # also a Tick before pandas 3
        return step.n * _DAY / pd.Timedelta(1, unit=dates.unit) if dates.tz is None else None
    if not isinstance(step, pd.offsets.Tick):
        return None
    return pd.Timedelta(step) / pd.Timedelta(1, unit=dates.unit)


def _grid(stamps: pd.Index[Any], step: Step) -> pd.Index[Any]:
    """Return all stamps from the first to the last; the same object if none is absent."""
    fixed, ticks = _fixed_ticks(stamps, step), _ticks(stamps)
    if fixed is not None:
        if _is_constant(stamps, fixed):
            return stamps  # the common case, without building a grid
        size = (ticks[-1] - ticks[0]) / fixed
        if size > _MAX_SPARSITY * len(stamps):
            raise InvalidFrameError(
                f"Stamps must be regular. From {str(stamps[0])!r} to {str(stamps[-1])!r} there are "
                f"{size:.0f} steps of {_name(step)!r}, but {len(stamps)} rows. "
                "Resample the data or pass a longer step as freq=...",
                parameter="freq",
            )
    if isinstance(step, int):
        grid: pd.Index[Any] = pd.Index(np.arange(ticks[0], ticks[-1] + 1, step), name=stamps.name)
    else:
        dates = cast("pd.DatetimeIndex", stamps)
        first, last = _regular(dates[:3], 0, step), _regular(dates[-3:], -1, step)
        grid = _date_range(first, last, step, dates.tz).as_unit(dates.unit).rename(stamps.name)
    return stamps if np.array_equal(_ticks(grid), ticks) else grid


def following(dates: pd.DatetimeIndex, step: BaseOffset, count: int) -> pd.DatetimeIndex:
    """Return the `count` stamps that follow the last of `dates`.

    Parameters
    ----------
    dates : pandas.DatetimeIndex
        Regular stamps of one item.
    step : pandas offset
        Time step.
    count : int
        Number of stamps.
    """
    fixed = _fixed_ticks(dates, step)
    if fixed is not None and fixed >= 1:
        return _moments(dates.asi8[-1] + np.arange(1, count + 1) * int(fixed), dates)
    start = _regular(dates[-3:], -1, step)
    calendar = _calendar_around(start, start.year, step, dates.tz)
    if calendar is not None:
        after = calendar[calendar.searchsorted(dates[-1], side="right") :][:count]
        if len(after) == count:
            return after.as_unit(dates.unit)
    stamps = _localized(pd.date_range(start, periods=count + 2, freq=step), dates.tz)
    return stamps[stamps > dates[-1]][:count].as_unit(dates.unit)


def _is_local(dates: pd.DatetimeIndex, step: Step) -> bool:
    """Return whether a step is counted on the clock of a time zone."""
    absolute = isinstance(step, pd.offsets.Tick) and not isinstance(step, pd.offsets.Day)
    return dates.tz is not None and not absolute


def _regular(near: pd.DatetimeIndex, position: int, step: BaseOffset) -> pd.Timestamp:
    """Return ``near[position]``; for a local step, as local time with the usual time of day."""
    if not _is_local(near, step):
        return near[position]
    clock = [stamp.tz_localize(None) for stamp in near]
    here = clock[position]
    if isinstance(step, pd.offsets.BusinessHour) or len(clock) < 3:
        return here
    times = [stamp - stamp.normalize() for stamp in clock]
    usual = max(times, key=times.count)
    return here.normalize() + usual if times.count(usual) > 1 else here


def _localized(stamps: pd.DatetimeIndex, tz: Any, *, first: bool = True) -> pd.DatetimeIndex:
    """Convert local times to stamps in the time zone; return stamps that have one unchanged.

    With ``first=False``, a repeated time is the second of the two, and a skipped time is shifted
    by an hour.
    """
    if stamps.tz is not None or tz is None:
        return stamps
    skipped: Any = "shift_forward" if first else _HOUR
    return stamps.tz_localize(tz, ambiguous=np.full(len(stamps), first), nonexistent=skipped)


def _date_range(
    first: pd.Timestamp, last: pd.Timestamp, step: BaseOffset, tz: Any
) -> pd.DatetimeIndex:
    """Return all stamps from `first` to `last`, which are local times if the step is local."""
    calendar = _calendar_around(first, last.year, step, tz)
    if calendar is None:
        return _localized(_between(first, last, step), tz)
    low, high = _localized(pd.DatetimeIndex([first, last]), calendar.tz)
    start, stop = calendar.searchsorted(low), calendar.searchsorted(high, side="right")
    return calendar[int(start) : int(stop)]


def _calendar_around(
    first: pd.Timestamp, last_year: int, step: BaseOffset, tz: Any
) -> pd.DatetimeIndex | None:
    """Return a calendar that items can share; None if the stamps depend on the first one."""
    anchored = step.n == 1 and isinstance(step, _ANCHORED)
    anchored = anchored and getattr(step, "weekday", 0) is not None  # weeks need a weekday
    low, high = first.year // 10 * 10 - 10, last_year // 10 * 10 + 30
    if not anchored or first.tz is not None or low < _FIRST_YEAR or high > _LAST_YEAR:
        return None
    return _calendar(first - first.normalize(), low, high, step, tz)


@lru_cache(maxsize=64)
def _calendar(
    time: pd.Timedelta, first_year: int, last_year: int, step: BaseOffset, tz: Any
) -> pd.DatetimeIndex:
    first, last = (pd.Timestamp(year, 1, 1) + time for year in (first_year, last_year))
    return _localized(pd.date_range(first, last, freq=step), tz)


@lru_cache(maxsize=64)
def _between(first: pd.Timestamp, last: pd.Timestamp, step: BaseOffset) -> pd.DatetimeIndex:
    return pd.date_range(first, last, freq=step)


def _places(stamps: pd.Index[Any], grid: pd.Index[Any], step: Step) -> NDArray[np.intp]:
    """Return the position of each stamp in the grid; -1 for stamps off the grid."""
    place = grid.get_indexer(stamps)
    if isinstance(step, int) or not isinstance(grid, pd.DatetimeIndex) or (place >= 0).all():
        return place
    if not _is_local(grid, step):
        return place
    dates = cast("pd.DatetimeIndex", stamps)
    first, last = _regular(dates[:3], 0, step), _regular(dates[-3:], -1, step)
    clock = _date_range(first, last, step, None)
    other = _localized(clock, grid.tz, first=False).as_unit(grid.unit)
    return np.where(place < 0, other.get_indexer(stamps), place)


def _with_given(
    grid: pd.Index[Any], stamps: pd.Index[Any], place: NDArray[np.intp]
) -> pd.Index[Any]:
    """Return the grid with the given stamps in their places; these may differ at clock changes."""
    if len(grid) == len(stamps):
        return stamps
    ticks = _ticks(grid).copy()
    if np.array_equal(ticks[place], _ticks(stamps)):
        return grid
    ticks[place] = _ticks(stamps)
    return _moments(ticks, cast("pd.DatetimeIndex", grid)).rename(grid.name)


def _is_complete(stamps: pd.Index[Any], step: Step) -> bool:
    fixed = _fixed_ticks(stamps, step)
    if fixed is not None:
        return _is_constant(stamps, fixed)
    grid = _grid(stamps, step)
    if grid is stamps:
        return True
    return len(grid) == len(stamps) and bool((_places(stamps, grid, step) >= 0).all())


def step_name(step: Step) -> str | int:
    """Return a step as a user would write it."""
    return step if isinstance(step, int) else str(step.freqstr)
