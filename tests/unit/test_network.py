from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.nn.tokens.patch_embedding import (
    AlignedEmbedding,
    CombinedEmbedding,
    ResampleEmbedding,
)
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask, small_backbone, small_network

every_backbone = pytest.mark.parametrize("backbone", ["patchtst", "transformer"])
CONTEXT = 24


def look_backs(num_rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 4 + 3 * torch.randn(num_rows, CONTEXT, generator=generator).double()


@every_backbone
@pytest.mark.parametrize("quantiles", [None, (0.1, 0.5, 0.9)])
def test_the_flow_is_its_parts_in_order(backbone, quantiles):
    network = small_network(backbone, FixedPatcher(6, 3), quantiles=quantiles).eval()
    series = look_backs()
    normalised, scale = InstanceNorm()(series)
    mode = network.patcher(normalised).mode
    tokens = network.embedding(normalised, mode, halo=3)
    hidden = network.backbone(tokens, None, mode.patch_starts[:1])
    expected = network.norm.inverse(network.head(hidden, mode), scale)
    assert torch.equal(network(series), expected)
    assert expected.shape == ((5, 4) if quantiles is None else (5, 4, 3))


@every_backbone
@pytest.mark.parametrize("patcher", [FixedPatcher(4), RecencyPatcher(4, 2)])
def test_forecasts_follow_level_and_unit(backbone, patcher):
    network = small_network(backbone, patcher).eval()
    series = look_backs()
    # Up to eps = 1e-5 in the variance.
    torch.testing.assert_close(
        network(series * 10 - 7), network(series) * 10 - 7, rtol=1e-4, atol=1e-3
    )
    plain = small_network(backbone, patcher, instance_norm=False).eval()
    assert float((plain(series + 1) - plain(series) - 1).detach().abs().max()) > 1e-3


@every_backbone
@pytest.mark.parametrize("patcher", [FixedPatcher(6, 3), RandomPatcher(4)])
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_values_at_gaps_have_no_influence(backbone, patcher, junk):
    network = small_network(backbone, patcher).eval()
    series, observed = look_backs(), torch.rand(5, CONTEXT) < 0.7
    observed[0], observed[1] = False, False  # nothing, and one point, observed
    observed[1, 3] = True
    clean = network(series.where(observed, torch.zeros(()).double()), observed)
    dirty = network(series.where(observed, torch.tensor(junk).double()), observed)
    assert torch.equal(clean, dirty)
    assert bool(clean.isfinite().all())


@every_backbone
def test_a_full_mask_is_no_mask(backbone):
    network = small_network(backbone).eval()
    series = look_backs()
    assert torch.equal(network(series), network(series, torch.ones(5, CONTEXT, dtype=torch.bool)))


@every_backbone
def test_rollouts_are_forecast_like_rows_of_their_own(backbone):
    network = small_network(backbone).eval()
    series = look_backs()
    lookback, distribution = network.segment(series)
    masks = random_mask(15, CONTEXT, seed=4)
    together = network.forecast(lookback, distribution, Rollout(Segmentation(masks)))
    assert together.value.shape == (15, 4)
    for g in range(3):
        part = Rollout(Segmentation(masks[5 * g : 5 * g + 5], capacity=together.hidden.shape[1]))
        one = network.forecast(lookback, distribution, part)
        torch.testing.assert_close(one.value, together.value[5 * g : 5 * g + 5], rtol=0, atol=1e-12)


@every_backbone
@pytest.mark.parametrize("extra", [0, 3])
def test_the_same_segmentation_in_any_form_gives_the_same_forecast(backbone, extra):
    network = small_network(backbone).eval()
    lookback, distribution = network.segment(look_backs())
    row = random_mask(1, CONTEXT, seed=2)
    used = int(row.sum())
    forms = (
        Segmentation(row.expand(5, -1), exact=True),
        Segmentation(row.expand(5, -1)),
        Segmentation(row.repeat(5, 1), exact=True),
        Segmentation(row.repeat(5, 1), capacity=used + extra),
    )
    values = [network.forecast(lookback, distribution, Rollout(s)).value for s in forms]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=0, atol=1e-12)


def test_a_gate_of_one_changes_no_value_and_carries_gradient():
    network = small_network()
    lookback, distribution = network.segment(look_backs())
    segmentation = Segmentation(random_mask(5, CONTEXT))
    gate = torch.ones(5, CONTEXT, dtype=torch.float64, requires_grad=True)
    plain = network.forecast(lookback, distribution, Rollout(segmentation)).value
    gated = network.forecast(lookback, distribution, Rollout(segmentation, gate=gate)).value
    assert torch.equal(plain, gated)
    gated.square().sum().backward()
    assert bool(((gate.grad != 0) == segmentation.boundary_mask).all())


def test_unpatch_stands_between_backbone_and_head():
    class ToSteps(torch.nn.Module):
        def forward(self, hidden, segmentation, distribution, rollout):
            index = segmentation.patch_index[..., None].expand(-1, -1, hidden.shape[-1])
            finest = Segmentation.even(segmentation.num_steps, segmentation.num_steps, len(hidden))
            return hidden.gather(1, index), finest

    plain = small_network().eval()
    fine = PatchNetwork(
        plain.patcher, plain.embedding, plain.backbone, plain.head, unpatch=ToSteps()
    ).eval()
    # Broadcasting to steps and area-averaging back is the identity.
    torch.testing.assert_close(fine(look_backs()), plain(look_backs()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("patcher", "values", "expected"),
    [
        (FixedPatcher(8, 4), None, 8),
        (FixedPatcher(8), None, 8),
        (FixedPatcher(8), 3, 3),
        (FixedPatcher(compression_rate=4), None, 4),
        (RecencyPatcher(4, 2), None, 2),
        (RandomPatcher(100), CONTEXT, CONTEXT),
    ],
)
def test_build_reads_sizes_off_the_patcher(patcher, values, expected):
    network = build_network(
        patcher,
        small_backbone("transformer"),
        context_length=CONTEXT,
        horizon=3,
        values_per_patch=values,
    )
    assert network.embedding.num_values == expected
    cells = patcher.reference_patches(CONTEXT).capacity
    assert network.head.projection.in_features == cells * 8
    assert len(network.backbone.positions.table) == cells


@pytest.mark.parametrize(
    ("patcher", "settings", "expected"),
    [
        (RandomPatcher(4), {}, AlignedEmbedding),
        (FixedPatcher(4), {}, ResampleEmbedding),
        (RecencyPatcher(4, 2), {"embedding": "aligned"}, AlignedEmbedding),
        (RandomPatcher(4), {"embedding": "resampled"}, ResampleEmbedding),
        (RandomPatcher(4), {"values_per_patch": 3}, ResampleEmbedding),
        (FixedPatcher(4, 2), {"embedding": "both", "values_per_patch": 3}, CombinedEmbedding),
        (HierarchicalPatcher(FixedPatcher(4), RandomPatcher(3)), {}, ResampleEmbedding),
    ],
)
def test_points_are_embedded_by_time_where_patches_move(patcher, settings, expected):
    network = build_network(
        patcher, small_backbone("transformer"), context_length=CONTEXT, horizon=3, **settings
    )
    assert type(network.embedding) is expected


@pytest.mark.parametrize(
    ("patcher", "values", "message"),
    [(FixedPatcher(4), 3, "values_per_patch=3"), (FixedPatcher(4, 2), None, "overlap by 2 steps")],
)
def test_aligned_embedding_refuses_what_resamples(patcher, values, message):
    backbone = small_backbone("transformer")
    with pytest.raises(InvalidParameterError, match=f"{message}.*embedding='resampled'"):
        build_network(
            patcher,
            backbone,
            context_length=CONTEXT,
            horizon=3,
            values_per_patch=values,
            embedding="aligned",
        )


def test_state_dict_round_trips_and_holds_weights_only():
    network, other = small_network("patchtst", seed=1), small_network("patchtst", seed=2)
    assert not any("cells" in key or "starts" in key for key in network.state_dict())
    other.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(look_backs()), other.eval()(look_backs()))


@pytest.mark.parametrize("context_length", [1, 2, 5])
def test_tiny_look_backs(context_length):
    for patcher in (FixedPatcher(16), RandomPatcher(16), RecencyPatcher()):
        network = build_network(
            patcher, TransformerBackbone(d_model=8), context_length=context_length, horizon=1
        ).eval()
        assert network(torch.randn(3, context_length)).shape == (3, 1)


def test_float32_is_close_to_float64():
    exact = small_network("patchtst", FixedPatcher(6, 3)).eval()
    rough = small_network("patchtst", FixedPatcher(6, 3)).float().eval()
    np.testing.assert_allclose(
        rough(look_backs().float()).detach(), exact(look_backs()).detach(), rtol=1e-4, atol=1e-4
    )


def test_a_patcher_that_needs_a_causal_backbone_says_so():
    patcher = ScoreFunctionPatcher(4, form="next_patch", width=8)
    with pytest.raises(InvalidParameterError, match=r"needs a causal backbone.*causal=True"):
        build_network(patcher, TransformerBackbone(16), context_length=24, horizon=4)
    build_network(patcher, TransformerBackbone(16, causal=True), context_length=24, horizon=4)
