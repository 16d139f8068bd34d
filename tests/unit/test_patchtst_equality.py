"""Our fixed patching is PatchTST: same forecasts and gradients as a direct implementation.

The reference below is written from the paper and its published configuration (pad and unfold,
projection of raw points, learned positions, BatchNorm post-norm encoder with residual attention,
flatten head, RevIN without affine map), with separate query, key and value projections and einsum
attention. It shares no code with the package.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.network import build_network
from adaptivepatch.patchers.fixed import FixedPatcher

TOLERANCE = 1e-10
D, HEADS, D_FF, LAYERS, HORIZON = 16, 4, 32, 3, 24


class DirectLayer(nn.Module):
    """Post-norm encoder layer; scores of the previous layer are added before the softmax."""

    def __init__(self):
        super().__init__()
        self.w_q, self.w_k, self.w_v = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D)
        self.w_o = nn.Linear(D, D)
        self.norm_attention, self.norm_ffn = nn.BatchNorm1d(D), nn.BatchNorm1d(D)
        self.ff_in, self.ff_out = nn.Linear(D, D_FF), nn.Linear(D_FF, D)

    def forward(self, x, previous):
        def heads(y):
            return y.reshape(*y.shape[:2], HEADS, D // HEADS)

        q, k, v = heads(self.w_q(x)), heads(self.w_k(x)), heads(self.w_v(x))
        scores = torch.einsum("nihd,njhd->nhij", q, k) / (D // HEADS) ** 0.5
        if previous is not None:
            scores = scores + previous
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        weights = weights / weights.sum(-1, keepdim=True)
        mixed = torch.einsum("nhij,njhd->nihd", weights, v).reshape(x.shape)
        x = x + self.w_o(mixed)
        x = self.norm_attention(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.ff_out(nn.functional.gelu(self.ff_in(x)))
        return self.norm_ffn(x.transpose(1, 2)).transpose(1, 2), scores


class DirectPatchTST(nn.Module):
    """PatchTST without dropout, one univariate series a row."""

    def __init__(self, context_length, patch_length, stride, pad_end):
        super().__init__()
        self.patch_length, self.stride, self.pad_end = patch_length, stride, pad_end
        padded = context_length + (stride if pad_end else 0)
        self.num_tokens = (padded - patch_length) // stride + 1
        self.w_p = nn.Linear(patch_length, D)
        self.positions = nn.Parameter(torch.zeros(self.num_tokens, D))
        self.layers = nn.ModuleList(DirectLayer() for _ in range(LAYERS))
        self.head = nn.Linear(self.num_tokens * D, HORIZON)

    def forward(self, series):
        mean = series.mean(1, keepdim=True)
        std = torch.sqrt(series.var(1, keepdim=True, unbiased=False) + 1e-5)
        x = (series - mean) / std
        if self.pad_end:
            x = nn.ReplicationPad1d((0, self.stride))(x)
        x = self.w_p(x.unfold(-1, self.patch_length, self.stride)) + self.positions
        scores = None
        for layer in self.layers:
            x, scores = layer(x, scores)
        return self.head(x.flatten(1)) * std + mean


def paired(direct, ours):
    """Pairs (parameters of the direct implementation stacked as ours, our parameter)."""
    pairs = [
        ([direct.w_p.weight], ours.embedding.projection.weight),
        ([direct.w_p.bias], ours.embedding.projection.bias),
        ([direct.positions], ours.backbone.positions.table),
        ([direct.head.weight], ours.head.projection.weight),
        ([direct.head.bias], ours.head.projection.bias),
    ]
    for theirs, mine in zip(direct.layers, ours.backbone.layers, strict=True):
        for kind in ("weight", "bias"):
            pairs += [
                (
                    [getattr(w, kind) for w in (theirs.w_q, theirs.w_k, theirs.w_v)],
                    getattr(mine.qkv, kind),
                ),
                ([getattr(theirs.w_o, kind)], getattr(mine.out, kind)),
                ([getattr(theirs.norm_attention, kind)], getattr(mine.attention_norm.norm, kind)),
                ([getattr(theirs.norm_ffn, kind)], getattr(mine.feed_forward_norm.norm, kind)),
                ([getattr(theirs.ff_in, kind)], getattr(mine.feed_forward[0], kind)),
                ([getattr(theirs.ff_out, kind)], getattr(mine.feed_forward[3], kind)),
            ]
    return pairs


def make_pair(context_length, patch_length, stride, pad_end):
    torch.manual_seed(context_length + stride)
    direct = DirectPatchTST(context_length, patch_length, stride, pad_end).double()
    ours = build_network(
        FixedPatcher(patch_length, stride),
        PatchTSTBackbone(d_model=D, num_layers=LAYERS, num_heads=HEADS, d_ff=D_FF, dropout=0.0),
        context_length=context_length,
        horizon=HORIZON,
    ).double()
    with torch.no_grad():
        for parameter in direct.parameters():  # away from BatchNorm's ones and zeros
            parameter.add_(0.1 * torch.randn_like(parameter))
        for theirs, mine in paired(direct, ours):
            mine.copy_(torch.cat(theirs))
        for theirs, mine in zip(direct.layers, ours.backbone.layers, strict=True):
            for norm, copy in (
                (theirs.norm_attention, mine.attention_norm.norm),
                (theirs.norm_ffn, mine.feed_forward_norm.norm),
            ):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
                copy.load_state_dict(norm.state_dict())
    return direct, ours


def largest(first, second):
    return float((first - second).detach().abs().max())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("context_length", "patch_length", "stride", "pad_end", "num_tokens"),
    [(336, 16, 8, True, 42), (512, 16, 8, True, 64), (96, 16, 16, False, 6)],
)
def test_fixed_patching_is_patchtst(
    context_length, patch_length, stride, pad_end, num_tokens, training
):
    direct, ours = make_pair(context_length, patch_length, stride, pad_end)
    assert direct.num_tokens == num_tokens
    assert ours.patcher.capacity(context_length) == num_tokens
    direct.train(training)
    ours.train(training)
    generator = torch.Generator().manual_seed(1)
    series = 3 + 2 * torch.randn(5, context_length, generator=generator).double().cumsum(1)
    target = torch.randn(5, HORIZON, generator=generator).double()
    first, second = series.clone().requires_grad_(), series.clone().requires_grad_()
    expected, forecast = direct(first), ours(second)
    assert largest(expected, forecast) < TOLERANCE

    (expected - target).square().mean().backward()
    (forecast - target).square().mean().backward()
    worst = largest(first.grad, second.grad)
    seen = {id(ours.embedding.length_weight), id(ours.embedding.missing_token)}
    for theirs, mine in paired(direct, ours):
        seen.add(id(mine))
        worst = max(worst, largest(torch.cat([p.grad for p in theirs]), mine.grad))
    assert seen == {id(p) for p in ours.parameters()}, "a parameter was not compared"
    assert worst < TOLERANCE
    # What we add to PatchTST does nothing here: length embedding at nominal lengths, no gap.
    assert float(ours.embedding.length_weight.grad.abs().max()) == 0
    assert ours.embedding.missing_token.grad is None

    if training:  # the running statistics prediction will use
        for theirs, mine in zip(direct.layers, ours.backbone.layers, strict=True):
            for norm, copy in (
                (theirs.norm_attention, mine.attention_norm.norm),
                (theirs.norm_ffn, mine.feed_forward_norm.norm),
            ):
                assert largest(norm.running_mean, copy.running_mean) < TOLERANCE
                assert largest(norm.running_var, copy.running_var) < TOLERANCE


@pytest.mark.parametrize(
    ("context_length", "patch_length", "stride", "lengths"),
    [
        (100, 16, 8, [4] + [8] * 12),
        (97, 16, 16, [1] + [16] * 6),
        (41, 12, 5, [1] + [5] * 8),
        (9, 16, 16, [9]),
        (7, 16, 8, [7]),
    ],
)
def test_when_the_stride_does_not_divide_the_oldest_patch_is_shorter(
    context_length, patch_length, stride, lengths
):
    segmentation = FixedPatcher(patch_length, stride).reference_patches(context_length)
    assert segmentation.patch_lengths[0].tolist() == lengths


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("instance_norm", [True, False])
@pytest.mark.parametrize(
    ("context_length", "patch_length", "stride"),
    [(100, 16, 8), (97, 16, 16), (41, 12, 5), (336, 16, 8), (9, 16, 16), (50, 24, 7)],
)
def test_no_point_is_lost(context_length, patch_length, stride, instance_norm, training):
    torch.manual_seed(0)
    network = build_network(
        FixedPatcher(patch_length, stride),
        PatchTSTBackbone(d_model=8, num_layers=1, num_heads=2, d_ff=16, dropout=0.0),
        context_length=context_length,
        horizon=3,
        instance_norm=instance_norm,
    ).double()
    network.train(training)
    series = torch.randn(6, context_length).double().requires_grad_()
    network(series)[:, 0].square().sum().backward()
    smallest = series.grad.abs().amin(0)
    assert bool((smallest > 0).all()), f"steps without gradient: {(smallest == 0).nonzero()}"
