"""Dynamic chunking in a network: both wirings, rates, sampling, smoothing, presets."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from sklearn.exceptions import NotFittedError

from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.scan import smooth
from adaptivepatch.nn.placement.losses import ratio_loss
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

STEPS, ROWS = 64, 8

both_wirings = pytest.mark.parametrize("wiring", ["encoder", "hnet"])


def series(num_rows=ROWS, num_steps=STEPS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64).cumsum(1)
    walk = walk - walk.mean(1, keepdim=True)
    return (walk / walk.std(1, keepdim=True)).to(dtype)


def prepared(dtype=torch.float64, rows=400, **params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patcher = DynamicChunkingPatcher(**params).to(dtype)
    patcher.prepare(series(rows, seed=5, dtype=dtype), None, torch.Generator())
    return patcher.eval()


def batch(horizon=4):
    rows = 3 * series(ROWS, STEPS + horizon) + 5
    return Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None)


@pytest.mark.parametrize("router", ["calibrated", "even"])
@pytest.mark.parametrize("budget", ["target", "min"])
def test_a_rate_needs_windows_to_set_the_router_by(router, budget):
    patcher = DynamicChunkingPatcher(4, budget, router=router)
    with pytest.raises(NotFittedError, match="DynamicChunkingPatcher cannot place patches"):
        patcher(series(dtype=torch.float32))
    exact = DynamicChunkingPatcher(4, "exact", router=router)(series(dtype=torch.float32)).mode
    assert set(exact.num_patches.tolist()) == {STEPS // 4}


@pytest.mark.parametrize("router", ["calibrated", "cosine", "even"])
def test_another_rate_than_the_prepared_one_is_refused_where_the_router_sets_it(router):
    patcher = prepared(compression_rate=4, router=router).set_params(compression_rate=8)
    with pytest.raises(InvalidParameterError, match=r"for compression_rate=4, .*rate=8"):
        patcher(series())
    patcher.set_params(budget="exact")
    if router == "even":  # its boundaries are those of the other rate
        with pytest.raises(InvalidParameterError, match="prepare again"):
            patcher(series())
    else:
        assert set(patcher(series()).mode.num_patches.tolist()) == {STEPS // 8}


@pytest.mark.parametrize("rate", [4, 16])
def test_prepared_it_holds_its_rate_on_other_rows_without_a_cap(rate):
    mode = prepared(compression_rate=rate)(series(2000, seed=9)).mode
    assert STEPS / float(mode.num_patches.double().mean()) == pytest.approx(rate, rel=0.1)
    assert mode.num_patches.unique().numel() > 1
    assert not mode.exact


@pytest.mark.parametrize("budget", ["min", "exact"])
def test_a_budget_keeps_the_likeliest_starts(budget):
    patcher = prepared(compression_rate=8, budget=budget)
    distribution = patcher(series())
    prob = distribution.boundary_prob[:, 1:]
    for n in range(ROWS):
        likeliest = set((prob[n].argsort(descending=True, stable=True)[:7] + 1).tolist())
        if budget == "min":
            likeliest &= set((prob[n] > 0.5).nonzero()[:, 0].add(1).tolist())
        found = distribution.mode.boundary_mask[n].nonzero()[:, 0].tolist()
        assert set(found) == {0} | likeliest


@both_wirings
def test_training_and_prediction_forecast_the_same(wiring):
    patcher = DynamicChunkingPatcher(8, wiring=wiring)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16)
    rows = batch().series
    lookback, distribution = network.eval().segment(rows)
    drawn = network.forecast(lookback, distribution, distribution.sample(1)).value
    assert torch.equal(drawn, network(rows))


@both_wirings
@pytest.mark.parametrize("router", ["calibrated", "cosine"])
def test_forecast_gradient_reaches_the_router(wiring, router):
    patcher = DynamicChunkingPatcher(8, wiring=wiring, router=router, ratio_weight=0.0)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    found = int(network.segment(batch().series)[1].mode.num_patches.max())
    assert (found == 1) == (router == "cosine")
    step = TrainingStep(network, make_loss("mse"))
    step(batch(), torch.Generator(), 0.0).loss.backward()
    # Without a start after the first, only points tell the router anything: no token does.
    is_reached = bool(patcher.routing.key.weight.grad.any())
    assert is_reached == (found > 1 or wiring == "hnet")
    assert float(patcher.encoder.lift.weight.grad.abs().max()) > 0


def test_the_points_of_hnet_come_back_through_the_decoder():
    patcher = DynamicChunkingPatcher(8, wiring="hnet")
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).eval()
    lookback, distribution = network.segment(batch().series)
    seen = {}
    network.head.register_forward_hook(lambda module, given, _: seen.update(given=given))
    network.forecast(lookback, distribution, Rollout(distribution.mode))
    points, segmentation = seen["given"]
    assert points.shape == (ROWS, STEPS, 16)
    assert segmentation.capacity == STEPS
    assert int(network.head.cells.sum()) == STEPS
    assert patcher.parts(2000, 16).cells.capacity == 512


def test_its_loss_is_the_ratio_loss_over_the_steps_after_the_first():
    patcher = DynamicChunkingPatcher(8, ratio_weight=0.25)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    rows = batch()
    _, distribution = network.segment(rows.series)
    prob, mask = distribution.boundary_prob[:, 1:], distribution.mode.boundary_mask[:, 1:]
    exact = 0.25 * ratio_loss(mask, prob, (STEPS - 1) / (STEPS / 8 - 1))
    output = TrainingStep(network, make_loss("mse"))(rows, torch.Generator(), 0.0)
    torch.testing.assert_close(output.auxiliary_loss, exact.detach())


def test_the_threshold_moves_in_training_steps_only():
    patcher = DynamicChunkingPatcher(8)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16)
    before = patcher.routing.threshold.clone()
    network.train()(batch().series)
    assert torch.equal(patcher.routing.threshold, before)
    TrainingStep(network, make_loss("mse"))(batch(), torch.Generator(), 0.0)
    assert not torch.equal(patcher.routing.threshold, before)
    metrics = patcher.take_metrics()
    assert metrics["compression_rate"] == pytest.approx(8, rel=0.5)
    assert 0 < metrics["router_prob"] < 0.5 < metrics["router_confidence"] < 1


def test_sharpened_draws_have_the_published_frequencies():
    patcher = prepared(compression_rate=4, sharpness=6.0).train()
    distribution = patcher(series(3, 20))
    num_draws = 4000
    rollout = distribution.sample(num_draws, torch.Generator().manual_seed(2))
    drawn = rollout.segmentation.boundary_mask.view(num_draws, 3, 20)[..., 1:].sum(0)
    for n in range(3):
        for t in range(1, 20):
            p = float(distribution.boundary_prob[n, t].detach())
            share = p ** (1 / 6) if p > 0.5 else 1 - (1 - p) ** (1 / 6)
            test = stats.binomtest(int(drawn[n, t - 1]), num_draws, share)
            assert test.pvalue > 1e-5, (n, t, p)
    assert patcher.stochastic
    assert not DynamicChunkingPatcher().stochastic
    confidence = torch.where(drawn > -1, rollout.gate.view(num_draws, 3, 20)[0, :, 1:], 0)
    assert (confidence == 1).all()


@pytest.mark.parametrize("budget", ["min", "exact"])
def test_draws_keep_to_the_budget(budget):
    patcher = prepared(compression_rate=8, budget=budget, sharpness=1.0).train()
    count = patcher(series()).sample(50, torch.Generator().manual_seed(1)).segmentation.num_patches
    assert int(count.max()) <= 8
    assert budget == "min" or int(count.min()) == 8


@torch.no_grad()
def test_point_vectors_tell_how_large_a_value_is_but_as_published():
    """Rows that rise to 40: beside the calibrated router so do their vectors."""
    rising = torch.linspace(0, 40, STEPS, dtype=torch.float64)[None]
    length = {
        router: prepared(router=router)(rising).features[0].square().mean(-1).sqrt()
        for router in ("calibrated", "cosine")
    }
    assert float(length["calibrated"][-1]) > 10 * float(length["calibrated"][4])
    torch.testing.assert_close(length["cosine"], torch.ones(STEPS).double(), rtol=1e-3, atol=0)
    parts = prepared().parts(STEPS, 16)
    assert float(parts.unpatch.decoder(100 * torch.ones(1, STEPS, 16)).abs().min()) > 50


def test_gaps_start_no_patch_and_do_not_count():
    given, observed = series(200, seed=2), torch.ones(200, STEPS, dtype=torch.bool)
    observed[:, 0] = False
    observed[:100, 20:40] = False
    patcher = prepared(compression_rate=4)
    patcher.prepare(given, observed, torch.Generator())
    found = patcher(torch.where(observed, given, 0.0), observed)
    starts = found.mode.boundary_mask
    assert not bool(starts[:100, 20:40].any())
    assert bool(starts[100:, 20:40].any())
    assert bool(starts[:, 0].all())
    assert bool((found.boundary_prob[:, 0] == 1).all())


def test_a_gap_of_all_steps_leaves_one_patch_and_no_loss():
    patcher = prepared(compression_rate=4).train()
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    given, nothing = batch(), torch.zeros(ROWS, STEPS, dtype=torch.bool)
    found = TrainingStep(network, make_loss("mse"))(
        given._replace(observed=nothing), torch.Generator(), 0.0
    )
    assert bool(found.loss.isfinite())
    assert patcher(given.series, nothing).mode.num_patches.tolist() == [1] * ROWS


def test_weights_that_diverged_end_the_search_for_starts():
    patcher = prepared(compression_rate=8)
    patcher.encoder.lift.weight.data.fill_(float("nan"))
    assert patcher(series()).mode.num_patches.tolist() == [1] * ROWS


def test_exact_patches_of_a_constant_row_are_even():
    constant = torch.zeros(1, STEPS, dtype=torch.float64)
    mode = prepared(compression_rate=8, budget="exact", router="cosine")(constant).mode
    assert mode.patch_lengths.tolist() == [[8] * 8]


@both_wirings
@pytest.mark.parametrize("budget", ["target", "exact"])
def test_the_even_control_is_the_same_network_with_even_patches(wiring, budget):
    patcher = prepared(compression_rate=10, wiring=wiring, budget=budget, router="even")
    assert torch.equal(
        patcher(series()).mode.boundary_mask, Segmentation.even(STEPS, 6, ROWS).boundary_mask
    )
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    TrainingStep(network, make_loss("mse"))(batch(), torch.Generator(), 0.0).loss.backward()
    learned = small_network(
        patcher=prepared(compression_rate=10, wiring=wiring), context_length=STEPS, d_model=16
    )
    router = {name for name, _ in learned.named_parameters() if ".routing." in name}
    assert {name for name, _ in network.named_parameters()} == {
        name for name, _ in learned.named_parameters()
    } - router


def test_smoothing_mixes_vectors_by_the_probabilities():
    plain, smoothed = prepared(compression_rate=8), prepared(compression_rate=8, smoothing=True)
    given, found = plain(series()), smoothed(series())
    torch.testing.assert_close(found.boundary_prob, given.boundary_prob)
    torch.testing.assert_close(found.features, smooth(given.features, given.boundary_prob))


def test_grouping_fixed_patches_is_a_hierarchy():
    patcher = HierarchicalPatcher(
        FixedPatcher(compression_rate=4), DynamicChunkingPatcher(4, sharpness=6.0)
    )
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    output = TrainingStep(network, make_loss("mse"))(batch(), torch.Generator(), 0.0)
    output.loss.backward()
    assert float(patcher.coarse.routing.key.weight.grad.abs().max()) > 0
    mode = network.eval().segment(batch().series)[1].mode
    assert mode.capacity == 16
    assert 1 <= float(mode.parent.num_patches.double().mean()) <= 8


def test_presets_and_set_params():
    published = DynamicChunkingPatcher.as_published(6, width=8)
    assert (published.wiring, published.router, published.ratio_weight) == ("hnet", "cosine", 0.03)
    patcher = DynamicChunkingPatcher(width=8)
    encoder = patcher.encoder
    patcher.set_params(compression_rate=5)
    assert patcher.encoder is encoder
    patcher.set_params(width=12, router="cosine")
    assert patcher.encoder.lift.out_features == 12
    assert not hasattr(patcher.routing, "threshold")


def test_attention_reads_far_points_and_convolutions_near_ones():
    for mixer, reaches in (("attention", True), ("convolution", False)):
        patcher = prepared(mixer=mixer, compression_rate=4)
        rows = series(1)
        moved = rows.clone()
        moved[:, -1] += 1
        changed = (patcher(rows).features - patcher(moved).features).abs().amax(-1)[0] > 0
        assert bool(changed[0]) == reaches
        assert bool(changed[-1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"wiring": "net"}, "'wiring' parameter.*must be one of.*Got 'net'.*'hnet'"),
        ({"ratio_weight": -0.1}, r"'ratio_weight' parameter.*\[0, inf\)"),
        ({"sharpness": 0.5}, r"'sharpness' parameter.*\[1, inf\)"),
        ({"smoothing": 1}, "'smoothing' parameter.*True or False"),
        ({"learning_rate_factor": 0.0}, r"'learning_rate_factor' parameter.*\(0, inf\)"),
        ({"budget": "about"}, "'budget' parameter.*must be one of"),
    ],
)
def test_values_out_of_range_are_refused_when_used(params, message):
    patcher = DynamicChunkingPatcher(**params)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(series(dtype=torch.float32))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"router": "cos"}, "'router' parameter.*Did you mean 'cosine'"),
        ({"mixer": "mamba"}, "'mixer' parameter.*must be one of"),
        ({"width": 1}, r"'width' parameter.*\[2, inf\)"),
        ({"num_layers": 1.5}, r"'num_layers' parameter.*\[1, inf\)"),
        ({"alignment_weight": -1}, r"'alignment_weight' parameter.*\[0, inf\)"),
    ],
)
def test_sizes_are_refused_at_construction(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        DynamicChunkingPatcher(**params)


@pytest.mark.parametrize("d_model", [8, 24])
def test_the_backbone_may_be_narrower_or_wider_than_the_points(d_model):
    network = small_network(
        patcher=DynamicChunkingPatcher(8), context_length=STEPS, d_model=d_model
    )
    assert network(batch().series).shape == (ROWS, 4)
