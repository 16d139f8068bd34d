"""`Panel`: regular series in canonical order, the data structure of the whole subpackage.

`read_frame` in ``frame.py`` makes panels from users' frames; ``windows.py`` cuts panels into
windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.data.steps import Step, following
from adaptivepatch.errors import InvalidFrameError


@dataclass(frozen=True)
class FrameLayout:
    """Layout of the user's frame, so that a forecast can be returned in the same layout.

    Parameters
    ----------
    item_id, timestamp : str
        Names of the two key columns; `timestamp` is the name of the index if the index held the
        stamps and had a name.
    channel_order : tuple of str
        Channels in the order of the user's columns.
    item_order : tuple of hashable
        Items in the order of their first appearance.
    was_long : bool
        Whether the frame had an item column.
    stamps_in_index : bool
        Whether the index held the stamps.
    """

    item_id: str
    timestamp: str
    channel_order: tuple[str, ...]
    item_order: tuple[Hashable, ...]
    was_long: bool
    stamps_in_index: bool


@dataclass(frozen=True, eq=False, repr=False)
class Panel:
    """Regular series in canonical order.

    Items are sorted by id and channels by name, so the row, item and column order of the user's
    frame cannot change a result. Treat the arrays as read-only.

    Parameters
    ----------
    item_ids : tuple of hashable
        Ids, sorted by the names of their types and then by value.
    channels : tuple of str
        Sorted channel names.
    row_offsets : ndarray of shape (num_items + 1,)
        Rows of item ``i`` are ``values[row_offsets[i] : row_offsets[i + 1]]``.
    values : ndarray of shape (num_rows, num_channels)
        Values in float64; NaN means unobserved.
    index : tuple of pandas.Index
        Regular stamps of each item: datetimes or integers.
    freq : pandas offset or int
        Time step, an int for integer stamps.
    layout : FrameLayout
        Layout of the user's frame.
    """

    item_ids: tuple[Hashable, ...]
    channels: tuple[str, ...]
    row_offsets: NDArray[np.int64]
    values: NDArray[np.float64]
    index: tuple[pd.Index[Any], ...]
    freq: Step
    layout: FrameLayout

    def __repr__(self) -> str:
        return (
            f"Panel({self.num_items} items, {self.num_channels} channels, "
            f"{len(self.values)} rows, step {self.freq!r})"
        )

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return len(self.channels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of rows of each item, of shape (num_items,)."""
        return np.diff(self.row_offsets)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """True where a value was observed, of shape (num_rows, num_channels)."""
        return ~np.isnan(self.values)

    @property
    def stamps(self) -> pd.Index[Any]:
        """Stamps of all rows, item after item."""
        return self.index[0].append(list(self.index[1:]))

    @property
    def position(self) -> dict[Hashable, int]:
        """Position of each item by its id."""
        return {id_: position for position, id_ in enumerate(self.item_ids)}

    def item(self, position: int) -> NDArray[np.float64]:
        """Return the values of one item, as a view of shape (length, num_channels)."""
        return self.values[self.row_offsets[position] : self.row_offsets[position + 1]]

    def tail(self, rows: ArrayLike) -> Panel:
        """Return the last `rows` rows of each item; `rows` is one number or one per item."""
        return self.slice_rows(self.lengths - np.asarray(rows), self.lengths)

    def slice_rows(self, start: ArrayLike, stop: ArrayLike) -> Panel:
        """Return rows ``start`` (included) to ``stop`` (excluded) of each item.

        Parameters
        ----------
        start, stop : int or array of shape (num_items,)
            Row numbers within the item, clipped to the rows of the item.
        """
        first = np.broadcast_to(np.clip(start, 0, self.lengths), self.lengths.shape)
        last = np.maximum(first, np.broadcast_to(np.clip(stop, 0, self.lengths), first.shape))
        spans = list(zip(first.tolist(), last.tolist(), strict=True))
        values = [self.item(i)[a:b] for i, (a, b) in enumerate(spans)]
        return replace(
            self,
            row_offsets=row_offsets(last - first),
            values=np.concatenate(values),
            index=tuple(stamps[a:b] for stamps, (a, b) in zip(self.index, spans, strict=True)),
        )

    def select_items(self, which: NDArray[np.bool_]) -> Panel:
        """Return the items at which a mask of shape (num_items,) is True."""
        positions = np.flatnonzero(which).tolist()
        if len(positions) == self.num_items:
            return self
        ids = tuple(self.item_ids[i] for i in positions)
        kept = set(ids)
        order = tuple(id_ for id_ in self.layout.item_order if id_ in kept)
        return replace(
            self,
            item_ids=ids,
            row_offsets=row_offsets(self.lengths[positions]),
            values=np.concatenate([self.item(i) for i in positions]),
            index=tuple(self.index[i] for i in positions),
            layout=replace(self.layout, item_order=order),
        )

    def extended(self, rows: NDArray[np.float64]) -> Panel:
        """Return the panel with rows (items, horizon, channels) appended to each item."""
        horizon = rows.shape[1]
        values = [np.concatenate([self.item(i), rows[i]]) for i in range(self.num_items)]
        index = tuple(
            stamps.append(future_index(stamps, self.freq, horizon)) for stamps in self.index
        )
        return replace(
            self,
            values=np.concatenate(values),
            index=index,
            row_offsets=row_offsets(self.lengths + horizon),
        )

    def rows_before(self, start: Any) -> NDArray[np.int64]:
        """Return, for each item, the number of rows before a stamp.

        Raises
        ------
        InvalidFrameError
            If `start` is not of the same kind as the panel's stamps (datetimes or integers).
        """
        try:
            return np.array([index.searchsorted(_like(index, start)) for index in self.index])
        except (TypeError, ValueError) as error:
            raise InvalidFrameError(
                "start must be a stamp of the same kind as the frame's stamps, such as "
                f"{str(self.index[0][0])!r}. Got {start!r} instead ({error}).",
                parameter="start",
            ) from error

    def digest(self) -> str:
        """Return a hash of values, items, channels and stamps: 16 hexadecimal digits."""
        # The first stamp, the last stamp and the step determine regular stamps.
        stamps = [f"{index[0]} {index[-1]}" for index in self.index if len(index)]
        names = repr((self.item_ids, self.channels, self.freq, stamps))
        digest = hashlib.sha256()
        for array in (self.values, self.row_offsets, np.frombuffer(names.encode(), np.uint8)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def to_frame(self) -> pd.DataFrame:
        """Return a long frame in canonical order, with the key columns of the layout."""
        ids = [id_ for id_, n in zip(self.item_ids, self.lengths, strict=True) for _ in range(n)]
        keys = pd.DataFrame(
            {
                self.layout.item_id: pd.Series(ids, dtype=None if ids else object),
                self.layout.timestamp: self.stamps,
            }
        )
        return pd.concat([keys, pd.DataFrame(self.values, columns=list(self.channels))], axis=1)


def future_index(index: pd.Index[Any], freq: Step, horizon: int) -> pd.Index[Any]:
    """Return the `horizon` stamps that follow the last stamp of `index`.

    Calendar steps (business days, month ends, local days across a clock change) are counted in
    the calendar, not in hours; ``steps.py`` describes times that a clock change skips.

    Parameters
    ----------
    index : pandas.Index
        Stamps of one item, in order.
    freq : pandas offset or int
        Time step, as in `Panel`.
    horizon : int
        Number of stamps.

    Raises
    ------
    InvalidFrameError
        If the dtype of the index cannot hold the stamps.
    """
    if isinstance(freq, int):
        if int(index[-1]) + freq * horizon > np.iinfo(np.int64).max:
            raise _no_future(index, freq, horizon)
        steps = freq * np.arange(1, horizon + 1)
        return pd.Index(index[-1] + steps, name=index.name)
    try:
        stamps = following(cast("pd.DatetimeIndex", index), freq, horizon)
    except (OverflowError, AssertionError, pd.errors.OutOfBoundsDatetime) as error:
        raise _no_future(index, freq, horizon) from error
    if len(stamps) < horizon or not (stamps[0] > index[-1] and stamps.is_monotonic_increasing):
        raise _no_future(index, freq, horizon)  # the stamps overflowed
    return stamps.rename(index.name)


def _like(index: pd.Index[Any], start: Any) -> Any:
    if not isinstance(index, pd.DatetimeIndex):
        return int(start)
    if isinstance(start, int | float | np.number):
        raise TypeError("a number is not a date")
    stamp = pd.Timestamp(start)
    return stamp.tz_localize(index.tz) if index.tz is not None and stamp.tz is None else stamp


def _no_future(index: pd.Index[Any], freq: Step, horizon: int) -> InvalidFrameError:
    name = freq if isinstance(freq, int) else freq.freqstr
    return InvalidFrameError(
        f"Forecasts need stamps after the end of a series, but the dtype {str(index.dtype)!r} "
        f"cannot hold {horizon} step(s) of {name!r} after {str(index[-1])!r}. Use smaller "
        "integers, or a coarser unit of dates with df.index.as_unit('s')."
    )


def row_offsets(lengths: ArrayLike) -> NDArray[np.int64]:
    """Return the rows at which items start and end: zero, then the cumulative sum of lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
