"""Pooling of step values over patches, and the way back.

Tensor suffixes: N rows, T steps, P patches, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptivepatch.segmentation import Segmentation


def pool_sum(values: Tensor, segmentation: Segmentation) -> Tensor:
    """Sum (N, T, D) over patches to (N, P, D); unused slots are 0."""
    num_rows, _, width = values.shape
    slots = segmentation.capacity
    row = torch.arange(num_rows, device=values.device)[:, None] * slots
    flat = (segmentation.patch_index + row).flatten()
    total = values.new_zeros(num_rows * slots, width)
    return total.index_add_(0, flat, values.flatten(0, 1)).view(num_rows, slots, width)


def pool_mean(values: Tensor, segmentation: Segmentation, counted: Tensor | None = None) -> Tensor:
    """Average (N, T, D) over patches to (N, P, D); unused slots are 0.

    Parameters
    ----------
    values : Tensor of shape (N, T, D)
        Finite values.
    segmentation : Segmentation
        N rows.
    counted : Tensor of bool, shape (N, T), optional
        Average only these steps: observed ones, or the patches of a finer level that are not
        padding. A patch without any is 0.
    """
    if counted is None:
        length = segmentation.patch_lengths[..., None].to(values.dtype)
        return pool_sum(values, segmentation) / length.clamp(min=1)
    weight = counted[..., None].to(values.dtype)
    return pool_sum(values * weight, segmentation) / pool_sum(weight, segmentation).clamp(min=1)


def broadcast(patches: Tensor, segmentation: Segmentation) -> Tensor:
    """Give every step its patch's value: (N, P, D) to (N, T, D)."""
    index = segmentation.patch_index[..., None].expand(-1, -1, patches.shape[-1])
    return patches.gather(1, index)


def overlap_matrix(
    segmentation: Segmentation, reference: Segmentation, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Share of each reference cell that each patch covers.

    Parameters
    ----------
    segmentation : Segmentation
        N rows of P patches.
    reference : Segmentation
        One row of K cells over the same T steps.
    dtype : torch.dtype, default=torch.float32
        Type of the shares.

    Returns
    -------
    Tensor of shape (N or 1, K, P)
        Rows sum to 1; the identity where patches are the cells. One matrix if `segmentation` is
        shared by its rows.
    """
    rows = slice(0, 1) if segmentation.is_shared else slice(None)
    start = segmentation.patch_starts[rows][:, None, :].to(dtype)  # whole numbers: exact
    end = start + segmentation.patch_lengths[rows][:, None, :]
    cell_start = reference.patch_starts[0][:, None].to(dtype)
    cell_length = reference.patch_lengths[0][:, None]
    cell_end = cell_start + cell_length
    shared = torch.minimum(end, cell_end) - torch.maximum(start, cell_start)
    return shared.clamp_(min=0).div_(cell_length)
