from __future__ import annotations

import torch

from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.segmentation import Segmentation


def test_defaults_are_the_published_etth_configuration():
    assert PatchTSTBackbone().get_params() == {
        "d_model": 16,
        "num_layers": 3,
        "num_heads": 4,
        "d_ff": 128,
        "dropout": 0.3,
    }


def test_number_of_parameters():
    backbone = PatchTSTBackbone()
    backbone.build(Segmentation.even(336, 42))
    attention = 4 * (16 * 16 + 16)
    feed_forward = 16 * 128 + 128 + 128 * 16 + 16
    norms = 2 * 2 * 16
    expected = 42 * 16 + 3 * (attention + feed_forward + norms)
    assert sum(p.numel() for p in backbone.parameters()) == expected


def test_rows_share_batch_statistics_in_training_only():
    torch.manual_seed(0)
    backbone = PatchTSTBackbone(d_model=8, num_heads=2, dropout=0.0)
    backbone.build(Segmentation.even(24, 4))
    tokens, starts = torch.randn(5, 4, 8), Segmentation.even(24, 4).patch_starts
    full, part = backbone(tokens, None, starts), backbone(tokens[:2], None, starts)
    assert not torch.allclose(full[:2], part, atol=1e-3)
    backbone.eval()
    full, part = backbone(tokens, None, starts), backbone(tokens[:2], None, starts)
    torch.testing.assert_close(full[:2], part)


def test_positions_start_small():
    backbone = PatchTSTBackbone()
    backbone.build(Segmentation.even(336, 42))
    assert float(backbone.positions.table.detach().abs().max()) <= 0.02
