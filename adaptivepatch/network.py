"""`PatchNetwork`: the main flow, from a look-back to its forecast.

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
from adaptivepatch.nn.placement.routers import set_rate_factor
from adaptivepatch.nn.tokens.chunks import SelectEmbedding
from adaptivepatch.nn.tokens.heads import TimeAlignedHead
from adaptivepatch.patchers.base import Patcher


class Lookback(NamedTuple):
    """Batch of rows after normalisation: series (N, T), observed (N, T) or None, and scale."""

    series: Tensor
    observed: Tensor | None
    scale: Scale

    def repeat(self, num_samples: int) -> Lookback:
        """Repeat the rows for `num_samples` rollouts, rollout-major."""
        if num_samples == 1:
            return self
        observed = None if self.observed is None else self.observed.repeat(num_samples, 1)
        return Lookback(
            self.series.repeat(num_samples, 1), observed, self.scale.repeat(num_samples)
        )


class Forecast(NamedTuple):
    """Forecast (N, H) or (N, H, Q) in the units of the input, and the backbone's hidden tokens."""

    value: Tensor
    hidden: Tensor


class PatchNetwork(nn.Module):
    """Network that applies a patcher, an embedding, a backbone and a head in this order.

    Parameters
    ----------
    patcher : Patcher
        Patcher that chooses the segmentation.
    embedding : nn.Module
        Module that maps the points of a patch to a token. It is called like `ResampleEmbedding`.
    backbone : Backbone
        Backbone whose layers have been built.
    head : nn.Module
        Module that maps hidden tokens and their segmentation to the forecast. It is called like
        `TimeAlignedHead`.
    instance_norm : bool, default=True
        Whether to normalise each row by its own statistics (RevIN).
    unpatch : nn.Module, optional
        Module that maps tokens back to a finer resolution. It takes
        ``(hidden, segmentation, distribution, rollout)``, all for the same rows, and returns the
        hidden vectors and the segmentation that the head reads.
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
            Look-backs. Values at unobserved steps have no influence.
        observed : Tensor of bool, shape (N, T), optional
            True at observed steps. None: all steps are observed.
        group : Tensor of int, shape (N,), optional
            Group of each row; rows of a group share one segmentation.

        Returns
        -------
        Tensor of shape (N, H) or (N, H, Q)
            Forecasts in the units of `series`.
        """
        lookback, distribution = self.segment(series, observed, group)
        return self.forecast(lookback, distribution, Rollout(distribution.mode)).value

    def segment(
        self, series: Tensor, observed: Tensor | None = None, group: Tensor | None = None
    ) -> tuple[Lookback, SegmentationDistribution]:
        """Normalise the rows; return them and the patcher's distribution."""
        normalised, scale = self.norm(series, observed)
        distribution = self.patcher(normalised, observed, group)
        return Lookback(normalised, observed, scale), distribution

    def forecast(
        self, lookback: Lookback, distribution: SegmentationDistribution, rollout: Rollout
    ) -> Forecast:
        """Forecast each row once per sample of the rollout, with that sample's segmentation."""
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
    """Assemble a patcher's network: its embedding, the backbone and a time-aligned head.

    Parameters
    ----------
    patcher : Patcher
        Patcher of the network. Its reference segmentation defines the positions of tokens and the
        cells of the head.
    backbone : Backbone
        Backbone of the network; this function creates its layers. If the reference segmentation has
        several levels and the backbone reads only one, the layers are divided among the levels: see
        `for_levels`.
    context_length, horizon : int
        Length T of the look-back and horizon H, in time steps.
    quantiles : tuple of float, optional
        Quantiles to forecast; see `TimeAlignedHead`.
    values_per_patch : int, optional
        Number of values to which a patch is resampled; see `Patcher.embed_points`.
    embedding : {"aligned", "resampled"}, optional
        Kind of embedding of the points; see `Patcher.embed_points`.
    instance_norm : bool, default=True
        Whether to normalise each row; see `PatchNetwork`.

    Raises
    ------
    InvalidParameterError
        If the patcher needs a causal backbone and `backbone` is not causal.
    """
    if patcher.needs_causal_backbone and not backbone.causal:
        raise InvalidParameterError(
            f"{patcher!r} needs a causal backbone, in which no token sees later tokens. Got "
            f"{backbone!r}. Use TransformerBackbone(causal=True).",
            parameter="backbone",
        )
    reference = patcher.reference_patches(context_length)
    backbone = for_levels(backbone, reference)
    backbone.build(reference)
    parts = patcher.parts(context_length, backbone.d_model, values_per_patch, embedding)
    if isinstance(parts.embedding, SelectEmbedding):  # its vector belongs to the backbone's stage
        set_rate_factor(parts.embedding, backbone.entry_rate_factor)
    head = TimeAlignedHead(parts.cells, parts.width or backbone.d_model, horizon, quantiles)
    return PatchNetwork(
        patcher, parts.embedding, backbone, head, instance_norm=instance_norm, unpatch=parts.unpatch
    )
