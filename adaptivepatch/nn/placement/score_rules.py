"""Rules that convert scores of steps to patches, under three kinds of budget.

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError, check_int
from adaptivepatch.nn.policies.segmental import Segmental
from adaptivepatch.segmentation import Segmentation

_SMALLEST_DEVIATION = 1e-5
_TIE_BREAK = 1e-9  # far below any real difference of two scores

BUDGETS = ("exact", "min", "target")
"""Exactly K patches per row, at most K, or K on average over the data that set the threshold."""


def cut_by_scores(
    scores: Tensor, num_patches: int, budget: str, threshold: float | None = None
) -> Segmentation:
    """Start patches at the steps with the highest scores.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Finite scores; a step with a higher score is a likelier start. The score of step 0 is not
        read.
    num_patches : int
        Number of patches K, from 1 to T.
    budget : {"exact", "min", "target"}
        Kind of budget. "exact": see `cut_exactly`. "min": patches start at the steps with the K - 1
        highest scores, as far as these exceed `threshold`; ties go to the earlier step. "target":
        patches start at all steps whose score exceeds `threshold`.
    threshold : float, optional
        Threshold of the budgets "min" and "target", which require one.

    Returns
    -------
    Segmentation
        Segmentation of N rows. The capacity is K or, for "target", the largest number of patches in
        a row.
    """
    if budget == "exact":
        return cut_exactly(scores, num_patches)
    assert threshold is not None
    if budget == "min":
        return Segmentation.from_scores(scores, num_patches, threshold)
    mask = scores > threshold
    mask[:, 0] = True
    return Segmentation(mask, validate=False)


def cut_exactly(
    scores: Tensor,
    num_patches: int,
    min_length: int | None = None,
    max_length: int | None = None,
) -> Segmentation:
    """Start exactly K patches at the highest scores, preferring even patches for equal scores.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Finite scores; a step with a higher score is a likelier start. The score of step 0 is not
        read.
    num_patches : int
        Number of patches K, from 1 to T.
    min_length, max_length : int, optional
        Limits of patch lengths that `check_lengths` accepts. With limits, the starts are those with
        the greatest total score among all that satisfy the limits. A single patch has no limits.
    """
    num_steps = scores.shape[1]
    even = Segmentation.even(num_steps, num_patches, device=scores.device).boundary_mask
    scores = scores.double() + _TIE_BREAK * even
    if num_patches == 1 or (min_length is None and max_length is None):
        return Segmentation.from_scores(scores, num_patches)
    lengths = _lengths(num_steps, min_length, max_length)
    best = Segmental(scores[:, 1:], range(1, num_steps), num_steps, num_patches, lengths).mode
    mask = torch.cat([torch.ones_like(best[:, :1]), best], 1)
    return Segmentation(mask, capacity=num_patches, exact=True, validate=False)


def check_lengths(owner: Any, num_patches: int, num_steps: int) -> None:
    """Raise `InvalidParameterError` unless K patches can satisfy a patcher's limits of length.

    A single patch covers the whole look-back, whatever the limits are.

    Parameters
    ----------
    owner : object
        Patcher with attributes `budget`, `min_length` and `max_length`.
    num_patches, num_steps : int
        Number of patches K and length T of the look-back.
    """
    limits = {"min_length": owner.min_length, "max_length": owner.max_length}
    given = {name: value for name, value in limits.items() if value is not None}
    if given and owner.budget != "exact":
        raise InvalidParameterError(
            f"The lengths of patches can be limited only with budget='exact'. Got {given} with "
            f"budget={owner.budget!r}. Remove the limits, or use budget='exact'.",
            parameter="budget",
        )
    check_int(owner, **given)
    shortest, longest = _lengths(num_steps, owner.min_length, owner.max_length)
    if num_patches > 1 and not num_patches * shortest <= num_steps <= num_patches * longest:
        raise InvalidParameterError(
            f"{num_patches} patches of {shortest} to {longest} steps cannot fill a look-back of "
            f"{num_steps} steps. Lower min_length, raise max_length, or change compression_rate.",
            parameter="max_length" if num_patches * longest < num_steps else "min_length",
        )


def _lengths(num_steps: int, shortest: int | None, longest: int | None) -> tuple[int, int]:
    return shortest or 1, min(longest or num_steps, num_steps)


def threshold_for(scores: Tensor, compression_rate: float, counted: Tensor | None = None) -> float:
    """Return the threshold that gives r points per patch on average over the rows of `scores`.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Scores of training windows. Step 0, which always starts a patch, does not count.
    compression_rate : float
        Points per patch r.
    counted : Tensor of bool, shape (N, T), optional
        True at steps that count, such as observed steps. Default: all steps count.

    Returns
    -------
    float
        Threshold that a share (T / r - 1) / (T - 1) of the scores after step 0 exceeds. With equal
        scores, the share may be smaller.
    """
    num_steps = scores.shape[1]
    if num_steps == 1:
        return math.inf
    later = scores[:, 1:] if counted is None else scores[:, 1:][counted[:, 1:]]
    share = (num_steps / compression_rate - 1) / (num_steps - 1)
    ordered = later.flatten().sort(descending=True).values
    number = round(max(0.0, share) * len(ordered))
    return float(ordered[min(number, len(ordered) - 1)]) if len(ordered) else math.inf


def standardise(scores: Tensor, counted: Tensor | None = None) -> Tensor:
    """Subtract a row's mean and divide by its mean absolute deviation; constant rows give 0.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Scores of the steps after the first.
    counted : Tensor of bool, shape (N, T), or None
        True at steps that count. Other steps get 0. None: all steps count.

    Notes
    -----
    About the same share of standardised scores exceeds a given threshold in every row, even in rows
    that training has not seen. The standard deviation, in contrast, would depend more on the few
    largest scores of a row.
    """
    if counted is None:
        centred = scores - scores.mean(1, keepdim=True)
        return centred / (centred.abs().mean(1, keepdim=True) + _SMALLEST_DEVIATION)
    weight = counted[:, 1:].to(scores.dtype)
    total = weight.sum(1, keepdim=True).clamp(min=1)
    centred = (scores - (scores * weight).sum(1, keepdim=True) / total) * weight
    deviation = centred.abs().sum(1, keepdim=True) / total
    return centred / (deviation + _SMALLEST_DEVIATION)


@torch.no_grad()
def row_scale(scores: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the offset and scale of each row's scores that let one threshold serve all rows.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Scores of the steps after the first.
    share : float
        Desired share of steps above the threshold.

    Returns
    -------
    offset, scale : Tensor of shape (N, 1)
        Terms of ``(scores - offset) / scale``.

    Notes
    -----
    The offset is halfway between two values of the row: the mean, and the quantile that the desired
    share of scores exceeds. The scale is the standard deviation. A threshold on plain scores keeps
    the rate only on data similar to the calibration data, and an offset at the quantile would give
    every row the same number of patches. With an offset halfway between, the number of patches can
    differ between rows, and the rate is nearly kept on other data. This rule is original to this
    package.
    """
    if scores.shape[1] == 0:
        return scores.new_zeros(len(scores), 1), scores.new_ones(len(scores), 1)
    mean = scores.mean(1, keepdim=True)
    variance = (scores - mean).square().mean(1, keepdim=True)
    own = scores.kthvalue(rank_above(share, scores.shape[1]), 1, keepdim=True).values
    return (mean + own) / 2, (variance + _SMALLEST_DEVIATION**2).sqrt()


def rank_above(share: float, number: int) -> int:
    """Return the rank, from 1, of the value that a share of `number` sorted values exceeds."""
    return min(max(round((1 - share) * number), 1), number)


@torch.no_grad()
def spaced_maxima(scores: Tensor, counted: Tensor | None, spacing: int) -> Tensor:
    """Choose the steps with the highest scores, no two of them within `spacing` steps.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Scores of the steps after the first. The first step is always chosen, and a step with NaN
        never.
    counted : Tensor of bool, shape (N, T), or None
        True at steps that can be chosen. None: all steps can be chosen.
    spacing : int
        Number of steps, at least 1, that are excluded on each side of a chosen step.

    Returns
    -------
    Tensor of bool, shape (N, T - 1)
        True at chosen steps. Ties go to the earlier step.

    Notes
    -----
    The method is greedy non-maximum suppression for many steps at a time. In each round, all steps
    that are the highest within the spacing are chosen, and their neighbours are excluded, until no
    step is left.
    """
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    left = ~scores.isnan() if counted is None else counted[:, 1:] & ~scores.isnan()
    left[:, :spacing] = False
    while bool(left.any()):
        high = scores.masked_fill(~left, -torch.inf)
        before, after = _highest_near(high, spacing)
        highest = left & (high > before) & (high >= after)
        chosen |= highest
        before, after = _highest_near(highest.to(scores.dtype), spacing)
        left &= ~(highest | (before > 0) | (after > 0))
    return chosen


def _highest_near(values: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return the highest of the `reach` values (N, T) before each step, and of those after it."""
    num_steps = values.shape[1]
    ends = F.pad(values, (reach, reach), value=-torch.inf)
    highest = F.max_pool1d(ends[:, None], reach, stride=1)[:, 0]
    return highest[:, :num_steps], highest[:, reach + 1 :]
