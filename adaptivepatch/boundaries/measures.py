"""Measures of boundaries: enrichment with surprise, churn, and agreement of two patchers.

Step 0 always starts a patch, so all measures use only the later steps.

Tensor suffixes: N rows, T steps, M = T - 1 steps after the first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.segmentation import Segmentation


class Enrichment(NamedTuple):
    """Boundary enrichment of rows, and its null distribution.

    Parameters
    ----------
    value : Tensor of shape (N,)
        Enrichment B; 1 if boundaries are unrelated to surprise, NaN for a row without boundaries.
    null_mean, null_std : Tensor of shape (N,)
        Mean and standard deviation of B over all M circular shifts of the boundaries.
    """

    value: Tensor
    null_mean: Tensor
    null_std: Tensor

    @property
    def z(self) -> Tensor:
        """Standard score of each row, shape (N,); NaN if all circular shifts give the same B."""
        spread = torch.where(self.null_std > 0, self.null_std, torch.nan)
        return (self.value - self.null_mean) / spread

    @property
    def z_of_mean(self) -> float:
        """Standard score of the mean over independent rows; NaN if no row has a score."""
        known = self.value.isfinite() & (self.null_std > 0)
        excess = (self.value - self.null_mean)[known].sum()
        return (
            float(excess / self.null_std[known].square().sum().sqrt()) if known.any() else torch.nan
        )


def enrichment(segmentation: Segmentation, surprise: Tensor) -> Enrichment:
    """Compare the surprise at boundaries with the surprise everywhere.

    Parameters
    ----------
    segmentation : Segmentation
        Segmentation of N rows.
    surprise : Tensor of shape (N, T)
        Non-negative surprise h, such as the squared error of a causal one-step forecast.

    Returns
    -------
    Enrichment
        Enrichment B of each row, and its null distribution.

    Notes
    -----
    ``B = mean of h over boundaries / mean of h``. The null distribution shifts the boundaries
    circularly, which keeps their number and all distances between them except the distance across
    the ends. A fast Fourier transform in float64 computes the correlation with h for all M shifts.
    The mean of B over all shifts is exactly 1.

    References
    ----------
    P. Neitemeier et al., "SOMBRERO", arXiv:2601.22805, 2026. Deviation: in that paper, h is -log p
    of bytes. For real values, -log p of a density may be negative, and a ratio of means would be
    meaningless.
    """
    mask = segmentation.boundary_mask[:, 1:].double()
    later = surprise[:, 1:].double()
    count, mean = mask.sum(1, keepdim=True), later.mean(1, keepdim=True)
    steps = mask.shape[1]
    spectrum = torch.fft.rfft(mask, dim=1).conj() * torch.fft.rfft(later, dim=1)
    total = torch.fft.irfft(spectrum, n=steps, dim=1)  # for boundaries shifted by 0, 1, ... steps
    rotated = total / (count * mean)  # NaN without boundaries or without surprise
    value = (mask * later).sum(1) / (count * mean)[:, 0]
    return Enrichment(value, rotated.mean(1), _spread(rotated))


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation of each row; values within rounding error become 0."""
    std = values.std(1, correction=0)
    return torch.where(std > 1e-9 * values.abs().amax(1), std, torch.zeros_like(std))


def ranks(surprise: Tensor) -> Tensor:
    """Return the rank of each step's surprise among the steps after the first, from 0 to 1.

    The shape is (N, T). Ties get their mean rank, and step 0 gets 0. With ranks, the size of the
    largest surprise does not matter.
    """
    later = surprise[:, 1:].contiguous()
    ordered = later.sort(1).values
    below = torch.searchsorted(ordered, later)
    up_to = torch.searchsorted(ordered, later, right=True)
    rank = (below + up_to - 1).double() / 2 / max(1, later.shape[1] - 1)
    return torch.cat([torch.zeros_like(rank[:, :1]), rank], 1)


def churn(before: Segmentation, after: Segmentation, slide: int = 1) -> Tensor:
    """Return the share of boundaries that change when the look-back slides, shape (N,).

    Parameters
    ----------
    before, after : Segmentation
        Segmentations of N rows each; look-backs of `after` begin and end `slide` steps later.
    slide : int, default=1
        Distance between the look-backs in time steps, less than T.

    Notes
    -----
    The share is a Jaccard distance: one minus the number of boundaries in both segmentations
    divided by the number in at least one. A step counts if both look-backs contain it and it is not
    the first step of either look-back. Rows without such boundaries get 0.
    """
    old = before.boundary_mask[:, slide + 1 :]
    new = after.boundary_mask[:, 1 : after.num_steps - slide]
    either = (old | new).sum(1).double()
    return 1 - torch.where(either > 0, (old & new).sum(1) / either.clamp(min=1), 1.0)


class Agreement(NamedTuple):
    """Share of boundaries that two patchers have in common, and the share expected by chance.

    Parameters
    ----------
    value : Tensor of shape (N,)
        Share of one patcher's boundaries that the other patcher has too, averaged over both
        patchers. NaN for a row in which one of the patchers has no boundaries.
    chance : Tensor of shape (N,)
        Mean of this share over all circular shifts of one patcher's boundaries.
    """

    value: Tensor
    chance: Tensor

    @property
    def beyond_chance(self) -> float:
        """Agreement over all rows: 1 for equal boundaries, 0 as by chance; NaN if chance is 1."""
        known = self.value.isfinite()
        value, chance = self.value[known].sum(), self.chance[known].sum()
        room = float(known.sum() - chance)
        return float(value - chance) / room if room > 1e-9 else float("nan")


def agreement(one: Segmentation, other: Segmentation, tolerance: int = 0) -> Agreement:
    """Compare the boundaries of two patchers, or of one patcher trained twice, in equal rows.

    Parameters
    ----------
    one, other : Segmentation
        Segmentations of N rows of T steps each.
    tolerance : int, default=0
        Largest distance between matching boundaries, in time steps.

    Returns
    -------
    Agreement
        Share of matching boundaries in each row, and the share expected by chance.

    Notes
    -----
    The chance is the share of steps within `tolerance` of a boundary of `other`. It is the
    probability that a boundary at a random step matches, and also the mean over all circular
    shifts. Both results are averaged with `one` and `other` exchanged.
    """
    marks = [segmentation.boundary_mask[:, 1:].double() for segmentation in (one, other)]
    width = 2 * tolerance + 1
    reached = [F.max_pool1d(mark[:, None], width, 1, tolerance)[:, 0] for mark in marks]
    met = [(mark * near).sum(1) for mark, near in zip(marks, reached[::-1], strict=True)]
    value = met[0] / marks[0].sum(1) + met[1] / marks[1].sum(1)
    return Agreement(value / 2, (reached[0] + reached[1]).mean(1) / 2)
