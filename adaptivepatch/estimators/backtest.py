"""`Backtest`: forecasts of many windows and observed values, as arrays and as a frame."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch import metrics
from adaptivepatch.data.naive import naive_forecasts
from adaptivepatch.data.result_frames import quantile_name
from adaptivepatch.data.windows import Selection, Windows
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from adaptivepatch.estimators.panel_model import PanelModel, warn_if_extreme
from adaptivepatch.estimators.skill import (
    SKILLS,
    PairedErrors,
    best_naive,
    paired_errors,
    skill_of,
    warn_if_worse,
)

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
    naive_seasons : tuple of int
        Seasons of the naive forecasts that `metrics` shows, in time steps; 1 is the last value.
    """

    windows: Windows
    prediction: NDArray[np.float64]
    actual: NDArray[np.float64]
    quantile_prediction: NDArray[np.float64] | None
    quantiles: tuple[float, ...] | None
    naive_scale: NDArray[np.float64]
    season: int
    num_impossible: int
    naive_seasons: tuple[int, ...]

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
        """Return error metrics of the model and of naive forecasts, in original units.

        Parameters
        ----------
        by : {None, "item", "channel", "step"}, default=None
            Return one row per item, channel or step of the horizon. None returns the row "all" of
            the model and below it one row per naive forecast.

        Returns
        -------
        pandas.DataFrame
            Columns MSE, MAE, RMSE, sMAPE and MASE; with quantiles also QuantileLoss and Coverage
            (of the interval between the outermost two). Only observed targets count. The columns
            skill_MSE and skill_MAE are 1 minus the model's error divided by that of the best naive
            forecast. Without `by`, the last column is share, the part of the observed targets for
            which the forecast of the row exists. With `by`, the last column is best_naive, the name
            of the naive forecast that skill_MAE compares with.

        Raises
        ------
        InvalidParameterError
            If `by` is unknown.

        Warns
        -----
        UserWarning
            If the model is worse over everything than the best naive forecast by MSE or by MAE.

        Notes
        -----
        There is one naive forecast for each of `naive_seasons`. "last value" repeats the latest
        observed value, and for example "week before" the latest observed value that is a whole
        number of weeks older than the target. All of them use the rows of the frame up to the
        cutoff of a window (see `adaptivepatch.data.naive.seasonal_naive`).

        A naive forecast does not exist where the season is longer than these rows. Its row shows
        the errors on the targets for which it exists, and the skill compares both forecasts on
        these targets. The best naive forecast is the one that gives the lowest skill on the same
        windows, among those that exist for at least half of the targets. Naive forecasts have no
        quantiles, so that the skill of a model with quantiles is the skill of its point forecast.
        """
        groups: dict[Hashable, Any] = {"all": ...} if by is None else self._groups(by)
        rows = [self._measure(where) for where in groups.values()]
        names, overall = list(groups), list[PairedErrors]()
        pairs: list[list[PairedErrors]] = [[] for _ in groups]
        for name, naive in self.naive_backtests():
            overall += self._paired(name, naive, ...)
            for where, of_group in zip(groups.values(), pairs, strict=True):
                of_group += self._paired(name, naive, where)
            if by is None:
                rows.append(naive._measure(...))
                names.append(name)
        warn_if_worse(overall)
        table = pd.DataFrame(rows, index=pd.Index(names, name=by))
        for metric, column in SKILLS.items():  # a naive forecast has none
            skills = [skill_of(of_group, metric) for of_group in pairs]
            table[column] = skills + [np.nan] * (len(table) - len(skills))
        if by is None:
            table["share"] = [1.0, *(pair.share for pair in pairs[0])]
        else:
            best = [best_naive(of_group, "MAE") for of_group in pairs]
            table["best_naive"] = [None if pair is None else pair.name for pair in best]
        return table

    def naive_backtests(self) -> Iterator[tuple[str, Backtest]]:
        """Yield the name and the backtest of each naive forecast of the same windows.

        Yields
        ------
        tuple of str and Backtest
            Name, such as "week before", and the forecasts. Where there is none, `prediction` is 0
            and `actual` is NaN. Forecasts without any observed target are left out.
        """
        for name, forecast in naive_forecasts(self.windows, self.naive_seasons):
            exists = np.isfinite(forecast)
            actual = np.where(exists, self.actual, np.nan)
            if np.isfinite(actual).any():
                yield (
                    name,
                    replace(
                        self,
                        prediction=np.where(exists, forecast, 0.0),
                        actual=actual,
                        quantile_prediction=None,
                        quantiles=None,
                        naive_seasons=(),
                    ),
                )

    def _paired(self, name: str, naive: Backtest, where: Any) -> list[PairedErrors]:
        arrays = (self.actual, naive.actual, self.prediction, naive.prediction)
        return paired_errors(name, *(array[where] for array in arrays))

    def _groups(self, by: str) -> dict[Hashable, Any]:
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
        return groups

    def mase(self) -> float:
        """Return the mean absolute scaled error over everything.

        Raises
        ------
        InvalidFrameError
            If the naive error on training rows, the unit of MASE, is unknown or 0 for all items.

        Warns
        -----
        UserWarning
            If the model is worse than a naive forecast, as in `metrics`.
        """
        value = self._measure(...).get("MASE", np.nan)
        if np.isnan(value):
            raise InvalidFrameError(
                "MASE needs the error of the seasonal naive forecast on training rows. It is "
                f"unknown or 0 for the items {np.unique(self.item_id.astype(str)).tolist()[:3]}. "
                "Fit on these items, or use another column of metrics()."
            )
        naive = self.naive_backtests()
        warn_if_worse([pair for one in naive for pair in self._paired(*one, ...)])
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
    naive_seasons: tuple[int, ...],
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
        Season of the naive forecast that MASE compares with, in time steps.
    naive_seasons : tuple of int
        Seasons of the naive forecasts that the metrics show, in time steps.
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
        naive_seasons=naive_seasons,
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
