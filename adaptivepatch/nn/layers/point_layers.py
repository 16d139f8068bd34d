"""Layers at the resolution of points: the encoder before a router, the decoder behind it.

Tensor suffixes: N rows, T steps, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.transformer import PreNormLayer

MIXERS = ("convolution", "attention")


class PointEncoder(nn.Module):
    """Rows of values to one vector a point.

    Parameters
    ----------
    width : int
        Width W.
    num_layers : int
        Layers.
    mixer : {"convolution", "attention"}
        "convolution": local, linear in T; five taps, dilated 1, 4, 1, 4, ... "attention": every
        point reads all others, quadratic in T.
    normed : bool, default=True
        End in a norm of every point's vector, which then no longer tells how large its value is.
    """

    def __init__(self, width: int, num_layers: int, mixer: str, normed: bool = True) -> None:
        super().__init__()
        self.lift = Linear(3, width)
        self.layers = PointLayers(width, num_layers, mixer, normed)

    def forward(self, series: Tensor, observed: Tensor | None) -> Tensor:
        """Map normalised rows (N, T), gaps filled, to point vectors (N, T, W).

        A point enters with its value, its change from the point before, and whether it is observed.
        """
        change = F.pad(series.diff(dim=1), (1, 0))
        seen = torch.ones_like(series) if observed is None else observed.to(series.dtype)
        vectors: Tensor = self.layers(self.lift(torch.stack([series, change, seen], -1)))
        return vectors


class PointLayers(nn.Module):
    """A stack of pre-norm layers over points.

    Parameters
    ----------
    width, num_layers, mixer, normed
        See `PointEncoder`.
    """

    def __init__(self, width: int, num_layers: int, mixer: str, normed: bool = True) -> None:
        super().__init__()
        self.is_global = mixer == "attention"
        make = _attention_layer if self.is_global else _LocalLayer
        self.layers = nn.ModuleList(make(width, k) for k in range(num_layers))
        self.norm = nn.RMSNorm(width) if normed else nn.Identity()

    def forward(self, points: Tensor) -> Tensor:
        """Map (N, T, W) to (N, T, W)."""
        if self.is_global:
            points = points + _places(points)
        for layer in self.layers:
            points = layer(points, None)
        normed: Tensor = self.norm(points)
        return normed


def _attention_layer(width: int, index: int) -> PreNormLayer:
    del index
    heads = next(h for h in (4, 2, 1) if width % h == 0)
    return PreNormLayer(width, heads, 2 * width, 0.0)


def _places(points: Tensor) -> Tensor:
    """Return sines and cosines of the distance to the newest point, (T, W)."""
    num_steps, width = points.shape[1:]
    age = torch.arange(num_steps - 1, -1, -1, device=points.device, dtype=torch.float64)
    rate = 10_000.0 ** -(torch.arange((width + 1) // 2, device=points.device) * 2.0 / width)
    angle = age[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :width].to(points.dtype)


class _LocalLayer(nn.Module):
    """Norm, convolution of five taps, GELU, on a residual branch.

    Beyond the ends the first and the last point are repeated: zeros would be a jump that every row
    has there, and boundaries would gather at both ends.
    """

    def __init__(self, width: int, index: int) -> None:
        super().__init__()
        dilation = 1 if index % 2 == 0 else 4
        self.reach = 2 * dilation
        self.norm = nn.RMSNorm(width)
        # Two-dimensional with channels last: on a CPU a third of the time of one-dimensional ones.
        self.mix = nn.Conv2d(width, width, (1, 5), dilation=(1, dilation))

    def forward(self, points: Tensor, mask: None) -> Tensor:
        """Map (N, T, W) to (N, T, W)."""
        del mask
        normed = self.norm(points)
        ends = (normed[:, :1], normed[:, -1:])
        before, after = (end.expand(-1, self.reach, -1) for end in ends)
        image = torch.cat([before, normed, after], 1).mT[:, :, None]
        mixed = self.mix(image.contiguous(memory_format=torch.channels_last))[:, :, 0].mT
        return points + F.gelu(mixed)
