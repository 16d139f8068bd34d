"""Shared decisions of the rows of a group.

Tensor suffixes: N rows, G rollouts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mean_in_groups(values: Tensor, group: Tensor | None) -> Tensor:
    """Replace each row of (N, ...) by the mean over its group; no change if `group` is None."""
    if group is None:
        return values
    _, place, count = group.unique(return_inverse=True, return_counts=True)
    total = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, place, values)
    return (total / count.view(-1, *[1] * (values.ndim - 1)))[place]


def shared_in_groups(noise: Tensor, group: Tensor | None) -> Tensor:
    """Replace the noise (G, N, ...) of each row by noise shared by all rows of its group."""
    return noise if group is None else noise[:, group.unique(return_inverse=True)[1]]


def mean_of_known(values: Tensor, known: Tensor, group: Tensor | None, otherwise: float) -> Tensor:
    """Average the known values (N, T) over each group; `otherwise` where no value is known."""
    share = mean_in_groups(known.double(), group)
    average = mean_in_groups(values * known, group) / share.clamp(min=1e-12)
    return torch.where(share > 0, average, otherwise)
