"""Losses that draw a patcher towards its compression rate. Pure functions.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ratio_loss(boundary_mask: Tensor, boundary_prob: Tensor, compression_rate: float) -> Tensor:
    """Return H-Net's loss for starting a patch every r points.

    Parameters
    ----------
    boundary_mask, boundary_prob : Tensor of shape (N, T), or what is left of it
        Boundaries and their probabilities, without steps that start a patch whatever they say.
    compression_rate : float
        Points per patch r, greater than 1.

    Notes
    -----
    With F the share of boundaries and G the mean probability, over all rows,
    ``r / (r - 1) ((r - 1) F G + (1 - F)(1 - G))``. Only G has a gradient, and the sign of
    ``r F - 1`` is its sign: every probability is raised while there are too few boundaries, and
    lowered while there are too many. It is 1 where F = G = 1/r; below 1 it can be off the target.

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
        Boundaries of each row; real numbers are allowed, and have a gradient.
    num_trials : int
        Steps that may be one.
    share : float
        Wanted share of them, between 0 and 1.

    Notes
    -----
    The derivative of log Binomial by the count k is
    ``digamma(n - k + 1) - digamma(k + 1) + logit(share)``, zero near k = share n.

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
        Of boundaries, any shape, without forced ones.
    share : float
        Wanted mean probability.

    Notes
    -----
    ``mean(logits) (mean(sigmoid(logits)) - share)`` with a constant second factor: a constant
    pressure on every logit, which no saturated probability escapes.

    References
    ----------
    S. Dauncey, R. Wattenhofer, arXiv:2602.13940, 2026.
    """
    return logits.mean() * (logits.detach().sigmoid().mean() - share)


def alignment_loss(
    tail_probability: Tensor, boundary_prob: Tensor, observed: Tensor | None = None
) -> Tensor:
    """Return the loss that draws boundary probabilities to where the series surprises.

    Parameters
    ----------
    tail_probability : Tensor of shape (N, T)
        How little a step surprises, from 0 to 1: of a one-step forecast, the probability of values
        farther from it than the one that came. No gradient is taken.
    boundary_prob : Tensor of shape (N, T)
        Of the same steps.
    observed : Tensor of bool, shape (N, T), optional
        A step counts if it is observed and so is the one before it. None: all are.

    Notes
    -----
    Mean of ``(1 - P_t - p_t)^2`` over the steps after the first, both kept 1e-6 from 0 and 1.

    References
    ----------
    SOMBRERO's confidence-alignment boundary loss, arXiv:2601.22805; there P is the probability of
    the byte, and of the byte after the start.
    """
    edge = 1e-6
    expected = tail_probability[:, 1:].detach().clamp(edge, 1 - edge)
    square = (1 - expected - boundary_prob[:, 1:].clamp(edge, 1 - edge)).square()
    if observed is None:
        return square.mean()
    counted = (observed[:, 1:] & observed[:, :-1]).to(square.dtype)
    return (square * counted).sum() / counted.sum().clamp(min=1)
