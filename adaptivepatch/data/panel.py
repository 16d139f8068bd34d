"""`Panel`: regular series in canonical order, what every other file of this layer works on.

`read_frame` in ``frame.py`` makes panels from users' frames. The next file to read is
``windows.py``, which cuts a panel into windows.
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
    """How the user's frame was laid out, so that a forecast can be returned in the same way.

    Parameters
    ----------
    item_id, timestamp : str
        Names of the two key columns. ``timestamp`` is the index name where stamps came from a
        named index.
    channel_order : tuple of str
        Channels in the order of the user's columns.
    item_order : tuple of hashable
        Items in the order of their first appearance.
    was_long : bool
        Whether the frame had an item column.
    stamps_in_index : bool
        Whether the stamps were the index.
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
        Sorted ids; by type name first where types mix.
    channels : tuple of str
        Sorted channel names.
    row_offsets : ndarray of shape (num_items + 1,)
        Rows of item ``i`` are ``values[row_offsets[i] : row_offsets[i + 1]]``.
    values : ndarray of shape (num_rows, num_channels)
        float64; NaN means unobserved.
    index : tuple of pandas.Index
        Per item, its regular stamps: datetimes or integers.
    freq : pandas offset or int
        One step; an int for integer stamps.
    layout : FrameLayout
        How the user's frame looked.
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
        """Rows of each item, of shape (num_items,)."""
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
        """Return the last `rows` rows of each item; one number, or one per item."""
        return self.slice_rows(self.lengths - np.asarray(rows), self.lengths)

    def slice_rows(self, start: ArrayLike, stop: ArrayLike) -> Panel:
        """Return rows ``start`` (included) to ``stop`` (excluded) of each item.

        Parameters
        ----------
        start, stop : int or array of shape (num_items,)
            Row numbers within the item, cut to the rows the item has.
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
            If the stamp is not of the kind of the panel's stamps.
        """
        try:
            return np.array([index.searchsorted(_like(index, start)) for index in self.index])
        except (TypeError, ValueError) as error:
            raise InvalidFrameError(
                f"start must be a stamp of the frame's kind, such as {str(self.index[0][0])!r}. Got "
                f"{start!r} instead ({error}).",
                parameter="start",
            ) from error

    def digest(self) -> str:
        """Return a fingerprint of values, items, channels and stamps: 16 hexadecimal digits."""
        # Stamps are regular: the first, the last and the step decide the others.
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
    the calendar, not in hours; see ``frequency.py`` for times that a clock change skips.

    Parameters
    ----------
    index : pandas.Index
        Stamps of one item, in order.
    freq : pandas offset or int
        One step, as in `Panel`.
    horizon : int
        Number of stamps.
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
        raise _no_future(index, freq, horizon)  # numbers that wrapped around
    return stamps.rename(index.name)


def _like(index: pd.Index[Any], start: Any) -> Any:
    if not isinstance(index, pd.DatetimeIndex):
        return int(start)
    if isinstance(start, int | float | np.number):
        raise TypeError("a number is no date")
    stamp = pd.Timestamp(start)
    return stamp.tz_localize(index.tz) if index.tz is not None and stamp.tz is None else stamp


def _no_future(index: pd.Index[Any], freq: Step, horizon: int) -> InvalidFrameError:
    name = freq if isinstance(freq, int) else freq.freqstr
    return InvalidFrameError(
        f"Forecasts need stamps after the end of a series. {horizon} steps of {name!r} after "
        f"{str(index[-1])!r} are more than its type, {str(index.dtype)!r}, can hold. Use smaller "
        "stamps, or for dates a coarser unit such as df.index.as_unit('s')."
    )


def row_offsets(lengths: ArrayLike) -> NDArray[np.int64]:
    """Return where each item's rows start and end: zero, then the running sum of lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
