"""Result tables of forecasts and patches, in the item and channel order of the user's frame."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel, future_index


def forecast_frame(
    panel: Panel, prediction: NDArray[np.float64], quantiles: tuple[float, ...] | None
) -> pd.DataFrame:
    """Return a tidy forecast: one row per item, channel and step.

    Parameters
    ----------
    panel : Panel
        Panel that was forecast, with all its items.
    prediction : ndarray of shape (items, horizon, channels, 1 or quantiles)
        Forecasts in original units.
    quantiles : tuple of float, optional
        Quantiles of the last axis; 0.5 gives the column ``prediction``.
    """
    middle = 0 if quantiles is None else quantiles.index(0.5)
    items, channels = _order(panel)
    horizon, num_items = prediction.shape[1], len(items)
    future = [future_index(panel.index[i], panel.freq, horizon) for i in items]
    # (items, horizon, channels, quantiles) -> (items, channels, horizon, quantiles): row order
    values = prediction[items][:, :, channels].transpose(0, 2, 1, 3)
    repeats = len(channels) * horizon
    channel = np.arange(len(channels)).repeat(horizon)
    step = np.arange(num_items * horizon).reshape(num_items, 1, horizon)
    step = step.repeat(len(channels), axis=1)
    columns: dict[str, Any] = {
        "item_id": _taken(panel.layout.item_order, np.arange(num_items).repeat(repeats)),
        "timestamp": future[0].append(future[1:]).take(step.ravel()),
        "target_name": _taken(panel.layout.channel_order, np.tile(channel, num_items)),
        "prediction": values[..., middle].ravel(),
    }
    if quantiles is not None:
        columns |= {quantile_name(q): values[..., k].ravel() for k, q in enumerate(quantiles)}
    return pd.DataFrame(columns)


def quantile_name(quantile: float) -> str:
    """Return the name of a column of quantiles, as a user would write the quantile.

    Examples
    --------
    >>> quantile_name(0.1 + 0.2)
    '0.3'
    """
    return f"{quantile:.10g}"


def segmentation_frame(
    panel: Panel, lengths: NDArray[np.int64], boundary_prob: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """Return one row per patch of the last look-back of each item and channel.

    Parameters
    ----------
    panel : Panel
        Panel that was segmented.
    lengths : ndarray of shape (items, channels, patches)
        Patch lengths of the last look-back in time steps, 0 for padding.
    boundary_prob : ndarray of shape (items, channels, steps), optional
        Probability that a step of the look-back starts a patch; the table has the probability at
        the first step of each patch.
    """
    items, channels = _order(panel)
    ordered = lengths[items][:, channels]  # (items, channels, patches)
    rows = panel.lengths[items][:, None, None]
    after = ordered[..., ::-1].cumsum(-1)[..., ::-1] - ordered  # steps after the patch
    stop = rows - after
    start = np.maximum(stop - ordered, 0)
    shown = (ordered > 0) & (stop > 0)
    offset = panel.row_offsets[items][:, None, None]
    stamps = panel.stamps
    item, channel, _ = np.nonzero(shown)
    columns: dict[str, Any] = {
        "item_id": _taken(panel.layout.item_order, item),
        "target_name": _taken(panel.layout.channel_order, channel),
        "patch": (shown.cumsum(-1) - 1)[shown],
        "start": stamps.take((offset + start)[shown]),
        "end": stamps.take((offset + stop - 1)[shown]),
        "length": (stop - start)[shown],
    }
    if boundary_prob is not None:
        before = rows - boundary_prob.shape[-1]  # rows of the series before the look-back
        step = (start - before)[shown]
        columns["boundary_prob"] = boundary_prob[items][:, channels][item, channel, step]
    return pd.DataFrame(columns)


def step_frame(
    panel: Panel, lengths: NDArray[np.int64], boundary_prob: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """Return one row per step of the last look-back of each item and channel.

    Parameters
    ----------
    panel, lengths, boundary_prob
        Arguments as in `segmentation_frame`; the table has the probability of every step.
    """
    items, channels = _order(panel)
    ordered = lengths[items][:, channels]  # (items, channels, patches)
    num_steps = int(ordered[0, 0].sum())
    numbers = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    patch = numbers.ravel().repeat(ordered.ravel()).reshape(*ordered.shape[:2], num_steps)
    row = panel.lengths[items][:, None] - num_steps + np.arange(num_steps)  # (items, steps)
    shown = np.broadcast_to((row >= 0)[:, None], patch.shape)
    first = np.where(shown, patch, ordered.shape[-1]).min(-1, keepdims=True)
    item, channel, step = np.nonzero(shown)
    columns: dict[str, Any] = {
        "item_id": _taken(panel.layout.item_order, item),
        "target_name": _taken(panel.layout.channel_order, channel),
        "timestamp": panel.stamps.take(panel.row_offsets[items][item] + row[item, step]),
        "patch": (patch - first)[shown],
    }
    if boundary_prob is not None:
        columns["boundary_prob"] = boundary_prob[items][:, channels][shown]
    return pd.DataFrame(columns)


def series_frame(panel: Panel, columns: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """Return one row per item and channel from columns of shape (items, channels).

    The column ``windows`` must be among them; it is converted to int.
    """
    items, channels = panel.layout.item_order, panel.layout.channel_order
    item = [panel.position[name] for name in items]
    channel = [panel.channels.index(name) for name in channels]
    keys: dict[str, Any] = {
        "item_id": [name for name in items for _ in channels],
        "target_name": [name for _ in items for name in channels],
    }
    values = {name: value[item][:, channel].ravel() for name, value in columns.items()}
    frame = pd.DataFrame({**keys, **values})
    return frame.astype({"windows": int})


def _order(panel: Panel) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of items and channels in the order of the user's frame."""
    position = panel.position
    items = [position[id_] for id_ in panel.layout.item_order]
    channels = [panel.channels.index(name) for name in panel.layout.channel_order]
    return np.array(items, dtype=np.intp), np.array(channels, dtype=np.intp)


def _taken(keys: Sequence[Hashable], which: NDArray[np.integer[Any]]) -> pd.Series[Any]:
    """Return a column of the chosen keys, with the dtype that pandas gives a list of all keys."""
    return pd.Series(list(keys)).take(which).reset_index(drop=True)
