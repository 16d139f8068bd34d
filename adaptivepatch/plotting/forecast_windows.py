"""Forecasts and observed values on one grid of stamps each, ready to be drawn.

A grid has every stamp from its first to its last one, with NaN where the user's frames have no
row, so that no line is drawn across a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.frame import SINGLE_ITEM, check_keys, read_frame
from adaptivepatch.data.panel import Panel, future_index
from adaptivepatch.data.steps import Step, complete_grid, find_step, parse_step, step_name
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.plotting.forecast_choice import ChosenForecasts, SeriesKey, listed

_HORIZONS, _LEAST_STEPS = 3, 30  # history that is shown by default
_LEAST_ROWS = 3  # from which a time step can be inferred


@dataclass(frozen=True)
class ObservedFrames:
    """Frames of observed values, and how they are read; the fields are parameters of `plot`.

    A frame may also be a `Panel`, which has been read already.
    """

    history: Any
    actual: Any
    item_id: str
    timestamp: str
    freq: Any


@dataclass(frozen=True, eq=False)
class Window:
    """One forecast of one series, and the observed values before and during it.

    Parameters
    ----------
    stamps : pandas.Index of shape (steps,)
        Stamps of the history that is shown, then those of the forecast.
    start : int
        Position of the first forecast step.
    observed, prediction : ndarray of shape (steps,)
        Observed values and forecast; NaN where there is none.
    quantiles : mapping of float to ndarray of shape (steps,)
        Quantile forecasts.
    hides_history : bool
        Whether the history has earlier stamps, which are not shown.
    """

    stamps: pd.Index[Any]
    start: int
    observed: NDArray[np.float64]
    prediction: NDArray[np.float64]
    quantiles: Mapping[float, NDArray[np.float64]]
    hides_history: bool


def place_windows(
    chosen: ChosenForecasts, frames: ObservedFrames, history_steps: int | None
) -> dict[tuple[Any, ...], Window]:
    """Return a window for each of the chosen forecasts, by item, channel and cutoff.

    Parameters
    ----------
    chosen : ChosenForecasts
        Forecasts to draw.
    frames : ObservedFrames
        Frames of observed values.
    history_steps : int, optional
        Largest number of steps of history. Default: 3 times the longest forecast, and at least 30.

    Raises
    ------
    InvalidFrameError
        If a frame of observed values lacks a series, or does not reach up to a forecast.
    """
    check_keys(frames.item_id, frames.timestamp)
    if frames.actual is not None and any("actual" in part for part in chosen.parts.values()):
        raise InvalidParameterError(
            "Actual values must be given once. The forecast has the column 'actual', and the "
            "actual parameter is given. Leave out actual=..., or drop the column.",
            parameter="actual",
        )
    values, step = _observed_values(frames, chosen)
    steps = history_steps
    if steps is None:
        steps = max(_HORIZONS * max(map(len, chosen.parts.values())), _LEAST_STEPS)
    return {
        key: _window(part, values.get(key[:2]), step, steps, chosen.quantiles)
        for key, part in chosen.parts.items()
    }


def _observed_values(
    frames: ObservedFrames, chosen: ChosenForecasts
) -> tuple[dict[SeriesKey, pd.Series[Any]], Step | None]:
    """Return the observed values of each series by stamp, and the time step if it is known."""
    step: Step | None = None
    if frames.freq is not None:
        step = parse_step(frames.freq, _stamps(next(iter(chosen.parts.values()))))
    values: dict[SeriesKey, pd.Series[Any]] = {}
    for name in ("history", "actual"):
        frame = getattr(frames, name)
        if frame is None:
            continue
        if step is None and _longest(frame, frames.item_id) < _LEAST_ROWS:
            step = _own_step(chosen)
        panel = _read(frame, name, frames, chosen.series, step)
        step = panel.freq
        for item, channel in chosen.series:
            i, c = panel.position[item], panel.channels.index(channel)
            new = pd.Series(panel.item(i)[:, c], index=panel.index[i])
            old = values.get((item, channel))
            if old is not None:
                new = new.set_axis(_alike(new.index, old.index)).combine_first(old)
            values[item, channel] = new
    return values, _own_step(chosen) if step is None else step


def _own_step(chosen: ChosenForecasts) -> Step | None:
    """Return the step of the forecasts themselves, or None if they are too short to have one."""
    if all(len(part) < _LEAST_ROWS for part in chosen.parts.values()):
        return None
    return find_step([_stamps(part) for part in chosen.parts.values()], list(chosen.parts))


def _stamps(part: pd.DataFrame) -> pd.Index[Any]:
    return pd.Index(part["timestamp"])


def _longest(frame: Any, item_id: str) -> int:
    """Return the number of rows of the longest item of a frame that is not read yet."""
    if isinstance(frame, pd.DataFrame) and item_id in frame.columns and len(frame):
        return int(frame.groupby(item_id, sort=False).size().max())
    return len(frame) if isinstance(frame, pd.DataFrame | pd.Series) else _LEAST_ROWS


def _read(
    frame: Any, name: str, frames: ObservedFrames, series: list[SeriesKey], step: Step | None
) -> Panel:
    """Read the items and channels that are drawn from a frame of observed values.

    Parameters
    ----------
    frame : pandas.DataFrame, pandas.Series or Panel
        Wide or long frame.
    name : {"history", "actual"}
        Parameter that holds the frame.
    frames : ObservedFrames
        Names of the key columns.
    series : list of tuple
        Series that are drawn.
    step : pandas offset or int, optional
        Time step, if it is known.
    """
    items, channels = (list(dict.fromkeys(names)) for names in zip(*series, strict=True))
    if isinstance(frame, Panel):
        _check_present(name, "items", items, list(frame.item_ids))
        _check_present(name, "channels", channels, list(frame.channels))
        return frame
    is_frame = isinstance(frame, pd.DataFrame) and frame.columns.is_unique
    if is_frame and frames.item_id in frame.columns:
        ids = frame[frames.item_id]
        _check_present(name, "items", items, list(ids.dropna().unique()))
        frame = frame[ids.isin(items)]
    elif (is_frame or isinstance(frame, pd.Series)) and items != [SINGLE_ITEM]:
        raise InvalidFrameError(
            f"A wide frame is one series without an item id. The forecast has the items "
            f"{listed(items)}, and {name!r} has no column {frames.item_id!r}. Pass a long frame, "
            "or name its column of items with item_id=...",
            parameter="item_id",
        )
    if is_frame:
        others = [c for c in frame.columns if c not in (frames.item_id, frames.timestamp)]
        _check_present(name, "channels", channels, others)
    try:
        return read_frame(
            frame,
            item_id=frames.item_id,
            timestamp=frames.timestamp,
            target=channels,
            missing="mask",
            freq=step,
            require_observed=False,
            keys_must_exist=True,
        )
    except InvalidParameterError as error:
        if step is None:
            raise
        kind = "integers" if isinstance(step, int) else "datetimes"
        raise InvalidFrameError(
            f"The stamps of {name!r} must be {kind} with the step {step_name(step)!r}, as in the "
            "other frames of the plot. They are of another kind. Convert them.",
            parameter=name,
        ) from error


def _check_present(name: str, kind: str, wanted: list[Any], known: list[Any]) -> None:
    absent = [one for one in wanted if one not in known]
    if absent:
        raise InvalidFrameError(
            f"The frame {name!r} must have the {kind} of the forecast. It lacks {listed(absent)}; "
            f"it has {listed(known)}. Pass a frame with them, or choose others with {kind}=...",
            parameter=name,
        )


def _window(
    part: pd.DataFrame,
    values: pd.Series[Any] | None,
    step: Step | None,
    steps: int,
    quantiles: Mapping[float, Any],
) -> Window:
    """Place a forecast and the observed values around it on one grid of stamps.

    Parameters
    ----------
    part : pandas.DataFrame
        Rows of the forecast.
    values : pandas.Series, optional
        Observed values by stamp.
    step : pandas offset or int, optional
        Time step; None if it is unknown, and then the stamps are taken to have no gaps.
    steps : int
        Largest number of steps of history.
    quantiles : mapping of float to str
        Columns of the quantiles.
    """
    when = _stamps(part)
    past: pd.Index[Any] = when[:0]
    actual: Any = np.full(len(when), np.nan)
    if values is not None:
        when = _alike(when, values.index)
        past, actual = _near_past(values.index, when[0], step, steps), values.reindex(when)
    known = actual[:0] if values is None else values.reindex(past)
    if "actual" in part:
        actual = part["actual"]
    stamps, place = past.append(when), np.arange(len(past) + len(when))
    if step is not None:
        (stamps,), place = complete_grid((stamps,), (part["item_id"].iloc[0],), step, fill=True)
    start = int(place[len(past)])
    hidden = max(0, start - steps)
    if values is not None and not stamps[hidden:].isin(values.index).any():
        raise InvalidFrameError(
            f"The history must reach up to the forecast. It has stamps from "
            f"{str(values.index[0])!r} to {str(values.index[-1])!r}, and none of them is among the "
            f"{len(when)} steps from {str(when[0])!r} on or the {steps} steps before them. Pass "
            "the rows that precede the forecast, or a larger history_steps=...",
            parameter="history",
        )

    def placed(given: Any, where: NDArray[np.int64]) -> NDArray[np.float64]:
        line = np.full(len(stamps), np.nan)
        line[where] = pd.Series(given).to_numpy(dtype=np.float64, na_value=np.nan)
        return line[hidden:]

    ahead = place[len(past) :]
    return Window(
        stamps=stamps[hidden:],
        start=start - hidden,
        observed=placed([*known, *actual], place),
        prediction=placed(part["prediction"], ahead),
        quantiles={q: placed(part[name], ahead) for q, name in quantiles.items()},
        hides_history=values is not None and bool(values.index[0] < stamps[hidden]),
    )


def _near_past(index: pd.Index[Any], first: Any, step: Step | None, steps: int) -> pd.Index[Any]:
    """Return up to `steps` stamps before the first step of a forecast, without those far before.

    A grid from a past that ended long ago to the forecast could be very large.
    """
    before = index[index < first]
    past = before[max(0, len(before) - steps) :]
    if len(past) and step is not None:
        one_step = future_index(past[-3:], step, 1)[0] - past[-1]
        if (first - past[-1]) / one_step > 2 * steps:
            return past[:0]
    return past


def _alike(when: pd.Index[Any], index: pd.Index[Any]) -> pd.Index[Any]:
    """Return stamps in the time zone of others."""
    zones = [getattr(one, "tz", None) for one in (when, index)]
    is_date = [isinstance(one, pd.DatetimeIndex) for one in (when, index)]
    if is_date[0] != is_date[1] or (zones[0] is None) != (zones[1] is None):
        raise InvalidFrameError(
            "The stamps of all frames must be of one kind: integers, datetimes without a time "
            f"zone, or datetimes with one. They have the dtypes {str(index.dtype)!r} and "
            f"{str(when.dtype)!r}. Convert those of one frame.",
            parameter="history",
        )
    return when if zones[1] is None else cast("pd.DatetimeIndex", when).tz_convert(zones[1])
