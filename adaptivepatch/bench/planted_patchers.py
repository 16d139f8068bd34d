"""Patchers for planted tasks only: the true boundaries, and two rules that search for boundaries.

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.distributions import Deterministic, SegmentationDistribution
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError, check_int
from adaptivepatch.patchers.base import Patcher, rate_capacity
from adaptivepatch.segmentation import Segmentation


class _RulePatcher(Patcher):
    """Exactly K = max(1, floor(T / r)) patches, which a rule finds in the values of a row."""

    compression_rate: float

    @abstractmethod
    def boundaries(self, series: Tensor, num_patches: int) -> Tensor:
        """Return a boundary mask (N, T) with K patches in each row."""

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the boundaries that the rule finds, without uncertainty."""
        del observed, group  # planted windows have neither gaps nor groups
        capacity = self.capacity(series.shape[1])
        mask = self.boundaries(series, capacity)
        return Deterministic(Segmentation(mask, capacity=capacity, exact=True))

    def capacity(self, num_steps: int) -> int:
        """Return K, the number of patches of every row."""
        return rate_capacity(self, num_steps, self.compression_rate)


class TruePatcher(_RulePatcher):
    """The true boundaries, which the source of the windows delivers.

    Parameters
    ----------
    compression_rate : float, default=24.0
        Points per patch r.

    Attributes
    ----------
    boundary_mask : Tensor of bool, shape (N, T), or None
        True boundaries of the next batch; the source sets them before it delivers the batch.
    """

    name = "truth"

    def __init__(self, compression_rate: float = 24.0) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.boundary_mask: Tensor | None = None

    def boundaries(self, series: Tensor, num_patches: int) -> Tensor:  # noqa: ARG002
        """Return the true boundaries of the batch."""
        mask = self.boundary_mask
        if mask is None or mask.shape != series.shape:
            shape = None if mask is None else tuple(mask.shape)
            raise AdaptivePatchError(
                "boundary_mask must hold the true boundaries of the batch, which has the shape "
                f"{tuple(series.shape)}. Got the shape {shape}. Set boundary_mask before each "
                "batch.",
                parameter="boundary_mask",
            )
        return mask


class LeastSquaresPatcher(_RulePatcher):
    """The K patches with the least squared error around their means, by dynamic programming.

    Parameters
    ----------
    compression_rate : float, default=24.0
        Points per patch r.
    min_length : int, default=1
        Smallest patch length, in time steps.

    Notes
    -----
    The result is the optimum over all partitions into K patches. Dynamic programming computes
    ``cost[k, j] = min_i cost[k - 1, i] + sse(i, j)``, and then the starts from the last to the
    first. The cost is O(K T^2) per row, in float64.
    """

    name = "change_points"

    def __init__(self, compression_rate: float = 24.0, min_length: int = 1) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.min_length = min_length

    def boundaries(self, series: Tensor, num_patches: int) -> Tensor:
        """Return the best partition of every row."""
        num_steps = series.shape[1]
        check_int(self, min_length=self.min_length)
        if num_patches * self.min_length > num_steps:
            raise InvalidParameterError(
                f"{num_patches} patches of {self.min_length} steps do not fit into a look-back of "
                f"{num_steps} steps. Lower 'min_length'.",
                parameter="min_length",
            )
        starts = _best_starts(_squared_errors(series, self.min_length), num_patches)
        return torch.zeros_like(series, dtype=torch.bool).scatter_(1, starts, value=True)


def _squared_errors(series: Tensor, min_length: int) -> Tensor:
    """Return the squared errors of all patches, shape (N, T + 1, T + 1).

    Entry (j, i) is the error of a patch of the steps i to j - 1, or inf if the patch is too short.
    """
    values = series.double()
    values = values - values.mean(1, keepdim=True)  # keeps the difference of sums precise
    first = F.pad(values.cumsum(1), (1, 0))
    second = F.pad(values.square().cumsum(1), (1, 0))
    step = torch.arange(series.shape[1] + 1, device=series.device)
    length = step[:, None] - step
    barred = torch.zeros_like(length, dtype=torch.float64)
    barred[length < min_length] = torch.inf
    total = first[:, :, None] - first[:, None, :]
    error = total.square_().mul_(-1 / length.clamp(min=1))
    return error.add_(second[:, :, None]).sub_(second[:, None, :]).add_(barred)


def _best_starts(error: Tensor, num_patches: int) -> Tensor:
    """Return the starts (N, K) of the partition with the least total error."""
    best = [error[:, :, 0]]  # least error of the steps before j in 1, 2, ... patches
    for _ in range(num_patches - 1):
        best.append((error + best[-1][:, None, :]).amin(-1))
    row = torch.arange(len(error), device=error.device)
    end = torch.full_like(row, error.shape[1] - 1)
    starts = [torch.zeros_like(end)]
    for before in reversed(best[:-1]):
        end = (error[row, end] + before).argmin(-1)
        starts.append(end)
    return torch.stack(starts, 1)


class TwoWindowPatcher(_RulePatcher):
    """Boundaries at the K - 1 steps where the means before and after differ most.

    Parameters
    ----------
    compression_rate : float, default=24.0
        Points per patch r.
    window : int, default=8
        Number of steps w of each mean, and smallest distance between two boundaries.

    Notes
    -----
    The score of a step is |mean of the w steps from this step on - mean of the w steps before it|,
    with fewer steps at the ends of the look-back. The choice is greedy: the step with the highest
    score is taken and steps nearer than w are dropped, K - 1 times. If no step is left, the step
    with the highest score among those not taken is chosen.
    """

    name = "two_window"

    def __init__(self, compression_rate: float = 24.0, window: int = 8) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.window = window

    def boundaries(self, series: Tensor, num_patches: int) -> Tensor:
        """Return step 0 and the K - 1 highest peaks of the score."""
        check_int(self, window=self.window)
        score = _mean_changes(series, self.window)
        step = torch.arange(series.shape[1], device=series.device)
        mask = (step == 0).repeat(len(series), 1)
        allowed = ~mask
        for _ in range(num_patches - 1):
            rank = allowed + score / (1 + score)  # allowed steps rank before all others
            best = rank.masked_fill(mask, -1).argmax(1)
            mask[torch.arange(len(mask), device=mask.device), best] = True
            allowed &= (step - best[:, None]).abs() >= self.window
        return mask


def _mean_changes(series: Tensor, window: int) -> Tensor:
    """Return |mean after - mean before| of every step, shape (N, T); 0 at the first step."""
    num_steps = series.shape[1]
    sums = F.pad(series.double().cumsum(1), (1, 0))
    step = torch.arange(num_steps, device=series.device)
    before, after = (step - window).clamp(min=0), (step + window).clamp(max=num_steps)
    left = (sums[:, step] - sums[:, before]) / (step - before).clamp(min=1)
    right = (sums[:, after] - sums[:, step]) / (after - step)
    return (right - left).abs().masked_fill(step == 0, 0.0)
