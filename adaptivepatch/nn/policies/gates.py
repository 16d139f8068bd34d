"""Policy of gates: each step starts a patch or not, conditional on the decisions just before it.

Reference: S. Dauncey, R. Wattenhofer, arXiv:2602.13940 (2026), and its public code.

Tensor suffixes: N rows, G rollouts, T steps, W width of point vectors, w window of decisions.
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
from adaptivepatch.nn.placement.groups import shared_in_groups
from adaptivepatch.nn.placement.score_rules import rank_above
from adaptivepatch.nn.policies.group_policy_gradient import mean_over_processes
from adaptivepatch.segmentation import Segmentation

LARGEST_LOGIT = 6.0  # smooth bound of the network's part of a logit
_INITIAL_SCALE = 1 / 16  # initial weights of a gate, relative to those of a linear layer
_LARGEST_SHARE = 0.999
_NUM_BISECTIONS = 22


class WindowedBernoulli:
    """Policy of sequential decisions, each conditional on the w - 1 decisions before it.

    Parameters
    ----------
    terms : Tensor of shape (N, T, w)
        Terms V of the logits. The terms of step 0 are not read, because step 0 always starts a
        patch.
    share : float
        Probability of a start where V is zero.

    Notes
    -----
    ``logit_t = 6 tanh(u_t / 6) + logit(share)`` with
    ``u_t = V_{t,w} + sum_{j=1}^{w-1} a_{t-j} V_{t,w-j}``, a_0 = 1 and no decisions before step 0.
    With w = 1, decisions are independent.
    """

    def __init__(self, terms: Tensor, share: float) -> None:
        self.terms = terms.double()
        self.share = min(share, _LARGEST_SHARE)
        self.prior = math.log(self.share / (1 - self.share))

    @property
    def window(self) -> int:
        """Window w: one plus the number of earlier decisions that a decision depends on."""
        return self.terms.shape[2]

    def _logit(self, total: Tensor) -> Tensor:
        return LARGEST_LOGIT * torch.tanh(total / LARGEST_LOGIT) + self.prior

    def logits(self, action: Tensor) -> Tensor:
        """Return the logits of the steps after the first, conditional on the actions before them.

        Parameters
        ----------
        action : Tensor of bool, shape (..., N, T)
            Actions, True at step 0.

        Returns
        -------
        Tensor of shape (..., N, T - 1)
            Logits with gradient, computed in one pass.
        """
        num_steps = self.terms.shape[1]
        total = self.terms[:, 1:, -1].expand(*action.shape[:-1], -1)
        past = action.to(self.terms.dtype)
        for back in range(1, min(self.window, num_steps)):
            earlier = past[..., : num_steps - back] * self.terms[:, back:, -1 - back]
            total = total + F.pad(earlier, (back - 1, 0))
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
            Uniform noise. Rows with equal noise and equal terms get equal actions.

        Returns
        -------
        Tensor of bool, shape (G, N, T)
        """
        return self._chosen(uniform[..., 0], lambda t, logit: uniform[..., t] < logit.sigmoid())[0]

    @torch.no_grad()
    def decide(self, threshold: float) -> tuple[Tensor, Tensor]:
        """Start a patch where the logit, conditional on earlier decisions, exceeds a threshold.

        Parameters
        ----------
        threshold : float
            Threshold in logits, relative to the logit of `share`.

        Returns
        -------
        action : Tensor of bool, shape (N, T)
            Decisions, True at step 0.
        logits : Tensor of shape (N, T - 1)
            Logits of the steps after the first, conditional on these decisions.
        """
        return self._chosen(self.terms[:, 0, 0], lambda _, logit: logit > self.prior + threshold)

    def _chosen(
        self, like: Tensor, choose: Callable[[int | slice, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Choose step by step; return actions (..., N, T) and their logits.

        The leading dimensions (..., N) are those of `like`. `choose` maps a step (or a slice of
        steps) and its logits to decisions.
        """
        first = torch.ones_like(like, dtype=torch.bool)
        if self.window == 1:  # independent decisions: one pass
            found = self.logits(first[..., None].expand(*like.shape, self.terms.shape[1]))
            return torch.cat([first[..., None], choose(slice(1, None), found)], -1), found
        terms = self.terms.detach().permute(1, 2, 0).contiguous()  # (T, w, N)
        actions, logits = [first], []
        past = deque([first.to(terms.dtype)], maxlen=self.window - 1)
        for t in range(1, len(terms)):
            total = terms[t, -1].expand_as(like)
            for back, before in enumerate(past, start=1):  # the order of `logits`, for equal sums
                total = total + before * terms[t, -1 - back]
            logit = self._logit(total)
            actions.append(choose(t, logit))
            logits.append(logit)
            past.appendleft(actions[-1].to(terms.dtype))
        found = torch.stack(logits, -1) if logits else terms.new_zeros(*like.shape, 0)
        return torch.stack(actions, -1), found


class Gate(nn.Module):
    """Map from point vectors to the terms of a policy, with a threshold for the policy's mode.

    Parameters
    ----------
    width, window : int
        Width W of the point vectors and window w of decisions.

    Attributes
    ----------
    level : Tensor
        Threshold of `WindowedBernoulli.decide`, saved under this name. It is relative to the logit
        of the share, which depends on the length of the look-back.

    Notes
    -----
    Initial weights and biases are a 16th of their usual size. The published gate instead always
    divides its output by 16. With narrow vectors, that division slows learning: Adam moves a logit
    by only about the learning rate times W / 16 per step.
    """

    level: Tensor

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.projection = Linear(width, window)
        with torch.no_grad():
            for parameter in self.projection.parameters():
                parameter.mul_(_INITIAL_SCALE)
        self.register_buffer("level", torch.zeros(()))

    def forward(self, points: Tensor) -> Tensor:
        """Map point vectors (N, T, W) to the terms V (N, T, w) of a policy."""
        return self.projection(points)

    @torch.no_grad()
    def calibrate(self, policy: WindowedBernoulli, share: float, weight: float = 1.0) -> None:
        """Move the threshold so that the given share of the steps after the first starts a patch.

        Parameters
        ----------
        policy : WindowedBernoulli
            Policy for rows of the data.
        share : float
            Desired share of starts.
        weight : float, default=1.0
            Step size: 1 replaces the threshold; a smaller value moves the threshold by that
            fraction of the difference.

        Notes
        -----
        The target is a quantile of the logits. If the window exceeds 1, logits depend on earlier
        decisions and hence on the threshold. With a weight below 1, the threshold moves towards the
        quantile of the logits under the current threshold; at the fixed point of this iteration,
        the share is the desired one. With a weight of 1, the threshold is found by bisection.
        """
        if policy.terms.shape[1] == 1:  # a single step leaves nothing to decide
            return
        if weight < 1:
            found = _quantile(policy.decide(float(self.level))[1], share) - policy.prior
        else:
            found = calibrated_threshold(policy, share)
        self.level.lerp_(mean_over_processes(found).to(self.level.dtype), weight)


def calibrated_threshold(policy: WindowedBernoulli, share: float) -> Tensor:
    """Return the threshold, a scalar, at which the given share of decisions are starts."""
    if policy.window == 1:
        return _quantile(policy.decide(0.0)[1], share) - policy.prior
    low, high = -LARGEST_LOGIT, LARGEST_LOGIT
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        found = float(policy.decide(middle)[0][:, 1:].double().mean())
        low, high = (middle, high) if found > share else (low, middle)
    return policy.terms.new_tensor(high)


def _quantile(logits: Tensor, share: float) -> Tensor:
    """Return the logit that the given share of all logits exceeds."""
    flat = logits.flatten()
    return flat.kthvalue(rank_above(share, len(flat))).values


def _expected_count_threshold(logits: Tensor) -> Tensor:
    """Return a threshold (N, 1) that as many logits exceed as starts are expected.

    The expected number of starts is the rounded sum of the probabilities of the logits (N, T - 1).
    If logits are equal, fewer of them may exceed the threshold.
    """
    number = logits.sigmoid().sum(1, keepdim=True).round().long()
    ordered = F.pad(logits.sort(1, descending=True).values, (0, 1), value=-torch.inf)
    return ordered.gather(1, number)


class GatedDistribution(SegmentationDistribution):
    """Distribution over segmentations given by a policy of gates.

    Parameters
    ----------
    policy : WindowedBernoulli
        Policy for a batch of N rows.
    features, inputs : Tensor of shape (N, T, W)
        Two sets of point vectors: `features`, which embeddings read and which have a gradient, and
        `inputs`, which the gate reads.
    cut : callable
        Function that maps scores (N, T) and the keyword `threshold` to a segmentation; see
        `adaptivepatch.nn.placement.score_rules.cut_by_scores`.
    threshold : callable or None
        Function that returns the threshold of `WindowedBernoulli.decide`. If None, the mode has as
        many patches as a draw has on average, and they start at the likeliest steps. None is
        allowed only if decisions are independent.
    group : Tensor of shape (N,), optional
        Group of each row. Rows of a group have equal terms and share their noise.
    """

    features: Tensor

    def __init__(
        self,
        policy: WindowedBernoulli,
        features: Tensor,
        inputs: Tensor,
        cut: Callable[..., Segmentation],
        threshold: Callable[[], float] | None,
        group: Tensor | None,
    ) -> None:
        self.policy, self.features, self.inputs = policy, features, inputs
        self.cut, self.threshold, self.group = cut, threshold, group

    @cached_property
    def _mode(self) -> Segmentation:
        threshold = 0.0 if self.threshold is None else self.threshold()
        _, logits = self.policy.decide(threshold)
        smallest: Tensor | float = self.policy.prior + threshold
        if self.threshold is None:
            smallest = _expected_count_threshold(logits)
        return self.cut(F.pad(logits - smallest, (1, 0)), threshold=0.0)

    @property
    def mode(self) -> Segmentation:
        """Patches that start where the logit, given earlier decisions, exceeds the threshold."""
        return self._mode

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw raw actions and project them onto the budget, keeping the likeliest starts."""
        shape = (num_samples, *self.features.shape[:2])
        device = self.features.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        action = self.policy.draw(shared_in_groups(uniform, self.group))
        prob = F.pad(self.policy.logits(action).detach().sigmoid(), (1, 0))
        score = (prob + 2.0 * action).flatten(0, 1)  # drawn starts score above all other steps
        return Rollout(
            self.cut(score, threshold=1.5),
            action=action.flatten(0, 1),
            log_prob=self.policy.step_log_prob(action).sum(-1),
        )

    @cached_property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        """Probability of a start, 1 at step 0; None if decisions depend on each other."""
        if self.policy.window > 1:
            return None
        logits = self.policy.logits(torch.ones_like(self.features[..., 0], dtype=torch.bool))
        return F.pad(logits.detach().sigmoid(), (1, 0), value=1.0)

    def entropy(self) -> Tensor | None:
        """Entropy of each row's raw action in nats; None if decisions depend on each other."""
        if self.boundary_prob is None:
            return None
        prob = self.boundary_prob[:, 1:]
        return -(torch.xlogy(prob, prob) + torch.xlogy(1 - prob, 1 - prob)).sum(1)

    def gate_gradients(self, action: Tensor, advantage: Tensor) -> Tensor:
        """Return the gradient of each row's ``mean(A log p)`` for the gate's projection weights.

        Parameters
        ----------
        action : Tensor of bool, shape (G * N, T)
            Raw actions drawn from this distribution.
        advantage : Tensor of shape (G, N, 1) or (G, N, T - 1)
            Advantages A, one per row or one per decision.

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
