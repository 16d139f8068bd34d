from __future__ import annotations

import math
import pickle

import pytest
import torch
from sklearn.base import clone

from adaptivepatch import GroupPolicyGradient, ReinPatcher
from adaptivepatch.distributions import StepContext
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

STEPS = 48
POLICIES = [
    ("stratified", "exact"),
    ("stratified", "min"),
    ("segmental", "exact"),
    ("segmental", "min"),
    ("conditional_bernoulli", "exact"),
    ("conditional_bernoulli", "min"),
    ("capped_bernoulli", "min"),
    ("capped_bernoulli_threshold", "min"),
]
every_policy = pytest.mark.parametrize(("policy", "budget"), POLICIES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(rows=6, steps=STEPS, dtype=torch.float32):
    return torch.randn(rows, steps, generator=seeded(), dtype=torch.float64).to(dtype)


def stirred(patcher, seed=0):
    """The patcher with a network that has opinions."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in patcher.parameters():
            parameter.normal_(std=0.5, generator=generator)
        patcher.boundary_network.logit.weight.normal_(std=3.0, generator=generator)
    return patcher


# -------------------------------------------------------------------------------- where it starts


@pytest.mark.parametrize("rate", [2, 5.5, 16, 24])
@pytest.mark.parametrize("policy", ["stratified", "segmental", "conditional_bernoulli"])
def test_it_starts_as_fixed_patching(policy, rate):
    patcher = ReinPatcher(rate, policy=policy).eval()
    fixed = FixedPatcher(compression_rate=rate)(noise()).mode
    assert torch.equal(patcher(noise()).mode.boundary_mask, fixed.boundary_mask)


def test_it_can_start_from_recency():
    patcher = ReinPatcher(8, reference="recency", shortest=2).eval()
    recency = RecencyPatcher(8, shortest=2)
    assert torch.equal(patcher(noise()).mode.boundary_mask, recency(noise()).mode.boundary_mask)
    assert patcher.nominal_length(STEPS) == recency.nominal_length(STEPS)
    assert torch.equal(
        patcher.reference_patches(STEPS).boundary_mask,
        recency.reference_patches(STEPS).boundary_mask,
    )


def test_as_described_has_neither_prior_nor_help():
    patcher = ReinPatcher.as_described(8, num_samples=4)
    settings = patcher.gradient
    assert (patcher.policy, patcher.budget, patcher.candidates) == ("capped_bernoulli", "min", None)
    assert (patcher.prior, settings.baseline, settings.num_samples) == (0.0, "mean", 4)
    assert (settings.delay, settings.warmup, settings.frozen_share) == (0, 0, 0)
    prob = patcher(noise(50)).boundary_prob[:, 1:].mean()
    assert float(prob) == pytest.approx((6 - 1) / (STEPS - 1), rel=0.05)
    for progress in (0.0, 0.5, 0.99):
        assert patcher.plan(progress) == (4, True, False, 1, 0.0)


# ------------------------------------------------------------------------------------- the budget

HARD = {
    "noise": lambda n, t, g: torch.randn(n, t, generator=g),
    "constant": lambda n, t, g: torch.zeros(n, t),
    "spikes": lambda n, t, g: (torch.rand(n, t, generator=g) < 0.02).float() * 1e3,
    "tiny": lambda n, t, g: 1e-12 * torch.randn(n, t, generator=g),
    "huge": lambda n, t, g: 1e12 * torch.randn(n, t, generator=g),
    "steps": lambda n, t, g: torch.randn(n, 8, generator=g).repeat_interleave(-(-t // 8), 1)[:, :t],
}


@every_policy
def test_the_budget_holds_on_ten_thousand_hard_inputs(policy, budget):
    """1,250 for each of the eight policies, from 8 to 2048 steps, with gaps and without."""
    count, generator = 0, seeded(7)
    for steps, rate, rows in (
        *((8, 1.0, 40), (9, 3.1, 40), (48, 1.7, 40), (96, 8, 30), (337, 16, 15), (512, 48, 15)),
        *((1000, 96, 15), (2048, 64, 15)),
    ):
        patcher = stirred(ReinPatcher(rate, policy=policy, budget=budget), count).eval()
        slots = max(1, math.floor(steps / rate))
        for kind in HARD.values():
            series = kind(rows, steps, generator)
            observed = torch.rand(rows, steps, generator=generator) < 0.8 if count % 2 else None
            distribution = patcher(series, observed)
            drawn = distribution.sample(2, generator).segmentation
            mode = distribution.mode
            assert torch.equal(mode.boundary_mask, patcher(series, observed).mode.boundary_mask)
            for segmentation in (mode, drawn):
                patches = segmentation.boundary_mask.sum(1)
                assert bool(segmentation.boundary_mask[:, 0].all())
                assert int(patches.max()) <= slots
                if budget == "exact":
                    assert int(patches.min()) == slots
                if policy == "segmental" and slots > 1:
                    lengths = segmentation.patch_lengths[segmentation.patch_mask]
                    mean = steps / slots
                    assert int(lengths.min()) >= max(1, int(mean / 4))
                    assert int(lengths.max()) <= max(2, round(4 * mean))
            count += rows
    assert count >= 1250


@every_policy
def test_rows_of_a_group_draw_one_set(policy, budget):
    patcher = stirred(ReinPatcher(6, policy=policy, budget=budget)).train()
    group = torch.tensor([4, 1, 4, 1, 1, 0])
    distribution = patcher(noise(), None, group)
    rollout = distribution.sample(3, seeded())
    masks = rollout.segmentation.boundary_mask.view(3, 6, STEPS)
    assert torch.equal(masks[:, 0], masks[:, 2])
    assert torch.equal(masks[:, 1], masks[:, 3])
    assert torch.equal(rollout.log_prob[:, 1], rollout.log_prob[:, 4])
    assert distribution.entropy().shape == (6,)
    assert torch.equal(distribution.boundary_prob[0], distribution.boundary_prob[2])


@every_policy
def test_log_prob_is_that_of_the_raw_action(policy, budget):
    patcher = stirred(ReinPatcher(6, policy=policy, budget=budget).double()).train()
    distribution = patcher(noise(dtype=torch.float64))
    rollout = distribution.sample(5, seeded())
    sites = list(distribution.sites.positions)
    raw = rollout.action[:, sites].view(5, 6, -1)
    torch.testing.assert_close(distribution.policy.log_prob(raw), rollout.log_prob)
    capped = policy.startswith("capped")
    same = torch.equal(rollout.action, rollout.segmentation.boundary_mask)
    assert same != capped  # independent starts exceed the budget in some of 30 rows


# ------------------------------------------------------------------------------------- training


def planted(rows=64, steps=32, seed=0):
    """Two levels; the future tells both: one start matters, and it is uneven."""
    generator = seeded(seed)
    cut = torch.randint(4, steps - 4, (rows, 1), generator=generator)
    levels = torch.randn(rows, 2, generator=generator)
    where = (torch.arange(steps) >= cut).long()
    series = levels.gather(1, where) + 0.05 * torch.randn(rows, steps, generator=generator)
    target = levels.repeat_interleave(2, 1)
    return Batch(series, None, target, None, None), cut[:, 0]


def train(patcher, steps=400, lr=5e-3, **network):
    torch.manual_seed(0)
    network = small_network(
        patcher=patcher,
        context_length=32,
        horizon=4,
        values_per_patch=1,
        dtype=torch.float32,
        instance_norm=False,
        **network,
    )
    step = TrainingStep(network.train(), make_loss("mse"))
    groups = [
        {"params": [p for n, p in network.named_parameters() if not n.startswith("patcher.")]},
        *patcher.parameter_groups(lr),
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)
    for k in range(steps):
        train_step(step, optimizer, planted(seed=k)[0], generator=seeded(k), progress=k / steps)
    return network.eval()


def found(network):
    batch, cut = planted(rows=400, seed=12345)
    with torch.no_grad():
        mode = network.segment(batch.series)[1].mode
        loss = (network(batch.series) - batch.target).square().mean()
    offset = mode.boundary_mask[:, 1:].int().argmax(1) + 1 - cut
    # A constant offset costs next to nothing: the forecaster learns to undo it.
    hits = max(float(((offset - shift).abs() <= 2).float().mean()) for shift in range(-6, 7))
    return hits, float(loss)


@pytest.mark.slow
def test_the_reward_finds_a_planted_boundary():
    gradient = GroupPolicyGradient(8, learning_rate=1.0, mode_share=0.0, entropy_bonus=0.02)
    torch.manual_seed(0)
    patcher = ReinPatcher(
        16,
        policy="segmental",
        candidates=None,
        min_length=2,
        max_length=30,
        prior=0.0,
        network="normed",
        width=16,
        gradient=gradient,
    )
    hits, loss = found(train(patcher, steps=800))
    _, fixed = found(train(FixedPatcher(compression_rate=16), steps=800))
    assert hits > 0.7
    assert loss < 0.2 * fixed


def step_of(patcher, progress=0.5, batch=None, seed=0):
    torch.manual_seed(0)
    network = small_network(patcher=patcher, context_length=STEPS, dtype=torch.float32).train()
    if batch is None:
        rows = noise(8, STEPS + 4)
        batch = Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None)
    output = TrainingStep(network, make_loss("mse"))(batch, seeded(seed), progress)
    output.loss.backward()
    return network, output


def policy_gradients(patcher):
    return [p.grad for p in patcher.boundary_network.parameters()]


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_the_policy_rests_at_the_beginning_and_at_the_end(progress):
    patcher = ReinPatcher(8, gradient=GroupPolicyGradient(delay=0.1, frozen_share=0.2))
    _, output = step_of(patcher, progress)
    assert float(output.auxiliary_loss) == 0
    assert policy_gradients(patcher) == [None] * len(policy_gradients(patcher))
    assert patcher.plan(progress).num_samples == (1 if progress == 0 else 0)


def test_the_forecast_gradient_does_not_reach_the_policy():
    patcher = ReinPatcher(8, gradient=GroupPolicyGradient(learning_rate=0.0))
    step_of(patcher)
    assert policy_gradients(patcher) == [None] * len(policy_gradients(patcher))


@pytest.mark.parametrize("baseline", ["greedy", "early_exit"])
def test_one_rollout_learns_with_a_baseline_of_its_own(baseline):
    patcher = stirred(ReinPatcher(8, gradient=GroupPolicyGradient(1, baseline)))
    assert patcher.plan(0.5)[:3] == (1, True, baseline == "greedy")
    _, output = step_of(patcher)
    assert all(bool((g != 0).any()) for g in policy_gradients(patcher))
    assert bool(output.loss.isfinite())
    if baseline == "early_exit":
        assert bool((patcher.early_exit.projection.weight.grad != 0).any())


@pytest.mark.parametrize("clip", [1e9, 0.5])
def test_the_greedy_advantage_is_the_gain_over_the_mode(clip):
    patcher = ReinPatcher(8, gradient=GroupPolicyGradient(2, "greedy", clip=clip)).train()
    series = noise(3)
    distribution = patcher(series)
    context = StepContext(
        series=series,
        observed=None,
        target=torch.zeros(3, 4),
        distribution=distribution,
        rollout=distribution.sample(2, seeded()),
        forecast_loss=torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]),
        hidden=torch.zeros(1),
        group=None,
        progress=0.5,
        mode_loss=torch.tensor([2.0, 2.0, 2.0]),
    )
    advantage = patcher._advantage(context, "learn", None, torch.ones(3))
    unit = (4 / 6) ** 0.5  # root mean square of the first step
    expected = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.0, 1.0]]) / unit
    torch.testing.assert_close(advantage, expected.clamp(-clip, clip))


def test_the_warm_up_rewards_reconstruction_and_scores_nothing():
    patcher = stirred(ReinPatcher(8, gradient=GroupPolicyGradient(warmup=0.3)))
    assert patcher.plan(0.1)[:2] == (4, False)
    assert patcher.plan(0.5)[:2] == (4, True)
    step_of(patcher, 0.1)
    assert all(bool((g != 0).any()) for g in policy_gradients(patcher))


def test_the_policy_may_learn_at_every_third_step_only():
    patcher = stirred(ReinPatcher(8, gradient=GroupPolicyGradient(every=3)))
    torch.manual_seed(0)
    network = small_network(patcher=patcher, context_length=STEPS, dtype=torch.float32).train()
    rows = noise(8, STEPS + 4)
    batch = Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None)
    step, learnt = TrainingStep(network, make_loss("mse")), []
    for k in range(6):
        learnt.append((patcher.plan(0.5).is_scored, float(step(batch, seeded(k), 0.5)[2]) != 0))
    assert learnt == [(True, True), (False, False), (False, False)] * 2


def test_the_entropy_bonus_spreads_the_policy():
    entropies = {}
    for bonus in (0.0, 5.0):
        settings = GroupPolicyGradient(
            8, entropy_bonus=bonus, learning_rate=1.0, delay=0.0, frozen_share=0.0
        )
        patcher = stirred(ReinPatcher(8, gradient=settings))
        torch.manual_seed(0)
        network = small_network(patcher=patcher, context_length=STEPS, dtype=torch.float32).train()
        rows = noise(32, STEPS + 4)
        batch = Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None)
        step = TrainingStep(network, make_loss("mse"))
        optimizer = torch.optim.Adam(patcher.parameters(), 2e-2)
        for k in range(40):
            train_step(step, optimizer, batch, generator=seeded(k), progress=0.5)
        entropies[bonus] = float(patcher(batch.series).entropy().mean())
    assert entropies[5.0] > entropies[0.0] + 0.5


def test_unobserved_targets_weigh_rows_as_the_forecast_loss_does():
    patcher = stirred(ReinPatcher(8))
    rows = noise(8, STEPS + 4)
    seen = torch.ones(8, 4, dtype=torch.bool)
    seen[3] = False
    batch = Batch(rows[:, :STEPS], None, rows[:, STEPS:], seen, None)
    step_of(patcher, batch=batch)
    wild = rows.clone()
    wild[3, STEPS:] = 1e6
    again = stirred(ReinPatcher(8))
    step_of(again, batch=batch._replace(target=wild[:, STEPS:]))
    for first, second in zip(policy_gradients(patcher), policy_gradients(again), strict=True):
        torch.testing.assert_close(first, second)


# ------------------------------------------------------------------------------- what it reports


def test_the_history_says_how_the_policy_does():
    patcher = stirred(ReinPatcher(8))
    assert all(math.isnan(value) for value in patcher.take_metrics().values())
    step_of(patcher)
    metrics = patcher.take_metrics()
    assert metrics["policy_reward_spread"] > 0
    assert metrics["policy_entropy"] > 0
    assert 0 <= metrics["mode_agreement"] <= 1
    assert metrics["compression_rate"] == 8
    assert metrics["policy_signal_to_noise"] > 0
    assert metrics["policy_collapsed"] == 0
    shares = [value for name, value in metrics.items() if name.startswith("lengths_to_")]
    assert sum(shares) == pytest.approx(1)
    assert all(math.isnan(value) for value in patcher.take_metrics().values())


def test_a_policy_that_draws_one_set_only_has_collapsed():
    patcher = ReinPatcher(8, prior=50.0)
    step_of(patcher)
    metrics = patcher.take_metrics()
    assert metrics["policy_identical"] == 1
    assert metrics["policy_collapsed"] == 1
    assert metrics["mode_agreement"] == 1
    assert metrics["lengths_to_1.25"] == 1


# ------------------------------------------------------------------------------------- component


def test_a_frozen_policy_trains_the_backbone_on_its_mode():
    patcher = stirred(ReinPatcher(8)).freeze()
    assert patcher.plan(0.3) == (0, False, False, 1, 0.0)
    _, output = step_of(patcher)
    assert float(output.auxiliary_loss) == 0


def test_one_set_of_weights_serves_every_length_and_rate():
    trained = stirred(ReinPatcher(8, width=8))
    for steps, rate in ((96, 8), (336, 48), (2048, 96), (100, 7.3)):
        other = clone(trained).set_params(compression_rate=rate).eval()
        other.load_state_dict(trained.state_dict())
        mode = other(noise(2, steps)).mode
        assert mode.num_patches.tolist() == [max(1, int(steps / rate))] * 2


def test_nested_settings_are_parameters():
    patcher = ReinPatcher(8, gradient=GroupPolicyGradient())
    patcher.set_params(gradient__num_samples=6, compression_rate=12)
    assert clone(patcher).plan(0.5).num_samples == 6
    assert clone(patcher).gradient is not patcher.gradient
    assert "num_samples=6" in repr(patcher)


def test_training_leaves_it_picklable():
    patcher = stirred(ReinPatcher(8))
    network, _ = step_of(patcher)
    again = pickle.loads(pickle.dumps(network)).patcher
    assert torch.equal(again(noise()).mode.boundary_mask, patcher(noise()).mode.boundary_mask)


@pytest.mark.parametrize("network", ["convolution", "normed", "transformer"])
def test_networks_decide_by_local_shape(network):
    patcher = stirred(ReinPatcher(8, network=network, width=8, prior=0.0)).eval()
    first, second = noise(1), noise(1)
    second[0, 40:] += 3
    masks = [patcher(series).mode.boundary_mask for series in (first, second)]
    assert not torch.equal(*masks)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"policy": "stratifed"}, r"'policy'.*'stratifed' instead\. Did you mean 'stratified'"),
        ({"budget": "max"}, r"'budget'.*one of \['exact', 'min'\]"),
        ({"reference": "fixed"}, r"'reference'.*one of \['uniform', 'recency'\]"),
        ({"candidates": 3}, r"'candidates'.*\[6, inf\)"),
        ({"prior": -1.0}, r"'prior'.*\[0, inf\)"),
        ({"shortest": 0}, r"'shortest'.*\[1, inf\)"),
        ({"min_length": 3}, "only with policy='segmental'.*'min_length': 3"),
        ({"policy": "segmental", "max_length": 0}, r"'max_length'.*\[1, inf\)"),
        ({"policy": "segmental", "min_length": 40}, "cannot fill a look-back of 48 steps"),
        ({"policy": "capped_bernoulli"}, "budget='exact'.*'conditional_bernoulli'"),
        ({"gradient": GroupPolicyGradient(clip=-1)}, "'clip'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        ReinPatcher(12, **parameters)(noise()).mode  # noqa: B018


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 0}, "'width'"),
        ({"network": "rnn"}, r"'network'.*\['convolution', 'normed', 'transformer'\]"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_at_once(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        ReinPatcher(**parameters)


def test_settings_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="must be a GroupPolicyGradient. Got {'num_samples': 4}"):
        ReinPatcher(8, gradient={"num_samples": 4})(noise())


def test_a_single_patch_needs_no_policy():
    patcher = ReinPatcher(100)
    _, output = step_of(patcher)
    assert float(output.auxiliary_loss) == 0
    assert torch.equal(
        patcher(noise()).mode.boundary_mask, Segmentation.even(STEPS, 1, 6).boundary_mask
    )


def test_parameters_set_later_make_the_network_anew():
    patcher = ReinPatcher(4).set_params(width=16, gradient__num_samples=2)
    assert patcher.gradient.num_samples == 2
    assert patcher.boundary_network.logit.in_features == 16
    before = patcher.boundary_network
    assert patcher.set_params(compression_rate=8, gradient__clip=3.0).boundary_network is before
    patcher.set_params(network="transformer", policy="segmental", budget="min")
    fresh = ReinPatcher(8, "min", "segmental", network="transformer", width=16)
    assert patcher.state_dict().keys() == fresh.state_dict().keys()
    assert patcher(noise(2, 32)).mode.num_patches.max() <= 4


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(InvalidParameterError, match=r"multiple of 4. Got width=6. Use 8"):
        ReinPatcher(network="transformer", width=6)
    for limits, said in (
        ({"min_length": 5, "max_length": 3}, "min_length=5 exceeds max_length=3"),
        ({"min_length": 40}, "min_length=40 exceeds max_length=16"),
    ):
        with pytest.raises(InvalidParameterError, match=said):
            ReinPatcher(4, policy="segmental", **limits)(noise(2, 32))
    with pytest.raises(TypeError, match=r"torch.Tensor. Got ndarray instead"):
        ReinPatcher(4)(noise(2, 32).numpy())
    with pytest.raises(InvalidParameterError, match=r"torch.float32. Got torch.float64"):
        ReinPatcher(4)(noise(2, 32).double())
    with pytest.raises(InvalidParameterError, match="frozen_share must be below 1"):
        GroupPolicyGradient(delay=0.8, frozen_share=0.2).check()
