"""Dynamic pooling: a small network says how likely each step starts a patch; training draws.

Reference: P. Nawrot, J. Chorowski, A. Lancucki, E. M. Ponti, "Efficient Transformers with Dynamic
Token Pooling", arXiv:2211.09761 (2023).

Tensor suffixes: N rows, T steps, W width, G rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.distributions import NetworkParts, Rollout, SegmentationDistribution, StepContext
from adaptivepatch.errors import check_choice, check_float, check_int
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.point_layers import MIXERS, PointEncoder
from adaptivepatch.nn.placement.groups import mean_in_groups, shared_in_groups
from adaptivepatch.nn.placement.losses import alignment_loss, binomial_loss
from adaptivepatch.nn.placement.score_rules import cut_by_scores, rank_above, row_scale
from adaptivepatch.nn.placement.surprise import NextPointPredictor
from adaptivepatch.nn.policies.group_policy_gradient import mean_over_processes
from adaptivepatch.nn.policies.metrics import MetricMeans, gradient_norm
from adaptivepatch.nn.tokens.pooling import pool_mean
from adaptivepatch.patchers.base import InstanceTag
from adaptivepatch.patchers.rate import RatePatcher
from adaptivepatch.segmentation import Segmentation

PREDICTORS = ("gumbel", "spikes")
THRESHOLDS = ("calibrated", "half")

_FOLLOWED = 0.5  # how far a step moves the level; all logits drift by more than they differ


class DynamicPoolingPatcher(RatePatcher):
    """Patches that start where a small network, trained on samples of its own, finds it likely.

    Use it where boundaries should be explored by sampling and one pass a step must do, or, as
    "spikes", where a patch should start when the series becomes harder to predict. By default it
    only aims at its rate; ``budget="exact"`` or ``"min"`` keep to it.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r.
    budget : {"target", "min", "exact"}, default="target"
        A rate that training aims at; or at most, or exactly, K = max(1, floor(T / r)) patches: of
        highest probability, in training of highest relaxed sample.
    predictor : {"gumbel", "spikes"}, default="gumbel"
        What teaches the probabilities: the forecast, through samples, and a prior on their number;
        or spikes of the uncertainty of a next-point predictor trained along. "spikes" draws
        nothing.
    threshold : {"calibrated", "half"}, default="calibrated"
        A start is likelier than a quantile of the probabilities in training, or than 1/2. With
        "half", "spikes" have no rate control, and "gumbel" predicts few starts until it is sure.
    temperature : float, default=0.5
        Of the relaxed samples.
    prior_weight : float, default=1.0
        Weight of the prior on the number of starts.
    alignment_weight : float, default=0.0
        Weight of a loss that draws boundaries to where the series surprises a small causal
        forecaster of the next value, which is trained beside (SOMBRERO; 0.01 there).
    mixer : {"convolution", "attention"}, default="convolution"
        Of the encoder: local and linear in T, or over all points.
    width : int, default=16
        Width W of the point vectors, at least 2.
    num_layers : int, default=2
        Layers of the encoder.

    Raises
    ------
    InvalidParameterError
        When used, if a value is out of range, or if the calibrated threshold is needed and was
        found for another rate; `predictor`, `mixer`, `width`, `num_layers` and `alignment_weight`
        at construction.
    NotFittedError
        If the calibrated threshold is needed before training windows were seen.

    Notes
    -----
    Point vectors h of an encoder give ``p_t = sigmoid(l_t)`` with ``l = MLP(h) + logit(share)``,
    share the wanted one among the steps after the first. "gumbel" draws the relaxed sample
    ``c_t = sigmoid((l_t + e) / temperature)``, e logistic; a patch starts where c_t > 1/2, that is,
    with probability p_t. The prior is ``-log Binomial(k; T - 1, share) / (T - 1)``, k the drawn
    starts before a cap, with the gradient of c (straight-through). "exact" has no prior.

    A token is the points of its patch plus a projection of the mean, normalised to mean
    0 and variance 1, of ``(1 + c_t - stop(c_t)) h_t`` over the patch. So the forecast tells each
    c_t whether its point should weigh more *inside the patch it is in*, whether it starts that
    patch or not. It does not tell what another boundary would do: within a patch these gradients
    sum to 0 (in the first with that of step 0, which is dropped), a patch of one point has none.

    The encoder is told of gaps, and patches may start there.

    "spikes": ``H_t`` is the log-scale that a causal network predicts for step t; the target is 1
    where H_t is greater than each of the two before it. Binary cross-entropy trains MLP and
    encoder; the next-point network is trained by its own likelihood alone.

    Deviations from the published code:

    * a mark is at the start of a patch, not at its end: no patch is dropped as unfinished, no empty
      one put in front; step 0 always starts one and is in no statistic;
    * prediction is deterministic; the published evaluation samples;
    * the threshold follows a quantile of the logits relative to their row (`row_scale`; half of the
      way in each training step), where published it is 1/2;
    * p starts at the wanted share; published at 1/2;
    * the gradient above: published, a boundary moves weight to the later points of the patch it
      is in, so that one that was drawn gets exactly none;
    * the head reads patches: no way back to points, no residual; tokens also hold the points;
    * the normalisation after pooling has no scale and shift of its own, as a projection follows;
    * spikes are of a predicted scale, not of the entropy of the model's own output;
    * the cross-entropy is given logits; published, probabilities in their place, which never calls
      a step a boundary that is a spike in less than 62 % of cases;
    * encoder layers are local convolutions, or attention, and see both directions.

    References
    ----------
    P. Nawrot, J. Chorowski, A. Lancucki, E. M. Ponti, "Efficient Transformers with Dynamic Token
    Pooling", ACL 2023, arXiv:2211.09761.

    P. Neitemeier et al., "SOMBRERO", arXiv:2601.22805, 2026 (alignment).

    Examples
    --------
    >>> import torch
    >>> patcher = DynamicPoolingPatcher(compression_rate=4, budget="exact")
    >>> patcher(torch.randn(2, 12)).mode.num_patches.tolist()
    [3, 3]
    """

    name = "dynamic_pooling"
    trainable = True
    stochastic = InstanceTag(lambda patcher: patcher.predictor == "gumbel")
    level: Tensor
    next_point: NextPointPredictor | None

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "target",
        predictor: str = "gumbel",
        threshold: str = "calibrated",
        temperature: float = 0.5,
        prior_weight: float = 1.0,
        alignment_weight: float = 0.0,
        mixer: str = "convolution",
        width: int = 16,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.predictor = predictor
        self.threshold = threshold
        self.temperature = temperature
        self.prior_weight = prior_weight
        self.alignment_weight = alignment_weight
        self.mixer = mixer
        self.width = width
        self.num_layers = num_layers
        check_choice(self, PREDICTORS, predictor=predictor)
        check_choice(self, MIXERS, mixer=mixer)
        check_int(self, 2, width=width)
        check_int(self, num_layers=num_layers)
        check_float(self, "[0, inf)", alignment_weight=alignment_weight)
        self.encoder = PointEncoder(width, num_layers, mixer)
        last = Linear(2 * width, 1)
        nn.init.zeros_(last.bias)
        self.scoring = nn.Sequential(Linear(width, 2 * width), nn.GELU(), last)
        surprised = predictor == "spikes" or alignment_weight
        told = NextPointPredictor(width=width) if surprised else None
        self.register_module("next_point", told)  # also None, which set_params may replace
        self.register_buffer("level", torch.zeros(()))
        self._metrics = MetricMeans()

    def set_params(self, **params: Any) -> Self:
        """Set parameters; networks of another kind or size are made anew."""
        super().set_params(**params)
        if params.keys() & {"predictor", "mixer", "width", "num_layers", "alignment_weight"}:
            self._make_anew()
        return self

    # ------------------------------------------------------------------ budget

    def num_patches(self, num_steps: int) -> int:
        """Return K, after a check of all parameters."""
        check_choice(self, THRESHOLDS, threshold=self.threshold)
        check_float(self, "(0, inf)", temperature=self.temperature)
        check_float(self, "[0, inf)", prior_weight=self.prior_weight)
        return super().num_patches(num_steps)

    # ------------------------------------------------------------------ segmentations

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the boundary logits, what they give, and the encoder's vectors."""
        num_patches = self.num_patches(series.shape[1])
        if self.budget == "exact":
            level = None
        elif self.threshold == "half":
            level = 0.0
        else:
            self.check_prepared()
            level = float(self.level)
        points = self.encoder(series, observed)
        cut = partial(cut_by_scores, num_patches=num_patches, budget=self.budget)
        temperature = self.temperature if self.stochastic else None
        logits = self._logits(points, series, group)
        is_plain = level is None or self.threshold == "half"
        score = logits if is_plain else self._relative(logits)
        return _Scored(logits, score.detach(), points, cut, level, temperature, group)

    def _logits(self, points: Tensor, series: Tensor, group: Tensor | None) -> Tensor:
        """Return the boundary logits (N, T), the same in a group, as precise as the series."""
        share = self.boundary_share(series.shape[1])
        with torch.autocast(series.device.type, enabled=False):
            found: Tensor = self.scoring(points.to(series.dtype))[..., 0]
        return mean_in_groups(found + math.log(share / (1 - share)), group)

    def _relative(self, logits: Tensor) -> Tensor:
        """Return scores (N, T) relative to their row, and 0 at step 0."""
        later = logits[:, 1:]
        offset, scale = row_scale(later, self.boundary_share(logits.shape[1]))
        return F.pad((later - offset) / scale, (1, 0))

    @torch.no_grad()
    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Set the level to the wanted rate of these windows."""
        del generator
        self.num_patches(series.shape[1])
        self._follow(self._logits(self.encoder(series, observed), series, None), 1.0)
        self.mark_prepared()

    @torch.no_grad()
    def _follow(self, logits: Tensor, weight: float) -> None:
        """Move the level towards the quantile that leaves the wanted share above it."""
        share, found = self.boundary_share(logits.shape[1]), self._relative(logits)[:, 1:].flatten()
        if len(found) == 0:  # step 0 alone: nothing is decided
            return
        rank = rank_above(share, len(found))
        quantile = mean_over_processes(found.kthvalue(rank).values).to(self.level.dtype)
        self.level.lerp_(quantile, weight)

    def parts(
        self,
        num_steps: int,
        d_model: int,
        values_per_patch: int | None = None,
        embedding: str | None = None,
    ) -> NetworkParts:
        """Make an embedding that also reads the mean of the point vectors."""
        points = self.embed_points(num_steps, d_model, values_per_patch, embedding)
        pooled = _MeanEmbedding(self.width, d_model, points)
        return NetworkParts(pooled, self.reference_patches(num_steps))

    # ------------------------------------------------------------------ training

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the prior on the number of starts, or the loss of spikes; and alignment.

        With the loss of the forecaster of the next value, where there is one. The level follows
        here, so that `forward` changes nothing.
        """
        scored, num_steps = context.distribution, context.series.shape[1]
        if num_steps == 1:
            return None
        assert isinstance(scored, _Scored)
        self._follow(scored.logits, _FOLLOWED)
        prob = scored.logits[:, 1:].sigmoid()
        count = context.rollout.segmentation.num_patches.to(prob.dtype)
        self._metrics.add(
            {"compression_rate": num_steps / count.mean(), "predictor_prob": prob.mean()}
        )
        terms, action = [], context.rollout.action
        if self.predictor == "gumbel" and self.budget != "exact" and action is not None:
            starts = action[:, 1:].double().sum(1)
            prior = binomial_loss(starts, num_steps - 1, self.boundary_share(num_steps))
            terms.append(self.prior_weight * prior.to(action.dtype))
        if self.next_point is not None:
            with torch.autocast(context.series.device.type, enabled=False):  # small differences
                terms += self._surprise_losses(self.next_point, scored.logits, context)
        return torch.stack(terms).sum() if terms else None

    def _surprise_losses(
        self, next_point: NextPointPredictor, logits: Tensor, context: StepContext
    ) -> list[Tensor]:
        """Return the forecaster's own loss, the cross-entropy with its spikes, and alignment."""
        series, observed = context.series, context.observed
        losses = [next_point.loss(series, observed)]
        if self.predictor == "spikes":
            with torch.no_grad():
                scale = mean_in_groups(next_point.entropy(series), context.group)
            target = _spikes(scale)[:, 1:].to(logits.dtype)
            each = F.binary_cross_entropy_with_logits(logits[:, 1:], target, reduction="none")
            seen = torch.ones_like(each) if observed is None else observed[:, 1:].to(each.dtype)
            losses.append((each * seen).sum() / seen.sum().clamp(min=1))
        if self.alignment_weight:
            tail = next_point.tail_probability(series)
            aligned = alignment_loss(tail, logits.sigmoid(), observed)
            losses.append(self.alignment_weight * aligned)
        return losses

    def take_metrics(self) -> dict[str, float]:
        """See `Patcher.take_metrics`.

        ``compression_rate`` of training steps, ``predictor_prob`` the mean boundary probability;
        ``predictor_gradient`` and ``encoder_gradient`` the norm of the gradient of the last step.
        """
        return {
            **self._metrics.take(),
            "predictor_gradient": gradient_norm(self.scoring),
            "encoder_gradient": gradient_norm(self.encoder),
        }


def _spikes(values: Tensor) -> Tensor:
    """Return where a step of (N, T) is greater than each of the two before it, or those it has."""
    before = F.pad(values, (2, 0), value=-math.inf)
    return (values > before[:, 1:-1]) & (values > before[:, :-2])


class _Scored(SegmentationDistribution):
    """Boundaries by logits: drawn one by one in rollouts, or with no temperature decided."""

    def __init__(
        self,
        logits: Tensor,
        score: Tensor,
        features: Tensor,
        cut: Callable[..., Segmentation],
        level: float | None,
        temperature: float | None,
        group: Tensor | None,
    ) -> None:
        self.logits, self.score, self.features = logits, score, features
        self.cut, self.level, self.temperature, self.group = cut, level, temperature, group

    @cached_property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        """Of draws, before a budget; where nothing is drawn there is none."""
        if self.temperature is None:
            return None
        return F.pad(self.logits[:, 1:].sigmoid(), (1, 0), value=1.0)

    @cached_property
    def mode(self) -> Segmentation:
        """The steps above the level, or the likeliest ones."""
        return self.cut(self.score, threshold=self.level)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw relaxed Bernoulli variables, or repeat the mode."""
        if self.temperature is None:
            return Rollout(self.mode.repeat(num_samples))
        shape, device = (num_samples, *self.logits.shape), self.logits.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        noise = shared_in_groups(uniform.clamp(min=1e-300), self.group).logit()
        score = (self.logits.double() + noise).flatten(0, 1)  # its sign decides
        drawn = self.cut(score.detach(), threshold=0.0)
        hard = drawn.boundary_mask if self.level is None else score > 0
        through = (score[:, 1:] / self.temperature).sigmoid()
        through = F.pad(through - through.detach(), (1, 0))  # step 0 starts a patch in any case
        action = F.pad(hard[:, 1:].double(), (1, 0), value=1.0) + through
        dtype = self.logits.dtype
        return Rollout(drawn, action=action.to(dtype), gate=(1 + through).to(dtype))


class _MeanEmbedding(nn.Module):
    """A patch's points plus a projection of the normalised mean of the gated point vectors.

    Parameters
    ----------
    width, d_model : int
        Widths W of the vectors and D of the tokens.
    points : nn.Module
        Embeds the points.
    """

    def __init__(self, width: int, d_model: int, points: nn.Module) -> None:
        super().__init__()
        self.points = points
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.vector_projection = Linear(width, d_model, bias=False)

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (N, P, D); see `ResampleEmbedding`."""
        assert features is not None
        tokens: Tensor = self.points(series, segmentation, halo=halo, observed=observed)
        if gate is not None:
            features = features * gate[..., None]
        mean = pool_mean(features, segmentation)
        return tokens + self.vector_projection(self.norm(mean))
