"""Levels of patches: what each level is given, what it may spend, and how it learns."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from sklearn.base import clone
from torch import nn

from adaptivepatch.distributions import Deterministic, Rollout, StepContext, StepPlan
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network
from tests.contracts.spikes import Segmental, SegmentalPolicy

NUM_STEPS, ROWS = 24, 6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def look_backs(num_rows=ROWS, num_steps=NUM_STEPS, seed=0, dtype=torch.float64):
    return torch.randn(num_rows, num_steps, generator=generator(seed), dtype=dtype).cumsum(1)


def levels_of(segmentation):
    found = [segmentation]
    while found[-1].parent is not None:
        found.append(found[-1].parent)
    return found


class Given(Patcher):
    """Cuts every row where it is told to, and remembers what it was given."""

    name = "given"

    def __init__(self, starts=(0,), exact=True):
        super().__init__()
        self.starts = starts
        self.exact = exact
        self.seen, self.contexts, self.prepared = [], [], []

    def capacity(self, num_steps):
        return min(len(self.starts), num_steps)

    def propose(self, series, observed, group):
        self.seen.append((series, observed, group))
        mask = torch.zeros(series.shape, dtype=torch.bool)
        mask[:, [s for s in self.starts if s < series.shape[1]]] = True
        return Deterministic(Segmentation(mask, len(self.starts), exact=self.exact))

    def auxiliary_loss(self, context):
        self.contexts.append(context)
        return torch.tensor(float(len(self.starts)))

    def prepare(self, series, observed, generator):
        self.prepared.append((series, observed, generator))

    def parameter_groups(self, lr):
        return [{"params": [], "lr": lr * len(self.starts)}]

    def take_metrics(self):
        return {"starts": float(len(self.starts))}


class Ragged(Given):
    """Row n starts patches at its first n + 1 of the given steps: the other slots are unused."""

    name = "ragged"

    def propose(self, series, observed, group):
        self.seen.append((series, observed, group))
        mask = torch.zeros(series.shape, dtype=torch.bool)
        for n in range(len(series)):
            mask[n, list(self.starts[: 1 + n % len(self.starts)])] = True
        return Deterministic(Segmentation(mask, len(self.starts)))


# ---------------------------------------------------------------------------------- what is seen


def test_the_coarse_level_sees_the_means_of_the_fine_patches():
    coarse = Given((0, 2))
    series = look_backs()
    mode = HierarchicalPatcher(Given((0, 4, 10)), coarse)(series).mode
    ((means, observed, _),) = coarse.seen
    expected = [series[:, a:b].mean(1) for a, b in ((0, 4), (4, 10), (10, NUM_STEPS))]
    torch.testing.assert_close(means, torch.stack(expected, 1))
    assert observed is None
    assert mode.patch_lengths[0].tolist() == [4, 6, 14]
    assert mode.parent.patch_lengths[0].tolist() == [2, 1]
    assert mode.coarse.patch_lengths[0].tolist() == [10, 14]


def test_means_are_over_observed_steps_and_empty_patches_are_unobserved():
    coarse = Given((0, 1))
    series = look_backs()
    observed = torch.ones_like(series, dtype=torch.bool)
    observed[1, :4] = False
    observed[2, 5] = False
    HierarchicalPatcher(Given((0, 4, 10)), coarse)(series, observed).mode  # noqa: B018
    means, seen, _ = coarse.seen[0]
    assert seen.tolist() == [[n != 1, True, True] for n in range(ROWS)]
    torch.testing.assert_close(means[2, 1], series[2, [4, 6, 7, 8, 9]].mean())
    assert means[1, 0] == 0


def test_unused_slots_are_unobserved_and_start_no_coarse_patch():
    coarse = Given((0, 2, 3))
    top = Given((0, 1, 2))
    fine = Ragged((0, 5, 8, 13, 20))
    mode = HierarchicalPatcher(fine, HierarchicalPatcher(coarse, top))(look_backs(5)).mode
    assert mode.num_patches.tolist() == [1, 2, 3, 4, 5]
    assert torch.equal(coarse.seen[0][1], mode.patch_mask)
    assert mode.parent.num_patches.tolist() == [1, 1, 2, 3, 3]
    assert mode.parent.parent.num_patches.tolist() == [1, 1, 2, 3, 3]
    checked = mode
    while checked is not None:  # the invariants, read again
        Segmentation(checked.boundary_mask, checked.capacity, checked.parent)
        checked = checked.parent
    assert not mode.parent.exact
    assert not mode.parent.parent.exact


def test_rollouts_are_given_their_own_means_and_groups():
    coarse = Given((0, 2))
    patcher = HierarchicalPatcher(RandomPatcher(6), coarse)
    series, group = look_backs(), torch.tensor([3, 3, 0, 0, 7, 7])
    rollout = patcher(series, None, group).sample(3, generator())
    means, _, groups = coarse.seen[0]
    assert means.shape == (3 * ROWS, 4)
    for row in range(3 * ROWS):
        first, last = rollout.segmentation.patch_starts[row, 1:3]
        torch.testing.assert_close(means[row, 1], series[row % ROWS, first:last].mean())
    pairs = groups.view(9, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert len(groups.unique()) == 9


def test_nothing_coarse_is_computed_until_it_is_read():
    coarse = Given((0,))
    distribution = HierarchicalPatcher(FixedPatcher(4), coarse)(look_backs())
    assert coarse.seen == []
    assert distribution.mode is distribution.mode
    assert len(coarse.seen) == 1


# ---------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("num_steps", [1, 2, 7, 48, 337])
@pytest.mark.parametrize("seed", range(5))
def test_the_budget_of_every_level_holds(num_steps, seed):
    rates = (1 + 5 * torch.rand(3, generator=generator(seed))).tolist()
    parts = [RandomPatcher(rate, seed=k) for k, rate in enumerate(rates)]
    patcher = HierarchicalPatcher(parts[0], HierarchicalPatcher(parts[1], parts[2]))
    series = look_backs(8, num_steps, seed)
    series[0] = 0
    rollout = patcher.train()(series).sample(4, generator(seed))
    reference = patcher.reference_patches(num_steps)
    for segmentation in (patcher.eval()(series).mode, rollout.segmentation, reference):
        allowed = num_steps
        for level, part in zip(levels_of(segmentation), parts, strict=True):
            assert level.num_steps == allowed
            allowed = part.capacity(allowed)
            assert allowed == max(1, int(level.num_steps / part.compression_rate))
            assert level.capacity == allowed
            assert int(level.num_patches.max()) <= allowed
            Segmentation(level.boundary_mask, level.capacity, level.parent)
    assert patcher.capacity(num_steps) == parts[0].capacity(num_steps)


def test_the_defaults_are_even_patches_of_8_points_and_of_6_patches():
    mode = HierarchicalPatcher()(torch.zeros(2, 336)).mode
    assert mode.is_shared
    assert mode.parent.is_shared
    assert mode.patch_lengths[0].tolist() == [8] * 42
    assert mode.parent.patch_lengths[0].tolist() == [6] * 7
    assert HierarchicalPatcher(coarse=HierarchicalPatcher())(
        torch.zeros(1, 336)
    ).mode.parent.parent.patch_lengths.tolist() == [[5]]


def test_sizes_are_those_of_the_fine_level():
    patcher = HierarchicalPatcher(FixedPatcher(8, 6), FixedPatcher(3, 2))
    assert (patcher.capacity(48), patcher.nominal_length(48), patcher.halo) == (8, 6, 2)


# ------------------------------------------------------------------------------- probabilities


def policies(fine=3, coarse=2, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        patcher = HierarchicalPatcher(SegmentalPolicy(fine), SegmentalPolicy(coarse))
        for logit in (patcher.fine.logit, patcher.coarse.logit):
            nn.init.normal_(logit.weight)
        return patcher.double()


def log_prob_of(patcher, series, segmentation):
    """Fine plus coarse log-probability of rollouts, computed anew: (G, N)."""
    num_rows, num_steps = series.shape
    fine = Segmental(
        patcher.fine.logits(series, None), patcher.fine.num_patches, (2, 3 * num_steps // 4)
    )
    total = fine.log_prob(segmentation.boundary_mask)
    length = segmentation.patch_lengths
    pooled = torch.stack(
        [
            torch.stack(
                [part.mean() for part in series[row % num_rows].split(length[row].tolist())]
            )
            for row in range(len(length))
        ]
    )
    coarse = Segmental(
        patcher.coarse.logits(pooled, None),
        patcher.coarse.num_patches,
        (2, 3 * pooled.shape[1] // 4),
    )
    return total + coarse.log_prob(segmentation.parent.boundary_mask).view(-1, num_rows)


def test_log_probabilities_are_sums_over_levels():
    patcher, series = policies(6, 2), look_backs()
    rollout = patcher(series).sample(5, generator())
    assert rollout.log_prob.shape == (5, ROWS)
    expected = log_prob_of(patcher, series, rollout.segmentation)
    torch.testing.assert_close(rollout.log_prob, expected, rtol=0, atol=1e-10)
    three = HierarchicalPatcher(RandomPatcher(2), patcher)
    assert three(series).sample(2, generator()).log_prob.shape == (2, ROWS)
    assert HierarchicalPatcher()(series).sample(2, generator()).log_prob is None


@pytest.mark.parametrize("kind", ["fine", "coarse"])
def test_a_level_without_probability_adds_nothing(kind):
    policy = SegmentalPolicy(2).double()
    even = FixedPatcher(compression_rate=4)
    patcher = HierarchicalPatcher(**{"fine": even, "coarse": even, kind: policy})
    rollout = patcher(look_backs()).sample(3, generator())
    own = rollout.fine if kind == "fine" else rollout.coarse
    assert torch.equal(rollout.log_prob.flatten(), own.log_prob.flatten())
    other = rollout.coarse if kind == "fine" else rollout.fine
    assert other.log_prob is None
    assert rollout.action.shape == (3 * ROWS, NUM_STEPS + patcher.capacity(NUM_STEPS))


def test_joint_actions_have_their_joint_probability():
    patcher, series = policies(4, 2), look_backs(1, 10)
    draws = 20_000
    rollout = patcher(series).sample(draws, generator())
    actions = [tuple(action) for action in rollout.action.tolist()]
    prob = dict(zip(actions, rollout.log_prob.detach()[:, 0].exp().tolist(), strict=True))
    assert sum(prob.values()) == pytest.approx(1, abs=1e-9)  # each was drawn
    chi_square = sum(
        (count - draws * prob[action]) ** 2 / (draws * prob[action])
        for action, count in Counter(actions).items()
    )
    free = len(prob) - 1
    assert free > 5
    assert chi_square < free + 5 * (2 * free) ** 0.5


# ---------------------------------------------------------------------------------- training


def context_of(patcher, distribution, rollout, loss, series, **changes):
    return StepContext(
        series=series,
        observed=None,
        target=torch.zeros(len(series), 2),
        distribution=distribution,
        rollout=rollout,
        forecast_loss=loss,
        hidden=torch.zeros(len(series), 1, 1),
        group=None,
        progress=0.5,
        **changes,
    )


def test_the_gradient_is_that_of_the_expected_reward():
    """Leave-one-out over many rollouts of one row, against the sum over all joint actions."""
    patcher, series = policies(4, 2), look_backs(1, 10)

    def reward(segmentation):  # of both levels, and of their interplay
        fine = segmentation.boundary_mask.double() @ torch.linspace(0, 1, 10).double()
        coarse = segmentation.parent.boundary_mask.double() @ torch.tensor([0.0, 1, 2, 0]).double()
        return fine + coarse + fine * coarse

    def gradients(value):
        parameters = list(patcher.parameters())
        found = torch.autograd.grad(value, parameters)
        return torch.cat([g.flatten() for g in found])

    distribution = patcher(series)
    rollout = distribution.sample(60_000, generator())
    loss = -reward(rollout.segmentation).view(-1, 1)
    estimate = gradients(
        patcher.auxiliary_loss(context_of(patcher, distribution, rollout, loss, series))
    )
    _, first = torch.unique(rollout.action, dim=0, return_inverse=True)
    one_each = torch.stack([(first == k).nonzero()[0, 0] for k in range(int(first.max()) + 1)])
    log_prob = patcher(series).sample(60_000, generator()).log_prob[one_each, 0]
    assert float(log_prob.detach().exp().sum()) == pytest.approx(1, abs=1e-9)
    exact = gradients((log_prob.exp() * loss[one_each, 0]).sum())
    assert float((estimate - exact).norm() / exact.norm()) < 0.05


def test_every_level_is_given_its_own_context():
    parts = [Given((0, 2, 5, 9)), Given((0, 1, 3)), Given((0, 2))]
    patcher = HierarchicalPatcher(parts[0], HierarchicalPatcher(parts[1], parts[2]))
    series, group = look_backs(), torch.arange(ROWS) // 2
    distribution = patcher(series, None, group)
    rollout = distribution.sample(3, generator())
    loss = torch.rand(3, ROWS)
    context = context_of(patcher, distribution, rollout, loss, series, mode_loss=torch.rand(ROWS))
    assert float(patcher.auxiliary_loss(context)) == 4 + 3 + 2
    shapes = [(ROWS, NUM_STEPS), (3 * ROWS, 4), (3 * ROWS, 3)]
    for part, level, shape in zip(parts, levels_of(rollout.segmentation), shapes, strict=True):
        (own,) = part.contexts
        assert own.series.shape == shape
        assert own.forecast_loss is loss
        assert own.mode_loss is context.mode_loss
        assert own.target is context.target
        assert own.progress == 0.5
        assert torch.equal(own.rollout.segmentation.boundary_mask, level.boundary_mask)
        assert own.distribution.mode.num_rows == shape[0]
        assert own.group is None or len(own.group) == shape[0]


def test_training_on_the_mode_gives_every_level_its_part_of_it():
    parts = [Given((0, 2, 5, 9)), Given((0, 1, 3)), Given((0, 2))]
    patcher = HierarchicalPatcher(parts[0], HierarchicalPatcher(parts[1], parts[2]))
    series = look_backs()
    distribution = patcher(series)
    context = context_of(
        patcher, distribution, Rollout(distribution.mode), torch.rand(1, ROWS), series
    )
    assert float(patcher.auxiliary_loss(context)) == 9
    for part, level in zip(parts, levels_of(distribution.mode), strict=True):
        (own,) = part.contexts
        assert torch.equal(own.rollout.segmentation.boundary_mask, level.boundary_mask)
        assert own.series.shape == (ROWS, level.num_steps)


class Planned(RandomPatcher):
    name = "planned"

    def __init__(self, wish=None):
        super().__init__(4)
        self.wish = wish

    def plan(self, progress):
        return self.wish


@pytest.mark.parametrize(
    ("fine", "coarse", "expected"),
    [
        (None, None, StepPlan()),
        (StepPlan(), StepPlan(4, True, False, 2, 0.5), StepPlan(4, True, False, 2, 0.5)),
        (None, StepPlan(4, True, True, 1, 0.5), StepPlan(4, True, True, 1, 0.5)),
        (None, StepPlan(num_samples=0), StepPlan(num_samples=0)),
        (StepPlan(), StepPlan(num_samples=0), StepPlan(mode_share=1.0)),
        (StepPlan(2, True), StepPlan(5, False, True), StepPlan(5, True, True)),
        (StepPlan(0), StepPlan(0, False, True), StepPlan(0, False, True)),
    ],
)
def test_the_plan_is_the_largest_of_what_levels_ask_for(fine, coarse, expected):
    fine, coarse = (
        FixedPatcher(compression_rate=2) if wish is None else Planned(wish)
        for wish in (fine, coarse)
    )
    assert HierarchicalPatcher(fine, coarse).plan(0.5) == expected


def batch(num_rows=16, num_steps=NUM_STEPS, gaps=False):
    series = look_backs(num_rows, num_steps + 4)
    observed = torch.rand(series.shape, generator=generator()) > 0.2 if gaps else None
    if observed is None:
        return Batch(series[:, :num_steps], None, series[:, num_steps:], None, None)
    return Batch(
        series[:, :num_steps],
        observed[:, :num_steps],
        series[:, num_steps:],
        observed[:, num_steps:],
        torch.arange(num_rows) // 2,
    )


@pytest.mark.parametrize("backbone", ["patchtst", "transformer"])
@pytest.mark.parametrize("gaps", [False, True])
def test_policies_of_all_levels_learn_in_one_step(backbone, gaps):
    patcher = HierarchicalPatcher(
        SegmentalPolicy(20), HierarchicalPatcher(SegmentalPolicy(6), SegmentalPolicy(2))
    )
    network = small_network(backbone, patcher, context_length=48).train()
    output = TrainingStep(network, make_loss("mse"))(batch(16, 48, gaps), generator(), 0.5)
    output.loss.backward()
    for level in (patcher.fine, patcher.coarse.fine, patcher.coarse.coarse):
        for name, parameter in level.named_parameters():
            assert bool(parameter.grad.any()), name
            assert bool(parameter.grad.isfinite().all())


def test_only_trained_levels_change():
    patcher = HierarchicalPatcher(SegmentalPolicy(6).freeze(), SegmentalPolicy(2))
    network = small_network("transformer", patcher, context_length=NUM_STEPS).train()
    assert not patcher.fine.training
    assert patcher.coarse.training
    before = {k: v.clone() for k, v in patcher.state_dict().items()}
    step = TrainingStep(network, make_loss("mse"))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
    train_step(step, optimizer, batch(), generator=generator())
    changed = {k for k, v in patcher.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(key.startswith("coarse.") for key in changed)


def chunks(rate, **parameters):
    """A patcher that learns through its gate and needs no data to set it up."""
    sizes = {"budget": "exact", "wiring": "encoder", "width": 8, "num_layers": 1}
    return DynamicChunkingPatcher(rate, **sizes, **parameters)


@pytest.mark.parametrize("kind", ["fine", "coarse"])
def test_end_to_end_levels_get_forecast_gradient_through_their_gate(kind):
    chunking = chunks(3.0, ratio_weight=0.0)
    fixed = FixedPatcher(compression_rate=2)
    patcher = HierarchicalPatcher(**{"fine": fixed, "coarse": fixed, kind: chunking})
    network = small_network("transformer", patcher, context_length=NUM_STEPS).train()
    series = look_backs()
    rollout = patcher(series).sample(1, generator())
    assert rollout.gate.shape == series.shape
    assert torch.equal(rollout.gate, torch.ones_like(series))
    output = TrainingStep(network, make_loss("mse"))(batch(), generator(), 0.5)
    output.loss.backward()
    assert bool(chunking.routing.query.weight.grad.any())


def test_gates_of_both_levels_multiply():
    patcher = HierarchicalPatcher(chunks(2.0), chunks(2.0)).double()
    rollout = patcher(look_backs()).sample(2, generator())
    inside = rollout.coarse.gate.gather(1, rollout.segmentation.patch_index)
    assert torch.equal(rollout.gate, rollout.fine.gate * inside)
    total = rollout.gate.sum()
    weights = [level.routing.query.weight for level in patcher.levels]
    gradients = torch.autograd.grad(total, weights)
    assert all(bool(gradient.any()) for gradient in gradients)


# ------------------------------------------------------------------------------------- delegates


def test_both_levels_are_prepared_the_coarse_one_on_means():
    fine, coarse = Ragged((0, 4, 10)), Given((0,))
    series, source = look_backs(), generator()
    HierarchicalPatcher(fine, coarse).prepare(series, None, source)
    assert fine.prepared == [(series, None, source)]
    ((means, observed, used),) = coarse.prepared
    assert means.shape == observed.shape == (ROWS, 3)
    assert used is source
    assert not bool(observed.all())


def test_frozen_levels_are_not_prepared_again():
    fine, coarse = Given((0, 4)), Given((0,))
    HierarchicalPatcher(fine.freeze(), coarse).prepare(look_backs(), None, generator())
    assert (len(fine.prepared), len(coarse.prepared)) == (0, 1)
    coarse.freeze()
    HierarchicalPatcher(Given((0, 4)), coarse).prepare(look_backs(), None, generator())
    assert len(coarse.prepared) == 1


def test_groups_and_metrics_of_all_levels_are_collected():
    inner = HierarchicalPatcher(Given((0, 2)), Given((0,)))
    patcher = HierarchicalPatcher(Given((0, 1, 2)), inner)
    assert [group["lr"] for group in patcher.parameter_groups(1.0)] == [3, 2, 1]
    assert patcher.take_metrics() == {
        "fine_starts": 3,
        "coarse_fine_starts": 2,
        "coarse_coarse_starts": 1,
    }


def test_tags_are_those_of_any_level():
    fixed, policy = FixedPatcher(compression_rate=2), SegmentalPolicy(2)
    assert not HierarchicalPatcher.trainable
    assert not HierarchicalPatcher(fixed, fixed).stochastic
    assert HierarchicalPatcher(fixed, RandomPatcher(2)).stochastic
    assert not HierarchicalPatcher(fixed, RandomPatcher(2)).trainable
    assert HierarchicalPatcher(policy, fixed).trainable
    assert HierarchicalPatcher(fixed, HierarchicalPatcher(fixed, policy)).trainable


def test_freezing_freezes_every_level():
    patcher = HierarchicalPatcher(SegmentalPolicy(4), SegmentalPolicy(2))
    fine = patcher.fine
    assert patcher.freeze() is patcher
    assert clone(fine) is fine
    assert clone(patcher) is patcher
    assert not patcher.train().coarse.training


@pytest.mark.parametrize("kind", ["fine", "coarse"])
def test_a_frozen_level_takes_part_with_its_mode(kind):
    other = "coarse" if kind == "fine" else "fine"
    parts = {kind: SegmentalPolicy(6 if kind == "fine" else 3), other: RandomPatcher(3)}
    patcher = HierarchicalPatcher(**parts).double()
    assert patcher.plan(0.0) == parts[kind].plan(0.0)
    parts[kind].freeze()
    assert patcher.plan(0.0) == StepPlan()  # the random level's
    rollout = patcher(look_backs()).sample(4, generator())
    drawn = [level.boundary_mask.view(4, ROWS, -1) for level in levels_of(rollout.segmentation)]
    frozen, drawn = drawn if kind == "fine" else drawn[::-1]
    assert bool((drawn[0] != drawn[1]).any())
    assert rollout.log_prob is None
    if kind == "fine":
        assert bool((frozen == frozen[:1]).all())
    else:
        view = rollout.view
        assert torch.equal(rollout.coarse.segmentation.boundary_mask, frozen.flatten(0, 1))
        mode = parts[kind].propose(view.series, None, None).mode
        assert torch.equal(mode.boundary_mask, frozen.flatten(0, 1))
    both = HierarchicalPatcher(SegmentalPolicy(6).freeze(), FixedPatcher(compression_rate=2))
    assert both.plan(0.0) == StepPlan(num_samples=0)


def test_a_frozen_level_stays_itself_in_clones():
    frozen = SegmentalPolicy(4).freeze()
    copy = clone(HierarchicalPatcher(frozen, SegmentalPolicy(2)))
    assert copy.fine is frozen
    assert copy.coarse.num_patches == 2


def test_nested_parameters_are_set():
    patcher = HierarchicalPatcher(FixedPatcher(8), HierarchicalPatcher(coarse=RandomPatcher(2)))
    patcher.set_params(fine__patch_length=4, coarse__coarse__compression_rate=3)
    assert patcher.fine.patch_length == 4
    assert patcher.coarse.coarse.compression_rate == 3
    patcher.set_params(fine=RandomPatcher(6), fine__seed=4)
    assert patcher.fine.seed == 4
    assert patcher.set_params(fine=None).capacity(336) == 42


# ---------------------------------------------------------------------------------------- errors


def test_parameters_of_a_default_level_need_its_patcher():
    patcher = HierarchicalPatcher(FixedPatcher(4))
    with pytest.raises(InvalidParameterError, match="set_params.coarse__seed.*but coarse is None"):
        patcher.set_params(coarse__seed=1)
    assert patcher.set_params(coarse=RandomPatcher(2), coarse__seed=1).coarse.seed == 1


def test_levels_are_nested_in_the_coarse_patcher():
    patcher = HierarchicalPatcher(HierarchicalPatcher(), FixedPatcher(2))
    for use in (lambda: patcher(look_backs()).mode, lambda: patcher.reference_patches(NUM_STEPS)):
        with pytest.raises(InvalidParameterError, match="has several.*as 'coarse'"):
            use()


@pytest.mark.parametrize("name", ["fine", "coarse"])
def test_a_level_must_be_a_patcher(name):
    patcher = HierarchicalPatcher(**{name: "fixed"})
    message = f"'{name}' parameter of HierarchicalPatcher must be a Patcher instance.*'fixed'"
    with pytest.raises(TypeError, match=message):
        patcher(look_backs()).mode  # noqa: B018


def test_a_level_out_of_range_is_named():
    patcher = HierarchicalPatcher(FixedPatcher(4), RandomPatcher(0.5))
    with pytest.raises(InvalidParameterError, match="'compression_rate' parameter of RandomPa"):
        patcher(look_backs()).mode  # noqa: B018
