"""Independent Bernoulli starts, conditional on their number.

Reference: S. X. Chen, J. S. Liu, "Statistical Applications of the Poisson-Binomial and Conditional
Bernoulli Distributions", Statistica Sinica 7 (1997).

Tensor suffixes: N rows, C sites, G samples, k starts.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.nn.policies.subsets import SubsetPolicy, with_gradient


class ConditionalBernoulli(SubsetPolicy):
    """Policy over sets of exactly k (or at most k) sites, weighted by the product of exp(logit).

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        Log-weights of the sites; with exactly k starts only their differences matter.
    num_starts : int
        Number k of starts, from 0 to C.
    at_most : bool, default=False
        Whether sets of fewer sites are allowed.

    Notes
    -----
    log p(S) = sum of logits in S - log Z, where Z is the sum of the weights of all allowed sets.
    With exactly k starts, Z is the elementary symmetric polynomial e_k. Z is computed from
    Poisson-binomial probabilities in linear space. The logits are shifted so that the expected
    number of starts is k, which avoids underflow of the relevant quantities, and the result is
    corrected exactly for the shift. The cost is O(C k), in float64. Patch lengths are not limited.
    """

    def __init__(self, logits: Tensor, num_starts: int, at_most: bool = False) -> None:
        self.logits, self.num_starts, self.at_most = logits, num_starts, at_most
        fixed = logits.detach().double()
        self.shift = _shift(fixed, num_starts, at_most)  # (N, 1)
        self.prob = (fixed + self.shift).sigmoid()

    @cached_property
    def _forward(self) -> Tensor:
        """Probability of each number of starts among the first 0 to C sites, (C + 1, N, k + 1)."""
        rows, sites = self.prob.shape
        table = self.prob.new_zeros(sites + 1, rows, self.num_starts + 1)
        table[0, :, 0] = 1
        for t in range(sites):
            prob = self.prob[:, t : t + 1]
            torch.mul(table[t], 1 - prob, out=table[t + 1])
            table[t + 1, :, 1:] += table[t, :, :-1] * prob
        return table

    @cached_property
    def _log_counts(self) -> Tensor:
        """Log-weight (N, k + 1) of every number of starts, relative to the shifted product."""
        counts = torch.arange(self.num_starts + 1, device=self.prob.device)
        log_weight = self._forward[-1].log() - self.shift * counts
        if not self.at_most:
            log_weight[:, :-1] = -torch.inf
        return log_weight

    @cached_property
    def _log_partition(self) -> Tensor:
        product = F.softplus(self.logits.detach().double() + self.shift).sum(1)
        return self._log_counts.logsumexp(1) + product

    @cached_property
    def boundary_prob(self) -> Tensor:
        """See `SubsetPolicy.boundary_prob`."""
        # For each number of starts so far: probability that the remaining sites lead to an allowed
        # number of starts, weighted by `_log_counts`. The extra column is for a start at the
        # current site.
        total = self._log_counts.logsumexp(1, keepdim=True)
        weight = (self._log_counts - total).exp() / self._forward[-1]
        weight = torch.where(torch.isneginf(self._log_counts), 0.0, weight)
        ahead = F.pad(weight, (0, 1))
        marginal = torch.empty_like(self.prob)
        for t in reversed(range(self.prob.shape[1])):
            prob = self.prob[:, t]
            marginal[:, t] = prob * (self._forward[t] * ahead[:, 1:]).sum(1)
            ahead = torch.lerp(ahead, F.pad(ahead[:, 1:], (0, 1)), prob[:, None])
        return marginal.clamp(0, 1)

    def log_prob(self, action: Tensor) -> Tensor:
        """See `SubsetPolicy.log_prob`."""
        partition = with_gradient(self._log_partition, self.boundary_prob, self.logits)
        return torch.where(action, self.logits, 0.0).sum(-1) - partition

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the number of starts, then every site from the last to the first."""
        rows, sites = self.prob.shape
        shape, device = (num_samples, rows, sites + 1), self.prob.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        cumulative = self._log_counts.softmax(1).cumsum(1)
        left = (uniform[..., -1:] * cumulative[:, -1:] > cumulative).sum(-1)  # (G, N)
        action = torch.zeros(num_samples, rows, sites, dtype=torch.bool, device=device)
        for t in reversed(range(sites)):
            table = self._forward[t].expand(num_samples, -1, -1)
            # Weights of a start and of no start here, up to a common factor, the probability of
            # `left`.
            with_it = table.gather(2, (left - 1).clamp(min=0)[..., None])[..., 0] * self.prob[:, t]
            without = table.gather(2, left[..., None])[..., 0] * (1 - self.prob[:, t])
            chosen = (left > 0) & (uniform[..., t] * (with_it + without) < with_it)
            action[..., t] = chosen
            left = left - chosen.long()
        return action

    @property
    def mode(self) -> Tensor:
        """The k sites with the largest logits; with `at_most`, only those with positive logits.

        Ties go to the earlier site.
        """
        logits = self.logits.detach()
        order = logits.argsort(dim=1, descending=True, stable=True)[:, : self.num_starts]
        chosen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, order, True)
        return chosen & (logits > 0) if self.at_most else chosen

    def entropy(self) -> Tensor:
        """See `SubsetPolicy.entropy`."""
        return self._log_partition - (self.boundary_prob * self.logits.detach()).sum(1)


def _shift(logits: Tensor, num_starts: int, at_most: bool) -> Tensor:
    """Find the shift (N, 1) of the logits that makes the expected number of starts k.

    If at most k starts are allowed, the shift is never positive.
    """
    sites = logits.shape[1]
    target = min(max(num_starts, 0.5), sites - 0.5)
    bound = logits.abs().amax(1, keepdim=True) + 40.0
    low, high = -bound, torch.zeros_like(bound) if at_most else bound
    for _ in range(60):
        middle = (low + high) / 2
        above = (logits + middle).sigmoid().sum(1, keepdim=True) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return high
