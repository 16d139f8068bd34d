"""Dropout that draws eight masks from one random word on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero values with probability `p` in training, scale the others to keep the mean.

    Parameters
    ----------
    p : float
        Probability of zeroing, in [0, 1). On a CPU it is rounded to a multiple of 1/256, at most
        255/256, and the scale follows the rounded value, so the mean stays exact.

    Notes
    -----
    On a CPU one random 64-bit word decides eight values, from torch's global generator
    (``benchmarks/dropout.py`` measures what that saves). Other devices use torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.p)
        dropped = min(255, round(256 * self.p))
        words = torch.empty((values.numel() + 7) // 8, dtype=torch.int64)
        bytes_ = words.random_(-(2**63), None).view(torch.uint8)[: values.numel()]
        mask = (bytes_ >= dropped).to(values.dtype).mul_(256 / (256 - dropped))
        return values * mask.view(values.shape)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"
