"""Types that a patcher and a training step exchange.

A patcher returns a distribution over the segmentations of a batch of rows: `Deterministic` if
nothing is random, and otherwise a class in ``nn/policies/``. The training step draws rollouts from
it according to the patcher's `StepPlan` and passes a `StepContext` to the patcher's own loss.

Tensor suffixes: N rows, T steps, P patches, H horizon, D width, G rollouts of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from adaptivepatch.segmentation import Segmentation

if TYPE_CHECKING:
    from adaptivepatch.nn.layers.normalization import Scale


@dataclass(frozen=True)
class Rollout:
    """Segmentations drawn for every row, and the quantities that a score-function gradient needs.

    Parameters
    ----------
    segmentation : Segmentation
        G * N rows, rollout-major: rows ``g * N`` to ``(g + 1) * N`` are rollout g.
    action : Tensor of shape (G * N, T), optional
        Raw action as sampled, before any projection onto the compression budget.
    log_prob : Tensor of shape (G, N), optional
        Log-probability of the *raw action*, with gradient. The projection is part of the
        environment; the log-probability of the projected action would bias the gradient.
    gate : Tensor of shape (G * N, T), optional
        Factor of value 1 that carries the forecast gradient to end-to-end patchers. It is computed
        as ``1 + (c - c.detach())``: in another order the terms may round to a value other than 1,
        and training would differ from prediction. Policies leave it None, so that they cannot
        receive that gradient by accident.
    """

    segmentation: Segmentation
    action: Tensor | None = None
    log_prob: Tensor | None = None
    gate: Tensor | None = None

    def head(self, num_samples: int, num_rows: int) -> Rollout:
        """Keep the first `num_samples` of the G rollouts of `num_rows` rows."""
        rows = slice(0, num_samples * num_rows)
        return Rollout(
            segmentation=self.segmentation.select(rows),
            action=None if self.action is None else self.action[rows],
            log_prob=None if self.log_prob is None else self.log_prob[:num_samples],
            gate=None if self.gate is None else self.gate[rows],
        )


class SegmentationDistribution(ABC):
    """Distribution over the segmentations of N rows, with the method names of torch.distributions.

    Attributes
    ----------
    boundary_prob : Tensor of shape (N, T) or None
        Marginal probability that a step starts a patch. For patchers trained through a gate, it is
        the probability from which they decide whether to start one. The training step does not read
        it, so a subclass may compute it lazily, in a cached property.
    features : Tensor of shape (N, T, D) or None
        Output of the patcher's own point encoder, for embeddings and residuals that read it.

    Notes
    -----
    The forecast gradient flows through both attributes unless a subclass detaches them. Policies
    detach both.
    """

    boundary_prob: Tensor | None = None
    features: Tensor | None = None

    @property
    @abstractmethod
    def mode(self) -> Segmentation:
        """Most probable segmentation of each row, which prediction uses."""

    @abstractmethod
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw `num_samples` segmentations of every row."""

    def repeat(self, num_samples: int) -> SegmentationDistribution:
        """Repeat the block of all rows `num_samples` times, which is the layout of rollouts."""
        return self if num_samples == 1 else _Repeated(self, num_samples)

    def entropy(self) -> Tensor | None:
        """Entropy of each row in nats, shape (N,); None if it is unknown."""
        return None


class _Repeated(SegmentationDistribution):
    """Distribution that repeats the rows of another one, lazily for its tensors."""

    def __init__(self, once: SegmentationDistribution, copies: int) -> None:
        self.once, self.copies = once, copies

    @cached_property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        once = self.once.boundary_prob
        return None if once is None else once.repeat(self.copies, 1)

    @cached_property
    def features(self) -> Tensor | None:  # type: ignore[override]
        once = self.once.features
        return None if once is None else once.repeat(self.copies, 1, 1)

    @property
    def mode(self) -> Segmentation:
        return self.once.mode.repeat(self.copies)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        rollout = self.once.sample(num_samples * self.copies, generator)
        log_prob = rollout.log_prob
        return replace(
            rollout, log_prob=None if log_prob is None else log_prob.view(num_samples, -1)
        )

    def entropy(self) -> Tensor | None:
        once = self.once.entropy()
        return None if once is None else once.repeat(self.copies)


class Deterministic(SegmentationDistribution):
    """Distribution with all mass on one segmentation of each row.

    Parameters
    ----------
    segmentation : Segmentation
        Segmentation of N rows.
    boundary_prob, features : Tensor, optional
        Attributes described in `SegmentationDistribution`.
    gate : Tensor of shape (N, T), optional
        Factor described in `Rollout`.
    """

    def __init__(
        self,
        segmentation: Segmentation,
        *,
        boundary_prob: Tensor | None = None,
        features: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> None:
        self._segmentation = segmentation
        self.boundary_prob = boundary_prob
        self.features = features
        self.gate = gate

    @property
    def mode(self) -> Segmentation:
        """Segmentation passed to the constructor."""
        return self._segmentation

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:  # noqa: ARG002
        """Repeat the segmentation, without drawing anything."""
        gate = self.gate if self.gate is None else self.gate.repeat(num_samples, 1)
        return Rollout(self._segmentation.repeat(num_samples), gate=gate)

    def entropy(self) -> Tensor:
        """Return zeros, shape (N,)."""
        rows = self._segmentation
        return torch.zeros(rows.num_rows, device=rows.device)


class NetworkParts(NamedTuple):
    """Modules and sizes that a patcher provides for the network around its backbone.

    Parameters
    ----------
    embedding : nn.Module
        Module that maps the points of a patch to a token. It is called like `ResampleEmbedding`.
    cells : Segmentation
        Reference cells that the head reads, as one row.
    unpatch : nn.Module, optional
        Module that maps tokens back to a finer resolution; see
        `adaptivepatch.network.PatchNetwork`.
    width : int, optional
        Width of the vectors that the head reads. Default: the width of the backbone.
    """

    embedding: nn.Module
    cells: Segmentation
    unpatch: nn.Module | None = None
    width: int | None = None


class StepPlan(NamedTuple):
    """Plan of a training step: how it samples and scores a patcher's distribution.

    Parameters
    ----------
    num_samples : int
        Number G of rollouts per row; 0 draws none and trains on the mode.
    is_scored : bool
        Whether to forecast with all rollouts, in eval mode and without gradient, for the patcher's
        own loss.
    is_mode_scored : bool
        Whether to forecast with the mode in the same way.
    grad_samples : int
        Number of rollouts whose forecasts give the forecast gradient.
    mode_share : float
        Share of the rows in these `grad_samples` rollouts, from 0 to 1, that use the mode instead
        of the sampled segmentation.
    """

    num_samples: int = 1
    is_scored: bool = False
    is_mode_scored: bool = False
    grad_samples: int = 1
    mode_share: float = 0.0


@dataclass(frozen=True)
class StepContext:
    """Inputs of a patcher's own loss, available after the forecast of a training step.

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised look-backs with filled gaps.
    observed : Tensor of bool, shape (N, T), or None
        True at observed points. None: all points are observed.
    target : Tensor of shape (N, H)
        Futures, in the units of `series` before normalisation.
    distribution : SegmentationDistribution
        Distribution that the patcher returned, with gradient.
    rollout : Rollout
        G rollouts drawn from the distribution.
    forecast_loss : Tensor of shape (G, N)
        Loss of every rollout and row, without gradient. If the plan scores no rollouts, this is the
        loss of the training pass, and G is `grad_samples`.
    hidden : Tensor of shape (grad_samples * N, P, D)
        Backbone output of the training pass, with gradient.
    group : Tensor of shape (N,) or None
        Group of each row; rows of a group share one segmentation.
    progress : float
        Share of the training done, from 0 to 1.
    target_observed : Tensor of bool, shape (N, H), or None
        True at observed targets. The forecast loss weights each row by its share of observed
        targets. None: all targets are observed.
    mode_loss : Tensor of shape (N,) or None
        Loss of the mode, if the plan scores it.
    scale : Scale or None
        Mean and standard deviation by which `series` was normalised: ``(target - mean) / std`` is
        on the same scale as `series`. None: `series` was not normalised.
    """

    series: Tensor
    observed: Tensor | None
    target: Tensor
    distribution: SegmentationDistribution
    rollout: Rollout
    forecast_loss: Tensor
    hidden: Tensor
    group: Tensor | None
    progress: float
    target_observed: Tensor | None = None
    mode_loss: Tensor | None = None
    scale: Scale | None = None
