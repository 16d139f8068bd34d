"""Parts of dynamic chunking: routers, the way down to chunks, and the way back to points.

They know vectors of a sequence, whatever its elements are: points of a look-back, or the patches of
a finer level. Reference: S. Hwang, B. Wang, A. Gu, arXiv:2507.07955 (2025), and its public code.

Tensor suffixes: N rows, T elements of the sequence, P chunks, W width outside, D width inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.nn.candidates import even_starts
from adaptivepatch.nn.linear import Linear
from adaptivepatch.nn.patch_embedding import gated
from adaptivepatch.nn.policy_gradient import mean_over_processes
from adaptivepatch.nn.pooling import broadcast, pool_mean
from adaptivepatch.nn.scan import smooth
from adaptivepatch.nn.score_rules import spaced_maxima, standardise
from adaptivepatch.segmentation import Segmentation

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


def confidence_gate(boundary_prob: Tensor, boundary_mask: Tensor) -> Tensor:
    """Return ones (N, T) whose gradient goes to the confidence in the boundaries as they are.

    Confidence is p at a boundary and 1 - p elsewhere.
    """
    confidence = torch.where(boundary_mask, boundary_prob, 1 - boundary_prob)
    return 1 + (confidence - confidence.detach())


class SelectEmbedding(nn.Module):
    """The vector at a chunk's start is its token, widened by learned values.

    Parameters
    ----------
    width, d_model : int
        Widths W and D. Where D is the smaller one, a linear map narrows the vectors.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.widening = nn.Parameter(torch.zeros(d_model - width)) if d_model > width else None
        self.narrowing = Linear(width, d_model) if d_model < width else nn.Identity()

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (N, P, D); see `ResampleEmbedding`. Reads the features (N, T, W) alone."""
        del series, halo, observed, gate
        assert features is not None
        start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
        tokens = features.gather(1, start[..., None].expand(-1, -1, features.shape[-1]))
        if self.widening is None:
            narrow: Tensor = self.narrowing(tokens)
            return narrow
        return torch.cat([tokens, self.widening.expand(*start.shape, -1)], -1)


class PooledEmbedding(nn.Module):
    """A patch's points, and the mean of its vectors plus the one at its start.

    Parameters
    ----------
    width, d_model : int
        Widths W of the vectors and D of the tokens.
    points : nn.Module
        Embeds the points.

    Notes
    -----
    Both parts are added, and multiplied by the gate at the start.
    """

    def __init__(self, width: int, d_model: int, points: nn.Module) -> None:
        super().__init__()
        self.points = points
        self.vector_projection = Linear(width, d_model, bias=False)

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (N, P, D); see `ResampleEmbedding`."""
        assert features is not None
        tokens: Tensor = self.points(series, segmentation, halo=halo, observed=observed)
        start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
        index = start[..., None].expand(-1, -1, features.shape[-1])
        vectors = pool_mean(features, segmentation) + features.gather(1, index)
        return gated(tokens + self.vector_projection(vectors), segmentation, gate)


class Dechunk(nn.Module):
    """From chunks back to the elements they were made of.

    Parameters
    ----------
    width, d_model : int
        Widths W of the elements and D of the chunks. Of wider chunks the first W values are taken;
        narrower ones a linear map widens.

    Notes
    -----
    Chunks are smoothed, ``z_k = p_k h_k + (1 - p_k) z_{k-1}`` with p_k the probability of their
    boundary; every element takes its chunk's z times the gate; and its own vector is added through
    a linear map that starts at zero. In float32 at least, whatever the precision around it.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.width = width
        self.widening = Linear(d_model, width) if d_model < width else nn.Identity()
        self.residual = Linear(width, width)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(
        self,
        hidden: Tensor,
        segmentation: Segmentation,
        boundary_prob: Tensor,
        gate: Tensor | None,
        elements: Tensor,
    ) -> Tensor:
        """Map chunks (N, P, D) to elements (N, T, W).

        Parameters
        ----------
        hidden : Tensor of shape (N, P, D)
            Chunks.
        segmentation : Segmentation
            N rows of T elements.
        boundary_prob : Tensor of shape (N, T)
            Of every element.
        gate : Tensor of shape (N, T), or None
            See `confidence_gate`.
        elements : Tensor of shape (N, T, W)
            As they were before.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            exact = torch.promote_types(self.residual.weight.dtype, torch.float32)
            start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
            start_prob = boundary_prob.gather(1, start)
            chunks = smooth(self.widening(hidden.to(exact))[..., : self.width], start_prob)
            spread = broadcast(chunks, segmentation)  # (N, P, W) -> (N, T, W)
            if gate is not None:
                spread = spread * gate[..., None].to(exact)
            return (spread + self.residual(elements.to(exact))).to(elements.dtype)


class PointUnpatch(nn.Module):
    """The network's way back from chunks to points: `Dechunk`, then a decoder.

    Parameters
    ----------
    decoder : nn.Module
        Maps (N, T, W) to (N, T, W).
    width, d_model : int
        Widths W of the points and D of the chunks.
    """

    def __init__(self, decoder: nn.Module, width: int, d_model: int) -> None:
        super().__init__()
        self.dechunk = Dechunk(width, d_model)
        self.decoder = decoder

    def forward(
        self,
        hidden: Tensor,
        segmentation: Segmentation,
        distribution: SegmentationDistribution,
        rollout: Rollout,
    ) -> tuple[Tensor, Segmentation]:
        """Return point vectors (N, T, W), and the segmentation with a patch for every point."""
        prob, features = distribution.boundary_prob, distribution.features
        assert prob is not None
        assert features is not None
        points = self.dechunk(hidden, segmentation, prob, rollout.gate, features)
        num_rows, num_steps = segmentation.boundary_mask.shape
        every = Segmentation.even(num_steps, num_steps, num_rows, hidden.device)
        return self.decoder(points), every
