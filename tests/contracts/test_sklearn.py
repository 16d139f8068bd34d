"""The array face passes scikit-learn's own suite; the counts are part of the contract."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidParameterError,
    RecencyPatcher,
    Trainer,
    TransformerBackbone,
    WindowRegressor,
    WindowSplit,
    sliding_windows,
)
from adaptivepatch.registry import PATCHERS

BATTERY = """
import collections, json, warnings
import torch
from sklearn.base import clone
torch.set_num_threads(1)
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import estimator_checks_generator
from adaptivepatch import *
from adaptivepatch.registry import PATCHERS
class Fine(ReinPatcher):
    def __init__(self, compression_rate=2.0):
        super().__init__(compression_rate, gradient=GroupPolicyGradient(2))
class FineChunks(DynamicChunkingPatcher):
    def __init__(self, compression_rate=2.0):
        super().__init__(compression_rate)
PATCHERS["fine"], PATCHERS["fine_chunks"] = Fine, FineChunks
found = []
for number, given in enumerate([{estimators}]):
    failed, names = [], []
    for estimator, check in estimator_checks_generator(given):
        name = check.func.__name__
        if {brief} and (number or name != "check_regressors_train"):
            estimator = clone(estimator).set_params(trainer__max_steps=5)
        try:
            check(estimator)
        except Exception as error:
            failed.append([name, repr(error)])
        names.append(name)
    found.append([failed, names])
print(json.dumps(found))
"""
# `check_regressors_train` asks for an R2 of 0.5. At 1e-2 one start in twelve of the wide backbone
# ends at 0.3; at 4e-3 the narrow one is not there after 80 steps. The other checks compare fits
# with each other: five steps do, and the slow tests run them with all steps.
QUICK = "Trainer(max_steps=80, learning_rate=4e-3, batch_size=64)"
BACKBONES = {
    "PatchTSTBackbone()": QUICK,
    "TransformerBackbone(d_model=16)": "Trainer(max_steps=60, learning_rate=1e-2, batch_size=64)",
}


def check_battery(*estimators: str, brief: bool) -> None:
    """Run in a process of its own: SCIPY_ARRAY_API is read when scipy is imported."""
    result = subprocess.run(
        [sys.executable, "-c", BATTERY.format(estimators=", ".join(estimators), brief=brief)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(result.stdout.splitlines()[-1])
    assert len(found) == len(estimators)
    for failed, names in found:
        assert failed == []
        assert len(names) >= 52
        assert {"check_regressors_train", "check_array_api_input"} <= set(names)


@pytest.mark.timeout(900)
def test_window_regressor_passes_the_full_battery():
    """The second has 2 points a patch: at 16, the battery's windows are one patch."""
    backbone = "TransformerBackbone(d_model=16)"
    check_battery(
        f"WindowRegressor(trainer={QUICK})",
        f"WindowRegressor('fine', {backbone}, trainer={BACKBONES[backbone]})",
        brief=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_window_regressor_passes_the_full_battery_with_fine_chunks():
    backbone = "TransformerBackbone(d_model=16)"
    check_battery(f"WindowRegressor('fine_chunks', {backbone}, trainer={QUICK})", brief=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("patcher", "backbone", "more"),
    [
        ("fixed", "PatchTSTBackbone()", "quantiles=(0.1, 0.5, 0.9)"),
        ("fixed", "PatchTSTBackbone()", "missing='mask'"),
        ("fine", "TransformerBackbone(d_model=16)", "quantiles=(0.1, 0.5, 0.9), missing='mask'"),
    ],
)
def test_window_regressor_passes_the_battery_with_quantiles_and_gaps(patcher, backbone, more):
    trainer = BACKBONES[backbone]
    check_battery(
        f"WindowRegressor({patcher!r}, {backbone}, trainer={trainer}, {more})", brief=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("patcher", sorted(PATCHERS))
def test_window_regressor_passes_the_battery_with_everything(patcher, backbone):
    trainer = BACKBONES[backbone]
    check_battery(
        f"WindowRegressor(patcher={patcher!r}, backbone={backbone}, trainer={trainer})",
        brief=False,
    )


def test_window_regressor_relaxes_no_tag():
    tags = WindowRegressor().__sklearn_tags__()
    assert not tags.no_validation
    assert not tags.non_deterministic
    assert not tags._skip_test
    assert not tags.regressor_tags.poor_score


@pytest.fixture(scope="module")
def windows():
    steps = np.arange(400)
    noise = np.random.default_rng(0).normal(0, 0.1, len(steps))
    return sliding_windows(np.sin(steps * np.pi / 12) + noise, context_length=48, horizon=6)


def quick(**parameters) -> WindowRegressor:
    parameters.setdefault("trainer", Trainer(max_steps=15, learning_rate=3e-3))
    return WindowRegressor(random_state=0, **parameters)


def test_grid_search_over_the_patch_length(windows):
    X, y = windows
    search = GridSearchCV(
        quick(patcher=FixedPatcher()),
        {"patcher__patch_length": [8, 48]},
        cv=WindowSplit(n_splits=2, horizon=6),
        scoring="neg_mean_squared_error",
    )
    search.fit(X, y)
    assert search.best_params_["patcher__patch_length"] in (8, 48)
    best = search.best_estimator_.patcher_
    assert best.capacity(48) == 48 // search.best_params_["patcher__patch_length"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("backbone", ["patchtst", TransformerBackbone(d_model=16)])
def test_predict_does_not_depend_on_the_batch(windows, backbone):
    X, y = windows
    model = quick(backbone=backbone).fit(X, y)
    whole = model.predict(X)
    for size in (1, 7, 63, 64, 65):
        parts = np.concatenate([model.predict(X[i : i + size]) for i in range(0, 130, size)])
        assert (whole[: len(parts)] == parts).all(), size


def test_two_fits_with_one_seed_are_identical(windows):
    X, y = windows
    first, second = quick().fit(X, y).predict(X), quick().fit(X, y).predict(X)
    assert (first == second).all()
    other = clone(quick()).set_params(random_state=1).fit(X, y).predict(X)
    assert (first != other).any()


def test_fit_learns_the_signal(windows):
    X, y = windows
    model = quick(trainer=Trainer(max_steps=100, learning_rate=3e-3)).fit(X[:-60], y[:-60])
    assert model.score(X[-50:], y[-50:]) > 0.8


def test_it_works_in_a_pipeline(windows):
    X, y = windows
    pipeline = make_pipeline(StandardScaler(), quick())
    assert pipeline.fit(X, y[:, 0]).predict(X).shape == (len(X),)


def test_nested_parameters_are_set():
    model = WindowRegressor(patcher=RecencyPatcher(), trainer=Trainer())
    model.set_params(patcher__shortest=4, trainer__max_steps=3)
    assert model.patcher.shortest == 4
    assert model.trainer.max_steps == 3


def test_the_given_patcher_is_never_trained(windows):
    X, y = windows
    backbone = TransformerBackbone(d_model=16)
    quick(backbone=backbone).fit(X, y)
    assert list(backbone.parameters()) == []


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"patcher": "fixd"}, InvalidParameterError, "Unknown patcher 'fixd'.*mean 'fixed'"),
        ({"backbone": "patchtts"}, InvalidParameterError, "Unknown backbone.*mean 'patchtst'"),
        ({"patcher": FixedPatcher}, TypeError, r"Pass FixedPatcher\(\) instead of the class"),
        ({"patcher": None}, TypeError, "'patcher' parameter must be a Patcher instance"),
        ({"trainer": 3}, TypeError, "'trainer' parameter must be a Trainer"),
        ({"loss": "msee"}, InvalidParameterError, "Unknown loss 'msee'.*mean 'mse'"),
        ({"validation_fraction": 1.0}, InvalidParameterError, r"range \[0, 1\). Got 1.0"),
        ({"patcher": FixedPatcher(8, stride=9)}, InvalidParameterError, "must not exceed"),
        ({"patcher": FixedPatcher(8, compression_rate=4)}, InvalidParameterError, "either"),
        (
            {"patcher": FixedPatcher(compression_rate=0.5)},
            InvalidParameterError,
            r"'compression_rate' parameter of FixedPatcher must be a float in the range \[1, inf\)",
        ),
    ],
)
def test_bad_parameters_are_named(windows, parameters, error, message):
    with pytest.raises(error, match=message):
        quick(**parameters).fit(*windows)


def test_too_few_windows_to_validate_warn(windows):
    X, y = windows
    with pytest.warns(UserWarning, match="5 windows are too few to hold out 1"):
        quick().fit(X[:5], y[:5])


def test_data_frame_face_keeps_parameters_clones_and_reprs():
    """What of scikit-learn's contract does not need array input."""
    model = Forecaster(horizon=4, patcher=FixedPatcher(8), trainer=Trainer(max_steps=3))
    copy = clone(model)
    assert copy is not model
    assert copy.patcher is not model.patcher
    assert copy.get_params()["patcher__patch_length"] == 8
    assert copy.set_params(patcher__stride=4).patcher.stride == 4
    assert "patcher=FixedPatcher(patch_length=8)" in repr(model)
    assert model.__sklearn_tags__() is not None


@pytest.mark.parametrize(("factor", "level"), [(1e-4, 0.0), (1e-12, 0.0), (1.0, 1e7), (1e9, 1e9)])
def test_forecasts_follow_the_unit_of_the_windows(windows, factor, level):
    X, y = windows
    few = {"trainer": Trainer(max_steps=2), "validation_fraction": 0}  # longer amplifies rounding
    expected = quick(**few).fit(X, y).predict(X)
    found = quick(**few).fit(factor * X + level, factor * y + level).predict(factor * X + level)
    np.testing.assert_allclose((found - level) / factor, expected, atol=1e-3)
