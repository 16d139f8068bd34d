"""Selection of the items and rows of a panel for training and for validation."""

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
        Number of steps to forecast.
    short : {"error", "skip"}
        Treatment of items that have fewer rows than 2 look-back rows plus the horizon.

    Returns
    -------
    panel : Panel
        Panel of the items that are long enough.
    skipped : tuple of hashable
        Ids of the items left out.

    Raises
    ------
    InvalidFrameError
        If an item is too short and `short` is "error", or all items are too short.
    InvalidParameterError
        If `short` is not one of its values.

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
            f"horizon), but the longest of {panel.num_items} series has "
            f"{int(panel.lengths.max())}. Pass more rows or reduce the horizon.",
            parameter="horizon",
        )
    skipped = tuple(panel.item_ids[i] for i in np.flatnonzero(~enough))
    shown = ", ".join(repr(id_) for id_ in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    warnings.warn(
        f"Training needs at least {needed} rows of a series (2 look-back points plus the horizon). "
        f"{len(skipped)} of {panel.num_items} series have fewer rows and are left out: {shown}. "
        "Pass more rows of these series, or forecast them with predict(df).",
        UserWarning,
        stacklevel=3,
    )
    return panel.select_items(enough), skipped


def held_out_rows(
    panel: Panel, horizon: int, validation_rows: int | None = None
) -> NDArray[np.int64]:
    """Return the number of validation rows at the end of each item; 0 for short items.

    An item is long enough if the rows before the validation rows hold a training window: 2
    look-back rows plus the horizon.

    Parameters
    ----------
    panel : Panel
        All rows.
    horizon : int
        Number of steps to forecast.
    validation_rows : int, optional
        Number of validation rows, the same for every item. Default: 10 % of the item's rows, but at
        least the horizon.

    Raises
    ------
    InvalidParameterError
        If `validation_rows` is below the horizon.

    Warns
    -----
    UserWarning
        If all items are long enough for training, but none for validation.
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
            f"training window, which takes {needed + int(rows.min())} rows. The longest series has "
            f"{int(panel.lengths.max())}. Training runs its fixed number of steps, without "
            "validation.",
            UserWarning,
            stacklevel=3,
        )
    return np.where(keeps_window, rows, 0)


def refit_borders(
    panel: Panel, start_rows: NDArray[np.int64], refit_every: int
) -> list[NDArray[np.int64]]:
    """Return the number of rows of every item before each refit of a backtest.

    Parameters
    ----------
    panel : Panel
        All rows.
    start_rows : ndarray of shape (items,)
        Number of rows of each item before the first forecast.
    refit_every : int
        Number of steps between refits, counted over the distinct stamps of all items.
    """
    stamps = panel.stamps.unique().sort_values()
    first = min(
        index[row] for index, row in zip(panel.index, start_rows, strict=True) if row < len(index)
    )
    refits = stamps[stamps >= first][::refit_every]
    return [np.array([index.searchsorted(at) for index in panel.index]) for at in refits]


def rows_to_train_on(panel: Panel, rows: NDArray[np.int64], horizon: int, start: Any) -> Panel:
    """Return the training rows of the items that have enough rows for a training window.

    Parameters
    ----------
    panel : Panel
        All rows.
    rows : ndarray of shape (items,)
        Number of rows at the start of each item that may be trained on.
    horizon : int
        Number of steps to forecast.
    start : timestamp or int
        Stamp of the first forecast, for the error message.

    Raises
    ------
    InvalidFrameError
        If no item has enough rows.
    """
    enough = rows >= 2 + horizon
    if not enough.any():
        raise InvalidFrameError(
            f"Training before start={start!r} needs a series of at least {2 + horizon} earlier "
            "rows (2 look-back points plus the horizon), but the longest series has "
            f"{int(rows.max())}. Pass a later start.",
            parameter="start",
        )
    return panel.slice_rows(0, rows).select_items(enough)
