"""Feed-forward block of an encoder layer, computed in chunks that fit the cache of a CPU.

Tensor suffixes: M tokens, D width, F feed-forward width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from adaptivepatch.nn.layers.attention import in_chunks
from adaptivepatch.nn.layers.dropout import Dropout, random_bytes, scaled_mask
from adaptivepatch.nn.layers.linear import Linear

_CHUNK_VALUES = 2**17  # hidden values per chunk; 512 KiB in float32


class FeedForward(nn.Sequential):
    """Sequence of a linear layer, GELU, dropout and a second linear layer.

    Parameters
    ----------
    d_model, d_ff : int
        Width D of the tokens and width F of the hidden layer.
    dropout : float
        Dropout probability of the hidden layer.

    Notes
    -----
    In training on a CPU, both passes work on chunks of tokens that fit the cache, and the backward
    pass computes the hidden layer again (``docs/decisions/006-attention.md``).
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__(Linear(d_model, d_ff), nn.GELU(), Dropout(dropout), Linear(d_ff, d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        wide, activation, dropout, narrow = self
        if not (self.training and in_chunks(tokens)):
            middle = wide(tokens)
            # In place if no gradient needs the inputs: allocating memory takes longer than GELU
            # itself.
            middle = activation(middle) if middle.requires_grad else torch.ops.aten.gelu_(middle)
            result: Tensor = narrow(dropout(middle))
            return result
        flat = tokens.reshape(-1, tokens.shape[-1])
        mixed: Tensor = _ChunkedFeedForward.apply(  # type: ignore[no-untyped-call]
            flat, wide.weight, wide.bias, narrow.weight, narrow.bias, dropout.p
        )
        return mixed.view(tokens.shape)


class _ChunkedFeedForward(torch.autograd.Function):
    """`FeedForward` with an explicit backward pass, which reuses the random bytes of dropout."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        wide: Tensor,
        wide_bias: Tensor,
        narrow: Tensor,
        narrow_bias: Tensor,
        p: float,
    ) -> Tensor:
        random = random_bytes(len(tokens) * len(wide)).view(-1, len(wide)) if p else None
        out = torch.empty_like(tokens)
        for chunk in _chunks(tokens, wide):
            middle = F.gelu(torch.addmm(wide_bias, tokens[chunk], wide.T))
            if random is not None:
                middle.mul_(scaled_mask(random[chunk], p, middle.dtype))
            torch.addmm(narrow_bias, middle, narrow.T, out=out[chunk])
        ctx.save_for_backward(tokens, wide, wide_bias, narrow, random)
        ctx.p = p
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        tokens, wide, wide_bias, narrow, random = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        grad_tokens = torch.empty_like(tokens)
        grad_wide, grad_bias = torch.zeros_like(wide), torch.zeros_like(wide_bias)
        grad_narrow = torch.zeros_like(narrow)
        for chunk in _chunks(tokens, wide):
            before = torch.addmm(wide_bias, tokens[chunk], wide.T)
            middle, grad_middle = F.gelu(before), grad[chunk] @ narrow
            if random is not None:
                mask = scaled_mask(random[chunk], ctx.p, middle.dtype)
                middle.mul_(mask)
                grad_middle.mul_(mask)
            grad_narrow.addmm_(grad[chunk].T, middle)
            grad_before = torch.ops.aten.gelu_backward(grad_middle, before)
            grad_wide.addmm_(grad_before.T, tokens[chunk])
            grad_bias += grad_before.sum(0)
            torch.mm(grad_before, wide, out=grad_tokens[chunk])
        return grad_tokens, grad_wide, grad_bias, grad_narrow, grad.sum(0), None


def _chunks(tokens: Tensor, wide: Tensor) -> list[slice]:
    size = max(1, _CHUNK_VALUES // len(wide))
    return [slice(start, start + size) for start in range(0, len(tokens), size)]
