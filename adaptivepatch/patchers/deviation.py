"""Patches that start where a series changes fast for its recent size.

Reference: TimeSqueeze, arXiv:2603.11352 (2026).

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError, check_int
from adaptivepatch.nn.score_rules import cut_by_scores, threshold_for
from adaptivepatch.patchers.base import (
    Deterministic,
    RatePatcher,
    SegmentationDistribution,
    mean_in_groups,
    not_prepared,
)
from adaptivepatch.segmentation import Segmentation

_LEAST_POWER = 0.01  # a normalised row has the variance 1
_UNKNOWN = -1.0  # below every score
_TIE_BREAK = 1e-9  # far below the scores of two steps that differ


class _CausalTag:
    """The class tag `causal`: True for a patcher that only compares with a threshold."""

    def __get__(self, patcher: DeviationPatcher | None, owner: type) -> bool:
        return patcher is not None and patcher.budget == "target"


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
        When used, if a value is out of range or K patches of these lengths do not fill T steps.
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
    causal = _CausalTag()
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
        limits = {"min_length": self.min_length, "max_length": self.max_length}
        given = {name: value for name, value in limits.items() if value is not None}
        if given and self.budget != "exact":
            raise InvalidParameterError(
                f"Only the exact budget limits the lengths of patches. Got {given} with "
                f"budget={self.budget!r}. Leave them out, or use 'exact'."
            )
        check_int(self, **given)
        shortest, longest = self._lengths(num_steps)
        fit = num_patches * shortest <= num_steps <= num_patches * longest
        if num_patches > 1 and not fit:
            raise InvalidParameterError(
                f"{num_patches} patches of {shortest} to {longest} steps must fill the look-back. "
                f"It has {num_steps} steps. Lower 'min_length', raise 'max_length', or change "
                "'compression_rate'."
            )
        return num_patches

    def _lengths(self, num_steps: int) -> tuple[int, int]:
        return self.min_length or 1, min(self.max_length or num_steps, num_steps)

    # ------------------------------------------------------------------ segmentation

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Find the threshold of the budgets "min" and "target"."""
        self.num_patches(series.shape[1])
        if self.budget == "exact":
            return
        scores, known = _scores(series, observed, self.window)
        threshold = threshold_for(scores.float(), self.compression_rate, known)
        self.threshold.fill_(min(threshold, torch.finfo(torch.float32).max))

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Cut at the scores."""
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        scores = _group_scores(*_scores(series, observed, self.window), group)
        if self.budget == "exact":
            lengths = None
            if self.min_length is not None or self.max_length is not None:
                lengths = self._lengths(num_steps)
            even = Segmentation.even(num_steps, num_patches, device=series.device).boundary_mask
            scores = scores + _TIE_BREAK * even
            return Deterministic(cut_by_scores(scores, num_patches, "exact", lengths=lengths))
        if float(self.threshold) == _UNKNOWN:
            raise not_prepared(self)
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


def _group_scores(scores: Tensor, known: Tensor, group: Tensor | None) -> Tensor:
    """Average scores over the rows of a group that have one; where none has, it is lowest."""
    share = mean_in_groups(known.double(), group)
    average = mean_in_groups(scores, group) / share.clamp(min=1e-12)
    return torch.where(share > 0, average, _UNKNOWN)
