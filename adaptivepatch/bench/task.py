"""`Task`: what is forecast and how it is measured; `Arm`: the model that is measured on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from adaptivepatch.components import backbone_from_settings, patcher_from_settings
from adaptivepatch.errors import InvalidParameterError, suggest
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.training.trainer import Trainer

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Task:
    """A cell of a benchmark: a data set and what is forecast of it.

    Parameters
    ----------
    dataset : str
        Name of a data set with split borders, or of a planted task.
    horizon : int
        Steps to forecast.
    context_length : int
        Look-back, in time steps.
    protocol : {"ltsf", "small", "planted"}, default="ltsf"
        What runs it. "ltsf", the long-horizon benchmark: scaling by training rows, errors on
        scaled data, every test window of stride 1. "small": the same, of small models trained
        for few steps, which are never ranked with others. "planted": see
        `adaptivepatch.bench.planted`.
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
    """A named model with its settings, as a suite file writes them.

    Parameters
    ----------
    name : str
        Unique within the suite.
    settings : mapping
        Arguments of `Forecaster`, with ``patcher``, ``backbone`` and ``trainer`` as mappings; the
        first two hold the registered ``name``, and hold their own parts in the same form. For
        planted tasks see `adaptivepatch.bench.planted.run_planted`.
    """

    name: str
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any setting."""
        return fingerprint(self.settings)

    def forecaster(self, task: Task, seed: int) -> Forecaster:
        """Return an untrained forecaster for a task."""
        try:
            return self._forecaster(task, seed)
        except TypeError as error:  # of a constructor: an argument it does not have
            raise InvalidParameterError(
                f"The settings of an arm must be arguments of its parts. {self.name!r} has others "
                f"({error}). Correct the suite."
            ) from error

    def _forecaster(self, task: Task, seed: int) -> Forecaster:
        settings = dict(self.settings)
        for key, build in (
            ("patcher", patcher_from_settings),
            ("backbone", backbone_from_settings),
        ):
            if key in settings:
                settings[key] = build(settings[key])
        settings["trainer"] = Trainer(**settings.get("trainer", {}))
        return Forecaster(task.horizon, task.context_length, random_state=seed, **settings)


@dataclass(frozen=True)
class Run:
    """One training: an arm on a task with a seed."""

    suite: str
    task: Task
    arm: Arm
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        """What makes a finished row this run's."""
        return (
            self.suite,
            self.task.fingerprint,
            self.arm.name,
            self.arm.fingerprint,
            str(self.seed),
        )


def read_suite(name_or_path: str | Path) -> list[Run]:
    """Read a suite file.

    Parameters
    ----------
    name_or_path : str or Path
        A suite of this package by name, or a YAML file with the keys ``tasks`` (mappings of
        `Task`), ``arms`` (name to settings; ``base`` settings apply to all), and ``seeds``.

    Returns
    -------
    list of Run
        Seeds outermost, so that an interrupted suite has whole seeds.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = SUITES / f"{name_or_path}.yaml"
    if not path.is_file():
        available = sorted(file.stem for file in SUITES.glob("*.yaml"))
        raise InvalidParameterError(
            f"Unknown suite {str(name_or_path)!r}. Available: {available}, or the path of a YAML "
            f"file.{suggest(str(name_or_path), available)}"
        )
    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidParameterError(
            f"A suite must be a YAML file. {str(path)!r} cannot be read "
            f"({shorten(str(error), 200)}). Correct it."
        ) from error
    found = sorted(text) if isinstance(text, dict) else text
    allowed = {"about", "tasks", "base", "arms", "seeds"}
    if not isinstance(text, dict) or not {"tasks", "arms", "seeds"} <= set(text) <= allowed:
        raise InvalidParameterError(
            f"A suite must have the keys tasks, arms and seeds, and may have {sorted(allowed)}. "
            f"{str(path)!r} has {shorten(str(found), 90)}."
        )
    try:
        return list(_runs(path.stem, text))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InvalidParameterError(
            "A suite lists seeds (integers), tasks (fields of Task) and arms (names to settings). "
            f"{str(path)!r} does not ({type(error).__name__}: {error}). Correct it."
        ) from error


def choose_runs(
    runs: Sequence[Run],
    *,
    arms: Sequence[str] = (),
    datasets: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Run]:
    """Return the runs with the given arms, data sets and seeds; an empty list wants all.

    Raises
    ------
    InvalidParameterError
        If one of them is in no run.
    """
    wanted: dict[str, Sequence[Any]] = {"arm": arms, "data set": datasets, "seed": seeds}
    for kind, names in wanted.items():
        available = list(dict.fromkeys(_part(run, kind) for run in runs))
        for name in names:
            if name not in available:
                raise InvalidParameterError(
                    f"Unknown {kind} {name!r} of the suite. Available: {available}."
                    f"{suggest(str(name), map(str, available))}"
                )
    return [
        run
        for run in runs
        if all(not names or _part(run, kind) in names for kind, names in wanted.items())
    ]


def _part(run: Run, kind: str) -> Any:
    return {"arm": run.arm.name, "data set": run.task.dataset, "seed": run.seed}[kind]


def _runs(suite: str, text: Mapping[str, Any]) -> Iterator[Run]:
    base = text.get("base") or {}
    for seed in text["seeds"]:
        for task in text["tasks"]:
            for name, settings in text["arms"].items():
                merged = {**base, **(settings or {})}
                only = merged.pop("only", None)  # tasks an arm is for, by context length
                if only is None or task["context_length"] in only:
                    yield Run(suite, Task(**task), Arm(name, merged), int(seed))


def fingerprint(value: Mapping[str, Any]) -> str:
    """Return twelve hexadecimal digits of a mapping, whatever its order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
