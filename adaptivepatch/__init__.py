"""Forecasting with patches whose boundaries are learned from the data.

This file is the table of contents: every public name and the module that defines it. A module is
imported when one of its names is first asked for, so ``import adaptivepatch`` is instant and loads
neither torch nor scikit-learn nor pandas. ``__init__.pyi`` holds the same names for type checkers
and editors; ``make generate`` writes it.

Start with `Forecaster` (data frames) or `WindowRegressor` (arrays); then read ``network.py``, the
way of one batch of windows through the model.
"""

from __future__ import annotations

import importlib

from adaptivepatch.registry import BACKBONES, COMBINATIONS, PATCHERS

__version__ = "0.1.0.dev0"

_MODULE_OF_NAME = {
    # forecasting
    "Forecaster": "adaptivepatch.estimators.forecaster",
    "WindowRegressor": "adaptivepatch.estimators.window_regressor",
    "Trainer": "adaptivepatch.training.trainer",
    # where patches begin
    "Patcher": "adaptivepatch.patchers.base",
    **PATCHERS.modules(),
    "GroupPolicyGradient": "adaptivepatch.nn.policies.group_policy_gradient",
    "Segmentation": "adaptivepatch.segmentation",
    "PatcherCard": "adaptivepatch.pretrained",
    "TrainingData": "adaptivepatch.pretrained",
    "load_patcher": "adaptivepatch.pretrained",
    "segment": "adaptivepatch.boundaries.segmenting",
    # what reads the patches
    "Backbone": "adaptivepatch.backbones.base",
    **BACKBONES.modules(),
    **COMBINATIONS.modules(),
    # is it better?
    "Comparison": "adaptivepatch.comparison.result",
    "compare": "adaptivepatch.comparison.compare",
    # pictures
    "plot": "adaptivepatch.plotting.forecasts",
    # data
    "WindowSplit": "adaptivepatch.data.windows",
    "load_dataset": "adaptivepatch.datasets.loading",
    "sliding_windows": "adaptivepatch.data.windows",
    # errors
    "AdaptivePatchError": "adaptivepatch.errors",
    "DatasetError": "adaptivepatch.errors",
    "InvalidFrameError": "adaptivepatch.errors",
    "InvalidModelError": "adaptivepatch.errors",
    "InvalidParameterError": "adaptivepatch.errors",
    "InvalidSegmentationError": "adaptivepatch.errors",
    "MissingDependencyError": "adaptivepatch.errors",
    "OutputError": "adaptivepatch.errors",
}

__all__ = ["__version__", *_MODULE_OF_NAME]


def __getattr__(name: str) -> object:
    """Import the module that defines a public name, and keep the name here (PEP 562)."""
    module = _MODULE_OF_NAME.get(name)
    if module is None:
        from adaptivepatch.errors import suggest

        raise AttributeError(
            f"module 'adaptivepatch' has no attribute {name!r}.{suggest(name, _MODULE_OF_NAME)}"
        )
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and the attributes that every module has."""
    return sorted({*globals(), *__all__})
