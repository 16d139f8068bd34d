"""The windowed policy against loops and enumeration, and the level of its decisions."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import pytest
import torch

from adaptivepatch.nn.policies.gates import Gate, WindowedBernoulli, calibrated_threshold

windows = pytest.mark.parametrize("window", [1, 2, 3, 8])


def terms(num_rows=2, num_steps=6, window=3, size=1.25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_rows, num_steps, window)
    return size * torch.randn(shape, generator=generator, dtype=torch.float64)


def actions(num_steps):
    """All actions of a row, True at step 0: (2 ** (T - 1), T)."""
    later = torch.tensor(list(product([False, True], repeat=num_steps - 1)), dtype=torch.bool)
    later = later.view(2 ** (num_steps - 1), num_steps - 1)
    return torch.cat([torch.ones(len(later), 1, dtype=torch.bool), later], 1)


def logit_by_loop(values, action, t, share):
    """The formula, for one row and step."""
    window = len(values[t])
    total = values[t][window - 1]
    for back in range(1, window):
        if t - back >= 0 and action[t - back]:
            total += values[t][window - 1 - back]
    return 6 * math.tanh(total / 6) + math.log(share / (1 - share))


@windows
@pytest.mark.parametrize("num_steps", [1, 2, 6])
def test_probabilities_of_all_actions_sum_to_one(window, num_steps):
    policy = WindowedBernoulli(terms(3, num_steps, window), 0.3)
    log_prob = policy.step_log_prob(actions(num_steps)[:, None].expand(-1, 3, -1)).sum(-1)
    assert log_prob.shape == (2 ** (num_steps - 1), 3)
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(3, dtype=torch.float64))


@windows
def test_the_parallel_pass_equals_a_loop(window):
    values, share = terms(2, 12, window), 0.2
    policy = WindowedBernoulli(values, share)
    drawn = policy.draw(torch.rand(5, 2, 12, generator=torch.Generator().manual_seed(1)))
    found = policy.logits(drawn)
    for g, n in product(range(5), range(2)):
        rows, action = values[n].tolist(), drawn[g, n].tolist()
        exact = [logit_by_loop(rows, action, t, share) for t in range(1, 12)]
        expected = torch.tensor(exact, dtype=torch.float64)
        torch.testing.assert_close(found[g, n], expected, rtol=0, atol=1e-12)


@windows
def test_decisions_in_turn_and_in_parallel_are_bit_identical(window):
    policy = WindowedBernoulli(terms(7, 40, window), 0.2)
    action, logits = policy.decide(-1.0)
    assert torch.equal(action[:, 1:], logits > math.log(0.2 / 0.8) - 1.0)
    assert bool(action[:, 0].all())
    assert torch.equal(policy.logits(action), logits)
    alone = WindowedBernoulli(policy.terms[3:4], 0.2).decide(-1.0)
    assert torch.equal(alone[1], logits[3:4])


@windows
def test_draws_have_the_stated_frequencies(window):
    policy, num_draws = WindowedBernoulli(terms(1, 4, window), 0.4), 20_000
    uniform = torch.rand(num_draws, 1, 4, generator=torch.Generator().manual_seed(3))
    found = Counter(tuple(row) for row in policy.draw(uniform)[:, 0].tolist())
    prob = policy.step_log_prob(actions(4)[:, None]).sum(-1).exp()[:, 0]
    assert sum(found.values()) == num_draws
    for action, p in zip(actions(4).tolist(), prob.tolist(), strict=True):
        sigma = math.sqrt(num_draws * p * (1 - p))
        assert abs(found[tuple(action)] - num_draws * p) <= 5 * sigma


def test_the_forced_start_is_heard_and_nothing_before_it():
    values = torch.zeros(1, 3, 3, dtype=torch.float64)
    values[0, 1] = torch.tensor([60.0, 1.0, 0.0])  # two steps before step 1 there is nothing
    policy = WindowedBernoulli(values, 0.5)
    found = policy.logits(torch.tensor([[True, False, False]]))
    expected = [[6 * math.tanh(1 / 6), 0.0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_the_networks_part_of_a_logit_is_limited_and_starts_at_the_share():
    policy = WindowedBernoulli(torch.tensor([[[0.0], [0.0], [1e9], [-1e9]]]), 0.1)
    logits = policy.logits(torch.ones(1, 4, dtype=torch.bool))[0]
    assert float(logits[0].sigmoid()) == pytest.approx(0.1)
    assert (logits[1:] - logits[0]).tolist() == pytest.approx([6.0, -6.0])
    assert math.isfinite(WindowedBernoulli(torch.zeros(1, 2, 1), 1.0).prior)


def test_gradient_flows_into_every_term_that_is_heard():
    values = terms(1, 5, 2).requires_grad_()
    action = torch.tensor([[True, False, True, False, False]])
    WindowedBernoulli(values, 0.3).step_log_prob(action).sum().backward()
    heard = torch.zeros(5, 2, dtype=torch.bool)
    heard[1:, 1] = True  # the decision itself
    heard[[1, 3], 0] = True  # those after a start
    assert torch.equal(values.grad[0] != 0, heard)


# ------------------------------------------------------------------------------------- the level


def coupled(num_rows, window, coupling, seed=0):
    values = terms(num_rows, 50, window, 0.6, seed)
    values[..., :-1] += coupling
    return WindowedBernoulli(values, 0.1)


@pytest.mark.parametrize("coupling", [-2.0, 0.0, 1.0])
@pytest.mark.parametrize("window", [1, 3])
def test_the_level_keeps_the_rate(window, coupling):
    level = float(calibrated_threshold(coupled(500, window, coupling), 0.1))
    seen = coupled(500, window, coupling).decide(level)[0][:, 1:].double().mean()
    new = coupled(500, window, coupling, seed=1).decide(level)[0][:, 1:].double().mean()
    assert float(seen) == pytest.approx(0.1, abs=0.002)
    assert float(new) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("window", [1, 3])
def test_a_known_level_follows_until_the_rate_is_right(window):
    gate, policy = Gate(4, window), coupled(300, window, 0.6)
    gate.calibrate(policy, 0.3)
    first = float(gate.level)
    gate.calibrate(policy, 0.1, 0.05)
    assert 0 < float(gate.level) - first < 1
    for _ in range(200):
        gate.calibrate(policy, 0.1, 0.05)
    found = policy.decide(float(gate.level))[0][:, 1:].double().mean()
    assert float(found) == pytest.approx(0.1, abs=0.003)


def test_a_row_of_one_step_has_nothing_to_decide():
    policy, gate = WindowedBernoulli(terms(2, 1, 3), 0.1), Gate(4, 3)
    assert policy.decide(0.0)[0].tolist() == [[True], [True]]
    assert policy.draw(torch.zeros(4, 2, 1)).shape == (4, 2, 1)
    before = float(gate.level.fill_(0.7))
    gate.calibrate(policy, 0.1)
    assert float(gate.level) == before
    gate.calibrate(WindowedBernoulli(terms(2, 1, 3), 0.4), 0.4)
    assert float(gate.level) == before


def test_equal_rows_start_nothing_at_the_level_they_are():
    policy = WindowedBernoulli(torch.zeros(4, 9, 1), 0.25)
    gate = Gate(4, 1).double()
    gate.calibrate(policy, 0.25)
    assert int(policy.decide(float(gate.level))[0].sum()) == 4
