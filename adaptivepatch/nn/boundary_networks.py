"""Networks that give every candidate site of a row a logit.

They know sites, not steps: the features of a site describe the cell up to the next site, so that
one set of weights serves every look-back and every compression rate.

Tensor suffixes: N rows, T steps, C sites, F features, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.candidates import Sites
from adaptivepatch.nn.pooling import pool_mean
from adaptivepatch.nn.transformer import PreNormLayer
from adaptivepatch.segmentation import Segmentation

NUM_FEATURES = 9


def site_features(series: Tensor, observed: Tensor | None, sites: Sites) -> Tensor:
    """Describe every site, shape (N, F, C).

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised, gaps filled.
    observed : Tensor of bool, shape (N, T), or None
        False at filled gaps.
    sites : Sites
        C sites.

    Notes
    -----
    Value at the site; step from the point before; mean of the cell, its change, and the mean
    distance of the cell's points from it; share of observed points; time to the origin (as a share
    of T); place within the block; whether the site is a reference start.
    """
    num_rows, num_steps = series.shape
    device = series.device
    position = torch.tensor(sites.positions, device=device)
    cells = Segmentation.shared([0, *sites.positions], num_steps, num_rows, device)
    mean = pool_mean(series[..., None], cells)[..., 0]  # (N, C + 1)
    around = series - mean.gather(1, cells.patch_index)
    spread = pool_mean(around.abs()[..., None], cells)[..., 0][:, 1:]
    value, before = series[:, position], series[:, position - 1]
    seen = torch.ones_like(value)
    if observed is not None:
        seen = pool_mean(observed[..., None].to(series.dtype), cells)[..., 0][:, 1:]
    fixed = torch.stack(_places(sites, series)).expand(num_rows, -1, -1)
    changing = [value, value - before, mean[:, 1:], mean[:, 1:] - mean[:, :-1], spread, seen]
    return torch.cat([torch.stack(changing, 1), fixed], 1)


def _places(sites: Sites, like: Tensor) -> list[Tensor]:
    """Return time to the origin, place within the block and the mark of reference starts."""
    position = torch.tensor(sites.positions, dtype=like.dtype, device=like.device)
    reference = torch.tensor(sites.reference, device=like.device)
    blocks = torch.tensor(sites.blocks, device=like.device)
    start = position[reference]
    length = F.pad(start, (1, 0)).diff()
    marks = torch.zeros_like(position)
    marks[reference] = 1
    return [1 - position / sites.num_steps, (position - start[blocks]) / length[blocks], marks]


class ConvolutionalBoundaryNetwork(nn.Module):
    """Two convolutions along the sites.

    Parameters
    ----------
    width : int
        Channels W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(NUM_FEATURES, width, 5, padding=2)
        self.far = nn.Conv1d(width, width, 5, padding=8, dilation=4)
        self.logit = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=0.01)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, F, C) to hidden vectors (N, C, W)."""
        near = F.gelu(self.near(features))
        return (near + F.gelu(self.far(near))).transpose(1, 2)


class TransformerBoundaryNetwork(nn.Module):
    """Two pre-norm encoder layers over the sites, behind one convolution.

    Parameters
    ----------
    width : int
        Width W; a multiple of 4, the number of heads.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(NUM_FEATURES, width, 5, padding=2)
        self.layers = nn.ModuleList(PreNormLayer(width, 4, 2 * width, 0.0) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.logit = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=0.01)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, F, C) to hidden vectors (N, C, W)."""
        tokens = F.gelu(self.near(features)).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, None)
        return self.norm(tokens)


class EarlyExit(nn.Module):
    """A linear forecaster that never sees patches: a baseline independent of the action."""

    _PAST, _FUTURE = 32, 16  # cells

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(self._PAST, self._FUTURE)

    def forward(self, series: Tensor, horizon: int) -> Tensor:
        """Map normalised look-backs (N, T) to piecewise constant forecasts (N, H)."""
        past = F.adaptive_avg_pool1d(series[:, None], self._PAST)
        future = self.projection(past)
        return F.interpolate(future, size=horizon, mode="nearest")[:, 0]
