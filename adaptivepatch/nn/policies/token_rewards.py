"""Predictions of the next points at every step, with and without the tokens so far.

This module holds all parts of the causal form of score-function tokenization except its policy: a
causal encoder, two predictions whose errors are compared, and discounted sums of rewards.
Reference: S. Dauncey, R. Wattenhofer, arXiv:2602.13940 (2026).

Tensor suffixes: N rows, T steps, W width of point vectors, h points ahead, P patches, D width of
tokens, H horizon.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.nn.layers.convolution import ConvolutionLayer
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.layers.point_layers import PointEncoder
from adaptivepatch.segmentation import Segmentation


def discounted(reward: Tensor, discount: float) -> Tensor:
    """Return the discounted sum of the rewards of every step and all later steps, shape (..., T).

    Parameters
    ----------
    reward : Tensor of shape (..., T)
        Reward of every step.
    discount : float
        Factor, from 0 to 1, by which a reward shrinks per step of delay.
    """
    step = torch.arange(reward.shape[-1], device=reward.device)
    ahead = step[:, None] - step  # row: step of the reward; column: step that receives it
    weight = discount ** ahead.clamp(min=0).to(torch.float64) * (ahead >= 0)
    return reward @ weight.to(reward.dtype)


class CausalPointEncoder(PointEncoder):
    """Convolutional `PointEncoder` whose vectors depend only on their step and earlier steps.

    Parameters
    ----------
    width, num_layers : int
        Width W and number of layers; see `PointEncoder`.
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__(width, 0, "convolution")
        self.layers.layers.extend(
            ConvolutionLayer(width, k, causal=True) for k in range(num_layers)
        )


class NextErrors(NamedTuple):
    """Mean squared errors of the predictions of the next points.

    Parameters
    ----------
    late : Tensor of shape (N, T)
        Errors with tokens.
    early : Tensor of shape (N, T), or None
        Errors without tokens.
    counted : Tensor of bool, shape (N, T)
        True where at least one of the next points is observed.
    """

    late: Tensor
    early: Tensor | None
    counted: Tensor


class NextPoints(nn.Module):
    """Predictions of the next points at every step, with and without the tokens so far.

    Parameters
    ----------
    width : int
        Width W of the point vectors.
    ahead : int
        Number h of points to predict.
    with_early : bool
        Whether there is also a prediction without tokens. Its head starts as a copy of the head
        with tokens.

    Notes
    -----
    The predictions are ``s_t + A (x_t + z_t)`` with tokens and ``s_t + B x_t`` without, where s_t
    is the value of step t and x_t its vector. z_t consists of the first W values of the token of
    the newest patch that is complete at step t, and is 0 if no patch is complete. A patch is
    complete at its last step, where the start of the next patch is decided.
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
            Tokens after the backbone; D is at least W.
        segmentation : Segmentation
            Segmentation of N rows into P patches.
        series : tuple of Tensor, shapes (N, T) and (N, H)
            Look-back and target, in the same units.
        observed : tuple of Tensor of bool, or None, shapes (N, T) and (N, H)
            True at observed points of look-back and target. None: all points are observed.
        """
        value = series[0]
        known = [
            torch.ones_like(part, dtype=torch.bool) if seen is None else seen
            for part, seen in zip(series, observed, strict=True)
        ]
        future = _next_values(torch.cat(series, 1), self.ahead, value.shape[1])
        counted = _next_values(torch.cat(known, 1), self.ahead, value.shape[1])
        change = torch.where(counted, future - value[..., None], 0.0)  # gaps may be NaN
        number = counted.sum(-1).clamp(min=1)

        def error(predicted: Tensor) -> Tensor:
            square = torch.where(counted, predicted - change, 0.0).square()
            return square.sum(-1) / number

        tokens = points + _complete_tokens(hidden[..., : self.width], segmentation)
        early = None if self.early is None else error(self.early(points))
        return NextErrors(error(self.late(tokens)), early, counted.any(-1))


def _next_values(values: Tensor, ahead: int, num_steps: int) -> Tensor:
    """Return the values (N, T, h) that follow each of the first T steps; 0 beyond the end."""
    missing = max(0, num_steps + ahead - values.shape[1])
    return F.pad(values, (0, missing))[:, 1:].unfold(1, ahead, 1)[:, :num_steps]


def _complete_tokens(tokens: Tensor, segmentation: Segmentation) -> Tensor:
    """Return, for every step, the token of the newest complete patch, or 0: (N, T, W)."""
    index = segmentation.patch_index
    newest = torch.cat([index[:, 1:] - 1, index[:, -1:]], 1)
    given = tokens.gather(1, newest.clamp(min=0)[..., None].expand(-1, -1, tokens.shape[-1]))
    return given * (newest >= 0)[..., None]
