"""Score-function tokenization: its gradient by enumeration, its rate, its two forms."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.distributions import Rollout, StepContext
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.network import build_network
from adaptivepatch.nn.placement.losses import target_rate_loss
from adaptivepatch.nn.policies.token_rewards import NextErrors
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

STEPS, ROWS = 64, 8
FORMS = [{}, {"window": 3}, {"form": "next_patch"}, {"form": "next_patch", "window": 3}]
every_form = pytest.mark.parametrize("params", FORMS, ids=str)


def series(num_rows=ROWS, num_steps=STEPS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    walk = torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64).cumsum(1)
    walk = walk - walk.mean(1, keepdim=True)
    return (walk / (walk.square().mean(1, keepdim=True) + 1e-9).sqrt()).to(dtype)


def made(dtype=torch.float64, stir=0.0, **params):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patcher = ScoreFunctionPatcher(**params).to(dtype)
        with torch.no_grad():
            if stir:
                patcher.gate.projection.weight.normal_(std=stir)
    return patcher


def prepared(rows=400, **params):
    patcher = made(**params)
    patcher.prepare(series(rows, seed=5), None, torch.Generator())
    return patcher.eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(horizon=4, gaps=0.0):
    rows = 3 * series(ROWS, STEPS + horizon) + 5
    if not gaps:
        return Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None)
    seen = torch.rand(rows.shape, generator=seeded(2)) >= gaps
    return Batch(rows[:, :STEPS], seen[:, :STEPS], rows[:, STEPS:], seen[:, STEPS:], None)


def causal_network(patcher, num_steps=STEPS, d_model=16):
    """A network whose rewards are honest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = TransformerBackbone(d_model, 2, 2, 16, dropout=0.0, causal=True)
        network = build_network(patcher, backbone, context_length=num_steps, horizon=4).double()
        network.patcher.prepare(series(100, num_steps, seed=5), None, torch.Generator())
    return network


def network_of(params):
    return causal_network(ScoreFunctionPatcher(8, **params))


# ------------------------------------------------------------------- the gradient, by enumeration

SHORT = 5
ACTIONS = torch.tensor([[True, *rest] for rest in product([False, True], repeat=SHORT - 1)])
CODE = 2 ** torch.arange(SHORT)
TABLE = torch.rand(2**SHORT, SHORT, generator=torch.Generator().manual_seed(1)).double() + 0.1


def context_for(distribution, rows, action, loss):
    """What a step gives the patcher for one action of each row, of known losses (1, N)."""
    return StepContext(
        series=rows,
        observed=None,
        target=torch.full((len(rows), 3), 2.0, dtype=torch.float64),
        distribution=distribution,
        rollout=Rollout(Segmentation(action), action=action),
        forecast_loss=loss,
        hidden=torch.zeros(len(rows), SHORT, 16, dtype=torch.float64),
        group=None,
        progress=0.5,
    )


def loss_of(action):
    """A forecast loss for every action (..., T)."""
    return TABLE[(action * CODE).sum(-1), 0]


def prob_of(patcher, rows):
    """Probability of every action of every row, (A, N)."""
    policy = patcher(rows).policy
    return policy.step_log_prob(ACTIONS[:, None].expand(-1, len(rows), -1)).sum(-1).exp()


def finite_differences(patcher, expected, step=1e-5):
    weight = patcher.gate.projection.weight
    gradient = torch.zeros_like(weight)
    with torch.no_grad():
        for i, j in product(*map(range, weight.shape)):
            sides = []
            for sign in (1, -1):
                weight[i, j] += sign * step
                sides.append(expected())
                weight[i, j] -= sign * step
            gradient[i, j] = (sides[0] - sides[1]) / (2 * step)
    return gradient


def gate_gradient(patcher, loss):
    (gradient,) = torch.autograd.grad(loss, patcher.gate.projection.weight)
    return -(SHORT - 1) * gradient  # the loss is a mean over decisions, and minus the reward


@pytest.mark.parametrize("early_exit", [False, True])
@pytest.mark.parametrize("window", [1, 3])
def test_the_direct_gradient_is_that_of_the_expected_reward(window, early_exit):
    patcher = made(
        stir=1.0, compression_rate=2, window=window, early_exit=early_exit, centred=False, width=3
    )
    rows = series(1, SHORT)
    found = torch.zeros_like(patcher.gate.projection.weight)
    for action, p in zip(ACTIONS, prob_of(patcher, rows).detach()[:, 0], strict=True):
        context = context_for(patcher(rows), rows, action[None], loss_of(action).view(1, 1))
        found += p * gate_gradient(patcher, patcher.policy_loss(context))
    reward = -(loss_of(ACTIONS) + 1e-8).log()
    exact = finite_differences(patcher, lambda: float(prob_of(patcher, rows)[:, 0] @ reward))
    assert float(exact.abs().max()) > 1e-3
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-8)


def test_centring_scales_the_gradient_by_its_own_share_of_the_batch():
    patcher = made(stir=1.0, compression_rate=2, width=3)
    rows = series(2, SHORT, seed=3)
    distribution = patcher(rows)
    prob = prob_of(patcher, rows).detach()
    found = torch.zeros_like(patcher.gate.projection.weight)
    for (i, first), (j, second) in product(enumerate(ACTIONS), repeat=2):
        action = torch.stack([first, second])
        context = context_for(distribution, rows, action, loss_of(action)[None])
        loss = patcher.policy_loss(context)
        (gradient,) = torch.autograd.grad(loss, patcher.gate.projection.weight, retain_graph=True)
        found -= (SHORT - 1) * prob[i, 0] * prob[j, 1] * gradient
    reward = -(loss_of(ACTIONS) + 1e-8).log()
    exact = finite_differences(patcher, lambda: float((reward @ prob_of(patcher, rows)).mean()))
    torch.testing.assert_close(found, exact / 2, rtol=0, atol=1e-8)  # 1 - 1 / 2 rows


class Told(nn.Module):
    """Late errors that depend on what is decided by then, in place of predictions."""

    def forward(self, points, hidden, segmentation, series, observed):
        mask = segmentation.boundary_mask
        late = torch.stack(  # at step t, starts up to t + 1 are decided
            [TABLE[(mask * CODE)[:, : t + 2].sum(1), t] for t in range(SHORT)], 1
        )
        return NextErrors(late, torch.ones_like(late), torch.ones_like(mask))


@pytest.mark.parametrize("window", [1, 3])
def test_later_rewards_are_all_that_a_decision_is_credited_with(window):
    patcher = made(
        stir=1.0,
        compression_rate=2,
        form="next_patch",
        window=window,
        centred=False,
        discount=None,
        width=3,
    )
    patcher.next_points = Told()
    rows = series(1, SHORT)
    found = torch.zeros_like(patcher.gate.projection.weight)
    for action, p in zip(ACTIONS, prob_of(patcher, rows).detach()[:, 0], strict=True):
        context = context_for(patcher(rows), rows, action[None], torch.zeros(1, 1))
        found += p * gate_gradient(patcher, patcher.policy_loss(context))
    late = Told()(None, None, Segmentation(ACTIONS), None, None).late
    exact = finite_differences(patcher, lambda: -float(prob_of(patcher, rows)[:, 0] @ late.sum(1)))
    assert float(exact.abs().max()) > 1e-3
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-8)


def test_a_discount_forgets_later_rewards():
    patcher = made(compression_rate=2, form="next_patch", centred=False, discount=0.0, width=3)
    patcher.next_points = Told()
    rows, action = series(1, SHORT), ACTIONS[5:6]
    context = context_for(patcher(rows), rows, action, torch.zeros(1, 1))
    late = Told()(None, None, Segmentation(action), None, None).late
    log_prob = patcher(rows).policy.step_log_prob(action)
    exact = -((1 - late[:, :-1]) * log_prob).mean()  # a start at s by the reward of step s - 1
    torch.testing.assert_close(patcher.policy_loss(context), exact)


def test_rows_without_targets_and_the_early_exit_count_as_they_should():
    patcher = made(compression_rate=2, width=3)
    rows, action = series(3, SHORT), ACTIONS[[3, 9, 14]]
    seen = torch.ones(3, 3, dtype=torch.bool)
    seen[1] = False
    losses = torch.tensor([[0.5, 77.0, 2.0]]).double()
    context = context_for(patcher(rows), rows, action, losses)
    context = StepContext(**{**context.__dict__, "target_observed": seen})
    early = patcher.early.row_loss(rows, context.target, seen, None)
    reward = (early + 1e-8).log() - (losses[0] + 1e-8).log()
    kept = [0, 2]
    advantage = reward[kept] - reward[kept].mean()
    log_prob = patcher(rows).policy.step_log_prob(action).mean(1)[kept]
    torch.testing.assert_close(
        patcher.policy_loss(context), -(advantage.detach() * log_prob).mean()
    )


# --------------------------------------------------------------------------- rates and decisions


@pytest.mark.parametrize("params", FORMS[1:], ids=str)
@pytest.mark.parametrize("rate", [4, 16])
def test_prepared_its_decisions_hold_the_rate_on_other_rows(params, rate):
    mode = prepared(compression_rate=rate, stir=0.5, **params)(series(2000, seed=9)).mode
    assert STEPS / float(mode.num_patches.double().mean()) == pytest.approx(rate, rel=0.1)
    assert mode.num_patches.unique().numel() > 1
    assert not mode.exact


def test_independent_decisions_are_as_many_as_draws_are_expected_to_be():
    patcher = made(compression_rate=8, stir=0.5)
    distribution = patcher(series(50))
    prob, mask = distribution.boundary_prob[:, 1:], distribution.mode.boundary_mask[:, 1:]
    assert mask.sum(1).tolist() == prob.sum(1).round().tolist()
    assert mask.sum(1).unique().numel() > 1
    for n in range(50):  # the likeliest
        assert prob[n][mask[n]].min() > prob[n][~mask[n]].max()
    drawn = distribution.sample(400, seeded()).segmentation.num_patches.view(400, 50)
    torch.testing.assert_close(drawn.double().mean(0), 1 + prob.sum(1), rtol=0, atol=0.6)


def test_equal_steps_start_nothing():
    patcher = made(compression_rate=8)
    mode = patcher(torch.zeros(2, STEPS, dtype=torch.float64)).mode
    assert mode.num_patches.tolist() == [1, 1]


@pytest.mark.parametrize("rate", [4, 16])
def test_untrained_draws_hold_the_rate(rate):
    patcher = made(compression_rate=rate)
    drawn = patcher(series(2000)).sample(1, seeded()).segmentation.num_patches
    assert STEPS / float(drawn.double().mean()) == pytest.approx(rate, rel=0.1)


def test_it_must_see_data_before_it_decides():
    distribution = made(window=3)(series())
    distribution.sample(2, seeded())  # needs no level
    with pytest.raises(NotFittedError, match="ScoreFunctionPatcher cannot place patches"):
        distribution.mode.num_patches  # noqa: B018
    assert made(budget="exact")(series()).mode.num_patches.unique().tolist() == [4]


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("budget", ["min", "exact"])
def test_a_budget_keeps_the_likeliest(budget, window):
    patcher = prepared(compression_rate=8, budget=budget, window=window, stir=0.5)
    distribution = patcher(series())
    _, logits = distribution.policy.decide(float(patcher.gate.level))
    for n in range(ROWS):
        ordered = (logits[n].argsort(descending=True, stable=True) + 1).tolist()
        likeliest = set(ordered[:7])
        if budget == "min":
            wanted = int((logits[n] > distribution.policy.prior + float(patcher.gate.level)).sum())
            if window == 1:
                wanted = int(logits[n].sigmoid().sum().round())
            likeliest &= set(ordered[:wanted])
        found = distribution.mode.boundary_mask[n].nonzero()[:, 0].tolist()
        assert set(found) == {0} | likeliest


@pytest.mark.parametrize("budget", ["target", "min", "exact"])
def test_log_probabilities_are_of_the_raw_action(budget):
    patcher = prepared(compression_rate=8, budget=budget, stir=0.5)
    distribution = patcher(series())
    rollout = distribution.sample(40, seeded())
    raw, kept = rollout.action, rollout.segmentation.boundary_mask
    exact = distribution.policy.step_log_prob(raw.view(40, ROWS, STEPS)).sum(-1)
    torch.testing.assert_close(rollout.log_prob, exact)
    logits = distribution.policy.logits(raw.view(40, ROWS, STEPS)).flatten(0, 1).detach()
    assert int(raw.sum(1).max()) > 8 > int(raw.sum(1).min())
    for k in range(len(raw)):
        more = int(raw[k].sum()) - 8
        if budget == "target" or (budget == "min" and more <= 0) or more == 0:
            assert torch.equal(kept[k], raw[k])
        elif more > 0:  # the likeliest of those drawn
            assert not bool((kept[k] & ~raw[k]).any())
            dropped = raw[k] & ~kept[k]
            assert int(dropped.sum()) == more
            assert logits[k][dropped[1:]].max() <= logits[k][kept[k][1:]].min()
        else:  # filled up with the likeliest others
            added = kept[k] & ~raw[k]
            assert int(added.sum()) == -more
            assert logits[k][added[1:]].min() >= logits[k][~kept[k][1:]].max()


@every_form
def test_rows_of_a_group_draw_one_action(params):
    patcher = prepared(compression_rate=6, stir=0.5, **params)
    group = torch.tensor([4, 1, 4, 1, 1, 0, 4, 0])
    rollout = patcher(series(), None, group).sample(3, seeded())
    action = rollout.action.view(3, ROWS, STEPS)
    for members in ([0, 2, 6], [1, 3, 4], [5, 7]):
        assert torch.equal(action[:, members], action[:, members[:1]].expand(-1, len(members), -1))
        torch.testing.assert_close(rollout.log_prob[:, members[0]], rollout.log_prob[:, members[1]])
    assert not torch.equal(action[:, 0], action[:, 1])


def test_probabilities_and_entropy_are_stated_where_decisions_are_independent():
    distribution = prepared(compression_rate=4, stir=0.5)(series(2, 6))
    prob = distribution.boundary_prob
    assert not prob.requires_grad
    assert prob[:, 0].tolist() == [1.0, 1.0]
    exact = torch.distributions.Bernoulli(prob[:, 1:]).entropy().sum(1)
    torch.testing.assert_close(distribution.entropy(), exact)
    coupled = prepared(compression_rate=4, window=3)(series(2, 6))
    assert coupled.boundary_prob is None
    assert coupled.entropy() is None


@pytest.mark.parametrize("window", [1, 4])
def test_in_the_causal_form_boundaries_do_not_know_what_follows(window):
    patcher = prepared(compression_rate=4, form="next_patch", window=window, stir=0.5)
    assert patcher.causal
    assert not ScoreFunctionPatcher.causal
    assert not ScoreFunctionPatcher().causal
    rows = series()
    expected = patcher(rows).mode.boundary_mask
    assert int(expected.sum()) > 2 * ROWS
    for step in range(STEPS):
        changed = rows.clone()
        changed[:, step:] = series(seed=7)[:, step:] * 10
        found = patcher(changed).mode.boundary_mask
        assert torch.equal(found[:, : step + 1], expected[:, : step + 1])  # a start at `step`, too


# ------------------------------------------------------------------------------------- training


@every_form
def test_a_training_step_reaches_every_part(params):
    network = network_of(params).train()
    step, generator = TrainingStep(network, make_loss("mse")), seeded()
    for gaps in (0.0, 0.2):  # in the causal form the second is on decisions
        output = step(batch(gaps=gaps), generator, 0.5)
        assert bool(output.loss.isfinite())
        output.loss.backward()
    for name, parameter in network.patcher.named_parameters():
        assert bool((parameter.grad != 0).any()), name
    assert int(network.patcher.steps_done) == 2


def test_its_loss_has_three_parts():
    patcher = ScoreFunctionPatcher(8, policy_weight=0.5, rate_weight=3.0, early_weight=0.25)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    rows = batch()
    lookback, distribution = network.segment(rows.series)
    rollout = distribution.sample(1, seeded())
    network.eval()
    loss = (network.forecast(lookback, distribution, rollout).value - rows.target).square().mean(1)
    network.train()
    early = patcher.early.row_loss(lookback.series, rows.target, None, lookback.scale)
    advantage = (early + 1e-8).log() - (loss + 1e-8).log()
    advantage = (advantage - advantage.mean()).detach()
    log_prob = distribution.policy.step_log_prob(rollout.action)
    logits = distribution.policy.logits(rollout.action)
    exact = -0.5 * (advantage[:, None] * log_prob).mean()
    exact = exact + 3.0 * target_rate_loss(logits, patcher.boundary_share(STEPS))
    exact = exact + 0.25 * early.mean()
    output = TrainingStep(network, make_loss("mse"))(rows, seeded(), 0.0)
    torch.testing.assert_close(output.auxiliary_loss, exact.detach())


def test_forecast_gradient_reaches_the_encoder_but_not_the_gate():
    patcher = ScoreFunctionPatcher(8, policy_weight=0.0, rate_weight=0.0)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    TrainingStep(network, make_loss("mse"))(batch(), seeded(), 0.0).loss.backward()
    assert bool(patcher.encoder.lift.weight.grad.any())
    assert not bool(patcher.gate.projection.weight.grad.any())


def test_the_policy_gradient_flows_into_the_encoder():
    patcher = made(compression_rate=2)
    rows, action = series(2, SHORT), ACTIONS[[3, 9]]
    losses = torch.tensor([[0.5, 2.0]]).double()
    patcher.policy_loss(context_for(patcher(rows), rows, action, losses)).backward()
    assert bool(patcher.encoder.lift.weight.grad.any())
    assert all(p.grad is None for p in patcher.early.parameters())


@pytest.mark.parametrize("early_exit", [True, False])
def test_the_baseline_does_not_know_the_action(early_exit):
    """Rewards of two actions differ by what their forecasts cost, whatever is subtracted."""
    patcher = made(compression_rate=2, early_exit=early_exit)
    rows, losses = series(2, SHORT), torch.tensor([[0.5, 2.0]]).double()
    contexts = [
        context_for(patcher(rows), rows, action, loss)
        for action, loss in ((ACTIONS[[3, 9]], losses), (ACTIONS[[12, 1]], 7 * losses))
    ]
    one, two = (patcher._rewards(context).value for context in contexts)
    torch.testing.assert_close(one - two, torch.full_like(one, 7.0).log(), rtol=0, atol=1e-7)
    own = patcher._rewards(contexts[0]).own
    assert (own is None) != early_exit


def test_the_level_moves_in_training_steps_only():
    patcher = made(compression_rate=8, window=3)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16)
    before = patcher.gate.level.clone()
    network.train()(batch().series)
    assert torch.equal(patcher.gate.level, before)
    TrainingStep(network, make_loss("mse"))(batch(), seeded(), 0.0)
    assert not torch.equal(patcher.gate.level, before)


def test_plans():
    patcher = made(window=3)
    assert patcher.plan(0.5) == (1, True, False, 1, 0.0)  # it cannot decide yet
    assert made().plan(0.5) == (1, True, False, 1, 0.5)
    assert prepared(window=3).plan(0.5) == (1, True, False, 1, 0.5)
    causal = prepared(form="next_patch")
    assert causal.plan(0.5) == (1, False, False, 1, 0.0)
    causal.steps_done += 1
    assert causal.plan(0.5) == (0, False, False, 1, 0.0)
    assert patcher.freeze().plan(0.5).num_samples == 0


@every_form
def test_metrics_say_what_the_policy_did(params):
    network = network_of(params).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    step, generator = TrainingStep(network, make_loss("mse")), seeded()
    for _ in range(3):
        train_step(step, optimizer, batch(), generator=generator)
    metrics = network.patcher.take_metrics()
    assert metrics["compression_rate"] == pytest.approx(8, rel=0.5)
    assert 0 < metrics["gate_prob"] < 0.3
    assert metrics["policy_reward_spread"] > 0
    assert metrics["policy_signal_to_noise"] > 0
    assert metrics["gate_gradient"] > 0
    assert metrics["encoder_gradient"] > 0
    assert ("next_error" in metrics) == ("form" in params)
    assert "compression_rate" not in network.patcher.take_metrics()  # forgotten


@every_form
def test_gradients_by_row_add_up_to_that_of_the_loss(params):
    network = network_of(params).train()
    patcher, rows = network.patcher, batch()
    lookback, distribution = network.segment(rows.series)
    rollout = distribution.sample(1, seeded())
    forecast = network.forecast(lookback, distribution, rollout)
    loss = (forecast.value.detach() - rows.target).square().mean(1)[None]
    context = StepContext(
        lookback.series,
        None,
        rows.target,
        distribution,
        rollout,
        loss,
        forecast.hidden,
        None,
        0.5,
        scale=lookback.scale,
    )
    by_row = patcher.policy_gradients(context)
    (gradient,) = torch.autograd.grad(patcher.policy_loss(context), patcher.gate.projection.weight)
    torch.testing.assert_close(by_row.mean(0).view_as(gradient), -gradient)


@pytest.mark.parametrize("window", [1, 2])
def test_it_learns_what_is_rewarded_at_its_rate(window):
    """Starts are worth something at rises only."""
    patcher = made(compression_rate=8, window=window, early_exit=False, rate_weight=2.0)
    patcher.prepare(series(200, seed=5), None, torch.Generator())
    optimizer, generator = torch.optim.Adam(patcher.parameters(), 3e-2), seeded()
    for k in range(90):
        rows = series(32, seed=k)
        rises = torch.nn.functional.pad(rows.diff(dim=1), (1, 0)) > 0.2
        distribution = patcher(rows)
        rollout = distribution.sample(1, generator)
        mask = rollout.segmentation.boundary_mask
        found = (mask & rises).sum(1) - (mask & ~rises).sum(1)
        context = context_for(distribution, rows, rollout.action, (-0.2 * found).exp()[None])
        optimizer.zero_grad()
        patcher.auxiliary_loss(context).backward()
        optimizer.step()
    rows = series(500, seed=1000)
    rises = torch.nn.functional.pad(rows.diff(dim=1), (1, 0)) > 0.2
    distribution = patcher.eval()(rows)
    mask = distribution.sample(1, generator).segmentation.boundary_mask
    mode = distribution.mode.boundary_mask
    assert float(rises.double().mean()) < 0.3
    assert float((mask & rises)[:, 1:].sum() / mask[:, 1:].sum()) > 0.8
    assert float((mode & rises)[:, 1:].sum() / mode[:, 1:].sum()) > 0.9
    assert STEPS / float(mode.double().sum(1).mean()) == pytest.approx(8, rel=0.15)
    assert STEPS / float(mask.double().sum(1).mean()) == pytest.approx(8, rel=0.25)


# ------------------------------------------------------------------------------------- parameters


def test_set_params_makes_networks_anew_only_where_it_must():
    patcher = ScoreFunctionPatcher(width=8)
    gate = patcher.gate
    patcher.set_params(compression_rate=5, centred=False, form="direct")
    assert patcher.gate is gate
    patcher.set_params(window=3)
    assert patcher.gate.projection.out_features == 3
    patcher.set_params(form="next_patch")
    assert patcher.early is None
    assert patcher.needs_causal_backbone
    assert not ScoreFunctionPatcher().needs_causal_backbone


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"budget": "about"}, "'budget' parameter.*must be one of"),
        ({"centred": 1}, "'centred' parameter.*True or False"),
        ({"policy_weight": -1.0}, r"'policy_weight' parameter.*\[0, inf\)"),
        ({"rate_weight": -1.0}, r"'rate_weight' parameter.*\[0, inf\)"),
        ({"early_weight": -1.0}, r"'early_weight' parameter.*\[0, inf\)"),
        ({"discount": 1.5}, r"'discount' parameter.*\[0, 1\]"),
        ({"form": "next_patch", "early_weight": 2.0}, r"'early_weight' parameter.*\[0, 1\]"),
        (
            {"form": "next_patch", "budget": "min"},
            "must not depend on later decisions.*Got budget='min'.*Use 'target'",
        ),
    ],
)
def test_values_out_of_range_are_refused_when_used(params, message):
    patcher = ScoreFunctionPatcher(**params)
    with pytest.raises(InvalidParameterError, match=message):
        patcher(series(dtype=torch.float32))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"form": "next_path"}, "'form' parameter.*Did you mean 'next_patch'"),
        ({"window": 0}, r"'window' parameter.*\[1, inf\)"),
        ({"width": 0}, r"'width' parameter.*\[1, inf\)"),
        ({"num_layers": 1.5}, r"'num_layers' parameter.*\[1, inf\)"),
        ({"early_exit": None}, "'early_exit' parameter.*True or False"),
    ],
)
def test_sizes_are_refused_at_construction(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        ScoreFunctionPatcher(**params)


def test_vectors_wider_than_tokens_are_refused_in_the_causal_form():
    message = "'width'.*must not exceed.*d_model=8.*form='next_patch'.*Got 16"
    with pytest.raises(InvalidParameterError, match=message):
        causal_network(ScoreFunctionPatcher(8, form="next_patch"), d_model=8)
    causal_network(ScoreFunctionPatcher(8), d_model=8)  # no such limit here


@every_form
@pytest.mark.parametrize("num_steps", [1, 2])
def test_short_look_backs(params, num_steps):
    network = causal_network(ScoreFunctionPatcher(4, **params), num_steps).train()
    rows = series(ROWS, num_steps + 4)
    given = Batch(rows[:, :num_steps], None, rows[:, num_steps:], None, None)
    step = TrainingStep(network, make_loss("mse"))
    for _ in range(2):
        assert bool(step(given, seeded(), 0.5).loss.isfinite())


def test_a_level_is_followed_from_the_first_step_where_nothing_was_prepared():
    patcher = made(compression_rate=8, window=3)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    patcher.prepared_for.zero_()  # as at construction
    patcher.gate.level.fill_(9.0)  # above every logit: followed a step at a time, it stays there
    TrainingStep(network, make_loss("mse"))(batch(), seeded(), 0.0)
    assert patcher.is_prepared
    policy = patcher.eval()(network.norm(batch().series)[0]).policy
    found = policy.decide(float(patcher.gate.level))[0][:, 1:].double().mean()
    wanted = patcher.boundary_share(STEPS)  # no weight has moved
    assert float(found) == pytest.approx(wanted, abs=0.03)  # a level moves several at a time
