"""Dynamic pooling: a small network predicts the probability of a boundary at each step.

Reference: P. Nawrot, J. Chorowski, A. Lancucki, E. M. Ponti, "Efficient Transformers with Dynamic
Token Pooling", arXiv:2211.09761 (2023).

Tensor suffixes: N rows, T steps, W width, G rollouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, ClassVar, Self

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

# Share of the way to its target that the threshold moves per step. It is large because all logits
# drift together by more than they differ.
_THRESHOLD_STEP = 0.5


class DynamicPoolingPatcher(RatePatcher):
    """Start patches where a boundary predictor, trained on its own samples, gives a high score.

    Use it to explore boundaries by sampling with one pass per step or, with "spikes", to start
    patches where the series becomes harder to predict. By default it only aims at its compression
    rate; ``budget="exact"`` or ``"min"`` enforces the rate.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r.
    budget : {"target", "min", "exact"}, default="target"
        "target": training aims at the rate, without a limit. "min" and "exact": at most or exactly
        K = max(1, floor(T / r)) patches, which start at the steps with the highest probability or,
        in training, with the highest relaxed sample.
    predictor : {"gumbel", "spikes"}, default="gumbel"
        Training signal of the probabilities. "gumbel": the forecast, through relaxed samples, and a
        prior on the number of starts. "spikes": spikes in the uncertainty of a next-point predictor
        that is trained alongside; no samples are drawn.
    threshold : {"calibrated", "half"}, default="calibrated"
        Threshold for starts. "calibrated": a quantile of the scores in training. "half": the
        probability 1/2; the predictor "spikes" then has no control of the rate, and "gumbel"
        predicts few starts until its probabilities differ strongly between steps.
    temperature : float, default=0.5
        Temperature of the relaxed samples.
    prior_weight : float, default=1.0
        Weight of the prior on the number of starts.
    alignment_weight : float, default=0.0
        Weight of a loss that draws boundaries to steps that surprise a small causal forecaster of
        the next value, which is trained alongside. SOMBRERO uses 0.01.
    mixer : {"convolution", "attention"}, default="convolution"
        Layers of the encoder: local convolutions with a cost linear in T, or attention over all
        points.
    width : int, default=16
        Width W of the point vectors, at least 2.
    num_layers : int, default=2
        Number of layers of the encoder.

    Attributes
    ----------
    level : Tensor
        The calibrated threshold of the scores (saved under this name).

    Raises
    ------
    InvalidParameterError
        If a value is out of range, or if the calibrated threshold is needed but was found for
        another rate. `predictor`, `mixer`, `width`, `num_layers` and `alignment_weight` are checked
        at construction, the other parameters when the patcher is used.
    NotFittedError
        If the calibrated threshold is needed and `prepare` has not been called.

    Notes
    -----
    An encoder's point vectors h give ``p_t = sigmoid(l_t)`` with ``l = MLP(h) + logit(share)``,
    where share is the wanted share of starts after step 0. "gumbel" draws the relaxed sample
    ``c_t = sigmoid((l_t + e) / temperature)`` with logistic noise e; a patch starts where
    c_t > 1/2, which has the probability p_t. The prior is
    ``-log Binomial(k; T - 1, share) / (T - 1)``, where k is the number of drawn starts before a cap
    and has the gradient of c (straight-through). The budget "exact" has no prior.

    A token is the sum of its embedded points and a projection of a mean vector, namely the mean of
    ``(1 + c_t - stop(c_t)) h_t`` over the patch, normalised to mean 0 and variance 1. The forecast
    gradient of c_t thus says whether point t should weigh more *within its patch*, whether or not
    it starts that patch. It does not say what another boundary would change: these gradients sum to
    0 within a patch (in the first patch together with step 0, whose gradient is dropped), and a
    patch of one point has no gradient.

    The encoder reads which steps are gaps, and patches may start there.

    "spikes": ``H_t`` is the log-scale that a causal network predicts for step t; the target is 1
    where H_t is greater than each of the two values before it. Binary cross-entropy trains the MLP
    and the encoder; the next-point network is trained only by its own likelihood.

    Deviations from the published code:

    * boundaries mark the start of a patch, not its end: no unfinished patch is dropped and no empty
      patch is put in front. Step 0 always starts a patch and is left out of all statistics;
    * prediction is deterministic; the published evaluation samples;
    * the threshold is a quantile of the logits relative to their row (`row_scale`), and each
      training step moves the threshold halfway to the current quantile; the published threshold is
      1/2;
    * p starts at the wanted share; the published p starts at 1/2;
    * the gradient is as described above; in the published code a boundary moves weight to the later
      points of its patch, so that a drawn boundary gets exactly zero gradient;
    * the head reads patches: nothing is expanded back to points and there is no residual. Tokens
      also contain the points;
    * the normalisation after pooling has no scale and shift, because a projection follows;
    * spikes are found in a predicted scale, not in the entropy of the model's own output;
    * the cross-entropy reads logits; the published code passes probabilities in their place, so
      that a step that is a spike in less than 62 % of cases never becomes a boundary;
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
    decides: ClassVar[str] = (
        "a boundary predictor, trained on relaxed draws or on spikes of uncertainty"
    )
    rate_kept: ClassVar[str] = "target, min or exact"
    cost: ClassVar[str] = "convolutions over all points"
    trained_by: ClassVar[str] = "gradient"
    causality: ClassVar[str] = "not causal"
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
        next_point = NextPointPredictor(width=width) if surprised else None
        self.register_module("next_point", next_point)  # even None: set_params may replace it
        self.register_buffer("level", torch.zeros(()))
        self._metrics = MetricMeans()

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a new kind or size of network replaces the trained one."""
        super().set_params(**params)
        if params.keys() & {"predictor", "mixer", "width", "num_layers", "alignment_weight"}:
            self._rebuild()
        return self

    # ------------------------------------------------------------------ budget

    def num_patches(self, num_steps: int) -> int:
        """Check all parameters and return K."""
        check_choice(self, THRESHOLDS, threshold=self.threshold)
        check_float(self, "(0, inf)", temperature=self.temperature)
        check_float(self, "[0, inf)", prior_weight=self.prior_weight)
        return super().num_patches(num_steps)

    # ------------------------------------------------------------------ segmentations

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the distribution of the boundary logits, with the encoder's vectors."""
        num_patches = self.num_patches(series.shape[1])
        if self.budget == "exact":
            threshold = None
        elif self.threshold == "half":
            threshold = 0.0
        else:
            self.check_prepared()
            threshold = float(self.level)
        points = self.encoder(series, observed)
        cut = partial(cut_by_scores, num_patches=num_patches, budget=self.budget)
        temperature = self.temperature if self.stochastic else None
        logits = self._logits(points, series, group)
        is_plain = threshold is None or self.threshold == "half"
        score = logits if is_plain else self._relative(logits)
        return _Scored(logits, score.detach(), points, cut, threshold, temperature, group)

    def _logits(self, points: Tensor, series: Tensor, group: Tensor | None) -> Tensor:
        """Return the boundary logits (N, T), equal within a group, in the dtype of the series."""
        share = self.boundary_share(series.shape[1])
        with torch.autocast(series.device.type, enabled=False):
            found: Tensor = self.scoring(points.to(series.dtype))[..., 0]
        return mean_in_groups(found + math.log(share / (1 - share)), group)

    def _relative(self, logits: Tensor) -> Tensor:
        """Return scores (N, T), which are logits relative to their row, and 0 at step 0."""
        later = logits[:, 1:]
        offset, scale = row_scale(later, self.boundary_share(logits.shape[1]))
        return F.pad((later - offset) / scale, (1, 0))

    @torch.no_grad()
    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Set the threshold so that these windows have the wanted rate."""
        del generator
        self.num_patches(series.shape[1])
        self._calibrate(self._logits(self.encoder(series, observed), series, None), 1.0)
        self.mark_prepared()

    @torch.no_grad()
    def _calibrate(self, logits: Tensor, weight: float) -> None:
        """Move the threshold towards the quantile with the wanted share of scores above it."""
        share, found = self.boundary_share(logits.shape[1]), self._relative(logits)[:, 1:].flatten()
        if len(found) == 0:  # step 0 alone leaves no decision
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
        """Make an embedding that adds the mean of the point vectors to the points."""
        points = self.embed_points(num_steps, d_model, values_per_patch, embedding)
        pooled = _MeanEmbedding(self.width, d_model, points)
        return NetworkParts(pooled, self.reference_patches(num_steps))

    # ------------------------------------------------------------------ training

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the prior on the number of starts or the loss of spikes, plus the other losses.

        The other losses are the alignment loss and the loss of the next-point predictor, if used.
        The threshold is updated here, so that `forward` has no side effect.
        """
        scored, num_steps = context.distribution, context.series.shape[1]
        if num_steps == 1:
            return None
        assert isinstance(scored, _Scored)
        self._calibrate(scored.logits, _THRESHOLD_STEP)
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
            with torch.autocast(context.series.device.type, enabled=False):  # logits hardly differ
                terms += self._surprise_losses(self.next_point, scored.logits, context)
        return torch.stack(terms).sum() if terms else None

    def _surprise_losses(
        self, next_point: NextPointPredictor, logits: Tensor, context: StepContext
    ) -> list[Tensor]:
        """Return the losses of the next-point predictor, of spikes and of alignment, if used."""
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
        """Return the metrics; see `Patcher.take_metrics`.

        ``compression_rate`` is the mean rate of training steps and ``predictor_prob`` the mean
        boundary probability; ``predictor_gradient`` and ``encoder_gradient`` are the gradient norms
        of the last step.
        """
        return {
            **self._metrics.take(),
            "predictor_gradient": gradient_norm(self.scoring),
            "encoder_gradient": gradient_norm(self.encoder),
        }


def _spikes(values: Tensor) -> Tensor:
    """Return where a value of (N, T) is greater than each of up to two values before it."""
    before = F.pad(values, (2, 0), value=-math.inf)
    return (values > before[:, 1:-1]) & (values > before[:, :-2])


class _Scored(SegmentationDistribution):
    """Boundaries from logits: drawn independently, or deterministic without a temperature."""

    def __init__(
        self,
        logits: Tensor,
        score: Tensor,
        features: Tensor,
        cut: Callable[..., Segmentation],
        threshold: float | None,
        temperature: float | None,
        group: Tensor | None,
    ) -> None:
        self.logits, self.score, self.features = logits, score, features
        self.cut, self.threshold = cut, threshold
        self.temperature, self.group = temperature, group

    @cached_property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        """Probability that a start is drawn, before any budget; None if nothing is drawn."""
        if self.temperature is None:
            return None
        return F.pad(self.logits[:, 1:].sigmoid(), (1, 0), value=1.0)

    @cached_property
    def mode(self) -> Segmentation:
        """Patches that start where the score exceeds the threshold, as far as the budget allows."""
        return self.cut(self.score, threshold=self.threshold)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw relaxed Bernoulli variables, or repeat the mode."""
        if self.temperature is None:
            return Rollout(self.mode.repeat(num_samples))
        shape, device = (num_samples, *self.logits.shape), self.logits.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        noise = shared_in_groups(uniform.clamp(min=1e-300), self.group).logit()
        score = (self.logits.double() + noise).flatten(0, 1)  # a positive score starts a patch
        drawn = self.cut(score.detach(), threshold=0.0)
        hard = drawn.boundary_mask if self.threshold is None else score > 0
        through = (score[:, 1:] / self.temperature).sigmoid()
        through = F.pad(through - through.detach(), (1, 0))  # step 0 starts a patch in any case
        action = F.pad(hard[:, 1:].double(), (1, 0), value=1.0) + through
        dtype = self.logits.dtype
        return Rollout(drawn, action=action.to(dtype), gate=(1 + through).to(dtype))


class _MeanEmbedding(nn.Module):
    """Token of a patch: embedded points plus a projection of the normalised mean point vector.

    Parameters
    ----------
    width, d_model : int
        Width W of the vectors and width D of the tokens.
    points : nn.Module
        Embedding of the points.
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
