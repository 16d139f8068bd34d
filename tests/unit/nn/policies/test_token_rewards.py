"""Predictions of the next points, tokens that are complete, discounting, looking back only."""

from __future__ import annotations

import pytest
import torch

from adaptivepatch.nn.policies.token_rewards import CausalPointEncoder, NextPoints, discounted
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask

ROWS, STEPS, WIDTH, AHEAD, HORIZON = 3, 14, 4, 5, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(with_early=True):
    torch.manual_seed(0)
    return NextPoints(WIDTH, AHEAD, with_early).double()


def case(gaps=False):
    segmentation = Segmentation(random_mask(ROWS, STEPS))
    series = draw(ROWS, STEPS, seed=1), draw(ROWS, HORIZON, seed=2)
    observed = (None, None)
    if gaps:
        observed = tuple(draw(*part.shape, seed=5 + k) > -0.5 for k, part in enumerate(series))
        series[1][~observed[1]] = torch.nan
    hidden = draw(ROWS, segmentation.capacity, 7, seed=3)
    return draw(ROWS, STEPS, WIDTH, seed=4), hidden, segmentation, series, observed


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.97, 1.0])
def test_discounting_equals_a_double_loop(discount):
    reward = draw(2, 9)
    expected = torch.zeros_like(reward)
    for n in range(2):
        for t in range(9):
            for j in range(t, 9):
                expected[n, t] += discount ** (j - t) * reward[n, j]
    torch.testing.assert_close(discounted(reward, discount), expected)


@pytest.mark.parametrize("gaps", [False, True])
def test_errors_equal_a_loop(gaps):
    points, hidden, segmentation, series, observed = case(gaps)
    module = made()
    found = module(points, hidden, segmentation, series, observed)
    values = torch.cat(series, 1)
    known = torch.ones_like(values, dtype=torch.bool)
    if gaps:
        known = torch.cat(observed, 1)
    for n in range(ROWS):
        starts = segmentation.boundary_mask[n].nonzero()[:, 0].tolist()
        ends = [*[s - 1 for s in starts[1:]], STEPS - 1]
        for t in range(STEPS):
            complete = [k for k, end in enumerate(ends) if end <= t]
            token = hidden[n, complete[-1], :WIDTH] if complete else torch.zeros(WIDTH).double()
            late = module.late(points[n, t] + token)
            early = module.early(points[n, t])
            places = [t + i for i in range(1, AHEAD + 1) if t + i < STEPS + HORIZON]
            places = [p for p in places if known[n, p]]
            assert bool(found.counted[n, t]) == bool(places)
            for errors, predicted in ((found.late, late), (found.early, early)):
                squares = [(predicted[p - t - 1] + series[0][n, t] - values[n, p]) for p in places]
                exact = sum(s.item() ** 2 for s in squares) / max(1, len(squares))
                assert errors[n, t].item() == pytest.approx(exact, abs=1e-12)


def test_the_early_errors_do_not_know_the_patches():
    points, hidden, segmentation, series, observed = case()
    module = made()
    first = module(points, hidden, segmentation, series, observed)
    other = Segmentation(random_mask(ROWS, STEPS, seed=9))
    moved = draw(ROWS, other.capacity, 7, seed=8)
    second = module(points, moved, other, series, observed)
    assert torch.equal(first.early, second.early)
    assert not torch.equal(first.late, second.late)


def test_both_heads_start_alike_and_one_can_be_left_out():
    module = made()
    assert torch.equal(module.late.weight, module.early.weight)
    assert module.late.weight is not module.early.weight
    assert made(with_early=False)(*case()).early is None


def test_the_causal_encoder_looks_back_only():
    torch.manual_seed(0)
    encoder = CausalPointEncoder(8, 3).double()
    series = draw(2, 40)
    before = encoder(series, None)
    assert before.shape == (2, 40, 8)
    for step in (1, 7, 39):
        changed = series.clone()
        changed[:, step:] += 3
        after = encoder(changed, None)
        assert torch.equal(after[:, :step], before[:, :step])
        assert bool((after[:, step] != before[:, step]).any())


def test_constant_rows_have_no_beginning():
    torch.manual_seed(0)
    points = CausalPointEncoder(8, 3).double()(torch.full((1, 30), 0.7).double(), None)
    torch.testing.assert_close(points, points[:, :1].expand(-1, 30, -1))
