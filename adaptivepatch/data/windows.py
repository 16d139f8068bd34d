"""Windows: all (look-back, horizon) pairs of a panel, copied only when they are read.

`sliding_windows` makes windows of an array, and `WindowSplit` splits them for cross-validation.
Scaling is in ``panel_scaling.py``; the estimators convert windows to tensors.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.data.panel import Panel, future_index
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_int
from adaptivepatch.keywords import helpful

MIN_LOOKBACK = 2  # look-back rows that a window needs

Selection = slice | NDArray[np.integer[Any]] | NDArray[np.bool_] | list[int]


def num_windows(length: int, context_length: int, horizon: int, stride: int = 1) -> int:
    """Return the number of complete windows of a series of `length` steps.

    Examples
    --------
    >>> num_windows(length=10, context_length=4, horizon=2)
    5
    """
    return max(0, (length - context_length - horizon) // stride + 1)


@dataclass(frozen=True, eq=False, repr=False)
class Windows:
    """Windows of a panel, item after item, with increasing cutoffs within an item.

    `make_windows` and `forecast_windows` return them.

    Parameters
    ----------
    panel : Panel
        Panel with the values.
    item : ndarray of shape (num_windows,)
        Position of each window's item in the panel.
    cutoff_row : ndarray of shape (num_windows,)
        Row within the item of the last look-back step; the first target is the row after it.
    context_length, horizon, stride : int
        Look-back, horizon and distance between cutoffs, in time steps.
    skipped : tuple of hashable
        Ids of the items that are too short for any window.
    min_context : int
        Number of look-back rows that a window needs.
    """

    panel: Panel
    item: NDArray[np.intp]
    cutoff_row: NDArray[np.int64]
    context_length: int
    horizon: int
    stride: int
    skipped: tuple[Hashable, ...]
    min_context: int

    def __len__(self) -> int:
        return len(self.item)

    def __repr__(self) -> str:
        return (
            f"Windows({len(self)} of {self.panel.num_items} items, "
            f"context_length={self.context_length}, horizon={self.horizon}, stride={self.stride})"
        )

    @property
    def item_id(self) -> NDArray[np.object_]:
        """Item id of each window, of shape (num_windows,)."""
        ids = np.empty(self.panel.num_items, dtype=object)
        for position, id_ in enumerate(self.panel.item_ids):  # one by one: ids may be tuples
            ids[position] = id_
        return ids[self.item]

    @property
    def cutoff(self) -> pd.Index[Any]:
        """Stamp of the last look-back step of each window."""
        return self.panel.stamps.take(self.panel.row_offsets[self.item] + self.cutoff_row)

    def select(self, which: Selection) -> Windows:
        """Return some of the windows, in the given order."""
        return replace(self, item=self.item[which], cutoff_row=self.cutoff_row[which])

    def past(self, which: Selection = slice(None)) -> NDArray[np.float64]:
        """Return look-backs (windows, context_length, channels), NaN before the item's start."""
        return self._gather(which, 1 - self.context_length, self.context_length)

    def future(self, which: Selection = slice(None)) -> NDArray[np.float64]:
        """Return targets of shape (windows, horizon, channels), NaN after the item's end."""
        return self._gather(which, 1, self.horizon)

    def num_observed_past(self) -> NDArray[np.int64]:
        """Return the number of observed look-back steps, of shape (windows, channels)."""
        running = np.zeros((len(self.panel.values) + 1, self.panel.num_channels), dtype=np.int64)
        np.cumsum(self.panel.observed, axis=0, out=running[1:])
        offset, stop = self.panel.row_offsets[self.item], self.cutoff_row + 1
        start = np.maximum(stop - self.context_length, 0)
        return running[offset + stop] - running[offset + start]

    def timestamps(self, window: int) -> pd.Index[Any]:
        """Return the stamps of the targets of one window, including those after the item's end."""
        stamps, row = self.panel.index[self.item[window]], int(self.cutoff_row[window]) + 1
        known = stamps[row : row + self.horizon]
        if len(known) == self.horizon:
            return known
        return future_index(stamps[:row], self.panel.freq, self.horizon)

    def raise_if_skipped(self) -> None:
        """Raise `InvalidFrameError` for the first item that is too short for any window."""
        if not self.skipped:
            return
        item, others = self.skipped[0], len(self.skipped) - 1
        length = int(self.panel.lengths[self.panel.position[item]])
        needed = self.min_context + self.horizon
        also = f" (and {others} more)" if others else ""
        raise InvalidFrameError(
            f"Series {item!r}{also} has {length} observations, but horizon {self.horizon} needs at "
            f"least {needed} ({self.min_context} look-back points plus the horizon). "
            'Drop the series, reduce the horizon, or pass short="skip" to fit.',
            parameter="short",
        )

    def _gather(self, which: Selection, first: int, steps: int) -> NDArray[np.float64]:
        """Return `steps` rows of each window, from `first` rows after the cutoff on."""
        item, panel = self.item[which], self.panel
        rows = (self.cutoff_row[which] + first)[:, None] + np.arange(steps)  # (w, steps)
        outside = (rows < 0) | (rows >= panel.lengths[item][:, None])
        rows += panel.row_offsets[item][:, None]
        if not outside.any():
            return panel.values[rows]
        values = panel.values[np.where(outside, 0, rows)]
        values[outside] = np.nan
        return values


def make_windows(
    panel: Panel,
    context_length: int,
    horizon: int,
    *,
    stride: int = 1,
    allow_short: bool = False,
    min_context: int = 2,
    targets_from: ArrayLike | None = None,
    targets_to: ArrayLike | None = None,
) -> Windows:
    """Cut a panel into windows whose targets are all inside their item.

    Parameters
    ----------
    panel : Panel
        Regular series.
    context_length, horizon : int
        Look-back and horizon in time steps.
    stride : int, default=1
        Number of steps between cutoffs.
    allow_short : bool, default=False
        Whether to also make windows with look-backs of at least `min_context` rows at the start of
        the item, padded with NaN on the left. If False, every look-back has `context_length` rows.
    min_context : int, default=2
        Number of look-back rows that a padded window needs.
    targets_from, targets_to : int or array of shape (num_items,), optional
        First row within the item that targets may use, and the row after the last one that they may
        use. Default: all rows.

    Returns
    -------
    Windows
        Windows in order of items and cutoffs; items without a window are in `skipped`.

    Examples
    --------
    Windows of a validation range, the last 3 rows of each item:

    >>> import pandas as pd
    >>> from adaptivepatch.data.frame import read_frame
    >>> panel = read_frame(pd.DataFrame({"x": range(10)}))
    >>> windows = make_windows(panel, 4, 2, targets_from=panel.lengths - 3)
    >>> windows.past()[..., 0].tolist()
    [[3.0, 4.0, 5.0, 6.0], [4.0, 5.0, 6.0, 7.0]]
    """
    check_int(None, context_length=context_length, horizon=horizon, stride=stride)
    context = min(min_context, context_length) if allow_short else context_length
    lengths = panel.lengths
    start = np.zeros_like(lengths) if targets_from is None else np.asarray(targets_from)
    stop = lengths if targets_to is None else np.minimum(targets_to, lengths)
    first = np.maximum(np.broadcast_to(start, lengths.shape), context) - 1  # first cutoff rows
    last = stop - horizon - 1
    counts = np.maximum(0, (last - first) // stride + 1)
    item = np.repeat(np.arange(panel.num_items), counts)
    rank = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Windows(
        panel=panel,
        item=item,
        cutoff_row=first[item] + rank * stride,
        context_length=context_length,
        horizon=horizon,
        stride=stride,
        skipped=tuple(id_ for id_, n in zip(panel.item_ids, counts, strict=True) if n == 0),
        min_context=context,
    )


def complete_or_padded(
    panel: Panel,
    context_length: int,
    horizon: int,
    *,
    stride: int = 1,
    targets_from: ArrayLike | None = None,
    targets_to: ArrayLike | None = None,
) -> Windows:
    """Cut windows with complete look-backs; items that have none get padded windows.

    Parameters
    ----------
    panel, context_length, horizon, stride, targets_from, targets_to
        Arguments of `make_windows`. An item needs 2 look-back rows plus the horizon.
    """
    limits: dict[str, Any] = {
        "stride": stride,
        "targets_from": targets_from,
        "targets_to": targets_to,
    }
    complete = make_windows(panel, context_length, horizon, **limits)
    if not complete.skipped:
        return complete
    padded = make_windows(panel, context_length, horizon, allow_short=True, **limits)
    needs_padding = ~np.isin(padded.item, complete.item)
    item = np.concatenate([complete.item, padded.item[needs_padding]])
    cutoff_row = np.concatenate([complete.cutoff_row, padded.cutoff_row[needs_padding]])
    order = np.argsort(item, kind="stable")
    return replace(padded, item=item[order], cutoff_row=cutoff_row[order])


def forecast_windows(
    panel: Panel, context_length: int, horizon: int, *, min_context: int = 2
) -> Windows:
    """Return the window to forecast for each item, whose look-back ends with the item.

    The targets are unknown, so `Windows.future` is all NaN. Items with fewer than `min_context`
    rows are skipped; items shorter than `context_length` are padded with NaN on the left.
    """
    check_int(None, context_length=context_length, horizon=horizon)
    context = min(min_context, context_length)
    enough = panel.lengths >= context
    return Windows(
        panel=panel,
        item=np.flatnonzero(enough),
        cutoff_row=panel.lengths[enough] - 1,
        context_length=context_length,
        horizon=horizon,
        stride=1,
        skipped=tuple(id_ for id_, ok in zip(panel.item_ids, enough, strict=True) if not ok),
        min_context=context,
    )


def last_lookbacks(panel: Panel, context_length: int, horizon: int, what: str) -> Windows:
    """Return the window to forecast for every item, after checking its look-back.

    Parameters
    ----------
    panel : Panel
        Regular series.
    context_length, horizon : int
        Look-back and horizon in time steps.
    what : str
        Subject of the error message, such as ``"A forecast"``.

    Raises
    ------
    InvalidFrameError
        If a channel has fewer than 2 observed points in the look-back.
    """
    windows = forecast_windows(panel, context_length, horizon)
    if windows.skipped:
        item = windows.skipped[0]
        raise InvalidFrameError(
            f"{what} needs 2 look-back points, but series {item!r} has "
            f"{int(panel.lengths[panel.position[item]])}. Leave the series out, or pass more of "
            "its history."
        )
    observed = windows.num_observed_past()
    if (observed < 2).any():
        window, channel = np.argwhere(observed < 2)[0]
        raise InvalidFrameError(
            f"{what} needs 2 observed look-back points, but channel {panel.channels[channel]!r} of "
            f"series {windows.item_id[window]!r} has {int(observed[window, channel])} in the last "
            f"{context_length} steps. Leave the series out, fill it, or use a longer "
            "context_length.",
            parameter="context_length",
        )
    return windows


@helpful
def sliding_windows(
    series: ArrayLike, context_length: int, horizon: int, stride: int = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return look-backs and targets of one series as read-only views, without copying.

    Parameters
    ----------
    series : array of shape (steps,) or (steps, channels)
        One series in time order.
    context_length, horizon, stride : int
        Look-back, horizon and distance between neighbouring windows, in time steps.

    Returns
    -------
    past : ndarray of shape (windows, context_length[, channels])
        Look-backs.
    future : ndarray of shape (windows, horizon[, channels])
        Targets.

    Raises
    ------
    InvalidParameterError
        If the series is too short or of another shape, or a number is not a positive int.

    Examples
    --------
    >>> X, y = sliding_windows(range(5), context_length=2, horizon=1)
    >>> X.tolist(), y.tolist()
    ([[0, 1], [1, 2], [2, 3]], [[2], [3], [4]])
    """
    check_int(None, context_length=context_length, horizon=horizon, stride=stride)
    values = np.asarray(series)
    if values.ndim not in (1, 2) or len(values) < context_length + horizon:
        raise InvalidParameterError(
            "series must have shape (steps,) or (steps, channels) with at least context_length + "
            f"horizon = {context_length + horizon} steps. Got series.shape={values.shape!r}. "
            "Pass one longer series, or reduce context_length or horizon.",
            parameter="series",
        )
    views = sliding_window_view(values, context_length + horizon, axis=0)[::stride]
    views = np.moveaxis(views, -1, 1)  # (w, [channels,] steps) -> (w, steps[, channels])
    return views[:, :context_length], views[:, context_length:]


@dataclass(frozen=True, kw_only=True)
class WindowSplit:
    """Cross-validation for overlapping windows in time order, with a growing training set.

    Use it as ``cv=`` of a scikit-learn search over windows made by `sliding_windows`. It leaves
    out ``(horizon - 1) // stride`` windows between training and test, so that no training target
    is a test target.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits; their test sets follow one another up to the last window.
    horizon : int
        Number of steps that a window forecasts.
    stride : int, default=1
        Number of steps between neighbouring windows.
    max_train_size : int, optional
        Maximum number of training windows of a split; the latest windows are kept. Default: no
        maximum.
    test_size : int, optional
        Number of test windows of a split; default: ``num_windows // (n_splits + 1)``.

    Examples
    --------
    >>> splitter = WindowSplit(n_splits=2, horizon=3, test_size=2)
    >>> [(train.tolist(), test.tolist()) for train, test in splitter.split(range(8))]
    [([0, 1], [4, 5]), ([0, 1, 2, 3], [6, 7])]
    """

    n_splits: int = 5
    horizon: int
    stride: int = 1
    max_train_size: int | None = None
    test_size: int | None = None

    @property
    def gap(self) -> int:
        """Number of windows left out between training and test."""
        return (self.horizon - 1) // self.stride

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Arguments of scikit-learn, ignored.
        """
        del X, y, groups
        return self.n_splits

    def split(
        self, X: Any, y: object = None, groups: object = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield training and test positions of each split, in time order.

        Parameters
        ----------
        X : array or sequence
            Windows in time order; only their number is used.
        y, groups : object
            Arguments of scikit-learn, ignored.

        Raises
        ------
        InvalidParameterError
            If there are too few windows, or a parameter is not a positive int.
        """
        del y, groups
        check_int(
            None,
            n_splits=self.n_splits,
            horizon=self.horizon,
            stride=self.stride,
            max_train_size=1 if self.max_train_size is None else self.max_train_size,
            test_size=1 if self.test_size is None else self.test_size,
        )
        count = X.shape[0] if hasattr(X, "shape") else len(X)
        size = count // (self.n_splits + 1) if self.test_size is None else self.test_size
        first_test = count - self.n_splits * size
        if size < 1 or first_test - self.gap < 1:
            needed = self.n_splits * max(size, 1) + self.gap + 1
            raise InvalidParameterError(
                f"{self!r} needs at least {needed} windows: {self.n_splits} test sets of "
                f"{max(size, 1)}, a gap of {self.gap} and one to train on. Got {count}. "
                "Use fewer splits, a smaller test_size or a shorter horizon.",
                parameter="n_splits",
            )
        positions = np.arange(count)
        for start in range(first_test, count, size):
            stop = start - self.gap
            begin = 0 if self.max_train_size is None else max(0, stop - self.max_train_size)
            yield positions[begin:stop], positions[start : start + size]
