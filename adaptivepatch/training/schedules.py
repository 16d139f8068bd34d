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


def _patchtst_as_run(progress: float, epochs: float) -> float:
    """Run the first epoch at 1/25, then follow "patchtst": what PatchTST's code does.

    The code makes a one-cycle scheduler, which sets the rate to its initial value, 1/25 of the
    base, and the first beta of Adam to 0.95. It never steps this scheduler. After the first epoch
    it sets the rate of "patchtst", and the beta stays.
    """
    return 1 / 25 if epochs < 1 else _patchtst(progress, epochs)


SCHEDULES: dict[str, Schedule] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "patchtst": _patchtst,
    "patchtst_as_run": _patchtst_as_run,
}


def make_schedule(name: str) -> Schedule:
    """Return a schedule by its name in `SCHEDULES`.

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


def first_beta(name: str) -> float:
    """Return the first beta of Adam that goes with a schedule: 0.9 unless the schedule states one.

    This beta is the decay of Adam's running mean of gradients.
    """
    return 0.95 if name == "patchtst_as_run" else 0.9
