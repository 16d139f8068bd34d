"""Predictions of the next points at every step, with the tokens so far and without them.

What the causal form of score-function tokenization needs beside its policy: an encoder that looks
back only, two predictions whose errors are compared, and discounted sums of rewards. Reference:
S. Dauncey, R. Wattenhofer, arXiv:2602.13940 (2026).

Tensor suffixes: N rows, T steps, W width of point vectors, h points ahead, P patches, D width of
tokens, H horizon.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.point_layers import PointEncoder
from adaptivepatch.segmentation import Segmentation


def discounted(reward: Tensor, discount: float) -> Tensor:
    """Return the sum of this and all later rewards, a later one times a power of the discount.

    Parameters
    ----------
    reward : Tensor of shape (..., T)
        Of every step.
    discount : float
        From 0 to 1, the factor of the next step's.
    """
    step = torch.arange(reward.shape[-1], device=reward.device)
    ahead = step[:, None] - step  # row: when it is given; column: to which step
    weight = discount ** ahead.clamp(min=0).to(torch.float64) * (ahead >= 0)
    return reward @ weight.to(reward.dtype)


class CausalPointEncoder(PointEncoder):
    """The encoder of convolutions, looking back only: a vector knows its step and those before it.

    Parameters
    ----------
    width, num_layers : int
        See `PointEncoder`.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__(width, 0, "convolution")
        self.layers.layers.extend(_CausalLayer(width, k) for k in range(num_layers))


class _CausalLayer(nn.Module):
    """Norm, convolution of a step and four before it, GELU, on a residual branch.

    Before the first point it is repeated: zeros would be a jump that every row has there.
    """

    def __init__(self, width: int, index: int) -> None:
        super().__init__()
        dilation = 1 if index % 2 == 0 else 4
        self.reach = 4 * dilation
        self.norm = nn.RMSNorm(width)
        self.mix = nn.Conv2d(width, width, (1, 5), dilation=(1, dilation))

    def forward(self, points: Tensor, mask: None) -> Tensor:
        """Map (N, T, W) to (N, T, W)."""
        del mask
        normed = self.norm(points)
        before = normed[:, :1].expand(-1, self.reach, -1)
        image = torch.cat([before, normed], 1).mT[:, :, None]
        mixed = self.mix(image.contiguous(memory_format=torch.channels_last))[:, :, 0].mT
        return points + F.gelu(mixed)


class NextErrors(NamedTuple):
    """Mean squared errors of the next points, (N, T): with tokens, without, and where known."""

    late: Tensor
    early: Tensor | None
    counted: Tensor


class NextPoints(nn.Module):
    """Predictions of the next points at every step: with the tokens so far, and without them.

    Parameters
    ----------
    width : int
        Width W of the point vectors.
    ahead : int
        Points h.
    with_early : bool
        Whether there is a prediction without tokens, by a head that starts as a copy of the other.

    Notes
    -----
    ``late_t = x_t + A (x_t + z_t)`` and ``early_t = x_t + B x_t`` with the vector of step t, and z
    the first W values of the token of the newest patch that is complete at t, 0 before there is
    one. A patch is complete at its last step, where the start of the next is decided.
    """

    def __init__(self, width: int, ahead: int, with_early: bool) -> None:
        super().__init__()
        self.width, self.ahead = width, ahead
        self.late = Linear(width, ahead)
        self.early = copy.deepcopy(self.late) if with_early else None

    def forward(
        self,
        points: Tensor,
        hidden: Tensor,
        segmentation: Segmentation,
        series: tuple[Tensor, Tensor],
        observed: tuple[Tensor | None, Tensor | None],
    ) -> NextErrors:
        """Return the mean squared errors of every step.

        Parameters
        ----------
        points : Tensor of shape (N, T, W)
            Point vectors.
        hidden : Tensor of shape (N, P, D)
            Tokens behind the backbone; D is at least W.
        segmentation : Segmentation
            N rows.
        series : tuple of Tensor, shapes (N, T) and (N, H)
            Look-back and target, in the same units.
        observed : tuple of Tensor of bool, of these shapes, or None
            None: all are.
        """
        value = series[0]
        known = [
            torch.ones_like(part, dtype=torch.bool) if seen is None else seen
            for part, seen in zip(series, observed, strict=True)
        ]
        to_come = _next(torch.cat(series, 1), self.ahead, value.shape[1])
        counted = _next(torch.cat(known, 1), self.ahead, value.shape[1])
        step = torch.where(counted, to_come - value[..., None], 0.0)  # gaps may be NaN
        number = counted.sum(-1).clamp(min=1)

        def error(predicted: Tensor) -> Tensor:
            square = torch.where(counted, predicted - step, 0.0).square()
            return square.sum(-1) / number

        tokens = points + _complete(hidden[..., : self.width], segmentation)
        early = None if self.early is None else error(self.early(points))
        return NextErrors(error(self.late(tokens)), early, counted.any(-1))


def _next(values: Tensor, ahead: int, num_steps: int) -> Tensor:
    """Return the values (N, T, h) that follow each of the first T steps; 0 beyond the end."""
    missing = max(0, num_steps + ahead - values.shape[1])
    return F.pad(values, (0, missing))[:, 1:].unfold(1, ahead, 1)[:, :num_steps]


def _complete(tokens: Tensor, segmentation: Segmentation) -> Tensor:
    """Give every step (N, T, W) the token of the newest patch that is complete there, or 0."""
    index = segmentation.patch_index
    newest = torch.cat([index[:, 1:] - 1, index[:, -1:]], 1)
    given = tokens.gather(1, newest.clamp(min=0)[..., None].expand(-1, -1, tokens.shape[-1]))
    return given * (newest >= 0)[..., None]
