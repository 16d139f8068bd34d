"""Routers of dynamic chunking: the probability that an element of a sequence starts a chunk.

The elements are points of a look-back or patches of a finer level. ``nn/tokens/chunks.py`` computes
the tokens of the chunks. Reference: S. Hwang, B. Wang, A. Gu, arXiv:2507.07955 (2025), and its
public code.

Tensor suffixes: N rows, T elements of the sequence, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.placement.score_rules import spaced_maxima, standardise
from adaptivepatch.nn.policies.candidates import even_starts
from adaptivepatch.nn.policies.group_policy_gradient import mean_over_processes

_SUPPRESSION = 1e-3  # factor of suppressed probabilities; not 0, so that they keep their order


def set_rate_factor(module: nn.Module, factor: float) -> None:
    """Mark a module so that the optimizer multiplies its learning rate by a factor."""
    module.__dict__["rate_factor"] = factor


class Router(nn.Module, ABC):
    """Base class of modules that compute boundary probabilities; element 0 always has 1."""

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """Return distances (N, T - 1), from 0 to 2, between neighbouring vectors of (N, T, W).

        The computation uses at least float32, even under autocast, because neighbours hardly
        differ.
        """

    @abstractmethod
    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """Convert distances to boundary probabilities, shape (N, T).

        Parameters
        ----------
        distance : Tensor of shape (N, T - 1)
            Distances that the method `distance` returned.
        counted : Tensor of bool, shape (N, T), or None
            True at elements that may start a chunk. The other elements get probability 0, except
            for element 0, which always gets 1. None: all elements may start a chunk.
        spacing : int, default=0
            Number of elements on each side of a start that should not start a chunk. Only
            `CalibratedRouter` reads it.
        """

    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Adjust the router to the desired share of boundaries. The base class does nothing.

        Parameters
        ----------
        distance, counted, spacing
            Arguments as in `boundary_prob`.
        share : float
            Desired share of boundaries.
        weight : float, default=1.0
            Step size: 1 replaces the current setting; a smaller value moves the setting by that
            fraction of the difference.
        """


class CosineRouter(Router):
    """Router that finds boundaries where neighbouring vectors point in different directions.

    Parameters
    ----------
    width : int
        Width W of the vectors.

    Notes
    -----
    ``p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2`` and p_0 = 1; both matrices start as the identity.
    If neighbours differ by a small e, p and its gradient are of order e squared, so that on smooth
    series the router begins without boundaries and never finds any.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.key.weight)

    def distance(self, points: Tensor) -> Tensor:
        """See `Router.distance`."""
        with torch.autocast(points.device.type, enabled=False):
            return self._distance(points.to(self.query.weight.dtype))

    def _distance(self, points: Tensor) -> Tensor:
        """Return 1 - cosine, as half the squared distance of the directions for precision."""
        return self._direction_change(points).square().sum(-1) / 2

    def _direction_change(self, points: Tensor) -> Tensor:
        """Return the difference between the directions of neighbours, shape (N, T - 1, W)."""
        left, right = self.query(points[:, :-1]), self.key(points[:, 1:])
        return F.normalize(left, dim=-1) - F.normalize(right, dim=-1)

    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """See `Router.boundary_prob`."""
        del spacing
        return _with_first((distance / 2).clamp(0, 1), counted)


class CalibratedRouter(CosineRouter):
    """Router that finds boundaries where the distance between neighbours is among the largest.

    Parameters
    ----------
    width : int
        Width W of the vectors.

    Attributes
    ----------
    threshold : Tensor
        Quantile of the standardised distances, set by `calibrate` and updated during training.

    Notes
    -----
    ``p_t = sigmoid(|a| (s_t - threshold))`` and p_0 = 1. The score s_t is the distance between the
    directions of ``W_q n_{t-1}`` and ``W_k n_t``, standardised over the row by `standardise`. n_t
    is a normalised projection of vector t and the vector before it. W_q and W_k start as the
    identity, and the learned slope a starts at 2. This router is original to this package. Its
    scores do not depend on how similar neighbours are, so neither p nor its gradient vanishes on
    smooth series, and the threshold keeps the compression rate from the first step on, even on
    other data (docs/decisions/014-rates.md).
    """

    threshold: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.now = Linear(width, width)
        self.before = Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.slope = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("threshold", torch.tensor(0.0))

    def _distance(self, points: Tensor) -> Tensor:
        """Return the distance between the directions of neighbours."""
        before = torch.cat([points[:, :1], points[:, :-1]], 1)
        mixed: Tensor = self.norm(self.now(points) + self.before(before))
        return self._direction_change(mixed).norm(dim=-1)

    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """See `Router.boundary_prob`.

        With a spacing, the probability of elements that are too close to a maximum or to element 0
        is multiplied by 1/1000; see `spaced_maxima`.
        """
        score = standardise(distance, counted)
        prob = (self.slope.abs() * (score - self.threshold)).sigmoid()
        if spacing:
            prob = torch.where(spaced_maxima(score, counted, spacing), prob, _SUPPRESSION * prob)
        return _with_first(prob, counted)

    @torch.no_grad()
    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Move the threshold towards the quantile that the desired share of scores exceeds."""
        score = standardise(distance, counted)
        allowed = torch.ones_like(score, dtype=torch.bool) if counted is None else counted[:, 1:]
        num_starts = share * int(allowed.sum())
        if spacing:
            allowed = allowed & spaced_maxima(score, counted, spacing)
        found = score[allowed]
        if len(found) == 0:
            return
        rank = min(max(round(len(found) - num_starts), 1), len(found))
        quantile = mean_over_processes(found.kthvalue(rank).values)
        self.threshold.lerp_(quantile.to(self.threshold.dtype), weight)


class EvenRouter(Router):
    """Router with boundaries at even distances, for comparison with routers that read the vectors.

    Parameters
    ----------
    width : int
        Width W of the vectors, which are not read.

    Attributes
    ----------
    share : Tensor
        Desired share of boundaries, set by `calibrate`.
    """

    share: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        del width
        self.register_buffer("share", torch.tensor(0.0, dtype=torch.float64))

    def distance(self, points: Tensor) -> Tensor:
        """Return zeros (N, T - 1)."""
        return points.new_zeros(len(points), points.shape[1] - 1)

    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """See `Router.boundary_prob`. The result is 1 at even starts and 0 elsewhere."""
        del spacing
        num_steps = distance.shape[1] + 1
        # The addend keeps a rounding error of the share from removing a chunk.
        num_chunks = 1 + int(float(self.share) * (num_steps - 1) + 1e-3)
        prob = distance.new_zeros(len(distance), num_steps)
        prob[:, even_starts(num_steps, num_chunks)] = 1
        return _with_first(prob[:, 1:], counted)

    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Store the desired share."""
        del distance, counted, weight, spacing
        self.share.fill_(share)


ROUTERS: dict[str, type[Router]] = {
    "cosine": CosineRouter,
    "calibrated": CalibratedRouter,
    "even": EvenRouter,
}


def _with_first(later: Tensor, counted: Tensor | None) -> Tensor:
    """Prepend probability 1 for element 0, and set the others to 0 where `counted` is False."""
    return F.pad(later if counted is None else later * counted[:, 1:], (1, 0), value=1.0)
