"""Windows of `sliding_windows` go into `WindowRegressor`, or the error says how to reshape them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from adaptivepatch import (
    FixedPatcher,
    InvalidParameterError,
    Trainer,
    WindowRegressor,
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
