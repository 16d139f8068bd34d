"""`ResultRow`: one finished run, with its settings, measures, costs and provenance."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import adaptivepatch
from adaptivepatch.bench.task import KEY, Run

PROVENANCE = (
    *("device", "threads", "python", "torch", "adaptivepatch"),
    *("commit", "dirty", "finished"),
)
"""Columns that `provenance` fills."""


@dataclass(frozen=True)
class ResultRow:
    """One finished run of any protocol.

    Parameters
    ----------
    run : Run
        Identity and settings.
    measures : mapping
        Results by name; the protocol of the task defines the names.
    costs : mapping
        Size and time by name, from `costs`.
    provenance : mapping
        Versions, commit and machine, from `provenance`.
    """

    run: Run
    measures: Mapping[str, Any]
    costs: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """All values by the name of their column."""
        return {
            **self.run.identity,
            **self.measures,
            **self.costs,
            **self.provenance,
            "settings": as_json(self.run.arm.settings),
        }


class Measured(NamedTuple):
    """Result of one run: its row, its validations, and the error of each test window.

    ``curve`` holds a row per validation (`curve_rows`). ``window_mse`` has the shape (windows,), or
    is None if the errors of windows are not kept.
    """

    row: ResultRow
    curve: list[dict[str, Any]]
    window_mse: NDArray[np.float64] | None = None


class Seconds(NamedTuple):
    """Wall time and CPU time, in seconds."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds) -> Seconds:
        """Return the difference, rounded to hundredths."""
        return Seconds(round(self.wall - start.wall, 2), round(self.cpu - start.cpu, 2))


def costs(num_parameters: int, fit: Seconds, predict: Seconds | None = None) -> dict[str, Any]:
    """Return the size and the time of a run, as columns of a row.

    Parameters
    ----------
    num_parameters : int
        Number of trained parameters.
    fit : Seconds
        Time of training.
    predict : Seconds, optional
        Time of forecasting every test window.
    """
    found = {
        "num_parameters": num_parameters,
        "fit_seconds": fit.wall,
        "fit_cpu_seconds": fit.cpu,
    }
    if predict is not None:
        found |= {"predict_seconds": predict.wall, "predict_cpu_seconds": predict.cpu}
    return found


def curve_rows(run: Run, history: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return one row per validation, with the key of the run.

    The patcher's own entries in the history become one column of JSON, so that all arms have the
    same columns.
    """
    key = {column: run.identity[column] for column in KEY}
    return [{**key, **_curve_row(entry)} for entry in history]


_CURVE = ("step", "train_loss", "validation_loss", "auxiliary_loss", "learning_rate", "seconds")


def _curve_row(entry: Mapping[str, float]) -> dict[str, Any]:
    own = {key: value for key, value in entry.items() if key not in _CURVE}
    return {**{key: entry[key] for key in _CURVE}, "patcher": as_json(own)}


def as_json(value: Mapping[str, Any]) -> str:
    """Return a mapping as one line of JSON, with sorted keys."""
    return json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------ provenance


def provenance(device: torch.device) -> dict[str, Any]:
    """Return versions, commit and machine of this process, as columns of a row.

    The commit is read once per process, at the first call: later commits do not change the code
    that is loaded. ``finished`` is the time of the call.
    """
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
    """Return the commit, and whether the package has uncommitted changes."""
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
