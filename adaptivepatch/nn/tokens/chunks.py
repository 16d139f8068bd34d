"""Chunks of dynamic chunking: from the elements of a sequence to tokens of chunks, and back.

The elements are points of a look-back or patches of a finer level. Reference: S. Hwang, B. Wang,
A. Gu, arXiv:2507.07955 (2025), and its public code.

Tensor suffixes: N rows, T elements of the sequence, P chunks, W width of elements, D width of
chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.scan import smooth
from adaptivepatch.nn.tokens.patch_embedding import gated
from adaptivepatch.nn.tokens.pooling import at_starts, broadcast, pool_mean
from adaptivepatch.segmentation import Segmentation


def confidence_gate(boundary_prob: Tensor, boundary_mask: Tensor) -> Tensor:
    """Return ones (N, T) that carry the gradient of the confidence in the given boundaries.

    The confidence is p at a boundary and 1 - p elsewhere.
    """
    confidence = torch.where(boundary_mask, boundary_prob, 1 - boundary_prob)
    return 1 + (confidence - confidence.detach())


class SelectEmbedding(nn.Module):
    """Embedding that takes the vector at the start of a chunk as the token of the chunk.

    Parameters
    ----------
    width, d_model : int
        Width W of the vectors and width D of the tokens. If D is larger than W, learned values are
        appended to the vectors; if D is smaller, a linear map narrows the vectors. As in H-Net,
        these weights are trained at the learning rate of the stage that reads the tokens.
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
        """Return tokens (N, P, D) of the features (N, T, W); see `ResampleEmbedding`."""
        del series, halo, observed, gate
        assert features is not None
        tokens = at_starts(features, segmentation)
        if self.widening is None:
            narrow: Tensor = self.narrowing(tokens)
            return narrow
        return torch.cat([tokens, self.widening.expand(*tokens.shape[:2], -1)], -1)


class PooledEmbedding(nn.Module):
    """Embedding of a patch's points, plus a linear map of the patch's vectors.

    Parameters
    ----------
    width, d_model : int
        Width W of the vectors and width D of the tokens.
    points : nn.Module
        Embedding of the points.

    Notes
    -----
    The linear map reads the mean of the patch's vectors plus the vector at its start. The sum of
    both parts is multiplied by the gate at the start of the patch.
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
        vectors = pool_mean(features, segmentation) + at_starts(features, segmentation)
        return gated(tokens + self.vector_projection(vectors), segmentation, gate)


class Dechunk(nn.Module):
    """Map from the vectors of chunks back to the elements inside the chunks.

    Parameters
    ----------
    width, d_model : int
        Width W of the elements and width D of the chunks. If D is larger than W, the first W values
        of each chunk are used; if D is smaller, a linear map widens the chunks.

    Notes
    -----
    Chunks h are smoothed, ``z_k = p_k h_k + (1 - p_k) z_{k-1}``, where p_k is the probability of
    the boundary at the start of chunk k. Every element receives its chunk's z times the gate, plus
    a linear map of its own vector. The linear map is zero initially. The computation uses at least
    float32, even under autocast.
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
            Vectors of the chunks.
        segmentation : Segmentation
            Partition of N rows of T elements into chunks.
        boundary_prob : Tensor of shape (N, T)
            Boundary probability of every element.
        gate : Tensor of shape (N, T), or None
            Factor described in `confidence_gate`.
        elements : Tensor of shape (N, T, W)
            Vectors of the elements before chunking.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            exact = torch.promote_types(self.residual.weight.dtype, torch.float32)
            start_prob = at_starts(boundary_prob, segmentation)
            chunks = smooth(self.widening(hidden.to(exact))[..., : self.width], start_prob)
            spread = broadcast(chunks, segmentation)  # (N, P, W) -> (N, T, W)
            if gate is not None:
                spread = spread * gate[..., None].to(exact)
            return (spread + self.residual(elements.to(exact))).to(elements.dtype)


class PointUnpatch(nn.Module):
    """Map from chunks back to points in a network: `Dechunk`, then a decoder.

    Parameters
    ----------
    decoder : nn.Module
        Decoder from (N, T, W) to (N, T, W).
    width, d_model : int
        Width W of the points and width D of the chunks.
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
        """Return point vectors (N, T, W) and the segmentation with one patch per point."""
        prob, features = distribution.boundary_prob, distribution.features
        assert prob is not None
        assert features is not None
        points = self.dechunk(hidden, segmentation, prob, rollout.gate, features)
        num_rows, num_steps = segmentation.boundary_mask.shape
        single_points = Segmentation.even(num_steps, num_steps, num_rows, hidden.device)
        return self.decoder(points), single_points
