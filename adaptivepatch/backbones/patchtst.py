"""PatchTST's encoder as published: BatchNorm, residual attention, learned positions.

Reference: Y. Nie, N. H. Nguyen, P. Sinthong, J. Kalagnanam, "A Time Series is Worth 64 Words",
ICLR 2023, arXiv:2211.14730.
"""

from __future__ import annotations

from torch import Tensor, nn

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.nn.layers.dropout import Dropout
from adaptivepatch.nn.layers.transformer import ReferencePositions, ResidualAttentionLayer
from adaptivepatch.segmentation import Segmentation


class PatchTSTBackbone(Backbone):
    """PatchTST's transformer encoder; the defaults are its published ETTh configuration.

    Parameters
    ----------
    d_model : int, default=16
        Token width.
    num_layers : int, default=3
        Number of encoder layers.
    num_heads : int, default=4
        Number of attention heads; it must divide `d_model`.
    d_ff : int, default=128
        Feed-forward width.
    dropout : float, default=0.3
        Probability of dropout on tokens, on residual branches and in the feed-forward block. As
        published, there is no dropout on attention weights.

    Notes
    -----
    Each process computes BatchNorm statistics from its own part of a batch. Training on several CPU
    processes therefore differs from training on one. `TransformerBackbone` has no batch statistics.

    Deviation from PatchTST: learned positions are interpolated to the start times of the patches,
    relative to the reference segmentation.

    References
    ----------
    Y. Nie et al., "A Time Series is Worth 64 Words", ICLR 2023, arXiv:2211.14730.
    """

    name = "patchtst"

    def __init__(
        self,
        d_model: int = 16,
        num_layers: int = 3,
        num_heads: int = 4,
        d_ff: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.d_ff = d_ff
        self.dropout = dropout

    def build(self, reference: Segmentation) -> None:
        """Create positions and layers."""
        self._check(self.d_ff)
        self.positions = ReferencePositions(reference, self.d_model)
        self.token_dropout = Dropout(self.dropout)
        self.layers = nn.ModuleList(
            ResidualAttentionLayer(self.d_model, self.num_heads, self.d_ff, self.dropout)
            for _ in range(self.num_layers)
        )

    def forward(
        self,
        tokens: Tensor,
        patch_mask: Tensor | None,
        start_time: Tensor,
        parent: Segmentation | None = None,
    ) -> Tensor:
        """Map tokens (N, P, D) to hidden tokens (N, P, D); see `Backbone.forward`."""
        hidden = self.token_dropout(tokens + self.positions(start_time))
        compared = None
        for layer in self.layers:
            hidden, compared = layer(hidden, patch_mask, compared)
        return hidden
