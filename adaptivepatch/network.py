"""`PatchNetwork`: the main flow, from a look-back to its forecast, on one screen.

normalise -> segment -> embed -> backbone -> (unpatch) -> head -> denormalise

Read ``segmentation.py`` and ``patchers/fixed.py`` next, then ``training/step.py``.

Tensor suffixes: N rows, T steps, P patches, D width, H horizon, Q quantiles.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.backbones.multi_level import for_levels
from adaptivepatch.distributions import Rollout, SegmentationDistribution
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.normalization import InstanceNorm, Scale
from adaptivepatch.nn.tokens.heads import TimeAlignedHead
from adaptivepatch.patchers.base import Patcher


class Lookback(NamedTuple):
    """A batch of rows after normalisation: series (N, T), observed (N, T) or None, scale."""

    series: Tensor
    observed: Tensor | None
    scale: Scale

    def repeat(self, num_samples: int) -> Lookback:
        """Repeat for the rows of rollouts, rollout-major."""
        if num_samples == 1:
            return self
        observed = None if self.observed is None else self.observed.repeat(num_samples, 1)
        return Lookback(
            self.series.repeat(num_samples, 1), observed, self.scale.repeat(num_samples)
        )


class Forecast(NamedTuple):
    """Forecast (N, H) or (N, H, Q) in the units of the input, and the hidden tokens behind it."""

    value: Tensor
    hidden: Tensor


class PatchNetwork(nn.Module):
    """A patcher, an embedding, a backbone and a head, in the order a window passes them.

    Parameters
    ----------
    patcher : Patcher
        Decides the segmentation.
    embedding : nn.Module
        Points of a patch to a token; called as `ResampleEmbedding` is.
    backbone : Backbone
        Already built.
    head : nn.Module
        Hidden tokens and their segmentation to the forecast; called as `TimeAlignedHead` is.
    instance_norm : bool, default=True
        Normalise each row by its own statistics (RevIN).
    unpatch : nn.Module, optional
        Way back to a finer resolution: maps ``(hidden, segmentation, distribution, rollout)``, all
        of the same rows, to the hidden vectors and the segmentation the head reads.
    """

    def __init__(
        self,
        patcher: Patcher,
        embedding: nn.Module,
        backbone: Backbone,
        head: nn.Module,
        *,
        instance_norm: bool = True,
        unpatch: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = InstanceNorm(instance_norm)
        self.patcher = patcher
        self.embedding = embedding
        self.backbone = backbone
        self.unpatch = unpatch
        self.head = head

    def forward(
        self, series: Tensor, observed: Tensor | None = None, group: Tensor | None = None
    ) -> Tensor:
        """Forecast each row with its most probable segmentation.

        Parameters
        ----------
        series : Tensor of shape (N, T)
            Look-backs; what stands at unobserved steps has no influence.
        observed : Tensor of bool, shape (N, T), optional
            None: everything is observed.
        group : Tensor of int, shape (N,), optional
            Rows of equal group share one segmentation.

        Returns
        -------
        Tensor of shape (N, H) or (N, H, Q)
            In the units of `series`.
        """
        lookback, distribution = self.segment(series, observed, group)
        return self.forecast(lookback, distribution, Rollout(distribution.mode)).value

    def segment(
        self, series: Tensor, observed: Tensor | None = None, group: Tensor | None = None
    ) -> tuple[Lookback, SegmentationDistribution]:
        """Normalise, then ask the patcher."""
        normalised, scale = self.norm(series, observed)
        distribution = self.patcher(normalised, observed, group)
        return Lookback(normalised, observed, scale), distribution

    def forecast(
        self, lookback: Lookback, distribution: SegmentationDistribution, rollout: Rollout
    ) -> Forecast:
        """Forecast the rows with given segmentations, as often as the rollout has samples."""
        segmentation = rollout.segmentation
        num_samples = segmentation.num_rows // len(lookback.series)
        lookback, distribution = lookback.repeat(num_samples), distribution.repeat(num_samples)
        tokens = self.embedding(  # (N, T) -> (N, P, D)
            lookback.series,
            segmentation,
            halo=self.patcher.halo,
            observed=lookback.observed,
            gate=rollout.gate,
            features=distribution.features,
        )
        patch_mask = None if segmentation.exact else segmentation.patch_mask
        start_time = segmentation.patch_starts
        if segmentation.is_shared:
            start_time = start_time[:1]
        hidden = self.backbone(tokens, patch_mask, start_time, segmentation.parent)  # (N, P, D)
        finest = hidden
        if self.unpatch is not None:
            finest, segmentation = self.unpatch(hidden, segmentation, distribution, rollout)
        value = self.head(finest, segmentation)  # (N, H) or (N, H, Q)
        return Forecast(self.norm.inverse(value, lookback.scale), hidden)


def build_network(
    patcher: Patcher,
    backbone: Backbone,
    *,
    context_length: int,
    horizon: int,
    quantiles: tuple[float, ...] | None = None,
    values_per_patch: int | None = None,
    embedding: str | None = None,
    instance_norm: bool = True,
) -> PatchNetwork:
    """Assemble the network of a patcher: its embedding, the backbone, a time-aligned head.

    Parameters
    ----------
    patcher : Patcher
        Names the reference segmentation that head cells and positions refer to.
    backbone : Backbone
        Its layers are created here. Where the reference has levels, a backbone that does not read
        them is divided among them: see `for_levels`.
    context_length, horizon : int
        T and H.
    quantiles : tuple of float, optional
        See `TimeAlignedHead`.
    values_per_patch : int, optional
        Values a token is made from, where its patcher takes points for it; see `Patcher.parts`.
    embedding : {"aligned", "resampled"}, optional
        How points become tokens; see `Patcher.embed_points`.
    instance_norm : bool, default=True
        See `PatchNetwork`.

    Raises
    ------
    InvalidParameterError
        If the patcher needs a causal backbone and this is none.
    """
    if patcher.needs_causal_backbone and not backbone.causal:
        raise InvalidParameterError(
            f"{patcher!r} needs a backbone whose tokens do not see later ones. Got {backbone!r}. "
            "Use TransformerBackbone(causal=True)."
        )
    reference = patcher.reference_patches(context_length)
    backbone = for_levels(backbone, reference)
    backbone.build(reference)
    parts = patcher.parts(context_length, backbone.d_model, values_per_patch, embedding)
    head = TimeAlignedHead(parts.cells, parts.width or backbone.d_model, horizon, quantiles)
    return PatchNetwork(
        patcher, parts.embedding, backbone, head, instance_norm=instance_norm, unpatch=parts.unpatch
    )
