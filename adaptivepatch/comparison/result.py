"""`Comparison`: what `compare` found; its table, its sentence, its picture and its files.

Here: the selection of baseline and headline by validation error, and the intervals that count.
The wording is in ``verdict.py``. Nothing is fitted here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch import plotting
from adaptivepatch.comparison.statistics import Interval, relative_difference
from adaptivepatch.comparison.verdict import (
    MIN_SEEDS,
    ArmRuns,
    Role,
    controls_of,
    frozen_control,
    of_equal_tokens,
    sentence,
)
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidParameterError, MissingDependencyError, suggest
from adaptivepatch.files import write_atomic

FILES = ("table.csv", "runs.csv", "verdict.json", "comparison.png")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    table : pandas.DataFrame
        A row per arm: arm, role, tokens (realised, mean per test window), compression_rate,
        validation_error, test_error and test_error_std (mean and deviation over seeds),
        difference, low and high (relative to the baseline, with its interval; negative is
        better), equal_tokens_arm with equal_tokens_difference, _low and _high (relative to the
        fixed arm of the same token count), fit_cpu_seconds and predict_cpu_seconds (medians over
        seeds), fit_cost and predict_cost (relative to the baseline), parameters, seeds, verdict.
    runs : pandas.DataFrame
        A row per arm and seed.
    verdict : str
        The sentence about the challenger that validation chose.
    is_exploratory : bool
        Fewer than 5 seeds: the numbers claim nothing.
    controls : mapping of str to str
        Control of a fair comparison to what was run of it, or why it is missing.
    baseline, headline : str
        Arms that validation chose.
    settings : mapping
        Task, training and statistics.
    losses : mapping of str to ndarray of shape (seeds, windows)
        Mean loss of every test window, by arm.
    windows : pandas.DataFrame
        A row per test window: item, time (position of its cutoff, in strides) and observed (how
        many targets its loss is a mean of).
    """

    table: pd.DataFrame
    runs: pd.DataFrame
    verdict: str
    is_exploratory: bool
    controls: Mapping[str, str]
    baseline: str
    headline: str
    settings: Mapping[str, Any]
    losses: Mapping[str, NDArray[np.float64]]
    windows: pd.DataFrame

    def __repr__(self) -> str:
        return f"Comparison({self.verdict!r})"

    def between(self, arm: str, other: str) -> Interval:
        """Compare any two arms, such as a challenger with its control.

        Parameters
        ----------
        arm, other : str
            Names of arms.

        Returns
        -------
        Interval
            Of ``error(arm) / error(other) - 1``, as wide as those of the table: corrected for as
            many comparisons as these are, and not for your choice of a pair after seeing them.

        Raises
        ------
        InvalidParameterError
            If there is no such arm.
        """
        for name in (arm, other):
            if name not in self.losses:
                raise InvalidParameterError(
                    f"Unknown arm {name!r}. Available: {list(self.losses)}."
                    f"{suggest(name, self.losses)}"
                )
        count = self.windows.observed.to_numpy(dtype=np.float64)
        return relative_difference(
            self.losses[arm] * count,
            self.losses[other] * count,
            count,
            **_resampling(self.settings, self.windows, self.settings["comparisons"]),
        )

    def plot(self) -> Any:  # matplotlib is optional, and loaded by `plotting` only
        """Draw every arm: test error of each seed, difference with interval, and cost.

        Returns
        -------
        matplotlib.figure.Figure
            Save with ``figure.savefig("picture.png")``.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        by_arm = self.runs.groupby("arm", sort=False).test_error
        return plotting.plot_comparison(
            {str(arm): errors.to_numpy() for arm, errors in by_arm},
            difference=self.table[["difference", "low", "high"]].to_numpy(dtype=np.float64),
            cost=self.table[["fit_cost", "predict_cost"]].to_numpy(dtype=np.float64),
            roles=self.table.role.tolist(),
            baseline=self.baseline,
            metric=str(self.settings["metric"]),
            title=self.verdict,
        )

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write table.csv, runs.csv, verdict.json and, if matplotlib is there, comparison.png.

        Parameters
        ----------
        folder : path
            Created if it is not there.
        overwrite : bool, default=False
            Replace files of these names.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InvalidParameterError
            If `folder` is a file, or holds such a file and `overwrite` is False.
        """
        folder = Path(folder)
        check_folder(folder, overwrite)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2)
        write_atomic(folder / FILES[0], lambda path: self.table.to_csv(path, index=False))
        write_atomic(folder / FILES[1], lambda path: self.runs.to_csv(path, index=False))
        write_atomic(folder / FILES[2], lambda path: path.write_text(text + "\n", "utf-8"))
        try:
            figure = self.plot()
        except MissingDependencyError:
            return folder
        write_atomic(folder / FILES[3], lambda path: figure.savefig(path, dpi=110, format="png"))
        return folder

    def to_dict(self) -> dict[str, Any]:
        """Return all but runs, losses and windows, as JSON has it (None: there is no number)."""
        rows = [
            {k: None if pd.isna(v) else getattr(v, "item", lambda v=v: v)() for k, v in row.items()}
            for row in self.table.to_dict("records")
        ]
        return {
            "verdict": self.verdict,
            "is_exploratory": self.is_exploratory,
            "baseline": self.baseline,
            "headline": self.headline,
            "controls": dict(self.controls),
            "settings": dict(self.settings),
            "table": rows,
        }


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that is a file or holds results, before a long comparison as well."""
    if folder.exists() and not folder.is_dir():
        raise InvalidParameterError(
            f"A comparison is written into a folder. {str(folder)!r} is a file. Name another."
        )
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        raise InvalidParameterError(
            f"Results are not replaced unasked. {str(folder)!r} has {', '.join(present)}. Name "
            "another folder, or pass overwrite=True."
        )


# ------------------------------------------------------------------------------------ conclusions


def conclude(
    arms: list[ArmRuns],
    seeds: list[int],
    windows: Windows,
    count: NDArray[np.float64],
    settings: dict[str, Any],
) -> Comparison:
    """Choose by validation, compare on the test windows, and put it in words.

    Parameters
    ----------
    arms : list of ArmRuns
        At least one candidate for the baseline and one challenger.
    seeds : list of int
        Of every arm.
    windows : Windows
        Test windows.
    count : ndarray of shape (windows,)
        Observed targets of each.
    settings : dict
        Of the comparison; statistics are added.
    """
    baseline = _best(arms, "baseline candidate")
    headline = _best(arms, "challenger")
    compared = [arm for arm in arms if arm.role != "baseline candidate"]
    tested = pd.DataFrame({"item": windows.item, "time": time_position(windows), "observed": count})
    shared = _resampling(settings, tested, len(compared))
    against = {
        arm.name: relative_difference(arm.total, baseline.total, count, **shared)
        for arm in compared
    }
    equal = {arm.name: of_equal_tokens(arm, arms) for arm in compared}
    at_equal = {
        name: relative_difference(_named(arms, name).total, twin.total, count, **shared)
        for name, twin in equal.items()
        if twin is not None
    }
    beyond_frozen = _beyond_frozen(headline, arms, count, shared)
    first = next(iter(against.values()))
    length, blocks = first.block_length * settings["stride"], round(first.num_blocks, 1)
    told = {"comparisons": len(compared), "block_length": length, "blocks": blocks}
    settings = {**settings, "seeds": seeds, **told}
    table = pd.DataFrame(
        [
            _table_row(
                arm,
                baseline,
                count,
                against.get(arm.name),
                (equal.get(arm.name), at_equal.get(arm.name)),
                len(seeds) < MIN_SEEDS,
                settings["context_length"],
            )
            for arm in arms
        ]
    )
    return Comparison(
        table=table,
        runs=pd.concat([_run_rows(arm, seeds, count) for arm in arms], ignore_index=True),
        verdict=sentence(
            headline, baseline, arms, against, at_equal, equal, settings, beyond_frozen
        ),
        is_exploratory=len(seeds) < MIN_SEEDS,
        controls=controls_of(headline, arms, equal[headline.name]),
        baseline=baseline.name,
        headline=headline.name,
        settings=settings,
        losses={arm.name: arm.total / np.maximum(count, 1) for arm in arms},
        windows=tested,
    )


def _resampling(
    settings: Mapping[str, Any], windows: pd.DataFrame, num_comparisons: int
) -> dict[str, Any]:
    """Return how intervals are made, the same for all of a comparison."""
    return {
        "horizon": int(np.ceil(settings["horizon"] / settings["stride"])),
        "time": windows.time.to_numpy(),
        "item": windows.item.to_numpy(),
        "confidence": settings["confidence"],
        "num_comparisons": num_comparisons,
    }


def _beyond_frozen(
    headline: ArmRuns, arms: list[ArmRuns], count: NDArray[np.float64], shared: dict[str, Any]
) -> Interval | None:
    """Compare with the same without learned boundaries, where that control was run."""
    frozen = frozen_control(headline, arms)
    if frozen is None:
        return None
    return relative_difference(headline.total, frozen.total, count, **shared)


def time_position(windows: Windows) -> NDArray[np.int64]:
    """Return where in time each window's cutoff is, in strides, whatever its item."""
    index = windows.panel.index
    stamps = index[0].append(list(index[1:])).unique().sort_values()
    return np.asarray(stamps.get_indexer(windows.cutoff)) // windows.stride


def _best(arms: list[ArmRuns], role: Role) -> ArmRuns:
    return min(
        (arm for arm in arms if arm.role == role),
        key=lambda arm: float(arm.validation_error.mean()),
    )


def _named(arms: list[ArmRuns], name: str) -> ArmRuns:
    return next(arm for arm in arms if arm.name == name)


def _error(arm: ArmRuns, count: NDArray[np.float64]) -> NDArray[np.float64]:
    return arm.total.sum(axis=1) / count.sum()


def _table_row(
    arm: ArmRuns,
    baseline: ArmRuns,
    count: NDArray[np.float64],
    interval: Interval | None,
    equal: tuple[ArmRuns | None, Interval | None],
    exploratory: bool,
    context_length: int,
) -> dict[str, Any]:
    error = _error(arm, count)
    fit, fit_base = np.median(arm.fit_seconds), np.median(baseline.fit_seconds)
    predict, predict_base = np.median(arm.predict_seconds), np.median(baseline.predict_seconds)
    if arm is baseline:
        verdict = "baseline"
    elif interval is None:
        verdict = ""
    else:
        verdict = "exploratory" if exploratory else interval.verdict
    twin, at_equal = equal
    return {
        "arm": arm.name,
        "role": arm.role,
        "patcher": arm.patcher,
        "tokens": arm.tokens,
        "compression_rate": context_length / arm.tokens,
        "validation_error": arm.validation_error.mean(),
        "test_error": error.mean(),
        "test_error_std": error.std(ddof=1) if len(error) > 1 else np.nan,
        "difference": error.mean() / _error(baseline, count).mean() - 1,
        "low": np.nan if interval is None else interval.low,
        "high": np.nan if interval is None else interval.high,
        "equal_tokens_arm": None if twin is None else twin.name,
        "equal_tokens_difference": np.nan if at_equal is None else at_equal.difference,
        "equal_tokens_low": np.nan if at_equal is None else at_equal.low,
        "equal_tokens_high": np.nan if at_equal is None else at_equal.high,
        "fit_cpu_seconds": fit,
        "predict_cpu_seconds": predict,
        "fit_cost": fit / max(fit_base, 1e-9),
        "predict_cost": predict / max(predict_base, 1e-9),
        "parameters": arm.parameters,
        "seeds": len(error),
        "verdict": verdict,
    }


def _run_rows(arm: ArmRuns, seeds: list[int], count: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": arm.name,
            "seed": seeds,
            "validation_error": arm.validation_error,
            "test_error": _error(arm, count),
            "best_step": arm.best_step,
            "fit_cpu_seconds": arm.fit_seconds,
            "predict_cpu_seconds": arm.predict_seconds,
        }
    )
