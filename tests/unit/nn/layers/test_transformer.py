from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptivepatch.nn.layers.transformer import (
    PreNormLayer,
    ReferencePositions,
    ResidualAttentionLayer,
    TokenBatchNorm,
)
from adaptivepatch.segmentation import Segmentation
from tests import oracles
from tests.builders import random_mask


@pytest.mark.parametrize("lengths", [[4, 4, 4], [7, 3, 1, 1], [12], [1] * 12])
def test_positions_are_exact_at_reference_starts_and_linear_between(lengths):
    reference = Segmentation.from_lengths(torch.tensor([lengths]))
    positions = ReferencePositions(reference, 5).double()
    with torch.no_grad():
        positions.table.normal_()
    starts = reference.patch_starts
    assert torch.equal(positions(starts)[0], positions.table)
    every = torch.arange(13)[None]  # 12 is the start of an unused slot
    found = positions(every)[0].detach()
    table = positions.table.detach().numpy()
    for start in range(13):
        expected = oracles.positions(table, starts[0].tolist(), start)
        np.testing.assert_allclose(found[start], expected, atol=1e-15)


def test_positions_of_many_rows_equal_those_of_each():
    positions = ReferencePositions(Segmentation.even(24, 5), 3)
    starts = Segmentation(random_mask(4, 24), capacity=20).patch_starts
    together = positions(starts)
    for n in range(4):
        assert torch.equal(together[n], positions(starts[n : n + 1])[0])


def test_starts_are_no_saved_state():
    positions = ReferencePositions(Segmentation.even(24, 5), 3)
    assert list(positions.state_dict()) == ["table"]


def test_batch_norm_is_torchs_over_real_tokens():
    torch.manual_seed(0)
    ours, plain = TokenBatchNorm(4).double(), torch.nn.BatchNorm1d(4).double()
    tokens = torch.randn(3, 5, 4).double() * 3 + 1
    mask = torch.rand(3, 5) < 0.6
    mask[:, 0] = True
    result = ours(tokens, mask)
    torch.testing.assert_close(result[mask], plain(tokens[mask]))
    assert bool((result[~mask] == 0).all())
    torch.testing.assert_close(ours.norm.running_var, plain.running_var)
    full = TokenBatchNorm(4).double()
    torch.testing.assert_close(
        full(tokens, None), TokenBatchNorm(4).double()(tokens, torch.ones(3, 5, dtype=torch.bool))
    )


@pytest.mark.parametrize("masked", [True, False])
def test_batch_norm_of_a_single_token_uses_the_running_statistics(masked):
    norm = TokenBatchNorm(4)
    norm.norm.running_mean.normal_()
    token = torch.randn(1, 1, 4, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool) if masked else None
    result = norm(token, mask)
    before = norm.norm.running_mean.clone()
    torch.testing.assert_close(result, norm.eval()(token, mask))
    assert torch.equal(norm.norm.running_mean, before)
    result.sum().backward()
    assert bool((token.grad != 0).all())


def direct_attention(layer, tokens, mask, previous):
    """Heads in a loop, one row at a time, padded keys left out by selection."""
    num_rows, num_patches, width = tokens.shape
    head = width // layer.num_heads
    mixed = torch.zeros_like(tokens)
    all_scores = torch.zeros(num_rows, layer.num_heads, num_patches, num_patches).to(tokens)
    for n in range(num_rows):
        query, key, value = layer.qkv(tokens[n]).split(width, dim=-1)
        real = mask[n].nonzero()[:, 0]
        for h in range(layer.num_heads):
            part = slice(h * head, (h + 1) * head)
            scores = query[:, part] @ key[:, part].T / head**0.5
            if previous is not None:
                scores = scores + previous[n, h]
            all_scores[n, h] = scores
            weights = scores[:, real].softmax(-1)
            mixed[n, :, part] = weights @ value[real][:, part]
    return mixed, all_scores


def test_residual_attention_equals_the_loop():
    torch.manual_seed(0)
    layer = ResidualAttentionLayer(8, 2, 16, 0.0).double()
    tokens = torch.randn(3, 5, 8).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    compared = previous = None
    for _ in range(3):
        mixed, previous = direct_attention(layer, tokens, mask, previous)
        attended, compared = layer._attend(tokens, mask, compared)
        torch.testing.assert_close(attended, layer.out(mixed), rtol=0, atol=1e-13)
        query, key = compared
        scores = (query.mT @ key).view(3, 2, 5, 5)
        torch.testing.assert_close(scores, previous, rtol=0, atol=1e-13)


def test_pre_norm_layer_equals_the_loop():
    torch.manual_seed(0)
    layer = PreNormLayer(8, 2, 16, 0.0).double()
    tokens = torch.randn(3, 5, 8).double()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    mixed, _ = direct_attention(layer, layer.attention_norm(tokens), mask, None)
    middle = tokens + layer.out(mixed)
    expected = middle + layer.feed_forward(layer.feed_forward_norm(middle))
    torch.testing.assert_close(layer(tokens, mask)[mask], expected[mask], rtol=0, atol=1e-13)


def test_published_dropout_of_the_attention_branch():
    layer = ResidualAttentionLayer(8, 2, 16, 0.3)
    assert layer.attention_dropout.p == pytest.approx(1 - 0.7**2)
    assert layer.feed_forward_dropout.p == 0.3
