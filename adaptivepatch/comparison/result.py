"""`Comparison`, the result of `compare`: its table, verdict, figure and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch import plotting
from adaptivepatch.comparison.arms import ArmRuns
from adaptivepatch.comparison.findings import (
    Findings,
    JudgedArm,
    Naive,
    interval_between,
    judge,
)
from adaptivepatch.comparison.statistics import Interval
from adaptivepatch.comparison.verdict import (
    SIDES,
    Answer,
    answer,
    is_exploratory,
    list_controls,
    sentences,
)
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidParameterError, MissingDependencyError, suggest
from adaptivepatch.files import Replacement, as_path, make_folder

FILES = ("table.csv", "runs.csv", "verdict.json", "comparison.png")


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Result of `compare`.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per patcher, each called an arm, and per naive forecast: arm, role ("baseline
        candidate", "challenger", "control" or "naive"), patcher, tokens (mean number of patches per
        test window), compression_rate, validation_error, test_error and test_error_std (mean and
        standard deviation over seeds), difference, low and high (relative difference to the
        baseline with its interval; negative means less error), equal_tokens_arm with
        equal_tokens_difference, _low and _high (relative to the fixed arm with an equal number of
        tokens), fit_cpu_seconds and predict_cpu_seconds (medians over seeds), fit_cost and
        predict_cost (relative to the baseline), parameters, seeds, verdict ("baseline", "less
        error", "more error", "not shown" or "exploratory"). A naive forecast has a test_error and a
        difference only; naive forecasts that lack a test target are left out.
    runs : pandas.DataFrame
        One row per arm and seed; still_falling tells whether the validation error fell until the
        last training step.
    verdict : str
        Answer in plain sentences, about the challenger that validation selected.
    is_exploratory : bool
        True for fewer than 5 seeds, which support no claim.
    controls : mapping of str to str
        For each control of a fair comparison, the arms that were run or the reason that it is
        missing.
    baseline, headline : str
        Names of the fixed arm and of the challenger that validation selected.
    settings : mapping
        Settings of the task, the training and the statistics.
    losses : mapping of str to ndarray of shape (seeds, windows)
        Mean loss of every test window, by arm; that of a naive forecast is the same for all seeds.
    windows : pandas.DataFrame
        One row per test window: item, time (position of its cutoff, in strides) and observed
        (number of targets in its mean loss).
    answer : {"yes", "no", "not shown"}
        Whether adaptive patches have less error than the best fixed ones: the challenger and the
        baseline that validation selected.
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
    answer: Answer | None = None  # results of earlier versions have none

    def __repr__(self) -> str:
        return f"Comparison({self.verdict!r})"

    def between(self, arm: str, other: str) -> Interval:
        """Compare any two arms, such as a challenger with its control.

        Parameters
        ----------
        arm, other : str
            Names of arms or naive forecasts.

        Returns
        -------
        Interval
            Interval of ``error(arm) / error(other) - 1``. It is corrected for the same number of
            comparisons as those of the table, but not for choosing the pair after seeing them.

        Raises
        ------
        InvalidParameterError
            If an arm does not exist.
        """
        for parameter, name in (("arm", arm), ("other", other)):
            if name not in self.losses:
                raise InvalidParameterError(
                    f"Unknown arm {name!r}. Available: {list(self.losses)}."
                    f"{suggest(name, self.losses)}",
                    parameter=parameter,
                )
        count = self.windows.observed.to_numpy(dtype=np.float64)
        return interval_between(
            self.losses[arm] * count, self.losses[other] * count, self.windows, self.settings
        )

    def plot(self) -> Any:  # a Figure of matplotlib, which is optional
        """Draw for every arm the test error of each seed, the difference with interval, and cost.

        Returns
        -------
        matplotlib.figure.Figure
            Figure; ``figure.savefig("comparison.png")`` saves it.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        by_arm = self.runs.groupby("arm", sort=False).test_error
        errors = {str(arm): values.to_numpy() for arm, values in by_arm}
        for row in self.table.itertuples():  # naive forecasts have no seeds
            errors.setdefault(str(row.arm), np.array([row.test_error]))
        return plotting.plot_comparison(
            errors,
            difference=self.table[["difference", "low", "high"]].to_numpy(dtype=np.float64),
            cost=self.table[["fit_cost", "predict_cost"]].to_numpy(dtype=np.float64),
            roles=self.table.role.tolist(),
            baseline=self.baseline,
            headline=self.headline,
            metric=str(self.settings["metric"]),
            title=self.verdict,
        )

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write table.csv, runs.csv, verdict.json and, if matplotlib is installed, comparison.png.

        Parameters
        ----------
        folder : path
            Folder to write to, which is created if necessary.
        overwrite : bool, default=False
            Whether existing files of these names are replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        InvalidParameterError
            If `folder` is a file, or holds such a file and `overwrite` is False.
        """
        folder = as_path(folder, "folder")
        check_folder(folder, overwrite)
        make_folder(folder)
        text = json.dumps(self.to_dict(), indent=2) + "\n"
        with Replacement() as files:
            files.write(folder / FILES[0], lambda path: self.table.to_csv(path, index=False))
            files.write(folder / FILES[1], lambda path: self.runs.to_csv(path, index=False))
            files.write(folder / FILES[2], lambda path: path.write_text(text, "utf-8"))
            with suppress(MissingDependencyError):
                figure = self.plot()
                files.write(
                    folder / FILES[3], lambda path: figure.savefig(path, dpi=110, format="png")
                )
        return folder

    def to_dict(self) -> dict[str, Any]:
        """Return all but runs, losses and windows in types of JSON; None stands for NaN."""
        rows = [
            {k: None if pd.isna(v) else getattr(v, "item", lambda v=v: v)() for k, v in row.items()}
            for row in self.table.to_dict("records")
        ]
        return {
            "answer": self.answer,
            "verdict": self.verdict,
            "is_exploratory": self.is_exploratory,
            "baseline": self.baseline,
            "headline": self.headline,
            "controls": dict(self.controls),
            "settings": dict(self.settings),
            "table": rows,
        }


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise `InvalidParameterError` if the folder is a file, or holds results to be kept."""
    if folder.exists() and not folder.is_dir():
        raise InvalidParameterError(
            f"A comparison is written into a folder. {str(folder)!r} is a file. Name a folder.",
            parameter="folder",
        )
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        raise InvalidParameterError(
            f"Existing results are replaced only with overwrite=True. {str(folder)!r} holds "
            f"{', '.join(present)}. Pass overwrite=True or name another folder.",
            parameter="overwrite",
        )


# ------------------------------------------------------------------------------------ conclusions


def conclude(
    arms: list[ArmRuns],
    seeds: list[int],
    windows: Windows,
    count: NDArray[np.float64],
    settings: Mapping[str, Any],
    naive: Mapping[str, NDArray[np.float64]] | None = None,
) -> Comparison:
    """Select arms by validation, compare them on the test windows, and state the verdict.

    Parameters
    ----------
    arms, seeds, windows, count, settings, naive
        Arguments of `adaptivepatch.comparison.findings.judge`.
    """
    findings = judge(arms, seeds, windows, count, settings, naive)
    rows = [_table_row(arm, findings, count) for arm in findings.arms]
    rows += [_naive_row(forecast, findings, count) for forecast in findings.naive]
    return Comparison(
        table=pd.DataFrame(rows),
        runs=pd.concat([_run_rows(arm, seeds, count) for arm in arms], ignore_index=True),
        verdict=sentences(findings),
        is_exploratory=is_exploratory(findings),
        controls=list_controls(findings),
        baseline=findings.baseline.name,
        headline=findings.headline.runs.name,
        settings=findings.settings,
        losses={name: total / np.maximum(count, 1) for name, total in findings.totals().items()},
        windows=findings.windows,
        answer=answer(findings),
    )


def _table_row(arm: JudgedArm, findings: Findings, count: NDArray[np.float64]) -> dict[str, Any]:
    runs, baseline = arm.runs, findings.baseline
    error = runs.test_error(count)
    fit, predict = np.median(runs.fit_seconds), np.median(runs.predict_seconds)
    equal = arm.to_equal_tokens
    if runs is baseline:
        verdict = "baseline"
    elif arm.to_baseline is None:
        verdict = ""
    else:
        verdict = "exploratory" if is_exploratory(findings) else SIDES[arm.to_baseline.verdict]
    return {
        "arm": runs.name,
        "role": runs.role,
        "patcher": runs.patcher,
        "tokens": runs.tokens,
        "compression_rate": findings.settings["context_length"] / runs.tokens,
        "validation_error": runs.validation_error.mean(),
        "test_error": error.mean(),
        "test_error_std": error.std(ddof=1) if len(error) > 1 else np.nan,
        "difference": error.mean() / baseline.test_error(count).mean() - 1,
        "low": np.nan if arm.to_baseline is None else arm.to_baseline.low,
        "high": np.nan if arm.to_baseline is None else arm.to_baseline.high,
        "equal_tokens_arm": None if equal is None else equal.other.name,
        "equal_tokens_difference": np.nan if equal is None else equal.interval.difference,
        "equal_tokens_low": np.nan if equal is None else equal.interval.low,
        "equal_tokens_high": np.nan if equal is None else equal.interval.high,
        "fit_cpu_seconds": fit,
        "predict_cpu_seconds": predict,
        "fit_cost": fit / max(np.median(baseline.fit_seconds), 1e-9),
        "predict_cost": predict / max(np.median(baseline.predict_seconds), 1e-9),
        "parameters": runs.parameters,
        "seeds": len(error),
        "verdict": verdict,
    }


def _naive_row(naive: Naive, findings: Findings, count: NDArray[np.float64]) -> dict[str, Any]:
    error = naive.test_error(count)
    return {
        "arm": naive.name,
        "role": "naive",
        "test_error": error,
        "difference": error / findings.baseline.test_error(count).mean() - 1,
        "parameters": 0,
        "seeds": 0,
        "verdict": "",
    }


def _run_rows(arm: ArmRuns, seeds: list[int], count: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": arm.name,
            "seed": seeds,
            "validation_error": arm.validation_error,
            "test_error": arm.test_error(count),
            "best_step": arm.best_step,
            "still_falling": arm.still_falling,
            "fit_cpu_seconds": arm.fit_seconds,
            "predict_cpu_seconds": arm.predict_seconds,
        }
    )
