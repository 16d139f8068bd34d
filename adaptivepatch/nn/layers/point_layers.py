"""Layers over points: the encoder before a router and the decoder after the backbone.

Tensor suffixes: N rows, T steps, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.convolution import ConvolutionLayer
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.transformer import PreNormLayer

MIXERS = ("convolution", "attention")


class PointEncoder(nn.Module):
    """Encoder that maps rows of values to one vector per point.

    Parameters
    ----------
    width : int
        Width W.
    num_layers : int
        Number of layers.
    mixer : {"convolution", "attention"}
        Kind of layer. A "convolution" has five taps, with dilations 1, 4, 1, 4, ..., and a cost
        linear in T. In "attention" every point reads all others, at a cost quadratic in T.
    normed : bool, default=True
        Whether to end with a norm of every vector. The norm removes the size of the point's value.
    """

    def __init__(self, width: int, num_layers: int, mixer: str, normed: bool = True) -> None:
        super().__init__()
        self.lift = Linear(3, width)
        self.layers = PointLayers(width, num_layers, mixer, normed)

    def forward(self, series: Tensor, observed: Tensor | None) -> Tensor:
        """Map normalised rows (N, T) with filled gaps to point vectors (N, T, W).

        The inputs of a point are its value, its change from the point before, and whether it is
        observed.
        """
        change = F.pad(series.diff(dim=1), (1, 0))
        seen = torch.ones_like(series) if observed is None else observed.to(series.dtype)
        vectors: Tensor = self.layers(self.lift(torch.stack([series, change, seen], -1)))
        return vectors


class PointLayers(nn.Module):
    """Stack of pre-norm layers over points.

    Parameters
    ----------
    width, num_layers, mixer, normed
        Parameters described in `PointEncoder`.
    """

    def __init__(self, width: int, num_layers: int, mixer: str, normed: bool = True) -> None:
        super().__init__()
        self.is_global = mixer == "attention"
        make = _attention_layer if self.is_global else ConvolutionLayer
        self.layers = nn.ModuleList(make(width, k) for k in range(num_layers))
        self.norm = nn.RMSNorm(width) if normed else nn.Identity()

    def forward(self, points: Tensor) -> Tensor:
        """Map (N, T, W) to (N, T, W)."""
        if self.is_global:
            points = points + _sinusoidal_positions(points)
        for layer in self.layers:
            points = layer(points, None)
        normed: Tensor = self.norm(points)
        return normed


def _attention_layer(width: int, index: int) -> PreNormLayer:
    del index
    heads = next(h for h in (4, 2, 1) if width % h == 0)
    return PreNormLayer(width, heads, 2 * width, 0.0)


def _sinusoidal_positions(points: Tensor) -> Tensor:
    """Return sines and cosines of each point's distance to the newest point, shape (T, W)."""
    num_steps, width = points.shape[1:]
    age = torch.arange(num_steps - 1, -1, -1, device=points.device, dtype=torch.float64)
    rate = 10_000.0 ** -(torch.arange((width + 1) // 2, device=points.device) * 2.0 / width)
    angle = age[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width].to(points.dtype)
