"""Boundaries: are they where the series surprises, do they stay, do two patchers agree on them.

Step 0 starts a patch whatever a patcher decides, so all measures are over the steps after it.

Tensor suffixes: N rows, T steps, M = T - 1 steps after the first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.segmentation import Segmentation


class Enrichment(NamedTuple):
    """Boundary enrichment of rows, and its null.

    Parameters
    ----------
    value : Tensor of shape (N,)
        B; 1 where boundaries know nothing of surprise. NaN for a row without boundaries.
    null_mean, null_std : Tensor of shape (N,)
        Of the same boundaries in all M rotations.
    """

    value: Tensor
    null_mean: Tensor
    null_std: Tensor

    @property
    def z(self) -> Tensor:
        """Standard score of each row, shape (N,); NaN where all rotations are equal."""
        spread = torch.where(self.null_std > 0, self.null_std, torch.nan)
        return (self.value - self.null_mean) / spread

    @property
    def z_of_mean(self) -> float:
        """Standard score of the mean over rows, as if they were independent; NaN if none counts."""
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
        N rows.
    surprise : Tensor of shape (N, T)
        Not negative; such as the squared error of a causal one-step forecast.

    Notes
    -----
    ``B = mean of h over boundaries / mean of h``. The null rotates the boundaries, which keeps
    their number and their distances but the one across the ends: correlation with h in all M
    rotations by the fast Fourier transform, in float64. Over all of them the mean is exactly 1.

    References
    ----------
    P. Neitemeier et al., "SOMBRERO", arXiv:2601.22805, 2026, which takes -log p of bytes for h;
    here a density's would have no sign, so that a ratio of means says nothing.
    """
    mask = segmentation.boundary_mask[:, 1:].double()
    later = surprise[:, 1:].double()
    count, level = mask.sum(1, keepdim=True), later.mean(1, keepdim=True)
    steps = mask.shape[1]
    spectrum = torch.fft.rfft(mask, dim=1).conj() * torch.fft.rfft(later, dim=1)
    total = torch.fft.irfft(spectrum, n=steps, dim=1)  # of boundaries moved by 0, 1, ... steps
    rotated = total / (count * level)  # NaN without boundaries, or without any surprise
    value = (mask * later).sum(1) / (count * level)[:, 0]
    return Enrichment(value, rotated.mean(1), _spread(rotated))


def _spread(values: Tensor) -> Tensor:
    """Return the standard deviation of each row, 0 where it is rounding."""
    std = values.std(1, correction=0)
    return torch.where(std > 1e-9 * values.abs().amax(1), std, torch.zeros_like(std))


def ranks(surprise: Tensor) -> Tensor:
    """Replace (N, T) by ranks among the steps after the first, from 0 to 1, ties by their mean.

    The largest surprise then counts as one step and not by its size. Step 0 becomes 0.
    """
    later = surprise[:, 1:].contiguous()
    ordered = later.sort(1).values
    below = torch.searchsorted(ordered, later)
    up_to = torch.searchsorted(ordered, later, right=True)
    rank = (below + up_to - 1).double() / 2 / max(1, later.shape[1] - 1)
    return torch.cat([torch.zeros_like(rank[:, :1]), rank], 1)


def churn(before: Segmentation, after: Segmentation, slide: int = 1) -> Tensor:
    """Return the share of boundaries that change when the look-back slides on, shape (N,).

    Parameters
    ----------
    before, after : Segmentation
        N rows each; those of `after` begin and end `slide` steps later.
    slide : int, default=1
        In time steps, less than T.

    Notes
    -----
    One minus the boundaries in both over those in either (Jaccard distance), over the steps that
    both look-backs hold and neither must start a patch at; 0 where there are none.
    """
    old = before.boundary_mask[:, slide + 1 :]
    new = after.boundary_mask[:, 1 : after.num_steps - slide]
    either = (old | new).sum(1).double()
    return 1 - torch.where(either > 0, (old & new).sum(1) / either.clamp(min=1), 1.0)


class Agreement(NamedTuple):
    """How many boundaries two patchers share, and how many they would by chance.

    Parameters
    ----------
    value : Tensor of shape (N,)
        Mean, over the two, of the share of boundaries that the other has, too. NaN for a row
        where one has none.
    chance : Tensor of shape (N,)
        The same in the mean over all M rotations of the boundaries of one or the other.
    """

    value: Tensor
    chance: Tensor

    @property
    def beyond_chance(self) -> float:
        """1 for the same boundaries, 0 for chance, over all rows; NaN where chance is certain."""
        known = self.value.isfinite()
        value, chance = self.value[known].sum(), self.chance[known].sum()
        room = float(known.sum() - chance)
        return float(value - chance) / room if room > 1e-9 else float("nan")


def agreement(one: Segmentation, other: Segmentation, tolerance: int = 0) -> Agreement:
    """Compare the boundaries of two patchers, or of one trained twice, in the same look-backs.

    Parameters
    ----------
    one, other : Segmentation
        N rows of T steps each.
    tolerance : int, default=0
        Steps by which boundaries that count as the same may differ.

    Notes
    -----
    A boundary that may be anywhere meets one of `other` with a probability of the share of steps
    that these reach, which is the mean over rotations.
    """
    marks = [segmentation.boundary_mask[:, 1:].double() for segmentation in (one, other)]
    width = 2 * tolerance + 1
    reached = [F.max_pool1d(mark[:, None], width, 1, tolerance)[:, 0] for mark in marks]
    met = [(mark * near).sum(1) for mark, near in zip(marks, reached[::-1], strict=True)]
    value = met[0] / marks[0].sum(1) + met[1] / marks[1].sum(1)
    return Agreement(value / 2, (reached[0] + reached[1]).mean(1) / 2)
