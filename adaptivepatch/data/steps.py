"""Time steps of regular stamps: inferred or read from an argument, and used to complete a grid.

Stamps are pandas indexes, one per item and in increasing order: datetimes, or integers whose step
is an int.

Steps of hours or less are counted in absolute time, steps of days or more on the local clock. If a
clock change skips the time of day of a stamp, the grid has the first moment after the change
instead; if a clock change repeats the time of day, the grid has the first of the two moments.
Stamps of the user may also be an hour after the skipped time, or the second of the two moments.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

Step = BaseOffset | int
Stamps = Sequence["pd.Index[Any]"]

_DAY = pd.Timedelta(days=1)
_HOUR = pd.Timedelta(hours=1)
_ZERO = pd.Timedelta(0)
_MONTHS_BY_NAME = re.compile(r"(\d+) months")
_DURATIONS = {
    "weeks": 7 * _DAY,
    "days": _DAY,
    "hours": _HOUR,
    "minutes": pd.Timedelta(minutes=1),
    "seconds": pd.Timedelta(seconds=1),
    "milliseconds": pd.Timedelta(milliseconds=1),
    "microseconds": pd.Timedelta(microseconds=1),
    "nanoseconds": pd.Timedelta(1),
}
_ANCHORED = (  # steps whose calendar does not depend on its start
    pd.offsets.Day,
    pd.offsets.BusinessDay,
    pd.offsets.Week,
    pd.offsets.MonthBegin,
    pd.offsets.MonthEnd,
    pd.offsets.BusinessMonthBegin,
    pd.offsets.BusinessMonthEnd,
)
_FIRST_YEAR, _LAST_YEAR = 1680, 2260  # range of stamps in nanoseconds
_MAX_SPARSITY = 1000  # most grid steps per row; sparser rows are events, not a series
_MIN_FULLNESS = 0.5  # share of a grid that must have rows for its step to be inferred
_MONTHS: tuple[type[BaseOffset], ...] = (  # steps of one or more months
    pd.offsets.MonthBegin,
    pd.offsets.MonthEnd,
    pd.offsets.BusinessMonthBegin,
    pd.offsets.BusinessMonthEnd,
)
_AS_MONTHS: dict[type[BaseOffset], tuple[type[BaseOffset], int]] = {
    pd.offsets.QuarterBegin: (pd.offsets.MonthBegin, 3),
    pd.offsets.QuarterEnd: (pd.offsets.MonthEnd, 3),
    pd.offsets.BQuarterBegin: (pd.offsets.BusinessMonthBegin, 3),
    pd.offsets.BQuarterEnd: (pd.offsets.BusinessMonthEnd, 3),
    pd.offsets.YearBegin: (pd.offsets.MonthBegin, 12),
    pd.offsets.YearEnd: (pd.offsets.MonthEnd, 12),
    pd.offsets.BYearBegin: (pd.offsets.BusinessMonthBegin, 12),
    pd.offsets.BYearEnd: (pd.offsets.BusinessMonthEnd, 12),
}


def parse_step(freq: Any, stamps: pd.Index[Any]) -> Step:
    """Return the user's `freq` as a step of `stamps`, in its normal form.

    A step is the distance between neighbouring stamps. The position of the stamps within the week,
    the quarter or the year is read from the series, so that "W-WED" and "7D" are the same step, and
    so are "QS-FEB" and "3MS". An anchor that the user names must fit the stamps.

    Parameters
    ----------
    freq : str, pandas offset, Timedelta, timedelta64 or int
        Step that the user passed; an int for integer stamps.
    stamps : pandas.Index
        Stamps of the series.

    Raises
    ------
    InvalidParameterError
        If `freq` is not a step for the kind of stamps, or its anchor does not fit them.
    """
    if not isinstance(stamps, pd.DatetimeIndex):
        step = _as_int(freq)
        if step is None or step < 1:
            raise InvalidParameterError(
                "The 'freq' parameter must be a positive int for integer stamps. Got "
                f"{freq!r} instead.",
                parameter="freq",
            )
        return step
    offset = _as_offset(freq)
    if offset is None:
        raise InvalidParameterError(
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            f"stamps. Got {freq!r} instead.",
            parameter="freq",
        )
    _check_anchor(freq, offset, stamps)
    return normalised(offset)


def _as_int(freq: Any) -> int | None:
    is_int = isinstance(freq, int | np.integer) and not isinstance(freq, bool | np.timedelta64)
    return int(freq) if is_int else None


def _as_offset(freq: Any) -> BaseOffset | None:
    """Return an offset of at least one step, or None if `freq` does not name one."""
    if isinstance(freq, str) and (match := _MONTHS_BY_NAME.fullmatch(freq)):
        return pd.DateOffset(months=int(match[1]))
    if _as_int(freq) is not None:
        return None
    try:
        offset = to_offset(pd.Timedelta(freq) if isinstance(freq, np.timedelta64) else freq)
    except (ValueError, TypeError):
        return None
    if offset is None or offset.n < 1:
        return None
    return offset


def normalised(step: BaseOffset) -> BaseOffset:
    """Return the normal form of a step: without anchor, and quarters and years as months.

    Examples
    --------
    >>> [step_name(normalised(to_offset(f))) for f in ("W-WED", "QS-FEB", "2YE", "BQE", "90min")]
    ['7D', '3MS', '24ME', '3BME', '90min']
    """
    if type(step) in _AS_MONTHS:
        months, count = _AS_MONTHS[type(step)]
        return months(count * step.n)
    if type(step) is pd.offsets.Week:
        return pd.offsets.Day(7 * step.n)
    if type(step) is pd.DateOffset:
        return _plain(step)
    return step


def _plain(step: pd.DateOffset) -> BaseOffset:
    """Return months, days or a fixed duration for a `pandas.DateOffset` of keywords."""
    given = {name: value * step.n for name, value in step.kwds.items()}
    months = given.pop("months", 0) + 12 * given.pop("years", 0)
    if months and not given and months >= 1:
        return pd.DateOffset(months=int(months))
    if not months and given and all(name in _DURATIONS for name in given):
        duration = sum((value * _DURATIONS[name] for name, value in given.items()), pd.Timedelta(0))
        if duration > pd.Timedelta(0):
            return _to_offset(duration)
    raise InvalidParameterError(
        "The 'freq' parameter must be a single distance, in months or in units of at most a week. "
        f"Got {step!r} instead. Use a pandas frequency such as 'h', 'D' or 'MS'.",
        parameter="freq",
    )


def _check_anchor(freq: Any, offset: BaseOffset, stamps: pd.DatetimeIndex) -> None:
    """Refuse an anchor, such as the weekday of "W-SUN", that the first stamp contradicts."""
    if len(stamps) == 0 or isinstance(offset, pd.offsets.Tick) or type(offset) is pd.DateOffset:
        return
    if isinstance(offset, pd.offsets.BusinessHour):
        return
    first = stamps[0].tz_localize(None)
    if offset.is_on_offset(first):
        return
    own = _fitting_name(stamps)
    raise InvalidParameterError(
        f"The stamps do not fit freq={_as_given(freq)!r}: the first stamp, {str(stamps[0])!r}, is "
        f"a {first:%A} and day {first.day} of {first:%B}. "
        f"{f'Pass freq={own!r}.' if own else 'Pass another freq, or leave it out.'}",
        parameter="freq",
    )


def _fitting_name(stamps: pd.DatetimeIndex) -> str | None:
    """Return the anchored name of a step that fits the stamps, if pandas or this module has one."""
    if len(stamps) < 3:
        return None
    with warnings.catch_warnings():  # pandas 3.1 announces that it will return the offset itself
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            inferred = pd.infer_freq(stamps[:100])
        except (TypeError, ValueError):
            inferred = None
    return None if inferred is None else str(getattr(inferred, "freqstr", inferred))


def _as_given(freq: Any) -> Any:
    """Return a step as the user wrote it."""
    return freq.freqstr if isinstance(freq, BaseOffset) else freq


def find_step(index: Stamps, item_ids: Sequence[Hashable]) -> Step:
    """Infer the step that all items share.

    The step is taken from the items without gaps or, if all items have gaps, from the items with
    gaps. Items with fewer than three rows are ignored.

    Raises
    ------
    InvalidFrameError
        If all items have fewer than three rows, or two items have different steps.
    """
    voters = [(item, stamps) for item, stamps in zip(item_ids, index, strict=True)]
    voters = [(item, stamps) for item, stamps in voters if len(stamps) >= 3]
    if not voters:
        raise InvalidFrameError(
            "Inferring the frequency needs a series of at least 3 rows, but the longest series has "
            f"{max(len(stamps) for stamps in index)}. Pass freq=...",
            parameter="freq",
        )
    found: dict[Step, Hashable] = {}  # step -> first complete item that has it
    partial: dict[Step, Hashable] = {}
    for item, stamps in voters:
        if any(_is_complete(stamps, step) for step in found):
            continue
        step = _step_of(stamps, item)
        votes = found if _is_complete(stamps, step) else partial
        votes.setdefault(step, item)
    votes = found or partial
    if len(votes) > 1:
        shared = [s for s in votes if all(_is_complete(stamps, s) for _, stamps in voters)]
        if not shared:
            (one, first), (other, second) = list(votes.items())[:2]
            raise InvalidFrameError(
                f"All series must have the same frequency, but series {first!r} has "
                f"{step_name(one)!r} and series {second!r} has {step_name(other)!r}. Resample "
                "them, fit them separately, or pass freq=...",
                parameter="freq",
            )
        return shared[0]
    step = next(iter(votes))
    if not found:
        _check_fullness(voters, step)
    return step


def _check_fullness(voters: Sequence[tuple[Hashable, pd.Index[Any]]], step: Step) -> None:
    """Refuse an inferred step at which most rows would be absent."""
    rows = sum(len(stamps) for _, stamps in voters)
    needed = sum(len(_grid(stamps, step)) for _, stamps in voters)
    if rows >= _MIN_FULLNESS * needed:
        return
    item, stamps = voters[0]
    differences, counts = np.unique(np.diff(_ticks(stamps)), return_counts=True)
    usual = int(differences[counts.argmax()])
    off = np.flatnonzero((_ticks(stamps) - _ticks(stamps)[0]) % usual)
    distance: Step = usual
    if isinstance(stamps, pd.DatetimeIndex):
        distance = _to_offset(usual * pd.Timedelta(1, unit=stamps.unit))
    where = "" if len(off) == 0 else f", which {str(stamps[int(off[0])])!r} does not fit"
    raise InvalidFrameError(
        "The frequency cannot be inferred. The longest step that fits every stamp is "
        f"{step_name(step)!r}, but a regular grid with that step has {needed} stamps, and only "
        f"{rows} of them have rows. The most common distance in series {item!r} is "
        f"{step_name(distance)!r}{where}. Pass freq=... to choose, or round or resample the "
        "stamps.",
        parameter="freq",
    )


def check_own_step(index: Stamps, item_ids: Sequence[Hashable], step: Step) -> None:
    """Refuse stamps with a longer step than the model's, whose grid would be mostly empty.

    Parameters
    ----------
    index, item_ids : sequences
        Stamps and id of each item.
    step : pandas offset or int
        Step of the model.

    Raises
    ------
    InvalidFrameError
        If fewer than half of the stamps of a grid of `step` have rows, and the stamps are regular
        with a longer step.
    """
    rows, needed = sum(map(len, index)), sum(len(_grid(stamps, step)) for stamps in index)
    if rows >= _MIN_FULLNESS * needed:
        return
    try:
        own = find_step(index, item_ids)
    except InvalidFrameError:
        return  # gaps, not another step
    if sum(len(_grid(stamps, own)) for stamps in index) < needed:
        raise InvalidFrameError(
            f"The model has the step {step_name(step)!r}, but the stamps of this frame have the "
            f"step {step_name(own)!r}, so that only {rows} of the {needed} steps of the model "
            "would have rows. Resample the frame, or fit a model on data with this step."
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
        Whether to insert absent stamps. If False, an item that lacks stamps is refused.

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
                f"Stamps must lie on a grid of step {step_name(step)!r}. Series {item!r} has "
                f"{str(off)!r}, which is off the grid that starts at {str(stamps[0])!r}. "
                "Round or resample the stamps, or pass freq=...",
                parameter="freq",
            )
        absent = len(grid) - len(stamps)
        if absent and not fill:
            first = grid[int(np.flatnonzero(place != np.arange(len(place)))[0])]
            raise InvalidFrameError(
                f"Stamps must be regular. Series {item!r} lacks {absent} stamp(s) of step "
                f"{step_name(step)!r}, the first at {str(first)!r}. Add the rows, pass "
                'missing="mask", or name another step with freq=...',
                parameter="missing",
            )
        grids.append(_with_given(grid, stamps, place))
        positions.append(place + start)
        start += len(grid)
    return tuple(grids), np.concatenate(positions).astype(np.int64)


class _Candidate(NamedTuple):
    """A step, and the number of stamps of its grid from the first to the last row."""

    step: Step
    size: int


def _step_of(stamps: pd.Index[Any], item: Hashable = None) -> Step:
    """Return the longest step whose grid holds all stamps of one item of at least three rows.

    Raises
    ------
    InvalidFrameError
        If two steps fit equally and put absent rows at different stamps.
    """
    candidates = sorted(_candidates(stamps), key=lambda candidate: candidate.size)  # stable
    fitting: list[_Candidate] = []
    for candidate in candidates:
        if fitting and candidate.size > fitting[0].size:
            break
        if candidate.size > _MAX_SPARSITY * len(stamps) or _holds(stamps, candidate.step):
            fitting.append(candidate)
    best = fitting[0].step
    if fitting[0].size > len(stamps):
        for other in fitting[1:]:
            if not _grid(stamps, other.step).equals(_grid(stamps, best)):
                raise InvalidFrameError(
                    f"The frequency cannot be inferred. {step_name(best)!r} and "
                    f"{step_name(other.step)!r} fit the stamps of series {item!r} equally well, "
                    "and put the absent rows at different stamps. Pass freq=... to choose.",
                    parameter="freq",
                )
    return best


def _holds(stamps: pd.Index[Any], step: Step) -> bool:
    """Tell whether the grid of a step holds all stamps."""
    place = _places(stamps, _grid(stamps, step), step)
    return bool((place >= 0).all() and (np.diff(place) > 0).all())


def _candidates(stamps: pd.Index[Any]) -> list[_Candidate]:
    """Return the longest step of every kind that may fit, with plainer kinds first.

    Kinds are fixed distances, months (by the position of the stamps in the month), half months and
    business days. Fixed distances of 28 days or more come after the months.
    """
    if not isinstance(stamps, pd.DatetimeIndex):
        return _of_count(_ticks(stamps), lambda count: count)
    unit = pd.Timedelta(1, unit=stamps.unit)
    make = _absolute if stamps.tz is not None else _to_offset
    fixed = _of_count(_ticks(stamps), lambda count: make(count * unit))
    clock = stamps.tz_localize(None)
    days = clock.normalize()
    if stamps.tz is None and not (clock - days).equals((clock - days)[:1].repeat(len(clock))):
        return [*fixed, *_of_business_hours(clock, days)]  # several times of day
    months, business = _of_months(days), _of_business_days(days)
    if stamps.tz is not None:  # days are counted on the local clock
        number = days.to_numpy().astype("M8[D]").astype(np.int64)
        fixed = [*_of_count(number, pd.offsets.Day), *fixed]
    is_short = bool((np.diff(days) < 28 * _DAY).any())
    return [*fixed, *months, *business] if is_short else [*months, *fixed, *business]


def _of_months(days: pd.DatetimeIndex) -> list[_Candidate]:
    """Return the steps of months and half months that fit days."""
    found: list[_Candidate] = []
    month = (days.year * 12 + days.month).to_numpy().astype(np.int64)
    if (np.diff(month) > 0).all():
        for kind in _MONTHS:
            if _all_on(kind(), days):
                found += _of_count(month, kind)
        day = np.unique(days.day)
        if len(day) == 1 and 1 < day[0] <= 28:
            found += _of_count(month, lambda count: pd.DateOffset(months=count))
    halves: tuple[tuple[type[BaseOffset], int], ...] = (
        (pd.offsets.SemiMonthBegin, 15),
        (pd.offsets.SemiMonthEnd, 16),
    )
    for kind, second in halves:  # stamps of the second half of a month are on this day or later
        if _all_on(kind(), days):
            found += _of_count(2 * month + (days.day >= second), kind)
    return found


def _of_business_days(days: pd.DatetimeIndex) -> list[_Candidate]:
    """Return the step of business days, if days have no weekend."""
    if not (days.weekday < 5).all():
        return []
    dates = days.to_numpy().astype("M8[D]")
    return _of_count(np.busday_count(dates[0], dates), pd.offsets.BusinessDay)


def _of_business_hours(clock: pd.DatetimeIndex, days: pd.DatetimeIndex) -> list[_Candidate]:
    """Return the step of business hours, if all stamps are full hours of pandas's business day."""
    hour = pd.offsets.BusinessHour()
    opening, closing = 9, 17
    of_day = ((clock - days) // _HOUR).to_numpy()
    is_full = bool(((clock - days) % _HOUR == _ZERO).all())
    if not (is_full and (opening <= of_day).all() and (of_day < closing).all()):
        return []
    if not (days.weekday < 5).all():
        return []
    dates = days.to_numpy().astype("M8[D]")
    position = np.busday_count(dates[0], dates) * (closing - opening) + of_day - opening
    return _of_count(position, lambda count: hour * count)


def _all_on(offset: BaseOffset, days: pd.DatetimeIndex) -> bool:
    """Return whether all days lie on an offset."""
    return all(offset.is_on_offset(day) for day in days)


def _of_count(position: NDArray[np.int64], make: Callable[[int], Step]) -> list[_Candidate]:
    """Return the step of the greatest common divisor of distances, if all distances are positive.

    Parameters
    ----------
    position : ndarray of int
        Number of each stamp, counted in the smallest step of a kind.
    make : callable
        Function that maps a multiple to a step of that kind.
    """
    distances = np.diff(position)
    if not (distances > 0).all():
        return []
    count = int(np.gcd.reduce(distances))
    return [_Candidate(make(count), int(position[-1] - position[0]) // count + 1)]


def _absolute(duration: pd.Timedelta) -> BaseOffset:
    """Return a duration as an offset in absolute time, even if it is a number of days."""
    return pd.offsets.Hour(duration // _HOUR) if duration % _HOUR == _ZERO else to_offset(duration)


def _to_offset(step: str | BaseOffset | pd.Timedelta) -> BaseOffset:
    if isinstance(step, pd.Timedelta) and step % _DAY == pd.Timedelta(0):
        return pd.offsets.Day(step // _DAY)  # calendar days keep local midnights at clock changes
    return to_offset(step)


def _ticks(stamps: pd.Index[Any]) -> NDArray[np.int64]:
    """Return stamps as integers in their own unit."""
    if isinstance(stamps, pd.DatetimeIndex):
        return cast("NDArray[np.int64]", stamps.asi8)
    return cast("NDArray[np.int64]", stamps.to_numpy(dtype="int64", copy=False))


def _moments(ticks: NDArray[np.int64], like: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Convert integers in the unit of `like` to stamps in its time zone."""
    moments = pd.DatetimeIndex(ticks.view(f"M8[{like.unit}]"))
    return moments if like.tz is None else moments.tz_localize("UTC").tz_convert(like.tz)


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
                f"{size:.0f} steps of {step_name(step)!r}, but only {len(stamps)} rows. Resample "
                "the data or pass a longer step as freq=...",
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
    after = pd.date_range(start, periods=count + 2, freq=step, unit=dates.unit)
    stamps = _localized(after, dates.tz)
    return stamps[stamps > dates[-1]][:count].as_unit(dates.unit)


def _is_local(dates: pd.DatetimeIndex, step: Step) -> bool:
    """Return whether a step is measured in the local time of a time zone."""
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
    """Convert local times to stamps in the time zone; stamps with a zone stay unchanged.

    With ``first=False``, a repeated time becomes the second of its two moments, and a skipped time
    is shifted by an hour.
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
    """Return a calendar that items can share; None if the stamps depend on the first stamp."""
    anchored = step.n == 1 and isinstance(step, _ANCHORED)
    anchored = anchored and getattr(step, "weekday", 0) is not None  # weeks need a weekday
    low, high = first.year // 10 * 10 - 10, last_year // 10 * 10 + 30
    if not anchored or first.tz is not None or low < _FIRST_YEAR or high > _LAST_YEAR:
        return None
    if type(tz).__hash__ is None:  # dateutil's zones, which cannot be keys of a cache
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
    return pd.date_range(first, last, freq=step, unit=first.unit)


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
    """Return the grid with the given stamps in their places; they may differ at clock changes."""
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
    """Return how a user would write a step; `parse_step` reads it."""
    if isinstance(step, int):
        return step
    if type(step) is pd.DateOffset:
        return f"{step.kwds['months'] * step.n} months"
    return str(step.freqstr)
