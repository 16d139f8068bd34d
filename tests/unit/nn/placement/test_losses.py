"""Losses that draw a patcher towards its rate: values and gradients by closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import optimize, special, stats
from torch.distributions import Binomial

from adaptivepatch.nn.placement.losses import binomial_loss, ratio_loss, target_rate_loss

ROWS, STEPS = 5, 24


def boundaries(share, seed=0):
    """A mask with a given share of boundaries, and probabilities with gradient."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(ROWS * STEPS, dtype=torch.bool)
    mask[torch.randperm(ROWS * STEPS, generator=generator)[: round(share * ROWS * STEPS)]] = True
    prob = torch.rand(ROWS, STEPS, generator=generator, dtype=torch.float64)
    return mask.view(ROWS, STEPS), prob.requires_grad_()


# ---------------------------------------------------------------------------------- ratio loss


@pytest.mark.parametrize("rate", [1.25, 4.0, 16.0])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_ratio_loss_and_its_gradient_equal_the_closed_form(rate, share):
    mask, prob = boundaries(share)
    found, expected = int(mask.sum()) / mask.numel(), float(prob.detach().mean())
    loss = ratio_loss(mask, prob, rate)
    exact = rate * found * expected + rate / (rate - 1) * (1 - found) * (1 - expected)
    assert loss.item() == pytest.approx(exact, rel=1e-13)
    (gradient,) = torch.autograd.grad(loss, prob)
    slope = (rate * found - 1) * rate / (rate - 1) / mask.numel()
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("rate", [2, 4, 8])
def test_ratio_loss_is_one_and_flat_on_the_target(rate):
    mask, prob = boundaries(1 / rate)
    assert int(mask.sum()) * rate == mask.numel()
    flat = torch.full_like(prob, 1 / rate, requires_grad=True)
    assert ratio_loss(mask, flat, rate).item() == pytest.approx(1, rel=1e-14)
    (gradient,) = torch.autograd.grad(ratio_loss(mask, prob, rate), prob)
    assert float(gradient.abs().max()) < 1e-17


@pytest.mark.parametrize(("share", "sign"), [(0.1, -1), (0.2, -1), (0.3, 1), (0.9, 1)])
def test_ratio_loss_raises_all_probabilities_while_there_are_too_few_boundaries(share, sign):
    mask, prob = boundaries(share)
    (gradient,) = torch.autograd.grad(ratio_loss(mask, prob, 4.0), prob)
    assert bool((gradient.sign() == sign).all())  # r F - 1 is negative: descent raises


def test_ratio_loss_can_be_below_one_off_the_target():
    mask, _ = boundaries(0.0)
    sure = torch.ones(ROWS, STEPS, dtype=torch.float64)
    assert ratio_loss(mask, sure, 4.0).item() == 0


def test_ratio_loss_has_no_gradient_through_the_mask():
    mask, prob = boundaries(0.3)
    relaxed = mask.double().requires_grad_()
    loss = ratio_loss(relaxed > 0.5, prob, 4.0)
    loss.backward()
    assert relaxed.grad is None
    assert prob.grad is not None
    assert not ratio_loss(mask, prob.detach(), 4.0).requires_grad


# ---------------------------------------------------------------------------------- binomial loss


@pytest.mark.parametrize("num_trials", [1, 7, 335])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.7])
def test_binomial_loss_is_the_mean_of_two_references(num_trials, share):
    count = torch.arange(num_trials + 1, dtype=torch.float64)
    loss = binomial_loss(count, num_trials, share).item()
    log_prob = Binomial(num_trials, torch.tensor(share, dtype=torch.float64)).log_prob(count)
    assert loss == pytest.approx(-log_prob.mean().item() / num_trials, rel=1e-11)
    log_pmf = stats.binom.logpmf(count.numpy(), num_trials, share)
    assert loss == pytest.approx(-log_pmf.mean() / num_trials, rel=1e-11)


@pytest.mark.parametrize(("num_trials", "share"), [(7, 0.2), (95, 0.0526), (335, 0.7)])
def test_binomial_loss_has_the_digamma_slope_in_each_row(num_trials, share):
    whole = torch.linspace(0, num_trials, 9, dtype=torch.float64)
    count = torch.cat([whole, whole[:-1] + 0.37]).requires_grad_()
    (gradient,) = torch.autograd.grad(binomial_loss(count, num_trials, share), count)
    k = count.detach().numpy()
    slope = special.digamma(num_trials - k + 1) - special.digamma(k + 1) + special.logit(share)
    exact = torch.from_numpy(-slope / num_trials / len(k))
    torch.testing.assert_close(gradient, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("num_trials", "share"), [(95, 0.0526), (335, 0.0625), (335, 0.5)])
def test_binomial_loss_is_flat_near_the_wanted_count(num_trials, share):
    def slope(k):
        count = torch.tensor([k], dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(binomial_loss(count, num_trials, share), count)[0].item()

    flat = optimize.brentq(slope, 0, num_trials)
    assert flat == pytest.approx(share * num_trials, abs=0.51)  # the mode, not the mean
    assert slope(flat - 1) < 0 < slope(flat + 1)


def test_binomial_loss_sends_a_straight_through_count_to_its_probabilities():
    logits = torch.zeros(3, 11, dtype=torch.float64, requires_grad=True)
    soft = logits.sigmoid()
    hard = torch.ones_like(soft) + (soft - soft.detach())
    binomial_loss(hard.sum(1), 11, 0.2).backward()
    assert bool((logits.grad > 0).all())  # 11 of 11 are too many: descent lowers every one


# ---------------------------------------------------------------------------------- target rate


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_target_rate_loss_pushes_every_logit_alike(share):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ROWS, STEPS, generator=generator, dtype=torch.float64).requires_grad_()
    loss = target_rate_loss(logits, share)
    values = logits.detach().flatten().tolist()
    prob = sum(1 / (1 + math.exp(-v)) for v in values) / len(values)
    assert loss.item() == pytest.approx(sum(values) / len(values) * (prob - share), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    slope = (prob - share) / len(values)
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope), rtol=1e-12, atol=1e-16)


def test_target_rate_loss_reaches_saturated_probabilities():
    logits = torch.full((2, 6), 60.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(target_rate_loss(logits, 0.1), logits)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 0.9 / 12))
    prob = logits.sigmoid()
    (through,) = torch.autograd.grad((prob.mean() - 0.1).square(), logits)
    assert float(through.abs().max()) < 1e-20
