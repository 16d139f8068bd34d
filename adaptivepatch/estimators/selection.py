"""Which windows select the number of steps, and which are trained on."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.estimators.panel_source import PanelSource, complete_or_padded
from adaptivepatch.training.trainer import WindowSets


def without_short(panel: Panel, horizon: int, short: str) -> tuple[Panel, tuple[Hashable, ...]]:
    """Leave out items that are too short for a training window, or refuse them.

    Parameters
    ----------
    panel : Panel
        All items.
    horizon : int
        Steps to forecast.
    short : {"error", "skip"}
        What to do with items of fewer than 2 look-back rows and the horizon.

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
            f"The 'short' parameter must be 'error' or 'skip'. Got {short!r} instead."
        )
    enough = panel.lengths >= 2 + horizon
    if enough.all():
        return panel, ()
    if short == "error":
        split_windows(panel, 2, horizon)  # says which item, and what it needs
    if not enough.any():
        raise InvalidFrameError(
            f"Training needs a series of at least {2 + horizon} rows (2 look-back points plus the "
            f"horizon). Series {panel.item_ids[0]!r} has {int(panel.lengths[0])} (and "
            f"{panel.num_items - 1} more have too few), so that none is left. Pass more rows or "
            "reduce the horizon."
        )
    skipped = tuple(panel.item_ids[i] for i in np.flatnonzero(~enough))
    shown = ", ".join(repr(id_) for id_ in skipped[:3]) + (", ..." if len(skipped) > 3 else "")
    warnings.warn(
        f"Training needs {2 + horizon} rows of a series (2 look-back points plus the horizon). "
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
            "instead."
        )
    else:
        rows = np.full(panel.num_items, validation_rows)
    keeps_window = panel.lengths - rows >= 2 + horizon
    if not keeps_window.any() and (panel.lengths >= 2 + horizon).all():
        warnings.warn(
            f"No series is long enough to hold out {int(rows.min())} validation rows and keep a "
            f"training window (that takes {2 + horizon + int(rows.min())} rows; the longest has "
            f"{int(panel.lengths.max())}): training runs its fixed number of steps.",
            UserWarning,
            stacklevel=4,
        )
    return np.where(keeps_window, rows, 0)


class Split(NamedTuple):
    """Windows to train on, and those to validate on, if any."""

    train: Windows
    validation: Windows | None

    @property
    def windows(self) -> list[Windows]:
        """All of them."""
        return [part for part in self if part is not None]

    def numbers(self, source: PanelSource) -> WindowSets:
        """Return the windows that can be learned from, as numbers of a source.

        Raises
        ------
        InvalidFrameError
            If there is none to train on.
        """
        train = source.learnable(self.train)
        if len(train) == 0:
            raise InvalidFrameError(
                "Training needs a window with 2 observed look-back points and an observed target. "
                f"No window of {self.train.context_length} + {self.train.horizon} steps has them. "
                "Fill gaps, or reduce the horizon."
            )
        if self.validation is None:
            return WindowSets(train)
        validation = source.learnable(self.validation)
        return WindowSets(train, validation if len(validation) else None)


def split_windows(
    panel: Panel, context_length: int, horizon: int, held_out: NDArray[np.int64] | int = 0
) -> Split:
    """Cut a panel into training windows and validation windows.

    Parameters
    ----------
    panel : Panel
        All rows.
    context_length, horizon : int
        T and H.
    held_out : ndarray of shape (items,), optional
        Rows at the end of each item whose windows validate; see `held_out_rows`.

    Raises
    ------
    InvalidFrameError
        If an item is too short for a training window.
    """
    rows = np.broadcast_to(held_out, panel.lengths.shape)
    border = panel.lengths - rows
    train = complete_or_padded(panel, context_length, horizon, targets_to=border)
    train.raise_if_skipped()
    if not rows.any():
        return Split(train, None)
    starts = np.where(rows > 0, border, panel.lengths)  # none where nothing is held out
    return Split(train, complete_or_padded(panel, context_length, horizon, targets_from=starts))
