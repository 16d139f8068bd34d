"""A keyword that a class or function lacks: the error names what was meant."""

from __future__ import annotations

import inspect

import pytest
from sklearn.base import BaseEstimator

import adaptivepatch
from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    GroupPolicyGradient,
    InvalidParameterError,
    PatchTSTBackbone,
    RecencyPatcher,
    ReinPatcher,
    Trainer,
    WindowRegressor,
    compare,
    segment,
    sliding_windows,
)
from adaptivepatch.keywords import PLACES, SYNONYMS, UnexpectedArgumentError, helpful, keyword_names
from adaptivepatch.parameters import Configurable
from adaptivepatch.registry import BACKBONES, COMBINATIONS, PATCHERS, SETTINGS

CLASSES = [
    *(Forecaster, WindowRegressor, Trainer),
    *(
        kind
        for registry in (PATCHERS, BACKBONES, COMBINATIONS, SETTINGS)
        for kind in registry.values()
    ),
]
FUNCTIONS = [
    *(Forecaster.fit, Forecaster.predict, Forecaster.backtest, Forecaster.score),
    *(Forecaster.segment, Forecaster.save, WindowRegressor.fit, WindowRegressor.predict),
    WindowRegressor.predict_quantiles,
    *(compare, segment, sliding_windows),
]


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        (Forecaster, "horizn", "Did you mean 'horizon'?"),
        (Forecaster, "patch_len", "Use patcher=FixedPatcher(patch_length=...)."),
        (Forecaster, "patch_length", "Use patcher=FixedPatcher(patch_length=...)."),
        (Forecaster, "input_size", "Use 'context_length'."),
        (Forecaster, "lookback", "Use 'context_length'."),
        (Forecaster, "seq_len", "Use 'context_length'."),
        (Forecaster, "fh", "Use 'horizon'."),
        (Forecaster, "h", "Use 'horizon'."),
        (Forecaster, "n", "Use 'horizon'."),
        (Forecaster, "n_epochs", "Use trainer=Trainer(max_epochs=...)."),
        (Forecaster, "max_epochs", "Use trainer=Trainer(max_epochs=...)."),
        (Forecaster, "val_size", "Use Forecaster.fit(df, validation_rows=...)."),
        (Forecaster, "futr_df", "Covariates are not yet supported."),
        (Forecaster, "hist_exog_list", "Covariates are not yet supported."),
        (WindowRegressor, "val_size", "Use 'validation_fraction'."),
        (WindowRegressor, "horizon", "WindowRegressor reads it from the shapes of X and y."),
        (Trainer, "lr", "Use 'learning_rate'."),
        (Trainer, "epochs", "Use 'max_epochs'."),
        (Trainer, "optimizer", "Its parameters: 'max_steps', 'max_epochs',"),
        (FixedPatcher, "patch_len", "Use 'patch_length'."),
        (ReinPatcher, "patch_length", "Use 'compression_rate'."),
        (RecencyPatcher, "shortst", "Did you mean 'shortest'?"),
        (PatchTSTBackbone, "hidden_size", "Use 'd_model'."),
        (GroupPolicyGradient, "lr", "Use 'learning_rate'."),
    ],
)
def test_constructors_name_what_was_meant(kind, name, hint):
    given = {"horizon": 4} if kind is Forecaster else {}
    with pytest.raises(UnexpectedArgumentError) as caught:
        kind(**given, **{name: 3})
    assert str(caught.value).startswith(f"{kind.__name__} has no parameter {name!r}. ")
    assert hint in str(caught.value)
    assert (caught.value.parameter, caught.value.owner) == (name, kind.__name__)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.predict(n=12), "Forecaster.predict has no parameter 'n'. Use 'horizon'."),
        (lambda m: m.predict(fh=[1]), "Forecaster.predict has no parameter 'fh'. Use 'horizon'."),
        (lambda m: m.fit(None, val_size=3), "has no parameter 'val_size'. Use 'validation_rows'."),
        (lambda m: m.fit(None, horizon=3), "'horizon'. Use Forecaster(..., horizon=...)"),
        (
            lambda m: m.fit(None, futr_df=3),
            "Covariates are not yet supported. Leave this",
        ),
        (lambda m: m.backtest(None, step=3), "has no parameter 'step'. Use 'stride'."),
        (lambda m: m.score(None, strides=3), "Did you mean 'stride'?"),
        (lambda m: m.segment(unit="patch"), "Its parameters: 'df', 'by'."),
        (lambda m: m.save("m", overwrit=True), "Did you mean 'overwrite'?"),
        (lambda m: m.load("m", class_=[]), "Did you mean 'classes'?"),
        (lambda _: WindowRegressor().fit([], [], epochs=1), "Use trainer=Trainer(max_epochs=...)."),
        (lambda _: compare(None, h=12), "compare has no parameter 'h'. Use 'horizon'."),
        (lambda _: compare(None, seed=12), "compare has no parameter 'seed'. Use 'seeds'."),
        (lambda _: segment(None, None, lookback=12), "Use 'context_length'."),
        (lambda _: sliding_windows([1], 1, 1, step=1), "Use 'stride'."),
    ],
)
def test_methods_and_functions_name_what_was_meant(call, text):
    with pytest.raises(UnexpectedArgumentError) as caught:
        call(Forecaster(4))
    assert text in str(caught.value)


def test_the_error_is_what_python_and_scikit_learn_raise():
    assert issubclass(UnexpectedArgumentError, TypeError)
    assert issubclass(UnexpectedArgumentError, InvalidParameterError)  # a ValueError


def test_signatures_stay_those_of_the_source():
    for kind in CLASSES:
        own = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
        assert list(inspect.signature(kind).parameters) == own
        assert sorted(own) == kind._get_param_names()
    for function in FUNCTIONS:
        assert "kwargs" not in inspect.signature(function).parameters
    assert list(inspect.signature(Forecaster.predict).parameters) == [
        *("self", "df", "horizon", "recursive"),
    ]
    assert inspect.unwrap(Forecaster.predict).__doc__ == Forecaster.predict.__doc__


def test_every_public_class_with_parameters_has_these_errors():
    public = [getattr(adaptivepatch, name) for name in adaptivepatch.__all__]
    estimators = [x for x in public if isinstance(x, type) and issubclass(x, BaseEstimator)]
    assert len(estimators) > 20
    assert all(issubclass(kind, Configurable) for kind in estimators)


def test_the_tables_hold_names_of_this_package():
    known = {name for kind in CLASSES for name in kind._get_param_names()}
    known |= {name for function in FUNCTIONS for name in keyword_names(function)}
    assert SYNONYMS.keys() | PLACES.keys() <= known


def test_a_class_of_a_user_has_these_errors_too():
    class Own(FixedPatcher):
        def __init__(self, patch_length=4, shift=0):
            super().__init__(patch_length)
            self.shift = shift

    class Open(FixedPatcher):
        def __init__(self, patch_length=4, **more):
            super().__init__(patch_length)
            self.more = more

    with pytest.raises(UnexpectedArgumentError, match="Own has no parameter 'shfit'.*'shift'"):
        Own(shfit=1)
    assert Open(anything=1).more == {"anything": 1}


def test_errors_inside_a_function_stay_as_they_are():
    @helpful
    def function(value, *, key=None):
        return int(value, key=key)

    with pytest.raises(TypeError) as caught:
        function("1")
    assert not isinstance(caught.value, UnexpectedArgumentError)
    with pytest.raises(TypeError, match="positional"):
        function("1", 2)
    with pytest.raises(UnexpectedArgumentError, match="mean 'key'"):
        function("1", kei=2)
