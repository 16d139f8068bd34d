"""`Backtest`: forecasts of many windows and observed values, as arrays and as a frame."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch import metrics
from adaptivepatch.data.result_frames import quantile_name
from adaptivepatch.data.windows import Selection, Windows
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.estimators.panel_model import PanelModel, warn_if_extreme

MIN_OBSERVED = 2  # look-back points below which a channel of a window cannot be forecast


@dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """Forecasts of every window of a frame, and the observed values.

    Arrays have the axes window W, step of the horizon H, channel C (sorted by name), quantile Q.

    Parameters
    ----------
    windows : Windows
        Items and cutoffs of the windows.
    prediction : ndarray of shape (W, H, C)
        Point forecasts in original units.
    actual : ndarray of shape (W, H, C)
        Observed values; NaN where nothing was observed or no forecast was possible.
    quantile_prediction : ndarray of shape (W, H, C, Q), optional
        Quantile forecasts in original units.
    quantiles : tuple of float, optional
        Quantiles Q, increasing.
    naive_scale : ndarray of shape (W, C)
        Mean absolute error of the seasonal naive forecast on training rows, the unit of MASE;
        NaN where it is unknown or zero.
    season : int
        Season of the naive forecast, in time steps.
    num_impossible : int
        Number of window-channel pairs that have no forecast, because fewer than 2 look-back points
        were observed; their `prediction` is 0 and their `actual` NaN.
    """

    windows: Windows
    prediction: NDArray[np.float64]
    actual: NDArray[np.float64]
    quantile_prediction: NDArray[np.float64] | None
    quantiles: tuple[float, ...] | None
    naive_scale: NDArray[np.float64]
    season: int
    num_impossible: int

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        items = len(np.unique(self.windows.item))
        return (
            f"Backtest(windows={len(self)}, items={items}, channels={len(self.channels)}, "
            f"horizon={self.actual.shape[1]})"
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names, in the order of the arrays."""
        return self.windows.panel.channels

    @property
    def item_id(self) -> NDArray[np.object_]:
        """Item of each window."""
        return self.windows.item_id

    @property
    def cutoff(self) -> pd.Index[Any]:
        """Last stamp of each window's look-back."""
        return self.windows.cutoff

    def select(self, which: Selection) -> Backtest:
        """Return the forecasts of some of the windows, in the given order."""
        windows = self.windows.select(which)
        quantiles = self.quantile_prediction
        return replace(
            self,
            windows=windows,
            prediction=self.prediction[which],
            actual=self.actual[which],
            quantile_prediction=None if quantiles is None else quantiles[which],
            naive_scale=self.naive_scale[which],
            num_impossible=int((windows.num_observed_past() < MIN_OBSERVED).sum()),
        )

    def metrics(self, by: str | None = None) -> pd.DataFrame:
        """Return error metrics of the forecasts, in original units.

        Parameters
        ----------
        by : {None, "item", "channel", "step"}, default=None
            Return one row per item, channel or step of the horizon; None returns one row for
            everything.

        Returns
        -------
        pandas.DataFrame
            Columns MSE, MAE, RMSE, sMAPE and MASE; with quantiles also QuantileLoss and Coverage
            (of the interval between the outermost two). Only observed targets count.

        Raises
        ------
        InvalidParameterError
            If `by` is unknown.
        """
        if by is None:
            return pd.DataFrame([self._measure(...)], index=pd.Index(["all"]))
        groups: dict[Hashable, Any]
        if by == "item":
            first = np.flatnonzero(np.diff(self.windows.item, prepend=-1))  # item after item
            groups = {
                self.windows.panel.item_ids[self.windows.item[start]]: (slice(start, stop),)
                for start, stop in pairwise([*first.tolist(), len(self)])
            }
        elif by == "channel":
            groups = {name: (slice(None), slice(None), [c]) for c, name in enumerate(self.channels)}
        elif by == "step":
            groups = {h + 1: (slice(None), [h]) for h in range(self.actual.shape[1])}
        else:
            raise InvalidParameterError(
                f"The 'by' parameter must be None, 'item', 'channel' or 'step'. Got {by!r} "
                "instead.",
                parameter="by",
            )
        rows = [self._measure(where) for where in groups.values()]
        return pd.DataFrame(rows, index=pd.Index(list(groups), name=by))

    def mase(self) -> float:
        """Return the mean absolute scaled error over everything.

        Raises
        ------
        InvalidFrameError
            If the naive error on training rows, the unit of MASE, is unknown or 0 for all items.
        """
        value = float(self.metrics()["MASE"].iloc[0])
        if np.isnan(value):
            raise InvalidFrameError(
                "MASE needs the error of the seasonal naive forecast on training rows. It is "
                f"unknown or 0 for the items {np.unique(self.item_id.astype(str)).tolist()[:3]}. "
                "Fit on these items, or use another column of metrics()."
            )
        return value

    def _measure(self, where: Any) -> dict[str, float]:
        actual, prediction = self.actual[where], self.prediction[where]
        if not np.isfinite(actual).any():
            return {}
        scale = np.broadcast_to(self.naive_scale[:, None, :], self.actual.shape)[where]
        scaled = np.where(np.isfinite(scale), actual, np.nan)
        result = {
            "MSE": metrics.mse(actual, prediction),
            "MAE": metrics.mae(actual, prediction),
            "RMSE": metrics.rmse(actual, prediction),
            "sMAPE": metrics.smape(actual, prediction),
            "MASE": metrics.mase(scaled, prediction, np.where(np.isfinite(scale), scale, 1.0))
            if np.isfinite(scaled).any()
            else np.nan,
        }
        if self.quantile_prediction is not None and self.quantiles is not None:
            forecast = self.quantile_prediction[where]
            result["QuantileLoss"] = metrics.quantile_loss(actual, forecast, self.quantiles)
            result["Coverage"] = metrics.coverage(actual, forecast[..., 0], forecast[..., -1])
        return {name: float(value) for name, value in result.items()}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per window, channel and step.

        Returns
        -------
        pandas.DataFrame
            Columns item_id, cutoff, timestamp, target_name, actual, prediction and one column
            per quantile. Window-channel pairs without a forecast are left out.
        """
        num_windows, horizon, num_channels = self.actual.shape
        stamps = [self.windows.timestamps(w) for w in range(num_windows)]
        timestamp = stamps[0].append(stamps[1:]) if stamps else pd.Index([])
        repeats = horizon * num_channels
        columns: dict[str, Any] = {
            "item_id": np.repeat(self.item_id, repeats),
            "cutoff": self.cutoff.repeat(repeats),
            "timestamp": timestamp.take(_by_channel(num_windows, horizon, num_channels)),
            "target_name": np.tile(np.repeat(self.channels, horizon), num_windows),
            "actual": self.actual.transpose(0, 2, 1).ravel(),
            "prediction": self.prediction.transpose(0, 2, 1).ravel(),
        }
        if self.quantile_prediction is not None and self.quantiles is not None:
            by_channel = self.quantile_prediction.transpose(0, 2, 1, 3)
            for q, quantile in enumerate(self.quantiles):
                columns[quantile_name(quantile)] = by_channel[..., q].ravel()
        frame = pd.DataFrame(columns)
        possible = self.windows.num_observed_past() >= MIN_OBSERVED
        if not possible.all():
            frame = frame[np.repeat(possible.ravel(), horizon)].reset_index(drop=True)
        return frame


def _by_channel(num_windows: int, horizon: int, num_channels: int) -> NDArray[np.int64]:
    """Return positions of (window, step) stamps in (window, channel, step) order."""
    step = np.arange(num_windows * horizon).reshape(num_windows, 1, horizon)
    return np.broadcast_to(step, (num_windows, num_channels, horizon)).ravel()


def run_backtest(
    model: PanelModel,
    windows: Windows,
    naive_scale: NDArray[np.float64],
    season: int,
) -> Backtest:
    """Forecast windows and return the forecasts with the observed values.

    Parameters
    ----------
    model : PanelModel
        Trained model.
    windows : Windows
        Windows with targets.
    naive_scale : ndarray of shape (items of the model, channels)
        Mean absolute error of the seasonal naive forecast on training rows.
    season : int
        Season of the naive forecast, in time steps.
    """
    prediction = model.predict(windows.panel, windows)
    warn_if_extreme(windows.panel, windows.item, prediction, model)
    actual = windows.future()
    impossible = windows.num_observed_past() < MIN_OBSERVED
    if impossible.any():
        prediction = np.where(impossible[:, None, :, None], 0.0, prediction)
        actual = np.where(impossible[:, None, :], np.nan, actual)
    quantiles = model.quantiles
    middle = 0 if quantiles is None else quantiles.index(0.5)
    return Backtest(
        windows=windows,
        prediction=prediction[..., middle],
        actual=actual,
        quantile_prediction=None if quantiles is None else prediction,
        quantiles=quantiles,
        naive_scale=_of_items(windows.panel.item_ids, model.item_ids, naive_scale)[windows.item],
        season=season,
        num_impossible=int(impossible.sum()),
    )


def join_backtests(
    windows: Windows, parts: Sequence[tuple[NDArray[np.bool_], Backtest]]
) -> Backtest:
    """Join backtests of parts of the windows into the backtest of all windows.

    Parameters
    ----------
    windows : Windows
        All windows.
    parts : sequence of (ndarray of bool, Backtest)
        Mask of windows, and the backtest of these windows. The masks cover all windows.
    """
    first = parts[0][1]

    def scattered(name: str) -> NDArray[np.float64]:
        whole = np.empty((len(windows), *getattr(first, name).shape[1:]))
        for inside, part in parts:
            whole[inside] = getattr(part, name)
        return whole

    return replace(
        first,
        windows=windows,
        prediction=scattered("prediction"),
        actual=scattered("actual"),
        quantile_prediction=None if first.quantiles is None else scattered("quantile_prediction"),
        naive_scale=scattered("naive_scale"),
        num_impossible=sum(part.num_impossible for _, part in parts),
    )


def _of_items(
    wanted: tuple[Hashable, ...], known: tuple[Hashable, ...], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a row of a table for each wanted item; NaN for unknown items and in place of 0."""
    position = {id_: row for row, id_ in enumerate(known)}
    unknown = np.full(table.shape[1], np.nan)
    rows = np.stack([table[position[id_]] if id_ in position else unknown for id_ in wanted])
    return np.where(rows > 0, rows, np.nan)
