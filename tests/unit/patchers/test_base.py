from __future__ import annotations

import pytest
import torch

from adaptivepatch import FixedPatcher, InvalidParameterError
from adaptivepatch.distributions import Deterministic, Rollout
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.patchers.base import rate_capacity
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask


def test_mean_in_groups_equals_the_loop():
    values = torch.randn(7, 3, dtype=torch.float64)
    group = torch.tensor([4, 0, 4, 9, 0, 4, 2])
    found = mean_in_groups(values, group)
    for n in range(7):
        torch.testing.assert_close(found[n], values[group == group[n]].mean(0))
    assert mean_in_groups(values, None) is values


def test_rate_capacity():
    owner, pairs = FixedPatcher(), ((96, 16), (95, 16), (3, 9), (10, 2.5))
    assert [rate_capacity(owner, steps, rate) for steps, rate in pairs] == [6, 5, 1, 4]
    with pytest.raises(InvalidParameterError, match=r"of FixedPatcher .* \[1, inf\). Got '16'"):
        rate_capacity(owner, 96, "16")


def test_deterministic_repeats_rollout_major():
    segmentation = Segmentation(random_mask(2, 9))
    gate = torch.rand(2, 9)
    rollout = Deterministic(segmentation, gate=gate).sample(3)
    assert torch.equal(rollout.segmentation.boundary_mask, segmentation.boundary_mask.repeat(3, 1))
    assert torch.equal(rollout.gate, gate.repeat(3, 1))
    shared = Deterministic(Segmentation.even(9, 3, 2))
    assert shared.sample(3).segmentation.is_shared
    assert shared.entropy().tolist() == [0, 0]


def test_rollout_head_takes_the_first_samples():
    rollout = Rollout(
        Segmentation(random_mask(6, 9)),
        action=torch.rand(6, 9),
        log_prob=torch.rand(3, 2),
        gate=torch.rand(6, 9),
    )
    head = rollout.head(2, 2)
    assert torch.equal(head.segmentation.boundary_mask, rollout.segmentation.boundary_mask[:4])
    assert torch.equal(head.action, rollout.action[:4])
    assert torch.equal(head.log_prob, rollout.log_prob[:2])
    assert torch.equal(head.gate, rollout.gate[:4])


def test_a_repeated_distribution_equals_the_distribution_of_repeated_rows():
    segmentation = Segmentation(random_mask(2, 9))
    prob, features = torch.rand(2, 9), torch.rand(2, 9, 4)
    once = Deterministic(segmentation, boundary_prob=prob, features=features)
    assert once.repeat(1) is once
    many = once.repeat(3)
    assert torch.equal(many.boundary_prob, prob.repeat(3, 1))
    assert torch.equal(many.features, features.repeat(3, 1, 1))
    assert torch.equal(many.mode.boundary_mask, segmentation.boundary_mask.repeat(3, 1))
    assert many.entropy().shape == (6,)
