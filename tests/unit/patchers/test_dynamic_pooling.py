"""Dynamic pooling: samples, what the forecast gradient sees, rates, budgets, spikes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from sklearn.exceptions import NotFittedError

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.nn.placement.losses import binomial_loss
from adaptivepatch.patchers.dynamic_pooling import DynamicPoolingPatcher, _spikes
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import random_mask, small_network

STEPS, ROWS = 64, 8

both_predictors = pytest.mark.parametrize("predictor", ["gumbel", "spikes"])


def series(num_rows=ROWS, num_steps=STEPS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64).cumsum(1)
    walk = walk - walk.mean(1, keepdim=True)
    return (walk / walk.square().mean(1, keepdim=True).sqrt().clamp(min=1e-3)).to(dtype)


def made(dtype=torch.float64, **params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DynamicPoolingPatcher(**params).to(dtype)


def prepared(dtype=torch.float64, rows=400, steps=STEPS, **params):
    patcher = made(dtype, **params)
    patcher.prepare(series(rows, steps, seed=5, dtype=dtype), None, torch.Generator())
    return patcher.eval()


def network_of(patcher, steps=STEPS):
    return small_network(patcher=patcher, context_length=steps, d_model=16)


def batch(horizon=4, observed=None, group=None):
    rows = 3 * series(ROWS, STEPS + horizon) + 5
    return Batch(rows[:, :STEPS], observed, rows[:, STEPS:], None, group)


def step_of(network, given=None, seed=0):
    step = TrainingStep(network.train(), make_loss("mse"))
    return step(batch() if given is None else given, torch.Generator().manual_seed(seed), 0.0)


# ---------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_draws_have_the_frequencies_of_the_probabilities_at_any_temperature(temperature):
    patcher = prepared(compression_rate=4, temperature=temperature).train()
    with torch.no_grad():
        patcher.scoring[-1].weight.mul_(8)  # probabilities far apart
    distribution, num_draws = patcher(series(3, 20)), 4000
    rollout = distribution.sample(num_draws, torch.Generator().manual_seed(2))
    drawn = rollout.segmentation.boundary_mask.view(num_draws, 3, 20)
    assert bool(drawn[..., 0].all())
    prob = distribution.boundary_prob.detach()
    assert bool((prob[:, 0] == 1).all())
    torch.testing.assert_close(prob[:, 1:], distribution.logits[:, 1:].detach().sigmoid())
    assert float(prob[:, 1:].max()) - float(prob[:, 1:].min()) > 0.2
    chi_square, count = 0.0, drawn.sum(0)
    for n in range(3):
        for t in range(1, 20):
            p = float(prob[n, t])
            assert stats.binomtest(int(count[n, t]), num_draws, p).pvalue > 1e-5
            chi_square += (int(count[n, t]) - num_draws * p) ** 2 / (num_draws * p * (1 - p))
    assert stats.chi2.sf(chi_square, 57) > 1e-4
    pair = (drawn[:, 0, 5] & drawn[:, 0, 11]).sum()  # steps are drawn one by one
    together = stats.binomtest(int(pair), num_draws, float(prob[0, 5] * prob[0, 11]))
    assert together.pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("budget", ["target", "min", "exact"])
def test_straight_through_values_are_exactly_the_decisions(dtype, budget):
    patcher = prepared(dtype, compression_rate=4, budget=budget).train()
    rollout = patcher(series(dtype=dtype)).sample(20, torch.Generator().manual_seed(1))
    mask = rollout.segmentation.boundary_mask
    assert rollout.action.dtype == rollout.gate.dtype == dtype
    assert bool(((rollout.action == 0) | (rollout.action == 1)).all())
    assert bool((rollout.gate == 1).all())
    if budget == "min":  # the action is what was drawn, before the cap
        assert bool((rollout.action.bool() | ~mask).all())
        assert int(rollout.action.detach().sum()) > int(mask.sum())
    else:
        assert torch.equal(rollout.action.bool(), mask)


@pytest.mark.parametrize("budget", ["target", "min", "exact"])
def test_budgets_hold_in_draws_and_in_prediction(budget):
    patcher = prepared(compression_rate=8, budget=budget)
    num_patches = 8
    for segmentation in (
        patcher(series(200)).mode,
        patcher.train()(series()).sample(50, torch.Generator().manual_seed(1)).segmentation,
    ):
        count = segmentation.num_patches
        assert segmentation.exact == (budget == "exact")
        assert (int(count.max()) > num_patches) == (budget == "target")
        assert (int(count.min()) < num_patches) == (budget != "exact")
    assert patcher.capacity(STEPS) == (STEPS if budget == "target" else num_patches)
    assert patcher.reference_patches(STEPS).capacity == num_patches
    assert patcher.nominal_length(STEPS) == 8


def relative(logits, share):
    """Less the middle of mean and own quantile, by the deviation."""
    own = logits.sort(1).values[:, [round((1 - share) * logits.shape[1]) - 1]]
    middle = (logits.mean(1, keepdim=True) + own) / 2
    return (logits - middle) / logits.std(1, correction=0, keepdim=True)


@pytest.mark.parametrize("budget", ["min", "exact"])
def test_a_budget_keeps_the_likeliest_starts(budget):
    patcher = prepared(compression_rate=8, budget=budget)
    distribution = patcher(series())
    logits = distribution.logits.detach()[:, 1:]
    for n in range(ROWS):
        likeliest = set((logits[n].argsort(descending=True, stable=True)[:7] + 1).tolist())
        if budget == "min":
            score = relative(logits[n : n + 1], 7 / 63)[0]
            likeliest &= set((score > patcher.level).nonzero()[:, 0].add(1).tolist())
        found = distribution.mode.boundary_mask[n].nonzero()[:, 0].tolist()
        assert set(found) == {0} | likeliest


def test_the_rate_holds_on_rows_of_another_level_and_spread():
    """Decisions go by the row: an encoder that says more everywhere does not say it more often."""
    patcher = prepared(compression_rate=8)
    rates = []
    for shift, scale in ((0.0, 1.0), (2.0, 3.0)):
        last = patcher.scoring[-1]
        with torch.no_grad():
            last.weight.mul_(scale)
            last.bias.add_(shift)
        rates.append(patcher(series()).mode.num_patches.tolist())
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1  # and yet rows differ


def test_rows_of_a_group_share_their_draws_and_their_probabilities():
    patcher = prepared(compression_rate=4)
    group = torch.tensor([5, 0, 5, 2, 0, 2, 5, 7])
    alone, shared = patcher(series()), patcher(series(), None, group)
    torch.testing.assert_close(shared.logits, mean_in_groups(alone.logits, group))
    rollout = shared.sample(3, torch.Generator().manual_seed(1))
    for kept in (rollout.segmentation.boundary_mask, rollout.action, rollout.gate):
        rows = kept.detach().view(3, ROWS, STEPS)
        assert torch.equal(rows[:, 0], rows[:, 2])
        assert torch.equal(rows[:, 1], rows[:, 4])
    assert not torch.equal(rollout.action[0], rollout.action[1])


def test_draws_come_from_the_generator_alone():
    patcher = prepared(compression_rate=4).train()
    state = torch.get_rng_state()
    drawn = [patcher(series()).sample(2, torch.Generator().manual_seed(k)) for k in (3, 3, 4)]
    first, again, other = (rollout.segmentation.boundary_mask for rollout in drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(patcher(series()).mode.boundary_mask, patcher(series()).mode.boundary_mask)


# ---------------------------------------------------------------------------------- gradient


def gate_gradient(mask, seed=0):
    """Gradient of some loss of the tokens by the gate, (N, T), and the embedding."""
    patcher, segmentation = prepared(compression_rate=4), Segmentation(mask)
    embedding = patcher.parts(STEPS, 8).embedding.double()
    rows = series(len(mask), seed=seed)
    gate = torch.ones(rows.shape, dtype=torch.float64, requires_grad=True)
    features = patcher(rows).features.detach()
    tokens = embedding(rows, segmentation, gate=gate, features=features)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(tokens.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((tokens * weight).sum(), gate)
    return gradient


def test_the_forecast_sees_weights_inside_a_patch_and_starts_too():
    mask = random_mask(ROWS, STEPS, share=0.3)
    segmentation, gradient = Segmentation(mask), gate_gradient(mask)
    length = segmentation.patch_lengths.gather(1, segmentation.patch_index)
    largest = gradient.abs().max()
    alone = gradient[length == 1]
    assert len(alone) > 5
    assert float(alone.abs().max()) < 1e-3 * largest  # no others to weigh against
    starts = gradient[mask & (length > 1)]
    assert float(starts.abs().median()) > 1e-2 * largest  # the published one is zero here
    assert float(gradient[~mask].abs().median()) > 1e-2 * largest


def test_the_gradient_weighs_the_points_of_a_patch_against_each_other():
    mask = random_mask(ROWS, STEPS, share=0.2)
    gradient = gate_gradient(mask)
    for n in range(ROWS):
        starts = [*mask[n].nonzero()[:, 0].tolist(), STEPS]
        for a, b in itertools.pairwise(starts):
            assert abs(float(gradient[n, a:b].sum())) < 1e-3 * float(gradient.abs().max())


def test_the_gate_has_the_gradient_of_the_relaxed_sample_but_at_step_zero():
    patcher = prepared(compression_rate=4, temperature=0.7).train()
    distribution = patcher(series(2))
    logits = distribution.logits.detach().requires_grad_()
    distribution.logits = logits
    rollout = distribution.sample(1, torch.Generator().manual_seed(3))
    uniform = torch.rand(
        1, 2, STEPS, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )[0]
    relaxed = torch.special.expit((logits.detach() + uniform.log() - (-uniform).log1p()) / 0.7)
    exact = relaxed * (1 - relaxed) / 0.7
    exact[:, 0] = 0
    for tensor in (rollout.gate, rollout.action):
        (gradient,) = torch.autograd.grad(tensor.sum(), logits, retain_graph=True)
        torch.testing.assert_close(gradient, exact)
    assert torch.equal(rollout.segmentation.boundary_mask[:, 1:], relaxed[:, 1:] > 0.5)


@pytest.mark.parametrize("budget", ["target", "min", "exact"])
def test_forecast_gradient_reaches_the_predictor_without_a_prior(budget):
    patcher = made(compression_rate=8, budget=budget, prior_weight=0.0)
    network = network_of(patcher)
    step_of(network).loss.backward()
    metrics = patcher.take_metrics()
    assert metrics["predictor_gradient"] > 0
    assert metrics["encoder_gradient"] > 0


def test_a_token_is_points_and_the_normalised_mean_of_vectors():
    patcher = prepared(compression_rate=4)
    embedding = patcher.parts(STEPS, 8).embedding.double()
    rows, segmentation = series(2), Segmentation(random_mask(2, STEPS, seed=4))
    features = patcher(rows).features.detach()
    tokens = embedding(rows, segmentation, features=features).detach()
    embedding.vector_projection.weight.data.mul_(2)
    twice = embedding(rows, segmentation, features=features).detach()
    starts = [*segmentation.boundary_mask[0].nonzero()[:, 0].tolist(), STEPS]
    for k, (a, b) in enumerate(itertools.pairwise(starts)):
        mean = features[0, a:b].mean(0)
        mean = (mean - mean.mean()) / (mean.var(correction=0) + 1e-5).sqrt()
        exact = embedding.vector_projection.weight.detach() @ mean / 2
        torch.testing.assert_close(twice[0, k] - tokens[0, k], exact)


def test_training_and_prediction_forecast_the_same_for_the_same_patches():
    network = network_of(made(compression_rate=8)).eval()
    rows = batch().series
    lookback, distribution = network.segment(rows)
    rollout = distribution.sample(1, torch.Generator().manual_seed(0))
    assert rollout.gate.requires_grad
    drawn = network.forecast(lookback, distribution, rollout).value
    plain = type(rollout)(rollout.segmentation)
    assert torch.equal(drawn, network.forecast(lookback, distribution, plain).value)


# ---------------------------------------------------------------------------------- rate


@both_predictors
@pytest.mark.parametrize("rate", [4, 16])
def test_prepared_it_holds_its_rate_on_the_training_windows_and_on_others(predictor, rate):
    patcher = prepared(compression_rate=rate, predictor=predictor)
    for rows in (series(400, seed=5), series(800, seed=9)):
        mode = patcher(rows).mode
        assert STEPS / float(mode.num_patches.double().mean()) == pytest.approx(rate, rel=0.1)
        assert mode.num_patches.unique().numel() > 1
        assert not mode.exact


@pytest.mark.parametrize("rate", [2, 5.5, 16])
def test_before_training_draws_have_the_wanted_rate(rate):
    patcher = prepared(compression_rate=rate).train()
    with torch.no_grad():
        patcher.scoring[-1].weight.zero_()
    rollout = patcher(series()).sample(200, torch.Generator().manual_seed(0))
    found = STEPS / float(rollout.segmentation.num_patches.double().mean())
    assert found == pytest.approx(rate, rel=0.03)


def test_half_cuts_where_a_start_is_likelier_than_not():
    patcher = made(compression_rate=4, threshold="half")  # needs no level
    with torch.no_grad():
        patcher.scoring[-1].bias.sub_(patcher(series()).logits.median())
    distribution = patcher(series())
    prob = distribution.boundary_prob[:, 1:]
    assert torch.equal(distribution.mode.boundary_mask[:, 1:], prob > 0.5)
    assert float((prob > 0.5).double().mean()) == pytest.approx(0.5, abs=0.05)


def test_its_loss_is_the_prior_on_the_drawn_starts():
    patcher = made(compression_rate=8, prior_weight=0.25)
    network = network_of(patcher)
    output = step_of(network, seed=6)
    network.eval()
    distribution = network.segment(batch().series)[1]
    rollout = distribution.sample(1, torch.Generator().manual_seed(6))
    starts = rollout.action[:, 1:].sum(1)
    exact = 0.25 * binomial_loss(starts, STEPS - 1, (STEPS / 8 - 1) / (STEPS - 1))
    torch.testing.assert_close(output.auxiliary_loss, exact.detach())


def test_the_prior_counts_before_the_cap_and_an_exact_budget_has_none():
    for budget, is_there in (("min", True), ("exact", False)):
        patcher = made(compression_rate=8, budget=budget)
        network = network_of(patcher)
        with torch.no_grad():
            patcher.scoring[-1].bias.fill_(3.0)  # far too many starts
        output = step_of(network)
        assert (float(output.auxiliary_loss) > 0) == is_there
        if is_there:
            network.zero_grad()
            output.loss.backward()
            assert float(patcher.scoring[-1].bias.grad) > 0  # descent lowers it


def test_the_level_moves_in_training_steps_only():
    patcher = made(compression_rate=8)
    network = network_of(patcher)
    before = patcher.level.clone()
    network.train()(batch().series)
    assert torch.equal(patcher.level, before)
    step_of(network)
    logits = network.segment(batch().series)[1].logits[:, 1:]
    score = relative(logits, 7 / 63)
    quantile = score.flatten().sort().values[round((1 - 7 / 63) * score.numel()) - 1]
    torch.testing.assert_close(patcher.level, before + 0.5 * (quantile - before))
    metrics = patcher.take_metrics()
    assert metrics["compression_rate"] == pytest.approx(8, rel=0.5)
    assert 0 < metrics["predictor_prob"] < 0.5
    assert set(metrics) == {
        "compression_rate",
        "predictor_prob",
        "predictor_gradient",
        "encoder_gradient",
    }
    assert "compression_rate" not in patcher.take_metrics()


def test_a_frozen_patcher_stays_as_it_is():
    network = network_of(made(compression_rate=8))
    network.patcher.freeze()
    before = {name: value.clone() for name, value in network.patcher.state_dict().items()}
    output = step_of(network)
    assert float(output.auxiliary_loss) == 0
    assert all(torch.equal(value, before[k]) for k, value in network.patcher.state_dict().items())


def test_training_brings_the_number_of_draws_to_the_prior_and_the_level_follows():
    patcher = made(compression_rate=8, prior_weight=1.0)
    network = network_of(patcher)
    with torch.no_grad():
        patcher.scoring[-1].bias.fill_(2.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for k in range(120):
        optimizer.zero_grad()
        step_of(network, seed=k).loss.backward()
        optimizer.step()
        if k == 0:
            assert patcher.take_metrics()["compression_rate"] < 3
    patcher.take_metrics()
    for k in range(5):
        step_of(network, seed=100 + k)
    assert patcher.take_metrics()["compression_rate"] == pytest.approx(8, rel=0.25)
    count = network.eval().segment(batch().series)[1].mode.num_patches.double().mean()
    assert float(count) == pytest.approx(8, rel=0.1)


# ---------------------------------------------------------------------------------- spikes


def test_spikes_equal_the_loop():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 4, (6, 30), generator=generator).double()  # with ties
    found = _spikes(values)
    for n in range(6):
        row = values[n].tolist()
        for t in range(30):
            before = row[max(0, t - 2) : t]
            assert bool(found[n, t]) == all(row[t] > value for value in before), (n, t)
    assert _spikes(torch.zeros(2, 1)).tolist() == [[True], [True]]
    assert _spikes(torch.zeros(1, 3)).tolist() == [[True, False, False]]


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_loss_of_spikes_equals_the_loop(gaps, grouped):
    patcher = made(compression_rate=4, predictor="spikes")
    network = network_of(patcher)
    generator = torch.Generator().manual_seed(1)
    observed = torch.rand(ROWS, STEPS, generator=generator) >= gaps if gaps else None
    group = torch.arange(ROWS) // 2 if grouped else None
    given = batch(observed=observed, group=group)
    output = step_of(network, given)
    lookback, distribution = network.segment(given.series, observed, group)
    with torch.no_grad():
        scale = patcher.next_point.entropy(lookback.series)
        own = patcher.next_point.loss(lookback.series, lookback.observed)
    total, number = 0.0, 0
    for n in range(ROWS):
        members = [n] if group is None else [n - n % 2, n - n % 2 + 1]
        row = scale[members].mean(0).tolist()
        for t in range(1, STEPS):
            if observed is not None and not observed[n, t]:
                continue
            is_spike = all(row[t] > value for value in row[max(0, t - 2) : t])
            logit = float(distribution.logits[n, t].detach())
            total += math.log1p(math.exp(-logit if is_spike else logit))
            number += 1
    torch.testing.assert_close(float(output.auxiliary_loss), total / number + float(own))


def test_spikes_get_no_forecast_gradient_but_the_encoder_learns_from_them():
    patcher = made(compression_rate=8, predictor="spikes")
    assert not patcher.stochastic
    assert made().stochastic
    assert not DynamicPoolingPatcher.stochastic
    network = network_of(patcher).train()
    lookback, distribution = network.segment(batch().series)
    rollout = distribution.sample(1)
    assert rollout.gate is None
    assert distribution.boundary_prob is None
    network.forecast(lookback, distribution, rollout).value.sum().backward()
    assert all(p.grad is None for p in patcher.scoring.parameters())
    assert all(p.grad is None for p in patcher.next_point.parameters())
    network.zero_grad()
    own = step_of(network)
    own.loss.backward()
    assert patcher.take_metrics()["predictor_gradient"] > 0
    assert all(bool(p.grad.any()) for p in patcher.next_point.parameters())


def test_the_cross_entropy_leaves_the_next_point_network_alone():
    patcher = made(compression_rate=8, predictor="spikes")
    network = network_of(patcher).train()
    step_of(network).loss.backward()
    found = [p.grad.clone() for p in patcher.next_point.parameters()]
    network.zero_grad()
    lookback, _ = network.segment(batch().series)
    patcher.next_point.loss(lookback.series, None).backward()
    for exact, gradient in zip(patcher.next_point.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, exact.grad)


# ---------------------------------------------------------------------------------- the rest


@both_predictors
@pytest.mark.parametrize("budget", ["target", "min", "exact"])
def test_a_look_back_of_one_step_is_one_patch(predictor, budget):
    patcher = made(compression_rate=4, predictor=predictor, budget=budget)
    patcher.prepare(series(8, 1), None, torch.Generator())
    assert patcher(series(3, 1)).mode.num_patches.tolist() == [1, 1, 1]
    network = network_of(patcher, steps=1)
    rows = torch.randn(ROWS, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    output = step_of(network, Batch(rows, None, rows.expand(-1, 4), None, None))
    output.loss.backward()
    assert bool(output.loss.isfinite())


@both_predictors
@pytest.mark.parametrize("rate", [1, 1.02, 63, 1000])
def test_extreme_rates_train(predictor, rate):
    network = network_of(made(compression_rate=rate, predictor=predictor))
    output = step_of(network)
    output.loss.backward()
    assert bool(output.loss.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@both_predictors
def test_it_groups_fixed_patches_in_a_hierarchy(predictor):
    patcher = HierarchicalPatcher(
        FixedPatcher(compression_rate=4), DynamicPoolingPatcher(4, predictor=predictor)
    )
    network = network_of(patcher)
    step_of(network).loss.backward()
    assert patcher.take_metrics()["coarse_predictor_gradient"] > 0
    mode = network.eval().segment(batch().series)[1].mode
    assert mode.capacity == 16
    assert 1 < float(mode.parent.num_patches.double().mean()) < 16


@both_predictors
@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_it_trains_in_lower_precision(predictor, weight):
    network = small_network(
        patcher=made(
            torch.float32, compression_rate=8, predictor=predictor, alignment_weight=weight
        ),
        context_length=STEPS,
        d_model=16,
        dtype=torch.float32,
    )
    rows = batch().series.float()
    step = TrainingStep(network.train(), make_loss("mse"), precision=torch.bfloat16)
    given = Batch(rows, None, rows[:, :4], None, None)
    output = step(given, torch.Generator().manual_seed(0), 0.0)
    output.loss.backward()
    assert bool(output.loss.isfinite())
    with torch.autocast("cpu", torch.bfloat16):
        assert network.segment(rows)[1].logits.dtype == torch.float32
    assert network.patcher.take_metrics()["predictor_gradient"] > 0


def test_set_params_makes_networks_anew_only_where_it_must():
    patcher = made(width=8)
    encoder = patcher.encoder
    patcher.set_params(compression_rate=5, threshold="half")
    assert patcher.encoder is encoder
    assert patcher.next_point is None
    patcher.set_params(width=12, predictor="spikes")
    assert patcher.encoder.lift.out_features == 12
    assert patcher.next_point is not None
    patcher.set_params(predictor="gumbel")
    assert not any(name.startswith("next_point") for name in patcher.state_dict())


def test_a_threshold_that_is_needed_and_unknown_is_refused():
    message = "DynamicPoolingPatcher cannot place patches"
    for budget in ("target", "min"):
        with pytest.raises(NotFittedError, match=message):
            made(budget=budget)(series())
    assert made(budget="exact")(series()).mode.capacity == 4
    assert made(threshold="half")(series()).mode.num_steps == STEPS
    assert all(bool(v.isfinite().all()) for v in made().state_dict().values())  # can be saved


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"threshold": "quantile"}, "'threshold' parameter.*must be one of.*Got 'quantile'"),
        ({"temperature": 0.0}, r"'temperature' parameter.*\(0, inf\)"),
        ({"prior_weight": -1.0}, r"'prior_weight' parameter.*\[0, inf\)"),
        ({"budget": "about"}, "'budget' parameter.*must be one of"),
    ],
)
def test_values_out_of_range_are_refused_when_used(params, message):
    patcher = made(**params)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(series())
    with pytest.raises(InvalidParameterError, match=message):
        patcher.capacity(STEPS)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"predictor": "gumble"}, "'predictor' parameter.*Did you mean 'gumbel'"),
        ({"mixer": "mamba"}, "'mixer' parameter.*must be one of"),
        ({"width": 1}, r"'width' parameter.*\[2, inf\)"),
        ({"num_layers": 0}, r"'num_layers' parameter.*\[1, inf\)"),
    ],
)
def test_sizes_are_refused_at_construction(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        DynamicPoolingPatcher(**params)
