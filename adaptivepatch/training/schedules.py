"""Learning-rate schedules: a factor of the base rate as a function of training progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from adaptivepatch.errors import InvalidParameterError, suggest

Schedule = Callable[[float, float], float]
"""Maps (progress in [0, 1], epochs done) to a factor of the base learning rate."""


def _constant(_progress: float, _epochs: float) -> float:
    return 1.0


def _cosine(progress: float, _epochs: float) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(progress: float, _epochs: float) -> float:
    """Rise from 1/25 to 1 over the first 30 %, then fall to 1e-4, both along a cosine."""
    if progress < 0.3:
        return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * progress / 0.3)) / 2
    return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * (progress - 0.3) / 0.7)) / 2


def _patchtst(_progress: float, epochs: float) -> float:
    """Stay at 1 for four epochs, then lose a tenth per epoch: PatchTST's "type3"."""
    return 0.9 ** max(0, math.floor(epochs) - 3)


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "patchtst": _patchtst,
}


def make_schedule(name: str) -> Schedule:
    """Return a schedule by name: "constant", "cosine", "one_cycle" or "patchtst".

    Raises
    ------
    InvalidParameterError
        If the name is unknown.
    """
    if not isinstance(name, str) or name not in SCHEDULES:
        raise InvalidParameterError(
            f"Unknown schedule {name!r}. Available: {sorted(SCHEDULES)}.{suggest(name, SCHEDULES)}",
            parameter="schedule",
        )
    return SCHEDULES[name]
