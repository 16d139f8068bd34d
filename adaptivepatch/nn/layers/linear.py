"""A linear layer that rounds the same wherever a row stands in its batch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_ALIGNED = 8  # values; 64 bytes in float64, 32 in float32
_FEWEST = 16


class Linear(nn.Linear):
    """`torch.nn.Linear`, with zeros added to odd sizes in eval mode.

    Notes
    -----
    A CPU's matrix product picks its kernel by the size of the result and by the address of a row,
    so that equal rows at different places of a batch differ in the last bit. Measured (MKL
    2024.2, AVX-512): in float32 that happens with less than 12 outputs and a number of inputs
    that is no multiple of 4, and with a single output; in float64 with any odd number of inputs.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        more_in = -self.in_features % _ALIGNED
        more_out = max(0, _FEWEST - self.out_features)
        if self.training or not (more_in or more_out):
            return super().forward(values)
        weight = F.pad(self.weight, (0, more_in, 0, more_out))
        bias = None if self.bias is None else F.pad(self.bias, (0, more_out))
        result = F.linear(F.pad(values, (0, more_in)), weight, bias)
        return result[..., : self.out_features]
