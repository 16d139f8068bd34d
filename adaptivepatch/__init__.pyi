# Written by tools/generate_stub.py (`make generate`).

from adaptivepatch.backbones.base import Backbone as Backbone
from adaptivepatch.backbones.dynamic_chunking import (
    DynamicChunkingBackbone as DynamicChunkingBackbone,
)
from adaptivepatch.backbones.multi_level import MultiLevelBackbone as MultiLevelBackbone
from adaptivepatch.backbones.patchtst import PatchTSTBackbone as PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone as TransformerBackbone
from adaptivepatch.boundaries.segmenting import segment as segment
from adaptivepatch.comparison.compare import compare as compare
from adaptivepatch.comparison.result import Comparison as Comparison
from adaptivepatch.data.windows import WindowSplit as WindowSplit
from adaptivepatch.data.windows import sliding_windows as sliding_windows
from adaptivepatch.datasets.loading import load_dataset as load_dataset
from adaptivepatch.errors import AdaptivePatchError as AdaptivePatchError
from adaptivepatch.errors import DatasetError as DatasetError
from adaptivepatch.errors import InvalidFrameError as InvalidFrameError
from adaptivepatch.errors import InvalidModelError as InvalidModelError
from adaptivepatch.errors import InvalidParameterError as InvalidParameterError
from adaptivepatch.errors import InvalidSegmentationError as InvalidSegmentationError
from adaptivepatch.errors import MissingDependencyError as MissingDependencyError
from adaptivepatch.errors import OutputError as OutputError
from adaptivepatch.estimators.forecaster import Forecaster as Forecaster
from adaptivepatch.estimators.window_regressor import WindowRegressor as WindowRegressor
from adaptivepatch.nn.policies.group_policy_gradient import (
    GroupPolicyGradient as GroupPolicyGradient,
)
from adaptivepatch.patchers.base import Patcher as Patcher
from adaptivepatch.patchers.change_point import ChangePointPatcher as ChangePointPatcher
from adaptivepatch.patchers.deviation import DeviationPatcher as DeviationPatcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher as DynamicChunkingPatcher
from adaptivepatch.patchers.dynamic_pooling import DynamicPoolingPatcher as DynamicPoolingPatcher
from adaptivepatch.patchers.entropy import EntropyPatcher as EntropyPatcher
from adaptivepatch.patchers.fixed import FixedPatcher as FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher as HierarchicalPatcher
from adaptivepatch.patchers.periodic import PeriodicPatcher as PeriodicPatcher
from adaptivepatch.patchers.random import RandomPatcher as RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher as RecencyPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher as ReinPatcher
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher as ScoreFunctionPatcher
from adaptivepatch.plotting.forecasts import plot as plot
from adaptivepatch.pretrained import PatcherCard as PatcherCard
from adaptivepatch.pretrained import TrainingData as TrainingData
from adaptivepatch.pretrained import load_patcher as load_patcher
from adaptivepatch.segmentation import Segmentation as Segmentation
from adaptivepatch.training.trainer import Trainer as Trainer

__version__: str
__all__: list[str]
