"""Linear layer whose rounding does not depend on a row's position in the batch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_INPUT_MULTIPLE = 8  # inputs; 64 bytes in float64, 32 in float32
_MIN_OUTPUTS = 16


class Linear(nn.Linear):
    """`torch.nn.Linear` that in eval mode pads inputs and outputs of unsuitable sizes with zeros.

    Notes
    -----
    On a CPU the kernel of a matrix product depends on the size of the result and on the address of
    a row, so equal rows at different positions of a batch can differ in the last bit. With MKL
    2024.2 and AVX-512 this was measured in float32 with a single output, in float32 with fewer than
    12 outputs and a number of inputs that is not a multiple of 4, and in float64 with any odd
    number of inputs.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        more_in = -self.in_features % _INPUT_MULTIPLE
        more_out = max(0, _MIN_OUTPUTS - self.out_features)
        if self.training or not (more_in or more_out):
            return super().forward(values)
        weight = F.pad(self.weight, (0, more_in, 0, more_out))
        bias = None if self.bias is None else F.pad(self.bias, (0, more_out))
        result = F.linear(F.pad(values, (0, more_in)), weight, bias)
        return result[..., : self.out_features]
