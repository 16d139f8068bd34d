"""From the points of a patch to one token.

Tensor suffixes: N rows, T steps, P patches, V values of a token, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.tokens.pooling import pool_mean, pool_sum
from adaptivepatch.segmentation import Segmentation


def resample(series: Tensor, segmentation: Segmentation, num_values: int, halo: int = 0) -> Tensor:
    """Area-average every patch, extended by `halo` steps, over `num_values` equal intervals.

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Values without gaps.
    segmentation : Segmentation
        N rows of P patches.
    num_values : int
        Values V per patch.
    halo : int, default=0
        Steps after the patch that it also reads; beyond the look-back the last value is repeated.

    Returns
    -------
    Tensor of shape (N, P, V)
        A plain gather where patch length + halo equals V. Unused slots are finite.

    Notes
    -----
    Steps are piecewise constant: interval j averages the steps it touches, the first and last
    weighted by the fraction covered. No prefix sums: they lose digits in float32. The mean of a
    whole patch is a pooled sum on the CPU, where that adds the steps in order and takes a fifth of
    the time.
    """
    if num_values == 1 and halo == 0 and series.device.type == "cpu":
        return pool_mean(series[..., None], segmentation)
    rows = slice(0, 1) if segmentation.is_shared else slice(None)
    start = segmentation.patch_starts[rows][..., None]
    length = segmentation.patch_lengths[rows] + halo  # (n, P)
    longest = int(length.max())
    is_whole = bool((length % num_values == 0).all())
    touched = max(1, -(-longest // num_values) + (0 if is_whole else 1))
    # Intervals by patch length, in units of 1 / V of a step: integers, so nothing is rounded.
    lengths = torch.arange(longest + 1, device=series.device)[:, None]  # (L, 1)
    left = lengths * torch.arange(num_values, device=series.device)  # (L, V)
    first = left // num_values
    index = start + nn.functional.embedding(length, first)  # (n, P, V)
    beyond = series[:, -1:].expand(-1, halo + touched)
    series = torch.cat([series, beyond], 1)
    if touched == 1:
        return _gather(series, index)
    # One touched step at a time: torch sums along a dimension in an order that depends on its
    # size, which here is the widest patch of the *batch*, so rows would round by their neighbours.
    total = series.new_zeros(())
    for offset in range(touched):
        step = (first + offset) * num_values
        covered = torch.minimum(left + lengths, step + num_values) - torch.maximum(left, step)
        share = (covered.clamp(min=0) / lengths.clamp(min=1).double()).to(series.dtype)
        weight = nn.functional.embedding(length, share)
        total = total + _gather(series, index + offset) * weight
    return total


def gated(tokens: Tensor, segmentation: Segmentation, gate: Tensor | None) -> Tensor:
    """Multiply tokens (N, P, D) by the gate (N, T), if there is one, at their starts."""
    if gate is None:
        return tokens
    start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
    return tokens * gate.gather(1, start)[..., None]


def _gather(series: Tensor, index: Tensor) -> Tensor:
    """Read (N, T) at (N or 1, P, V) step indices."""
    if len(index) == 1:
        return series[:, index[0].flatten()].view(len(series), *index.shape[1:])
    return series.gather(1, index.flatten(1)).view(index.shape)


class ResampleEmbedding(nn.Module):
    """Patch of any length to one token: resample to V values, project, add the log length.

    Parameters
    ----------
    num_values : int
        Values V per patch, the width of the projection's input.
    d_model : int
        Token width D.
    nominal_length : int
        Patch length, in time steps, at which the length embedding is zero.

    Notes
    -----
    ``token = W r + b + w log(length / nominal_length)`` with r from `resample`. For patches of
    nominal length, V of them read with the halo, this is PatchTST's projection of raw points.
    A patch without a single observed step becomes a learned token.
    """

    def __init__(self, num_values: int, d_model: int, nominal_length: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.nominal_length = nominal_length
        self.projection = Linear(num_values, d_model)
        self.length_weight = nn.Parameter(torch.zeros(d_model))
        self.missing_token = nn.Parameter(torch.zeros(d_model))

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
        """Return tokens of shape (N, P, D).

        Parameters
        ----------
        series : Tensor of shape (N, T)
            Normalised, gaps filled.
        segmentation : Segmentation
            N rows.
        halo : int
            See `resample`.
        observed : Tensor of bool, shape (N, T), optional
            False at filled gaps.
        gate : Tensor of shape (N, T), optional
            Factor of value 1; its value at a patch's start multiplies the token.
        features : Tensor of shape (N, T, D), optional
            Point features of the patcher. Not read by this embedding.
        """
        tokens = self.projection(resample(series, segmentation, self.num_values, halo))
        length = segmentation.patch_lengths.clamp(min=1).to(series.dtype)
        log_ratio = (length / self.nominal_length).log()
        tokens = tokens + log_ratio[..., None] * self.length_weight
        if observed is not None:
            seen = pool_sum(observed[..., None].to(series.dtype), segmentation) > 0
            tokens = torch.where(seen, tokens, self.missing_token)
        return gated(tokens, segmentation, gate)


class AlignedEmbedding(nn.Module):
    """Patch of any length to one token: every time step of the look-back has vectors of its own.

    Parameters
    ----------
    num_steps, d_model : int
        Length T of the look-back and token width D.
    nominal_length : int
        Points of a patch whose token is as large at first as PatchTST's would be.

    Notes
    -----
    ``token = b + sum of (x_t w_t + e_t)`` over the observed steps t of the patch. So a point counts
    the same wherever its patch begins, and the forecast can stay a linear function of the look-back
    however it is cut. Resampled, the same points would be shifted and stretched by their patch,
    which no linear map undoes. Own construction: docs/decisions/013-aligned-embedding.md.
    """

    def __init__(self, num_steps: int, d_model: int, nominal_length: int) -> None:
        super().__init__()
        limit = nominal_length**-0.5
        self.weight = nn.Parameter(torch.empty(num_steps, d_model).uniform_(-limit, limit))
        self.presence = nn.Parameter(torch.zeros(num_steps, d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

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
        """Return tokens of shape (N, P, D); see `ResampleEmbedding`. There is no halo."""
        assert halo == 0
        num_rows, num_steps = series.shape
        row = torch.arange(num_rows, device=series.device)[:, None]
        # The points of all rows in time order, cut where patches start; unused slots stay empty.
        first = (segmentation.patch_starts + num_steps * row).flatten()
        step = torch.arange(num_steps, device=series.device).repeat(num_rows)
        seen = torch.ones_like(series) if observed is None else observed.to(series.dtype)
        total = _sum(step, self.weight, first, series * seen)
        total = total + _sum(step, self.presence, first, seen)
        tokens = self.bias + total.view(num_rows, -1, total.shape[-1])
        return gated(tokens, segmentation, gate)


def _sum(index: Tensor, vectors: Tensor, first: Tensor, factor: Tensor) -> Tensor:
    """Sum vectors times factors over bags that begin at `first`, each in its own order."""
    factor = factor.flatten().to(vectors.dtype)
    return nn.functional.embedding_bag(index, vectors, first, mode="sum", per_sample_weights=factor)


EMBEDDINGS = ("aligned", "resampled")
"""How points become tokens: by their time, or from border to border of their patch."""


def check_aligned(owner: object, values_per_patch: int | None, halo: int) -> None:
    """Raise `InvalidParameterError` where the patches of a patcher cannot be aligned."""
    if values_per_patch or halo:
        raise InvalidParameterError(
            "embedding='aligned' reads every point once and as it is. Got values_per_patch="
            f"{values_per_patch!r}, and patches of {owner!r} that overlap by {halo} steps. "
            "Leave these out, or use embedding='resampled'."
        )
