"""`RatePatcher`: a compression rate that is kept to, or aimed at by a level found in data.

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

LevelOf = Mapping[str, tuple[str, ...] | None]


class RatePatcher(Patcher):
    """Base class of patchers with a compression rate that they keep to, or only aim at.

    A subclass has the constructor arguments `compression_rate` and `budget`. One whose scores are
    compared with a level that `prepare` finds says so (`mark_prepared`), and before it uses the
    level makes sure of it (`check_prepared`): a level serves the rate that it was found for.

    Attributes
    ----------
    compression_rate : float
        Points per patch r; K = max(1, floor(T / r)) patches.
    budget : {"exact", "min", "target"}
        Exactly K patches in every row, at most K, or no limit: K only on average over the data that
        it was trained on.
    level_of : mapping of str to tuple or None
        Of the class: parameters that a level depends on, and what each may be, None for a number.
    prepared_for : Tensor
        Values of these parameters (places, where there is a choice) at the last `prepare`; zeros
        before.
    """

    compression_rate: float
    budget: str
    level_of: ClassVar[LevelOf] = {"compression_rate": None}
    prepared_for: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prepared_for", torch.zeros(len(self.level_of)))

    def num_patches(self, num_steps: int) -> int:
        """Return K, the patches of a look-back of T steps that the rate asks for."""
        check_choice(self, BUDGETS, budget=self.budget)
        return rate_capacity(self, num_steps, self.compression_rate)

    def boundary_share(self, num_steps: int) -> float:
        """Return the wanted share of boundaries among the steps after the first, in (0, 1).

        Half a boundary from 0 and from all of them: a "target" of T or more points a patch leaves
        one and a half patches a row, as nothing could be learned from none.
        """
        wanted, most = num_steps / self.compression_rate - 1, max(1, num_steps - 1)
        return min(max(wanted, 0.5), most - 0.5) / most

    def capacity(self, num_steps: int) -> int:
        """Return K, or without a limit T."""
        num_patches = self.num_patches(num_steps)
        return num_steps if self.budget == "target" else num_patches

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return K even patches."""
        return Segmentation.even(num_steps, self.num_patches(num_steps))

    def nominal_length(self, num_steps: int) -> int:
        """Return the mean patch length."""
        return max(1, round(num_steps / self.num_patches(num_steps)))

    # ------------------------------------------------------------------ a level found in data

    @property
    def is_prepared(self) -> bool:
        """Whether a level was found."""
        return bool(self.prepared_for[0] > 0)  # a rate is at least 1

    def mark_prepared(self) -> None:
        """Note what the level belongs to."""
        self.prepared_for.copy_(self._asked_for())

    def check_prepared(self) -> None:
        """Refuse to use a level that was not found yet, or was found for something else.

        Raises
        ------
        NotFittedError
            If `prepare` has not been called.
        InvalidParameterError
            If a parameter of `level_of` has changed since.
        """
        found, asked = self.prepared_for.cpu(), self._asked_for()
        if torch.equal(found, asked.to(found.dtype)):  # rounded alike
            return
        if not found.any():
            raise not_prepared(self)
        other = "" if self.budget == "exact" else ", or use budget='exact'"
        raise InvalidParameterError(
            f"{type(self).__name__} starts patches above a level, which serves what it was found "
            f"for: {self._told(found)}. Got {self._told(asked)}. Call prepare again, as a fit "
            f"without init does unless the patcher is frozen{other}."
        )

    def _asked_for(self) -> Tensor:
        values = [
            getattr(self, name) if choices is None else choices.index(getattr(self, name))
            for name, choices in self.level_of.items()
        ]
        return torch.tensor(values, dtype=torch.float32)

    def _told(self, values: Tensor) -> str:
        """Return values of the parameters as text."""
        pairs = zip(self.level_of.items(), values.tolist(), strict=True)
        return ", ".join(
            f"{name}={value:g}" if choices is None else f"{name}={choices[int(value)]!r}"
            for (name, choices), value in pairs
        )
