"""An additional stage of dynamic chunking: a backbone that groups its tokens into chunks.

Reference: S. Hwang, B. Wang, A. Gu, arXiv:2507.07955 (2025), section 2.1 (recursive stages).

Tensor suffixes: N rows, P tokens, K chunks, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.errors import InvalidParameterError, check_choice, check_float
from adaptivepatch.nn.placement.losses import ratio_loss
from adaptivepatch.nn.placement.routers import ROUTERS, set_rate_factor
from adaptivepatch.nn.tokens.chunks import Dechunk, SelectEmbedding, confidence_gate
from adaptivepatch.segmentation import Segmentation

_THRESHOLD_STEP = 0.05  # share of the difference by which a step corrects the threshold


class DynamicChunkingBackbone(Backbone):
    """Stage of H-Net: group tokens into chunks, run `inner` on them, and expand the result.

    Use it behind `DynamicChunkingPatcher` for a second stage, and as `inner` of another
    `DynamicChunkingBackbone` for a third. It groups the tokens of any patcher, including fixed
    patches.

    Parameters
    ----------
    encoder : Backbone
        Backbone that reads the tokens.
    inner : Backbone
        Backbone that reads the chunks. It must be at least as wide as the encoder.
    decoder : Backbone, optional
        Backbone of the same width as the encoder that reads the expanded tokens. None: there is no
        decoder.
    compression_rate : float, default=3.0
        Average number of tokens per chunk that the stage aims at. It is not a limit.
    router : {"cosine", "calibrated", "even"}, default="calibrated"
        Rule for boundary probabilities; see `adaptivepatch.nn.placement.routers`.
    ratio_weight : float, default=0.03
        Weight of the ratio loss.
    learning_rate_factor : float, default=1.0
        Learning rate, as a multiple of the trainer's rate, of this stage's encoder, router and
        decoder and of the vector that widens its tokens. It does not apply to `inner`.

    Raises
    ------
    InvalidParameterError
        In `build`, if the widths of the parts do not fit together or a value is out of range.

    Notes
    -----
    Let x be the encoder's output and p the router's probabilities. The first vector of x and the
    vectors with p > 1/2 represent the chunks. `inner` maps them to h, and the decoder reads
    ``c z + R x``, where z is the smoothed h, c the confidence of the decisions and R a linear map;
    see `adaptivepatch.nn.tokens.chunks.Dechunk`.

    Deviations from H-Net: the encoder and decoder are backbones of this package, in which a token
    can read all tokens, whereas those of H-Net are causal and recurrent. The default router is
    "calibrated", whereas the published router is "cosine".

    References
    ----------
    S. Hwang, B. Wang, A. Gu, "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling",
    arXiv:2507.07955, 2025.
    """

    name = "dynamic_chunking"

    def __init__(
        self,
        encoder: Backbone | None = None,
        inner: Backbone | None = None,
        decoder: Backbone | None = None,
        compression_rate: float = 3.0,
        router: str = "calibrated",
        ratio_weight: float = 0.03,
        learning_rate_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.inner = inner
        self.decoder = decoder
        self.compression_rate = compression_rate
        self.router = router
        self.ratio_weight = ratio_weight
        self.learning_rate_factor = learning_rate_factor
        self._ratio: Tensor | None = None

    @property
    def entry_rate_factor(self) -> float:  # type: ignore[override]
        """Learning-rate factor of the vector that widens tokens for this stage."""
        return self.learning_rate_factor

    def build(self, reference: Segmentation) -> None:
        """Create the layers of this stage and of `inner`."""
        check_choice(self, ROUTERS, router=self.router)
        check_float(self, "(1, inf)", compression_rate=self.compression_rate)
        check_float(self, "[0, inf)", ratio_weight=self.ratio_weight)
        check_float(self, "(0, inf)", learning_rate_factor=self.learning_rate_factor)
        encoder, inner = self._part("encoder"), self._part("inner")
        encoder.build(reference)
        num_chunks = max(1, int(reference.capacity / self.compression_rate))
        coarse = Segmentation.even(reference.capacity, num_chunks).patch_starts[0]
        starts = reference.patch_starts[0][coarse].tolist()
        inner.build(Segmentation.shared(starts, reference.num_steps))
        self.d_model = encoder.d_model
        if inner.d_model < encoder.d_model:
            raise InvalidParameterError(
                "The inner backbone of DynamicChunkingBackbone must be at least as wide as its "
                f"encoder, d_model={encoder.d_model!r}. Got {inner.d_model!r} instead.",
                parameter="inner",
            )
        self.routing = ROUTERS[self.router](self.d_model)
        self.select = SelectEmbedding(self.d_model, inner.d_model)
        self.dechunk = Dechunk(self.d_model, inner.d_model)
        set_rate_factor(self.select, inner.entry_rate_factor)
        for part in (encoder, self.routing, self.dechunk, self.decoder):
            if part is not None:
                set_rate_factor(part, self.learning_rate_factor)
        if self.decoder is not None:
            decoder = self._part("decoder")
            decoder.build(reference)
            if decoder.d_model != encoder.d_model:
                raise InvalidParameterError(
                    "The decoder of DynamicChunkingBackbone must be as wide as its encoder, "
                    f"d_model={encoder.d_model!r}. Got {decoder.d_model!r} instead.",
                    parameter="decoder",
                )

    def _part(self, name: str) -> Backbone:
        part = getattr(self, name)
        if not isinstance(part, Backbone):
            raise TypeError(
                f"The {name!r} parameter of DynamicChunkingBackbone must be a Backbone instance. "
                f"Got {part!r} instead."
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
        del parent
        assert self.encoder is not None
        assert self.inner is not None
        fine = self.encoder(tokens, patch_mask, start_time)
        prob, chunks = self._route(fine, patch_mask)
        gate = confidence_gate(prob, chunks.boundary_mask)
        first = chunks.patch_starts.clamp(max=chunks.num_steps - 1)
        hidden = self.inner(  # (N, P, D) -> (N, K, its width)
            self.select(fine, chunks, features=fine),
            chunks.patch_mask,
            start_time.expand(len(first), -1).gather(1, first),
        )
        fine = self.dechunk(hidden, chunks, prob, gate, fine)  # (N, K, .) -> (N, P, D)
        if self.decoder is not None:
            fine = self.decoder(fine, patch_mask, start_time)
        return fine if patch_mask is None else fine * patch_mask[..., None]

    def _route(self, fine: Tensor, patch_mask: Tensor | None) -> tuple[Tensor, Segmentation]:
        """Return boundary probabilities (N, P) and the chunks of the tokens."""
        distance, share = self.routing.distance(fine), 1 / self.compression_rate
        if self.training:
            self.routing.calibrate(distance, patch_mask, share, _THRESHOLD_STEP)
        prob = self.routing.boundary_prob(distance, patch_mask)
        mask = prob.detach() > 0.5
        if self.training and mask.shape[1] > 1:
            valid = torch.ones_like(mask) if patch_mask is None else patch_mask.clone()
            valid[:, 0] = False
            self._ratio = ratio_loss(mask[valid], prob[valid], self.compression_rate)
        return prob, Segmentation(mask, validate=False)

    def auxiliary_loss(self) -> Tensor | None:
        """Return the weighted ratio loss of this stage plus the losses of its parts."""
        terms = [part.auxiliary_loss() for part in (self.encoder, self.inner, self.decoder) if part]
        ratio, self._ratio = self._ratio, None
        if ratio is not None:
            terms.append(self.ratio_weight * ratio)
        known = [term for term in terms if term is not None]
        return sum(known[1:], known[0]) if known else None
