"""Patches that grow geometrically into the past: fine at the forecast origin, coarse far back.

One partition does what log-sparse multi-scale inputs (arXiv:2407.15869) do with one context per
scale.
"""

from __future__ import annotations

from adaptivepatch.errors import check_int
from adaptivepatch.nn.policies.candidates import recency_starts
from adaptivepatch.patchers.base import StaticPatcher, rate_capacity


class RecencyPatcher(StaticPatcher):
    """Static patches whose lengths grow by a constant factor into the past.

    Use it for long look-backs at few tokens, and as the control that a learned patcher must beat.

    Parameters
    ----------
    compression_rate : float, default=64.0
        Points per patch r; gives exactly K = max(1, floor(T / r)) patches.
    shortest : int, default=16
        Length of the newest patch, in time steps. Where K patches of this length would not fit
        into T, all patches are T / K long.

    Raises
    ------
    InvalidParameterError
        When used, if a value is out of range.

    Notes
    -----
    Lengths are ``shortest * q**k`` for k = 0 (newest) to K - 1, with q >= 1 solving
    sum = T, and cumulative sums rounded to whole steps. With T = 1344, K = 21 and shortest = 16
    they run 16, 18, 20, ..., 143, 161. Own construction of this package.

    Examples
    --------
    >>> import torch
    >>> RecencyPatcher(compression_rate=12, shortest=4)(torch.zeros(1, 60)).mode.patch_lengths
    tensor([[24, 16, 10,  6,  4]])
    """

    name = "recency"

    def __init__(self, compression_rate: float = 64.0, shortest: int = 16) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.shortest = shortest

    def starts(self, num_steps: int) -> list[int]:
        """Return the steps that start a patch."""
        check_int(self, shortest=self.shortest)
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        return recency_starts(num_steps, num_patches, self.shortest)

    def nominal_length(self, num_steps: int) -> int:
        """Return the length of the newest patch."""
        starts = self.starts(num_steps)
        return num_steps - starts[-1]
