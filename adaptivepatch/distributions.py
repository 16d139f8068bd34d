"""Distributions over segmentations, and the rollouts drawn from them.

What a patcher returns for a batch of rows; a `Deterministic` one where nothing is random. Policies
have theirs in ``nn/policy_distribution.py``.

Tensor suffixes: N rows, T steps, D width, G rollouts of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from adaptivepatch.segmentation import Segmentation


@dataclass(frozen=True)
class Rollout:
    """Segmentations drawn for every row, with what their score-function gradient needs.

    Parameters
    ----------
    segmentation : Segmentation
        G * N rows, rollout-major: rows ``g * N`` to ``(g + 1) * N`` are rollout g.
    action : Tensor of shape (G * N, T), optional
        The raw action as sampled, before any projection onto the compression budget.
    log_prob : Tensor of shape (G, N), optional
        Log-probability of the *raw action*, with gradient. The projection is part of the
        environment: scoring the projected action instead would bias the gradient.
    gate : Tensor of shape (G * N, T), optional
        Factor of value 1 that carries forecast gradient to end-to-end patchers, written
        ``1 + (c - c.detach())``: other orders round to values beside 1, and training would differ
        from prediction. Policies leave it None, so that they cannot receive that gradient by
        accident.
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
    """Distribution over the segmentations of N rows; its words are torch.distributions'.

    Attributes
    ----------
    boundary_prob : Tensor of shape (N, T) or None
        Marginal probability that a step starts a patch. Where it is costly, a cached property: the
        training step does not read it.
    features : Tensor of shape (N, T, D) or None
        Output of the patcher's own point encoder, for embeddings and residuals that read it.

    Notes
    -----
    Forecast gradient flows through what of these carries gradient: policies detach them.
    """

    boundary_prob: Tensor | None = None
    features: Tensor | None = None

    @property
    @abstractmethod
    def mode(self) -> Segmentation:
        """Most probable segmentation of each row; what prediction uses."""

    @abstractmethod
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw `num_samples` segmentations of every row."""

    def repeat(self, num_samples: int) -> SegmentationDistribution:
        """Repeat all rows one after the other, so that they are the rows of a rollout."""
        return self if num_samples == 1 else _Repeated(self, num_samples)

    def entropy(self) -> Tensor | None:
        """Entropy of each row in nats, shape (N,), where it is known."""
        return None


class _Repeated(SegmentationDistribution):
    """The same distribution for several copies of its rows; tensors are repeated when read."""

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
    """All mass on one segmentation of each row.

    Parameters
    ----------
    segmentation : Segmentation
        N rows.
    boundary_prob, features : Tensor, optional
        See `SegmentationDistribution`.
    gate : Tensor of shape (N, T), optional
        See `Rollout`.
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
        """The segmentation itself."""
        return self._segmentation

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:  # noqa: ARG002
        """Repeat the segmentation; nothing is drawn."""
        gate = self.gate if self.gate is None else self.gate.repeat(num_samples, 1)
        return Rollout(self._segmentation.repeat(num_samples), gate=gate)

    def entropy(self) -> Tensor:
        """Zero for every row."""
        rows = self._segmentation
        return torch.zeros(rows.num_rows, device=rows.device)
