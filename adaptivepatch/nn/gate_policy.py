"""A policy of gates: whether a step starts a patch, drawn given the decisions just before it.

The parts of score-function tokenization: the policy, a gate that computes it from point vectors,
and what its causal form needs besides: an encoder that looks back only, predictions of the next
points, discounting. Reference: S. Dauncey, R. Wattenhofer, arXiv:2602.13940 (2026).

Tensor suffixes: N rows, G rollouts, T steps, W width of point vectors, w window, h points ahead,
P patches, D width of tokens.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.linear import Linear
from adaptivepatch.nn.point_layers import PointEncoder
from adaptivepatch.nn.policy_gradient import mean_over_processes
from adaptivepatch.segmentation import Segmentation

LARGEST_LOGIT = 6.0  # of the network's part, reached smoothly
SCALE = 16.0  # of a gate's output to a logit
_LARGEST_SHARE = 0.999
_UNKNOWN = -1e3  # a saved number must be finite; no logit is as small
_HALVINGS = 22


class WindowedBernoulli:
    """Starts drawn one after the other, each given the window - 1 decisions before it.

    Parameters
    ----------
    terms : Tensor of shape (N, T, w)
        V. Those of step 0, which starts a patch whatever they say, are not read.
    share : float
        Share of starts where V is zero.

    Notes
    -----
    ``u_t = V_{t,w} + sum_{j=1}^{w-1} a_{t-j} V_{t,w-j}`` with a_0 = 1 and no decision before it;
    ``logit_t = 6 tanh(u_t / (6 * 16)) + logit(share)``. With a window of 1, independent.
    """

    def __init__(self, terms: Tensor, share: float) -> None:
        self.terms = terms.double()
        share = min(share, _LARGEST_SHARE)
        self.prior = math.log(share / (1 - share))

    @property
    def window(self) -> int:
        """The decision itself, and those before it that it depends on."""
        return self.terms.shape[2]

    def _logit(self, total: Tensor) -> Tensor:
        return LARGEST_LOGIT * torch.tanh(total / (SCALE * LARGEST_LOGIT)) + self.prior

    def logits(self, action: Tensor) -> Tensor:
        """Return the logits of the steps after the first, each given the actions before it.

        Parameters
        ----------
        action : Tensor of bool, shape (..., N, T)
            True at step 0.

        Returns
        -------
        Tensor of shape (..., N, T - 1)
            With gradient; in one pass.
        """
        num_steps = self.terms.shape[1]
        total = self.terms[:, 1:, -1].expand(*action.shape[:-1], -1)
        past = action.to(self.terms.dtype)
        for back in range(1, min(self.window, num_steps)):
            heard = past[..., : num_steps - back] * self.terms[:, back:, -1 - back]
            total = total + F.pad(heard, (back - 1, 0))
        return self._logit(total)

    def step_log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability of every decision: (..., N, T) to (..., N, T - 1)."""
        logits = self.logits(action)
        return torch.where(action[..., 1:], F.logsigmoid(logits), F.logsigmoid(-logits))

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> Tensor:
        """Draw actions, True at step 0.

        Parameters
        ----------
        uniform : Tensor of shape (G, N, T)
            Uniform noise; where rows share it and V, they share the action.

        Returns
        -------
        Tensor of bool, shape (G, N, T)
        """
        return self._chosen(uniform[..., 0], lambda t, logit: uniform[..., t] < logit.sigmoid())[0]

    @torch.no_grad()
    def decide(self, level: float) -> tuple[Tensor, Tensor]:
        """Start a patch where the logit, given the decisions before, is above a level.

        Parameters
        ----------
        level : float
            In units of the logit.

        Returns
        -------
        action : Tensor of bool, shape (N, T)
        logits : Tensor of shape (N, T - 1)
            Given that action.
        """
        return self._chosen(self.terms[:, 0, 0], lambda _, logit: logit > level)

    def _chosen(
        self, like: Tensor, choose: Callable[[int | slice, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Choose in turn: actions (..., N, T) and their logits, for leading sizes as of `like`."""
        first = torch.ones_like(like, dtype=torch.bool)
        if self.window == 1:  # all at once
            found = self.logits(first[..., None].expand(*like.shape, self.terms.shape[1]))
            return torch.cat([first[..., None], choose(slice(1, None), found)], -1), found
        terms = self.terms.detach().permute(1, 2, 0).contiguous()  # (T, w, N)
        actions, logits = [first], []
        past = deque([first.to(terms.dtype)], maxlen=self.window - 1)
        for t in range(1, len(terms)):
            total = terms[t, -1].expand_as(like)
            for back, before in enumerate(past, start=1):  # the order of `logits`: equal sums
                total = total + before * terms[t, -1 - back]
            logit = self._logit(total)
            actions.append(choose(t, logit))
            logits.append(logit)
            past.appendleft(actions[-1].to(terms.dtype))
        found = torch.stack(logits, -1) if logits else terms.new_zeros(*like.shape, 0)
        return torch.stack(actions, -1), found


class Gate(nn.Module):
    """From point vectors to a policy, and the level above which a logit starts a patch.

    Parameters
    ----------
    width, window : int
        W and w.

    Attributes
    ----------
    level : Tensor
        What the logits of `WindowedBernoulli.decide` are compared with.
    """

    level: Tensor

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.projection = Linear(width, window)
        self.register_buffer("level", torch.tensor(_UNKNOWN))

    @property
    def is_calibrated(self) -> bool:
        """Whether the level is known."""
        return float(self.level) != _UNKNOWN

    def forward(self, points: Tensor) -> Tensor:
        """Map point vectors (N, T, W) to the terms V (N, T, w) of a policy."""
        return self.projection(points)

    @torch.no_grad()
    def calibrate(self, policy: WindowedBernoulli, share: float, weight: float = 1.0) -> None:
        """Move the level to where a share of the steps after the first starts a patch.

        Parameters
        ----------
        policy : WindowedBernoulli
            Of rows from the data.
        share : float
            Wanted share.
        weight : float, default=1.0
            How far to move; 1, and where the level is not known yet, all the way.

        Notes
        -----
        To the quantile of the logits. With a window they depend on the decisions, hence on the
        level: a known one moves to the quantile of the logits as they are under it, at which it
        rests where the share is right; an unknown one is found by bisection.
        """
        if policy.terms.shape[1] == 1:
            return
        if weight < 1 and self.is_calibrated:
            found = _quantile(policy.decide(float(self.level))[1], share)
            self.level.lerp_(mean_over_processes(found).to(self.level.dtype), weight)
        else:
            found = mean_over_processes(level_for(policy, share))
            self.level.copy_(found.to(self.level.dtype))


def level_for(policy: WindowedBernoulli, share: float) -> Tensor:
    """Return the level, a scalar, above which a share of the logits under it lies."""
    if policy.window == 1:
        return _quantile(policy.decide(0.0)[1], share)
    low = policy.prior - LARGEST_LOGIT
    high = policy.prior + LARGEST_LOGIT
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = float(policy.decide(middle)[0][:, 1:].double().mean())
        low, high = (middle, high) if found > share else (low, middle)
    return policy.terms.new_tensor(high)


def _quantile(logits: Tensor, share: float) -> Tensor:
    """Return the value that a share of the logits is greater than."""
    flat = logits.flatten()
    rank = min(max(round((1 - share) * len(flat)), 1), len(flat))
    return flat.kthvalue(rank).values


def discounted(reward: Tensor, discount: float) -> Tensor:
    """Return the sum of this and all later rewards, a later one times a power of the discount.

    Parameters
    ----------
    reward : Tensor of shape (..., T)
        Of every step.
    discount : float
        From 0 to 1, the factor of the next step's.
    """
    step = torch.arange(reward.shape[-1], device=reward.device)
    ahead = step[:, None] - step  # row: when it is given; column: to which step
    weight = discount ** ahead.clamp(min=0).to(torch.float64) * (ahead >= 0)
    return reward @ weight.to(reward.dtype)


# ------------------------------------------------------------------------------------ causal form


class CausalPointEncoder(PointEncoder):
    """The encoder of convolutions, looking back only: a vector knows its step and those before it.

    Parameters
    ----------
    width, num_layers : int
        See `PointEncoder`.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__(width, 0, "convolution")
        self.layers.layers.extend(_CausalLayer(width, k) for k in range(num_layers))


class _CausalLayer(nn.Module):
    """Norm, convolution of a step and four before it, GELU, on a residual branch."""

    def __init__(self, width: int, index: int) -> None:
        super().__init__()
        self.dilation = 1 if index % 2 == 0 else 4
        self.norm = nn.RMSNorm(width)
        self.mix = nn.Conv2d(width, width, (1, 5), dilation=(1, self.dilation))

    def forward(self, points: Tensor, mask: None) -> Tensor:
        """Map (N, T, W) to (N, T, W)."""
        del mask
        image = F.pad(self.norm(points), (0, 0, 4 * self.dilation, 0)).mT[:, :, None]
        mixed = self.mix(image.contiguous(memory_format=torch.channels_last))[:, :, 0].mT
        return points + F.gelu(mixed)


class NextErrors(NamedTuple):
    """Mean squared errors of the next points, (N, T): with tokens, without, and where known."""

    late: Tensor
    early: Tensor | None
    counted: Tensor


class NextPoints(nn.Module):
    """Predictions of the next points at every step: with the tokens so far, and without them.

    Parameters
    ----------
    width : int
        Width W of the point vectors.
    ahead : int
        Points h.
    with_early : bool
        Whether there is a prediction without tokens, by a head that starts as a copy of the other.

    Notes
    -----
    ``late_t = x_t + A (x_t + z_t)`` and ``early_t = x_t + B x_t`` with the vector of step t, and z
    the first W values of the token of the newest patch that is complete at t, 0 before there is
    one. A patch is complete at its last step, where the start of the next is decided.
    """

    def __init__(self, width: int, ahead: int, with_early: bool) -> None:
        super().__init__()
        self.width, self.ahead = width, ahead
        self.late = Linear(width, ahead)
        self.early = copy.deepcopy(self.late) if with_early else None

    def forward(
        self,
        points: Tensor,
        hidden: Tensor,
        segmentation: Segmentation,
        series: tuple[Tensor, Tensor],
        observed: tuple[Tensor | None, Tensor | None],
    ) -> NextErrors:
        """Return the mean squared errors of every step.

        Parameters
        ----------
        points : Tensor of shape (N, T, W)
            Point vectors.
        hidden : Tensor of shape (N, P, D)
            Tokens behind the backbone; D is at least W.
        segmentation : Segmentation
            N rows.
        series : tuple of Tensor, shapes (N, T) and (N, H)
            Look-back and target, in the same units.
        observed : tuple of Tensor of bool, of these shapes, or None
            None: all are.
        """
        value = series[0]
        known = [
            torch.ones_like(part, dtype=torch.bool) if seen is None else seen
            for part, seen in zip(series, observed, strict=True)
        ]
        to_come = _next(torch.cat(series, 1), self.ahead, value.shape[1])
        counted = _next(torch.cat(known, 1), self.ahead, value.shape[1])
        step = torch.where(counted, to_come - value[..., None], 0.0)  # gaps may be NaN
        number = counted.sum(-1).clamp(min=1)

        def error(predicted: Tensor) -> Tensor:
            square = torch.where(counted, predicted - step, 0.0).square()
            return square.sum(-1) / number

        tokens = points + _complete(hidden[..., : self.width], segmentation)
        early = None if self.early is None else error(self.early(points))
        return NextErrors(error(self.late(tokens)), early, counted.any(-1))


def _next(values: Tensor, ahead: int, num_steps: int) -> Tensor:
    """Return the values (N, T, h) that follow each of the first T steps; 0 beyond the end."""
    missing = max(0, num_steps + ahead - values.shape[1])
    return F.pad(values, (0, missing))[:, 1:].unfold(1, ahead, 1)[:, :num_steps]


def _complete(tokens: Tensor, segmentation: Segmentation) -> Tensor:
    """Give every step (N, T, W) the token of the newest patch that is complete there, or 0."""
    index = segmentation.patch_index
    newest = torch.cat([index[:, 1:] - 1, index[:, -1:]], 1)
    given = tokens.gather(1, newest.clamp(min=0)[..., None].expand(-1, -1, tokens.shape[-1]))
    return given * (newest >= 0)[..., None]
