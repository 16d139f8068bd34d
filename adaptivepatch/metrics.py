"""Forecast metrics on numpy arrays of shape (windows, horizon, channels); no state, no frames.

NaN in ``actual`` means unobserved: such steps are left out, and only those. Every metric is the
mean over `axis`: all steps by default, ``axis=(1, 2)`` for one number per window, whose mean is
the former where every window has the same number of observed steps.
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

    Examples
    --------
    >>> mse([[[1.0]], [[float("nan")]]], [[[3.0]], [[0.0]]])
    4.0
    """
    error, _ = _errors(actual, prediction)
    return _mean(error**2, axis)


def mae(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the mean absolute error, in target units; parameters as in `mse`."""
    error, _ = _errors(actual, prediction)
    return _mean(np.abs(error), axis)


def rmse(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the root of the mean squared error, in target units; parameters as in `mse`."""
    root = np.sqrt(mse(actual, prediction, axis=axis))
    return float(root) if axis is None else root


def smape(actual: ArrayLike, prediction: ArrayLike, *, axis: Axis = None) -> Score:
    """Return the symmetric absolute percentage error, from 0 to 200; parameters as in `mse`.

    Notes
    -----
    The mean of ``200 |y - f| / (|y| + |f|)``, where a step with ``y = f = 0`` counts as 0.
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
    """
    scale = np.asarray(insample_scale, dtype=np.float64)
    if not (np.isfinite(scale) & (scale > 0)).all():
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        raise InvalidParameterError(
            f"insample_scale must be positive and finite. {bad.size} value(s) are not, the first "
            f"is {float(bad[0])!r}: that series is constant or too short. Leave it out of MASE."
        )
    error, _ = _errors(actual, prediction)
    return _mean(np.abs(error) / scale, axis)


def seasonal_naive_scale(
    values: ArrayLike, season: int = 1, row_offsets: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return the mean absolute difference of training values one season apart.

    Parameters
    ----------
    values : array of shape (rows,) or (rows, channels)
        Training rows, NaN where unobserved.
    season : int, default=1
        In time steps; 1 is the last-value forecast.
    row_offsets : array of shape (num_items + 1,), optional
        Where the rows of each item start and end, as in `adaptivepatch.data.Panel`.

    Returns
    -------
    ndarray of shape (channels,), or (num_items, channels) with `row_offsets`
        NaN where no two observed values are one season apart.
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
    with np.errstate(over="ignore", invalid="ignore"):  # scaling refuses values that are too large
        return _observed_mean(np.abs(rows[season:] - rows[:-season]), axis=0)


def quantile_loss(
    actual: ArrayLike, prediction: ArrayLike, quantiles: Sequence[float], *, axis: Axis = None
) -> Score:
    """Return the mean pinball loss over steps and quantile levels, in target units.

    Parameters
    ----------
    actual : array of shape (windows, horizon, channels)
        Observed values, NaN where unobserved.
    prediction : array of shape (windows, horizon, channels, num_quantiles)
        Predicted quantiles.
    quantiles : sequence of float
        Levels between 0 and 1.
    axis : int or tuple of int, optional
        Axes of `actual` to average over; all by default.

    Notes
    -----
    ``max(q (y - f), (q - 1) (y - f))``, without the factor 2 that some libraries apply.
    """
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = np.asarray(actual, dtype=np.float64)
    forecast = np.asarray(prediction, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
        raise InvalidParameterError(
            f"quantiles must be levels between 0 and 1. Got {quantiles!r} instead. "
            "Pass for example [0.1, 0.5, 0.9]."
        )
    if forecast.shape != (*truth.shape, levels.size):
        raise InvalidParameterError(
            "prediction must have the shape of actual and one axis of quantiles behind it, "
            f"however: prediction.shape={forecast.shape!r}, actual.shape={truth.shape!r}, "
            f"{levels.size} quantiles. Move the quantiles to the last axis."
        )
    error, _ = _errors(np.broadcast_to(truth[..., None], forecast.shape), forecast)
    return _mean(np.maximum(levels * error, (levels - 1) * error).mean(axis=-1), axis)


def crps_from_quantiles(
    actual: ArrayLike, prediction: ArrayLike, quantiles: Sequence[float], *, axis: Axis = None
) -> Score:
    """Return the continuous ranked probability score that quantile forecasts approximate.

    Parameters are those of `quantile_loss`. The score is twice the mean pinball loss, which tends
    to the exact score for many evenly spaced levels.
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
    """
    above, truth = _errors(actual, lower)
    below, _ = _errors(actual, upper)
    inside = (above >= 0) & (below <= 0)
    return _mean(np.where(np.isnan(truth), np.nan, inside), axis)


def _errors(
    actual: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``actual - prediction`` and `actual`, both in float64."""
    truth = np.asarray(actual, dtype=np.float64)
    forecast = np.asarray(prediction, dtype=np.float64)
    if truth.shape != forecast.shape:
        raise InvalidParameterError(
            "actual and prediction must have the same shape, however: "
            f"actual.shape={truth.shape!r}, prediction.shape={forecast.shape!r}. "
            "Use (windows, horizon, channels) for both."
        )
    missing = int(np.isnan(forecast).sum())
    if missing:
        raise InvalidParameterError(
            f"A forecast must be a number at every step. prediction has {missing} NaN. "
            "Look for unobserved look-backs or a diverged fit."
        )
    return truth - forecast, truth


def _mean(loss: NDArray[np.float64], axis: Axis) -> Score:
    mean = _observed_mean(loss, axis)
    if axis is not None:
        return mean
    if np.isnan(mean):
        raise InvalidParameterError(
            f"A metric needs an observed value. actual has none in shape {loss.shape!r}. "
            "Check the windows that were selected."
        )
    return float(mean)


def _observed_mean(loss: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    """Return the mean without NaN, NaN where nothing is left."""
    observed = ~np.isnan(loss)
    count = np.asarray(observed.sum(axis=axis), dtype=np.float64)
    total = np.asarray(loss.sum(axis=axis, where=observed))
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
