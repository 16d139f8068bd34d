"""Any patcher serves at any level: one training step of every pair, with and without gaps."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers import PATCHERS, HierarchicalPatcher, ReinPatcher, ScoreFunctionPatcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network
from tests.contracts.test_patchers import STEPS, one_batch

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


def level(name):
    cls, options = LEVELS[name]
    return cls(**options) if "period" in options else cls(compression_rate=3, **options)


def pairs():
    for fine, coarse in product(LEVELS, LEVELS):
        kinds = {LEVELS[name][0] for name in (fine, coarse)}
        if any(cls.trainable for cls in kinds):
            yield pytest.param(fine, coarse, id=f"{fine}-{coarse}")


@pytest.mark.parametrize(("fine", "coarse"), list(pairs()))
def test_a_training_step_of_any_two(fine, coarse):
    patcher = HierarchicalPatcher(level(fine), level(coarse))
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


@pytest.mark.parametrize("name", ["fine", "coarse"])
def test_a_level_that_needs_a_causal_backbone_is_refused(name):
    patcher = HierarchicalPatcher(**{name: ScoreFunctionPatcher(3, form="next_patch")})
    other = HierarchicalPatcher(ReinPatcher(3), patcher)
    for nested in (patcher, other):
        with pytest.raises(InvalidParameterError, match=f"causal backbone.*Got {name}=Score"):
            small_network("transformer", nested, context_length=STEPS)
