"""Which windows select the number of steps, and which are trained on."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.estimators.panel_source import PanelSource, complete_or_padded
from adaptivepatch.training.trainer import WindowSets


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
    if not keeps_window.any():
        warnings.warn(
            f"No series is long enough to hold out {int(rows.min())} validation rows and keep a "
            f"training window (that takes {2 + horizon + int(rows.min())} rows; the longest has "
            f"{int(panel.lengths.max())}): training runs its fixed number of steps.",
            UserWarning,
            stacklevel=4,
        )
    return np.where(keeps_window, rows, 0)


def window_sets(
    panel: Panel,
    source: PanelSource,
    context_length: int,
    horizon: int,
    held_out: NDArray[np.int64] | int = 0,
) -> WindowSets:
    """Return the windows to train on and those to validate on, as numbers of the source.

    Parameters
    ----------
    panel : Panel
        All rows.
    source : PanelSource
        Of the same panel.
    context_length, horizon : int
        T and H.
    held_out : ndarray of shape (items,), optional
        Rows at the end of each item that are validated on.

    Raises
    ------
    InvalidFrameError
        If an item is too short, or no window can be learned from.
    """
    border = panel.lengths - held_out
    training = complete_or_padded(panel, context_length, horizon, targets_to=border)
    training.raise_if_skipped()
    train = source.learnable(training)
    if len(train) == 0:
        raise InvalidFrameError(
            "Training needs a window with 2 observed look-back points and an observed target. No "
            f"window of {context_length} + {horizon} steps has them. Fill gaps, or reduce the "
            "horizon."
        )
    return WindowSets(train, _validation(panel, source, context_length, horizon, held_out))


def _validation(
    panel: Panel,
    source: PanelSource,
    context_length: int,
    horizon: int,
    held_out: NDArray[np.int64] | int,
) -> Tensor | None:
    rows = np.broadcast_to(held_out, panel.lengths.shape)
    if not rows.any():
        return None
    starts = np.where(rows > 0, panel.lengths - rows, panel.lengths)
    windows = complete_or_padded(panel, context_length, horizon, targets_from=starts)
    numbers = source.learnable(windows)
    return numbers if len(numbers) else None
