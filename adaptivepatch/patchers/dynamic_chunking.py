"""Dynamic chunking: a differentiable router starts patches where neighbouring points differ.

Reference: S. Hwang, B. Wang, A. Gu, "Dynamic Chunking for End-to-End Hierarchical Sequence
Modeling" (H-Net), arXiv:2507.07955 (2025).

Tensor suffixes: N rows, T steps, W width, G rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from adaptivepatch.distributions import NetworkParts, Rollout, SegmentationDistribution, StepContext
from adaptivepatch.errors import (
    check_bool,
    check_choice,
    check_float,
    check_int,
)
from adaptivepatch.nn.layers.point_layers import MIXERS, PointEncoder, PointLayers
from adaptivepatch.nn.layers.scan import smooth
from adaptivepatch.nn.placement.groups import mean_in_groups, shared_in_groups
from adaptivepatch.nn.placement.losses import alignment_loss, ratio_loss
from adaptivepatch.nn.placement.routers import ROUTERS, Router, set_rate_factor
from adaptivepatch.nn.placement.score_rules import cut_by_scores
from adaptivepatch.nn.placement.surprise import NextPointPredictor
from adaptivepatch.nn.policies.metrics import MetricMeans, gradient_norm
from adaptivepatch.nn.tokens.chunks import (
    PointUnpatch,
    PooledEmbedding,
    SelectEmbedding,
    confidence_gate,
)
from adaptivepatch.patchers.base import InstanceTag
from adaptivepatch.patchers.rate import RatePatcher
from adaptivepatch.segmentation import Segmentation

WIRINGS = ("hnet", "encoder")
_THRESHOLD_STEP = 0.05  # share of the difference by which a step corrects the threshold
_SPACINGS = 4  # spacings per patch of nominal length
_SURPRISE_WIDTH = 8  # width of the forecaster of the next value
_MOST_CELLS = 512  # largest number of cells of a head that reads point vectors


class DynamicChunkingPatcher(RatePatcher):
    """Start patches where a small encoder's vectors of neighbouring points differ (H-Net).

    Use it to learn boundaries by gradient, without rollouts. By default it only aims at its
    compression rate; ``budget="exact"`` or ``"min"`` enforces the rate. Compare it with the same
    number of fixed patches.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r.
    budget : {"target", "min", "exact"}, default="target"
        "target": training aims at the rate, without a limit. "min" and "exact": at most or exactly
        K = max(1, floor(T / r)) patches, which start at the steps with the highest boundary
        probability.
    wiring : {"hnet", "encoder"}, default="hnet"
        Path from the points to the head. "hnet": the vectors at the starts are the tokens; after
        the backbone, they are expanded to points, which a decoder and then the head read.
        "encoder": a token is computed from the points of its patch, and the head reads the tokens
        after the backbone.
    router : {"calibrated", "cosine", "even"}, default="calibrated"
        Rule for boundary probabilities. "cosine" is the published rule; on smooth series, training
        then begins with almost no boundaries. With "cosine", the encoder and the decoder end in a
        norm, as published. "calibrated" compares distances with a quantile that follows the data
        during training, keeps starts more than a quarter of a nominal patch apart, and needs no
        norm. "even" is a control: the same network with even patches.
    mixer : {"convolution", "attention"}, default="convolution"
        Layers of the encoder and the decoder: local convolutions with a cost linear in T, or
        attention over all points.
    width : int, default=16
        Width W of the point vectors. It must be at least 2, because a single value has no
        direction.
    num_layers : int, default=2
        Number of layers of the encoder, and of the decoder.
    ratio_weight : float, default=0.03
        Weight of the ratio loss.
    alignment_weight : float, default=0.0
        Weight of a loss that draws boundaries to steps that surprise a small causal forecaster of
        the next value, which is trained alongside. SOMBRERO uses 0.01.
    smoothing : bool, default=False
        Whether every point vector is mixed with the vectors before it, weighted by the boundary
        probabilities, before tokens are computed (SOMBRERO).
    sharpness : float, optional
        Factor that moves probabilities towards 0 and 1 before training steps draw boundaries from
        them. ConceptMoE uses 6. None: training uses the same boundaries as prediction.
    learning_rate_factor : float, default=1.0
        Learning rate of the encoder, router and decoder, as a multiple of the trainer's rate.

    Raises
    ------
    InvalidParameterError
        If a value is out of range, or if the patcher is used at a rate that it was not trained for
        and the budget is not exact. `router`, `mixer`, `width`, `num_layers` and `alignment_weight`
        are checked at construction, the other parameters when the patcher is used.
    NotFittedError
        If `prepare` has not been called; the router "cosine" and an exact budget do not need it.

    Notes
    -----
    The router maps the encoder's vectors to probabilities p (see
    `adaptivepatch.nn.placement.routers`), and step t starts a patch where p_t > 1/2. The forecast
    gradient reaches p through the smoothing of chunks and through straight-through factors of value
    1: the confidences of the decisions ("hnet") or the probabilities of the starts ("encoder"). The
    ratio loss moves every p in the same direction: up while there are too few patches, down while
    there are too many. Steps in a gap start no patch.

    `as_published` is the preset nearest to the publication. It deviates from the publication as
    follows:

    * encoder and decoder are local convolutions, or attention, and see both directions; the
      published encoder and decoder are causal Mamba-2 layers. The backbone may be narrower than the
      encoder; the published backbone is never narrower;
    * the epsilon of RMSNorm is the machine epsilon; the published value is 1e-5;
    * statistics of the ratio loss leave out step 0 and gaps, where no decision is made;
    * with "hnet", the bias of the residual starts at zero as well; the head has no learning-rate
      factor, reads all point vectors (or their means over 512 cells, if the look-back is longer),
      and forecasts all steps from them.

    The following is original to this package:

    * "encoder" has no decoder and no smoothing of chunks: a token is computed from the points of
      its patch, the mean of their vectors and the vector at the start;
    * "calibrated" standardises distances within a row and uses a quantile as threshold, so that
      the ratio loss has little effect. A step close to one with a larger distance gets almost no
      probability, because boundaries would otherwise come in runs of single points;
    * with "calibrated", point vectors keep their size. With a norm, the forecast would hardly
      depend on the distance of a point from the mean (docs/decisions/015-norm-of-point-vectors.md).

    References
    ----------
    S. Hwang, B. Wang, A. Gu, "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling",
    arXiv:2507.07955, 2025.

    P. Neitemeier et al., "SOMBRERO", arXiv:2601.22805, 2026 (smoothing and alignment, from
    second-hand notes that do not state the weights of the smoothing).

    Z. Huang et al., "ConceptMoE", arXiv:2601.21420, 2026 (sharpness).

    Examples
    --------
    >>> import torch
    >>> patcher = DynamicChunkingPatcher(compression_rate=4, budget="exact")
    >>> patcher(torch.randn(2, 12)).mode.num_patches.tolist()
    [3, 3]
    """

    name = "dynamic_chunking"
    decides: ClassVar[str] = "the distance between vectors of neighbouring points (H-Net)"
    rate_kept: ClassVar[str] = "target, min or exact"
    cost: ClassVar[str] = "convolutions over all points, twice"
    trained_by: ClassVar[str] = "gradient"
    causality: ClassVar[str] = "not causal"
    trainable = True
    routing: Router
    stochastic = InstanceTag(lambda patcher: patcher.sharpness is not None)

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "target",
        wiring: str = "hnet",
        router: str = "calibrated",
        mixer: str = "convolution",
        width: int = 16,
        num_layers: int = 2,
        ratio_weight: float = 0.03,
        alignment_weight: float = 0.0,
        smoothing: bool = False,
        sharpness: float | None = None,
        learning_rate_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.wiring = wiring
        self.router = router
        self.mixer = mixer
        self.width = width
        self.num_layers = num_layers
        self.ratio_weight = ratio_weight
        self.alignment_weight = alignment_weight
        self.smoothing = smoothing
        self.sharpness = sharpness
        self.learning_rate_factor = learning_rate_factor
        check_int(self, 2, width=width)
        check_int(self, num_layers=num_layers)
        check_choice(self, ROUTERS, router=router)
        check_choice(self, MIXERS, mixer=mixer)
        check_float(self, "[0, inf)", alignment_weight=alignment_weight)
        self.encoder = PointEncoder(width, num_layers, mixer, self._is_normed)
        self.routing = ROUTERS[router](width)
        self.next_point = NextPointPredictor(_SURPRISE_WIDTH) if alignment_weight else None
        self._metrics = MetricMeans()

    @classmethod
    def as_published(cls, compression_rate: float = 16.0, width: int = 16) -> Self:
        """Return the preset nearest to a one-stage H-Net.

        Parameters
        ----------
        compression_rate : float, default=16.0
            Points per patch that the ratio loss aims at.
        width : int, default=16
            Width W of the point vectors.
        """
        return cls(compression_rate, router="cosine", width=width, learning_rate_factor=2.0)

    def _check(self) -> None:
        check_choice(self, WIRINGS, wiring=self.wiring)
        check_float(self, "[0, inf)", ratio_weight=self.ratio_weight)
        check_float(self, "(0, inf)", learning_rate_factor=self.learning_rate_factor)
        check_bool(self, smoothing=self.smoothing)
        if self.sharpness is not None:
            check_float(self, "[1, inf)", sharpness=self.sharpness)

    @property
    def _is_normed(self) -> bool:
        """Whether encoder and decoder end in a norm, as published."""
        return self.router == "cosine"

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a new kind or size of encoder or router replaces the trained one."""
        super().set_params(**params)
        if params.keys() & {"router", "mixer", "width", "num_layers", "alignment_weight"}:
            self._rebuild()
        return self

    # ------------------------------------------------------------------ segmentations

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the router's boundaries, with their probabilities and the encoder's vectors."""
        self._check()
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        self._check_rate()
        points = self.encoder(series, observed)
        distance = mean_in_groups(self.routing.distance(points), group)
        counted = None
        if observed is not None:  # steps observed in any channel of the group
            counted = mean_in_groups(observed.to(series.dtype), group) > 0
        prob = self.routing.boundary_prob(distance, counted, self._spacing(num_steps))
        if self.smoothing:
            points = smooth(points, prob).to(points.dtype)
        cut = partial(cut_by_scores, num_patches=num_patches, budget=self.budget)
        return _Routed(distance, counted, prob, points, cut, self.sharpness, group)

    @torch.no_grad()
    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Set the threshold of a calibrated router so that these windows have the wanted rate."""
        del generator
        distance = self.routing.distance(self.encoder(series, observed))
        num_steps = series.shape[1]
        share, spacing = self.boundary_share(num_steps), self._spacing(num_steps)
        self.routing.calibrate(distance, observed, share, spacing=spacing)
        self.mark_prepared()

    def _check_rate(self) -> None:
        """Raise an error unless the router was prepared or trained for the current rate."""
        if self.budget == "exact" and self.router != "even":
            return  # an exact budget ranks probabilities and uses no threshold
        needs_threshold = self.budget != "exact" and self.router != "cosine"
        if needs_threshold or self.is_prepared:
            self.check_prepared()

    def _spacing(self, num_steps: int) -> int:
        """Return the number of steps that a calibrated router keeps free beside a start."""
        return self.nominal_length(num_steps) // _SPACINGS

    def parts(
        self,
        num_steps: int,
        d_model: int,
        values_per_patch: int | None = None,
        embedding: str | None = None,
    ) -> NetworkParts:
        """Make the embedding and, for "hnet", the module that maps tokens back to points."""
        self._check()
        if self.wiring == "encoder":
            points = self.embed_points(num_steps, d_model, values_per_patch, embedding)
            pooled = PooledEmbedding(self.width, d_model, points)
            return NetworkParts(pooled, self.reference_patches(num_steps))
        decoder = PointLayers(self.width, self.num_layers, self.mixer, self._is_normed)
        cells = Segmentation.even(num_steps, min(num_steps, _MOST_CELLS))
        unpatch = PointUnpatch(decoder, self.width, d_model)
        set_rate_factor(unpatch, self.learning_rate_factor)
        return NetworkParts(SelectEmbedding(self.width, d_model), cells, unpatch, self.width)

    # ------------------------------------------------------------------ training

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return optimizer groups with a multiple of the trainer's learning rate."""
        return super().parameter_groups(lr * self.learning_rate_factor)

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the ratio loss over the decided steps, plus the alignment losses if used.

        The threshold of a calibrated router is updated here, so that `forward` has no side effect.
        """
        routed, mask = context.distribution, context.rollout.segmentation.boundary_mask[:, 1:]
        assert isinstance(routed, _Routed)
        if mask.shape[1] == 0:  # step 0 alone
            return None
        copies, num_steps = len(mask) // len(routed.boundary_prob), mask.shape[1] + 1
        prob = routed.boundary_prob[:, 1:].repeat(copies, 1)  # other levels may draw rollouts
        share = self.boundary_share(num_steps)
        spacing = self._spacing(num_steps)
        self.routing.calibrate(routed.distance, routed.counted, share, _THRESHOLD_STEP, spacing)
        self._metrics.add(
            {
                "compression_rate": num_steps / (1 + mask.sum(1).to(prob.dtype)).mean(),
                "router_prob": prob.mean(),
                "router_confidence": torch.where(mask, prob, 1 - prob).mean(),
            }
        )
        if routed.counted is not None:  # gaps never start a patch
            counted = routed.counted[:, 1:].repeat(copies, 1)
            mask, prob = mask[counted], prob[counted]
        if mask.numel() == 0:
            return None
        loss = self.ratio_weight * ratio_loss(mask, prob, 1 / share)
        if self.next_point is None:
            return loss
        tail = self.next_point.tail_probability(context.series)
        aligned = self.alignment_weight * alignment_loss(
            tail, routed.boundary_prob, context.observed
        )
        return loss + aligned + self.next_point.loss(context.series, context.observed)

    def take_metrics(self) -> dict[str, float]:
        """Return the metrics; see `Patcher.take_metrics`.

        ``compression_rate`` is the mean rate of training steps, ``router_prob`` the mean boundary
        probability and ``router_confidence`` the mean probability of the decisions;
        ``router_gradient`` and ``encoder_gradient`` are the gradient norms of the last step.
        """
        return {
            **self._metrics.take(),
            "router_gradient": gradient_norm(self.routing),
            "encoder_gradient": gradient_norm(self.encoder),
        }


class _Routed(SegmentationDistribution):
    """Boundaries from a router's probabilities, by a threshold or by drawing."""

    def __init__(
        self,
        distance: Tensor,
        counted: Tensor | None,
        boundary_prob: Tensor,
        features: Tensor,
        cut: Callable[..., Segmentation],
        sharpness: float | None,
        group: Tensor | None,
    ) -> None:
        self.distance, self.counted = distance.detach(), counted
        self.features, self.cut = features, cut
        self.boundary_prob: Tensor = boundary_prob
        self.sharpness, self.group = sharpness, group
        self._mode = cut(boundary_prob.detach(), threshold=0.5)

    @property
    def mode(self) -> Segmentation:
        """Patches that start where the probability exceeds 1/2, as far as the budget allows."""
        return self._mode

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        """Draw from sharpened probabilities, or repeat the mode."""
        prob = self.boundary_prob.repeat(num_samples, 1)
        if self.sharpness is None:
            drawn = self._mode.repeat(num_samples)
        else:
            shape = (num_samples, *self.boundary_prob.shape)
            uniform = torch.rand(
                shape, dtype=torch.float64, device=prob.device, generator=generator
            )
            uniform = shared_in_groups(uniform, self.group).flatten(0, 1)
            score = _sharpened(prob.detach().double(), self.sharpness) - uniform
            drawn = self.cut(score, threshold=0.0)
        return Rollout(drawn, gate=confidence_gate(prob, drawn.boundary_mask))


def _sharpened(prob: Tensor, sharpness: float) -> Tensor:
    """Move probabilities away from 1/2: raise the larger of p and 1 - p to power 1 / sharpness."""
    likelier = torch.maximum(prob, 1 - prob) ** (1 / sharpness)
    return torch.where(prob > 0.5, likelier, 1 - likelier)
