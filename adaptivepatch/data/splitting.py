"""Which items and rows of a panel are trained on, and which rows are held out to validate."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.windows import MIN_LOOKBACK, complete_or_padded
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError


def without_short(panel: Panel, horizon: int, short: str) -> tuple[Panel, tuple[Hashable, ...]]:
    """Leave out items that are too short for a training window, or refuse them.

    Parameters
    ----------
    panel : Panel
        All items.
    horizon : int
        Steps to forecast.
    short : {"error", "skip"}
        How to treat items of fewer than 2 look-back rows and the horizon.

    Returns
    -------
    panel : Panel
        The items that are long enough.
    skipped : tuple of hashable
        Ids of the others.

    Raises
    ------
    InvalidFrameError
        If an item is too short and must not be left out, or all are.

    Warns
    -----
    UserWarning
        If items are left out.
    """
    if short not in ("error", "skip"):
        raise InvalidParameterError(
            f"The 'short' parameter must be 'error' or 'skip'. Got {short!r} instead.",
            parameter="short",
        )
    needed = MIN_LOOKBACK + horizon
    enough = panel.lengths >= needed
    if enough.all():
        return panel, ()
    if short == "error":
        complete_or_padded(panel, MIN_LOOKBACK, horizon).raise_if_skipped()
    if not enough.any():
        raise InvalidFrameError(
            f"Training needs a series of at least {needed} rows (2 look-back points plus the "
            f"horizon). Series {panel.item_ids[0]!r} has {int(panel.lengths[0])} (and "
            f"{panel.num_items - 1} more have too few), so that none is left. Pass more rows or "
            "reduce the horizon."
        )
    skipped = tuple(panel.item_ids[i] for i in np.flatnonzero(~enough))
    shown = ", ".join(repr(id_) for id_ in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    warnings.warn(
        f"Training needs {needed} rows of a series (2 look-back points plus the horizon). "
        f"{len(skipped)} of {panel.num_items} have fewer and are left out: {shown}. Pass more of "
        "their rows, or forecast them with predict(df).",
        UserWarning,
        stacklevel=3,
    )
    return panel.select_items(enough), skipped


def held_out_rows(
    panel: Panel, horizon: int, validation_rows: int | None = None
) -> NDArray[np.int64]:
    """Return the rows at the end of each item whose windows validate; 0 for items too short.

    Parameters
    ----------
    panel : Panel
        All rows.
    horizon : int
        Steps to forecast.
    validation_rows : int, optional
        The same number for every item. Default: max(horizon, 10 %) of each item that then keeps
        at least one training window, of 2 look-back rows and the horizon.

    Warns
    -----
    UserWarning
        If no item is long enough.
    """
    if validation_rows is None:
        rows = np.maximum(horizon, np.ceil(0.1 * panel.lengths).astype(np.int64))
    elif validation_rows < horizon:
        raise InvalidParameterError(
            f"validation_rows must be at least the horizon {horizon}. Got {validation_rows!r} "
            "instead.",
            parameter="validation_rows",
        )
    else:
        rows = np.full(panel.num_items, validation_rows)
    needed = MIN_LOOKBACK + horizon
    keeps_window = panel.lengths - rows >= needed
    if not keeps_window.any() and (panel.lengths >= needed).all():
        warnings.warn(
            f"No series is long enough to hold out {int(rows.min())} validation rows and keep a "
            f"training window (that takes {needed + int(rows.min())} rows; the longest has "
            f"{int(panel.lengths.max())}): training runs its fixed number of steps.",
            UserWarning,
            stacklevel=3,
        )
    return np.where(keeps_window, rows, 0)


def refit_borders(
    panel: Panel, start_rows: NDArray[np.int64], refit_every: int
) -> list[NDArray[np.int64]]:
    """Return, for each refit of a backtest, the number of rows of every item before it.

    Parameters
    ----------
    panel : Panel
        All rows.
    start_rows : ndarray of shape (items,)
        Rows of each item before the first forecast.
    refit_every : int
        Steps between refits, counted over the stamps of all items together.
    """
    stamps = panel.stamps.unique().sort_values()
    first = min(
        index[row] for index, row in zip(panel.index, start_rows, strict=True) if row < len(index)
    )
    refits = stamps[stamps >= first][::refit_every]
    return [np.array([index.searchsorted(at) for index in panel.index]) for at in refits]


def rows_to_train_on(panel: Panel, rows: NDArray[np.int64], horizon: int, start: Any) -> Panel:
    """Return the first rows of the items that have enough of them for a training window.

    Parameters
    ----------
    panel : Panel
        All rows.
    rows : ndarray of shape (items,)
        Rows of each item that may be trained on.
    horizon : int
        Steps to forecast.
    start : timestamp or int
        Stamp of the first forecast, for the message.

    Raises
    ------
    InvalidFrameError
        If no item has enough rows.
    """
    enough = rows >= 2 + horizon
    if not enough.any():
        raise InvalidFrameError(
            f"Training before start={start!r} needs a series of at least {2 + horizon} rows there "
            f"(2 look-back points plus the horizon). The longest has {int(rows.max())}. Pass a "
            "later start."
        )
    return panel.slice_rows(0, rows).select_items(enough)
