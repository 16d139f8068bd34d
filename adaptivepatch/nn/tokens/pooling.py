"""Pooling of step values over patches, and broadcasting of patch values to steps.

Tensor suffixes: N rows, T steps, P patches, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptivepatch.segmentation import Segmentation


def pool_sum(values: Tensor, segmentation: Segmentation) -> Tensor:
    """Sum values (N, T, D) over patches to (N, P, D); unused slots are 0."""
    num_rows, _, width = values.shape
    slots = segmentation.capacity
    row = torch.arange(num_rows, device=values.device)[:, None] * slots
    flat = (segmentation.patch_index + row).flatten()
    total = values.new_zeros(num_rows * slots, width)
    return total.index_add_(0, flat, values.flatten(0, 1)).view(num_rows, slots, width)


def pool_mean(values: Tensor, segmentation: Segmentation, counted: Tensor | None = None) -> Tensor:
    """Average values (N, T, D) over patches to (N, P, D); unused slots are 0.

    Parameters
    ----------
    values : Tensor of shape (N, T, D)
        Finite values.
    segmentation : Segmentation
        Segmentation of N rows into P patches.
    counted : Tensor of bool, shape (N, T), optional
        Steps to average, such as observed ones, or patches of a finer level that are not padding.
        The mean of a patch without such a step is 0. Default: all steps.
    """
    if counted is None:
        length = segmentation.patch_lengths[..., None].to(values.dtype)
        return pool_sum(values, segmentation) / length.clamp(min=1)
    weight = counted[..., None].to(values.dtype)
    return pool_sum(values * weight, segmentation) / pool_sum(weight, segmentation).clamp(min=1)


def broadcast(patches: Tensor, segmentation: Segmentation) -> Tensor:
    """Give every step the vector of its patch: (N, P, D) to (N, T, D)."""
    index = segmentation.patch_index[..., None].expand(-1, -1, patches.shape[-1])
    return patches.gather(1, index)


def at_starts(values: Tensor, segmentation: Segmentation) -> Tensor:
    """Take the values at patch starts: (N, T) to (N, P), or (N, T, D) to (N, P, D).

    Unused slots take the value of the last step.
    """
    start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
    if values.ndim == 3:
        start = start[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, start)


def overlap_matrix(
    segmentation: Segmentation, reference: Segmentation, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the share of each reference cell that each patch covers.

    Parameters
    ----------
    segmentation : Segmentation
        Segmentation of N rows into P patches.
    reference : Segmentation
        Reference cells: one row of K cells over the same T steps.
    dtype : torch.dtype, default=torch.float32
        Floating-point type of the shares.

    Returns
    -------
    Tensor of shape (N or 1, K, P)
        Matrices whose rows sum to 1. The matrix is the identity if the patches equal the cells. A
        shared segmentation gives one matrix.
    """
    rows = slice(0, 1) if segmentation.is_shared else slice(None)
    start = segmentation.patch_starts[rows][:, None, :].to(dtype)  # exact: integers
    end = start + segmentation.patch_lengths[rows][:, None, :]
    cell_start = reference.patch_starts[0][:, None].to(dtype)
    cell_length = reference.patch_lengths[0][:, None]
    cell_end = cell_start + cell_length
    overlap = torch.minimum(end, cell_end) - torch.maximum(start, cell_start)
    return overlap.clamp_(min=0).div_(cell_length)
