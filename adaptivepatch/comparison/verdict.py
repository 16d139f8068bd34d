"""The verdict of a comparison in one sentence, and the list of its controls.

The rules are those of ``benchmarks/README.md``: a claim needs five seeds and an interval on one
side of 0 relative to the best fixed arm, and missing controls are named.
"""

from __future__ import annotations

import numpy as np

from adaptivepatch.comparison.arms import ArmRuns
from adaptivepatch.comparison.findings import (
    Findings,
    JudgedArm,
    arm_of_equal_tokens,
    have_equal_tokens,
)
from adaptivepatch.comparison.statistics import Interval

MIN_SEEDS = 5
"""Number of seeds that a verdict needs; results with fewer are exploratory."""

_UNLEARNED = {
    "reinpatch": ("the same policy without learning", "the sampling noise"),
    "dynamic_chunking": ("the same network with even patches", "the network"),
}
"""For each kind of patcher: its control without learned boundaries, and the cause of its gain."""
_UNLEARNED_OF_OTHERS = (
    "the same patcher without learned boundaries",
    "something other than learning them",
)


def is_exploratory(findings: Findings) -> bool:
    """Tell whether there are too few seeds for a verdict."""
    return len(findings.settings["seeds"]) < MIN_SEEDS


def sentence(findings: Findings) -> str:
    """Return the verdict about the headline, which claims no more than its intervals show."""
    headline, baseline = findings.headline.runs, findings.baseline
    interval, equal = findings.headline.to_baseline, findings.headline.to_equal_tokens
    assert interval is not None  # only candidates for the baseline have none
    name, metric = headline.name, findings.settings["metric"]
    change = f"{_change(interval.difference)} that of"
    cost = np.median(headline.fit_seconds) / max(float(np.median(baseline.fit_seconds)), 1e-9)
    at_cost = f"at {cost:.1f} times the cost"
    same_tokens = " and of as many tokens" if equal is not None and equal.other is baseline else ""
    best = f"{baseline.name}, the best fixed arm on validation{same_tokens}"
    if is_exploratory(findings):
        text = (
            f"Exploratory, as {len(findings.settings['seeds'])} seed(s) are fewer than "
            f"{MIN_SEEDS}: {metric} of {name} is {change} {best}, {_bounds(interval)} {at_cost}"
        )
    elif interval.verdict == "no evidence":
        text = (
            f"No evidence that {name} helps: its {metric} is {change} {best}, "
            f"{_bounds(interval)} {at_cost}"
        )
    else:
        bounds = sorted(100 * abs(bound) for bound in (interval.low, interval.high))
        text = (
            f"{name} {interval.verdict} by {100 * abs(interval.difference):.1f} % "
            f"[{bounds[0]:.1f} %, {bounds[1]:.1f} %] {at_cost}: its {metric} is "
            f"{'lower' if interval.verdict == 'helps' else 'higher'} than that of {best}"
        )
    if equal is not None and equal.other is not baseline:
        text += (
            f"; {_change(equal.interval.difference)} {equal.other.name}, of as many tokens "
            f"{_bounds(equal.interval)}"
        )
    if not is_exploratory(findings):
        text += _gain_of_random_boundaries(findings) + _gain_without_learning(findings)
    return text + "."


def _gain_of_random_boundaries(findings: Findings) -> str:
    """Return a clause about random boundaries if they beat the baseline too, else nothing."""
    control = _random_control(findings)
    if control is None or not control.helps:
        return ""
    return (
        f"; but {control.runs.name}, the control, beats {findings.baseline.name} too, so the gain "
        "is not specific to where boundaries are placed"
    )


def _gain_without_learning(findings: Findings) -> str:
    """Return a clause if the gain of the headline may not come from learning, else nothing."""
    contrast, headline = findings.to_unlearned, findings.headline
    if contrast is None or not headline.helps or contrast.interval.verdict == "helps":
        return ""
    control, interval = contrast.other, contrast.interval
    description, cause = _UNLEARNED.get(control.kind, _UNLEARNED_OF_OTHERS)
    is_better = interval.verdict == "hurts"
    if is_better:
        text = f"; but {control.name}, {description}, is better still"
    else:
        text = (
            f"; but it is not significantly better than {control.name}, {description} "
            f"({_change(interval.difference)}, {_bounds(interval)})"
        )
    judged = next(arm for arm in findings.controls if arm.runs is control)
    return f"{text}: the gain {'is' if is_better or judged.helps else 'may be'} that of {cause}"


def _random_control(findings: Findings) -> JudgedArm | None:
    """Return the random control with as many tokens as the headline, or else the first one."""
    controls = [arm for arm in findings.controls if not arm.runs.is_trainable]
    equal = arm_of_equal_tokens(findings.headline.runs, [arm.runs for arm in controls], "control")
    return next((arm for arm in controls if equal is None or arm.runs is equal), None)


def _change(difference: float) -> str:
    return f"{100 * abs(difference):.1f} % {'below' if difference < 0 else 'above'}"


def _bounds(interval: Interval) -> str:
    """Return an interval of the relative difference in percent."""
    if np.isnan(interval.low):
        return "[no interval]"
    return f"[{100 * interval.low:+.1f} %, {100 * interval.high:+.1f} %]"


# ------------------------------------------------------------------------------------ controls


def list_controls(findings: Findings) -> dict[str, str]:
    """Return the arms that were run for each control of a fair comparison, or what is missing."""
    arms, headline = [arm.runs for arm in findings.arms], findings.headline.runs
    equal = findings.headline.to_equal_tokens
    controls = [arm for arm in arms if arm.role == "control"]
    unlearned = [arm for arm in controls if arm.is_trainable]
    by_chance = [arm for arm in controls if not arm.is_trainable]
    random = arm_of_equal_tokens(headline, by_chance, "control")
    learned = [arm for arm in arms if arm.is_trainable and arm.role == "challenger"]
    entropy = [arm for arm in arms if arm.kind == "entropy" and have_equal_tokens(arm, headline)]
    return {
        "fixed patches, best length on validation": _run(
            [arm for arm in arms if arm.role == "baseline candidate"]
        ),
        "fixed patches of as many tokens": _run([] if equal is None else [equal.other]),
        "random boundaries of as many tokens": _run([] if random is None else [random]),
        "fixed patches at equal training cost, halo and phase tuned": (
            "missing: not done by this command; see the cost columns"
        ),
        "learned patchers": _run(learned),
        "boundaries at entropy quantiles, of as many tokens": _run(entropy),
        "the same patcher without learned boundaries": _run(unlearned),
    }


def _run(arms: list[ArmRuns]) -> str:
    names = ", ".join(arm.name for arm in arms)
    return f"run: {names}" if arms else "missing: not among the arms"
