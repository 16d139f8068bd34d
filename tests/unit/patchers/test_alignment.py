"""Alignment draws boundaries of the differentiable patchers to where the series surprises."""

from __future__ import annotations

import pytest
import torch

from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.dynamic_pooling import DynamicPoolingPatcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

STEPS, ROWS = 64, 64


def jumps():
    """Calm walks that jump: the rows, and where."""
    generator = torch.Generator().manual_seed(4)
    shape = (ROWS, STEPS + 4)
    calm = 0.02 * torch.randn(shape, generator=generator, dtype=torch.float64)
    jump = torch.rand(shape, generator=generator, dtype=torch.float64) < 0.08
    size = torch.randn(shape, generator=generator).double()
    return (calm + 2 * jump * size).cumsum(1), jump[:, 1:STEPS]


def trained(cls, weight, given):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        patcher = cls(8, width=8, num_layers=1, alignment_weight=weight)
    network = small_network(patcher=patcher, context_length=STEPS, d_model=16).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=8e-3)
    step = TrainingStep(network, make_loss("mse"))
    for number in range(60):
        optimizer.zero_grad()
        step(given, torch.Generator().manual_seed(number), 0.0).loss.backward()
        optimizer.step()
    return network.eval().segment(given.series)[1].boundary_prob[:, 1:].detach()


@pytest.mark.parametrize("cls", [DynamicChunkingPatcher, DynamicPoolingPatcher])
def test_alignment_draws_boundaries_to_surprises(cls):
    rows, is_jump = jumps()
    given, ratio = Batch(rows[:, :STEPS], None, rows[:, STEPS:], None, None), {}
    for weight in (0.0, 10.0):
        prob = trained(cls, weight, given)
        ratio[weight] = float(prob[is_jump].mean() / prob[~is_jump].mean())
    assert ratio[10.0] > 1.2 * ratio[0.0]


@pytest.mark.parametrize("cls", [DynamicChunkingPatcher, DynamicPoolingPatcher])
def test_without_it_nothing_is_trained_beside(cls):
    assert cls().next_point is None
    assert cls(alignment_weight=0.01).next_point is not None
    assert cls().set_params(alignment_weight=0.01).next_point is not None
