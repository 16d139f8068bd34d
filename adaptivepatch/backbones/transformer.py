"""A pre-norm transformer encoder: LayerNorm, scaled dot-product attention, learned positions."""

from __future__ import annotations

from torch import Tensor, nn

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.errors import check_bool
from adaptivepatch.nn.layers.dropout import Dropout
from adaptivepatch.nn.layers.transformer import PreNormLayer, ReferencePositions
from adaptivepatch.segmentation import Segmentation


class TransformerBackbone(Backbone):
    """Pre-norm transformer encoder with learned positions.

    Use it if rows must not influence each other in training (it has no batch statistics), for
    training on several processes, or for speed with padded patches.

    Parameters
    ----------
    d_model : int, default=64
        Token width.
    num_layers : int, default=2
        Number of encoder layers.
    num_heads : int, default=4
        Number of attention heads; it must divide `d_model`.
    d_ff : int, optional
        Feed-forward width; four times `d_model` by default.
    dropout : float, default=0.1
        Probability of dropout on tokens, on residual branches and in the feed-forward block.
    causal : bool, default=False
        Whether a token attends only to itself and earlier tokens. Patchers with a loss on the next
        points, such as `ScoreFunctionPatcher`, need a causal backbone; forecasts do not.

    References
    ----------
    R. Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020,
    arXiv:2002.04745.
    """

    name = "transformer"

    def __init__(
        self,
        d_model: int = 64,
        num_layers: int = 2,
        num_heads: int = 4,
        d_ff: int | None = None,
        dropout: float = 0.1,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_ff = d_ff
        self.dropout = dropout
        self.causal = causal

    def build(self, reference: Segmentation) -> None:
        """Create positions, layers and the final norm."""
        d_ff = 4 * self.d_model if self.d_ff is None else self.d_ff
        self._check(d_ff)
        check_bool(self, causal=self.causal)
        self.positions = ReferencePositions(reference, self.d_model)
        self.token_dropout = Dropout(self.dropout)
        self.layers = nn.ModuleList(
            PreNormLayer(self.d_model, self.num_heads, d_ff, self.dropout, self.causal)
            for _ in range(self.num_layers)
        )
        self.final_norm = nn.LayerNorm(self.d_model)

    def forward(
        self,
        tokens: Tensor,
        patch_mask: Tensor | None,
        start_time: Tensor,
        parent: Segmentation | None = None,
    ) -> Tensor:
        """Map tokens (N, P, D) to hidden tokens (N, P, D); see `Backbone.forward`."""
        hidden = self.token_dropout(tokens + self.positions(start_time))
        for layer in self.layers:
            hidden = layer(hidden, patch_mask)
        hidden = self.final_norm(hidden)
        return hidden if patch_mask is None else hidden * patch_mask[..., None]
