"""Between panels and the frames users see: forecasts, segmentations, checks of later frames."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.frequency import Step
from adaptivepatch.data.panel import Panel, future_index, row_offsets
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_choice
from adaptivepatch.estimators.boundary_report import report_boundaries

if TYPE_CHECKING:
    from adaptivepatch.estimators.panel_model import PanelModel


def forecast_frame(
    panel: Panel, prediction: NDArray[np.float64], quantiles: tuple[float, ...] | None
) -> pd.DataFrame:
    """Return a tidy forecast in the item and channel order of the user's frame.

    Parameters
    ----------
    panel : Panel
        What was forecast, all items.
    prediction : ndarray of shape (items, horizon, channels, 1 or quantiles)
        In original units.
    quantiles : tuple of float, optional
        Levels of the last axis.
    """
    middle = 0 if quantiles is None else quantiles.index(0.5)
    items, channels = _order(panel)
    horizon, num_items = prediction.shape[1], len(items)
    future = [future_index(panel.index[i], panel.freq, horizon) for i in items]
    # (items, horizon, channels, levels) -> (items, channels, horizon, levels), the order of rows
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
        columns |= {str(level): values[..., q].ravel() for q, level in enumerate(quantiles)}
    return pd.DataFrame(columns)


def segment_panel(model: PanelModel, panel: Panel, by: str = "patch") -> pd.DataFrame:
    """Return the patches of the last look-back of each item and channel.

    Parameters
    ----------
    model : PanelModel
        Trained.
    panel : Panel
        What to segment.
    by : {"patch", "step", "series"}, default="patch"
        What has a row; see `segmentation_frame`, `step_frame` and `report_boundaries`.
    """
    check_choice(None, ("patch", "step", "series"), by=by)
    if by == "series":
        patcher, sharing = model.network.patcher, model.share_segmentation
        return report_boundaries(patcher, panel, model.context_length, sharing)
    windows = model.lookbacks(panel)
    shape = (len(windows), panel.num_channels, -1)
    lengths = model.segment(panel, windows).patch_lengths.numpy().reshape(shape)
    prob = model.boundary_prob(panel, windows)
    known = None if prob is None else prob.reshape(shape)
    return (segmentation_frame if by == "patch" else step_frame)(panel, lengths, known)


def segmentation_frame(
    panel: Panel, lengths: NDArray[np.int64], boundary_prob: NDArray[np.float64] | None = None
) -> pd.DataFrame:
    """Return one row per patch of the last look-back of each item and channel.

    Parameters
    ----------
    panel : Panel
        What was segmented.
    lengths : ndarray of shape (items, channels, patches)
        Patch lengths of the last look-back, 0 for padding.
    boundary_prob : ndarray of shape (items, channels, steps), optional
        Probability that a step of the look-back starts a patch; that of starts is shown.
    """
    items, channels = _order(panel)
    ordered = lengths[items][:, channels]  # (items, channels, patches)
    rows = panel.lengths[items][:, None, None]
    after = ordered[..., ::-1].cumsum(-1)[..., ::-1] - ordered  # steps behind the patch
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
        See `segmentation_frame`.
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


def _order(panel: Panel) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return positions of items and channels in the order of the user's frame."""
    position = panel.position
    items = [position[id_] for id_ in panel.layout.item_order]
    channels = [panel.channels.index(name) for name in panel.layout.channel_order]
    return np.array(items, dtype=np.intp), np.array(channels, dtype=np.intp)


def _taken(keys: Sequence[Hashable], which: NDArray[np.integer[Any]]) -> pd.Series[Any]:
    """Return a column of keys; pandas chooses its type as for a list."""
    return pd.Series(list(keys)).take(which).reset_index(drop=True)


def append_rows(panel: Panel, rows: NDArray[np.float64]) -> Panel:
    """Return the panel with forecasts (items, horizon, channels) appended to each item."""
    horizon = rows.shape[1]
    values = [np.concatenate([panel.item(i), rows[i]]) for i in range(panel.num_items)]
    index = tuple(
        stamps.append(future_index(stamps, panel.freq, horizon)) for stamps in panel.index
    )
    return replace(
        panel,
        values=np.concatenate(values),
        index=index,
        row_offsets=row_offsets(panel.lengths + horizon),
    )


def scaling_of_first_rows(panel: Panel, num_rows: int) -> Scaling:
    """Measure the first look-back of each item; channels unobserved there keep mean 0, std 1."""
    mean = np.zeros((panel.num_items, panel.num_channels))
    std = np.ones_like(mean)
    for i in range(panel.num_items):
        rows = panel.item(i)[:num_rows]
        observed = ~np.isnan(rows)
        count = np.maximum(1, observed.sum(0))
        mean[i] = np.where(observed, rows, 0).sum(0) / count
        centred = np.where(observed, rows - mean[i], 0)
        size = np.abs(centred).max(0, initial=0)  # squares of tiny numbers would vanish
        unit = np.where((size > 0) & (size < 1e-140), size, 1)
        variance = ((centred / unit) ** 2).sum(0) / count
        std[i] = np.where(variance > 0, np.sqrt(variance) * unit, 1)
    return Scaling(mean, std)


def rows_before(panel: Panel, start: Any) -> NDArray[np.int64]:
    """Return, for each item, the number of rows before a stamp."""
    try:
        return np.array([index.searchsorted(_like(index, start)) for index in panel.index])
    except (TypeError, ValueError) as error:
        raise InvalidFrameError(
            f"start must be a stamp of the frame's kind, such as {str(panel.index[0][0])!r}. Got "
            f"{start!r} instead ({error})."
        ) from error


def _like(index: pd.Index[Any], start: Any) -> Any:
    if not isinstance(index, pd.DatetimeIndex):
        return int(start)
    if isinstance(start, int | float | np.number):
        raise TypeError("a number is no date")
    stamp = pd.Timestamp(start)
    return stamp.tz_localize(index.tz) if index.tz is not None and stamp.tz is None else stamp


def read_like_fitted(
    df: pd.DataFrame,
    columns: Mapping[str, Any],
    channels: tuple[str, ...],
    step: Step,
    *,
    missing: Literal["error", "mask"],
) -> Panel:
    """Read a frame that must have the channels and the time step of training.

    Parameters
    ----------
    df : pandas.DataFrame
        Later or other series.
    columns : mapping
        Names of the key columns in `fit`.
    channels : tuple of str
        Channels of `fit`; other columns are left out.
    step : pandas offset or int
        Time step of `fit`.
    missing : {"error", "mask"}
        See `adaptivepatch.data.frame.read_frame`.
    """
    keys = {"item_id": columns["item_id"], "timestamp": columns["timestamp"]}
    if isinstance(df, pd.DataFrame | pd.Series) and not df.empty:
        given = list(df.columns) if isinstance(df, pd.DataFrame) else [df.name or "target"]
        absent = [name for name in channels if name not in given]
        if absent:
            raise InvalidFrameError(
                f"The frame must have the channels of fit, {list(channels)}. It lacks {absent}; it "
                f"has {[c for c in given if c not in keys.values()]}. Add or rename columns."
            )
    names = list(channels)
    if isinstance(df, pd.DataFrame):
        names.sort(key=list(df.columns).index)  # forecasts come in the order of this frame
    try:
        return read_frame(
            df, **keys, target=names, missing=missing, freq=step, require_observed=False
        )
    except InvalidParameterError as error:  # of the step: its kind is that of the stamps
        kind = "integers" if isinstance(step, int) else "datetimes"
        raise InvalidFrameError(
            f"The stamps must be {kind}, as in fit, with the step {step_name(step)!r}. Those of "
            "this frame are of another kind. Convert them."
        ) from error


def warn_if_far(panel: Panel, model: PanelModel) -> Panel:
    """Return the panel, with a warning if a wide frame can hardly be the series of `fit`.

    Parameters
    ----------
    panel : Panel
        What was given; a long frame names its items, and is believed.
    model : PanelModel
        Trained; its last look-back of the panel is looked at.

    Warns
    -----
    UserWarning
        If the mean of a channel there is more than 100 fitted deviations from the fitted mean, or
        its deviation is more than 1000 times, or, unless it is 0, less than a thousandth of the
        fitted one. Of a channel that was constant in `fit` the deviation is unknown: there, the
        mean is measured in units of the fitted mean, at least 1.
    """
    if panel.layout.was_long or panel.item_ids[0] not in model.item_ids:
        return panel
    lookback = panel.tail(model.context_length)
    own = scaling_of_first_rows(lookback, model.context_length)
    position = model.item_ids.index(panel.item_ids[0])
    mean, std = model.scaling.mean[position], model.scaling.std[position]
    constant = std == 1  # or indeed 1
    unit = np.where(constant, np.maximum(1, np.abs(mean)), std)
    ratio = np.where(constant | (own.std[0] == 1), 1, own.std[0] / std)  # 1 for what is constant
    far = (np.abs(own.mean[0] - mean) > 100 * unit) | (ratio > 1000) | (ratio < 1e-3)
    far &= lookback.observed.any(axis=0)
    if not far.any():
        return panel
    channel = int(far.argmax())
    warnings.warn(
        "A wide frame is taken for the series of fit and scaled like it. Channel "
        f"{panel.channels[channel]!r} had mean {mean[channel]:.4g} and deviation "
        f"{std[channel]:.4g} there, and has {own.mean[0, channel]:.4g} and "
        f"{own.std[0, channel]:.4g} at the end of this frame. If this is another series, pass it "
        "as an item of a long frame, so that it is scaled by its own values.",
        UserWarning,
        stacklevel=4,
    )
    return panel


def step_name(step: Step) -> str | int:
    """Return how a user would write a step."""
    return step if isinstance(step, int) else str(step.freqstr)
