"""The sentence of a comparison and the list of its controls, from intervals that are given.

The rules are those of ``benchmarks/README.md``: a claim takes five seeds, an interval on one side
of 0 against the best fixed arm, and the controls that are missing are named.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.bench.statistics import Interval
from adaptivepatch.patchers import PATCHERS

Role = Literal["baseline candidate", "challenger", "control"]

MIN_SEEDS = 5
"""Seeds an arm needs for a verdict; fewer are exploratory."""

EQUAL_TOKENS = 0.02
"""Relative difference of mean tokens per window up to which two arms are compared as equal."""


class ArmRuns(NamedTuple):
    """All fits of one arm; arrays have one entry per seed."""

    name: str
    role: Role
    patcher: str
    is_trainable: bool
    total: NDArray[np.float64]  # (seeds, windows): sums of losses
    tokens: float
    parameters: int
    validation_error: NDArray[np.float64]
    best_step: NDArray[np.int64]
    fit_seconds: NDArray[np.float64]
    predict_seconds: NDArray[np.float64]


def of_equal_tokens(
    wanted: ArmRuns, arms: list[ArmRuns], role: Role = "baseline candidate"
) -> ArmRuns | None:
    """Return the arm of a role whose tokens per window are closest, if they count as equal."""
    others = [arm for arm in arms if arm.role == role and arm is not wanted]
    if not others:
        return None
    closest = min(others, key=lambda arm: abs(arm.tokens - wanted.tokens))
    return closest if abs(closest.tokens / wanted.tokens - 1) <= EQUAL_TOKENS else None


def sentence(
    headline: ArmRuns,
    baseline: ArmRuns,
    arms: list[ArmRuns],
    against: dict[str, Interval],
    at_equal: dict[str, Interval],
    equal: dict[str, ArmRuns | None],
    settings: dict[str, Any],
) -> str:
    """Say what the headline's intervals say, and nothing more."""
    interval, name = against[headline.name], headline.name
    cost = np.median(headline.fit_seconds) / max(float(np.median(baseline.fit_seconds)), 1e-9)
    metric, count = settings["metric"], len(settings["seeds"])
    twin = equal[name]
    of_equal = " and of as many tokens" if twin is baseline else ""
    base = f"{baseline.name}, the best fixed arm on validation{of_equal}"
    if count < MIN_SEEDS:
        text = (
            f"Exploratory, as {count} seed(s) are fewer than {MIN_SEEDS}: {metric} of {name} is "
            f"{_change(interval.difference)} that of {base}, {_bounds(interval)} at {cost:.1f} "
            "times the cost"
        )
    elif interval.verdict == "no evidence":
        text = (
            f"No evidence that {name} helps: its {metric} is {_change(interval.difference)} that "
            f"of {base}, {_bounds(interval)} at {cost:.1f} times the cost"
        )
    else:
        helps = interval.verdict == "helps"
        bounds = sorted(100 * abs(bound) for bound in (interval.low, interval.high))
        text = (
            f"{name} {interval.verdict} by {100 * abs(interval.difference):.1f} % "
            f"[{bounds[0]:.1f} %, {bounds[1]:.1f} %] at {cost:.1f} times the cost: its {metric} is "
            f"{'lower' if helps else 'higher'} than that of {base}"
        )
    if twin is not None and twin is not baseline:
        same = at_equal[name]
        text += f"; {_change(same.difference)} {twin.name}, of as many tokens {_bounds(same)}"
    random = _random_control(headline, arms)
    if random is not None and count >= MIN_SEEDS and against[random.name].verdict == "helps":
        text += (
            f"; but {random.name}, the control, beats {baseline.name} too, so the gain is not "
            "specific to where boundaries are placed"
        )
    return text + "."


def _random_control(headline: ArmRuns, arms: list[ArmRuns]) -> ArmRuns | None:
    """Return the control of as many tokens as the headline, else any."""
    controls = [arm for arm in arms if arm.role == "control"]
    return of_equal_tokens(headline, arms, "control") or next(iter(controls), None)


def _change(difference: float) -> str:
    return f"{100 * abs(difference):.1f} % {'below' if difference < 0 else 'above'}"


def _bounds(interval: Interval) -> str:
    """Return an interval of the change in error, in percent."""
    if np.isnan(interval.low):
        return "[no interval]"
    return f"[{100 * interval.low:+.1f} %, {100 * interval.high:+.1f} %]"


def controls_of(headline: ArmRuns, arms: list[ArmRuns], twin: ArmRuns | None) -> dict[str, str]:
    """Say which controls of a fair comparison were run, and why others were not."""
    random = of_equal_tokens(headline, arms, "control")
    learned = [arm.name for arm in arms if arm.is_trainable]
    left_out = _absence(exists=True)
    candidates = [arm.name for arm in arms if arm.role == "baseline candidate"]
    return {
        "fixed patches, best length on validation": f"run: {', '.join(candidates)}",
        "fixed patches of as many tokens": left_out if twin is None else f"run: {twin.name}",
        "random boundaries of as many tokens": left_out
        if random is None
        else f"run: {random.name}",
        "fixed patches at equal training cost, halo and phase tuned": (
            "missing: not done by this command; see the cost columns"
        ),
        "learned patchers": (
            f"run: {', '.join(learned)}"
            if learned
            else _absence(any(p.trainable for p in PATCHERS.values()))
        ),
        "boundaries at entropy quantiles, of as many tokens": _absence("entropy" in PATCHERS),
        "a policy frozen at its prior": _absence(bool(learned)),
    }


def _absence(exists: bool) -> str:
    return f"missing: {'not among the arms' if exists else 'does not exist in this version'}"
