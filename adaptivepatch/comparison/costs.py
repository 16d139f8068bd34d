"""The time that a comparison takes: measured before the first fit, and what is left of it.

`measure` takes a few training steps, one validation pass and some test forecasts of every arm, so
that the estimate holds for the user's data, patchers, settings and machine. `Clock` adds them up
and reports progress.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptivepatch.comparison.arms import Candidate
from adaptivepatch.comparison.fits import Setup, fit_arm, forecast_test
from adaptivepatch.comparison.progress import Progress
from adaptivepatch.data.windows import Windows
from adaptivepatch.network import PatchNetwork
from adaptivepatch.torch_state import seeded
from adaptivepatch.training.devices import Processes, resolve_device
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.record import TrainingRecord, WindowSets
from adaptivepatch.training.sampler import WindowSource
from adaptivepatch.training.trainer import ForecastLoop, Trainer

WARM_UP, MEASURED = 2, 8
"""Training steps of a trial: those that only warm caches up, and those that are measured."""

SHORTEST = 10
"""Least number of trials that the fits of an arm must be as long as, for trials to be worth it."""

_TEST_WINDOWS = 512  # test windows that a trial forecasts, at most


class Cost(NamedTuple):
    """CPU seconds of one fit of an arm, if it is not stopped early, and of its test forecasts."""

    fit: float
    test: float


@dataclass(frozen=True)
class Costs:
    """Costs of all arms.

    Parameters
    ----------
    arms : list of Cost
        One cost per arm.
    slowness : float
        Seconds that pass in a CPU second, at least 1; more if other programs use the processor.
    """

    arms: list[Cost]
    slowness: float


class TrialTrainer(Trainer):
    """A trainer that takes a few steps to measure them.

    Parameters
    ----------
    setup : Setup
        Setup whose trainer is measured.

    Attributes
    ----------
    seconds : float
        Expected CPU seconds of the whole training, without what precedes it.
    own_seconds : float
        CPU seconds of the trial itself.
    """

    def __init__(self, setup: Setup) -> None:
        trainer = setup.trainer
        super().__init__(**{name: getattr(trainer, name) for name in Trainer._get_param_names()})
        self.setup = setup

    def fit(
        self,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        *,
        seed: int,
        **settings: Any,
    ) -> TrainingRecord:
        """Take a few steps and validate once.

        Parameters
        ----------
        network, source, windows, row_loss, seed, **settings
            Arguments of `Trainer.fit`.
        """
        del settings
        began = time.process_time()
        processes = Processes.current(resolve_device(self.device))
        cuda = [processes.device] if processes.device.type == "cuda" else []
        marks: list[float] = []
        with seeded(seed, cuda):
            loop = ForecastLoop(
                self.setup.trainer,
                network,
                source,
                self.setup.thinned(windows),
                row_loss,
                processes,
                seed,
            )
            validations = math.ceil(loop.total_steps / loop.validate_every)
            loop.last_step = loop.validate_every = WARM_UP + MEASURED
            loop.run(
                lambda _: marks.append(time.process_time()),
                lambda *_: marks.append(time.process_time()),
            )
        first, last, validated = marks[WARM_UP - 1], marks[-2], marks[-1]
        training = loop.total_steps * (last - first) / MEASURED
        self.seconds = training + validations * (validated - last)
        record = loop.finish()
        self.own_seconds = time.process_time() - began
        return record


def measure(
    arms: list[Candidate], seeds: list[int], setup: Setup, windows: Windows
) -> Costs | None:
    """Measure what a fit of each arm costs; return None if that takes as long as the fits.

    Parameters
    ----------
    arms : list of Candidate
        Arms of the comparison.
    seeds : list of int
        Seeds of the fits of every arm.
    setup : Setup
        Data and settings that all fits share.
    windows : Windows
        Test windows.
    """
    steps = setup.trainer.max_steps
    if steps is not None and len(seeds) * steps < SHORTEST * (WARM_UP + MEASURED):
        return None
    wall, cpu = time.perf_counter(), time.process_time()
    _trial(arms[0], setup, windows)  # loads libraries; its time does not count
    costs = [_trial(arm, setup, windows) for arm in arms]
    slowness = (time.perf_counter() - wall) / max(time.process_time() - cpu, 1e-9)
    return Costs(costs, max(1.0, slowness))


def _trial(arm: Candidate, setup: Setup, windows: Windows) -> Cost:
    """Measure one arm."""
    trainer = TrialTrainer(setup)
    began = time.process_time()
    fitted = fit_arm(setup, arm, 0, trainer)
    fit = time.process_time() - began - trainer.own_seconds + trainer.seconds
    fewer = math.ceil(len(windows) / _TEST_WINDOWS)
    tried = len(setup.windows(windows.stride * fewer))
    began = time.process_time()
    tested = forecast_test(setup, windows.stride * fewer, fitted.model)
    rest = time.process_time() - began - tested.cpu_seconds
    return Cost(fit, rest + tested.cpu_seconds * len(windows) / tried)


class Clock:
    """Expected time of a comparison, and reports of its progress.

    Parameters
    ----------
    costs : Costs or None
        Costs of the arms, if they were measured.
    num_arms, num_seeds, n_jobs : int
        Number of arms, of fits of each, and of processes.
    progress : callable
        Function that progress is reported to.

    Attributes
    ----------
    cpu_seconds : float or None
        Expected CPU seconds of all fits and test forecasts, if costs were measured.
    """

    def __init__(
        self, costs: Costs | None, num_arms: int, num_seeds: int, n_jobs: int, progress: Progress
    ) -> None:
        self.costs, self.progress = costs, progress
        self.total, self.num_done = 2 * num_arms * num_seeds, 0
        self.processes = min(n_jobs, os.cpu_count() or 1, num_arms * num_seeds)
        self.cpu_seconds: float | None = None
        if costs is not None:
            self.cpu_seconds = num_seeds * sum(cost.fit + cost.test for cost in costs.arms)
        self.cpu_done = 0.0
        self.started = time.perf_counter()

    def announce(self, text: str, is_upper_bound: bool) -> None:
        """Report the expected time.

        Parameters
        ----------
        text : str
            Description of what is going to be done.
        is_upper_bound : bool
            Whether fits may stop early.
        """
        if self.costs is None or self.cpu_seconds is None:
            expected = "Estimated time: not measured, as training is very short"
        else:
            seconds = self.cpu_seconds * self.costs.slowness / self.processes
            expected = f"Estimated time: {'at most' if is_upper_bound else 'about'} "
            expected += f"{duration(seconds)} ({duration(self.cpu_seconds)} of CPU time)"
        self.progress(0, self.total, f"{expected} for {text}")

    def fitted(self, arm: int, text: str) -> None:
        """Report a fit.

        Parameters
        ----------
        arm : int
            Position of the arm.
        text : str
            Description of what was done.
        """
        self._report(text, None if self.costs is None else self.costs.arms[arm].fit)

    def tested(self, arm: int, text: str) -> None:
        """Report test forecasts; the parameters are those of `fitted`."""
        self._report(text, None if self.costs is None else self.costs.arms[arm].test)

    def _report(self, text: str, cost: float | None) -> None:
        self.num_done += 1
        if cost is not None and self.cpu_seconds is not None:
            self.cpu_done += cost
            passed = time.perf_counter() - self.started
            text += f"; {duration(passed * (self.cpu_seconds / self.cpu_done - 1))} left"
        self.progress(self.num_done, self.total, text)


def duration(seconds: float) -> str:
    """Return a rounded duration.

    Examples
    --------
    >>> [duration(s) for s in (0.4, 42, 247, 4020)]
    ['1 s', '42 s', '4 min 7 s', '1 h 7 min']
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
