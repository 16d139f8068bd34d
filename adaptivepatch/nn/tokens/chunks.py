"""Chunks of dynamic chunking: from vectors to the tokens of chunks, and back to the vectors.

The modules know vectors of a sequence, whatever its elements are: points of a look-back, or the
patches of a finer level. Reference: S. Hwang, B. Wang, A. Gu, arXiv:2507.07955 (2025), and its
public code.

Tensor suffixes: N rows, T elements of the sequence, P chunks, W width outside, D width inside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.scan import smooth
from adaptivepatch.nn.tokens.patch_embedding import gated
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.segmentation import Segmentation


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
