"""Random boundaries at an exact budget: the control that a learned patcher is compared with."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.errors import check_int
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.patchers.base import Patcher, rate_capacity
from adaptivepatch.segmentation import Segmentation

_MIX = 0x9E3779B1  # odd, so that multiplication modulo 2**32 is a bijection
_MASK = 0xFFFFFFFF


class RandomPatcher(Patcher):
    """Cut at uniformly random steps, into exactly K patches.

    Use it as the control at equal budget: a learned patcher that is no better than this one has
    learnt nothing about *where* to cut.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; gives exactly K = max(1, floor(T / r)) patches.
    seed : int, default=0
        Seed of the boundaries used in prediction.

    Raises
    ------
    InvalidParameterError
        If a value is out of range. The parameters are checked when the patcher is used.

    Notes
    -----
    Training draws a new uniform subset of K - 1 of the steps 1 to T - 1 for every row. Prediction
    must be deterministic and independent of the other rows of a batch, so it takes the steps with
    the highest integer hash of (seed, step, bits of the float32 value): different rows get
    unrelated boundaries, and equal rows get the same ones.

    This patcher is original to this package and has no published source.

    Examples
    --------
    >>> import torch
    >>> RandomPatcher(4)(torch.randn(2, 12)).mode.num_patches.tolist()
    [3, 3]
    """

    name = "random"
    stochastic = True
    decides: ClassVar[str] = "chance, drawn again in every training step (a control)"
    rate_kept: ClassVar[str] = "exact"
    cost: ClassVar[str] = "none"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = "not causal"

    def __init__(self, compression_rate: float = 16.0, seed: int = 0) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.seed = seed

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the uniform distribution over sets of exactly K starts."""
        check_int(self, low=0, seed=self.seed)
        return _UniformSubsets(series, group, self.capacity(series.shape[1]), self.seed)

    def capacity(self, num_steps: int) -> int:
        """Return K, which is the same for every row."""
        return rate_capacity(self, num_steps, self.compression_rate)


class _UniformSubsets(SegmentationDistribution):
    """Uniform distribution over the sets of K starts that contain step 0."""

    def __init__(self, series: Tensor, group: Tensor | None, capacity: int, seed: int) -> None:
        self.series, self.group, self.num_patches, self.seed = series, group, capacity, seed
        num_steps = series.shape[1]
        rate = (capacity - 1) / max(1, num_steps - 1)
        self.boundary_prob = torch.full_like(series, rate)
        self.boundary_prob[:, 0] = 1.0

    @property
    def mode(self) -> Segmentation:
        """One segmentation per row, which depends only on the row's values and the seed."""
        bits = self.series.float().contiguous().view(torch.int32).long() & _MASK
        step = torch.arange(bits.shape[1], device=bits.device)
        mixed = bits ^ ((step + 1) * _MIX + (self.seed * 0x85EBCA6B & _MASK) & _MASK)
        for shift in (16, 13, 16):
            mixed = ((mixed ^ (mixed >> shift)) * _MIX) & _MASK
        return Segmentation.from_scores(
            mean_in_groups(mixed.double(), self.group), self.num_patches
        )

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw subsets; the rows of a group share one subset."""
        num_rows, num_steps = self.series.shape
        scores = torch.rand(
            num_samples, num_rows, num_steps, device=self.series.device, generator=generator
        )
        if self.group is not None:
            first = self.group.unique(return_inverse=True)[1]
            scores = scores[:, first]
        chosen = Segmentation.from_scores(scores.flatten(0, 1), self.num_patches)
        return Rollout(chosen, action=chosen.boundary_mask)
