"""`RatePatcher`: base class of patchers that keep a compression rate, or aim at it by a threshold.

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from adaptivepatch.errors import InvalidParameterError, check_choice, not_prepared
from adaptivepatch.nn.placement.score_rules import BUDGETS
from adaptivepatch.patchers.base import Patcher, rate_capacity
from adaptivepatch.segmentation import Segmentation

ThresholdParameters = Mapping[str, tuple[str, ...] | None]


class RatePatcher(Patcher):
    """Base class of patchers with a compression rate that they keep, or only aim at.

    A subclass has the constructor arguments `compression_rate` and `budget`. If its `prepare` finds
    a threshold for its scores, the subclass calls `mark_prepared` at the end of `prepare`, and
    `check_prepared` before each use of the threshold, because a threshold is valid only for the
    rate that it was found for.

    Attributes
    ----------
    compression_rate : float
        Points per patch r; K = max(1, floor(T / r)) patches.
    budget : {"exact", "min", "target"}
        "exact": exactly K patches in every row. "min": at most K. "target": K only on average over
        the training data, without a limit for a single row.
    threshold_depends_on : mapping of str to tuple or None
        Class attribute: parameters that the threshold depends on, each with its possible values, or
        None if the parameter is a number.
    prepared_for : Tensor
        Values of these parameters at the last `prepare`, with a choice stored as its index. Zeros
        before the first `prepare`.
    """

    compression_rate: float
    budget: str
    threshold_depends_on: ClassVar[ThresholdParameters] = {"compression_rate": None}
    prepared_for: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prepared_for", torch.zeros(len(self.threshold_depends_on)))

    def num_patches(self, num_steps: int) -> int:
        """Return K, the number of patches for a look-back of T steps at this rate."""
        check_choice(self, BUDGETS, budget=self.budget)
        return rate_capacity(self, num_steps, self.compression_rate)

    def boundary_share(self, num_steps: int) -> float:
        """Return the wanted share of boundaries among the steps after the first, in (0, 1).

        The number of boundaries stays half a boundary away from none and from all. A "target" of T
        or more points per patch thus means 1.5 patches per row, because nothing can be learned at
        share 0.
        """
        wanted, most = num_steps / self.compression_rate - 1, max(1, num_steps - 1)
        return min(max(wanted, 0.5), most - 0.5) / most

    def capacity(self, num_steps: int) -> int:
        """Return K, or T if the budget sets no limit."""
        num_patches = self.num_patches(num_steps)
        return num_steps if self.budget == "target" else num_patches

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return K even patches."""
        return Segmentation.even(num_steps, self.num_patches(num_steps))

    def nominal_length(self, num_steps: int) -> int:
        """Return the mean patch length."""
        return max(1, round(num_steps / self.num_patches(num_steps)))

    # ------------------------------------------------------------------ threshold found in data

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has found a threshold."""
        return bool(self.prepared_for[0] > 0)  # a rate is at least 1

    def mark_prepared(self) -> None:
        """Record the parameter values that the threshold was found for."""
        self.prepared_for.copy_(self._current_values())

    def check_prepared(self) -> None:
        """Raise an error unless a threshold was found for the current parameters.

        Raises
        ------
        NotFittedError
            If `prepare` has not been called.
        InvalidParameterError
            If a parameter of `threshold_depends_on` has changed since then.
        """
        found, asked = self.prepared_for.cpu(), self._current_values()
        if torch.equal(found, asked.to(found.dtype)):  # both rounded to the same dtype
            return
        if not found.any():
            raise not_prepared(self)
        other = "" if self.budget == "exact" else ", or use budget='exact'"
        changed = int((found != asked.to(found.dtype)).nonzero()[0])
        raise InvalidParameterError(
            f"The threshold of {type(self).__name__} was found for {self._as_text(found)}, but the "
            f"patcher is used with {self._as_text(asked)}. Call prepare again{other}. A fit "
            "without init calls prepare unless the patcher is frozen.",
            parameter=list(self.threshold_depends_on)[changed],
        )

    def _current_values(self) -> Tensor:
        values = [
            getattr(self, name) if choices is None else choices.index(getattr(self, name))
            for name, choices in self.threshold_depends_on.items()
        ]
        return torch.tensor(values, dtype=torch.float32)

    def _as_text(self, values: Tensor) -> str:
        """Return values of the parameters as text."""
        pairs = zip(self.threshold_depends_on.items(), values.tolist(), strict=True)
        return ", ".join(
            f"{name}={value:g}" if choices is None else f"{name}={choices[int(value)]!r}"
            for (name, choices), value in pairs
        )
