from __future__ import annotations

import pytest
import torch

from adaptivepatch.backbones import TransformerBackbone
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
