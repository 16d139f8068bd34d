"""Any patcher serves at any level: one training step of pairs of levels, with and without gaps."""

from __future__ import annotations

import inspect
import math
from itertools import product

import pytest
import torch
from torch.nn.functional import logsigmoid

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher
from adaptivepatch.registry import PATCHERS
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network
from tests.contracts.test_patchers import STEPS, one_batch, seeded

# What a level is made of, beside its rate; more than one way where losses take other paths.
OPTIONS = {
    "periodic": [{"period": 3}],
    "entropy": [{"train_steps": 2}],
    "reinpatch": [{"prior": 0.0}, {"prior": 0.0, "budget": "min"}],
    "score_function": [{}, {"window": 3}],
    "dynamic_chunking": [
        {},
        {"router": "cosine", "budget": "exact"},
        {"sharpness": 6.0, "alignment_weight": 0.01},
    ],
    "dynamic_pooling": [{}, {"predictor": "spikes"}],
}
LEVELS = {
    f"{name}{number or ''}": (cls, options)
    for name, cls in PATCHERS.items()
    if cls is not HierarchicalPatcher
    for number, options in enumerate(OPTIONS.get(name, [{}]))
}


# Beside each level once as the fine and once as the coarse one: pairs in which the loss of one
# level meets the rollouts of the other, several to a row, drawn, gated, or padded.
MEETINGS = [
    ("reinpatch", "reinpatch"),
    ("reinpatch", "score_function"),
    ("reinpatch", "score_function1"),
    ("reinpatch1", "dynamic_pooling"),
    ("score_function", "reinpatch"),
    ("score_function", "dynamic_chunking2"),
    ("dynamic_chunking", "reinpatch"),
    ("dynamic_chunking2", "dynamic_pooling"),
    ("dynamic_pooling", "reinpatch1"),
    ("dynamic_pooling", "dynamic_pooling1"),
]


def level(name):
    cls, options = LEVELS[name]
    if "period" not in options and "compression_rate" in inspect.signature(cls).parameters:
        return cls(compression_rate=3, **options)
    return cls(**options)


def pairs():
    """Each level once as the fine and once as the coarse one, below or above a trained one."""
    trained = [name for name in LEVELS if LEVELS[name][0].trainable]
    found = list(MEETINGS)
    for number, name in enumerate(LEVELS):
        found.append((name, trained[number % len(trained)]))
        found.append((trained[(number + 3) % len(trained)], name))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("fine", "coarse"), pairs())
def test_a_training_step_of_two_levels(fine, coarse):
    patcher = seeded(lambda: HierarchicalPatcher(level(fine), level(coarse)))
    network = small_network("transformer", patcher, context_length=STEPS, d_model=16).train()
    step = TrainingStep(network, make_loss("mse"))
    for gaps in (0.0, 0.2):
        network.zero_grad()
        loss = step(one_batch(gaps), torch.Generator().manual_seed(0), 0.5).loss
        loss.backward()
        assert bool(loss.isfinite())
        for name, part in zip(("fine", "coarse"), patcher.levels, strict=True):
            if part.trainable:
                found = [p.grad for p in part.parameters() if p.grad is not None]
                assert any(bool((gradient != 0).any()) for gradient in found), name
                assert all(bool(gradient.isfinite().all()) for gradient in found), name


def own_losses(patcher, level, gaps):
    """A training step: what a level was given, and the loss that it returned."""
    network = small_network("transformer", patcher, context_length=STEPS, d_model=16).train()
    part, given = getattr(patcher, level), []
    loss_of = part.auxiliary_loss

    def listen(context):
        given.append((context, loss_of(context)))
        return given[0][1]

    part.auxiliary_loss = listen
    TrainingStep(network, make_loss("mse"))(one_batch(gaps), torch.Generator().manual_seed(0), 0.5)
    (found,) = given
    return found


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_coarse_score_function_credits_every_rollout_of_every_row(gaps):
    coarse = ScoreFunctionPatcher(3, rate_weight=0.0, early_weight=0.0)
    patcher = HierarchicalPatcher(ReinPatcher(3, prior=0.0), coarse)
    context, loss = own_losses(patcher, "coarse", gaps)
    rollouts, num_rows = context.forecast_loss.shape
    assert rollouts > 1
    early = coarse.early.row_loss(
        context.series, context.target, context.target_observed, context.scale
    )
    seen = torch.ones(num_rows) if gaps == 0 else context.target_observed.double().mean(1)
    action = context.rollout.action
    logits = context.distribution.policy.logits(action[None])[0]
    rewards, logs, weights = [], [], []
    for g, n in product(range(rollouts), range(num_rows)):
        row = g * num_rows + n
        error = float(context.forecast_loss[g, n].detach())
        rewards.append(math.log(float(early[row]) + 1e-8) - math.log(error + 1e-8))
        signs = torch.where(action[row, 1:], 1, -1)
        logs.append(float(logsigmoid(signs * logits[row]).mean()))
        weights.append(float(seen[n]))
    mean = sum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)
    terms = zip(weights, rewards, logs, strict=True)
    exact = -sum(w * (r - mean) * log for w, r, log in terms) / sum(weights)
    assert float(loss.detach()) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_the_ratio_loss_of_a_fine_level_is_over_all_rollouts(gaps):
    fine = DynamicChunkingPatcher(3, sharpness=6.0)
    patcher = HierarchicalPatcher(fine, ReinPatcher(3, prior=0.0))
    context, loss = own_losses(patcher, "fine", gaps)
    mask, prob = context.rollout.segmentation.boundary_mask, context.distribution.boundary_prob
    assert len(mask) > len(prob)
    places = [
        (row, row % len(prob), step)
        for row, step in product(range(len(mask)), range(1, STEPS))
        if gaps == 0 or context.distribution.counted[row % len(prob), step]
    ]
    starts = sum(float(mask[row, step]) for row, _, step in places) / len(places)
    mean = sum(float(prob[n, step].detach()) for _, n, step in places) / len(places)
    ratio = 1 / fine.boundary_share(STEPS)
    exact = ratio / (ratio - 1) * ((ratio - 1) * starts * mean + (1 - starts) * (1 - mean))
    assert float(loss.detach()) == pytest.approx(fine.ratio_weight * exact, rel=1e-9)


@pytest.mark.parametrize("name", ["fine", "coarse"])
def test_a_level_that_needs_a_causal_backbone_is_refused(name):
    patcher = HierarchicalPatcher(**{name: ScoreFunctionPatcher(3, form="next_patch")})
    other = HierarchicalPatcher(ReinPatcher(3), patcher)
    for nested in (patcher, other):
        with pytest.raises(InvalidParameterError, match=f"causal backbone.*Got {name}=Score"):
            small_network("transformer", nested, context_length=STEPS)
