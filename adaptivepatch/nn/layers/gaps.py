"""Interpolation of unobserved steps.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate_gaps(series: Tensor, observed: Tensor) -> Tensor:
    """Fill unobserved steps by linear interpolation between the nearest observed steps.

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Values. Unobserved steps are ignored and may be NaN.
    observed : Tensor of bool, shape (N, T)
        True at observed steps.

    Returns
    -------
    Tensor of shape (N, T)
        Series without gaps; observed values are unchanged. Steps before the first and after the
        last observed step take the nearest observed value. A row without observed steps is 0.
    """
    num_steps = series.shape[1]
    step = torch.arange(num_steps, device=series.device).expand_as(series)
    known = torch.where(observed, series, torch.zeros_like(series))
    before = torch.where(observed, step, -1).cummax(dim=1).values
    after = torch.where(observed, step, num_steps).flip(1).cummin(dim=1).values.flip(1)
    left = torch.where(before < 0, after, before).clamp(max=num_steps - 1)
    right = torch.where(after == num_steps, before, after).clamp(min=0)
    share = (step - left).to(series.dtype) / (right - left).clamp(min=1)
    between = known.gather(1, left).lerp(known.gather(1, right), share)
    return torch.where(observed, known, between)
