"""Attention of few, narrow heads, whose scores stay in a CPU's cache.

Tensor suffixes: B rows times heads, P tokens, E width of queries and keys, V width of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_VALUES = 2**17  # scores worked on at a time; 512 KiB in float32


# Products of a short and a long matrix are written with the short one first: (V, P) by (P, P)
# costs MKL a quarter of (P, P) by (P, V).


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mix values by the softmax over keys of the products of queries and keys.

    Parameters
    ----------
    query, key : Tensor of shape (B, E, P)
        Tokens last. Queries are already scaled.
    value : Tensor of shape (B, V, P)
        Tokens last.
    mask : Tensor of bool, shape (B, P), optional
        Keys to attend to; at least one a row.

    Returns
    -------
    Tensor of shape (B, V, P)

    Notes
    -----
    On a CPU it works through the rows in chunks that fit its cache, forward and backward, and
    computes scores twice instead of storing them (``docs/decisions/006-attention.md``).
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
    """Whether to work in chunks of cache size: on a CPU, without autocast."""
    return values.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _ChunkedAttention(torch.autograd.Function):
    """`attend` with its backward written out.

    With s the scores, w their softmax over keys, o the result and g its gradient: the gradient of w
    is g v, that of s is w (g v - g o).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = torch.empty_like(value)
        for q, k, v, seen, o in _chunks(query, key, value, mask, out):
            torch.bmm(v, _weights(q, k, seen).mT, out=o)
        ctx.save_for_backward(query, key, value, mask, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, out = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        along = (grad * out).sum(1)[..., None]
        gradients = [torch.empty_like(t) for t in (query, key, value)]
        for q, k, v, g, a, seen, grad_q, grad_k, grad_v in _chunks(
            query, key, value, grad, along, mask, *gradients
        ):
            weights = _weights(q, k, seen)
            torch.bmm(g, weights, out=grad_v)
            weights.mul_(torch.bmm(g.mT, v).sub_(a))
            torch.bmm(k, weights.mT, out=grad_q)
            torch.bmm(q, weights, out=grad_k)
        return (*gradients, None)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax over keys of the scores, (B, P, P)."""
    scores = torch.bmm(query.mT, key)
    if mask is not None:
        scores.masked_fill_(~mask[:, None, :], -torch.inf)
    if scores.shape[-1] >= 16:
        return scores.softmax(-1)
    # Rows shorter than the vectors of `softmax`, which for 7 keys takes 1.4 times this.
    scores.sub_(scores.amax(-1, keepdim=True)).exp_()
    return scores.div_(scores.sum(-1, keepdim=True))


def _chunks(*tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Cut tensors of equal first dimension; the first is (B, E, P)."""
    first = tensors[0]
    assert first is not None
    size = max(1, _CHUNK_VALUES // first.shape[-1] ** 2)
    parts = [repeat(None) if t is None else t.split(size) for t in tensors]
    return zip(*parts, strict=False)
