"""Patches that start where a step is large compared with the recent values of the series.

Reference: TimeSqueeze, arXiv:2603.11352 (2026).

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.distributions import Deterministic, SegmentationDistribution
from adaptivepatch.errors import check_int
from adaptivepatch.nn.placement.groups import mean_of_known
from adaptivepatch.nn.placement.score_rules import (
    check_lengths,
    cut_by_scores,
    cut_exactly,
    threshold_for,
)
from adaptivepatch.patchers.base import InstanceTag
from adaptivepatch.patchers.rate import RatePatcher, ThresholdParameters

_LEAST_POWER = 0.01  # a normalised row has variance 1
_UNKNOWN = -1.0  # below every score


class DeviationPatcher(RatePatcher):
    """Start patches where the change at a step is largest relative to the steps before it.

    Use it as the simplest adaptive rule, and as the control for a learned one: it needs no training
    and costs almost nothing.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; K = max(1, floor(T / r)) patches.
    budget : {"exact", "min", "target"}, default="exact"
        "exact": exactly K patches in every row. "min": at most K. "target": K on average over the
        training windows, without a limit for a single row.
    window : int, default=32
        Number of preceding steps that a change is compared with.
    min_length, max_length : int, optional
        Limits of the patch length, in time steps. They require the exact budget, and do not apply
        if K is 1.

    Attributes
    ----------
    causal : bool
        Whether the budget is "target". With the other budgets, a boundary depends on all steps of a
        look-back.
    threshold : Tensor
        Threshold found by `prepare`; -1 before that, and for the exact budget.

    Raises
    ------
    InvalidParameterError
        If a value is out of range, if K patches within the limits cannot fill T steps, or if a
        threshold is needed but was found for another rate or window. The parameters are checked
        when the patcher is used.
    NotFittedError
        If the budget is "min" or "target", and `prepare` has not been called.

    Notes
    -----
    The score of step t is ``|x_t - x_{t-1}| / sqrt(p_t)``, where p_t is the mean of ``x**2`` over
    the observed steps among the `window` steps before t. p_t is at least 0.01 (a hundredth of the
    variance of a normalised row), so that the first noise after a flat stretch does not count as a
    jump. All values are float64. The exact budget takes the K - 1 highest scores or, with limits,
    the K patches with the greatest total score; ties, as in a constant row, go to the starts of
    even patches. "min" and "target" compare scores with a threshold that gives r points per patch
    on average over the training windows. The threshold is found from single rows, even if the rows
    of a group share their patches.

    If x_t or x_{t-1} is a filled gap, step t has no score and starts a patch only if an exact
    budget has no scored step left. The rows of a group share the mean score of those rows that have
    one.

    TimeSqueeze has no public code; this patcher follows reviewers' descriptions of it. Deviations,
    and choices of this package:

    * the change is divided by the root of the local power, so that the score has no unit;
      TimeSqueeze compares the change with a multiple tau of the power itself;
    * the threshold follows from a compression rate instead of a chosen tau;
    * the length of the window, the floor of the power and the treatment of gaps are choices of this
      package;
    * TimeSqueeze always limits the patch size; here, `max_length` limits it, only with the exact
      budget;
    * tokens are embedded patches; TimeSqueeze takes the features of a point encoder at the
      boundaries. The time-aligned head replaces TimeSqueeze's unpatching.

    References
    ----------
    TimeSqueeze, arXiv:2603.11352, 2026.

    Examples
    --------
    >>> import torch
    >>> series = torch.tensor([[0.1, 0.0, 0.1, 0.0, 2.0, 2.1, 2.0, 2.1, -1.0, -1.1, -1.0, -1.1]])
    >>> DeviationPatcher(compression_rate=4)(series).mode.patch_lengths.tolist()
    [[4, 4, 4]]
    """

    name = "deviation"
    decides: ClassVar[str] = "the size of a step relative to the power of the values before it"
    rate_kept: ClassVar[str] = "exact, min or target"
    cost: ClassVar[str] = "O(T)"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = 'causal with `budget="target"`'
    causal = InstanceTag(lambda patcher: patcher.budget == "target")
    threshold_depends_on: ClassVar[ThresholdParameters] = {"compression_rate": None, "window": None}
    threshold: Tensor

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "exact",
        window: int = 32,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.window = window
        self.min_length = min_length
        self.max_length = max_length
        self.register_buffer("threshold", torch.tensor(_UNKNOWN))  # finite, so that it can be saved

    # ------------------------------------------------------------------ budget

    def num_patches(self, num_steps: int) -> int:
        """Check all parameters and return K."""
        num_patches = super().num_patches(num_steps)
        check_int(self, window=self.window)
        check_lengths(self, num_patches, num_steps)
        return num_patches

    # ------------------------------------------------------------------ segmentation

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Find the threshold for the budgets "min" and "target"."""
        self.num_patches(series.shape[1])
        if self.budget == "exact":
            return
        scores, known = _scores(series, observed, self.window)
        threshold = threshold_for(scores.float(), self.compression_rate, known)
        self.threshold.fill_(min(threshold, torch.finfo(torch.float32).max))
        self.mark_prepared()

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Start patches at the highest scores, or at scores above the threshold."""
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        scores = mean_of_known(*_scores(series, observed, self.window), group, _UNKNOWN)
        if self.budget == "exact":
            cut = cut_exactly(scores, num_patches, self.min_length, self.max_length)
            return Deterministic(cut)
        self.check_prepared()
        # In float32 like the threshold, so that an equal score does not exceed it by rounding.
        cut = cut_by_scores(scores.float(), num_patches, self.budget, float(self.threshold))
        return Deterministic(cut)


def _scores(series: Tensor, observed: Tensor | None, window: int) -> tuple[Tensor, Tensor]:
    """Return the score of every step, or 0, and whether the step has a score; both (N, T)."""
    values = series.double()
    seen = torch.ones_like(series, dtype=torch.bool) if observed is None else observed
    known = seen & F.pad(seen[:, :-1], (1, 0))
    change = F.pad(values.diff(dim=1), (1, 0)).abs()
    step = torch.arange(series.shape[1], device=series.device)
    first = (step - window).clamp(min=0)
    squares = F.pad((values.square() * seen).cumsum(1), (1, 0))
    count = F.pad(seen.long().cumsum(1), (1, 0))
    total = squares[:, step] - squares[:, first]
    power = total / (count[:, step] - count[:, first]).clamp(min=1)
    return change / power.clamp(min=_LEAST_POWER).sqrt() * known, known
