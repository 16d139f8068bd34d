"""Heads that map hidden tokens to the forecast of a row.

Tensor suffixes: N rows, K reference cells, P patches, D width, H horizon, Q quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.tokens.pooling import overlap_matrix
from adaptivepatch.segmentation import Segmentation


class TimeAlignedHead(nn.Module):
    """Head that averages hidden tokens over reference cells and projects them to the horizon.

    Parameters
    ----------
    reference : Segmentation
        Patcher's reference segmentation: one row of K cells.
    d_model : int
        Width D of the hidden tokens.
    horizon : int
        Number H of steps to forecast.
    quantiles : tuple of float, optional
        Quantiles to forecast, increasing and with 0.5 among them. None gives a point forecast.

    Notes
    -----
    A cell holds the mean of the tokens of its patches, weighted by overlap. If the patches equal
    the cells, this mean is the identity and the head equals PatchTST's flatten head. Quantile
    forecasts are the median plus or minus cumulative softplus increments, so that they cannot
    cross.
    """

    def __init__(
        self,
        reference: Segmentation,
        d_model: int,
        horizon: int,
        quantiles: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.quantiles = quantiles
        self.num_cells = reference.capacity
        self.register_buffer("cells", reference.boundary_mask, persistent=False)
        num_outputs = horizon * (1 if quantiles is None else len(quantiles))
        self.projection = Linear(reference.capacity * d_model, num_outputs)

    def forward(self, hidden: Tensor, segmentation: Segmentation) -> Tensor:
        """Map hidden tokens (N, P, D) to (N, H), or (N, H, Q) with quantiles."""
        cells = self._over_cells(hidden, segmentation)  # (N, P, D) -> (N, K, D)
        forecast: Tensor = self.projection(cells.flatten(1))
        if self.quantiles is None:
            return forecast
        return self._ordered(forecast.view(len(hidden), self.horizon, len(self.quantiles)))

    def _over_cells(self, hidden: Tensor, segmentation: Segmentation) -> Tensor:
        """Average hidden tokens over each cell, weighted by overlap."""
        reference = Segmentation(self.get_buffer("cells"), self.num_cells, validate=False)
        if segmentation.exact and segmentation.capacity == self.num_cells == reference.num_steps:
            return hidden  # every step is both a patch and a cell
        exact = torch.promote_types(hidden.dtype, torch.float32)
        shares = overlap_matrix(segmentation, reference, exact).to(hidden.dtype)
        return shares @ hidden

    def _ordered(self, raw: Tensor) -> Tensor:
        assert self.quantiles is not None
        middle = self.quantiles.index(0.5)
        median = raw[..., middle : middle + 1]
        above = median + F.softplus(raw[..., middle + 1 :]).cumsum(-1)
        below = median - F.softplus(raw[..., :middle]).flip(-1).cumsum(-1).flip(-1)
        return torch.cat([below, median, above], dim=-1)


class SlotHead(nn.Module):
    """Head that flattens the patch slots and projects them to the horizon.

    Use it if the index of a patch carries meaning. If patches only divide time, this head penalises
    segmentations whose k-th patch moves, and `TimeAlignedHead` is better.

    Parameters
    ----------
    num_slots : int
        Number K of patch slots: the patcher's capacity.
    d_model : int
        Width D of the hidden tokens.
    horizon : int
        Number H of steps to forecast.
    """

    def __init__(self, num_slots: int, d_model: int, horizon: int) -> None:
        super().__init__()
        self.projection = Linear(num_slots * d_model, horizon)

    def forward(self, hidden: Tensor, segmentation: Segmentation) -> Tensor:
        """Map hidden tokens (N, K, D), zero in unused slots, to (N, H)."""
        forecast: Tensor = self.projection(hidden.flatten(1))
        return forecast
