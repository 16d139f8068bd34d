"""From the points of a patch to one token.

Tensor suffixes: N rows, T steps, P patches, V values of a token, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adaptivepatch.nn.linear import Linear
from adaptivepatch.nn.pooling import pool_mean, pool_sum
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
    num_rows, num_steps = series.shape
    rows = slice(0, 1) if segmentation.is_shared else slice(None)
    start = segmentation.patch_starts[rows][..., None]
    width = (segmentation.patch_lengths[rows][..., None] + halo).to(torch.float64) / num_values
    left = start + width * torch.arange(num_values, device=series.device)  # (n, P, V)
    first = left.floor()
    widest = float(width.max())
    touched = max(1, math.ceil(widest) + (0 if bool((width == width.floor()).all()) else 1))
    if touched == 1:
        return _gather(series, first.long().clamp(max=num_steps - 1), num_rows)
    # One touched step at a time: torch sums along a dimension in an order that depends on its
    # size, which here is the widest patch of the *batch*, so rows would round by their neighbours.
    total = series.new_zeros(())
    right, divisor = left + width, width.clamp(min=1 / num_values)
    for offset in range(touched):
        step = first + offset
        covered = torch.minimum(right, step + 1) - torch.maximum(left, step)
        values = _gather(series, step.long().clamp(max=num_steps - 1), num_rows)
        total = total + values * (covered.clamp(min=0) / divisor).to(series.dtype)
    return total


def _gather(series: Tensor, index: Tensor, num_rows: int) -> Tensor:
    """Read (N, T) at (N or 1, ...) step indices."""
    if len(index) == 1:
        return series[:, index[0].flatten()].view(num_rows, *index.shape[1:])
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
        if gate is not None:
            start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
            tokens = tokens * gate.gather(1, start)[..., None]
        return tokens
