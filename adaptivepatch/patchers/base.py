"""`Patcher`: base class that maps a batch of look-backs to a distribution over segmentations.

The types that a patcher exchanges with the training step are in ``distributions.py``: the
distribution it returns, the rollouts drawn from it, the plan of a step, and the context of its own
loss. Each concrete patcher has a file of its own.

Tensor suffixes: N rows, T steps, P patches, H horizon, G rollouts of a row, D width.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from adaptivepatch.distributions import (
    Deterministic,
    NetworkParts,
    SegmentationDistribution,
    StepContext,
    StepPlan,
)
from adaptivepatch.errors import InvalidParameterError, check_float, outside_level
from adaptivepatch.nn.tokens.patch_embedding import (
    AlignedEmbedding,
    CombinedEmbedding,
    ResampleEmbedding,
    check_aligned,
)
from adaptivepatch.parameters import Configurable
from adaptivepatch.pretrained import PretrainedMixin
from adaptivepatch.segmentation import Segmentation


class InstanceTag:
    """A class tag whose value depends on an instance's parameters; False on the class itself.

    Parameters
    ----------
    tell : callable
        Function that maps a patcher to the value of its tag.
    """

    def __init__(self, tell: Callable[[Any], bool]) -> None:
        self.tell = tell

    def __get__(self, patcher: Patcher | None, owner: type) -> bool:
        return patcher is not None and self.tell(patcher)


class AskedLength(NamedTuple):
    """Patch length that a parameter asks for, and the number of steps that can be cut."""

    parameter: str
    length: float
    available: int
    unit: str = "steps"


class Patcher(PretrainedMixin, nn.Module, Configurable, ABC):
    """Base class of all patchers: a torch module with scikit-learn parameters.

    A subclass stores its constructor arguments under their own names and implements `propose` and
    `capacity`. It overrides `plan` and `auxiliary_loss` only if it learns from several rollouts or
    has a loss of its own. Constructor arguments are hyper-parameters, never data dimensions.

    Attributes
    ----------
    name : str
        Registry name.
    causal, stochastic, trainable : bool
        Whether a boundary depends only on earlier steps; whether training draws samples; whether
        there are parameters to train.
    decides, rate_kept, cost, trained_by, causality : str
        Short phrases for the table of patchers in the documentation: what decides where patches
        begin, how the compression rate is kept, what placing boundaries costs, how the patcher is
        trained, and whether it is causal.
    default_embedding : {"aligned", "resampled"}
        Default kind of embedding; see `embed_points`.
    card : str or None
        Text of the model card that the patcher was loaded with (`adaptivepatch.load_patcher`).
    """

    name: ClassVar[str]
    causal: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    decides: ClassVar[str] = "not stated"
    rate_kept: ClassVar[str] = "not stated"
    cost: ClassVar[str] = "not stated"
    trained_by: ClassVar[str] = "not stated"
    causality: ClassVar[str] = "not stated"
    default_embedding: ClassVar[str] = "aligned"

    __repr__ = BaseEstimator.__repr__

    def forward(
        self, series: Tensor, observed: Tensor | None = None, group: Tensor | None = None
    ) -> SegmentationDistribution:
        """Map look-backs to a distribution over their segmentations.

        Parameters
        ----------
        series : Tensor of shape (N, T)
            One row per window and channel, normalised, with gaps filled.
        observed : Tensor of bool, shape (N, T), optional
            False at filled gaps. None: every step is observed.
        group : Tensor of int, shape (N,), optional
            Group of each row. The rows of a group share one segmentation. None: every row has its
            own segmentation.

        Returns
        -------
        SegmentationDistribution

        Raises
        ------
        InvalidParameterError
            If `series` has the wrong shape or dtype, or (in eval mode) a value that is not finite.
        TypeError
            If `series` is not a tensor.
        """
        if not isinstance(series, Tensor):
            raise TypeError(
                f"series must be a torch.Tensor. Got {type(series).__name__} instead. Use "
                "torch.as_tensor(values, dtype=torch.float32)."
            )
        weight = next(self.parameters(), series)
        if weight.dtype != series.dtype:
            raise InvalidParameterError(
                f"series must have the dtype of the patcher's weights, {weight.dtype}. Got "
                f"{series.dtype}. Use series.to({weight.dtype}).",
                parameter="series",
            )
        if series.ndim != 2:
            raise InvalidParameterError(
                f"series must have shape (rows, steps). Got {tuple(series.shape)}. For (batch, "
                "channels, steps), use series.flatten(0, 1).",
                parameter="series",
            )
        if not self.training and not bool(torch.isfinite(series).all()):
            raise InvalidParameterError(
                f"series must be finite. Got {int((~torch.isfinite(series)).sum())} values that "
                "are NaN or infinite. Fill the gaps and mark them as False in 'observed'.",
                parameter="series",
            )
        return self.propose(series, observed, group)

    @abstractmethod
    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the distribution over segmentations for input that `forward` has checked.

        Parameters
        ----------
        series, observed, group
            Arguments as in `forward`.
        """

    @abstractmethod
    def capacity(self, num_steps: int) -> int:
        """Return the largest number of patch slots that a look-back of `num_steps` needs."""

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the one-row segmentation that defines the head's cells and the positions.

        Parameters
        ----------
        num_steps : int
            Length T of the look-back.
        """
        return Segmentation.even(num_steps, self.capacity(num_steps))

    def lengths_asked_for(self, num_steps: int) -> list[AskedLength]:
        """Return the patch lengths that parameters ask for.

        A compression rate asks for patches with this mean length.

        Parameters
        ----------
        num_steps : int
            Length T of the look-back.
        """
        rate = getattr(self, "compression_rate", None)
        return [] if rate is None else [AskedLength("compression_rate", rate, num_steps)]

    def warn_if_too_long(self, num_steps: int) -> None:
        """Warn if parameters ask for patches that are longer than the look-back.

        A patch that is as long as the look-back is legitimate.

        Parameters
        ----------
        num_steps : int
            Length T of the look-back.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range.
        """
        self.reference_patches(num_steps)  # checks the parameters
        for asked in self.lengths_asked_for(num_steps):
            if asked.length > asked.available:
                warnings.warn(
                    f"The {asked.parameter!r} parameter of {type(self).__name__} asks for patches "
                    f"of {asked.length:g} {asked.unit}, but the look-back has only "
                    f"{asked.available}. Patches are cut to the look-back. Lower "
                    f"{asked.parameter!r}, or use a longer look-back.",
                    UserWarning,
                    stacklevel=outside_level(),
                )

    def nominal_length(self, num_steps: int) -> int:
        """Return the patch length, in time steps, that the resampled embedding leaves unchanged."""
        return max(1, round(num_steps / self.capacity(num_steps)))

    def parts(
        self,
        num_steps: int,
        d_model: int,
        values_per_patch: int | None = None,
        embedding: str | None = None,
    ) -> NetworkParts:
        """Make the parts of a network around its backbone: the embedding and the head's cells.

        Parameters
        ----------
        num_steps, d_model, values_per_patch, embedding
            Arguments as in `embed_points`.
        """
        points = self.embed_points(num_steps, d_model, values_per_patch, embedding)
        return NetworkParts(points, self.reference_patches(num_steps))

    def embed_points(
        self, num_steps: int, d_model: int, values_per_patch: int | None, embedding: str | None
    ) -> nn.Module:
        """Make the module that maps the points of a patch to a token.

        Parameters
        ----------
        num_steps, d_model : int
            Length T of the look-back and token width D.
        values_per_patch : int, optional
            Number of values to which a patch is resampled. Default: nominal patch length plus halo,
            so that a patch of nominal length loses no value.
        embedding : {"aligned", "resampled", "both"}, optional
            `AlignedEmbedding`, `ResampleEmbedding` or their sum, `CombinedEmbedding`. Default:
            "resampled" if `values_per_patch` is given or patches overlap, else
            `default_embedding`.

        Raises
        ------
        InvalidParameterError
            If `embedding` is "aligned" and `values_per_patch` is given or patches overlap.
        """
        own = "resampled" if values_per_patch or self.halo else self.default_embedding
        nominal_length = self.nominal_length(num_steps)
        if (embedding or own) == "aligned":
            check_aligned(self, values_per_patch, self.halo)
            return AlignedEmbedding(num_steps, d_model, nominal_length)
        num_values = values_per_patch or nominal_length + self.halo
        resampled = ResampleEmbedding(num_values, d_model, nominal_length)
        if (embedding or own) == "resampled":
            return resampled
        return CombinedEmbedding(resampled, AlignedEmbedding(num_steps, d_model, nominal_length))

    @property
    def needs_causal_backbone(self) -> bool:
        """Whether the backbone must be causal, so that no token reads later tokens."""
        return False

    @property
    def halo(self) -> int:
        """Number of steps after a patch that its embedding also reads; 0 without overlap."""
        return 0

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Fit the parts that are not trained by gradient. A fit calls this once, before training.

        Parameters
        ----------
        series : Tensor of shape (N, T)
            Normalised look-backs of training windows, with filled gaps.
        observed : Tensor of bool, shape (N, T), or None
            False at filled gaps.
        generator : torch.Generator
            Source of randomness.
        """

    def plan(self, progress: float) -> StepPlan:
        """Return the plan of a training step: one unscored sample, or the mode if frozen.

        Parameters
        ----------
        progress : float
            Share of training completed, from 0 to 1.
        """
        return StepPlan(num_samples=0) if self.is_frozen else StepPlan()

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return optimizer groups of this patcher's parameters."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters, "lr": lr}] if parameters else []

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return this patcher's own term of the training loss, or None."""
        return None

    def take_metrics(self) -> dict[str, float]:
        """Return this patcher's metrics for the training history, and reset them.

        Every validation calls this method, so means cover the steps since the previous validation.
        """
        return {}

    @property
    def is_frozen(self) -> bool:
        """Whether `freeze` was called."""
        return bool(getattr(self, "_frozen", False))

    def freeze(self) -> Self:
        """Fix the patcher: it gets no gradients, and `clone` returns the same object.

        Training then uses its most probable patches and draws no samples.
        """
        self.requires_grad_(requires_grad=False)
        self.eval()
        self._frozen = True
        return self

    def train(self, mode: bool = True) -> Patcher:
        """Switch to training mode, unless frozen."""
        super().train(mode and not self.is_frozen)
        return self

    def __sklearn_clone__(self) -> Patcher:
        if self.is_frozen:
            return self
        return super().__sklearn_clone__()

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a frozen patcher refuses, because its clones are the same object."""
        if params and self.is_frozen:
            raise InvalidParameterError(
                "A frozen patcher is shared by everything it was passed to, so its parameters "
                f"cannot change. Got set_params({', '.join(params)}). Load the patcher again with "
                "other parameters: load_patcher(..., compression_rate=...).",
                parameter=next(iter(params)),
            )
        return super().set_params(**params)

    def _rebuild(self) -> None:
        """Replace this patcher's state by the state of a new patcher with the same parameters."""
        made = type(self)(**BaseEstimator.get_params(self, deep=False)).train(self.training)
        weight = next(self.parameters(), None)
        if weight is not None:  # keep the device and the dtype
            made = made.to(weight)
        self.__dict__.clear()  # an attribute that was None would hide a module of that name
        self.__dict__.update(made.__dict__)

    def _rebuild_if_reshaped(self) -> None:
        """Rebuild this patcher if its parameters now require weights of different shapes."""
        made = type(self)(**BaseEstimator.get_params(self, deep=False))
        own, new = self.state_dict(), made.state_dict()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in new.items()}:
            self._rebuild()


class StaticPatcher(Patcher):
    """Base class of patchers whose boundaries depend only on the length of the look-back."""

    default_embedding: ClassVar[str] = "resampled"

    @abstractmethod
    def starts(self, num_steps: int) -> list[int]:
        """Return the steps that start a patch, increasing from 0, for a look-back of T steps."""

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the same segmentation for every row."""
        num_rows, num_steps = series.shape
        starts = self.starts(num_steps)
        return Deterministic(Segmentation.shared(starts, num_steps, num_rows, series.device))

    def capacity(self, num_steps: int) -> int:
        """Return the number of patches, which is the same for every row."""
        return len(self.starts(num_steps))

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the patches, which are the reference themselves."""
        return Segmentation.shared(self.starts(num_steps), num_steps)


def rate_capacity(owner: Patcher, num_steps: int, compression_rate: float) -> int:
    """Return K = max(1, floor(T / r)), the number of patches at `owner`'s compression rate r."""
    check_float(owner, "[1, inf)", compression_rate=compression_rate)
    return max(1, math.floor(num_steps / compression_rate))
