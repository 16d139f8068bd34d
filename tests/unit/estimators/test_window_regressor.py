"""`WindowRegressor`: windows of channels, quantiles, and windows with gaps."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import get_tags

from adaptivepatch import (
    FixedPatcher,
    InvalidParameterError,
    Trainer,
    WindowRegressor,
    WindowSplit,
    metrics,
    sliding_windows,
)

SERIES = np.random.default_rng(0).normal(size=(60, 2))


def quick(**parameters):
    trainer = Trainer(max_steps=1, device="cpu")
    return WindowRegressor(FixedPatcher(4), trainer=trainer, random_state=0, **parameters)


def test_windows_of_a_series_are_taken_as_they_are():
    X, y = sliding_windows(SERIES[:, 0], context_length=8, horizon=3)
    assert quick().fit(X, y).predict(X).shape == y.shape


def test_windows_of_channels_are_refused_with_the_code_that_reshapes_them():
    X, y = sliding_windows(SERIES, context_length=8, horizon=3)
    with pytest.raises(InvalidParameterError) as caught:
        quick().fit(X, y)
    assert caught.value.parameter == "X"
    assert f"Got X of shape {X.shape}" in str(caught.value)
    model = quick(validation_fraction=0)
    for array in ("X[:, :, 0]", "X.transpose(0, 2, 1).reshape(-1, 8)"):
        assert array in str(caught.value)
        past = eval(array, {"X": X})
        target = eval(array.replace("8", "3").replace("X", "y"), {"y": y})
        assert model.fit(past, target).predict(past).shape == target.shape
    with pytest.raises(InvalidParameterError, match=r"Got y of shape \(50, 3, 2\)"):
        model.fit(X[:, :, 0], y)
    with pytest.raises(InvalidParameterError, match=r"Got X of shape \(50, 8, 2\)"):
        model.predict(X)


def test_the_warning_about_few_windows_names_the_line_of_the_user():
    X, y = sliding_windows(SERIES[:13, 0], context_length=8, horizon=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quick().fit(X, y)
    (found,) = [w for w in caught if "too few to hold out" in str(w.message)]
    assert found.filename == __file__


# ---------------------------------------------------------------------- quantiles and gaps

QUANTILES = (0.1, 0.5, 0.9)
WHOLE = sliding_windows(SERIES[:, 0], context_length=8, horizon=3)


def with_gaps():
    """Windows of a series in which a quarter of the steps is unobserved."""
    series = SERIES[:, 0].copy()
    series[np.random.default_rng(1).random(len(series)) < 0.25] = np.nan
    return sliding_windows(series, context_length=8, horizon=3)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("quantiles", [None, QUANTILES])
def test_the_validation_loss_is_that_of_the_observed_targets(quantiles, gaps):
    X, y = with_gaps() if gaps else WHOLE
    model = quick(refit=False, missing="mask", quantiles=quantiles, validation_fraction=0.2)
    model.fit(X, y)
    held_out = slice(-int(np.ceil(0.2 * len(X))), None)
    past, target = X[held_out], (y[held_out] - model.center_) / model.scale_
    if quantiles is None:
        error = target - (model.predict(past) - model.center_) / model.scale_
        expected = np.nanmean(error**2)
    else:
        forecast = (model.predict_quantiles(past) - model.center_) / model.scale_
        expected = metrics.quantile_loss(target, forecast, quantiles)
    assert model.record_.best_loss == pytest.approx(expected, rel=1e-5)


def test_quantiles_are_ordered_and_the_middle_one_is_the_forecast():
    X, y = WHOLE
    model = quick(quantiles=QUANTILES).fit(X, y)
    forecast = model.predict_quantiles(X)
    assert forecast.shape == (*y.shape, 3)
    assert (np.diff(forecast, axis=-1) >= 0).all()
    assert (model.predict(X) == forecast[..., 1]).all()
    one_step = quick(quantiles=QUANTILES).fit(X, y[:, 0])
    assert one_step.predict_quantiles(X).shape == (len(X), 3)
    assert (one_step.predict(X) == one_step.predict_quantiles(X)[:, 1]).all()


def test_both_settings_are_cloned_and_pickled():
    X, y = with_gaps()
    model = clone(quick(quantiles=QUANTILES, missing="mask")).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.get_params()["quantiles"] == QUANTILES
    assert copy.get_params()["missing"] == "mask"
    assert (copy.predict_quantiles(X) == model.predict_quantiles(X)).all()


def test_a_regressor_that_was_pickled_without_these_settings_forecasts():
    X, y = WHOLE
    model = quick().fit(X, y)
    state = model.__getstate__()
    old = {key: value for key, value in state.items() if key not in ("quantiles", "missing")}
    restored = WindowRegressor.__new__(WindowRegressor)
    restored.__setstate__(old)
    assert (restored.predict(X) == model.predict(X)).all()
    assert restored.get_params()["missing"] == "error"


def test_only_a_mask_allows_gaps():
    X, y = with_gaps()
    assert not get_tags(quick()).input_tags.allow_nan
    assert get_tags(quick(missing="mask")).input_tags.allow_nan
    whole, whole_y = WHOLE
    for past, future in ((X, whole_y), (whole, y)):
        with pytest.raises(ValueError, match="contains NaN"):
            quick().fit(past, future)
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(whole, whole_y).predict(X)
    infinite = np.where(np.isnan(X), np.inf, X)
    with pytest.raises(ValueError, match="contains infinity"):
        quick(missing="mask").fit(infinite, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick(missing="mask").fit(X, y[1:])


def test_a_mask_changes_nothing_without_gaps():
    X, y = WHOLE
    plain, masked = quick().fit(X, y), quick(missing="mask").fit(X, y)
    assert (plain.predict(X) == masked.predict(X)).all()
    assert masked.score(X, y) == pytest.approx(plain.score(X, y), abs=1e-12)


def test_windows_without_observed_steps_or_targets_are_not_trained_on():
    X, y = WHOLE
    settings = {"validation_fraction": 0, "missing": "mask"}
    expected = quick(**settings).fit(X, y).predict(X)
    nothing = np.full((2, 8), np.nan), y[:2]
    past, future = (np.concatenate(parts) for parts in zip(nothing, (X, y), strict=True))
    assert (quick(**settings).fit(past, future).predict(X) == expected).all()
    twice = np.concatenate([X, X]), np.concatenate([y, np.full_like(y, np.nan)])
    np.testing.assert_allclose(quick(**settings).fit(*twice).predict(X), expected, atol=1e-5)


def test_a_forecast_does_not_depend_on_gaps_of_other_windows():
    X = WHOLE[0]
    model = quick(missing="mask").fit(*with_gaps())
    mixed = X.copy()
    mixed[::2, 3] = np.nan
    forecast = model.predict(mixed)
    assert (forecast[1::2] == model.predict(X)[1::2]).all()
    assert (forecast[::2] != model.predict(X)[::2]).all()


def test_windows_with_too_few_observed_steps_have_no_forecast():
    X, y = with_gaps()
    model = quick(missing="mask", quantiles=QUANTILES).fit(X, y)
    few = X.copy()
    few[[3, 7]] = np.nan
    few[3, 2] = 1.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forecast = model.predict(few)
    (found,) = caught
    assert found.filename == __file__
    assert "2 of 50 windows have fewer, the first is window 3" in str(found.message)
    assert np.flatnonzero(np.isnan(forecast).all(axis=1)).tolist() == [3, 7]
    with pytest.warns(UserWarning, match="50 of 50 windows"):
        assert np.isnan(model.predict_quantiles(np.full_like(X, np.nan))).all()


def test_windows_of_one_step_need_one_observed_step():
    X, y = sliding_windows(SERIES[:, 0], context_length=1, horizon=1)
    gaps = X.copy()
    gaps[4] = np.nan
    trainer = Trainer(max_steps=1, device="cpu")
    model = WindowRegressor(FixedPatcher(1), trainer=trainer, missing="mask").fit(gaps, y)
    with pytest.warns(UserWarning, match="1 of 59 windows"):
        assert np.flatnonzero(np.isnan(model.predict(gaps))).tolist() == [4]


def test_the_score_counts_observed_targets_of_windows_with_a_forecast():
    X, y = (array.copy() for array in with_gaps())
    X[5] = np.nan
    model = quick(missing="mask").fit(X, y)
    weight = np.arange(1.0, len(X) + 1)
    with pytest.warns(UserWarning, match="1 of 50 windows"):
        found = model.score(X, y, weight)
    expected, known = [], np.delete(np.arange(len(X)), 5)
    forecast = np.full(y.shape, np.nan)
    forecast[known] = model.predict(X[known])
    for step in range(3):
        rows = known[~np.isnan(y[known, step])]
        expected.append(r2_score(y[rows, step], forecast[rows, step], sample_weight=weight[rows]))
    assert found == pytest.approx(np.mean(expected))
    with pytest.raises(InvalidParameterError, match="None of the 49 windows has one"):
        model.score(X[known], np.full_like(y[known], np.nan))


def test_a_search_over_windows_with_gaps():
    X, y = with_gaps()
    split = WindowSplit(n_splits=2, horizon=3)
    search = GridSearchCV(quick(missing="mask"), {"loss": ["mse", "mae"]}, cv=split)
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_without_an_observed_window_to_validate_on_training_warns():
    X, y = WHOLE
    unknown = y.copy()
    unknown[-10:] = np.nan
    with pytest.warns(UserWarning, match="40 windows are too few to hold out 5"):
        model = quick(missing="mask").fit(X, unknown)
    assert np.isnan(model.record_.best_loss)
