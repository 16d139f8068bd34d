"""Forecasting with patches whose boundaries are learned from the data.

This file is the table of contents: every public name and the module that defines it. A module is
imported when one of its names is first asked for, so ``import adaptivepatch`` is instant and loads
neither torch nor scikit-learn nor pandas.

Start with `Forecaster` (data frames) or `WindowRegressor` (arrays); then read ``network.py``, the
way of one batch of windows through the model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

_MODULE_OF_NAME = {
    # forecasting
    "Forecaster": "adaptivepatch.estimators.forecaster",
    "WindowRegressor": "adaptivepatch.estimators.window_regressor",
    "Trainer": "adaptivepatch.training.trainer",
    # where patches begin
    "Patcher": "adaptivepatch.patchers.base",
    "ChangePointPatcher": "adaptivepatch.patchers.change_point",
    "DeviationPatcher": "adaptivepatch.patchers.deviation",
    "DynamicChunkingPatcher": "adaptivepatch.patchers.dynamic_chunking",
    "DynamicPoolingPatcher": "adaptivepatch.patchers.dynamic_pooling",
    "EntropyPatcher": "adaptivepatch.patchers.entropy",
    "FixedPatcher": "adaptivepatch.patchers.fixed",
    "HierarchicalPatcher": "adaptivepatch.patchers.hierarchical",
    "PeriodicPatcher": "adaptivepatch.patchers.periodic",
    "RandomPatcher": "adaptivepatch.patchers.random",
    "RecencyPatcher": "adaptivepatch.patchers.recency",
    "ReinPatcher": "adaptivepatch.patchers.reinpatch",
    "ScoreFunctionPatcher": "adaptivepatch.patchers.score_function",
    "GroupPolicyGradient": "adaptivepatch.nn.policy_gradient",
    "Segmentation": "adaptivepatch.segmentation",
    "PatcherCard": "adaptivepatch.foundation",
    "TrainingData": "adaptivepatch.foundation",
    "load_patcher": "adaptivepatch.foundation",
    "segment": "adaptivepatch.estimators.segmenting",
    # what reads the patches
    "Backbone": "adaptivepatch.backbones.base",
    "DynamicChunkingBackbone": "adaptivepatch.backbones.dynamic_chunking",
    "MultiLevelBackbone": "adaptivepatch.backbones.multi_level",
    "PatchTSTBackbone": "adaptivepatch.backbones.patchtst",
    "TransformerBackbone": "adaptivepatch.backbones.transformer",
    # is it better?
    "Comparison": "adaptivepatch.bench.comparison",
    "compare": "adaptivepatch.bench.compare",
    # data
    "WindowSplit": "adaptivepatch.data.windows",
    "load_dataset": "adaptivepatch.data.datasets",
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

if TYPE_CHECKING:  # the same table for type checkers and editors; a test compares the two
    from adaptivepatch.backbones.base import Backbone as Backbone
    from adaptivepatch.backbones.dynamic_chunking import (
        DynamicChunkingBackbone as DynamicChunkingBackbone,
    )
    from adaptivepatch.backbones.multi_level import MultiLevelBackbone as MultiLevelBackbone
    from adaptivepatch.backbones.patchtst import PatchTSTBackbone as PatchTSTBackbone
    from adaptivepatch.backbones.transformer import TransformerBackbone as TransformerBackbone
    from adaptivepatch.bench.compare import compare as compare
    from adaptivepatch.bench.comparison import Comparison as Comparison
    from adaptivepatch.data.datasets import load_dataset as load_dataset
    from adaptivepatch.data.windows import WindowSplit as WindowSplit
    from adaptivepatch.data.windows import sliding_windows as sliding_windows
    from adaptivepatch.errors import AdaptivePatchError as AdaptivePatchError
    from adaptivepatch.errors import DatasetError as DatasetError
    from adaptivepatch.errors import InvalidFrameError as InvalidFrameError
    from adaptivepatch.errors import InvalidModelError as InvalidModelError
    from adaptivepatch.errors import InvalidParameterError as InvalidParameterError
    from adaptivepatch.errors import InvalidSegmentationError as InvalidSegmentationError
    from adaptivepatch.errors import MissingDependencyError as MissingDependencyError
    from adaptivepatch.errors import OutputError as OutputError
    from adaptivepatch.estimators.forecaster import Forecaster as Forecaster
    from adaptivepatch.estimators.segmenting import segment as segment
    from adaptivepatch.estimators.window_regressor import WindowRegressor as WindowRegressor
    from adaptivepatch.foundation import PatcherCard as PatcherCard
    from adaptivepatch.foundation import TrainingData as TrainingData
    from adaptivepatch.foundation import load_patcher as load_patcher
    from adaptivepatch.nn.policy_gradient import GroupPolicyGradient as GroupPolicyGradient
    from adaptivepatch.patchers.base import Patcher as Patcher
    from adaptivepatch.patchers.change_point import ChangePointPatcher as ChangePointPatcher
    from adaptivepatch.patchers.deviation import DeviationPatcher as DeviationPatcher
    from adaptivepatch.patchers.dynamic_chunking import (
        DynamicChunkingPatcher as DynamicChunkingPatcher,
    )
    from adaptivepatch.patchers.dynamic_pooling import (
        DynamicPoolingPatcher as DynamicPoolingPatcher,
    )
    from adaptivepatch.patchers.entropy import EntropyPatcher as EntropyPatcher
    from adaptivepatch.patchers.fixed import FixedPatcher as FixedPatcher
    from adaptivepatch.patchers.hierarchical import HierarchicalPatcher as HierarchicalPatcher
    from adaptivepatch.patchers.periodic import PeriodicPatcher as PeriodicPatcher
    from adaptivepatch.patchers.random import RandomPatcher as RandomPatcher
    from adaptivepatch.patchers.recency import RecencyPatcher as RecencyPatcher
    from adaptivepatch.patchers.reinpatch import ReinPatcher as ReinPatcher
    from adaptivepatch.patchers.score_function import (
        ScoreFunctionPatcher as ScoreFunctionPatcher,
    )
    from adaptivepatch.segmentation import Segmentation as Segmentation
    from adaptivepatch.training.trainer import Trainer as Trainer


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
    """Return the public names beside the attributes that every module has."""
    return sorted({*globals(), *__all__})
