"""A policy of gates: whether a step starts a patch, drawn given the decisions just before it.

Reference: S. Dauncey, R. Wattenhofer, arXiv:2602.13940 (2026), and its public code.

Tensor suffixes: N rows, G rollouts, T steps, W width of point vectors, w window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.policies.group_policy_gradient import mean_over_processes
from adaptivepatch.segmentation import Segmentation

LARGEST_LOGIT = 6.0  # of the network's part, reached smoothly
_FIRST_WEIGHTS = 1 / 16  # of a gate, as a share of a linear layer's
_LARGEST_SHARE = 0.999
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
    ``logit_t = 6 tanh(u_t / 6) + logit(share)``. With a window of 1, independent.
    """

    def __init__(self, terms: Tensor, share: float) -> None:
        self.terms = terms.double()
        self.share = min(share, _LARGEST_SHARE)
        self.prior = math.log(self.share / (1 - self.share))

    @property
    def window(self) -> int:
        """The decision itself, and those before it that it depends on."""
        return self.terms.shape[2]

    def _logit(self, total: Tensor) -> Tensor:
        return LARGEST_LOGIT * torch.tanh(total / LARGEST_LOGIT) + self.prior

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
            In units of the logit, from that of `share`.

        Returns
        -------
        action : Tensor of bool, shape (N, T)
        logits : Tensor of shape (N, T - 1)
            Given that action.
        """
        return self._chosen(self.terms[:, 0, 0], lambda _, logit: logit > self.prior + level)

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
        See `WindowedBernoulli.decide`. The logit of the share moves with the length of the
        look-back, and so does what logits are compared with.

    Notes
    -----
    Weights and biases start at a 16th of their usual size. The published gate divides its output by
    16 for good instead, which with few values a vector slows learning down: Adam moves a logit by
    about the learning rate times W / 16 a step.
    """

    level: Tensor

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.projection = Linear(width, window)
        with torch.no_grad():
            for parameter in self.projection.parameters():
                parameter.mul_(_FIRST_WEIGHTS)
        self.register_buffer("level", torch.zeros(()))

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
            How far to move; 1 forgets what was so far.

        Notes
        -----
        To the quantile of the logits. With a window they depend on the decisions, hence on the
        level: with a weight below 1 it moves towards the quantile of the logits as they are under
        it, at which it rests where the share is right; with 1 it is found by bisection.
        """
        if policy.terms.shape[1] == 1:  # nothing to decide: what is known stays
            return
        if weight < 1:
            found = _quantile(policy.decide(float(self.level))[1], share) - policy.prior
        else:
            found = level_for(policy, share)
        self.level.lerp_(mean_over_processes(found).to(self.level.dtype), weight)


def level_for(policy: WindowedBernoulli, share: float) -> Tensor:
    """Return the level, a scalar, above which a share of the logits under it lies."""
    if policy.window == 1:
        return _quantile(policy.decide(0.0)[1], share) - policy.prior
    low, high = -LARGEST_LOGIT, LARGEST_LOGIT
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


def _as_many_as_expected(logits: Tensor) -> Tensor:
    """Return what as many of the logits (N, T - 1) exceed as their probabilities add up to: (N, 1).

    Where logits are equal, fewer do.
    """
    number = logits.sigmoid().sum(1, keepdim=True).round().long()
    ordered = F.pad(logits.sort(1, descending=True).values, (0, 1), value=-torch.inf)
    return ordered.gather(1, number)


class GatedDistribution(SegmentationDistribution):
    """A policy of gates as a distribution over segmentations.

    Parameters
    ----------
    policy : WindowedBernoulli
        Of N rows.
    features, inputs : Tensor of shape (N, T, W)
        Vectors for embeddings, with gradient, and what the gate read.
    cut : callable
        From scores (N, T), by keyword with a threshold, to a segmentation; see
        `adaptivepatch.nn.placement.score_rules.cut_by_scores`.
    level : callable or None
        Returns the level of `WindowedBernoulli.decide`. None, for independent decisions: as many
        start a patch as are expected of a draw, the likeliest.
    group : Tensor of shape (N,), optional
        Rows of equal group have equal terms, and share their noise.
    """

    features: Tensor

    def __init__(
        self,
        policy: WindowedBernoulli,
        features: Tensor,
        inputs: Tensor,
        cut: Callable[..., Segmentation],
        level: Callable[[], float] | None,
        group: Tensor | None,
    ) -> None:
        self.policy, self.features, self.inputs = policy, features, inputs
        self.cut, self.level, self.group = cut, level, group

    @cached_property
    def _mode(self) -> Segmentation:
        level = 0.0 if self.level is None else self.level()
        _, logits = self.policy.decide(level)
        above: Tensor | float = self.policy.prior + level
        if self.level is None:
            above = _as_many_as_expected(logits)
        return self.cut(F.pad(logits - above, (1, 0)), threshold=0.0)

    @property
    def mode(self) -> Segmentation:
        """Starts where the logit, given the decisions before, is above the level."""
        return self._mode

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw raw actions; the environment brings them under a budget, the likeliest first."""
        shape = (num_samples, *self.features.shape[:2])
        device = self.features.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        if self.group is not None:
            uniform = uniform[:, self.group.unique(return_inverse=True)[1]]
        action = self.policy.draw(uniform)
        prob = F.pad(self.policy.logits(action).detach().sigmoid(), (1, 0))
        score = (prob + 2.0 * action).flatten(0, 1)  # those drawn stand before all others
        return Rollout(
            self.cut(score, threshold=1.5),
            action=action.flatten(0, 1),
            log_prob=self.policy.step_log_prob(action).sum(-1),
        )

    @cached_property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        """Probability of a start, 1 at step 0; not known where decisions depend on each other."""
        if self.policy.window > 1:
            return None
        logits = self.policy.logits(torch.ones_like(self.features[..., 0], dtype=torch.bool))
        return F.pad(logits.detach().sigmoid(), (1, 0), value=1.0)

    def entropy(self) -> Tensor | None:
        """Entropy of the raw action of each row in nats, where decisions are independent."""
        if self.boundary_prob is None:
            return None
        prob = self.boundary_prob[:, 1:]
        return -(torch.xlogy(prob, prob) + torch.xlogy(1 - prob, 1 - prob)).sum(1)

    def gate_gradients(self, action: Tensor, advantage: Tensor) -> Tensor:
        """Return the gradient of ``mean(A log p)`` that every row gives to the gate's projection.

        Parameters
        ----------
        action : Tensor of bool, shape (G * N, T)
            Drawn from this distribution.
        advantage : Tensor of shape (G, N, 1) or (G, N, T - 1)
            Of all decisions of a row, or of each.

        Returns
        -------
        Tensor of shape (N, w * W)
        """
        with torch.enable_grad():
            terms = self.policy.terms.detach().requires_grad_()
            policy = WindowedBernoulli(terms, self.policy.share)
            log_prob = policy.step_log_prob(action.view(-1, *terms.shape[:2]))
            total = (advantage * log_prob).mean(-1).mean(0).sum()
            (gradient,) = torch.autograd.grad(total, terms)
        inputs = self.inputs.detach().to(gradient.dtype)
        return torch.einsum("ntv,ntw->nvw", gradient, inputs).flatten(1)
