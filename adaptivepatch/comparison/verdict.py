"""The sentence of a comparison and the list of its controls, from intervals that are given.

The rules are those of ``benchmarks/README.md``: a claim takes five seeds, an interval on one side
of 0 against the best fixed arm, and the controls that are missing are named.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.comparison.statistics import Interval
from adaptivepatch.registry import PATCHERS

Role = Literal["baseline candidate", "challenger", "control"]

MIN_SEEDS = 5
"""Seeds an arm needs for a verdict; fewer are exploratory."""

_UNLEARNED = {
    "reinpatch": ("the same policy without learning", "the sampling noise"),
    "dynamic_chunking": ("the same network with even patches", "the network"),
}
"""By kind: what a control that learns no boundaries is, and what its gain is due to."""
_OF_ANY_KIND = ("the same patcher without learned boundaries", "something else than learning them")

EQUAL_TOKENS = 0.02
"""Relative difference of mean tokens per window up to which two arms are compared as equal."""


class ArmRuns(NamedTuple):
    """All fits of one arm; arrays have one entry per seed."""

    name: str
    role: Role
    kind: str  # registered name of the patcher
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


def frozen_control(headline: ArmRuns, arms: list[ArmRuns]) -> ArmRuns | None:
    """Return the patcher of the headline's kind and tokens that learned no boundaries, if any."""
    frozen = [arm for arm in arms if arm.is_trainable and arm.kind == headline.kind]
    return of_equal_tokens(headline, frozen, "control") if headline.is_trainable else None


def sentence(
    headline: ArmRuns,
    baseline: ArmRuns,
    arms: list[ArmRuns],
    against: dict[str, Interval],
    at_equal: dict[str, Interval],
    equal: dict[str, ArmRuns | None],
    settings: dict[str, Any],
    beyond_frozen: Interval | None = None,
) -> str:
    """Say what the headline's intervals say, and nothing more.

    Parameters
    ----------
    headline, baseline : ArmRuns
        What validation chose.
    arms : list of ArmRuns
        All of them.
    against, at_equal : dict of str to Interval
        By arm: to the baseline, and to the fixed arm of as many tokens.
    equal : dict of str to ArmRuns or None
        By arm: that fixed arm.
    settings : dict
        Of the comparison.
    beyond_frozen : Interval, optional
        Of the headline to its `frozen_control`.
    """
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
    if count >= MIN_SEEDS:
        text += _doubts(headline, baseline, arms, against, beyond_frozen)
    return text + "."


def _doubts(
    headline: ArmRuns,
    baseline: ArmRuns,
    arms: list[ArmRuns],
    against: dict[str, Interval],
    beyond_frozen: Interval | None,
) -> str:
    """Say which controls gain as well, and that a policy's gain may not be what it learned."""
    text, random = "", _random_control(headline, arms)
    if random is not None and against[random.name].verdict == "helps":
        text += (
            f"; but {random.name}, the control, beats {baseline.name} too, so the gain is not "
            "specific to where boundaries are placed"
        )
    frozen = frozen_control(headline, arms)
    gains = against[headline.name].verdict == "helps"
    if frozen is None or beyond_frozen is None or not gains or beyond_frozen.verdict == "helps":
        return text
    control, cause = _UNLEARNED.get(frozen.kind, _OF_ANY_KIND)
    same = (
        f"; but {frozen.name}, {control}, is not told apart from it "
        f"({headline.name} is {_change(beyond_frozen.difference)}, {_bounds(beyond_frozen)})"
    )
    if beyond_frozen.verdict == "hurts":
        same = f"; but {frozen.name}, {control}, is better still"
    if against[frozen.name].verdict == "helps" or beyond_frozen.verdict == "hurts":
        return f"{text}{same}: the gain is that of {cause}"
    return f"{text}{same}: the gain may be that of {cause}"


def _random_control(headline: ArmRuns, arms: list[ArmRuns]) -> ArmRuns | None:
    """Return the random boundaries of as many tokens as the headline, else any."""
    controls = [arm for arm in arms if arm.role == "control" and not arm.is_trainable]
    return of_equal_tokens(headline, controls, "control") or next(iter(controls), None)


def _change(difference: float) -> str:
    return f"{100 * abs(difference):.1f} % {'below' if difference < 0 else 'above'}"


def _bounds(interval: Interval) -> str:
    """Return an interval of the change in error, in percent."""
    if np.isnan(interval.low):
        return "[no interval]"
    return f"[{100 * interval.low:+.1f} %, {100 * interval.high:+.1f} %]"


def controls_of(headline: ArmRuns, arms: list[ArmRuns], twin: ArmRuns | None) -> dict[str, str]:
    """Say which controls of a fair comparison were run, and why others were not."""
    controls = [arm for arm in arms if arm.role == "control"]
    by_chance = [arm for arm in controls if not arm.is_trainable]
    random = of_equal_tokens(headline, by_chance, "control")
    learned = [arm.name for arm in arms if arm.is_trainable and arm.role == "challenger"]
    frozen = [arm.name for arm in controls if arm.is_trainable]
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
        "the same patcher without learned boundaries": (
            f"run: {', '.join(frozen)}" if frozen else _absence(exists=True)
        ),
    }


def _absence(exists: bool) -> str:
    return f"missing: {'not among the arms' if exists else 'does not exist in this version'}"
