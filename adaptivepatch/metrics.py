"""Forecast metrics on numpy arrays of shape (windows, horizon, channels).

NaN in ``actual`` marks an unobserved step, which every metric leaves out; NaN in a forecast is an
error. A metric is a mean over `axis`: over all steps by default, per window with ``axis=(1, 2)``.
If all windows have equally many observed steps, the mean of the numbers per window is the overall
metric (except for `rmse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidParameterError

Axis = int | tuple[int, ...] | None
Score = float | NDArray[np.float64]


def mse(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the mean squared error, in squared target units.

    Parameters
    ----------
    actual, prediction : array of shape (windows, horizon, channels)
        Observed values, NaN where unobserved, and point forecasts.
    axis : int or tuple of int, optional
        Axes to average over; all by default.

    Raises
    ------
    InvalidParameterError
        If the shapes differ, a forecast is NaN, or no value is observed.

    Examples
    --------
    >>> mse([[[1.0]], [[float("nan")]]], [[[3.0]], [[0.0]]])
    4.0
    """
    error, _ = _errors(actual, prediction)
    return _mean(error**2, axis)


def mae(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the mean absolute error, in target units; the parameters are those of `mse`."""
    error, _ = _errors(actual, prediction)
    return _mean(np.abs(error), axis)


def rmse(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the root mean squared error, in target units; the parameters are those of `mse`."""
    root = np.sqrt(mse(actual, prediction, axis=axis))
    return float(root) if axis is None else root


def smape(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the symmetric mean absolute percentage error, from 0 to 200.

    The parameters are those of `mse`.

    Notes
    -----
    The metric is the mean of ``200 |y - f| / (|y| + |f|)``; a step with ``y = f = 0`` counts as 0.
    """
    error, truth = _errors(actual, prediction)
    size = np.abs(truth) + np.abs(np.asarray(prediction, dtype=np.float64))
    return _mean(200 * np.abs(error) / np.where(size == 0, 1, size), axis)


def mase(
    actual: ArrayLike, prediction: ArrayLike, insample_scale: ArrayLike, *, axis: Axis = None
) -> Score:
    """Return the mean absolute scaled error: absolute errors in units of `insample_scale`.

    Parameters
    ----------
    actual, prediction : array of shape (windows, horizon, channels)
        Observed values, NaN where unobserved, and point forecasts.
    insample_scale : array that broadcasts to (windows, horizon, channels)
        Error of the naive forecast on training rows, from `seasonal_naive_scale`.
    axis : int or tuple of int, optional
        Axes to average over; all by default.

    Raises
    ------
    InvalidParameterError
        If a scale is not positive and finite, or as in `mse`.
    """
    scale = np.asarray(insample_scale, dtype=np.float64)
    if not (np.isfinite(scale) & (scale > 0)).all():
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        raise InvalidParameterError(
            f"insample_scale must be positive and finite. {bad.size} value(s) are not; the first "
            f"is {float(bad[0])!r}, as for a series that is constant or too short. Leave that "
            "series out of MASE.",
            parameter="insample_scale",
        )
    error, _ = _errors(actual, prediction)
    return _mean(np.abs(error) / scale, axis)


def skill(error: float, naive_error: float) -> float:
    """Return 1 minus an error divided by that of a naive forecast of the same targets.

    Parameters
    ----------
    error, naive_error : float
        Errors of a model and of a naive forecast, in the same units.

    Returns
    -------
    float
        Skill: 1 without any error, 0 if the errors are equal, and negative if the model is worse,
        down to minus infinity for a naive forecast without any error.

    Examples
    --------
    >>> skill(1.5, 2.0), skill(2.5, 2.0)
    (0.25, -0.25)
    """
    if naive_error == 0:
        return 0.0 if error == 0 else -np.inf
    return 1 - error / naive_error


def seasonal_naive_scale(
    values: ArrayLike, season: int = 1, row_offsets: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the mean absolute difference of training values one season apart.

    Parameters
    ----------
    values : array of shape (rows,) or (rows, channels)
        Training rows, NaN where unobserved.
    season : int, default=1
        Season in time steps; 1 stands for the last-value forecast.
    row_offsets : array of shape (num_items + 1,), optional
        Rows at which the items start and end, as in `adaptivepatch.data.panel.Panel`.

    Returns
    -------
    ndarray of shape (channels,), or (num_items, channels) with `row_offsets`
        Differences in target units; NaN where no two observed values are one season apart.

    Raises
    ------
    InvalidParameterError
        If `season` is not a positive int.
    """
    if isinstance(season, bool) or not isinstance(season, int) or season < 1:
        raise InvalidParameterError(
            f"The 'season' parameter must be an int in the range [1, inf). Got {season!r} instead.",
            parameter="season",
        )
    rows = np.asarray(values, dtype=np.float64)
    if row_offsets is not None:
        bounds = np.asarray(row_offsets).tolist()
        return np.stack([seasonal_naive_scale(rows[a:b], season) for a, b in pairwise(bounds)])
    with np.errstate(over="ignore", invalid="ignore"):  # `Scaling` refuses values this large
        return _observed_mean(np.abs(rows[season:] - rows[:-season]), axis=0)


def quantile_loss(
    actual: ArrayLike, prediction: ArrayLike, quantiles: Sequence[float], *, axis: Axis = None
) -> Score:
    """Return the mean pinball loss over steps and quantiles, in target units.

    Parameters
    ----------
    actual : array of shape (windows, horizon, channels)
        Observed values, NaN where unobserved.
    prediction : array of shape (windows, horizon, channels, num_quantiles)
        Predicted quantiles.
    quantiles : sequence of float
        Quantiles of the last axis, each between 0 and 1.
    axis : int or tuple of int, optional
        Axes of `actual` to average over; all by default.

    Raises
    ------
    InvalidParameterError
        If `quantiles` is not a sequence of numbers between 0 and 1, the shapes do not fit, a
        forecast is NaN, or no value is observed.

    Notes
    -----
    The loss is ``max(q (y - f), (q - 1) (y - f))``; some libraries multiply it by 2.
    """
    q = np.asarray(quantiles, dtype=np.float64)
    truth = np.asarray(actual, dtype=np.float64)
    forecast = np.asarray(prediction, dtype=np.float64)
    if q.ndim != 1 or q.size == 0 or not ((q > 0) & (q < 1)).all():
        raise InvalidParameterError(
            f"quantiles must be a list of numbers between 0 and 1. Got {quantiles!r} instead. "
            "Pass for example [0.1, 0.5, 0.9].",
            parameter="quantiles",
        )
    if forecast.shape != (*truth.shape, q.size):
        raise InvalidParameterError(
            "prediction must have the shape of actual plus a last axis for the quantiles. Got "
            f"prediction.shape={forecast.shape!r}, actual.shape={truth.shape!r} and {q.size} "
            "quantile(s). Move the quantiles to the last axis.",
            parameter="prediction",
        )
    error, _ = _errors(np.broadcast_to(truth[..., None], forecast.shape), forecast)
    return _mean(np.maximum(q * error, (q - 1) * error).mean(axis=-1), axis)


def crps_from_quantiles(
    actual: ArrayLike, prediction: ArrayLike, quantiles: Sequence[float], *, axis: Axis = None
) -> Score:
    """Return the continuous ranked probability score, approximated from quantile forecasts.

    The parameters are those of `quantile_loss`. The result is twice the mean pinball loss and
    tends to the exact score for many evenly spaced quantiles.
    """
    return 2 * quantile_loss(actual, prediction, quantiles, axis=axis)


def coverage(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the share of observed values inside ``[lower, upper]``, bounds included.

    Parameters
    ----------
    actual, lower, upper : array of shape (windows, horizon, channels)
        Observed values, NaN where unobserved, and the bounds of an interval forecast.
    axis : int or tuple of int, optional
        Axes to average over; all by default.

    Raises
    ------
    InvalidParameterError
        If the shapes differ, a bound is NaN, or no value is observed.
    """
    above, truth = _errors(actual, lower)
    below, _ = _errors(actual, upper)
    inside = (above >= 0) & (below <= 0)
    return _mean(np.where(np.isnan(truth), np.nan, inside), axis)


def _errors(
    actual: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Check both arrays; return ``actual - prediction`` and `actual` as float64."""
    truth = np.asarray(actual, dtype=np.float64)
    forecast = np.asarray(prediction, dtype=np.float64)
    if truth.shape != forecast.shape:
        raise InvalidParameterError(
            "actual and prediction must have the same shape. Got "
            f"actual.shape={truth.shape!r} and prediction.shape={forecast.shape!r}. "
            "Use (windows, horizon, channels) for both.",
            parameter="prediction",
        )
    missing = int(np.isnan(forecast).sum())
    if missing:
        raise InvalidParameterError(
            f"A forecast must be a number at every step. prediction has {missing} NaN value(s). "
            "Look for unobserved look-backs or a diverged fit.",
            parameter="prediction",
        )
    return truth - forecast, truth


def _mean(loss: NDArray[np.float64], axis: Axis) -> Score:
    mean = _observed_mean(loss, axis)
    if axis is not None:
        return mean
    if np.isnan(mean):
        raise InvalidParameterError(
            f"A metric needs an observed value. actual, of shape {loss.shape!r}, has none. "
            "Check which windows were selected.",
            parameter="actual",
        )
    return float(mean)


def _observed_mean(loss: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    observed = ~np.isnan(loss)
    count = np.asarray(observed.sum(axis=axis), dtype=np.float64)
    total = np.asarray(loss.sum(axis=axis, where=observed))
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
