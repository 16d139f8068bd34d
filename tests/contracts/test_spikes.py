"""The contract beyond the patchers of the library: policies and a backbone from elsewhere train.

The spikes themselves are in ``spikes.py``; what did not fit at first and what changed is in
``docs/decisions/001-contract-spikes.md``.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from adaptivepatch.distributions import Rollout, StepContext
from adaptivepatch.network import PatchNetwork
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss, weighted_sum
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.contracts.spikes import (
    SPIKES,
    OrderedStarts,
    Segmental,
    Spike,
    batches,
    leave_one_out_loss,
    levels,
)

BACKBONES = ("patchtst", "transformer")
TRAINED = [
    ("segmental", "transformer"),
    ("nested_policy", "patchtst"),
    ("shared_policy", "transformer"),
    ("gaps_policy", "patchtst"),
    ("gaps_random", "transformer"),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Trained(NamedTuple):
    """A spike after training, in eval mode."""

    name: str
    network: PatchNetwork
    batch: Batch
    loss_before: float
    loss_after: float
    reached: set[str]


@torch.no_grad()
def evaluate(network: PatchNetwork, batch: Batch) -> float:
    network.eval()
    forecast = network(batch.series, batch.observed, batch.group)
    row_loss = make_loss("mse")(forecast, batch.target, batch.target_observed)
    total, weight = weighted_sum(row_loss, batch.target_observed)
    return float(total / weight)


def build(spike: Spike, backbone: str) -> PatchNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return spike.build(backbone)


@functools.cache  # trained once, then only read
def train(name: str, backbone: str) -> Trained:
    spike = SPIKES[name]
    network = build(spike, backbone)
    evaluation = next(batches(spike, seed=1, num_rows=64))
    loss_before = evaluate(network, evaluation)
    step = TrainingStep(network, make_loss("mse"))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    reached: set[str] = set()
    network.train()
    for number, batch in enumerate(itertools.islice(batches(spike, seed=2), spike.steps)):
        progress = number / spike.steps
        train_step(step, optimizer, batch, generator=generator, progress=progress)
        reached |= {
            key
            for key, parameter in network.named_parameters()
            if parameter.grad is not None and bool(parameter.grad.any())
        }
    loss_after = evaluate(network, evaluation)
    return Trained(name, network, evaluation, loss_before, loss_after, reached)


@pytest.fixture(scope="module", params=TRAINED, ids="-".join)
def trained(request: pytest.FixtureRequest) -> Trained:
    return train(*request.param)


# ------------------------------------------------------------------------- what holds for all


def test_loss_falls(trained):
    assert trained.loss_after < SPIKES[trained.name].ratio * trained.loss_before


def test_every_parameter_gets_a_gradient(trained):
    exempt = SPIKES[trained.name].without_gradient
    missing = {
        key
        for key, _ in trained.network.named_parameters()
        if key not in trained.reached and not key.endswith(exempt or ("-",))
    }
    assert not missing


@torch.no_grad()
def test_forecast_does_not_depend_on_other_rows(trained):
    network, batch = trained.network, trained.batch
    group = batch.group if batch.group is not None else torch.arange(len(batch.series))
    expected = network(batch.series, batch.observed, batch.group)
    for seed, kept in enumerate((0, 7, len(group) - 1)):
        own = group == group[kept]
        noise = torch.randn(batch.series.shape, generator=torch.Generator().manual_seed(seed))
        series = torch.where(own[:, None], batch.series, 10 * noise.cumsum(1))
        changed = network(series, batch.observed, batch.group)
        assert torch.equal(changed[own], expected[own])
        assert not torch.equal(changed[~own], expected[~own])


def test_rows_of_a_group_share_their_segmentation():
    run = train("shared_policy", "transformer")
    network, batch = run.network, run.batch
    _, distribution = network.segment(batch.series, batch.observed, batch.group)
    rollout = distribution.sample(2, torch.Generator().manual_seed(0))
    for mask in (distribution.mode.boundary_mask, *rollout.segmentation.boundary_mask.chunk(2)):
        windows = mask.view(-1, 4, mask.shape[1])
        assert torch.equal(windows, windows[:, :1].expand_as(windows))
        assert len(windows[:, 0].unique(dim=0)) > 1


def test_training_is_reproducible_by_seed():
    first = train("gaps_random", "transformer")
    second = train.__wrapped__("gaps_random", "transformer")
    assert first.loss_after == second.loss_after


# --------------------------------------------------------------------------- segmental policy

LIMITS = ((4, 2, 1, 3), (5, 3, 1, 3), (6, 3, 1, 4), (6, 2, 2, 4), (6, 6, 1, 2), (6, 1, 2, 6))


def all_masks(num_steps: int, num_patches: int, shortest: int, longest: int) -> Tensor:
    masks = []
    for inner in itertools.combinations(range(1, num_steps), num_patches - 1):
        edges = (0, *inner, num_steps)
        if all(shortest <= b - a <= longest for a, b in itertools.pairwise(edges)):
            masks.append([step in edges[:-1] for step in range(num_steps)])
    return torch.tensor(masks)


def policy_logits(num_rows: int, num_steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_steps)
    return 2 * torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("limits", LIMITS)
def test_segmental_probabilities_equal_enumeration(limits):
    masks, logits = all_masks(*limits), policy_logits(3, limits[0])
    policy = Segmental(logits, limits[1], limits[2:])
    every = masks.repeat_interleave(3, dim=0)  # one rollout per segmentation, of 3 rows
    log_prob = policy.log_prob(every)
    expected = (logits[None, :, 1:] * masks[:, None, 1:]).sum(-1).log_softmax(0)
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(3).double(), rtol=0, atol=1e-12)
    best = masks[expected.argmax(0)]
    assert torch.equal(policy.mode.boundary_mask, best)
    marginal = (expected.exp()[..., None] * masks[:, None]).sum(0)
    torch.testing.assert_close(policy.boundary_prob, marginal, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limits", LIMITS)
def test_segmental_samples_have_their_probability(limits):
    masks, logits = all_masks(*limits), policy_logits(1, limits[0])
    policy = Segmental(logits, limits[1], limits[2:])
    rollout = policy.sample(20_000, torch.Generator().manual_seed(0))
    frequency = (rollout.segmentation.boundary_mask[:, None] == masks).all(-1).double().mean(0)
    assert float(frequency.sum()) == pytest.approx(1)  # nothing outside the limits
    torch.testing.assert_close(frequency, policy.log_prob(masks)[:, 0].exp(), rtol=0, atol=0.015)
    torch.testing.assert_close(rollout.log_prob, policy.log_prob(rollout.action))


def test_ordered_starts_probabilities_sum_to_one():
    logits, num_fine = policy_logits(2, 5), 4
    ranks = []
    for order in itertools.permutations(range(1, 5), num_fine - 1):
        ranks.append([order.index(step) + 1 if step in order else 0 for step in range(5)])
    policy = OrderedStarts(logits, num_fine, 2)
    log_prob = policy.log_prob(torch.tensor(ranks).repeat_interleave(2, dim=0))
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(2).double(), rtol=0, atol=1e-12)
    rollout = policy.sample(20_000, torch.Generator().manual_seed(0))
    first = rollout.action.view(-1, 2, 5)[:, 0]
    frequency = (first[:, None] == torch.tensor(ranks)).all(-1).double().mean(0)
    torch.testing.assert_close(frequency, log_prob[:, 0].exp(), rtol=0, atol=0.015)


def policy_loss(policy: Segmental, actions: list[Tensor], rewards: list[Tensor]) -> Tensor:
    """Return the auxiliary loss of one row, given its rollouts and their rewards."""
    action = torch.stack(actions)
    rollout = Rollout(Segmentation(action), action=action, log_prob=policy.log_prob(action))
    nothing = torch.zeros(1, action.shape[1])
    context = StepContext(
        series=nothing,
        observed=None,
        target=nothing,
        distribution=policy,
        rollout=rollout,
        forecast_loss=-torch.stack(rewards)[:, None],
        hidden=nothing,
        group=None,
        progress=0.0,
    )
    return leave_one_out_loss(context)


def test_policy_gradient_equals_the_gradient_of_the_expected_reward():
    limits = (6, 3, 1, 4)
    masks, logits = all_masks(*limits), policy_logits(1, 6)
    reward = torch.randn(len(masks), generator=torch.Generator().manual_seed(3)).double()

    def expected_reward(values: Tensor) -> Tensor:
        return Segmental(values, limits[1], limits[2:]).log_prob(masks)[:, 0].exp() @ reward

    logits.requires_grad_()
    exact = torch.autograd.grad(expected_reward(logits), logits)[0]
    with torch.no_grad():
        nudge = 1e-5 * torch.eye(6, dtype=torch.float64)[:, None]
        finite = [(expected_reward(logits + e) - expected_reward(logits - e)) / 2e-5 for e in nudge]
    torch.testing.assert_close(exact[0], torch.stack(finite), rtol=0, atol=1e-8)

    # The mean of the leave-one-out estimate over all pairs of rollouts, each with its probability.
    policy = Segmental(logits, limits[1], limits[2:])
    prob = policy.log_prob(masks)[:, 0].exp().detach()
    expectation = sum(
        prob[i] * prob[j] * policy_loss(policy, [masks[i], masks[j]], [reward[i], reward[j]])
        for i, j in itertools.product(range(len(masks)), repeat=2)
    )
    estimated = -torch.autograd.grad(expectation, logits)[0]
    torch.testing.assert_close(estimated, exact, rtol=0, atol=1e-12)


def gradients(network: PatchNetwork, batch: Batch) -> dict[str, Tensor | None]:
    network.train()
    network.zero_grad(set_to_none=True)
    step = TrainingStep(network, make_loss("mse"))
    step(batch, torch.Generator().manual_seed(0), 0.0).loss.backward()
    return {key: parameter.grad for key, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", ["segmental", "nested_policy"])
def test_policy_learns_from_its_auxiliary_loss_alone(name, monkeypatch):
    network, batch = build(SPIKES[name], "transformer"), next(batches(SPIKES[name], seed=3))
    full = gradients(network, batch)
    monkeypatch.setattr(network.patcher, "auxiliary_loss", lambda context: None)
    forecast_only = gradients(network, batch)
    for key, gradient in forecast_only.items():
        if key.startswith("patcher."):
            assert gradient is None, key
            assert full[key].any(), key
        else:
            torch.testing.assert_close(gradient, full[key], rtol=0, atol=0)


def hit_rate(mask: Tensor, planted: Tensor) -> float:
    return float((mask & planted)[:, 1:].sum() / planted[:, 1:].sum())


def test_segmental_policy_finds_planted_boundaries():
    run = train("segmental", "transformer")
    before = build(SPIKES["segmental"], "transformer").eval()
    batch = levels(256, torch.Generator().manual_seed(5))
    planted = batch.target.diff(dim=1, prepend=batch.target[:, :1]) != 0
    learned = run.network.segment(batch.series)[1].mode
    initial = before.segment(batch.series)[1].mode
    even = Segmentation.even(batch.series.shape[1], 4, len(batch.series))
    assert hit_rate(initial.boundary_mask, planted) < 0.5
    assert hit_rate(learned.boundary_mask, planted) > 0.8
    lookback, distribution = run.network.segment(batch.series)
    loss = {}
    for key, rows in {"learned": learned, "initial": initial, "even": even}.items():
        forecast = run.network.forecast(lookback, distribution, Rollout(rows)).value
        loss[key] = float((forecast - batch.target).detach().square().mean())
    assert loss["learned"] < 0.6 * min(loss["initial"], loss["even"])


# ---------------------------------------------------------------------------------- two levels


def test_coarse_patches_are_unions_of_fine_ones():
    network = build(SPIKES["nested_policy"], "transformer").eval()
    batch = next(batches(SPIKES["nested_policy"], seed=3))
    _, distribution = network.segment(batch.series)
    rollout = distribution.sample(4, torch.Generator().manual_seed(0))
    for fine in (distribution.mode, rollout.segmentation):
        coarse = fine.coarse
        assert not (coarse.boundary_mask & ~fine.boundary_mask).any()
        assert set(coarse.num_patches.tolist()) == {3}
        ends = fine.parent.patch_lengths.cumsum(1) - 1
        fine_ends = fine.patch_lengths.cumsum(1)
        assert torch.equal(fine_ends.gather(1, ends), coarse.patch_lengths.cumsum(1))


def test_the_coarse_level_reaches_the_forecast():
    network = build(SPIKES["nested_policy"], "transformer").eval()
    batch = next(batches(SPIKES["nested_policy"], seed=3))
    lookback, distribution = network.segment(batch.series)
    fine = distribution.mode
    flat = torch.ones_like(fine.parent.boundary_mask)
    other = Segmentation(fine.boundary_mask, parent=Segmentation(flat), exact=True)
    first = network.forecast(lookback, distribution, Rollout(fine)).value
    second = network.forecast(lookback, distribution, Rollout(other)).value
    assert (first != second).any(1).all()


# ---------------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", [name for name in SPIKES if name.startswith("gaps")])
@pytest.mark.parametrize("junk", [float("nan"), 1e30, -float("inf")])
def test_values_at_gaps_change_nothing(name, backbone, junk):
    network, again = build(SPIKES[name], backbone), build(SPIKES[name], backbone)
    batch = next(batches(SPIKES[name], seed=3))
    dirty = batch._replace(
        series=batch.series.where(batch.observed, torch.tensor(junk)),
        target=batch.target.where(batch.target_observed, torch.tensor(junk)),
    )
    expected, found = gradients(network, batch), gradients(again, dirty)
    for key, gradient in expected.items():
        assert torch.equal(found[key], gradient), key
    network.eval()
    assert torch.equal(network(dirty.series, dirty.observed), network(batch.series, batch.observed))


def test_missing_patch_is_a_learned_token():
    network = build(SPIKES["gaps_fixed"], "transformer")
    batch = next(batches(SPIKES["gaps_fixed"], seed=3))
    assert gradients(network, batch)["embedding.missing_token"].any()


@pytest.mark.parametrize("name", ["gaps_random", "gaps_policy"])
def test_where_patches_move_unobserved_steps_add_nothing(name):
    network = build(SPIKES[name], "transformer")
    batch = next(batches(SPIKES[name], seed=3))
    batch.observed[:, 4:18] = False
    found = gradients(network, batch)
    for key in ("embedding.weight", "embedding.presence"):
        assert not found[key][4:18].any()
        assert found[key][:4].any()


def test_rows_count_by_their_observed_targets():
    network = build(SPIKES["gaps_fixed"], "transformer")
    batch = next(batches(SPIKES["gaps_fixed"], seed=3))
    batch.target_observed[5] = False
    step = TrainingStep(network.train(), make_loss("mse"))
    output = step(batch, torch.Generator(), 0.0)
    forecast = network(batch.series, batch.observed)
    error = (forecast - batch.target).square()
    torch.testing.assert_close(output.forecast_loss, error[batch.target_observed].mean().detach())
