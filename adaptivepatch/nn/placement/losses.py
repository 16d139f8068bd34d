"""Losses that move a patcher's boundaries towards a compression rate or towards surprising steps.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ratio_loss(boundary_mask: Tensor, boundary_prob: Tensor, compression_rate: float) -> Tensor:
    """Return H-Net's ratio loss, which aims at one patch start per r points.

    Parameters
    ----------
    boundary_mask, boundary_prob : Tensor of shape (N, T), or a selection of its steps
        Boundaries and their probabilities, without steps that always start a patch.
    compression_rate : float
        Points per patch r, greater than 1.

    Notes
    -----
    Let F be the share of boundaries and G the mean probability over all rows. The loss is
    ``r / (r - 1) ((r - 1) F G + (1 - F)(1 - G))``. Only G has a gradient, with the sign of
    ``r F - 1``: all probabilities are raised if there are too few boundaries and lowered if there
    are too many. The loss is 1 at the target F = G = 1/r; it can be below 1 elsewhere.

    References
    ----------
    S. Hwang, B. Wang, A. Gu, arXiv:2507.07955, 2025, section 2.2.2.
    """
    found, expected = boundary_mask.to(boundary_prob.dtype).mean(), boundary_prob.mean()
    rate = compression_rate
    off = (1 - found) * (1 - expected)
    return rate / (rate - 1) * ((rate - 1) * found * expected + off)


def binomial_loss(count: Tensor, num_trials: int, share: float) -> Tensor:
    """Return the mean of -log Binomial(count; num_trials, share), per trial.

    Parameters
    ----------
    count : Tensor of shape (N,)
        Number k of boundaries of each row; it may be fractional and has a gradient.
    num_trials : int
        Number n of steps that may be boundaries.
    share : float
        Desired share of boundaries, between 0 and 1.

    Notes
    -----
    The derivative of log Binomial with respect to k is
    ``digamma(n - k + 1) - digamma(k + 1) + logit(share)``. It is zero near k = share n.

    References
    ----------
    P. Nawrot et al., "Efficient Transformers with Dynamic Token Pooling", ACL 2023,
    arXiv:2211.09761, section 3.2.
    """
    left = num_trials - count
    ways = math.lgamma(num_trials + 1) - torch.lgamma(count + 1) - torch.lgamma(left + 1)
    log_prob = ways + count * math.log(share) + left * math.log1p(-share)
    return -log_prob.mean() / num_trials


def target_rate_loss(logits: Tensor, share: float) -> Tensor:
    """Return a loss, linear in the logits, that moves their mean probability to `share`.

    Parameters
    ----------
    logits : Tensor
        Logits of boundaries, of any shape, without steps that always start a patch.
    share : float
        Desired mean probability.

    Notes
    -----
    The loss is ``mean(logits) (mean(sigmoid(logits)) - share)``, without a gradient through the
    second factor. The gradient is the same for every logit, even where the probability is
    saturated.

    References
    ----------
    S. Dauncey, R. Wattenhofer, arXiv:2602.13940, 2026.
    """
    return logits.mean() * (logits.detach().sigmoid().mean() - share)


def alignment_loss(
    tail_probability: Tensor, boundary_prob: Tensor, observed: Tensor | None = None
) -> Tensor:
    """Return a loss that draws boundary probabilities towards the surprise 1 - P of their steps.

    Parameters
    ----------
    tail_probability : Tensor of shape (N, T)
        Probability P, under a one-step forecast, of values farther from the forecast than the
        actual value. It is small at surprising steps and gets no gradient.
    boundary_prob : Tensor of shape (N, T)
        Boundary probabilities p of the same steps.
    observed : Tensor of bool, shape (N, T), optional
        True at observed steps. A step counts if the step itself and the previous step are observed.
        None: all steps are observed.

    Notes
    -----
    The loss is the mean of ``(1 - P_t - p_t)^2`` over the steps after the first, with P and p
    clamped to [1e-6, 1 - 1e-6].

    References
    ----------
    SOMBRERO's confidence-alignment boundary loss, arXiv:2601.22805. In that paper, P is the
    probability of the byte itself, and it is taken at the byte after the start.
    """
    edge = 1e-6
    expected = tail_probability[:, 1:].detach().clamp(edge, 1 - edge)
    square = (1 - expected - boundary_prob[:, 1:].clamp(edge, 1 - edge)).square()
    if observed is None:
        return square.mean()
    counted = (observed[:, 1:] & observed[:, :-1]).to(square.dtype)
    return (square * counted).sum() / counted.sum().clamp(min=1)
