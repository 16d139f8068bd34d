"""A policy at every level of a hierarchy, with each way to learn."""

from __future__ import annotations

import math

import pytest
import torch

from adaptivepatch.nn.policies.group_policy_gradient import BASELINES, GroupPolicyGradient
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

ROWS, STEPS = 12, 96


def batch(gaps):
    generator = torch.Generator().manual_seed(0)
    series = torch.randn(ROWS, STEPS + 4, generator=generator, dtype=torch.float64).cumsum(1)
    if not gaps:
        return Batch(series[:, :STEPS], None, series[:, STEPS:], None, None)
    observed = torch.rand(series.shape, generator=generator) > 0.2
    group = torch.arange(ROWS) // 3
    return Batch(
        series[:, :STEPS], observed[:, :STEPS], series[:, STEPS:], observed[:, STEPS:], group
    )


def hierarchy(**parameters):
    """Policies of 24 patches, 8 groups of them, and 4 of those."""
    return HierarchicalPatcher(
        ReinPatcher(4, **parameters),
        HierarchicalPatcher(ReinPatcher(3, **parameters), ReinPatcher(2, **parameters)),
    )


def gradients(patcher, gaps, progress=0.5, num_steps=2):
    """Train; return the metrics, and whether each parameter has a finite gradient beside 0."""
    network = small_network("transformer", patcher, context_length=STEPS).train()
    step = TrainingStep(network, make_loss("mse"))
    for _ in range(num_steps):
        step(batch(gaps), torch.Generator().manual_seed(0), progress).loss.backward()
    for parameter in patcher.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
    reached = {
        name: parameter.grad is not None and bool(parameter.grad.any())
        for name, parameter in patcher.named_parameters()
    }
    return patcher.take_metrics(), reached


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("warmup", [0.0, 0.7])
@pytest.mark.parametrize("baseline", BASELINES)
def test_every_level_learns_with_every_baseline(baseline, warmup, gaps):
    gradient = GroupPolicyGradient(
        4, baseline, delay=0.0, warmup=warmup, entropy_bonus=0.01, frozen_share=0.1
    )
    metrics, reached = gradients(hierarchy(gradient=gradient), gaps)
    assert all(reached.values()), reached
    for level, rate in (("fine", 4), ("coarse_fine", 3), ("coarse_coarse", 2)):
        assert metrics[f"{level}_compression_rate"] == pytest.approx(rate)
        assert math.isfinite(metrics[f"{level}_policy_signal_to_noise"])
        assert metrics[f"{level}_policy_identical"] < 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"policy": "segmental"},
        {"policy": "conditional_bernoulli", "budget": "min"},
        {"policy": "capped_bernoulli", "budget": "min"},
    ],
)
def test_every_policy_serves_at_every_level(parameters):
    _, reached = gradients(hierarchy(**parameters), gaps=True)
    assert all(reached.values()), reached


def test_in_the_last_phase_no_level_learns():
    metrics, reached = gradients(hierarchy(), gaps=False, progress=0.95)
    assert not any(reached.values())
    assert math.isnan(metrics["coarse_fine_policy_entropy"])
