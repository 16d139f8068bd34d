from __future__ import annotations

from collections import Counter

import pytest
import torch

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.random import RandomPatcher


def test_prediction_boundaries_look_uniform():
    """Over many different rows, every step is a boundary equally often, pairs too."""
    count, num_steps = 20000, 12
    series = torch.randn(count, num_steps, generator=torch.Generator().manual_seed(0))
    mask = RandomPatcher(3).eval()(series).mode.boundary_mask[:, 1:].double()
    prob = 3 / 11
    assert bool((mask.sum(1) == 3).all())
    sigma = (prob * (1 - prob) / count) ** 0.5
    assert float((mask.mean(0) - prob).abs().max()) < 5 * sigma
    pairs = mask.T @ mask / count
    pair_prob = 3 * 2 / (11 * 10)
    off = ~torch.eye(11, dtype=torch.bool)
    sigma = (pair_prob * (1 - pair_prob) / count) ** 0.5
    assert float((pairs[off] - pair_prob).abs().max()) < 5 * sigma


def test_constant_rows_share_boundaries_that_depend_on_the_seed():
    """Every step looks the same there, so only the seed and the step decide."""
    series = torch.zeros(3, 40)
    seen = set()
    for seed in range(30):
        mask = RandomPatcher(4, seed).eval()(series).mode.boundary_mask
        assert bool((mask == mask[0]).all())
        seen.add(tuple(mask[0].tolist()))
    assert len(seen) == 30


def test_the_seed_does_not_enter_training():
    series = torch.zeros(4, 40)
    first, second = (
        RandomPatcher(4, seed)(series).sample(2, torch.Generator().manual_seed(1)).action
        for seed in (0, 1)
    )
    assert torch.equal(first, second)


def test_training_rows_and_rollouts_are_independent():
    rollout = RandomPatcher(2)(torch.zeros(500, 6)).sample(40, torch.Generator().manual_seed(0))
    masks = rollout.segmentation.boundary_mask.view(40, 500, 6)
    assert torch.equal(rollout.action.view(40, 500, 6), masks)
    code = (masks.long() * 2 ** torch.arange(6)).sum(2)
    equal_rows = Counter((code[:, :-1] == code[:, 1:]).flatten().tolist())[True] / (40 * 499)
    equal_rollouts = Counter((code[:-1] == code[1:]).flatten().tolist())[True] / (39 * 500)
    for share in (equal_rows, equal_rollouts):  # 10 subsets: equal with probability 1/10
        assert abs(share - 0.1) < 5 * (0.1 * 0.9 / 19500) ** 0.5


def test_float64_rows_are_cut_like_their_float32_values():
    series = torch.randn(5, 30)
    patcher = RandomPatcher(4).eval()
    assert torch.equal(
        patcher(series).mode.boundary_mask, patcher(series.double()).mode.boundary_mask
    )


@pytest.mark.parametrize("seed", [-1, 1.0, "0", None])
def test_parameter_errors(seed):
    with pytest.raises(InvalidParameterError, match=r"'seed' parameter of RandomPatcher must be"):
        RandomPatcher(4, seed)(torch.zeros(1, 20))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**40])
def test_any_non_negative_seed_works(seed):
    assert RandomPatcher(4, seed)(torch.zeros(1, 20)).mode.num_patches.tolist() == [5]
