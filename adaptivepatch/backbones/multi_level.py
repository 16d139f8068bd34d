"""Several levels of tokens: from fine to coarse ones and back, as in a U-Net.

This module combines backbones of any kind. The patcher provides the levels as
`Segmentation.parent`; see ``patchers/hierarchical.py``.

Tensor suffixes: N rows, P fine patches, K coarse patches, D width of the fine level.
"""

from __future__ import annotations

from sklearn.base import BaseEstimator, clone
from torch import Tensor, nn

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.errors import InvalidParameterError, check_int
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.segmentation import Segmentation


class MultiLevelBackbone(Backbone):
    """A backbone on coarse patches between an encoder and a decoder on fine patches.

    A flat backbone is divided among the levels automatically (`for_levels`). Use this class to
    choose the sizes of each level.

    Parameters
    ----------
    encoder : Backbone
        Backbone that reads the fine tokens.
    inner : Backbone
        Backbone that reads the coarse tokens; its width may differ from the encoder's. For three
        levels, pass another `MultiLevelBackbone`.
    decoder : Backbone, optional
        Backbone of the same width as the encoder that reads the sum of the fine and the coarse
        level. None: there is no decoder.

    Raises
    ------
    InvalidParameterError
        In `build`, if the patcher has fewer levels than the backbone, or the decoder is not as wide
        as the encoder.

    Notes
    -----
    Let h be the encoder's output and m the mean of h over the fine patches of each coarse patch.
    The decoder reads ``h + up(inner(down(m)))``, where every fine patch takes the value of its
    coarse patch. The skip connection keeps the detail of the fine level. `down` and `up` are
    linear; `up` starts at zero, so that training begins with only the fine level. Padded tokens are
    left out of the means and are 0 in the result.

    Deviations from the sources: patches of any length replace fixed down-sampling, and the coarse
    level is repeated and added to the fine level, without convolution or attention.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, "U-Net", MICCAI 2015, arXiv:1505.04597.

    P. Nawrot et al., "Hierarchical Transformers Are More Efficient Language Models", Findings of
    NAACL 2022, arXiv:2110.13711.
    """

    name = "multi_level"
    reads_levels = True

    def __init__(
        self,
        encoder: Backbone | None = None,
        inner: Backbone | None = None,
        decoder: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.inner = inner
        self.decoder = decoder

    def build(self, reference: Segmentation) -> None:
        """Create the layers of all levels."""
        encoder, inner = self._part("encoder"), self._part("inner")
        if reference.parent is None:
            raise InvalidParameterError(
                "MultiLevelBackbone needs a patcher with a coarser level for 'inner', but the "
                "patcher has no coarser level. Pass a HierarchicalPatcher, or a backbone with "
                "fewer levels.",
                parameter="backbone",
            )
        encoder.build(reference)
        inner.build(reference.coarse)
        self.d_model = encoder.d_model
        self.down = Linear(encoder.d_model, inner.d_model)
        self.up = Linear(inner.d_model, encoder.d_model)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        if self.decoder is not None:
            decoder = self._part("decoder")
            decoder.build(reference)
            if decoder.d_model != encoder.d_model:
                raise InvalidParameterError(
                    "The decoder of MultiLevelBackbone must be as wide as its encoder, "
                    f"d_model={encoder.d_model!r}. Got {decoder.d_model!r} instead.",
                    parameter="decoder",
                )

    def _part(self, name: str) -> Backbone:
        part = getattr(self, name)
        if not isinstance(part, Backbone):
            raise TypeError(
                f"The {name!r} parameter of MultiLevelBackbone must be a Backbone instance. Got "
                f"{part!r} instead."
            )
        return part

    def forward(
        self,
        tokens: Tensor,
        patch_mask: Tensor | None,
        start_time: Tensor,
        parent: Segmentation | None = None,
    ) -> Tensor:
        """Map tokens (N, P, D) to hidden tokens (N, P, D); see `Backbone.forward`."""
        assert parent is not None
        assert self.encoder is not None
        assert self.inner is not None
        fine = self.encoder(tokens, patch_mask, start_time)
        coarse = self.inner(  # (N, P, D) -> (N, K, its width)
            self.down(pool_mean(fine, parent, patch_mask)),
            None if parent.exact else parent.patch_mask,
            _coarse_start_time(start_time, parent),
            parent.parent,
        )
        hidden: Tensor = fine + broadcast(self.up(coarse), parent)  # (N, K, D) -> (N, P, D)
        if self.decoder is not None:
            hidden = self.decoder(hidden, patch_mask, start_time)
        return hidden if patch_mask is None else hidden * patch_mask[..., None]

    def auxiliary_loss(self) -> Tensor | None:
        """Return the sum of the losses of encoder, inner backbone and decoder, or None."""
        terms = [part.auxiliary_loss() for part in (self.encoder, self.inner, self.decoder) if part]
        known = [term for term in terms if term is not None]
        return sum(known[1:], known[0]) if known else None


def _coarse_start_time(start_time: Tensor, parent: Segmentation) -> Tensor:
    """Look up the first step of every coarse patch, shape (N or 1, K)."""
    first = parent.patch_starts.clamp(max=parent.num_steps - 1)  # unused slots: any step
    if len(start_time) == 1 and parent.is_shared:
        first = first[:1]
    return start_time.expand(len(first), -1).gather(1, first)


def for_levels(backbone: Backbone, reference: Segmentation) -> Backbone:
    """Return a backbone that reads all levels of a patcher.

    Parameters
    ----------
    backbone : Backbone
        Backbone that has not been built. It is returned unchanged if it reads all levels.
    reference : Segmentation
        Reference segmentation of the patcher (one row).

    Returns
    -------
    Backbone

    Raises
    ------
    InvalidParameterError
        If a flat backbone has no parameter `num_layers`.

    Notes
    -----
    The layers of a flat backbone are divided so that every level has an encoder of one layer. From
    the remaining layers, the finest levels get a decoder of one layer each, and the coarsest level
    gets the rest. If there are fewer layers than levels, every level gets one layer.
    """
    parent = reference.parent
    if parent is None:
        return backbone
    if isinstance(backbone, MultiLevelBackbone):
        if not isinstance(backbone.inner, Backbone):
            return backbone  # `build` raises the error
        inner = for_levels(backbone.inner, parent)
        if inner is backbone.inner:
            return backbone
        return MultiLevelBackbone(backbone.encoder, inner, backbone.decoder)
    return backbone if backbone.reads_levels else _divided(backbone, _num_levels(reference))


def _num_levels(segmentation: Segmentation) -> int:
    return 1 if segmentation.parent is None else 1 + _num_levels(segmentation.parent)


def _divided(backbone: Backbone, num_levels: int) -> Backbone:
    """Divide the layers of a flat backbone among levels."""
    if "num_layers" not in BaseEstimator.get_params(backbone, deep=False):
        raise InvalidParameterError(
            f"{type(backbone).__name__} cannot be divided among the patcher's levels, because it "
            "has no 'num_layers' parameter. Pass a MultiLevelBackbone.",
            parameter="backbone",
        )
    num_layers = backbone.num_layers
    check_int(backbone, num_layers=num_layers)

    def part(layers: int) -> Backbone:
        copy: Backbone = clone(backbone)
        BaseEstimator.set_params(copy, num_layers=layers)
        return copy

    if num_levels == 1:
        return part(num_layers)
    has_decoder = num_layers > num_levels
    rest = max(1, num_layers - 1 - has_decoder)
    return MultiLevelBackbone(
        part(1), _divided(part(rest), num_levels - 1), part(1) if has_decoder else None
    )
