"""Attention with few, narrow heads, computed in chunks that fit the cache of a CPU.

Tensor suffixes: B rows times heads, P tokens, E width of queries and keys, V width of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_VALUES = 2**17  # scores per chunk; 512 KiB in float32

# Products of a narrow and a wide matrix take the narrow one first: in MKL, (V, P) by (P, P) takes a
# quarter of the time of (P, P) by (P, V).


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average values, weighted by the softmax of the query-key products over keys.

    Parameters
    ----------
    query, key : Tensor of shape (B, E, P)
        Scaled queries, and keys. Tokens are the last dimension.
    value : Tensor of shape (B, V, P)
        Values. Tokens are the last dimension.
    mask : Tensor of bool, shape (B, P), optional
        True at keys to attend to, at least one per row. Default: all keys.

    Returns
    -------
    Tensor of shape (B, V, P)

    Notes
    -----
    On a CPU, both the forward and the backward pass work on chunks of rows that fit the cache, and
    the backward pass computes the scores again (``docs/decisions/006-attention.md``).
    """
    if in_chunks(value):
        mixed: Tensor = _ChunkedAttention.apply(  # type: ignore[no-untyped-call]
            query, key, value, mask
        )
        return mixed
    scores = torch.bmm(query.mT, key)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
    return torch.bmm(value, scores.softmax(-1).mT.to(value.dtype))


def in_chunks(values: Tensor) -> bool:
    """Tell whether to work in chunks of cache size, which is done on a CPU without autocast."""
    return values.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _ChunkedAttention(torch.autograd.Function):
    """`attend` with an explicit backward pass.

    Let s be the scores, w their softmax over keys, o the result and g the gradient of o. The
    gradient of w is g v, and the gradient of s is w (g v - g o).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = torch.empty_like(value)
        for q, k, v, m, o in _chunks(query, key, value, mask, out):
            torch.bmm(v, _weights(q, k, m).mT, out=o)
        ctx.save_for_backward(query, key, value, mask, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, out = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        grad_dot_out = (grad * out).sum(1)[..., None]
        gradients = [torch.empty_like(t) for t in (query, key, value)]
        for q, k, v, g, g_o, m, grad_q, grad_k, grad_v in _chunks(
            query, key, value, grad, grad_dot_out, mask, *gradients
        ):
            weights = _weights(q, k, m)
            torch.bmm(g, weights, out=grad_v)
            weights.mul_(torch.bmm(g.mT, v).sub_(g_o))
            torch.bmm(k, weights.mT, out=grad_q)
            torch.bmm(q, weights, out=grad_k)
        return (*gradients, None)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax of the scores over keys, shape (B, P, P)."""
    scores = torch.bmm(query.mT, key)
    if mask is not None:
        scores.masked_fill_(~mask[:, None, :], -torch.inf)
    if scores.shape[-1] >= 16:
        return scores.softmax(-1)
    # `softmax` is slow on rows shorter than a vector register: with 7 keys it takes 1.4 times as
    # long as the lines below.
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


def _chunks(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Split tensors along their common first dimension; the first has shape (B, E, P)."""
    first = tensors[0]
    assert first is not None
    size = max(1, _CHUNK_VALUES // first.shape[-1] ** 2)
    parts = [repeat(None) if t is None else t.split(size) for t in tensors]
    return zip(*parts, strict=False)
