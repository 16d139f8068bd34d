"""Patches that start where a series changes fast for its recent size.

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
from adaptivepatch.patchers.rate import LevelOf, RatePatcher

_LEAST_POWER = 0.01  # a normalised row has the variance 1
_UNKNOWN = -1.0  # below every score


class DeviationPatcher(RatePatcher):
    """Patches that start where a step changes most, compared with the steps before it.

    Use it as the simplest adaptive rule, and as the control for a learned one: nothing is trained,
    and it costs next to nothing.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; K = max(1, floor(T / r)) patches.
    budget : {"exact", "min", "target"}, default="exact"
        Exactly K patches in every row; at most K; or K on average over the training windows,
        without a limit for a row.
    window : int, default=32
        Steps before a step that its change is compared with.
    min_length, max_length : int, optional
        Limits of a patch, in time steps; for the exact budget only. Where K is 1 they do not count.

    Attributes
    ----------
    causal : bool
        Whether the budget is "target". The two others compare the steps of a look-back.
    threshold : Tensor
        Threshold found by `prepare`; -1 before, and for the exact budget.

    Raises
    ------
    InvalidParameterError
        When used, if a value is out of range or K patches of these lengths do not fill T steps, or
        if a threshold is needed that was found for another rate or window.
    NotFittedError
        If the budget is "min" or "target", and `prepare` has not been called.

    Notes
    -----
    The score of step t is ``|x_t - x_{t-1}| / sqrt(p_t)``, where p_t is the mean of ``x**2`` over
    the observed ones of the `window` steps before t, at least 0.01 (a hundredth of the variance of
    a normalised row), so that the first noise after a flat stretch does not count as a jump. All in
    float64. The exact budget takes the K - 1 highest scores, or with limits the K patches of the
    greatest total; where scores are equal, as in a constant row, those that start an even patch.
    "min" and "target" compare with a threshold that leaves r points a patch on average over the
    training windows; it is found from single rows, also where a group shares its patches.

    Where x_t or x_{t-1} is a filled gap there is no score: such a step starts a patch only where an
    exact budget is not used up by others. The rows of a group use the mean over those with a score.

    TimeSqueeze has no public code; descriptions of it by reviewers were at hand. Deviations and own
    choices:

    * the change is divided by the root of the local power, so that the score has no unit, in place
      of a comparison with a multiple tau of the power itself;
    * the threshold follows from a compression rate, in place of a chosen tau;
    * the window's length, the floor of the power, and gaps;
    * TimeSqueeze limits the patch size always, here `max_length` does in the exact budget;
    * tokens are embedded patches, in place of features that an encoder of all points has at the
      boundaries; the head replaces its unpatching.

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
    causal = InstanceTag(lambda patcher: patcher.budget == "target")
    level_of: ClassVar[LevelOf] = {"compression_rate": None, "window": None}
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
        self.register_buffer("threshold", torch.tensor(_UNKNOWN))  # a saved number must be finite

    # ------------------------------------------------------------------ budget

    def num_patches(self, num_steps: int) -> int:
        """Return K, after a check of all parameters."""
        num_patches = super().num_patches(num_steps)
        check_int(self, window=self.window)
        check_lengths(self, num_patches, num_steps)
        return num_patches

    # ------------------------------------------------------------------ segmentation

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Find the threshold of the budgets "min" and "target"."""
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
        """Cut at the scores."""
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        scores = mean_of_known(*_scores(series, observed, self.window), group, _UNKNOWN)
        if self.budget == "exact":
            cut = cut_exactly(scores, num_patches, self.min_length, self.max_length)
            return Deterministic(cut)
        self.check_prepared()
        # float32 as the threshold is: what equals it in float64 must not be above it.
        cut = cut_by_scores(scores.float(), num_patches, self.budget, float(self.threshold))
        return Deterministic(cut)


def _scores(series: Tensor, observed: Tensor | None, window: int) -> tuple[Tensor, Tensor]:
    """Return the score of every step and whether it has one, (N, T); without, it is 0."""
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
