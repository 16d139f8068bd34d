from __future__ import annotations

import pytest
import torch

from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.segmentation import Segmentation


@pytest.mark.parametrize(("d_ff", "expected"), [(None, 32), (10, 10)])
def test_feed_forward_width_defaults_to_four_times_the_model(d_ff, expected):
    backbone = TransformerBackbone(d_model=8, d_ff=d_ff)
    backbone.build(Segmentation.even(24, 4))
    assert backbone.layers[0].feed_forward[0].out_features == expected
    assert backbone.d_ff == d_ff  # parameters stay as given


def test_rows_do_not_influence_each_other_in_training():
    torch.manual_seed(0)
    backbone = TransformerBackbone(d_model=8, num_heads=2, dropout=0.0).double()
    backbone.build(Segmentation.even(24, 4))
    backbone.double().train()
    tokens, starts = torch.randn(5, 4, 8).double(), Segmentation.even(24, 4).patch_starts
    full, part = backbone(tokens, None, starts), backbone(tokens[:2], None, starts)
    torch.testing.assert_close(full[:2], part, rtol=0, atol=1e-12)


def test_the_output_is_normalised():
    torch.manual_seed(0)
    backbone = TransformerBackbone(d_model=16)
    backbone.build(Segmentation.even(24, 4))
    backbone.eval()
    hidden = backbone(100 * torch.randn(3, 4, 16), None, Segmentation.even(24, 4).patch_starts)
    assert float(hidden.detach().mean(-1).abs().max()) < 1e-5
    assert float((hidden.detach().var(-1, unbiased=False) - 1).abs().max()) < 1e-3


# -------------------------------------------------------------------------------------- causal


def built(causal, **params):
    torch.manual_seed(0)
    backbone = TransformerBackbone(d_model=8, num_heads=2, dropout=0.0, causal=causal, **params)
    backbone.build(Segmentation.even(24, 6))
    return backbone.double().eval()


@pytest.mark.parametrize("padded", [False, True])
def test_causal_tokens_do_not_look_ahead(padded):
    tokens, starts = torch.randn(3, 6, 8).double(), Segmentation.even(24, 6).patch_starts
    mask = None
    if padded:
        mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()
    for causal in (True, False):
        backbone = built(causal)
        before = backbone(tokens, mask, starts)
        changed = tokens.clone()
        changed[:, 2:] *= -1
        after = backbone(changed, mask, starts)
        assert torch.equal(after[:, :2], before[:, :2]) == causal
        assert bool(after.isfinite().all())
        assert bool((after[0, 2:] != before[0, 2:]).all())


def test_causal_attention_is_that_over_the_tokens_so_far():
    tokens, starts = torch.randn(3, 6, 8).double(), Segmentation.even(24, 6).patch_starts
    both, causal = built(False, num_layers=1), built(True, num_layers=1)
    causal.load_state_dict(both.state_dict())
    found = causal(tokens, None, starts)
    for k in range(6):
        alone = both(tokens[:, : k + 1], None, starts[:, : k + 1])
        torch.testing.assert_close(found[:, k], alone[:, k], rtol=0, atol=1e-12)


def test_the_last_token_is_the_same_without_padding():
    tokens, starts = torch.randn(2, 6, 8).double(), Segmentation.even(24, 6).patch_starts
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0]]).bool()
    causal = built(True)
    padded, short = causal(tokens, mask, starts), causal(tokens[:, :4], None, starts[:, :4])
    torch.testing.assert_close(padded[:, :4], short, rtol=0, atol=1e-12)
    assert not bool(padded[:, 4:].any())


def test_causal_must_be_a_bool():
    backbone = TransformerBackbone(causal=1)
    with pytest.raises(InvalidParameterError, match="'causal' parameter.*must be True or False"):
        backbone.build(Segmentation.even(24, 4))
