"""Nested parameters of components that are given by name or left at None."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    GroupPolicyGradient,
    HierarchicalPatcher,
    InvalidParameterError,
    MultiLevelBackbone,
    ReinPatcher,
    Trainer,
    WindowRegressor,
    WindowSplit,
    sliding_windows,
)
from adaptivepatch.keywords import UnexpectedArgumentError
from adaptivepatch.resolver import default_backbone

ESTIMATORS = [Forecaster(4), WindowRegressor()]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)


@each_estimator
def test_nested_parameters_of_the_defaults_can_be_set(estimator):
    model = clone(estimator)
    same = model.set_params(
        patcher__patch_length=8, trainer__max_steps=3, backbone__d_model=8, backbone__dropout=0.2
    )
    assert same is model
    assert repr(model.patcher) == repr(FixedPatcher(8))
    assert repr(model.trainer) == repr(Trainer(max_steps=3))
    assert repr(model.backbone) == repr(default_backbone().set_params(d_model=8, dropout=0.2))
    assert model.get_params()["patcher__patch_length"] == 8
    assert clone(model).trainer.max_steps == 3


@each_estimator
def test_constructor_arguments_are_stored_unchanged(estimator):
    assert (estimator.patcher, estimator.backbone, estimator.trainer) == ("fixed", None, None)
    parameters = clone(estimator).get_params()
    assert (parameters["patcher"], parameters["trainer"]) == ("fixed", None)
    model = clone(estimator).set_params(loss="huber")
    assert (model.patcher, model.trainer) == ("fixed", None)


@each_estimator
def test_a_component_and_its_parameters_can_be_set_together(estimator):
    model = clone(estimator).set_params(patcher__compression_rate=8, patcher="reinpatch")
    assert repr(model.patcher) == repr(ReinPatcher(8))
    model.set_params(patcher__gradient__num_samples=8)
    assert repr(model.patcher.gradient) == repr(GroupPolicyGradient(num_samples=8))
    given = FixedPatcher(8)
    assert clone(estimator).set_params(patcher=given, patcher__stride=4).patcher is given


@each_estimator
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"patcher__patch_lenght": 8}, "FixedPatcher has no parameter 'patch_lenght'.*length'"),
        (
            {"patcher__patch_len": 8},
            "FixedPatcher has no parameter 'patch_len'. Use 'patch_length'",
        ),
        ({"trainer__maxsteps": 8}, "Trainer has no parameter 'maxsteps'. Did you mean 'max_steps'"),
        ({"backbone__n_heads": 8}, "PatchTSTBackbone has no parameter 'n_heads'. Use 'num_heads'"),
        ({"patchr__stride": 8}, "has no parameter 'patchr'. Did you mean 'patcher'"),
        ({"lr": 8}, r"has no parameter 'lr'. Use trainer=Trainer\(learning_rate=...\)"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(estimator, parameters, message):
    with pytest.raises(UnexpectedArgumentError, match=message):
        clone(estimator).set_params(**parameters)


@each_estimator
def test_parameters_of_what_is_no_component_are_refused(estimator):
    model = clone(estimator)
    with pytest.raises(InvalidParameterError, match="'loss__x'.*loss='m.e' has no parameters"):
        model.set_params(loss__x=1)
    with pytest.raises(InvalidParameterError, match="Unknown patcher 'fixd'.*mean 'fixed'"):
        model.set_params(patcher="fixd", patcher__stride=1)
    with pytest.raises(TypeError, match=r"Pass FixedPatcher\(\) instead of the class"):
        model.set_params(patcher=FixedPatcher, patcher__stride=1)
    with pytest.raises(InvalidParameterError, match="'encoder__d_model'.*encoder=None has no"):
        model.set_params(backbone=MultiLevelBackbone(), backbone__encoder__d_model=8)
    with pytest.raises(InvalidParameterError, match="Pass a patcher first"):
        model.set_params(patcher=HierarchicalPatcher(), patcher__coarse__compression_rate=8)


def test_a_search_begins_with_the_defaults():
    X, y = sliding_windows(np.sin(np.arange(120) / 4), context_length=16, horizon=2)
    grid = {"patcher__patch_length": [4, 8], "trainer__max_steps": [2], "backbone__d_model": [16]}
    split = WindowSplit(n_splits=2, horizon=2)
    search = GridSearchCV(WindowRegressor(random_state=0), grid, cv=split, error_score="raise")
    best = search.fit(X, y).best_estimator_
    assert best.patcher_.patch_length in (4, 8)
    assert best.n_iter_ <= 2
    assert search.estimator.patcher == "fixed"
