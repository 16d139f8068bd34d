"""Patches that grow geometrically into the past: short near the forecast origin, long far back.

Log-sparse multi-scale inputs (arXiv:2407.15869) have one context per scale; here, a single
partition of the look-back replaces them.
"""

from __future__ import annotations

from typing import ClassVar

from adaptivepatch.errors import check_int
from adaptivepatch.nn.policies.candidates import recency_starts
from adaptivepatch.patchers.base import StaticPatcher, rate_capacity


class RecencyPatcher(StaticPatcher):
    """Cut every look-back into patches whose lengths grow by a constant factor into the past.

    Use it for long look-backs with few tokens, and as the control that a learned patcher must beat.

    Parameters
    ----------
    compression_rate : float, default=64.0
        Points per patch r; gives exactly K = max(1, floor(T / r)) patches.
    shortest : int, default=16
        Length of the newest patch, in time steps. If K patches of this length do not fit into T,
        all patches have the length T / K.

    Raises
    ------
    InvalidParameterError
        If a value is out of range. The parameters are checked when the patcher is used.

    Notes
    -----
    Lengths are ``shortest * q**k`` for k = 0 (newest) to K - 1, where q >= 1 makes them sum to T;
    cumulative sums are rounded to whole steps. With T = 1344, K = 21 and shortest = 16, the lengths
    are 16, 18, 20, ..., 143, 161.

    This patcher is original to this package. Deviation from log-sparse multi-scale inputs
    (arXiv:2407.15869): one partition of the look-back replaces one context per scale.

    Examples
    --------
    >>> import torch
    >>> RecencyPatcher(compression_rate=12, shortest=4)(torch.zeros(1, 60)).mode.patch_lengths
    tensor([[24, 16, 10,  6,  4]])
    """

    name = "recency"
    decides: ClassVar[str] = "time to the forecast origin: lengths grow into the past"
    rate_kept: ClassVar[str] = "exact"
    cost: ClassVar[str] = "none"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = "static"

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
