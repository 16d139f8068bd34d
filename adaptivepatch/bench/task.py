"""Suites of the benchmark: every run of a suite is an arm on a task with a seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from adaptivepatch.errors import InvalidParameterError, suggest

SUITES = Path(__file__).parent / "suites"

KEY = ("suite", "task", "arm", "settings_id", "seed")
"""Columns of a results file that together identify a run."""


@dataclass(frozen=True)
class Task:
    """Data set, horizon and look-back of a forecast, with the protocol that measures it.

    Parameters
    ----------
    dataset : str
        Name of a data set with split borders, or of a planted task.
    horizon : int
        Number of time steps to forecast.
    context_length : int
        Look-back, in time steps.
    protocol : str, default="ltsf"
        Name of the protocol that trains and measures the arms of the task; see
        `adaptivepatch.bench.protocols.PROTOCOLS`.
    """

    dataset: str
    horizon: int
    context_length: int
    protocol: str = "ltsf"

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any field."""
        return fingerprint({f.name: getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True)
class Arm:
    """Model with a name, and with its settings as they are written in a suite file.

    Parameters
    ----------
    name : str
        Name, unique within the suite.
    settings : mapping
        Settings that the protocol of the task reads. In most protocols they are arguments of
        `Forecaster` (`adaptivepatch.bench.ltsf_fit.make_forecaster`); for planted tasks, see
        `adaptivepatch.bench.planted_fit.fit_planted`.
    """

    name: str
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any setting."""
        return fingerprint(self.settings)


@dataclass(frozen=True)
class Run:
    """One run of the benchmark: an arm on a task with a seed."""

    suite: str
    task: Task
    arm: Arm
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """First columns of the run's row."""
        return {
            "suite": self.suite,
            "task": self.task.fingerprint,
            "dataset": self.task.dataset,
            "protocol": self.task.protocol,
            "horizon": self.task.horizon,
            "context_length": self.task.context_length,
            "arm": self.arm.name,
            "settings_id": self.arm.fingerprint,
            "seed": self.seed,
        }

    @property
    def key(self) -> tuple[str, ...]:
        """Values of the columns `KEY`, as text; a row with the same values belongs to this run."""
        identity = self.identity
        return tuple(str(identity[column]) for column in KEY)


def read_suite(name_or_path: str | Path) -> list[Run]:
    """Read a suite file.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a suite of this package, or path of a YAML file with the keys ``tasks`` (fields of
        `Task`), ``arms`` (settings by name), ``seeds`` and optionally ``base`` (settings of all
        arms). An arm with the setting ``only`` is run only on tasks with one of the listed
        look-backs.

    Returns
    -------
    list of Run
        Runs of the first seed, then runs of the second seed, and so on, so that an interrupted
        suite has complete seeds.

    Raises
    ------
    InvalidParameterError
        If the suite is unknown, or the file is not a valid suite.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = SUITES / f"{name_or_path}.yaml"
    if not path.is_file():
        available = sorted(file.stem for file in SUITES.glob("*.yaml"))
        raise InvalidParameterError(
            f"Unknown suite {str(name_or_path)!r}. Available: {available}, or the path of a YAML "
            f"file.{suggest(str(name_or_path), available)}",
            parameter="name_or_path",
        )
    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidParameterError(
            f"The suite {str(path)!r} cannot be read as YAML ({shorten(str(error), 200)}). Correct "
            "the file.",
            parameter="name_or_path",
        ) from error
    found = sorted(map(str, text)) if isinstance(text, dict) else text
    required, allowed = {"tasks", "arms", "seeds"}, {"about", "tasks", "base", "arms", "seeds"}
    if not isinstance(text, dict) or not required <= set(text) <= allowed:
        raise InvalidParameterError(
            "A suite must have the keys tasks, arms and seeds, and may have only the keys "
            f"{sorted(allowed)}. Got {shorten(str(found), 90)} in {str(path)!r}. Correct the keys.",
            parameter="name_or_path",
        )
    try:
        return list(_runs(path.stem, text))
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise InvalidParameterError(
            f"{str(path)!r} is not a valid suite ({type(error).__name__}: "
            f"{shorten(str(error), 200)}). A suite lists seeds (integers), tasks (fields of Task) "
            "and arms (settings by name). Correct the file.",
            parameter="name_or_path",
        ) from error


def choose_runs(
    runs: Sequence[Run],
    *,
    arms: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Run]:
    """Return the runs with the given arms, data sets and seeds.

    Parameters
    ----------
    runs : sequence of Run
        Runs to choose from.
    arms, datasets : sequence of str, default=()
        Names to keep; an empty sequence keeps all.
    seeds : sequence of int, default=()
        Seeds to keep; an empty sequence keeps all.

    Raises
    ------
    InvalidParameterError
        If no run has one of the given names or seeds.
    """
    wanted: dict[str, tuple[str, Sequence[Any]]] = {
        "arm": ("arms", arms),
        "data set": ("datasets", datasets),
        "seed": ("seeds", seeds),
    }
    for kind, (parameter, names) in wanted.items():
        available = list(dict.fromkeys(_part(run, kind) for run in runs))
        for name in names:
            if name not in available:
                raise InvalidParameterError(
                    f"Unknown {kind} {name!r} of the suite. Available: {available}."
                    f"{suggest(str(name), map(str, available))}",
                    parameter=parameter,
                )
    return [
        run
        for run in runs
        if all(not names or _part(run, kind) in names for kind, (_, names) in wanted.items())
    ]


def _part(run: Run, kind: str) -> Any:
    return {"arm": run.arm.name, "data set": run.task.dataset, "seed": run.seed}[kind]


def _runs(suite: str, text: Mapping[str, Any]) -> Iterator[Run]:
    base = text.get("base") or {}
    for seed in text["seeds"]:
        for task in text["tasks"]:
            for name, settings in text["arms"].items():
                merged = {**base, **(settings or {})}
                only = merged.pop("only", None)
                if only is None or task["context_length"] in only:
                    yield Run(suite, Task(**task), Arm(name, merged), int(seed))


def fingerprint(value: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits that identify a mapping, regardless of its order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
