"""A stage of dynamic chunking among the tokens: padding, rates, recursion, learning rates."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from sklearn.base import clone

from adaptivepatch.backbones.dynamic_chunking import DynamicChunkingBackbone
from adaptivepatch.backbones.multi_level import MultiLevelBackbone
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.model_folder import build_component, describe
from adaptivepatch.network import build_network
from adaptivepatch.nn.placement.losses import ratio_loss
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.registry import backbone_class
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.optimizer import make_optimizer
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import random_mask, small_backbone

STEPS, ROWS, D = 48, 5, 8

every_router = pytest.mark.parametrize("router", ["cosine", "calibrated"])


def one(name="transformer", d_model=D):
    return small_backbone(name, d_model=d_model).set_params(num_layers=1)


def stage(router="calibrated", inner=None, *, name="transformer", **options):
    return DynamicChunkingBackbone(
        one(name), inner or one(name), one(name), router=router, **options
    )


def built(backbone, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone.build(Segmentation.even(STEPS, 12))
        backbone = backbone.double()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def case(extra=0, seed=1):
    fine = Segmentation(random_mask(ROWS, STEPS, 0.25, seed=3))
    fine = Segmentation(fine.boundary_mask, fine.capacity + extra)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(ROWS, 40, D, generator=generator, dtype=torch.float64)
    return tokens[:, : fine.capacity], fine.patch_mask, fine.patch_starts


@every_router
@pytest.mark.parametrize("extra", [0, 3])
def test_padding_changes_nothing(router, extra):
    backbone = built(stage(router)).eval()
    tokens, mask, starts = case(extra)
    changed = torch.where(mask[..., None], tokens, 99.0)
    with torch.no_grad():
        found, again = backbone(tokens, mask, starts), backbone(changed, mask, starts)
        shorter = backbone(*case(0))
    torch.testing.assert_close(found, again, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[:, : shorter.shape[1]], shorter, rtol=0, atol=1e-11)
    assert (found[~mask] == 0).all()


def test_rows_do_not_influence_each_other():
    backbone = built(stage()).eval()
    tokens, mask, starts = case()
    with torch.no_grad():
        together = backbone(tokens, mask, starts)
        for n in range(ROWS):
            alone = backbone(tokens[n : n + 1], mask[n : n + 1], starts[n : n + 1])[0]
            torch.testing.assert_close(alone, together[n], rtol=0, atol=1e-11)


def test_tokens_without_padding_and_with_shared_starts():
    backbone = built(stage()).eval()
    tokens, starts = case()[0][:, :12], Segmentation.even(STEPS, 12).patch_starts
    with torch.no_grad():
        shared = backbone(tokens, None, starts)
        own = backbone(tokens, torch.ones(ROWS, 12, dtype=torch.bool), starts.expand(ROWS, -1))
    torch.testing.assert_close(shared, own, rtol=0, atol=1e-11)


def test_its_loss_is_the_ratio_loss_of_tokens_that_may_start_a_chunk_and_is_given_once():
    backbone = built(stage(ratio_weight=0.5, compression_rate=2.5)).train()
    tokens, mask, starts = case()
    backbone(tokens, mask, starts)
    fine = backbone.encoder(tokens, mask, starts)
    before = copy.deepcopy(backbone.routing)
    prob = before.boundary_prob(before.distance(fine), mask)
    valid = mask.clone()
    valid[:, 0] = False
    found = backbone.auxiliary_loss()
    exact = 0.5 * ratio_loss(prob[valid] > 0.5, prob[valid], 2.5)
    torch.testing.assert_close(found, exact)
    assert backbone.auxiliary_loss() is None
    backbone.eval()(tokens, mask, starts)
    assert backbone.auxiliary_loss() is None


def test_calibration_comes_to_the_rate():
    backbone = built(stage(compression_rate=3.0)).train()
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randn(80, 40, D, generator=generator, dtype=torch.float64)
    starts = torch.arange(40)[None]
    with torch.no_grad():
        for _ in range(150):
            backbone(tokens, None, starts)
        fine = backbone.encoder(tokens, None, starts)
        _, chunks = backbone._route(fine, None)
    assert float(chunks.num_patches.double().mean()) == pytest.approx(1 + 39 / 3, rel=0.02)


def test_three_stages_train_under_the_patcher_and_every_parameter_gets_gradient():
    inner = stage(inner=one(d_model=2 * D), compression_rate=2.0)
    network = build_network(
        DynamicChunkingPatcher(4, wiring="hnet", width=D),
        stage(inner=inner, compression_rate=2.0),
        context_length=STEPS,
        horizon=4,
    ).double()
    series = torch.randn(ROWS, STEPS + 4, dtype=torch.float64).cumsum(1)
    batch = Batch(series[:, :STEPS], None, series[:, STEPS:], None, None)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    network.patcher.prepare(batch.series, None, torch.Generator())
    output = TrainingStep(network.train(), make_loss("mse"))(batch, torch.Generator(), 0.5)
    output.loss.backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    assert float(output.auxiliary_loss) > 0.03 * 3 * 0.5  # three ratio losses, each about 1


@every_router
def test_it_is_saved_copied_and_described(router):
    backbone = stage(router, inner=stage(router))
    assert repr(clone(backbone)) == repr(backbone)
    again = build_component(describe(backbone), "backbone")
    assert repr(again) == repr(backbone)
    trained = built(backbone)
    tokens, mask, starts = case()
    trained.train()(tokens, mask, starts).sum().backward()
    trained.auxiliary_loss()
    copied = pickle.loads(pickle.dumps(trained.eval()))
    with torch.no_grad():
        assert torch.equal(copied(tokens, mask, starts), trained(tokens, mask, starts))
    assert backbone_class("dynamic_chunking") is DynamicChunkingBackbone


def test_its_loss_is_found_inside_levels():
    levels = MultiLevelBackbone(one(), stage(compression_rate=2.0))
    patcher = HierarchicalPatcher(FixedPatcher(2), FixedPatcher(2))
    network = build_network(patcher, levels, context_length=STEPS, horizon=4).double()
    series = torch.randn(ROWS, STEPS + 4, dtype=torch.float64).cumsum(1)
    batch = Batch(series[:, :STEPS], None, series[:, STEPS:], None, None)
    output = TrainingStep(network.train(), make_loss("mse"))(batch, torch.Generator(), 0.5)
    assert float(output.auxiliary_loss) > 0


def test_stages_have_learning_rates_of_their_own():
    inner = stage(inner=one(), learning_rate_factor=3.0)
    patcher = DynamicChunkingPatcher(4, wiring="hnet", width=D, learning_rate_factor=5.0)
    backbone = stage(inner=inner, learning_rate_factor=2.0)
    network = build_network(patcher, backbone, context_length=STEPS, horizon=4)
    optimizer = make_optimizer(network, learning_rate=0.01, weight_decay=0.0)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert len(rate) == len(list(network.parameters()))
    expected = {
        "patcher.encoder.": 5,
        "patcher.routing.": 5,
        "unpatch.": 5,
        "backbone.encoder.": 2,
        "backbone.routing.": 2,
        "backbone.decoder.": 2,
        "backbone.dechunk.": 2,
        "backbone.inner.encoder.": 3,
        "backbone.inner.routing.": 3,
        "backbone.inner.inner.": 1,
        "head.": 1,
    }
    for prefix, factor in expected.items():
        own = [p for n, p in network.named_parameters() if n.startswith(prefix)]
        assert own, prefix
        assert {round(rate[id(p)], 9) for p in own} == {round(factor * 0.01, 9)}, prefix


def test_the_vector_that_widens_tokens_belongs_to_the_stage_that_reads_them():
    """H-Net appends it on the way into a stage, and multiplies its rate by that stage's factor."""
    inner = DynamicChunkingBackbone(one(d_model=16), one(d_model=24), learning_rate_factor=3.0)
    backbone = stage(inner=inner, learning_rate_factor=2.0)
    patcher = DynamicChunkingPatcher(4, wiring="hnet", width=4, learning_rate_factor=5.0)
    network = build_network(patcher, backbone, context_length=STEPS, horizon=4)
    optimizer = make_optimizer(network, learning_rate=0.01, weight_decay=0.0)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    factors = {
        name: round(rate[id(p)] / 0.01, 6)
        for name, p in network.named_parameters()
        if name.endswith("widening")
    }
    assert factors == {
        "embedding.widening": 2,
        "backbone.select.widening": 3,
        "backbone.inner.select.widening": 1,
    }


def test_a_width_that_does_not_fit_is_refused():
    with pytest.raises(InvalidParameterError, match="at least as wide as its encoder, d_model=8"):
        stage(inner=one(d_model=4)).build(Segmentation.even(STEPS, 12))
    with pytest.raises(InvalidParameterError, match="decoder of Dynamic.*as wide as its encoder"):
        DynamicChunkingBackbone(one(), one(), one(d_model=16)).build(Segmentation.even(STEPS, 12))
    with pytest.raises(TypeError, match="'inner' parameter of DynamicChunkingBackbone must be a"):
        DynamicChunkingBackbone(one()).build(Segmentation.even(STEPS, 12))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"compression_rate": 1.0}, r"'compression_rate' parameter.*\(1, inf\)"),
        ({"router": "cosin"}, "'router' parameter.*Did you mean 'cosine'"),
        ({"ratio_weight": -1}, r"'ratio_weight' parameter.*\[0, inf\)"),
        ({"learning_rate_factor": 0}, r"'learning_rate_factor' parameter.*\(0, inf\)"),
    ],
)
def test_values_out_of_range_are_refused(params, message):
    backbone = DynamicChunkingBackbone(one(), one(), one(), **params)
    with pytest.raises(InvalidParameterError, match=message):
        backbone.build(Segmentation.even(STEPS, 12))
