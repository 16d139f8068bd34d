"""The policy gradient against finite differences of the exact expected reward."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.policies.conditional_bernoulli import ConditionalBernoulli
from adaptivepatch.nn.policies.group_policy_gradient import (
    GroupPolicyGradient,
    group_advantage,
    reconstruction_error,
    score_function_loss,
    signal_to_noise,
)
from adaptivepatch.nn.policies.segmental import Segmental
from adaptivepatch.nn.policies.subsets import CappedBernoulli, Stratified
from adaptivepatch.segmentation import Segmentation

SITES = 4  # of a look-back of 5
ACTIONS = torch.tensor(list(product([False, True], repeat=SITES)))
REWARD = torch.tensor(np.random.default_rng(0).normal(size=len(ACTIONS)))
START = torch.tensor([[0.3, -0.8, 1.1, 0.2]], dtype=torch.float64)

POLICIES = {
    "capped": lambda x: CappedBernoulli(x, 2),
    "conditional": lambda x: ConditionalBernoulli(x, 2),
    "segmental": lambda x: Segmental(x, [1, 2, 3, 4], 5, 3, (1, 3)),
    "stratified": lambda x: Stratified(x, torch.tensor([0, 0, 1, 1])),
}


def support(policy) -> Tensor:
    """The actions that a policy may draw."""
    if isinstance(policy, CappedBernoulli):
        return ACTIONS
    drawn = policy.sample(5000, torch.Generator().manual_seed(0))[:, 0]
    return drawn.unique(dim=0)


def rewards(actions: Tensor) -> Tensor:
    """A reward for every set of sites."""
    return REWARD[(actions * 2 ** torch.arange(SITES).flip(0)).sum(-1)]


def expected_reward(make, logits: Tensor, actions: Tensor) -> float:
    """Exact, with the environment's projection."""
    policy = make(logits)
    raw = actions[:, None]
    prob = policy.log_prob(raw)[:, 0].exp()
    return float((prob * rewards(policy.project(raw))[:, 0]).sum())


def finite_differences(make, actions: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros(SITES, dtype=torch.float64)
    for i in range(SITES):
        shift = torch.zeros_like(START)
        shift[0, i] = step
        high, low = (expected_reward(make, START + s, actions) for s in (shift, -shift))
        gradient[i] = (high - low) / (2 * step)
    return gradient


def expected_gradient(make, baseline: str, samples: int, *, score_projected: bool = False):
    """The estimator's gradient, averaged exactly over all groups of actions."""
    logits = START.clone().requires_grad_()
    policy = make(logits)
    actions = support(policy)
    index = torch.tensor(list(product(range(len(actions)), repeat=samples))).T  # (G, groups)
    log_prob = policy.log_prob(actions[:, None])[:, 0]  # of each action
    projected = policy.project(actions[:, None])[:, 0]
    scored = policy.log_prob(projected[:, None])[:, 0] if score_projected else log_prob
    weight = log_prob.detach()[index].sum(0).exp()  # probability of a group
    advantage = group_advantage(rewards(projected)[index], baseline)
    loss = score_function_loss(advantage, scored[index], weight)
    (gradient,) = torch.autograd.grad(-loss, logits)
    return gradient[0], finite_differences(make, actions)


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out_is_unbiased(name, samples):
    found, exact = expected_gradient(POLICIES[name], "rloo", samples)
    assert float(exact.abs().max()) > 0.01
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("samples", [2, 3])
def test_the_group_mean_scales_the_gradient(name, samples):
    found, exact = expected_gradient(POLICIES[name], "mean", samples)
    torch.testing.assert_close(found, exact * (samples - 1) / samples, rtol=0, atol=1e-6)


def test_scoring_the_projected_action_is_biased():
    found, exact = expected_gradient(POLICIES["capped"], "rloo", 2, score_projected=True)
    assert float((found - exact).abs().max()) > 0.05
    right, _ = expected_gradient(POLICIES["capped"], "rloo", 2)
    torch.testing.assert_close(right, exact, rtol=0, atol=1e-6)


def test_dividing_by_the_deviation_gives_every_row_the_same_say():
    reward = torch.tensor([[1.0, 1000.0], [2.0, 2000.0], [4.0, 4000.0]], dtype=torch.float64)
    plain, standard = group_advantage(reward, "rloo"), group_advantage(reward, "std")
    torch.testing.assert_close(plain[:, 1], 1000 * plain[:, 0])
    torch.testing.assert_close(standard[:, 1], standard[:, 0], rtol=1e-3, atol=0)
    tied = group_advantage(torch.ones(4, 2), "std")
    assert torch.equal(tied, torch.zeros(4, 2))


def test_rows_without_weight_do_not_pull():
    log_prob = torch.zeros(2, 3, requires_grad=True)
    advantage = torch.tensor([[1.0, 2.0, 5.0], [-1.0, -2.0, -5.0]])
    score_function_loss(advantage, log_prob, torch.tensor([1.0, 1.0, 0.0])).backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([[-0.25, -0.5, 0.0], [0.25, 0.5, 0.0]]))


def test_reconstruction_error_is_the_variance_inside_patches():
    series = torch.tensor([[1.0, 3.0, 5.0, 5.0], [0.0, 0.0, 2.0, 4.0]])
    halves = Segmentation.from_starts(torch.tensor([[0, 2]] * 2), 4)
    ends = Segmentation.from_starts(torch.tensor([[0, 3]] * 2), 4)
    both = Segmentation(torch.cat([halves.boundary_mask, ends.boundary_mask]))
    expected = [0.5, 0.5, 8 / 4 - 0.0, (4 / 9 + 4 / 9 + 16 / 9) / 4]
    torch.testing.assert_close(reconstruction_error(series, both), torch.tensor(expected))


def test_signal_to_noise_is_one_for_noise():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 500, dtype=torch.float64, generator=generator)
    assert float(signal_to_noise(noise)) == pytest.approx(1, abs=0.25)
    assert float(signal_to_noise(noise + 1)) == pytest.approx(401, rel=0.1)


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_samples": 0}, r"'num_samples'.*range \[1, inf\)"),
        ({"num_samples": 1}, "'rloo' compares several rollouts.*num_samples=1.*'greedy'"),
        ({"baseline": "gredy"}, r"'baseline'.*one of \['rloo'.*Got 'gredy'.*mean 'greedy'"),
        ({"reward": "mse"}, r"'reward'.*one of \['loss', 'log_loss'\]"),
        ({"clip": 0}, r"'clip'.*\(0, inf\)"),
        ({"mode_share": 1.5}, r"'mode_share'.*\[0, 1\]"),
        ({"learning_rate": -1}, r"'learning_rate'.*\[0, inf\)"),
        ({"every": 0}, r"'every'.*\[1, inf\)"),
        ({"delay": 0.5, "warmup": 0.4}, "leave the policy time to learn.*frozen_share=0.2"),
    ],
)
def test_settings_out_of_range_are_refused(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        GroupPolicyGradient(**parameters).check()


def test_phases_follow_each_other():
    settings = GroupPolicyGradient(delay=0.1, warmup=0.2, frozen_share=0.3)
    settings.check()
    phases = [settings.phase(p) for p in (0, 0.09, 0.1, 0.29, 0.31, 0.69, 0.7, 1)]
    assert phases == ["delay"] * 2 + ["warmup"] * 2 + ["learn"] * 2 + ["frozen"] * 2
    control = GroupPolicyGradient(learning_rate=0.0)
    assert [control.phase(p) for p in (0.0, 0.5, 0.9)] == ["delay", "delay", "frozen"]
