"""Encoder layers and positions of the backbones.

Tensor suffixes: N rows, P patches, D width, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.attention import attend, in_chunks
from adaptivepatch.nn.layers.dropout import Dropout
from adaptivepatch.nn.layers.feed_forward import FeedForward
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.segmentation import Segmentation

QueriesKeys = tuple[Tensor, Tensor]
"""Concatenated queries and keys of all layers so far, each of shape (N h, layers * D/h, P)."""


class ReferencePositions(nn.Module):
    """Learned position of a patch start, interpolated between the reference patches.

    Parameters
    ----------
    reference : Segmentation
        Reference segmentation: one row of K patches. There is one learned vector for each patch.
    d_model : int
        Width D.
    span : float, default=0.02
        Bound of the initial values, which are uniform in [-span, span].
    """

    def __init__(self, reference: Segmentation, d_model: int, span: float = 0.02) -> None:
        super().__init__()
        self.register_buffer("starts", reference.patch_starts[0].clone(), persistent=False)
        self.table = nn.Parameter(torch.empty(reference.capacity, d_model).uniform_(-span, span))

    def forward(self, start_time: Tensor) -> Tensor:
        """Return the positions (N or 1, P, D) of patches that start at steps (N or 1, P)."""
        starts = self.get_buffer("starts")
        last = len(starts) - 1
        left = (torch.searchsorted(starts, start_time.contiguous(), right=True) - 1).clamp(max=last)
        right = (left + 1).clamp(max=last)
        gap = (starts[right] - starts[left]).clamp(min=1)
        share = ((start_time - starts[left]).to(self.table.dtype) / gap).clamp(max=1)
        share = torch.where(right == left, torch.zeros_like(share), share)
        return self.table[left].lerp(self.table[right], share[..., None])


class ResidualAttentionLayer(nn.Module):
    """Post-norm encoder layer with BatchNorm and residual attention, as published for PatchTST.

    Parameters
    ----------
    d_model, num_heads, d_ff : int
        Width D, number of heads and feed-forward width.
    dropout : float
        Dropout probability inside the feed-forward block and on both residual branches. The
        published layer applies dropout to the attention branch twice; here it is applied once,
        with the equivalent probability ``1 - (1 - dropout)**2``.

    Notes
    -----
    The scores of all previous layers are added before the softmax (RealFormer, arXiv:2012.11747).
    The sum equals the product of the concatenated queries and keys. BatchNorm statistics are taken
    over all real tokens of a batch. If training runs on several CPU processes, each process has its
    own statistics.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        self.attention_dropout = Dropout(1 - (1 - dropout) ** 2)
        self.attention_norm = TokenBatchNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_dropout = Dropout(dropout)
        self.feed_forward_norm = TokenBatchNorm(d_model)

    def forward(
        self, tokens: Tensor, mask: Tensor | None, earlier: QueriesKeys | None
    ) -> tuple[Tensor, QueriesKeys]:
        """Return the next tokens (N, P, D), and the queries and keys up to this layer."""
        attended, queries_keys = self._attend(tokens, mask, earlier)
        tokens = self.attention_norm(tokens + self.attention_dropout(attended), mask)
        forward = self.feed_forward_dropout(self.feed_forward(tokens))
        return self.feed_forward_norm(tokens + forward, mask), queries_keys

    def _attend(
        self, tokens: Tensor, mask: Tensor | None, earlier: QueriesKeys | None
    ) -> tuple[Tensor, QueriesKeys]:
        num_rows, num_patches, width = tokens.shape
        query, key, value = _heads(self.qkv(tokens), self.num_heads)
        if earlier is not None:  # a sum of products is the product of the concatenations
            query, key = (torch.cat(pair, 1) for pair in zip(earlier, (query, key), strict=True))
        if mask is not None:
            mask = mask.repeat_interleave(self.num_heads, dim=0)
        mixed = attend(query, key, value, mask).view(num_rows, width, num_patches)
        return self.out(mixed.transpose(1, 2)), (query, key)


def _heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split (N, P, 3D) into scaled queries, keys and values, each (N h, D/h, P)."""
    num_rows, num_patches, width = qkv.shape
    head_width = width // 3 // num_heads
    parts = qkv.view(num_rows, num_patches, 3, num_heads, head_width).permute(2, 0, 3, 4, 1)
    query, key, value = parts.flatten(1, 2).unbind(0)
    return query * head_width**-0.5, key, value


class TokenBatchNorm(nn.Module):
    """BatchNorm over the real tokens of a batch.

    A batch with a single real token has no variance, so it is normalised by the running statistics.

    Parameters
    ----------
    d_model : int
        Width D.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise (N, P, D); the result is 0 where `mask` (N, P) is False."""
        if mask is None:
            return self._normalise(tokens.flatten(0, 1)).view(tokens.shape)
        result = torch.zeros_like(tokens)
        result[mask] = self._normalise(tokens[mask])
        return result

    def _normalise(self, tokens: Tensor) -> Tensor:
        norm = self.norm
        if self.training and len(tokens) == 1:  # torch refuses it: one token has no variance
            return F.batch_norm(
                tokens, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return norm(tokens)


class PreNormLayer(nn.Module):
    """Pre-norm encoder layer with LayerNorm and scaled dot-product attention.

    Parameters
    ----------
    d_model, num_heads, d_ff : int
        Width D, number of heads and feed-forward width.
    dropout : float
        Dropout probability on both residual branches and inside the feed-forward block.
    causal : bool, default=False
        Whether a token attends only to itself and to the tokens before it.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float, causal: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.causal = causal
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens (N, P, D) to tokens (N, P, D); `mask` (N, P) is False at padding."""
        num_rows, num_patches, width = tokens.shape
        query, key, value = _heads(self.qkv(self.attention_norm(tokens)), self.num_heads)
        if in_chunks(value) and not self.causal:
            allowed = None if mask is None else mask.repeat_interleave(self.num_heads, dim=0)
            mixed = attend(query, key, value, allowed).view(num_rows, width, num_patches)
        else:
            shape = (num_rows, self.num_heads, -1, num_patches)
            query, key, value = (t.view(shape).mT for t in (query, key, value))
            allowed = None if mask is None else mask[:, None, None, :]
            if self.causal:  # padding is at the end, so every token can attend to a real one
                square = (num_patches, num_patches)
                causal = torch.ones(square, dtype=torch.bool, device=tokens.device).tril()
                allowed = causal if allowed is None else allowed & causal
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=allowed, scale=1.0
            ).mT.reshape(num_rows, width, num_patches)
        tokens = tokens + self.dropout(self.out(mixed.mT))
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
