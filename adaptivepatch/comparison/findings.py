"""Findings of a comparison: the arms that validation selects, and the intervals of all arms.

Validation errors select the baseline and the headline, which is the challenger that the verdict is
about. Test losses then give the intervals; the table and the verdict are made from these findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.comparison.arms import ArmRuns, Role
from adaptivepatch.comparison.statistics import Interval, relative_difference
from adaptivepatch.data.windows import Windows

EQUAL_TOKENS = 0.02
"""Largest relative difference of mean tokens per window at which two counts are called equal."""


class Contrast(NamedTuple):
    """Another arm, and the interval of an arm relative to it."""

    other: ArmRuns
    interval: Interval


class JudgedArm(NamedTuple):
    """An arm with its intervals; candidates for the baseline have none.

    Parameters
    ----------
    runs : ArmRuns
        Fits of the arm.
    to_baseline : Interval or None
        Interval relative to the baseline.
    to_equal_tokens : Contrast or None
        Interval relative to the fixed arm with an equal number of tokens, if there is one.
    """

    runs: ArmRuns
    to_baseline: Interval | None = None
    to_equal_tokens: Contrast | None = None

    @property
    def has_less_error(self) -> bool:
        """Whether the whole interval relative to the baseline is below 0."""
        return self.to_baseline is not None and self.to_baseline.verdict == "helps"


class Naive(NamedTuple):
    """A naive forecast: its name and its sums of losses, of shape (windows,)."""

    name: str
    total: NDArray[np.float64]

    def test_error(self, count: NDArray[np.float64]) -> float:
        """Return the mean loss.

        Parameters
        ----------
        count : ndarray of shape (windows,)
            Number of observed targets of each window.
        """
        return float(self.total.sum() / count.sum())


@dataclass(frozen=True)
class Findings:
    """Findings that the table and the verdict are made from.

    Parameters
    ----------
    arms : list of JudgedArm
        All arms.
    baseline : ArmRuns
        Candidate for the baseline with the smallest validation error.
    headline : JudgedArm
        Challenger with the smallest validation error.
    to_unlearned, to_random : Contrast or None
        Intervals of the headline relative to its `unlearned_control` and to random boundaries with
        an equal number of tokens, if there are such arms.
    naive : list of Naive
        Naive forecasts of the same windows.
    windows : pandas.DataFrame
        Rows for the test windows, with the columns item, time and observed.
    settings : mapping
        Task, training and statistics.
    """

    arms: list[JudgedArm]
    baseline: ArmRuns
    headline: JudgedArm
    to_unlearned: Contrast | None
    to_random: Contrast | None
    naive: list[Naive]
    windows: pd.DataFrame
    settings: Mapping[str, Any]

    @property
    def count(self) -> NDArray[np.float64]:
        """Number of observed targets of each test window."""
        return self.windows.observed.to_numpy(dtype=np.float64)

    def totals(self) -> dict[str, NDArray[np.float64]]:
        """Return sums of losses of shape (seeds, windows) of arms and naive forecasts, by name."""
        num_seeds = len(self.settings["seeds"])
        totals = {arm.runs.name: arm.runs.total for arm in self.arms}
        return totals | {naive.name: np.tile(naive.total, (num_seeds, 1)) for naive in self.naive}

    def judged(self, runs: ArmRuns) -> JudgedArm:
        """Return an arm with its intervals."""
        return next(arm for arm in self.arms if arm.runs is runs)


def judge(
    arms: list[ArmRuns],
    seeds: list[int],
    windows: Windows,
    count: NDArray[np.float64],
    settings: Mapping[str, Any],
    naive: Mapping[str, NDArray[np.float64]] | None = None,
) -> Findings:
    """Select baseline and headline by validation, and compute the intervals of all arms.

    Parameters
    ----------
    arms : list of ArmRuns
        Arms with at least one candidate for the baseline and one challenger.
    seeds : list of int
        Seeds of every arm.
    windows : Windows
        Test windows.
    count : ndarray of shape (windows,)
        Number of observed targets of each window.
    settings : mapping
        Settings of the comparison, to which those of the statistics are added.
    naive : mapping of str to ndarray of shape (windows,), optional
        Sums of losses of naive forecasts, by name.
    """
    baseline, headline = _best(arms, "baseline candidate"), _best(arms, "challenger")
    tested = pd.DataFrame({"item": windows.item, "time": time_position(windows), "observed": count})
    num_compared = sum(arm.role != "baseline candidate" for arm in arms)
    settings = {**settings, "seeds": seeds, "comparisons": num_compared}

    def contrast(arm: ArmRuns, other: ArmRuns | None) -> Contrast | None:
        if other is None:
            return None
        return Contrast(other, interval_between(arm.total, other.total, tested, settings))

    judged = {}
    for arm in arms:
        if arm.role == "baseline candidate":
            judged[arm.name] = JudgedArm(arm)
            continue
        to_baseline = interval_between(arm.total, baseline.total, tested, settings)
        equal = arm_of_equal_tokens(arm, arms, "baseline candidate")
        judged[arm.name] = JudgedArm(arm, to_baseline, contrast(arm, equal))
    first = next(arm.to_baseline for arm in judged.values() if arm.to_baseline is not None)
    return Findings(
        arms=list(judged.values()),
        baseline=baseline,
        headline=judged[headline.name],
        to_unlearned=contrast(headline, unlearned_control(headline, arms)),
        to_random=contrast(headline, random_control(headline, arms)),
        naive=[
            Naive(f"{name} (naive)" if name in judged else name, total)
            for name, total in (naive or {}).items()
        ],
        windows=tested,
        settings={
            **settings,
            "block_length": first.block_length * settings["stride"],
            "blocks": round(first.num_blocks, 1),
        },
    )


def interval_between(
    total: NDArray[np.float64],
    other_total: NDArray[np.float64],
    windows: pd.DataFrame,
    settings: Mapping[str, Any],
) -> Interval:
    """Return the interval of one arm relative to another, corrected for all comparisons.

    Parameters
    ----------
    total, other_total : ndarray of shape (seeds, windows)
        Sums of losses of the two arms.
    windows : pandas.DataFrame
        Rows for the test windows, with the columns item, time and observed.
    settings : mapping
        Settings of the comparison.
    """
    return relative_difference(
        total,
        other_total,
        windows.observed.to_numpy(dtype=np.float64),
        horizon=int(np.ceil(settings["horizon"] / settings["stride"])),
        time=windows.time.to_numpy(),
        item=windows.item.to_numpy(),
        confidence=settings["confidence"],
        num_comparisons=settings["comparisons"],
    )


def time_position(windows: Windows) -> NDArray[np.int64]:
    """Return the position in time of each window's cutoff, in strides, over all items."""
    index = windows.panel.index
    stamps = index[0].append(list(index[1:])).unique().sort_values()
    return np.asarray(stamps.get_indexer(windows.cutoff)) // windows.stride


def arm_of_equal_tokens(wanted: ArmRuns, arms: list[ArmRuns], role: Role) -> ArmRuns | None:
    """Return the arm of a role whose number of tokens is closest, if the numbers count as equal."""
    others = [arm for arm in arms if arm.role == role and arm is not wanted]
    if not others:
        return None
    closest = min(others, key=lambda arm: abs(arm.tokens - wanted.tokens))
    return closest if have_equal_tokens(closest, wanted) else None


def have_equal_tokens(arm: ArmRuns, wanted: ArmRuns) -> bool:
    """Tell whether the number of tokens of an arm counts as equal to that of the wanted arm."""
    return abs(arm.tokens / wanted.tokens - 1) <= EQUAL_TOKENS


def unlearned_control(headline: ArmRuns, arms: list[ArmRuns]) -> ArmRuns | None:
    """Return the control with the same patcher and number of tokens that learns no boundaries."""
    if not headline.is_trainable:
        return None
    same = [arm for arm in arms if arm.is_trainable and arm.kind == headline.kind]
    return arm_of_equal_tokens(headline, same, "control")


def random_control(headline: ArmRuns, arms: list[ArmRuns]) -> ArmRuns | None:
    """Return the control with random boundaries and the same number of tokens."""
    by_chance = [arm for arm in arms if not arm.is_trainable]
    return arm_of_equal_tokens(headline, by_chance, "control")


def _best(arms: list[ArmRuns], role: Role) -> ArmRuns:
    return min(
        (arm for arm in arms if arm.role == role),
        key=lambda arm: float(arm.validation_error.mean()),
    )
