"""Dropout that, on a CPU, draws the mask of eight values from one random word."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Zero values with probability `p` in training, and scale the others to keep the mean.

    Parameters
    ----------
    p : float
        Probability of zeroing, in [0, 1). On a CPU it is rounded to a multiple of 1/256, at most
        255/256. The scale uses the rounded value, so that the mean stays exact.

    Notes
    -----
    On a CPU, one random 64-bit word of torch's global generator serves eight values
    (``benchmarks/dropout.py`` measures the time saved). Other devices use torch's own dropout.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return F.dropout(values, self.p)
        mask = scaled_mask(random_bytes(values.numel()), self.p, values.dtype)
        return values * mask.view(values.shape)

    def extra_repr(self) -> str:
        """Return the probability, for `repr`."""
        return f"p={self.p}"


def random_bytes(count: int) -> Tensor:
    """Draw uniform bytes from torch's global CPU generator."""
    words = torch.empty((count + 7) // 8, dtype=torch.int64)
    return words.random_(-(2**63), None).view(torch.uint8)[:count]


def scaled_mask(bytes_: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """Map uniform bytes to 0 with probability `p`, rounded to 1/256, else to 1 / (1 - p)."""
    dropped = min(255, round(256 * p))
    # A comparison in the floating-point type is several times as fast as a comparison of bytes.
    return bytes_.to(dtype).ge_(dropped).mul_(256 / (256 - dropped))
