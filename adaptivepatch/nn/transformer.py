"""Encoder layers and positions shared by the backbones.

Tensor suffixes: N rows, P patches, D width, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.dropout import Dropout
from adaptivepatch.nn.linear import Linear
from adaptivepatch.segmentation import Segmentation


class ReferencePositions(nn.Module):
    """Learned position of a patch start, interpolated between the reference patches.

    Parameters
    ----------
    reference : Segmentation
        One row of K patches; each has one learned vector.
    d_model : int
        Width D.
    span : float, default=0.02
        Vectors are initialised uniformly in [-span, span].
    """

    def __init__(self, reference: Segmentation, d_model: int, span: float = 0.02) -> None:
        super().__init__()
        self.register_buffer("starts", reference.patch_starts[0].clone(), persistent=False)
        self.table = nn.Parameter(torch.empty(reference.capacity, d_model).uniform_(-span, span))

    def forward(self, start_time: Tensor) -> Tensor:
        """Return positions (N or 1, P, D) of patches starting at steps (N or 1, P)."""
        starts = self.get_buffer("starts")
        last = len(starts) - 1
        left = (torch.searchsorted(starts, start_time.contiguous(), right=True) - 1).clamp(max=last)
        right = (left + 1).clamp(max=last)
        gap = (starts[right] - starts[left]).clamp(min=1)
        share = ((start_time - starts[left]).to(self.table.dtype) / gap).clamp(max=1)
        share = torch.where(right == left, torch.zeros_like(share), share)
        return self.table[left].lerp(self.table[right], share[..., None])


class ResidualAttentionLayer(nn.Module):
    """Post-norm encoder layer with BatchNorm and residual attention, as PatchTST publishes it.

    Parameters
    ----------
    d_model, num_heads, d_ff : int
        Width, heads and feed-forward width.
    dropout : float
        Probability inside the feed-forward block and on both residual branches. The published
        layer drops the attention branch twice; here once, with the equivalent probability
        ``1 - (1 - dropout)**2``.

    Notes
    -----
    Attention scores of the previous layer are added before the softmax (RealFormer,
    arXiv:2012.11747). BatchNorm statistics are over all real tokens of a batch; with several
    CPU processes each has its own.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        self.attention_dropout = Dropout(1 - (1 - dropout) ** 2)
        self.attention_norm = TokenBatchNorm(d_model)
        self.feed_forward = nn.Sequential(
            Linear(d_model, d_ff), nn.GELU(), Dropout(dropout), Linear(d_ff, d_model)
        )
        self.feed_forward_dropout = Dropout(dropout)
        self.feed_forward_norm = TokenBatchNorm(d_model)

    def forward(
        self, tokens: Tensor, mask: Tensor | None, scores: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Map tokens (N, P, D) and the previous scores (N * h, P, P) to the next of both."""
        attended, scores = self._attend(tokens, mask, scores)
        tokens = self.attention_norm(tokens + self.attention_dropout(attended), mask)
        forward = self.feed_forward_dropout(self.feed_forward(tokens))
        return self.feed_forward_norm(tokens + forward, mask), scores

    def _attend(
        self, tokens: Tensor, mask: Tensor | None, previous: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        num_rows, num_patches, width = tokens.shape
        head = width // self.num_heads
        # (N, P, 3D) -> 3 x (N h, P, D/h)
        query, key, value = (
            self.qkv(tokens)
            .view(num_rows, num_patches, 3, self.num_heads, head)
            .permute(2, 0, 3, 1, 4)
            .flatten(1, 2)
            .unbind(0)
        )
        query = query * head**-0.5
        transposed = key.transpose(1, 2)
        scores = (
            torch.bmm(query, transposed)
            if previous is None
            else torch.baddbmm(previous, query, transposed)
        )
        masked = scores
        if mask is not None:
            hidden = ~mask.repeat_interleave(self.num_heads, dim=0)[:, None, :]
            masked = scores.masked_fill(hidden, -torch.inf)
        mixed = torch.bmm(masked.softmax(-1), value)
        mixed = mixed.view(num_rows, self.num_heads, num_patches, head).transpose(1, 2).flatten(2)
        return self.out(mixed), scores


class TokenBatchNorm(nn.Module):
    """BatchNorm over the real tokens of a batch; a single token uses the running statistics.

    Parameters
    ----------
    d_model : int
        Width D.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise (N, P, D); where `mask` (N, P) is False the result is 0."""
        if mask is None:
            return self._normalise(tokens.flatten(0, 1)).view(tokens.shape)
        result = torch.zeros_like(tokens)
        result[mask] = self._normalise(tokens[mask])
        return result

    def _normalise(self, tokens: Tensor) -> Tensor:
        norm = self.norm
        if self.training and len(tokens) == 1:  # no variance: torch refuses it
            return F.batch_norm(
                tokens, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return norm(tokens)


class PreNormLayer(nn.Module):
    """Pre-norm encoder layer with LayerNorm and scaled dot-product attention.

    Parameters
    ----------
    d_model, num_heads, d_ff : int
        Width, heads and feed-forward width.
    dropout : float
        Probability on both residual branches and inside the feed-forward block.
    """

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = Linear(d_model, 3 * d_model)
        self.out = Linear(d_model, d_model)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            Linear(d_model, d_ff), nn.GELU(), Dropout(dropout), Linear(d_ff, d_model)
        )
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map tokens (N, P, D) to the next."""
        num_rows, num_patches, width = tokens.shape
        query, key, value = (
            self.qkv(self.attention_norm(tokens))
            .view(num_rows, num_patches, 3, self.num_heads, width // self.num_heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        tokens = tokens + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
