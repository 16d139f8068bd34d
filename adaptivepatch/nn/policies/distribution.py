"""A policy over candidate sites as a distribution over segmentations.

Tensor suffixes: N rows, T steps, C sites, G rollouts, K patches, W width.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.nn.policies.candidates import Sites
from adaptivepatch.nn.policies.group_policy_gradient import signal_to_noise
from adaptivepatch.nn.policies.subsets import SubsetPolicy
from adaptivepatch.segmentation import Segmentation


class PolicyDistribution(SegmentationDistribution):
    """Distribution over segmentations given by a policy over sites.

    Parameters
    ----------
    policy : SubsetPolicy
        Policy for a batch of N rows, or for the groups that these rows form.
    sites : Sites
        Positions of the C sites.
    capacity : int
        Number of patches K.
    exact : bool
        Whether every row has exactly K patches.
    place : Tensor of int, shape (N,), or None
        Index of each row's group, if the policy is for groups. None: the policy is for rows.
    hidden : Tensor of shape (N, C, W)
        Vectors from which the logits were computed.
    """

    def __init__(
        self,
        policy: SubsetPolicy,
        sites: Sites,
        capacity: int,
        exact: bool,
        place: Tensor | None,
        hidden: Tensor,
    ) -> None:
        self.policy, self.sites, self.place, self.hidden = policy, sites, place, hidden
        self._capacity, self._exact = capacity, exact
        self._positions = torch.tensor(sites.positions, device=hidden.device)

    def _rows(self, values: Tensor) -> Tensor:
        """Expand values (..., groups, C) of a policy for groups to rows (..., N, C)."""
        return values if self.place is None else values[..., self.place, :]

    def _on_steps(self, chosen: Tensor, first: bool) -> Tensor:
        """Convert sets of sites (..., N, C) to masks of steps (rows, T)."""
        chosen = self._rows(chosen).flatten(0, -2)
        marks = chosen.new_zeros(len(chosen), self.sites.num_steps)
        marks.index_copy_(1, self._positions, chosen)
        marks[:, 0] = first
        return marks

    def _segmentation(self, chosen: Tensor) -> Segmentation:
        mask = self._on_steps(chosen, first=True)
        return Segmentation(mask, capacity=self._capacity, exact=self._exact, validate=False)

    @cached_property
    def _mode(self) -> Segmentation:
        return self._segmentation(self.policy.mode)

    @property
    def mode(self) -> Segmentation:
        """Most probable segmentation within the budget."""
        return self._mode

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw raw actions and their log-probabilities, and project them onto the budget."""
        action = self.policy.sample(num_samples, generator)
        log_prob = self.policy.log_prob(action)
        return Rollout(
            self._segmentation(self.policy.project(action)),
            action=self._on_steps(action, first=True),
            log_prob=log_prob if self.place is None else log_prob[:, self.place],
        )

    @cached_property
    def boundary_prob(self) -> Tensor:  # type: ignore[override]
        """Marginal probabilities (N, T) of the raw action, without gradient; 1 at step 0."""
        prob = self._rows(self.policy.boundary_prob)
        marginal = prob.new_zeros(len(prob), self.sites.num_steps)
        marginal[:, self._positions] = prob
        marginal[:, 0] = 1
        return marginal

    def entropy(self) -> Tensor:
        """Entropy of each row's policy, in nats."""
        entropy = self.policy.entropy()
        return entropy if self.place is None else entropy[self.place]

    @torch.no_grad()
    def signal_to_noise(self, rollout: Rollout, advantage: Tensor) -> Tensor:
        """Return the signal-to-noise ratio of the policy gradient, about 1 for pure noise.

        For all policies here, the gradient of the log-probability with respect to the logits is the
        action minus its marginal probability. The ratio is computed from each row's gradient for
        the last layer of the network.

        Parameters
        ----------
        rollout : Rollout
            Rollouts drawn from this distribution, G per row.
        advantage : Tensor of shape (G, N)
            Advantages of those rollouts. The distribution may also have G * N rows, each with one
            rollout.
        """
        assert rollout.action is not None
        rows = self.hidden.shape[0]
        action = rollout.action[:, self._positions].view(-1, rows, len(self._positions))
        score = action.double() - self._rows(self.policy.boundary_prob)
        at_logits = (advantage.reshape(-1, rows, 1) * score).mean(0)  # (N, C)
        return signal_to_noise((at_logits[..., None] * self.hidden).sum(1))
