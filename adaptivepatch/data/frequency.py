"""The step of regular stamps: infer it, read it from an argument, and complete a grid with it.

Stamps are pandas indexes, one per item, each already increasing: datetimes, or integers whose
step is an int. Nothing here looks at values.
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

_CALENDAR_STEPS = ("B", "MS", "ME", "BMS", "BME", "QS", "QE", "YS", "YE")
_DAY = pd.Timedelta(days=1)
_MAX_SPARSITY = 1000  # grid steps per row, beyond which stamps are events and no series


def parse_step(freq: str | BaseOffset | pd.Timedelta | int, stamps: pd.Index[Any]) -> Step:
    """Read the user's `freq` as one step of `stamps`."""
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
        raise InvalidParameterError(f"The 'freq' parameter must be {kind}. Got {freq!r} instead.")
    return step


def find_step(index: Stamps, item_ids: Sequence[Hashable]) -> Step:
    """Infer the step that all items share.

    Items without gaps decide; items with gaps decide only where every item has some; items of
    fewer than three rows follow the others.

    Raises
    ------
    InvalidFrameError
        If no item shows a step, or two items show different ones.
    """
    voters = [(item, stamps) for item, stamps in zip(item_ids, index, strict=True)]
    voters = [(item, stamps) for item, stamps in voters if len(stamps) >= 3]
    if not voters:
        raise InvalidFrameError(
            "The frequency needs a series of at least 3 rows to be inferred. The longest has "
            f"{max(len(stamps) for stamps in index)}. Pass freq=..."
        )
    found: dict[Step, Hashable] = {}  # step -> first complete item that shows it
    partial: dict[Step, Hashable] = {}
    for item, stamps in voters:
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
        f"All series must share one frequency. {first!r} has {_name(one)!r}, {second!r} has "
        f"{_name(other)!r}. Resample them, fit them apart or pass freq=..."
    )


def complete_grid(
    index: Stamps, item_ids: Sequence[Hashable], step: Step, *, fill: bool
) -> tuple[tuple[pd.Index[Any], ...], NDArray[np.int64]]:
    """Lay every item on its regular grid.

    Parameters
    ----------
    index, item_ids : sequences
        Stamps and id of each item.
    step : pandas offset or int
        One step.
    fill : bool
        Whether absent stamps are inserted or refused.

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
        place = np.arange(len(stamps)) if grid is stamps else grid.get_indexer(stamps)
        if (place < 0).any():
            off = stamps[int(np.flatnonzero(place < 0)[0])]
            raise InvalidFrameError(
                f"Stamps must lie on a grid of step {_name(step)!r}. Series {item!r} has "
                f"{str(off)!r}, which is off the grid that starts at {str(stamps[0])!r}. "
                "Round or resample the stamps, or pass freq=..."
            )
        absent = len(grid) - len(stamps)
        if absent and not fill:
            first = grid[int(np.flatnonzero(place != np.arange(len(place)))[0])]
            raise InvalidFrameError(
                f"Stamps must be regular. Series {item!r} lacks {absent} stamp(s) of step "
                f"{_name(step)!r}, the first at {str(first)!r}. Add the rows or pass "
                'missing="mask".'
            )
        grids.append(grid)
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
        hours = int(difference / pd.Timedelta(hours=1))
        return constant if _is_complete(stamps, constant) else pd.offsets.Hour(hours)
    with warnings.catch_warnings():  # pandas 3.1 announces that it will return the offset itself
        warnings.simplefilter("ignore", DeprecationWarning)
        inferred = pd.infer_freq(stamps)
    if inferred is not None:
        return _to_offset(inferred)
    steps = [constant]
    if difference >= _DAY:
        steps += map(_to_offset, _CALENDAR_STEPS)
    grids = [(step, _grid(stamps, step)) for step in steps]
    fitting = [(step, len(grid)) for step, grid in grids if stamps.isin(grid).all()]
    return min(fitting, key=lambda fit: fit[1], default=(constant, 0))[0]  # fewest absent stamps


def _to_offset(step: str | BaseOffset | pd.Timedelta) -> BaseOffset:
    if isinstance(step, pd.Timedelta) and step % _DAY == pd.Timedelta(0):
        return pd.offsets.Day(step // _DAY)  # calendar days: local midnight stays local midnight
    return to_offset(step)


def _name(step: Step) -> str | int:
    return step if isinstance(step, int) else step.freqstr


def _ticks(stamps: pd.Index[Any]) -> NDArray[np.int64]:
    """Return stamps as integers in their own unit."""
    return cast("NDArray[np.int64]", stamps.to_numpy(dtype="int64", copy=False))


def _common_difference(stamps: pd.Index[Any]) -> int:
    """Return the most common difference, the smallest of those where several are."""
    differences, counts = np.unique(np.diff(_ticks(stamps)), return_counts=True)
    return int(differences[counts.argmax()])


def _is_constant(stamps: pd.Index[Any], difference: float | None = None) -> bool:
    """Whether neighbours differ by one constant, equal to `difference` where that is given."""
    differences = np.diff(_ticks(stamps))
    expected = differences[:1] if difference is None else difference
    return bool((differences == expected).all())


def _fixed_ticks(stamps: pd.Index[Any], step: Step) -> float | None:
    """Return the step in the unit of the stamps, None where its length varies."""
    if isinstance(step, int):
        return step
    dates = cast("pd.DatetimeIndex", stamps)
    if dates.tz is not None or not isinstance(step, pd.offsets.Tick | pd.offsets.Day):
        return None
    length = step.n * _DAY if isinstance(step, pd.offsets.Day) else pd.Timedelta(step)
    return length / pd.Timedelta(1, unit=dates.unit)


def _grid(stamps: pd.Index[Any], step: Step) -> pd.Index[Any]:
    """Return all stamps from the first to the last; the same object where none is absent."""
    fixed, ticks = _fixed_ticks(stamps, step), _ticks(stamps)
    if fixed is not None:
        if _is_constant(stamps, fixed):
            return stamps  # the common case, without building a grid
        size = (ticks[-1] - ticks[0]) / fixed
        if size > _MAX_SPARSITY * len(stamps):
            raise InvalidFrameError(
                f"Stamps must be regular. From {str(stamps[0])!r} to {str(stamps[-1])!r} there are "
                f"{size:.0f} steps of {_name(step)!r}, but {len(stamps)} rows. "
                "Resample the data or pass a longer step as freq=..."
            )
    if isinstance(step, int):
        grid: pd.Index[Any] = pd.Index(np.arange(ticks[0], ticks[-1] + 1, step), name=stamps.name)
    else:
        dates = cast("pd.DatetimeIndex", stamps)
        grid = _date_range(dates[0], dates[-1], step).as_unit(dates.unit).rename(stamps.name)
    return stamps if len(grid) == len(stamps) and bool((grid == stamps).all()) else grid


@lru_cache(maxsize=64)
def _date_range(first: pd.Timestamp, last: pd.Timestamp, step: BaseOffset) -> pd.DatetimeIndex:
    """Build a grid once for all items and candidates that share it."""
    return pd.date_range(first, last, freq=step)


def _is_complete(stamps: pd.Index[Any], step: Step) -> bool:
    fixed = _fixed_ticks(stamps, step)
    if fixed is not None:
        return _is_constant(stamps, fixed)
    return _grid(stamps, step) is stamps
