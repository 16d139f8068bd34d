"""ReinPatch: a boundary policy trained by reinforcement, with the forecast loss as its reward.

Reference: Y. Wu et al., "Dynamic Tokenization via Reinforcement Patching: End-to-end Training and
Zero-shot Transfer", arXiv:2603.26097 (2026).

Tensor suffixes: N rows, T steps, C sites, G rollouts, K patches, W width.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from adaptivepatch.distributions import (
    Deterministic,
    SegmentationDistribution,
    StepContext,
    StepPlan,
)
from adaptivepatch.errors import InvalidParameterError, check_choice, check_float, check_int
from adaptivepatch.nn.placement.boundary_networks import (
    ConvolutionalBoundaryNetwork,
    EarlyExit,
    NormedBoundaryNetwork,
    TransformerBoundaryNetwork,
    site_features,
)
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.nn.policies.candidates import Sites, candidate_sites, even_starts, recency_starts
from adaptivepatch.nn.policies.conditional_bernoulli import ConditionalBernoulli
from adaptivepatch.nn.policies.distribution import PolicyDistribution
from adaptivepatch.nn.policies.group_policy_gradient import (
    GROUP_BASELINES,
    GroupPolicyGradient,
    mean_over_processes,
    reconstruction_error,
    score_function_loss,
)
from adaptivepatch.nn.policies.metrics import PolicyMetrics, mode_metrics, policy_metrics
from adaptivepatch.nn.policies.segmental import Segmental
from adaptivepatch.nn.policies.subsets import CappedBernoulli, Stratified, SubsetPolicy
from adaptivepatch.patchers.base import Patcher, rate_capacity
from adaptivepatch.segmentation import Segmentation

POLICIES = (
    "stratified",
    "segmental",
    "conditional_bernoulli",
    "capped_bernoulli",
    "capped_bernoulli_threshold",
)
NETWORKS: dict[str, Any] = {
    "convolution": ConvolutionalBoundaryNetwork,
    "normed": NormedBoundaryNetwork,
    "transformer": TransformerBoundaryNetwork,
}
_LARGEST_LOGIT = 6.0  # soft limit of the network's part of a logit
_NOISE_EVERY = 10  # updates between two measurements of the gradient's noise


class ReinPatcher(Patcher):
    """Choose patch starts by a policy that is trained by reinforcement on the forecast loss.

    Use it where one token has to summarise many points: long look-backs, few tokens, uneven
    regimes. Compare it with fixed and random patches, and with its untrained policy
    (``GroupPolicyGradient(learning_rate=0)``), at equal token count.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; at most K = max(1, floor(T / r)) patches, in training and prediction.
    budget : {"exact", "min"}, default="exact"
        "exact": exactly K patches. "min": a compression rate of at least r, that is, at most K
        patches.
    policy : str, default="stratified"
        Family of distributions over starts: "stratified" (one start per block), "segmental" (patch
        lengths between two limits), "conditional_bernoulli" (any K starts), "capped_bernoulli"
        (independent starts, with surplus starts dropped) or "capped_bernoulli_threshold" (the same,
        but prediction keeps only starts with a probability above 1/2).
    reference : {"uniform", "recency"}, default="uniform"
        Patches of the untrained policy: even patches, or patches that grow into the past.
    shortest : int, default=16
        Length of the newest patch of the recency reference, in time steps.
    candidates : int or None, default=9
        Number of candidate steps around every reference start, at least 6. If there are fewer steps
        around a start, all of them are candidates. None makes every step a candidate.
    min_length, max_length : int, optional
        Limits of the patch length, in time steps, which only the segmental policy accepts. Default:
        a quarter of the mean length (at least 1), and 4 times the mean length.
    prior : float, default=4.0
        Constant that is added to the logits of the reference starts.
    network : {"convolution", "normed", "transformer"}, default="convolution"
        Network that computes the logits. "normed" is for series with spikes: it has convolutions
        that treat a series and its negative alike, and a LayerNorm.
    width : int, default=8
        Number of channels of the network, which must be a multiple of 4 for the transformer.
    gradient : GroupPolicyGradient, optional
        Settings of the policy gradient.

    Raises
    ------
    InvalidParameterError
        If a value is out of range. `width` and `network` are checked at construction, the other
        parameters when the patcher is used.

    Notes
    -----
    With the default prior, the mode of an untrained policy is the reference, so training starts as
    fixed (or recency) patching. Prediction uses the mode and draws no samples.

    The implementation follows the paper's abstract and descriptions of the paper; its equations,
    hyper-parameters and code were not available. The descriptions mention a policy network apart
    from the backbone, discrete boundary decisions, groups of sampled boundary sets, a reward from
    the forecast loss, no relaxation, a strict compression rate enforced by the environment, joint
    training, several levels, and a detachable patcher. Deviations, and choices of this package:

    * the default policy (stratified, with exactly K starts near the reference), its prior, its
      candidates and the soft limit of 6 on the network's logits; `as_described` uses another
      policy, without prior or candidates;
    * a leave-one-out baseline, one running scale for all advantages, and clipping;
    * rewards are computed with the network in eval mode;
    * half of the rows train the backbone on the mode; in a last phase, all rows do, and the policy
      is not trained;
    * the boundary network and its features, prediction by the mode, and the time-aligned embedding
      and head.

    References
    ----------
    Y. Wu et al., "Dynamic Tokenization via Reinforcement Patching: End-to-end Training and
    Zero-shot Transfer", arXiv:2603.26097, 2026.

    Examples
    --------
    >>> import torch
    >>> ReinPatcher(compression_rate=4)(torch.randn(2, 12)).mode.patch_lengths.tolist()
    [[4, 4, 4], [4, 4, 4]]
    """

    name = "reinpatch"
    decides: ClassVar[str] = "a policy, trained by the forecast loss of its samples"
    rate_kept: ClassVar[str] = "exact or min"
    cost: ClassVar[str] = "a small network on candidate steps; rollouts in training"
    trained_by: ClassVar[str] = "reinforcement"
    causality: ClassVar[str] = "not causal"
    advantage_scale: Tensor  # running mean square of the advantages
    steps_done: Tensor
    level: nn.Parameter | None  # common shift of all logits
    stochastic: ClassVar[bool] = True
    trainable: ClassVar[bool] = True

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "exact",
        policy: str = "stratified",
        reference: str = "uniform",
        shortest: int = 16,
        candidates: int | None = 9,
        min_length: int | None = None,
        max_length: int | None = None,
        prior: float = 4.0,
        network: str = "convolution",
        width: int = 8,
        gradient: GroupPolicyGradient | None = None,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.policy = policy
        self.reference = reference
        self.shortest = shortest
        self.candidates = candidates
        self.min_length = min_length
        self.max_length = max_length
        self.prior = prior
        self.network = network
        self.width = width
        self.gradient = gradient
        check_int(self, width=width)
        check_choice(self, NETWORKS, network=network)
        self.boundary_network = NETWORKS[network](width)
        self.early_exit = EarlyExit() if self._settings.baseline == "early_exit" else None
        # A common shift of the logits has an effect only if the number of starts can vary.
        self.level = nn.Parameter(torch.zeros(())) if self._varies else None
        self.register_buffer("advantage_scale", torch.zeros(()))
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self._metrics = PolicyMetrics()

    @classmethod
    def as_described(cls, compression_rate: float = 16.0, num_samples: int = 8) -> Self:
        """Return the preset nearest to the paper's description.

        Boundaries are independent at every step, initialised at the rate and capped by the
        environment. The baseline is the group mean. There is no prior, no warm-up, and no row or
        phase that trains on the mode.

        Parameters
        ----------
        compression_rate : float, default=16.0
            Smallest number of points per patch.
        num_samples : int, default=8
            Number G of rollouts per row.
        """
        gradient = GroupPolicyGradient(
            num_samples, "mean", delay=0.0, mode_share=0.0, frozen_share=0.0
        )
        return cls(
            compression_rate,
            "min",
            "capped_bernoulli",
            candidates=None,
            prior=0.0,
            gradient=gradient,
        )

    def _component(self, name: str, value: Any) -> Any:
        """Return the settings of the policy gradient, which are the default settings for None."""
        return GroupPolicyGradient() if name == "gradient" and value is None else value

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a new kind or size of network replaces the trained one."""
        changed = {name.partition("__")[0] for name in params}
        super().set_params(**params)
        if changed & {"network", "width", "policy", "budget", "gradient"}:
            self._rebuild_if_reshaped()
        return self

    @property
    def _settings(self) -> GroupPolicyGradient:
        settings = GroupPolicyGradient() if self.gradient is None else self.gradient
        if not isinstance(settings, GroupPolicyGradient):
            raise TypeError(
                "The 'gradient' parameter of ReinPatcher must be a GroupPolicyGradient. Got "
                f"{self.gradient!r} instead."
            )
        return settings

    @property
    def _is_capped(self) -> bool:
        return str(self.policy).startswith("capped_bernoulli")

    @property
    def _varies(self) -> bool:
        return self._is_capped or self.budget == "min"

    def _check(self) -> None:
        check_choice(self, POLICIES, policy=self.policy)
        check_choice(self, ("exact", "min"), budget=self.budget)
        check_choice(self, ("uniform", "recency"), reference=self.reference)
        check_int(self, shortest=self.shortest)
        check_float(self, "[0, inf)", prior=self.prior)
        if self.candidates is not None:
            check_int(self, low=6, candidates=self.candidates)
        self._settings.check()
        if self._is_capped and self.budget == "exact":
            raise InvalidParameterError(
                f"The policy {self.policy!r} cannot keep an exact budget, because it only drops "
                "surplus starts. Got budget='exact'. Use budget='min', or the policy "
                "'conditional_bernoulli'.",
                parameter="budget",
            )
        limits = {"min_length": self.min_length, "max_length": self.max_length}
        given = {name: value for name, value in limits.items() if value is not None}
        if given and self.policy != "segmental":
            raise InvalidParameterError(
                f"The lengths of patches can be limited only with policy='segmental'. Got {given} "
                f"with policy={self.policy!r}. Leave out the limits, or use policy='segmental'.",
                parameter="policy",
            )
        check_int(self, **given)

    # ------------------------------------------------------------------ segmentations

    def capacity(self, num_steps: int) -> int:
        """Return K, the number of patches at the compression rate."""
        return rate_capacity(self, num_steps, self.compression_rate)

    def _starts(self, num_steps: int) -> tuple[int, ...]:
        """Return the reference starts."""
        num_patches = self.capacity(num_steps)
        if self.reference == "recency":
            return tuple(recency_starts(num_steps, num_patches, self.shortest))
        return tuple(even_starts(num_steps, num_patches))

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the patches of the untrained policy."""
        self._check()
        return Segmentation.shared(list(self._starts(num_steps)), num_steps)

    def nominal_length(self, num_steps: int) -> int:
        """Return the mean patch length, or the newest patch's length with the recency reference."""
        if self.reference == "recency":
            return num_steps - self._starts(num_steps)[-1]
        return super().nominal_length(num_steps)

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the policy of every row, or of every group."""
        self._check()
        num_rows, num_steps = series.shape
        sites = candidate_sites(self._starts(num_steps), num_steps, self.candidates)
        if not sites.positions:
            return Deterministic(Segmentation.shared([0], num_steps, num_rows, series.device))
        hidden = self.boundary_network.hidden(site_features(series, observed, sites))
        logits = self._limited(self.boundary_network.logit(hidden)[..., 0], sites)
        place = None
        if group is not None:  # one policy per group: its rows must draw equal boundaries
            place = group.unique(return_inverse=True)[1]
            first = torch.zeros(int(place.max()) + 1, dtype=torch.long, device=place.device)
            first[place] = torch.arange(num_rows, device=place.device)
            logits = mean_in_groups(logits, group)[first]
        return PolicyDistribution(
            self._policy(logits, sites),
            sites,
            self.capacity(num_steps),
            not self._varies,
            place,
            hidden,
        )

    def _limited(self, raw: Tensor, sites: Sites) -> Tensor:
        """Limit the network's logits softly and add shift, rate and prior: (N, C), float64."""
        logits = _LARGEST_LOGIT * torch.tanh(raw.double() / _LARGEST_LOGIT)
        if self.level is not None:
            logits = logits + self.level
        if self._is_capped:
            rate = min(max(sites.num_blocks / len(sites.positions), 1e-3), 1 - 1e-3)
            logits = logits + torch.tensor(rate, dtype=logits.dtype).logit()
        known = torch.zeros(len(sites.positions), dtype=logits.dtype, device=logits.device)
        known[list(sites.reference)] = float(self.prior)
        return logits + known

    def _policy(self, logits: Tensor, sites: Sites) -> SubsetPolicy:
        num_starts, at_most = sites.num_blocks, self.budget == "min"
        if self._is_capped:
            return CappedBernoulli(logits, num_starts, self.policy.endswith("threshold"))
        if self.policy == "conditional_bernoulli":
            return ConditionalBernoulli(logits, num_starts, at_most)
        if self.policy == "segmental":
            mean = sites.num_steps / (num_starts + 1)
            shortest = self.min_length or max(1, int(mean / 4))
            longest = self.max_length or max(2, round(4 * mean))
            limits = (shortest, min(longest, sites.num_steps))
            return Segmental(
                logits, sites.positions, sites.num_steps, num_starts + 1, limits, at_most
            )
        return Stratified(logits, torch.tensor(sites.blocks, device=logits.device), at_most)

    # ------------------------------------------------------------------ training

    def plan(self, progress: float) -> StepPlan:
        """Return the plan of a training step, by the phases of `GroupPolicyGradient`."""
        settings = self._settings
        phase = settings.phase(progress)
        if self.is_frozen or phase == "frozen":
            return StepPlan(num_samples=0)
        if not self._learns_now(phase):
            return StepPlan(int(settings.mode_share < 1), mode_share=settings.mode_share)
        scored = phase == "learn"
        return StepPlan(
            settings.num_samples,
            is_scored=scored,
            is_mode_scored=scored and settings.baseline == "greedy",
            mode_share=settings.mode_share,
        )

    def _learns_now(self, phase: str) -> bool:
        return phase in ("warmup", "learn") and int(self.steps_done) % self._settings.every == 0

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the policy's parameters with their own learning rate."""
        return super().parameter_groups(lr * self._settings.learning_rate)

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the policy's loss while it learns, plus the early exit's loss if there is one."""
        if self.is_frozen:
            return None
        phase = self._settings.phase(context.progress)
        learns = self._learns_now(phase)
        self.steps_done += 1
        early = None
        if self.early_exit is not None:
            early = self.early_exit.row_loss(
                context.series, context.target, context.target_observed, context.scale
            )
        loss = None if early is None else early.mean()
        policy = context.distribution
        if learns and isinstance(policy, PolicyDistribution):
            log_prob = context.rollout.log_prob
            assert log_prob is not None
            weight = _row_weight(context)
            advantage = self._advantage(context, phase, early, weight)
            bonus = self._settings.entropy_bonus
            if bonus:
                entropy = policy.entropy().view(-1, log_prob.shape[1])
                advantage = advantage + bonus * (-log_prob.detach() - entropy)
            own = score_function_loss(advantage, log_prob, weight)
            self._measure(context, policy, advantage)
            loss = own if loss is None else loss + own
        return None if loss is None else loss.to(context.series.dtype)

    @torch.no_grad()
    def _advantage(
        self, context: StepContext, phase: str, early: Tensor | None, weight: Tensor
    ) -> Tensor:
        """Return clipped advantages (G, N), in units of their running root mean square."""
        settings, series = self._settings, context.series
        error, compared = context.forecast_loss, early
        if settings.baseline == "greedy":
            compared = context.mode_loss
        if phase == "warmup":
            rollout, mode = context.rollout.segmentation, context.distribution.mode
            error = reconstruction_error(series, rollout).view(-1, error.shape[1])
            compared = None
            if settings.baseline not in GROUP_BASELINES:
                compared = reconstruction_error(series, mode)
        if compared is not None:  # one per row, or per rollout at a coarse level
            compared = compared.view(-1, error.shape[1])
        advantage = settings.advantage(error, compared)
        square = (advantage.square() * weight).sum() / weight.sum().clamp(min=1e-12) / len(error)
        square = mean_over_processes(square.to(self.advantage_scale.dtype))
        old = self.advantage_scale
        old.copy_(square if not bool(old > 0) else torch.lerp(old, square, 0.05))
        unit = old.sqrt().clamp(min=1e-12)
        return (advantage / unit).clamp(-settings.clip, settings.clip)

    # ------------------------------------------------------------------ metrics

    @torch.no_grad()
    def _measure(self, context: StepContext, policy: PolicyDistribution, advantage: Tensor) -> None:
        rollout = context.rollout.segmentation
        self._metrics.add(policy_metrics(context.forecast_loss, rollout, policy.entropy()))
        if int(self.steps_done) % _NOISE_EVERY == 1:
            reference = self.reference_patches(rollout.num_steps)
            self._metrics.add(mode_metrics(policy.mode, reference.to(rollout.device)))
            ratio = policy.signal_to_noise(context.rollout, advantage)
            self._metrics.add({"policy_signal_to_noise": ratio})

    def take_metrics(self) -> dict[str, float]:
        """Return the metrics, with NaN if not measured; see `Patcher.take_metrics`.

        ``policy_reward_spread`` is the standard deviation over a row's rollouts, in units of the
        loss; ``policy_entropy`` is in nats; ``policy_identical`` is the share of rows whose
        rollouts are all the same, and ``policy_collapsed`` is 1 if this share is above 0.99;
        ``compression_rate`` is the mean rate of the samples; ``mode_agreement`` is the share of
        reference starts that the mode keeps; ``lengths_to_x`` is the share of the mode's patches
        that are at most x times as long as the mean (and longer than for the previous x);
        ``policy_signal_to_noise`` is the signal-to-noise ratio of the last layer's gradient, about
        1 for pure noise.
        """
        return self._metrics.take()


def _row_weight(context: StepContext) -> Tensor:
    """Return the weight that the forecast loss gives to each row."""
    if context.target_observed is None:
        return torch.ones_like(context.forecast_loss[0])
    return context.target_observed.to(context.series.dtype).mean(1)
