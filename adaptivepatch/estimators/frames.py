"""Between panels and the frames users see: forecasts, segmentations, checks of later frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.frequency import Step
from adaptivepatch.data.panel import Panel, future_index, row_offsets
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.errors import InvalidFrameError


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
    horizon, parts = prediction.shape[1], []
    for id_ in panel.layout.item_order:
        i = panel.item_ids.index(id_)
        stamps = future_index(panel.index[i], panel.freq, horizon)
        for name in panel.layout.channel_order:
            values = prediction[i, :, panel.channels.index(name)]
            columns = {
                "item_id": [id_] * horizon,
                "timestamp": stamps,
                "target_name": name,
                "prediction": values[:, middle],
            }
            if quantiles is not None:
                columns |= {str(level): values[:, q] for q, level in enumerate(quantiles)}
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def segmentation_frame(panel: Panel, lengths: NDArray[np.int64]) -> pd.DataFrame:
    """Return one row per patch of the last look-back of each item and channel.

    Parameters
    ----------
    panel : Panel
        What was segmented.
    lengths : ndarray of shape (items, channels, patches)
        Patch lengths of the last look-back, 0 for padding.
    """
    parts = []
    for id_ in panel.layout.item_order:
        i = panel.item_ids.index(id_)
        stamps = panel.index[i]
        for name in panel.layout.channel_order:
            length = lengths[i, panel.channels.index(name)]
            length = length[length > 0]
            stop = len(stamps) - length[::-1].cumsum()[::-1] + length
            start = np.maximum(stop - length, 0)
            inside = stop > 0
            parts.append(
                pd.DataFrame(
                    {
                        "item_id": [id_] * int(inside.sum()),
                        "target_name": name,
                        "patch": np.arange(int(inside.sum())),
                        "start": stamps[start[inside]],
                        "end": stamps[stop[inside] - 1],
                        "length": (stop - start)[inside],
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


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
        variance = np.where(observed, (rows - mean[i]) ** 2, 0).sum(0) / count
        std[i] = np.where(variance > 0, np.sqrt(variance), 1)
    return Scaling(mean, std)


def rows_before(panel: Panel, start: Any) -> NDArray[np.int64]:
    """Return, for each item, the number of rows before a stamp."""
    try:
        return np.array([index.searchsorted(_like(index, start)) for index in panel.index])
    except (TypeError, ValueError) as error:
        raise InvalidFrameError(
            f"start must be a stamp of the frame's kind, such as {panel.index[0][0]!r}. Got "
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
    if isinstance(df, pd.DataFrame):
        absent = [name for name in channels if name not in df.columns]
        if absent:
            raise InvalidFrameError(
                f"The frame must have the channels of fit, {list(channels)}. It lacks {absent}; it "
                f"has {[c for c in df.columns if c not in keys.values()]}."
            )
    names = list(channels)
    return read_frame(df, **keys, target=names, missing=missing, freq=step, require_observed=False)


def step_name(step: Step) -> str | int:
    """Return how a user would write a step."""
    return step if isinstance(step, int) else str(step.freqstr)
