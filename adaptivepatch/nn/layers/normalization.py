"""Reversible instance normalisation.

Reference: T. Kim et al., "Reversible Instance Normalization for Accurate Time-Series Forecasting
against Distribution Shift", ICLR 2022.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaptivepatch.nn.layers.gaps import interpolate_gaps


class Scale(NamedTuple):
    """Mean and standard deviation of each row, shape (N, 1), in the units of the series."""

    mean: Tensor
    std: Tensor

    def repeat(self, num_samples: int) -> Scale:
        """Repeat the rows for `num_samples` rollouts, rollout-major."""
        return Scale(self.mean.repeat(num_samples, 1), self.std.repeat(num_samples, 1))


class InstanceNorm(nn.Module):
    """Normalise each row by its own mean and standard deviation, reversibly (RevIN).

    Parameters
    ----------
    enabled : bool, default=True
        Whether to normalise. If False, the values keep their scale. Gaps are filled in both cases.
    eps : float, default=1e-5
        Constant added to the variance, in squared units of the series.

    Notes
    -----
    The variance is the biased estimate, and there is no learned affine map, as in PatchTST's
    published configuration (``affine=0``). Only observed points enter the statistics; gaps are then
    filled by linear interpolation (``docs/decisions/002-gaps.md``).
    """

    def __init__(self, enabled: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.enabled = enabled
        self.eps = eps

    def forward(self, series: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Scale]:
        """Return the normalised series (N, T) with filled gaps, and the scale of the original."""
        if not self.enabled:
            one = torch.ones_like(series[:, :1])
            filled = series if observed is None else interpolate_gaps(series, observed)
            return filled, Scale(torch.zeros_like(one), one)
        if observed is None:
            weight = torch.ones_like(series)
        else:
            weight = observed.to(series.dtype)
            series = torch.where(observed, series, torch.zeros_like(series))
        count = weight.sum(1, keepdim=True).clamp(min=1)
        mean = (series * weight).sum(1, keepdim=True) / count
        centred = (series - mean) * weight
        std = (centred.square().sum(1, keepdim=True) / count + self.eps).sqrt()
        normalised = centred / std
        if observed is not None:
            normalised = interpolate_gaps(normalised, observed)
        return normalised, Scale(mean, std)

    def inverse(self, forecast: Tensor, scale: Scale) -> Tensor:
        """Map forecasts (N, H) or (N, H, Q) back to the units of the series."""
        if not self.enabled:
            return forecast
        shape = (-1, *[1] * (forecast.ndim - 1))
        return forecast * scale.std.view(shape) + scale.mean.view(shape)
