from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    root_mean_squared_error,
)

from adaptivepatch import metrics
from adaptivepatch.errors import InvalidParameterError

SHAPE = (5, 4, 3)
POINT_METRICS = {
    "mse": (metrics.mse, lambda y, f: (y - f) ** 2),
    "mae": (metrics.mae, lambda y, f: abs(y - f)),
    "smape": (metrics.smape, lambda y, f: 200 * abs(y - f) / ((abs(y) + abs(f)) or 1)),
}


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return generator.normal(size=SHAPE), generator.normal(size=SHAPE)


def loop_mean(loss, actual, prediction):
    """Mean over observed steps by a plain loop."""
    pairs = zip(np.ravel(actual).tolist(), np.ravel(prediction).tolist(), strict=True)
    terms = [loss(y, f) for y, f in pairs if not math.isnan(y)]
    return math.fsum(terms) / len(terms)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(POINT_METRICS)),
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.0, 0.3, 0.9]),
    zeros=st.booleans(),
)
def test_point_metrics_equal_a_loop_over_observed_steps(name, seed, share, zeros):
    metric, loss = POINT_METRICS[name]
    generator = np.random.default_rng(seed)
    actual, prediction = generator.normal(size=(2, *SHAPE))
    actual[generator.random(SHAPE) < share] = np.nan
    actual[0, 0, 0] = 1.5
    if zeros:
        actual[1], prediction[1] = 0, 0
    expected = loop_mean(loss, actual, prediction)
    assert metric(actual, prediction) == pytest.approx(expected, rel=1e-12)


def test_metrics_equal_scikit_learn(arrays):
    actual, prediction = arrays
    y, f = actual.ravel(), prediction.ravel()
    assert metrics.mse(actual, prediction) == pytest.approx(mean_squared_error(y, f))
    assert metrics.mae(actual, prediction) == pytest.approx(mean_absolute_error(y, f))
    assert metrics.rmse(actual, prediction) == pytest.approx(root_mean_squared_error(y, f))
    assert isinstance(metrics.rmse(actual, prediction), float)


def test_one_number_per_window(arrays):
    actual, prediction = arrays
    actual[1] = np.nan
    actual[2, 0] = np.nan
    for metric, _ in POINT_METRICS.values():
        per_window = metric(actual, prediction, axis=(1, 2))
        assert per_window.shape == (5,)
        assert np.isnan(per_window[1])
        for window in (0, 2, 3, 4):
            assert per_window[window] == pytest.approx(metric(actual[window], prediction[window]))
    complete = np.nan_to_num(actual)
    per_window = metrics.mse(complete, prediction, axis=(1, 2))
    assert per_window.mean() == pytest.approx(metrics.mse(complete, prediction))
    roots = metrics.rmse(complete, prediction, axis=(1, 2))
    np.testing.assert_allclose(roots**2, per_window)


def test_float32_input_is_summed_in_float64():
    actual = np.full((1000, 96, 1), 0.1, dtype=np.float32)
    expected = float(np.float32(0.1)) ** 2
    assert metrics.mse(actual, np.zeros_like(actual)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("season", [1, 3, 7])
def test_seasonal_scale_equals_a_loop(season):
    values = np.random.default_rng(1).normal(size=(20, 2))
    values[[4, 9], 0] = np.nan
    values[17, 1] = np.nan
    offsets = [0, 12, 20]
    scale = metrics.seasonal_naive_scale(values, season, offsets)
    assert scale.shape == (2, 2)
    for item in range(2):
        rows = values[offsets[item] : offsets[item + 1]]
        for channel in range(2):
            gaps = [
                abs(rows[t, channel] - rows[t - season, channel]) for t in range(season, len(rows))
            ]
            gaps = [gap for gap in gaps if not math.isnan(gap)]
            expected = sum(gaps) / len(gaps)
            assert scale[item, channel] == pytest.approx(expected)


def test_seasonal_scale_without_history_is_nan():
    assert np.isnan(metrics.seasonal_naive_scale([1.0, 2.0], season=2))
    assert np.isnan(metrics.seasonal_naive_scale([1.0, 2.0], season=5))
    assert metrics.seasonal_naive_scale([3.0, 3.0, 3.0]) == 0
    with pytest.raises(InvalidParameterError, match=r"'season' parameter .* Got 0 instead"):
        metrics.seasonal_naive_scale([1.0], season=0)


def test_mase_equals_a_loop(arrays):
    actual, prediction = arrays
    actual[0, 1, 2] = np.nan
    scale = np.random.default_rng(2).random((5, 1, 3)) + 0.1
    terms = [
        abs(actual[w, h, c] - prediction[w, h, c]) / scale[w, 0, c]
        for w, h, c in np.ndindex(*SHAPE)
        if not math.isnan(actual[w, h, c])
    ]
    expected = sum(terms) / len(terms)
    assert metrics.mase(actual, prediction, scale) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_mase_needs_a_scale(arrays, bad):
    with pytest.raises(InvalidParameterError, match=r"must be positive .* 1 value.* constant or"):
        metrics.mase(*arrays, np.array([1.0, bad, 1.0]))


def test_quantile_loss_equals_scikit_learn(arrays):
    actual, _ = arrays
    quantiles = [0.1, 0.5, 0.8]
    prediction = np.random.default_rng(3).normal(size=(*SHAPE, 3))
    expected = np.mean(
        [
            mean_pinball_loss(actual.ravel(), prediction[..., k].ravel(), alpha=level)
            for k, level in enumerate(quantiles)
        ]
    )
    assert metrics.quantile_loss(actual, prediction, quantiles) == pytest.approx(expected)
    per_window = metrics.quantile_loss(actual, prediction, quantiles, axis=(1, 2))
    assert per_window.mean() == pytest.approx(expected)
    hidden = np.where(np.arange(5)[:, None, None] == 0, np.nan, actual)
    rest = metrics.quantile_loss(actual[1:], prediction[1:], quantiles)
    assert metrics.quantile_loss(hidden, prediction, quantiles) == pytest.approx(rest)


def test_crps_of_many_quantiles_is_the_exact_score_of_a_normal():
    normal, value = NormalDist(), 0.7
    levels = [(k + 0.5) / 2000 for k in range(2000)]
    prediction = np.array([normal.inv_cdf(level) for level in levels]).reshape(1, 1, 1, -1)
    exact = value * (2 * normal.cdf(value) - 1) + 2 * normal.pdf(value) - 1 / math.sqrt(math.pi)
    score = metrics.crps_from_quantiles([[[value]]], prediction, levels)
    assert score == pytest.approx(exact, rel=1e-3)
    absolute = metrics.crps_from_quantiles([[[value]]], [[[[0.2]]]], [0.5])
    assert absolute == pytest.approx(0.5)  # the median alone: the absolute error


def test_coverage_counts_bounds_and_skips_unobserved():
    actual = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    assert metrics.coverage(actual, np.full(5, 2.0), np.full(5, 3.0)) == 0.5
    per_step = metrics.coverage(actual[:, None], np.full((5, 1), 2.0), np.full((5, 1), 9.0), axis=1)
    np.testing.assert_array_equal(per_step, [0, 1, 1, np.nan, 1])


def test_wrong_arrays_are_refused(arrays):
    actual, prediction = arrays
    with pytest.raises(InvalidParameterError, match=r"same shape\. Got .*\(5, 4, 1\)"):
        metrics.mse(actual, prediction[..., :1])
    with pytest.raises(InvalidParameterError, match="needs an observed value"):
        metrics.mae(np.full(SHAPE, np.nan), prediction)
    prediction[0, 0, :2] = np.nan
    for metric, _ in POINT_METRICS.values():
        with pytest.raises(InvalidParameterError, match="prediction has 2 NaN"):
            metric(actual, prediction)
    with pytest.raises(InvalidParameterError, match=r"between 0 and 1\. Got \[0\.1, 1\]"):
        metrics.quantile_loss(actual, np.zeros((*SHAPE, 2)), [0.1, 1])
    with pytest.raises(InvalidParameterError, match="Move the quantiles to the last axis"):
        metrics.quantile_loss(actual, np.zeros((2, *SHAPE)), [0.1, 0.9])
