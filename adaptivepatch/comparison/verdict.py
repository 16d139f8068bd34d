"""The answer of a comparison in plain sentences, and the list of its controls.

The rules are those of ``benchmarks/README.md``: a claim needs five seeds and an interval on one
side of 0 relative to the best fixed arm, and missing controls are named. All percentages are
changes of the error, so that a negative one means less error.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from adaptivepatch.comparison.arms import ArmRuns
from adaptivepatch.comparison.findings import (
    Contrast,
    Findings,
    JudgedArm,
    Naive,
    have_equal_tokens,
)
from adaptivepatch.comparison.statistics import Interval

MIN_SEEDS = 5
"""Number of seeds that a verdict needs; results with fewer are exploratory."""

Answer = Literal["yes", "no", "not shown"]

SIDES = {"helps": "less error", "hurts": "more error", "no evidence": "not shown"}
"""What an interval shows, for each of its verdicts."""

_UNLEARNED = {
    "reinpatch": ("the same model, whose patches vary by chance", "patches that vary in training"),
    "dynamic_chunking": ("the same model with even patches", "the larger model"),
}
"""For each kind of patcher: its control without learned boundaries, and what it has too."""
_UNLEARNED_OF_OTHERS = ("the same model without learned patches", "other parts of the model")
_RANDOM = ("the same number of patches, which begin at random", "other properties of the patches")


def is_exploratory(findings: Findings) -> bool:
    """Tell whether there are too few seeds for a verdict."""
    return len(findings.settings["seeds"]) < MIN_SEEDS


def answer(findings: Findings) -> Answer:
    """Answer whether adaptive patches, the headline, have less error than the best fixed ones."""
    shown = _interval(findings).verdict
    if is_exploratory(findings) or shown == "no evidence":
        return "not shown"
    if shown == "helps":
        return "yes"
    return "not shown" if _others_with_less_error(findings) else "no"


def sentences(findings: Findings) -> str:
    """Return the answer, by how much the error changes, and what that is due to.

    Parameters
    ----------
    findings : Findings
        Findings; the text claims no more than their intervals show.
    """
    parts = [
        _opening(findings),
        _change_of_error(findings),
        _reason(findings),
        _same_number_of_patches(findings),
        _other_challengers(findings),
        _naive_forecasts(findings),
        _short_training(findings),
    ]
    return " ".join(part for part in parts if part)


# ----------------------------------------------------------------------------------- the answer


def _opening(findings: Findings) -> str:
    baseline, num_seeds = findings.baseline, len(findings.settings["seeds"])
    found = answer(findings)
    if is_exploratory(findings):
        return (
            f"Not shown: an answer needs {MIN_SEEDS} trainings of every model (seeds), and there "
            f"{'is' if num_seeds == 1 else 'are'} {num_seeds}."
        )
    if found == "yes":
        return _opening_of_yes(findings)
    naive = _better_naive(findings, baseline)
    if naive is None:
        advice = f"so keep {baseline.name}"
    else:
        advice = f"and {_repeating(naive)} has less error than {baseline.name}"
    if found == "no":
        return f"No, the best adaptive patches have more error than {baseline.name}, {advice}."
    return f"Not shown that adaptive patches help here, {advice}."


def _opening_of_yes(findings: Findings) -> str:
    naive = _better_naive(findings, findings.headline.runs)
    if naive is not None:
        return f"Yes, adaptive patches have less error, but {_repeating(naive)} has even less."
    controls = _controls(findings)
    if not controls:
        return "Yes, adaptive patches have less error; what that is due to was not tested."
    if all(control.interval.verdict == "helps" for control in controls):
        return "Yes, adaptive patches help here."
    return (
        "Yes, a change lowers the error, but it is not shown that the reason is where patches "
        "begin."
    )


def _change_of_error(findings: Findings) -> str:
    headline, baseline = findings.headline.runs, findings.baseline
    interval, settings = _interval(findings), findings.settings
    fixed = baseline.kind == "fixed"
    cost = np.median(headline.fit_seconds) / max(float(np.median(baseline.fit_seconds)), 1e-9)
    text = (
        f"Going from {baseline.name}, the best {'fixed patches' if fixed else 'baseline'} on "
        f"validation data, to {headline.name}, the best adaptive ones there, changes the error "
        f"({settings['metric']}) by {_percent(interval.difference)} "
        f"({_range(interval, settings['confidence'])}; minus means less error) and takes "
        f"{cost:.1f} times the training time."
    )
    if interval.verdict == "no evidence" and np.isfinite(interval.low):
        text += " The range includes 0 %, so that the difference may be chance."
    return text


def _same_number_of_patches(findings: Findings) -> str:
    equal = findings.headline.to_equal_tokens
    if equal is None or equal.other is findings.baseline:
        return ""
    return (
        f"Compared with {equal.other.name}, which cuts the series into the same number of patches, "
        f"the change is {_with_range(equal.interval)}."
    )


# ------------------------------------------------------------------------------ what it is due to


def _controls(findings: Findings) -> list[Contrast]:
    """Return the comparisons that tell what a gain is due to; none if an important one is missing.

    Random patches tell nothing about a patcher that learns, or that has layers of its own, without
    the same patcher without learned boundaries: its gain may be that of its layers.
    """
    headline, own = findings.headline.runs, findings.to_unlearned
    if own is None and (headline.is_trainable or headline.kind in _UNLEARNED):
        return []
    return [control for control in (own, findings.to_random) if control is not None]


def _reason(findings: Findings) -> str:
    """Return what the gain of the headline is due to; nothing is said without a gain."""
    if answer(findings) != "yes":
        return ""
    controls = _controls(findings)
    if not controls:
        return (
            "The reason of the gain is unknown, because no control with the same number of patches "
            "was run: the same model without learned patches or, for patches that are not learned, "
            "random ones."
        )
    beaten = [control for control in controls if control.interval.verdict == "helps"]
    if len(beaten) == len(controls):
        what = "learning where" if findings.to_unlearned is not None else "where"
        partly = any(findings.judged(control.other).has_less_error for control in controls)
        return (
            f"The gain comes {'in part ' if partly else ''}from {what} patches begin: "
            f"compared with {_and([_compared(control, findings) for control in controls])}."
        )
    return " ".join(_cause(control, findings) for control in controls if control not in beaten)


def _cause(control: Contrast, findings: Findings) -> str:
    """Return what the headline has in common with a control that has not been beaten."""
    _, shared = _description(control, findings)
    if control.interval.verdict == "hurts":
        cause = "the adaptive choice is not the reason for the gain, which comes from"
    elif findings.judged(control.other).has_less_error:
        cause = "the gain comes at least in part from"
    else:
        cause = "the gain may come from"
    return f"Compared with {_compared(control, findings)}: {cause} {shared}."


def _compared(control: Contrast, findings: Findings) -> str:
    what, _ = _description(control, findings)
    return f"{control.other.name} ({what}) the change is {_with_range(control.interval)}"


def _description(control: Contrast, findings: Findings) -> tuple[str, str]:
    """Return what a control is, and what the headline has in common with it."""
    if control is findings.to_random:
        return _RANDOM
    return _UNLEARNED.get(control.other.kind, _UNLEARNED_OF_OTHERS)


# ------------------------------------------------------------------------------- further sentences


def _others_with_less_error(findings: Findings) -> list[JudgedArm]:
    """Return the challengers besides the headline whose whole interval is below 0."""
    return [
        arm
        for arm in findings.arms
        if arm.runs.role == "challenger" and arm is not findings.headline and arm.has_less_error
    ]


def _other_challengers(findings: Findings) -> str:
    if is_exploratory(findings) or answer(findings) == "yes":
        return ""
    others = _others_with_less_error(findings)
    if not others:
        return ""
    changes = [
        f"{arm.runs.name} changes the error by {_with_range(arm.to_baseline)}" for arm in others
    ]
    return (
        f"On the test data {_and(changes)}, but validation data did not choose "
        f"{'it' if len(others) == 1 else 'them'}: compare again with newer data."
    )


def _better_naive(findings: Findings, arm: ArmRuns) -> Naive | None:
    """Return the best naive forecast if the arm has a higher test error."""
    if not findings.naive:
        return None
    best = min(findings.naive, key=lambda naive: naive.test_error(findings.count))
    is_better = best.test_error(findings.count) < arm.test_error(findings.count).mean()
    return best if is_better else None


def _repeating(naive: Naive) -> str:
    return f"repeating the {naive.name}"


def _naive_forecasts(findings: Findings) -> str:
    """Return a warning that names the arms with more test error than a naive forecast."""
    better = [(arm.runs, _better_naive(findings, arm.runs)) for arm in findings.arms]
    worse = [(runs.name, naive) for runs, naive in better if naive is not None]
    if not worse:
        return ""
    every = len(worse) == len(findings.arms)
    which = "every model" if every else _and([name for name, _ in worse])
    return f"Warning: on the test data {_repeating(worse[0][1])} has less error than {which}."


def _short_training(findings: Findings) -> str:
    fits = np.concatenate([arm.runs.still_falling for arm in findings.arms])
    if not fits.any():
        return ""
    return (
        f"Training was short: in {int(fits.sum())} of {len(fits)} trainings the validation error "
        "was still falling at the last step, so that longer training (thorough, or more max_steps) "
        "may change the answer."
    )


# ------------------------------------------------------------------------------------------ words


def _interval(findings: Findings) -> Interval:
    interval = findings.headline.to_baseline
    assert interval is not None  # only candidates for the baseline have none
    return interval


def _percent(difference: float) -> str:
    text = f"{100 * difference:+.1f} %"
    return "0.0 %" if text in ("-0.0 %", "+0.0 %") else text


def _range(interval: Interval, confidence: float) -> str:
    if np.isnan(interval.low):
        return "no range from a single seed"
    return (
        f"{_percent(interval.low)} to {_percent(interval.high)} with {100 * confidence:g} % "
        "confidence"
    )


def _with_range(interval: Interval | None) -> str:
    """Return a change of the error and its range."""
    assert interval is not None
    if np.isnan(interval.low):
        return _percent(interval.difference)
    return (
        f"{_percent(interval.difference)} ({_percent(interval.low)} to {_percent(interval.high)})"
    )


def _and(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


# ------------------------------------------------------------------------------------ controls


def list_controls(findings: Findings) -> dict[str, str]:
    """Return the arms that were run for each control of a fair comparison, or what is missing."""
    arms, headline = [arm.runs for arm in findings.arms], findings.headline.runs
    equal, random = findings.headline.to_equal_tokens, findings.to_random
    unlearned = [arm for arm in arms if arm.role == "control" and arm.is_trainable]
    learned = [arm for arm in arms if arm.is_trainable and arm.role == "challenger"]
    entropy = [arm for arm in arms if arm.kind == "entropy" and have_equal_tokens(arm, headline)]
    return {
        "fixed patches, best length on validation": _run(
            [arm for arm in arms if arm.role == "baseline candidate"]
        ),
        "fixed patches of the same number": _run([] if equal is None else [equal.other]),
        "random patches of the same number": _run([] if random is None else [random.other]),
        "fixed patches at equal training cost, halo and phase tuned": (
            "missing: not done by this command; see the cost columns"
        ),
        "learned patchers": _run(learned),
        "patches at entropy quantiles, of the same number": _run(entropy),
        "the same patcher without learning": _run(unlearned),
    }


def _run(arms: list[ArmRuns]) -> str:
    names = ", ".join(arm.name for arm in arms)
    return f"run: {names}" if arms else "missing: not among the arms"
