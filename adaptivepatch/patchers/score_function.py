"""Score-function tokenization: a gate on an encoder's points, trained by what its draws are worth.

Reference: S. Dauncey, R. Wattenhofer, "You Can Learn Tokenization End-to-End with Reinforcement
Learning", arXiv:2602.13940 (2026).

Tensor suffixes: N rows, G rollouts, T steps, C = T - 1 decisions, W width, H horizon, P patches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import (
    InvalidParameterError,
    check_bool,
    check_choice,
    check_float,
    check_int,
)
from adaptivepatch.nn.boundary_networks import EarlyExit
from adaptivepatch.nn.chunking import PooledEmbedding
from adaptivepatch.nn.gate_policy import (
    CausalPointEncoder,
    Gate,
    NextErrors,
    NextPoints,
    WindowedBernoulli,
    discounted,
)
from adaptivepatch.nn.point_layers import PointEncoder
from adaptivepatch.nn.policy_gradient import score_function_loss, signal_to_noise
from adaptivepatch.nn.policy_metrics import MetricMeans, gradient_norm
from adaptivepatch.nn.rate_control import target_rate_loss
from adaptivepatch.nn.score_rules import cut_by_scores
from adaptivepatch.patchers.base import (
    InstanceTag,
    NetworkParts,
    RatePatcher,
    Rollout,
    SegmentationDistribution,
    StepContext,
    StepPlan,
    mean_in_groups,
    not_prepared,
    shared_in_groups,
)
from adaptivepatch.segmentation import Segmentation

FORMS = ("direct", "next_patch")
_FOLLOWED = 0.05  # how far a step moves the level of the decisions
_SMALLEST_LOSS = 1e-8
_ON_DECISIONS = 0.5  # share of the forecast gradient that is taken on decisions
_AHEAD = 16  # points that "next_patch" predicts
_NOISE_EVERY = 10  # updates between two measurements of the gradient's noise
_STRUCTURE = {"form", "window", "early_exit", "width", "num_layers"}


class ScoreFunctionPatcher(RatePatcher):
    """Patches that a gate on every point draws, trained by the score function.

    Use it to learn boundaries by reward at the cost of one more forecast a step. By default it only
    aims at its rate; ``budget="min"`` or ``"exact"`` keep to it. Compare it with fixed and random
    patches of equal count.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r.
    budget : {"target", "min", "exact"}, default="target"
        A rate that training aims at; or at most, or exactly, K = max(1, floor(T / r)) patches.
        "next_patch" needs "target".
    form : {"direct", "next_patch"}, default="direct"
        The reward. "direct": how well the row is forecast, one number for all its decisions.
        "next_patch": at every step, how much the tokens so far help to predict the 16 points to
        come; needs a causal backbone, ``TransformerBackbone(causal=True)``.
    window : int, default=1
        A decision and those before it that it depends on. 1: decisions are independent, and drawn
        all at once.
    early_exit : bool, default=True
        Compare with a forecast, or with predictions, that no decision influences.
    centred : bool, default=True
        Subtract the mean reward of the batch; in "next_patch" that of each step.
    discount : float, optional
        In "next_patch", the weight of a reward one step later, 0.97 by default. None: 1.
    policy_weight, rate_weight : float, default=1.0
        Weights of the score-function loss, a mean over decisions, and of the loss that moves the
        mean probability to the rate.
    early_weight : float, default=0.1
        Weight of the early exit's own loss. In "next_patch" predictions with tokens weigh 1 less
        this.
    width : int, default=16
        Width W of the point vectors; with "next_patch" at most the backbone's.
    num_layers : int, default=2
        Layers of the encoder.

    Raises
    ------
    InvalidParameterError
        When used, if a value is out of range; `form`, `window`, `early_exit`, `width` and
        `num_layers` at construction.

    Notes
    -----
    The encoder's vectors give every step after the first a logit (see
    `adaptivepatch.nn.gate_policy.WindowedBernoulli`); training draws one action a row. With A its
    advantage, ``-mean(A log p(a)) + mean(logits) (mean(p) - share)`` is minimised, the second
    factors constant. Gradient of the policy flows into the encoder; forecast gradient reaches the
    encoder through the tokens, and the gate not at all.

    "direct": ``A = log(early + e) - log(loss + e)`` less the batch's mean, losses of the row, of
    which the second is taken in eval mode, at the cost of a forecast without gradient. "next_patch"
    rewards step t with the early less the late squared error there, and a start at s, decided from
    the steps before it, is credited with all rewards from s - 1 on, discounted.

    Prediction starts a patch where the logit is above a level, which training moves to the quantile
    of the logits that keeps the rate.

    Deviations from the published code:

    * marks are starts, not ends; only step 0 is forced, before decisions are conditioned on it, and
      it is in no mean; the published code forces the last step, too, after drawing, and counts both;
    * decisions predict; published evaluation draws samples. Half of the forecast gradient is
      therefore taken on decisions: half of the rows, in "next_patch" every other step;
    * the soft limit of 6 holds for the network's part of the logit, and in prediction, too; the
      window is 1 (published: 8), which was better in the authors' own table;
    * convolutions in place of attention over 64 steps; tokens are the resampled points of their
      patch and its vectors' mean, not the vector that closes it;
    * "direct" has no published counterpart: no next-point loss, one reward a row, no discount.
      "next_patch" predicts 16 points by least squares in place of one token's distribution, next to
      the direct forecast loss, which is no part of the reward; there is no decoder between tokens
      and predictions, and dropout is in the rewards; look-backs are normalised by their own mean
      and deviation, and gaps filled from both sides, so that both predictions know a little of what
      is to come;
    * weights: published 0.01 for policy and rate, for sums of nats. Weights of unobserved targets.

    References
    ----------
    S. Dauncey, R. Wattenhofer, "You Can Learn Tokenization End-to-End with Reinforcement
    Learning", arXiv:2602.13940, 2026.

    Examples
    --------
    >>> import torch
    >>> patcher = ScoreFunctionPatcher(compression_rate=4, budget="exact")
    >>> patcher(torch.randn(2, 12)).mode.num_patches.tolist()
    [3, 3]
    """

    name = "score_function"
    trainable: ClassVar[bool] = True
    stochastic: ClassVar[bool] = True
    causal = InstanceTag(lambda patcher: patcher.form == "next_patch")
    steps_done: Tensor

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "target",
        form: str = "direct",
        window: int = 1,
        early_exit: bool = True,
        centred: bool = True,
        discount: float | None = 0.97,
        policy_weight: float = 1.0,
        rate_weight: float = 1.0,
        early_weight: float = 0.1,
        width: int = 16,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.form = form
        self.window = window
        self.early_exit = early_exit
        self.centred = centred
        self.discount = discount
        self.policy_weight = policy_weight
        self.rate_weight = rate_weight
        self.early_weight = early_weight
        self.width = width
        self.num_layers = num_layers
        check_choice(self, FORMS, form=form)
        check_int(self, window=window, width=width, num_layers=num_layers)
        check_bool(self, early_exit=early_exit)
        is_direct = form == "direct"
        self.encoder: PointEncoder = (
            PointEncoder(width, num_layers, "convolution")
            if is_direct
            else CausalPointEncoder(width, num_layers)
        )
        self.gate = Gate(width, window)
        self.early = EarlyExit() if is_direct and early_exit else None
        self.next_points = None if is_direct else NextPoints(width, _AHEAD, early_exit)
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self._metrics = MetricMeans()

    @property
    def needs_causal_backbone(self) -> bool:
        """Whether rewards are honest only behind a backbone whose tokens do not look ahead."""
        return self.form == "next_patch"

    def _check(self) -> None:
        check_bool(self, centred=self.centred)
        weights = ("policy_weight", "rate_weight", "early_weight")
        check_float(self, "[0, inf)", **{name: getattr(self, name) for name in weights})
        if self.discount is not None:
            check_float(self, "[0, 1]", discount=self.discount)
        if self.form == "direct":
            return
        check_float(self, "[0, 1]", early_weight=self.early_weight)
        if self.budget != "target":
            raise InvalidParameterError(
                "With form='next_patch' a decision must not depend on later ones, as it would if "
                f"the likeliest were kept to a budget. Got budget={self.budget!r}. Use 'target', or "
                "form='direct'."
            )

    def set_params(self, **params: Any) -> Self:
        """Set parameters; networks of another kind or size are made anew."""
        super().set_params(**params)
        if params.keys() & _STRUCTURE:
            made = type(self)(**BaseEstimator.get_params(self, deep=False))
            own, new = self.state_dict(), made.state_dict()
            if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in new.items()}:
                self.__dict__.update(made.__dict__)
        return self

    # ------------------------------------------------------------------ segmentations

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the gate's policy, with the encoder's vectors."""
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        self._check()
        points = self.encoder(series, observed)
        policy = self._policy(points, group, self.boundary_share(num_steps))
        cut = partial(cut_by_scores, num_patches=num_patches, budget=self.budget)
        return _Gated(policy, points, cut, self._level, group)

    def _policy(self, points: Tensor, group: Tensor | None, share: float) -> WindowedBernoulli:
        terms = mean_in_groups(self.gate(points), group)
        if self.needs_causal_backbone:  # decided at the end of the patch before
            terms = torch.cat([terms[:, :1], terms[:, :-1]], 1)
        return WindowedBernoulli(terms, share)

    def _level(self) -> float:
        if self.budget == "exact" and self.window == 1:
            return 0.0  # only the order of the logits counts
        if not self.gate.is_calibrated:
            raise not_prepared(self)
        return float(self.gate.level)

    @torch.no_grad()
    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Find the level at which decisions keep the rate on these windows."""
        del generator
        share = self.boundary_share(series.shape[1])
        self.gate.calibrate(self._policy(self.encoder(series, observed), None, share), share)

    def parts(
        self, num_steps: int, d_model: int, values_per_patch: int | None = None
    ) -> NetworkParts:
        """Make an embedding that reads points and their vectors; cells are even patches."""
        if self.needs_causal_backbone and self.width > d_model:
            raise InvalidParameterError(
                "The 'width' parameter of ScoreFunctionPatcher must not exceed the backbone's "
                f"d_model={d_model!r} with form='next_patch', as point vectors and tokens are "
                f"added. Got {self.width!r} instead."
            )
        nominal = self.nominal_length(num_steps)
        embedding = PooledEmbedding(self.width, values_per_patch or nominal, d_model, nominal)
        return NetworkParts(embedding, self.reference_patches(num_steps))

    # ------------------------------------------------------------------ training

    def plan(self, progress: float) -> StepPlan:
        """Return one sample, scored for "direct"; "next_patch" trains on decisions in between."""
        if self.is_frozen:
            return StepPlan(num_samples=0)
        if self.form == "direct":
            return StepPlan(is_scored=True, mode_share=_ON_DECISIONS)
        return StepPlan(num_samples=1 - int(self.steps_done) % 2)

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the weighted losses of policy, rate and early exit.

        The level of the decisions follows here, so that `forward` changes nothing.
        """
        if self.is_frozen:
            return None
        gated = context.distribution
        assert isinstance(gated, _Gated)
        self.gate.calibrate(gated.policy, self._share(context), _FOLLOWED)
        own, advantage = self._own_loss(context, gated)
        drawn = context.rollout.action
        if drawn is not None and drawn.shape[1] > 1:
            drawn = drawn.view(len(context.rollout.segmentation.boundary_mask), -1)
            loss = self._policy_loss(context, gated, advantage)
            own = loss if own is None else own + loss
        self.steps_done += 1
        return None if own is None else own.to(context.series.dtype)

    def _share(self, context: StepContext) -> float:
        return self.boundary_share(context.series.shape[1])
