"""Arguments outside their documented range, for everything that a user constructs or calls."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError

from adaptivepatch import (
    FixedPatcher,
    PatchTSTBackbone,
    RandomPatcher,
    RecencyPatcher,
    Trainer,
    TransformerBackbone,
    WindowRegressor,
    sliding_windows,
)
from adaptivepatch.errors import (
    AdaptivePatchError,
    InvalidFrameError,
    InvalidParameterError,
)
from adaptivepatch.keywords import UnexpectedArgumentError
from adaptivepatch.training.record import TrainingDivergedError
from tests.bad_inputs.helpers import (
    Case,
    assert_refused,
    fitted,
    fitted_quantiles,
    parametrized,
    stamped,
    tiny,
    wide,
)

FRAME, PARAMETER = InvalidFrameError, InvalidParameterError
UNEXPECTED = UnexpectedArgumentError
PAST, FUTURE = np.random.default_rng(0).normal(size=(40, 12)), np.zeros((40, 2))


def made(name, error, text, **parameters):
    """A case of a forecaster with a wrong parameter."""
    return Case(name, lambda: tiny(**parameters).fit(wide()), error, text)


def trained(name, error, text, **settings):
    """A case of a trainer with a wrong setting."""
    settings = {"device": "cpu", "max_steps": 1} | settings
    return Case(name, lambda: tiny(trainer=Trainer(**settings)).fit(wide()), error, text)


def fit(name, error, text, **arguments):
    """A case of a wrong argument of `fit`."""
    return Case(name, lambda: tiny().fit(wide(), **arguments), error, text)


def asked(name, method, error, text, *given, model=fitted, **arguments):
    """A case of a wrong request to a fitted model."""
    return Case(name, lambda: getattr(model(), method)(*given, **arguments), error, text)


def regressed(name, error, text, past=PAST, future=FUTURE, **parameters):
    """A case of a wrong parameter or array of `WindowRegressor`."""
    parameters = {"trainer": Trainer(max_steps=1, device="cpu")} | parameters
    return Case(name, lambda: WindowRegressor(**parameters).fit(past, future), error, text)


class NoPatcher:
    """A class of the user that is not a patcher."""


SIZES = [
    made(
        "horizon 0",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        horizon=0,
    ),
    made(
        "horizon -1",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got -1 "
            "instead."
        ),
        horizon=-1,
    ),
    made(
        "horizon 1.5",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got 1.5 "
            "instead."
        ),
        horizon=1.5,
    ),
    made(
        "horizon text",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got "
            "'12' instead."
        ),
        horizon="12",
    ),
    made(
        "horizon none",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got "
            "None instead."
        ),
        horizon=None,
    ),
    made(
        "horizon true",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got "
            "True instead."
        ),
        horizon=True,
    ),
    made(
        "horizon list",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got [4] "
            "instead."
        ),
        horizon=[4],
    ),
    made(
        "horizon nan",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got nan "
            "instead."
        ),
        horizon=float("nan"),
    ),
    made(
        "context_length 1",
        PARAMETER,
        (
            "The 'context_length' parameter of Forecaster must be an int in the range [2, inf). "
            "Got 1 instead."
        ),
        context_length=1,
    ),
    made(
        "context_length text",
        PARAMETER,
        (
            "The 'context_length' parameter of Forecaster must be an int in the range [2, inf). "
            "Got 'long' instead."
        ),
        context_length="long",
    ),
    made(
        "context_length huge",
        PARAMETER,
        (
            "The 'context_length' parameter of Forecaster must be at most 1048576. Got "
            "1000000000000 instead."
        ),
        context_length=10**12,
    ),
    made(
        "values_per_patch 0",
        PARAMETER,
        (
            "The 'values_per_patch' parameter of Forecaster must be an int in the range [1, "
            "inf). Got 0 instead."
        ),
        values_per_patch=0,
    ),
    made(
        "values_per_patch 2.5",
        PARAMETER,
        (
            "The 'values_per_patch' parameter of Forecaster must be an int in the range [1, "
            "inf). Got 2.5 instead."
        ),
        values_per_patch=2.5,
    ),
]

BOUNDS = (
    "The 'bounds' parameter of Forecaster must be 'nonnegative' or a pair of finite numbers "
    "(low, high) with low < high, where None leaves a side open. Got {} instead."
)

CHOICES = [
    made(
        "quantiles without median",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.1, 0.9] instead."
        ),
        quantiles=[0.1, 0.9],
    ),
    made(
        "quantiles unsorted",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.9, 0.5, 0.1] instead."
        ),
        quantiles=[0.9, 0.5, 0.1],
    ),
    made(
        "quantiles of 0 and 1",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.0, 0.5, 1.0] instead."
        ),
        quantiles=[0.0, 0.5, 1.0],
    ),
    made(
        "quantiles twice",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.5, 0.5] instead."
        ),
        quantiles=[0.5, 0.5],
    ),
    made(
        "quantiles in percent",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [10, 50, 90] instead."
        ),
        quantiles=[10, 50, 90],
    ),
    made(
        "quantiles empty",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [] instead."
        ),
        quantiles=[],
    ),
    made(
        "quantiles number",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got 0.5 instead."
        ),
        quantiles=0.5,
    ),
    made(
        "quantiles text",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got '0.1,0.5,0.9' instead."
        ),
        quantiles="0.1,0.5,0.9",
    ),
    made(
        "quantiles nan",
        PARAMETER,
        (
            "The 'quantiles' parameter of Forecaster must increase strictly inside (0, 1) and "
            "hold 0.5, the point forecast. Got [0.5, nan] instead."
        ),
        quantiles=[0.5, float("nan")],
    ),
    made(
        "misspelt loss",
        PARAMETER,
        ("Unknown loss 'msee'. Available: ['huber', 'mae', 'mse']. Did you mean 'mse'?"),
        loss="msee",
    ),
    made(
        "loss none", PARAMETER, "Unknown loss None. Available: ['huber', 'mae', 'mse'].", loss=None
    ),
    made(
        "loss in a list",
        PARAMETER,
        ("Unknown loss ['mse']. Available: ['huber', 'mae', 'mse']. Did you mean 'mse'?"),
        loss=["mse"],
    ),
    made(
        "misspelt loss beside quantiles",
        PARAMETER,
        ("Unknown loss 'msee'. Available: ['huber', 'mae', 'mse']. Did you mean 'mse'?"),
        loss="msee",
        quantiles=[0.5],
    ),
    made(
        "missing drop",
        PARAMETER,
        "The 'missing' parameter must be 'error' or 'mask'. Got 'drop' instead.",
        missing="drop",
    ),
    made(
        "missing none",
        PARAMETER,
        "The 'missing' parameter must be 'error' or 'mask'. Got None instead.",
        missing=None,
    ),
    made(
        "share_segmentation text",
        PARAMETER,
        (
            "The 'share_segmentation' parameter of Forecaster must be True or False. Got 'yes' "
            "instead."
        ),
        share_segmentation="yes",
    ),
    made(
        "share_segmentation names",
        PARAMETER,
        (
            "The 'share_segmentation' parameter of Forecaster must be True, False or lists of "
            "channel names, such as [['load', 'price'], ['wind']]. Got ['a', 'b'] instead."
        ),
        share_segmentation=["a", "b"],
    ),
    made(
        "share_segmentation twice",
        PARAMETER,
        (
            "Each channel may be in only one group of 'share_segmentation', but 'a' is named 2 "
            "times. Name it once."
        ),
        share_segmentation=[["a", "b"], ["a"]],
    ),
    made(
        "share_segmentation unknown",
        PARAMETER,
        (
            "The groups of 'share_segmentation' must hold channels of the frame. Got 'wnd'. "
            "Available: ['a', 'b']."
        ),
        share_segmentation=[["wnd"]],
    ),
    made(
        "random_state text",
        PARAMETER,
        (
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            "None. Got 'seed' instead."
        ),
        random_state="seed",
    ),
    made(
        "random_state negative",
        PARAMETER,
        (
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            "None. Got -1 instead."
        ),
        random_state=-1,
    ),
    made(
        "random_state huge",
        PARAMETER,
        (
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            "None. Got 1180591620717411303424 instead."
        ),
        random_state=2**70,
    ),
    made(
        "random_state float",
        PARAMETER,
        (
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            "None. Got 1.5 instead."
        ),
        random_state=1.5,
    ),
    *(
        made(f"bounds {value!r:.20}", PARAMETER, BOUNDS.format(repr(value)), bounds=value)
        for value in (
            *("positive", 0, (0,), (0, 1, 2), (1, 0), (0, 0), (0, float("nan"))),
            *((0, float("inf")), ("0", "1"), (False, True), (0, 10**309), {0: 1, 1: 2}),
        )
    ),
    made(
        "transform misspelt",
        PARAMETER,
        (
            "The 'transform' parameter of Forecaster must be one of ['log1p', 'box_cox', "
            "'yeo_johnson']. Got 'boxcox' instead. Did you mean 'box_cox'?"
        ),
        transform="boxcox",
    ),
    made(
        "transform function",
        PARAMETER,
        (
            "The 'transform' parameter of Forecaster must be one of ['log1p', 'box_cox', "
            "'yeo_johnson']. Got <ufunc 'log1p'> instead."
        ),
        transform=np.log1p,
    ),
]

PARTS = [
    made(
        "misspelt patcher",
        PARAMETER,
        ("Unknown patcher 'fixd'. Available: ['change_point', …]. Did you mean 'fixed'?"),
        patcher="fixd",
    ),
    made(
        "unknown patcher",
        PARAMETER,
        "Unknown patcher 'hnet'. Available: ['change_point', …].",
        patcher="hnet",
    ),
    made(
        "patcher class",
        TypeError,
        (
            "The 'patcher' parameter must be a Patcher instance or a registered name. Got <class "
            "'adaptivepatch.patchers.fixed.FixedPatcher'> instead. Pass FixedPatcher() instead "
            "of the class."
        ),
        patcher=FixedPatcher,
    ),
    made(
        "patcher none",
        TypeError,
        (
            "The 'patcher' parameter must be a Patcher instance or a registered name. Got None "
            "instead."
        ),
        patcher=None,
    ),
    made(
        "patcher number",
        TypeError,
        (
            "The 'patcher' parameter must be a Patcher instance or a registered name. Got 16 "
            "instead."
        ),
        patcher=16,
    ),
    made(
        "patcher is a backbone",
        TypeError,
        (
            "The 'patcher' parameter must be a Patcher instance or a registered name. Got "
            "TransformerBackbone() instead."
        ),
        patcher=TransformerBackbone(),
    ),
    made(
        "misspelt backbone",
        PARAMETER,
        (
            "Unknown backbone 'patchtts'. Available: ['patchtst', 'transformer']. Did you mean "
            "'patchtst'?"
        ),
        backbone="patchtts",
    ),
    made(
        "backbone of another kind",
        TypeError,
        (
            "The 'backbone' parameter must be a Backbone instance or a registered name. Got "
            "<tests.bad_inputs.test_parameters.NoPatcher object at …> instead."
        ),
        backbone=NoPatcher(),
    ),
    made(
        "trainer dict",
        TypeError,
        (
            "The 'trainer' parameter must be a Trainer instance or None. Got {'max_steps': 1} "
            "instead."
        ),
        trainer={"max_steps": 1},
    ),
    made(
        "trainer number",
        TypeError,
        ("The 'trainer' parameter must be a Trainer instance or None. Got 100 instead."),
        trainer=100,
    ),
    made(
        "stride over length",
        PARAMETER,
        (
            "The 'stride' parameter of FixedPatcher must not exceed patch_length=4, or points "
            "between patches would be lost. Got 8 instead."
        ),
        patcher=FixedPatcher(4, 8),
    ),
    made(
        "stride of 0",
        PARAMETER,
        (
            "The 'stride' parameter of FixedPatcher must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        patcher=FixedPatcher(4, 0),
    ),
    made(
        "patch_length text",
        PARAMETER,
        (
            "The 'patch_length' parameter of FixedPatcher must be an int in the range [1, inf). "
            "Got '16' instead."
        ),
        patcher=FixedPatcher("16"),
    ),
    made(
        "patch_length -4",
        PARAMETER,
        (
            "The 'patch_length' parameter of FixedPatcher must be an int in the range [1, inf). "
            "Got -4 instead."
        ),
        patcher=FixedPatcher(-4),
    ),
    made(
        "both kinds of fixed",
        PARAMETER,
        (
            "FixedPatcher takes either 'compression_rate' or 'patch_length' and 'stride'. Got "
            "compression_rate=2.0, patch_length=4, stride=None. Leave out compression_rate or the "
            "other two."
        ),
        patcher=FixedPatcher(4, compression_rate=2.0),
    ),
    made(
        "compression_rate below 1",
        PARAMETER,
        (
            "The 'compression_rate' parameter of FixedPatcher must be a float in the range [1, "
            "inf). Got 0.5 instead."
        ),
        patcher=FixedPatcher(compression_rate=0.5),
    ),
    made(
        "compression_rate nan",
        PARAMETER,
        (
            "The 'compression_rate' parameter of RecencyPatcher must be a float in the range [1, "
            "inf). Got nan instead."
        ),
        patcher=RecencyPatcher(float("nan")),
    ),
    made(
        "compression_rate text",
        PARAMETER,
        (
            "The 'compression_rate' parameter of RandomPatcher must be a float in the range [1, "
            "inf). Got '4' instead."
        ),
        patcher=RandomPatcher("4"),
    ),
    made(
        "compression_rate inf",
        PARAMETER,
        (
            "The 'compression_rate' parameter of RandomPatcher must be a float in the range [1, "
            "inf). Got inf instead."
        ),
        patcher=RandomPatcher(float("inf")),
    ),
    made(
        "shortest 0",
        PARAMETER,
        (
            "The 'shortest' parameter of RecencyPatcher must be an int in the range [1, inf). "
            "Got 0 instead."
        ),
        patcher=RecencyPatcher(4, shortest=0),
    ),
    made(
        "seed of random patches",
        PARAMETER,
        (
            "The 'seed' parameter of RandomPatcher must be an int in the range [0, inf). Got -1 "
            "instead."
        ),
        patcher=RandomPatcher(4, seed=-1),
    ),
    made(
        "heads do not divide",
        PARAMETER,
        (
            "The 'd_model' parameter of TransformerBackbone must be a multiple of num_heads=4. "
            "Got 10 instead."
        ),
        backbone=TransformerBackbone(10, num_heads=4),
    ),
    made(
        "num_layers 0",
        PARAMETER,
        (
            "The 'num_layers' parameter of PatchTSTBackbone must be an int in the range [1, "
            "inf). Got 0 instead."
        ),
        backbone=PatchTSTBackbone(num_layers=0),
    ),
    made(
        "num_heads text",
        PARAMETER,
        (
            "The 'num_heads' parameter of PatchTSTBackbone must be an int in the range [1, inf). "
            "Got '4' instead."
        ),
        backbone=PatchTSTBackbone(num_heads="4"),
    ),
    made(
        "d_model float",
        PARAMETER,
        (
            "The 'd_model' parameter of PatchTSTBackbone must be an int in the range [1, inf). "
            "Got 16.0 instead."
        ),
        backbone=PatchTSTBackbone(d_model=16.0),
    ),
    made(
        "d_ff 0",
        PARAMETER,
        (
            "The 'd_ff' parameter of TransformerBackbone must be an int in the range [1, inf). "
            "Got 0 instead."
        ),
        backbone=TransformerBackbone(d_ff=0),
    ),
    made(
        "dropout 1",
        PARAMETER,
        (
            "The 'dropout' parameter of TransformerBackbone must be a float in the range [0, 1). "
            "Got 1.0 instead."
        ),
        backbone=TransformerBackbone(dropout=1.0),
    ),
    made(
        "dropout none",
        PARAMETER,
        (
            "The 'dropout' parameter of TransformerBackbone must be a float in the range [0, 1). "
            "Got None instead."
        ),
        backbone=TransformerBackbone(dropout=None),
    ),
]

TRAINING = [
    trained(
        "max_steps 0",
        PARAMETER,
        (
            "The 'max_steps' parameter of Trainer must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        max_steps=0,
    ),
    trained(
        "max_steps float",
        PARAMETER,
        (
            "The 'max_steps' parameter of Trainer must be an int in the range [1, inf). Got "
            "1000.0 instead."
        ),
        max_steps=1e3,
    ),
    trained(
        "steps and epochs",
        PARAMETER,
        (
            "Trainer takes either 'max_steps' or 'max_epochs'. Got max_steps=1 and max_epochs=2. "
            "Leave one out."
        ),
        max_epochs=2,
    ),
    trained(
        "max_epochs -1",
        PARAMETER,
        (
            "The 'max_epochs' parameter of Trainer must be an int in the range [1, inf). Got -1 "
            "instead."
        ),
        max_steps=None,
        max_epochs=-1,
    ),
    trained(
        "batch_size 0",
        PARAMETER,
        (
            "The 'batch_size' parameter of Trainer must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        batch_size=0,
    ),
    trained(
        "batch_size auto",
        PARAMETER,
        (
            "The 'batch_size' parameter of Trainer must be an int in the range [1, inf). Got "
            "'auto' instead."
        ),
        batch_size="auto",
    ),
    trained(
        "learning_rate 0",
        PARAMETER,
        (
            "The 'learning_rate' parameter of Trainer must be a float in the range (0, inf). Got "
            "0 instead."
        ),
        learning_rate=0,
    ),
    trained(
        "learning_rate nan",
        PARAMETER,
        (
            "The 'learning_rate' parameter of Trainer must be a float in the range (0, inf). Got "
            "nan instead."
        ),
        learning_rate=float("nan"),
    ),
    trained(
        "learning_rate inf",
        PARAMETER,
        (
            "The 'learning_rate' parameter of Trainer must be a float in the range (0, inf). Got "
            "inf instead."
        ),
        learning_rate=float("inf"),
    ),
    trained(
        "learning_rate text",
        PARAMETER,
        (
            "The 'learning_rate' parameter of Trainer must be a float in the range (0, inf). Got "
            "'1e-3' instead."
        ),
        learning_rate="1e-3",
    ),
    trained(
        "weight_decay negative",
        PARAMETER,
        (
            "The 'weight_decay' parameter of Trainer must be a float in the range [0, inf). Got "
            "-0.1 instead."
        ),
        weight_decay=-0.1,
    ),
    trained(
        "gradient_clip 0",
        PARAMETER,
        (
            "The 'gradient_clip' parameter of Trainer must be a float in the range (0, inf). Got "
            "0.0 instead."
        ),
        gradient_clip=0.0,
    ),
    trained(
        "misspelt schedule",
        PARAMETER,
        (
            "Unknown schedule 'cosin'. Available: ['constant', 'cosine', 'one_cycle', "
            "'patchtst', 'patchtst_as_run']. Did you mean 'cosine'?"
        ),
        schedule="cosin",
    ),
    trained(
        "schedule in a list",
        PARAMETER,
        (
            "Unknown schedule ['cosine']. Available: ['constant', 'cosine', 'one_cycle', "
            "'patchtst', 'patchtst_as_run']. Did you mean 'cosine'?"
        ),
        schedule=["cosine"],
    ),
    trained(
        "validate_every 0",
        PARAMETER,
        (
            "The 'validate_every' parameter of Trainer must be an int in the range [1, inf). Got "
            "0 instead."
        ),
        validate_every=0,
    ),
    trained(
        "patience 0",
        PARAMETER,
        (
            "The 'patience' parameter of Trainer must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        patience=0,
    ),
    trained(
        "misspelt device",
        PARAMETER,
        (
            "The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got "
            "'cudda' instead."
        ),
        device="cudda",
    ),
    trained(
        "device not there",
        PARAMETER,
        (
            "device='cuda:99' is not available, because torch … sees 0 CUDA devices. Use "
            "device='cpu' or device='auto'."
        ),
        device="cuda:99",
    ),
    trained(
        "device number",
        PARAMETER,
        (
            "The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got 0 "
            "instead."
        ),
        device=0,
    ),
    trained(
        "device none",
        PARAMETER,
        (
            "The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got "
            "None instead."
        ),
        device=None,
    ),
    trained(
        "misspelt precision",
        PARAMETER,
        (
            "The 'precision' parameter of Trainer must be one of ['bfloat16', 'float32', "
            "'float64']. Got 'float23' instead."
        ),
        precision="float23",
    ),
    trained(
        "precision none",
        PARAMETER,
        (
            "The 'precision' parameter of Trainer must be one of ['bfloat16', 'float32', "
            "'float64']. Got None instead."
        ),
        precision=None,
    ),
    trained(
        "precision in a list",
        PARAMETER,
        (
            "The 'precision' parameter of Trainer must be one of ['bfloat16', 'float32', "
            "'float64']. Got ['float32'] instead."
        ),
        precision=["float32"],
    ),
    trained(
        "diverges",
        TrainingDivergedError,
        (
            "The validation loss became nan by step 1. Lower learning_rate=1e+30 or set "
            "gradient_clip=1.0."
        ),
        learning_rate=1e30,
        max_steps=50,
        schedule="constant",
    ),
]

FITTING = [
    fit(
        "validation_rows 0",
        PARAMETER,
        (
            "The 'validation_rows' parameter of Forecaster must be an int in the range [1, inf). "
            "Got 0 instead."
        ),
        validation_rows=0,
    ),
    fit(
        "validation_rows below the horizon",
        PARAMETER,
        "validation_rows must be at least the horizon 4. Got 2 instead.",
        validation_rows=2,
    ),
    fit(
        "validation_rows text",
        PARAMETER,
        (
            "The 'validation_rows' parameter of Forecaster must be an int in the range [1, inf). "
            "Got '10%' instead."
        ),
        validation_rows="10%",
    ),
    fit(
        "misspelt short",
        PARAMETER,
        "The 'short' parameter must be 'error' or 'skip'. Got 'skp' instead.",
        short="skp",
    ),
    fit(
        "short none",
        PARAMETER,
        "The 'short' parameter must be 'error' or 'skip'. Got None instead.",
        short=None,
    ),
    fit(
        "covariates",
        PARAMETER,
        (
            "Covariates are not yet supported. Got future_covariates of type DataFrame and shape "
            "(30, 2). Leave this argument out. If the frame has columns of covariates, list the "
            "channels to forecast with target=[...]."
        ),
        future_covariates=wide(),
    ),
    fit(
        "unknown argument",
        UNEXPECTED,
        "Forecaster.fit has no parameter 'epochs'. Use trainer=Trainer(max_epochs=...).",
        epochs=3,
    ),
    fit(
        "callback",
        TypeError,
        (
            "fit(callback=...) must be a function of the step and a mapping of metrics. Got "
            "'print' instead."
        ),
        callback="print",
    ),
    fit(
        "init unfitted",
        TypeError,
        (
            "fit(init=...) must be a fitted Forecaster or the folder of a saved one. Got an "
            "unfitted one instead."
        ),
        init=tiny(),
    ),
    fit(
        "init number",
        TypeError,
        ("fit(init=...) must be a fitted Forecaster or the folder of a saved one. Got 5 instead."),
        init=5,
    ),
    Case(
        "init of another shape",
        lambda: tiny(horizon=5).fit(wide(), init=fitted()),
        PARAMETER,
        (
            "Fine-tuning needs a model of the same shape. The horizon of the model is 4, but the "
            "horizon of this forecaster is 5. Set the same horizon, or fit the loaded model itself."
        ),
    ),
    fit(
        "refit text",
        PARAMETER,
        ("The 'refit' parameter of Forecaster must be True or False. Got 'yes' instead."),
        refit="yes",
    ),
    fit(
        "checkpoint number",
        TypeError,
        ("The 'checkpoint' argument must be a str or Path. Got 3 instead."),
        checkpoint=3,
    ),
    Case(
        "checkpoint and resume",
        lambda: tiny().fit(wide(), checkpoint="a", resume="b"),
        PARAMETER,
        (
            "fit takes either 'checkpoint', to begin, or 'resume', to continue. Got "
            "checkpoint='a' and resume='b'. Leave one out: a resumed fit writes to the folder "
            "that it reads."
        ),
    ),
]

REQUESTS = [
    Case(
        "predict before fit",
        lambda: tiny().predict(),
        NotFittedError,
        (
            "This Forecaster instance is not fitted yet. Call 'fit' with appropriate arguments "
            "before using this estimator."
        ),
    ),
    Case(
        "save before fit",
        lambda: tiny().save("x"),
        NotFittedError,
        (
            "This Forecaster instance is not fitted yet. Call 'fit' with appropriate arguments "
            "before using this estimator."
        ),
    ),
    Case(
        "backtest before fit",
        lambda: tiny().backtest(wide()),
        NotFittedError,
        (
            "This Forecaster instance is not fitted yet. Call 'fit' with appropriate arguments "
            "before using this estimator."
        ),
    ),
    asked(
        "predict further",
        "predict",
        PARAMETER,
        (
            "The model was trained to forecast 4 steps. Got horizon=5. Pass recursive=True to feed "
            "forecasts back, or fit with the longer horizon."
        ),
        horizon=5,
    ),
    asked(
        "predict 0",
        "predict",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        horizon=0,
    ),
    asked(
        "predict text",
        "predict",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be an int in the range [1, inf). Got '4' "
            "instead."
        ),
        horizon="4",
    ),
    asked(
        "predict huge",
        "predict",
        PARAMETER,
        (
            "The 'horizon' parameter of Forecaster must be at most 1048576. Got 1000000000000 "
            "instead."
        ),
        horizon=10**12,
        recursive=True,
    ),
    asked(
        "roll out quantiles",
        "predict",
        PARAMETER,
        (
            "Feeding forecasts back gives no quantiles: the spread of later steps would be that "
            "of the first 4. Got horizon=5. Fit with the longer horizon, or without quantiles."
        ),
        horizon=5,
        recursive=True,
        model=fitted_quantiles,
    ),
    asked(
        "stride 0",
        "backtest",
        PARAMETER,
        (
            "The 'stride' parameter of Forecaster must be an int in the range [1, inf). Got 0 "
            "instead."
        ),
        wide(),
        stride=0,
    ),
    asked(
        "stride text",
        "backtest",
        PARAMETER,
        (
            "The 'stride' parameter of Forecaster must be an int in the range [1, inf). Got "
            "'day' instead."
        ),
        wide(),
        stride="day",
    ),
    asked(
        "start after the end",
        "backtest",
        FRAME,
        (
            "A backtest needs a window of 2 look-back points and 4 targets from '2030-01-01' on. "
            "The longest series has 30 rows. Pass more rows or an earlier start."
        ),
        wide(),
        start="2030-01-01",
    ),
    asked(
        "start number",
        "backtest",
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '2024-01-01 "
            "00:00:00'. Got 5 instead (a number is not a date)."
        ),
        wide(),
        start=5,
    ),
    asked(
        "start text",
        "backtest",
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '2024-01-01 "
            "00:00:00'. Got 'monday' instead (Unable to parse datetime string: monday)."
        ),
        wide(),
        start="monday",
    ),
    asked(
        "start list",
        "backtest",
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '2024-01-01 "
            "00:00:00'. Got ['2024-01-01'] instead (Cannot convert input [['2024-01-01']] of type "
            "<class 'list'> to Timestamp)."
        ),
        wide(),
        start=["2024-01-01"],
    ),
    asked(
        "start nat",
        "backtest",
        FRAME,
        (
            "A backtest needs a window of 2 look-back points and 4 targets from NaT on. The "
            "longest series has 30 rows. Pass more rows or an earlier start."
        ),
        wide(),
        start=pd.NaT,
    ),
    asked(
        "start with a zone",
        "backtest",
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '2024-01-01 "
            "00:00:00'. Got Timestamp('2024-01-01 00:00:00+0000', tz='UTC') instead (Cannot "
            "compare tz-naive and tz-aware datetime-like objects.)."
        ),
        wide(),
        start=pd.Timestamp("2024-01-01", tz="UTC"),
    ),
    asked(
        "start beyond dates",
        "backtest",
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '2024-01-01 "
            "00:00:00'. Got '9999-01-01T00:00' instead (Cannot cast 9999-01-01 00:00:00 to "
            "unit='ns' without overflow.)."
        ),
        wide(),
        start="9999-01-01T00:00",
    ),
    Case(
        "start none for integers",
        lambda: tiny().fit(stamped(range(30))).backtest(stamped(range(30)), start="x"),
        FRAME,
        (
            "start must be a stamp of the same kind as the frame's stamps, such as '0'. Got 'x' "
            "instead (invalid literal for int() with base 10: 'x')."
        ),
    ),
    asked(
        "refit without start",
        "backtest",
        PARAMETER,
        (
            "A backtest with refit_every needs the stamp of the first forecast, because it trains "
            "on the rows before it. Got start=None. Pass start=..."
        ),
        wide(),
        refit_every=5,
    ),
    asked(
        "refit every 0",
        "backtest",
        PARAMETER,
        (
            "The 'refit_every' parameter of Forecaster must be an int in the range [1, inf). Got "
            "0 instead."
        ),
        wide(),
        refit_every=0,
        start="2024-01-01 20:00",
    ),
    asked(
        "refit at the start",
        "backtest",
        FRAME,
        (
            "Training before start='2024-01-01 02:00' needs a series of at least 6 earlier rows (2 "
            "look-back points plus the horizon), but the longest series has 2. Pass a later start."
        ),
        wide(10),
        refit_every=5,
        start="2024-01-01 02:00",
    ),
    made(
        "network beyond memory",
        PARAMETER,
        (
            "The weights of the network do not fit into memory (…). Reduce the horizon, the "
            "look-back or the sizes of the backbone."
        ),
        backbone=TransformerBackbone(10**15, num_heads=1),
    ),
    regressed(
        "instance_norm text",
        PARAMETER,
        (
            "The 'instance_norm' parameter of WindowRegressor must be True or False. Got 'no' "
            "instead."
        ),
        instance_norm="no",
    ),
    Case(
        "metrics by colour",
        lambda: fitted().backtest(wide()).metrics(by="colour"),
        PARAMETER,
        ("The 'by' parameter must be None, 'item', 'channel' or 'step'. Got 'colour' instead."),
    ),
]

ARRAYS = [
    regressed(
        "validation_fraction 1",
        PARAMETER,
        (
            "The 'validation_fraction' parameter of WindowRegressor must be a float in the range "
            "[0, 1). Got 1.0 instead."
        ),
        validation_fraction=1.0,
    ),
    regressed(
        "misspelt loss of arrays",
        PARAMETER,
        ("Unknown loss 'mea'. Available: ['huber', 'mae', 'mse']. Did you mean 'mse'?"),
        loss="mea",
    ),
    regressed(
        "trainer none of arrays",
        TypeError,
        ("The 'trainer' parameter must be a Trainer instance or None. Got 'fast' instead."),
        trainer="fast",
    ),
    regressed(
        "values too large",
        PARAMETER,
        (
            "Values are too large: their variance overflows. The values of X reach "
            "3.899421730054339e+300. Divide X and y by a constant."
        ),
        past=PAST * 1e300,
    ),
    regressed(
        "quantiles of arrays without the median",
        PARAMETER,
        (
            "The 'quantiles' parameter of WindowRegressor must increase strictly inside (0, 1) "
            "and hold 0.5, the point forecast. Got (0.1, 0.9) instead."
        ),
        quantiles=(0.1, 0.9),
    ),
    regressed(
        "misspelt missing of arrays",
        PARAMETER,
        (
            "The 'missing' parameter of WindowRegressor must be one of ['error', 'mask']. Got "
            "'masks' instead. Did you mean 'mask'?"
        ),
        missing="masks",
    ),
    regressed(
        "no window to train on",
        PARAMETER,
        (
            "Training needs a window with 2 observed look-back steps and an observed target. None "
            "of the 40 windows has them. Fill gaps in X and y."
        ),
        past=np.full_like(PAST, np.nan),
        missing="mask",
    ),
    Case(
        "quantiles of a point forecast",
        lambda: (
            WindowRegressor(trainer=Trainer(max_steps=1, device="cpu"))
            .fit(PAST, FUTURE)
            .predict_quantiles(PAST)
        ),
        PARAMETER,
        (
            "Forecasts of quantiles need a regressor that was fitted with quantiles. This one was "
            "fitted with quantiles=None. Fit it again with quantiles such as (0.1, 0.5, 0.9)."
        ),
    ),
    Case(
        "predict arrays before fit",
        lambda: WindowRegressor().predict(PAST),
        NotFittedError,
        (
            "This WindowRegressor instance is not fitted yet. Call 'fit' with appropriate "
            "arguments before using this estimator."
        ),
    ),
    Case(
        "sliding windows too long",
        lambda: sliding_windows(np.zeros(10), context_length=8, horizon=4),
        PARAMETER,
        (
            "series must have shape (steps,) or (steps, channels) with at least "
            "context_length + horizon = 12 steps. Got series.shape=(10,). Pass one longer "
            "series, or reduce context_length or horizon."
        ),
    ),
    Case(
        "sliding windows of 0",
        lambda: sliding_windows(np.zeros(10), context_length=0, horizon=4),
        PARAMETER,
        ("The 'context_length' parameter must be an int in the range [1, inf). Got 0 instead."),
    ),
    Case(
        "sliding windows stride 0",
        lambda: sliding_windows(np.zeros(10), context_length=2, horizon=4, stride=0),
        PARAMETER,
        ("The 'stride' parameter must be an int in the range [1, inf). Got 0 instead."),
    ),
    Case(
        "sliding windows of a cube",
        lambda: sliding_windows(np.zeros((10, 2, 2)), context_length=2, horizon=4),
        PARAMETER,
        (
            "series must have shape (steps,) or (steps, channels) with at least "
            "context_length + horizon = 6 steps. Got series.shape=(10, 2, 2). Pass one longer "
            "series, or reduce context_length or horizon."
        ),
    ),
]

CASES = [*SIZES, *CHOICES, *PARTS, *TRAINING, *FITTING, *REQUESTS, *ARRAYS]


@parametrized(CASES)
def test_a_bad_argument_is_refused(case):
    error = assert_refused(case)
    if isinstance(error, AdaptivePatchError) and case.text.startswith("The '"):
        assert error.parameter == case.text.split("'")[1]
