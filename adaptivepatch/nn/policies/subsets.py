"""Distributions over sets of patch starts under a budget.

Every policy covers N rows of C candidate sites and has `sample`, `log_prob` of a raw action,
`mode`, `boundary_prob` (marginals) and `entropy`. All returned sets satisfy the budget of k starts,
except the raw actions of `CappedBernoulli`, which `project` reduces to the budget.

Two further policies are in ``segmental.py`` and ``conditional_bernoulli.py``.

Tensor suffixes: N rows, C sites, G samples, B blocks, S sites of a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F


class SubsetPolicy(ABC):
    """Distribution over sets of sites, independent for every row.

    Attributes
    ----------
    logits : Tensor of shape (N, C)
        Logits of the sites; a larger logit makes a site likelier. Use float64 to avoid loss of
        precision.
    """

    logits: Tensor

    @abstractmethod
    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw raw actions, bool of shape (G, N, C)."""

    @abstractmethod
    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability (G, N), with gradient, of raw actions in the support."""

    def project(self, action: Tensor) -> Tensor:
        """Reduce raw actions (G, N, C) to sets (G, N, C) within the budget."""
        return action

    @property
    @abstractmethod
    def mode(self) -> Tensor:
        """Most probable set of each row within the budget, bool of shape (N, C)."""

    @property
    @abstractmethod
    def boundary_prob(self) -> Tensor:
        """Probability that the raw action holds each site, shape (N, C), without gradient."""

    @abstractmethod
    def entropy(self) -> Tensor:
        """Entropy of the raw action of each row in nats, shape (N,), without gradient."""


class Stratified(SubsetPolicy):
    """Policy that draws exactly one start in every block of sites, independently of other blocks.

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        Logits of the sites. Only their differences within a block matter.
    blocks : Tensor of int, shape (C,)
        Block of each site, from 0, non-decreasing.
    at_most : bool, default=False
        Whether a block may have no start. The choice of no start has logit 0.

    Notes
    -----
    log p(S) is the sum over blocks of the log-softmax at the chosen site. The cost is O(C). Two
    starts in one block are impossible.
    """

    def __init__(self, logits: Tensor, blocks: Tensor, at_most: bool = False) -> None:
        self.logits, self.at_most = logits, at_most
        sizes = torch.bincount(blocks)
        first = sizes.cumsum(0) - sizes
        slot = torch.arange(len(blocks), device=blocks.device) - first[blocks]
        self.widest = int(sizes.max())
        self.slot = blocks * (self.widest + at_most) + slot  # (C,), indices in the padded table
        self.num_blocks = len(sizes)
        self.is_padded = at_most or self.num_blocks * self.widest > len(blocks)

    @cached_property
    def _table(self) -> Tensor:
        """Logits (N, B, S), -1e300 at padding; with `at_most`, the last column means no start."""
        rows = len(self.logits)
        if not self.is_padded:
            return self.logits.view(rows, self.num_blocks, -1)
        table = self.logits.new_full((rows, self.num_blocks * (self.widest + self.at_most)), -1e300)
        table = table.index_copy(1, self.slot, self.logits)
        table = table.view(rows, self.num_blocks, -1)
        if self.at_most:
            table = torch.cat([table[..., :-1], torch.zeros_like(table[..., :1])], -1)
        return table

    @cached_property
    def _log_probs(self) -> Tensor:
        """Log-probabilities (N, B, S), -inf at padding."""
        return self._table.log_softmax(-1)

    def _sites(self, choice: Tensor) -> Tensor:
        """Convert the choices of blocks (..., B) to sets of sites (..., C)."""
        chosen = choice[..., None] == torch.arange(self.widest + self.at_most, device=choice.device)
        return chosen.flatten(-2)[..., self.slot] if self.is_padded else chosen.flatten(-2)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a site of every block by inverting its cumulative probabilities."""
        cumulative = self._log_probs.detach().exp().cumsum(-1)
        shape = (num_samples, *cumulative.shape[:2], 1)
        uniform = torch.rand(
            shape, dtype=torch.float64, device=cumulative.device, generator=generator
        )
        # Rounding can make the total differ from 1; scaling by it avoids draws of padding.
        choice = (uniform * cumulative[..., -1:] > cumulative).sum(-1)
        return self._sites(choice)

    def log_prob(self, action: Tensor) -> Tensor:
        """See `SubsetPolicy.log_prob`."""
        log_probs = self._log_probs.flatten(1)[:, self.slot]  # (N, C)
        total = torch.where(action, log_probs, 0.0).sum(-1)
        if self.at_most:
            index = self.slot // (self.widest + 1)
            used = action.new_zeros((*action.shape[:2], self.num_blocks), dtype=torch.long)
            used.index_add_(2, index, action.long())
            total = total + torch.where(used == 0, self._log_probs[..., -1], 0.0).sum(-1)
        return total

    @property
    def mode(self) -> Tensor:
        """Likeliest site of every block, or the first of equally likely sites."""
        return self._sites(self._table.detach().argmax(-1))

    @property
    def boundary_prob(self) -> Tensor:
        """See `SubsetPolicy.boundary_prob`."""
        return self._log_probs.detach().exp().flatten(1)[:, self.slot]

    def entropy(self) -> Tensor:
        """See `SubsetPolicy.entropy`."""
        log_probs = self._log_probs.detach()
        return -(log_probs.exp() * log_probs.clamp(min=-1e6)).sum((1, 2))


class CappedBernoulli(SubsetPolicy):
    """Policy of independent Bernoulli starts, of which at most k are kept.

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        Log-odds of each site.
    max_starts : int
        Budget k.
    threshold : bool, default=False
        Whether the mode keeps only sites with a probability above 1/2 among the k most probable
        sites.

    Notes
    -----
    log p is the log-probability of the *raw* action: capping is part of the environment. The
    score-function gradient is therefore unbiased; with log p of the capped action it would be
    biased. If a raw action has more than k starts, the k likeliest are kept; ties go to the earlier
    site.
    """

    def __init__(self, logits: Tensor, max_starts: int, threshold: bool = False) -> None:
        self.logits, self.max_starts, self.threshold = logits, max_starts, threshold

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw each site independently.

        A draw may have more starts than the budget allows; `project` drops the surplus.
        """
        shape, device = (num_samples, *self.logits.shape), self.logits.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        return uniform < self.boundary_prob

    def log_prob(self, action: Tensor) -> Tensor:
        """See `SubsetPolicy.log_prob`. Every set is in the support."""
        chosen, other = F.logsigmoid(self.logits), F.logsigmoid(-self.logits)
        return torch.where(action, chosen, other).sum(-1)

    def project(self, action: Tensor) -> Tensor:
        """Keep the likeliest starts of a raw action, at most k."""
        rank = torch.where(action, self._rank, self._rank.shape[1] + self._rank)
        kept = rank.argsort(-1)[..., : self.max_starts]
        return torch.zeros_like(action).scatter_(-1, kept, True) & action

    @cached_property
    def _rank(self) -> Tensor:
        """Rank of each site by its logit, 0 for the largest, shape (N, C)."""
        order = self.logits.detach().argsort(dim=1, descending=True, stable=True)
        return order.argsort(1)

    @property
    def mode(self) -> Tensor:
        """The k most probable sites; with `threshold`, only those with a probability above 1/2."""
        likeliest = self._rank < self.max_starts
        return likeliest & (self.logits.detach() > 0) if self.threshold else likeliest

    @property
    def boundary_prob(self) -> Tensor:
        """Probability that each site is drawn, before capping, shape (N, C)."""
        return self.logits.detach().sigmoid()

    def entropy(self) -> Tensor:
        """See `SubsetPolicy.entropy`."""
        logits, prob = self.logits.detach(), self.boundary_prob
        return -(prob * F.logsigmoid(logits) + (1 - prob) * F.logsigmoid(-logits)).sum(1)


def with_gradient(value: Tensor, gradient: Tensor, at: Tensor) -> Tensor:
    """Return `value` (N,) with a given gradient (N, C) with respect to the logits `at` (N, C)."""
    linear = (gradient * at).sum(1)
    return value + (linear - linear.detach())
