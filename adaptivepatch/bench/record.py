"""`RunRecord`: one finished run as a row of a CSV file, with all that is needed to repeat it."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import adaptivepatch
from adaptivepatch.errors import InvalidParameterError


@dataclass(frozen=True)
class RunRecord:
    """One row: what ran, what it scored, what it cost, with what versions.

    Errors are on data scaled by training rows (protocol "ltsf"), means over all test windows,
    steps and channels. Times are wall seconds.
    """

    suite: str
    task: str
    dataset: str
    protocol: str
    horizon: int
    context_length: int
    arm: str
    settings_id: str
    seed: int
    num_windows: int
    test_mse: float
    test_mae: float
    validation_loss: float
    best_step: int
    num_steps: int
    steps_per_epoch: int
    tokens: int
    compression_rate: float
    num_parameters: int
    fit_seconds: float
    predict_seconds: float
    device: str
    threads: int
    python: str
    torch: str
    adaptivepatch: str
    commit: str
    dirty: bool
    finished: str
    settings: str

    @property
    def key(self) -> tuple[str, ...]:
        """What `adaptivepatch.bench.task.Run.key` is for this row."""
        return (self.suite, self.task, self.arm, self.settings_id, str(self.seed))

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.dataset}-{self.horizon} {self.arm} seed {self.seed}: test MSE "
            f"{self.test_mse:.4f}, MAE {self.test_mae:.4f} over {self.num_windows} windows"
        )


@dataclass(frozen=True)
class PlantedRecord:
    """One row of the planted benchmark: forecast and boundaries of an arm.

    Errors are means over windows and steps, in the units of the series. ``reward`` says what the
    arm's boundaries were trained by. ``boundary_f1`` and ``shifted_f1``, after adding the best
    constant ``shift`` in time steps, are of the test windows, as is ``tokens``, their mean;
    ``example_starts`` are the patch starts of the first eight of them, as JSON. Times are seconds.
    """

    suite: str
    task: str
    dataset: str
    protocol: str
    horizon: int
    context_length: int
    arm: str
    reward: str
    settings_id: str
    seed: int
    num_windows: int
    test_mse: float
    validation_mse: float
    boundary_f1: float
    shifted_f1: float
    shift: int
    tokens: float
    example_starts: str
    best_step: int
    num_steps: int
    num_parameters: int
    fit_seconds: float
    fit_cpu_seconds: float
    device: str
    threads: int
    python: str
    torch: str
    adaptivepatch: str
    commit: str
    dirty: bool
    finished: str
    settings: str

    @property
    def key(self) -> tuple[str, ...]:
        """What `adaptivepatch.bench.task.Run.key` is for this row."""
        return (self.suite, self.task, self.arm, self.settings_id, str(self.seed))

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.dataset} {self.arm} seed {self.seed}: test MSE {self.test_mse:.4f}, boundary "
            f"F1 {self.boundary_f1:.3f}, shifted by {self.shift} {self.shifted_f1:.3f}"
        )


@dataclass(frozen=True)
class FamilyRecord:
    """One row of the comparison of all patchers: its errors, its boundaries, its cost.

    ``tokens`` and ``compression_rate`` are means over test windows, ``train_rate`` over training
    windows, all of the coarsest level. ``boundary_f1`` is NaN where no boundary is known. For
    enrichment and churn see `adaptivepatch.boundaries.measures`. Times are seconds.
    """

    suite: str
    task: str
    dataset: str
    protocol: str
    horizon: int
    context_length: int
    arm: str
    settings_id: str
    seed: int
    num_windows: int
    test_mse: float
    test_mae: float
    validation_loss: float
    tokens: float
    tokens_std: float
    compression_rate: float
    train_rate: float
    boundary_f1: float
    enrichment: float
    enrichment_z: float
    rank_enrichment: float
    rank_enrichment_z: float
    churn: float
    best_step: int
    num_steps: int
    num_parameters: int
    fit_seconds: float
    fit_cpu_seconds: float
    predict_seconds: float
    predict_cpu_seconds: float
    device: str
    threads: int
    python: str
    torch: str
    adaptivepatch: str
    commit: str
    dirty: bool
    finished: str
    settings: str

    @property
    def key(self) -> tuple[str, ...]:
        """What `adaptivepatch.bench.task.Run.key` is for this row."""
        return (self.suite, self.task, self.arm, self.settings_id, str(self.seed))

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.dataset}-{self.horizon} {self.arm} seed {self.seed}: test MSE "
            f"{self.test_mse:.4f} at {self.tokens:.1f} tokens, enrichment {self.enrichment:.2f}"
        )


Record = RunRecord | PlantedRecord | FamilyRecord


def provenance(device: torch.device) -> dict[str, Any]:
    """Return versions, commit and machine of this process, as columns of a record."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
        "adaptivepatch": adaptivepatch.__version__,
        **_code(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@cache
def _code() -> dict[str, str | bool]:
    """Return commit and state of the code, as it was when this process first asked."""
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "adaptivepatch")),
    }


def _git(*arguments: str) -> str:
    root = Path(adaptivepatch.__file__).parents[1]
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file, with its header if it is new, in one write."""
    rows = list(rows)
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    check_columns(path, list(rows[0]))
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def check_columns(path: Path, columns: list[str]) -> None:
    """Raise `InvalidParameterError` if the file is there and has other columns."""
    if not path.exists():
        return
    header = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
    if header != columns:
        raise InvalidParameterError(
            f"Rows must have the columns of the file they are appended to. {str(path)!r} has "
            f"{header}, the new rows {columns}. Write to a new file."
        )


_CURVE = ("step", "train_loss", "validation_loss", "auxiliary_loss", "learning_rate", "seconds")


def curve_row(entry: Mapping[str, float]) -> dict[str, Any]:
    """Return an entry of the history with what its patcher says as JSON: columns are one set."""
    own = {key: value for key, value in entry.items() if key not in _CURVE}
    return {**{key: entry[key] for key in _CURVE}, "patcher": as_settings(own)}


class Measured(NamedTuple):
    """What one run leaves: its row, its validations, and the mean squared error of each window."""

    record: Any
    curve: list[dict[str, Any]]
    window_mse: NDArray[np.float64] | None = None


def write_windows(
    results: Path, record: RunRecord | FamilyRecord, window_mse: NDArray[np.float64]
) -> Path:
    """Keep the error of every test window, so that differences can have intervals.

    Parameters
    ----------
    results : Path
        CSV file of the rows; the folder ``NAME.windows`` beside it receives one file a run.
    record : RunRecord or FamilyRecord
        The run's row.
    window_mse : ndarray of shape (windows,)
        Mean squared error over steps and channels; stored in float32.
    """
    path = windows_path(results, asdict(record))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, window_mse.astype(np.float32))
    return path


def windows_path(results: Path, row: Mapping[str, Any]) -> Path:
    """Return where the errors of a run's windows are, given its row."""
    names = ("dataset", "horizon", "context_length", "arm", "settings_id", "seed")
    name = "-".join(str(row[key]) for key in names)
    return results.with_suffix(".windows") / f"{name}.npy"


def append_record(path: Path, record: Record) -> None:
    """Append a finished run."""
    append_rows(path, [asdict(record)])


def finished_keys(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the runs a CSV file holds."""
    if not path.exists():
        return set()
    columns = ["suite", "task", "arm", "settings_id", "seed"]
    header = path.read_text(encoding="utf-8").partition("\n")[0].split(",")
    if not {*columns} <= {*header}:
        raise InvalidParameterError(
            f"Rows are appended to a file of results, with the columns {columns}. {str(path)!r} "
            "lacks some of them. Write to a new file."
        )
    table = pd.read_csv(path, usecols=columns, dtype=str)[columns]
    return set(table.itertuples(index=False, name=None))


def column_names(record: type[Record] = RunRecord) -> list[str]:
    """Return the columns of a results file, in order."""
    return [field.name for field in fields(record)]


def as_settings(settings: Mapping[str, Any]) -> str:
    """Return settings as one line of JSON."""
    return json.dumps(settings, sort_keys=True)
