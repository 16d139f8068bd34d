"""From a score of every step to patches, under the three kinds of budget.

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
_TIE_BREAK = 1e-9  # far below the scores of two steps that differ

BUDGETS = ("exact", "min", "target")
"""Exactly K patches a row, at most K, or only on average over the data a threshold comes from."""


def cut_by_scores(
    scores: Tensor, num_patches: int, budget: str, threshold: float | None = None
) -> Segmentation:
    """Start patches where the score is high.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Larger means a likelier start; that of step 0 is not read. Finite.
    num_patches : int
        K, from 1 to T.
    budget : {"exact", "min", "target"}
        As `cut_exactly` does; or where the K - 1 highest scores (of equal ones the earlier) are
        above `threshold`; or where any score is.
    threshold : float, optional
        For "min" and "target".

    Returns
    -------
    Segmentation
        Of as many slots as K, or for "target" as the longest row has patches.
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
    """Start exactly K patches at the highest scores; equal ones prefer even patches.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Larger means a likelier start; that of step 0 is not read. Finite.
    num_patches : int
        K, from 1 to T.
    min_length, max_length : int, optional
        Limits of a patch, as `check_lengths` allows them: the K patches within them whose starts
        have the greatest total score. One patch alone has no limits.
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
    """Raise `InvalidParameterError` unless K patches can keep the owner's limits of length.

    One patch alone is the whole look-back, whatever they are.

    Parameters
    ----------
    owner : object
        With `budget`, `min_length` and `max_length`.
    num_patches, num_steps : int
        K and T.
    """
    limits = {"min_length": owner.min_length, "max_length": owner.max_length}
    given = {name: value for name, value in limits.items() if value is not None}
    if given and owner.budget != "exact":
        raise InvalidParameterError(
            f"Only the exact budget limits the lengths of patches. Got {given} with "
            f"budget={owner.budget!r}. Leave them out, or use 'exact'."
        )
    check_int(owner, **given)
    shortest, longest = _lengths(num_steps, owner.min_length, owner.max_length)
    if num_patches > 1 and not num_patches * shortest <= num_steps <= num_patches * longest:
        raise InvalidParameterError(
            f"{num_patches} patches of {shortest} to {longest} steps must fill the look-back. "
            f"It has {num_steps} steps. Lower 'min_length', raise 'max_length', or change "
            "'compression_rate'."
        )


def _lengths(num_steps: int, shortest: int | None, longest: int | None) -> tuple[int, int]:
    return shortest or 1, min(longest or num_steps, num_steps)


def threshold_for(scores: Tensor, compression_rate: float, counted: Tensor | None = None) -> float:
    """Return the threshold that leaves r points a patch on average over these scores.

    Parameters
    ----------
    scores : Tensor of shape (N, T)
        Of training windows; step 0, which always starts a patch, does not count.
    compression_rate : float
        Points per patch r.
    counted : Tensor of bool, shape (N, T), optional
        Steps that count: observed ones.

    Returns
    -------
    float
        Of the steps after the first, a share of (T / r - 1) / (T - 1) scores higher; where scores
        are equal, less than that.
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
    """Subtract the mean of a row, divide by its mean absolute deviation; constant rows give 0.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Of the steps after the first.
    counted : Tensor of bool, shape (N, T), or None
        Steps to measure; others get 0. None: all.

    Notes
    -----
    A threshold on such scores leaves about the same share above it in every row, also of data that
    training has not seen. The standard deviation would depend more on a row's few largest scores.
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
    """Return what a row's scores are measured by, so that one threshold serves all rows.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Of the steps after the first.
    share : float
        Wanted share of steps above the threshold.

    Returns
    -------
    offset, scale : Tensor of shape (N, 1)
        For ``(scores - offset) / scale``.

    Notes
    -----
    The offset lies halfway between the mean and the value that exactly that share of the row
    exceeds, the scale is the deviation. A threshold on plain scores keeps a rate only on data like
    those it was found on; at the row's own quantile every row has equally many. Halfway, rows still
    differ, and other data have nearly the same rate. Own construction.
    """
    if scores.shape[1] == 0:
        return scores.new_zeros(len(scores), 1), scores.new_ones(len(scores), 1)
    mean = scores.mean(1, keepdim=True)
    variance = (scores - mean).square().mean(1, keepdim=True)
    own = scores.kthvalue(rank_above(share, scores.shape[1]), 1, keepdim=True).values
    return (mean + own) / 2, (variance + _SMALLEST_DEVIATION**2).sqrt()


def rank_above(share: float, number: int) -> int:
    """Return the rank, from 1, of the value that a share of so many numbers is greater than."""
    return min(max(round((1 - share) * number), 1), number)


@torch.no_grad()
def spaced_maxima(scores: Tensor, counted: Tensor | None, spacing: int) -> Tensor:
    """Return which steps stay when every chosen one rules out those near it, highest first.

    Parameters
    ----------
    scores : Tensor of shape (N, T - 1)
        Of the steps after the first, which is always chosen. None that is not a number is chosen.
    counted : Tensor of bool, shape (N, T), or None
        Steps that can be chosen. None: all.
    spacing : int
        At least 1; so many steps on each side of a chosen one are ruled out.

    Returns
    -------
    Tensor of bool, shape (N, T - 1)
        Of equal scores the earlier step is chosen.

    Notes
    -----
    Greedy non-maximum suppression, many steps at a time: what is highest within reach is chosen,
    until nothing is left.
    """
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    left = ~scores.isnan() if counted is None else counted[:, 1:] & ~scores.isnan()
    left[:, :spacing] = False
    while bool(left.any()):
        high = scores.masked_fill(~left, -torch.inf)
        before, behind = _highest_near(high, spacing)
        highest = left & (high > before) & (high >= behind)
        chosen |= highest
        before, behind = _highest_near(highest.to(scores.dtype), spacing)
        left &= ~(highest | (before > 0) | (behind > 0))
    return chosen


def _highest_near(values: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Return the highest of so many values (N, T) before each step, and of as many behind it."""
    num_steps = values.shape[1]
    ends = F.pad(values, (reach, reach), value=-torch.inf)
    highest = F.max_pool1d(ends[:, None], reach, stride=1)[:, 0]
    return highest[:, :num_steps], highest[:, reach + 1 :]
