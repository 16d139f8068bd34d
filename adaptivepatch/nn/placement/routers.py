"""Routers of dynamic chunking: how likely each element of a sequence starts a chunk.

A router reads the vectors of a sequence, whatever its elements are: points of a look-back, or the
patches of a finer level. The tokens of the chunks are made in ``nn/tokens/chunks.py``. Reference:
S. Hwang, B. Wang, A. Gu, arXiv:2507.07955 (2025), and its public code.

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

_TOO_CLOSE = 1e-3  # of a probability is left, so that these elements keep their order


def set_rate_factor(module: nn.Module, factor: float) -> None:
    """Let the optimizer train a module at a multiple of the learning rate."""
    module.__dict__["rate_factor"] = factor


class Router(nn.Module, ABC):
    """Says how likely an element starts a chunk; element 0 always does."""

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """Compare vectors (N, T, W) with their neighbours: (N, T - 1), from 0 to 2.

        In float32 at least, whatever the precision around it: neighbours are nearly alike.
        """

    @abstractmethod
    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """Turn distances (N, T - 1) to boundary probabilities (N, T).

        Parameters
        ----------
        distance : Tensor of shape (N, T - 1)
            From `distance`.
        counted : Tensor of bool, shape (N, T), or None
            Elements that may start a chunk; others get 0, but element 0. None: all.
        spacing : int, default=0
            Elements on each side of a start to keep free. Of a calibrated router; others leave it
            out.
        """

    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Move the router towards the wanted share of boundaries; one without a setting does not.

        Parameters
        ----------
        distance, counted, spacing
            As in `boundary_prob`.
        share : float
            Wanted share of boundaries.
        weight : float, default=1.0
            How far to move; 1 forgets what was so far.
        """


class CosineRouter(Router):
    """Boundary where neighbouring vectors point in different directions.

    Parameters
    ----------
    width : int
        Width W.

    Notes
    -----
    ``p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2``, and p_0 = 1; both matrices start as the identity.
    Where neighbours differ by a small e, p and its gradient are of the order e squared: on smooth
    series this router starts at "no boundary" and stays there.
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
        """Return 1 - cosine, as half the squared distance of directions, which keeps digits."""
        return self._apart(points).square().sum(-1) / 2

    def _apart(self, points: Tensor) -> Tensor:
        """Subtract the directions of neighbours: (N, T - 1, W)."""
        left, right = self.query(points[:, :-1]), self.key(points[:, 1:])
        return F.normalize(left, dim=-1) - F.normalize(right, dim=-1)

    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """See `Router.boundary_prob`."""
        del spacing
        return _from_first((distance / 2).clamp(0, 1), counted)


class CalibratedRouter(CosineRouter):
    """Boundary where the distance of neighbours is among the largest.

    Parameters
    ----------
    width : int
        Width W.

    Attributes
    ----------
    threshold : Tensor
        Quantile of the standardised distances, found by `calibrate`, followed in training.

    Notes
    -----
    ``p_t = sigmoid(|a| (s_t - threshold))`` and p_0 = 1, with s_t the distance of the directions of
    ``W_q n_{t-1}`` and ``W_k n_t``, measured from its mean over the row in mean absolute
    deviations, n a normalised projection of a vector and the one before, W_q and W_k the identity
    at first, and `a` learned, 2 at first. Own construction: such scores do not depend on how alike
    neighbours are, so that neither p nor its gradient vanishes on smooth series, and the threshold
    keeps to the rate from the first step, on other data, too (docs/decisions/014-rates.md).
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
        """Return the distance of directions."""
        before = torch.cat([points[:, :1], points[:, :-1]], 1)
        mixed: Tensor = self.norm(self.now(points) + self.before(before))
        return self._apart(mixed).norm(dim=-1)

    def boundary_prob(
        self, distance: Tensor, counted: Tensor | None = None, spacing: int = 0
    ) -> Tensor:
        """See `Router.boundary_prob`.

        With a spacing, elements within it of a chosen one, or of element 0, get a thousandth of
        their probability; see `spaced_maxima`.
        """
        score = standardise(distance, counted)
        prob = (self.slope.abs() * (score - self.threshold)).sigmoid()
        if spacing:
            prob = torch.where(spaced_maxima(score, counted, spacing), prob, _TOO_CLOSE * prob)
        return _from_first(prob, counted)

    @torch.no_grad()
    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Move the threshold towards the quantile that leaves the share above it."""
        score = standardise(distance, counted)
        can = torch.ones_like(score, dtype=torch.bool) if counted is None else counted[:, 1:]
        wanted = share * int(can.sum())
        found = score[can & spaced_maxima(score, counted, spacing)] if spacing else score[can]
        if len(found) == 0:
            return
        rank = min(max(round(len(found) - wanted), 1), len(found))
        quantile = mean_over_processes(found.kthvalue(rank).values)
        self.threshold.lerp_(quantile.to(self.threshold.dtype), weight)


class EvenRouter(Router):
    """Boundaries at even distances, whatever the vectors: what the others have to beat.

    Parameters
    ----------
    width : int
        Not read.

    Attributes
    ----------
    share : Tensor
        Wanted share of boundaries, set by `calibrate`.
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
        """See `Router.boundary_prob`: 1 at the starts, 0 elsewhere."""
        del spacing
        num_steps = distance.shape[1] + 1
        # What rounding takes off a share must not take a chunk off.
        num_chunks = 1 + int(float(self.share) * (num_steps - 1) + 1e-3)
        prob = distance.new_zeros(len(distance), num_steps)
        prob[:, even_starts(num_steps, num_chunks)] = 1
        return _from_first(prob[:, 1:], counted)

    def calibrate(
        self,
        distance: Tensor,
        counted: Tensor | None,
        share: float,
        weight: float = 1.0,
        spacing: int = 0,
    ) -> None:
        """Take the share."""
        del distance, counted, weight, spacing
        self.share.fill_(share)


ROUTERS: dict[str, type[Router]] = {
    "cosine": CosineRouter,
    "calibrated": CalibratedRouter,
    "even": EvenRouter,
}


def _from_first(later: Tensor, counted: Tensor | None) -> Tensor:
    """Put the certain boundary of element 0 before the others', and 0 where none may be."""
    return F.pad(later if counted is None else later * counted[:, 1:], (1, 0), value=1.0)
