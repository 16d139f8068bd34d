"""The fits of a comparison: every arm is fitted with every seed and forecasts the test windows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from adaptivepatch.comparison.arms import ArmRuns, Candidate, fit_seed
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.windows import Windows, complete_or_padded
from adaptivepatch.errors import InvalidFrameError
from adaptivepatch.estimators.backtest import MIN_OBSERVED
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.training.trainer import Trainer

LOSSES = {"MSE": "mse", "MAE": "mae"}
_SEGMENTED_WINDOWS = 256  # number of test windows in which tokens are counted

Progress = Callable[[int, int, str], None]
"""Function that is called as ``progress(done, total, text)``."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setup:
    """Everything that the fits of a comparison share; it is sent to other processes.

    Parameters
    ----------
    panel : Panel
        All rows of the series.
    test_rows : ndarray of shape (items,)
        Number of test rows of each item.
    horizon, context_length : int
        Horizon and look-back in time steps.
    metric : {"MSE", "MAE"}
        Loss of training, validation and test.
    backbone : Backbone
        Backbone of all arms.
    embedding : str or None
        Embedding of all arms.
    trainer : Trainer
        Trainer of all arms.
    validation_rows : int or None
        Number of validation rows before the test rows.
    missing : {"error", "mask"}
        Treatment of gaps.
    """

    panel: Panel
    test_rows: NDArray[np.int64]
    horizon: int
    context_length: int
    metric: str
    backbone: Any
    embedding: str | None
    trainer: Trainer
    validation_rows: int | None
    missing: Literal["error", "mask"]

    @property
    def border(self) -> NDArray[np.int64]:
        """First test row of each item."""
        return self.panel.lengths - self.test_rows

    def windows(self, stride: int = 1) -> Windows:
        """Return the test windows. All targets are test rows; look-backs may begin earlier."""
        return complete_or_padded(
            self.panel,
            self.context_length,
            self.horizon,
            stride=stride,
            targets_from=self.border,
        )


class Fitted(NamedTuple):
    """One fit."""

    model: PanelModel
    validation_error: float
    best_step: int
    parameters: int
    cpu_seconds: float


class Tested(NamedTuple):
    """Losses of one fit on the test windows, each summed over observed steps and channels."""

    total: NDArray[np.float64]
    tokens: float
    cpu_seconds: float


def run_arms(
    arms: list[Candidate],
    seeds: list[int],
    setup: Setup,
    windows: Windows,
    *,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> list[ArmRuns]:
    """Fit every arm with every seed, then forecast the test windows with every fit.

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
    n_jobs : int, default=1
        Number of processes, each with one CPU thread.
    progress : callable, optional
        Function that is called after every fit and every forecast.
    """
    jobs = [(arm, seed) for seed in seeds for arm in arms]  # seeds outermost, as in suites
    labels = [f"{arm.name}, seed {seed}" for arm, seed in jobs]
    fits = _run(_fit, [(setup, *job) for job in jobs], labels, n_jobs, progress, "fitted")
    models = [(setup, windows.stride, fit.model) for fit in fits]
    tests = _run(_test, models, labels, n_jobs, progress, "forecast the test part")
    runs = []
    for arm in arms:
        own = [k for k, job in enumerate(jobs) if job[0] is arm]
        runs.append(_runs_of(arm, [fits[k] for k in own], [tests[k] for k in own]))
    return runs


def observed_targets(windows: Windows) -> NDArray[np.bool_]:
    """Return which targets count, with the shape (windows, horizon, channels)."""
    possible = windows.num_observed_past() >= MIN_OBSERVED
    return np.isfinite(windows.future()) & possible[:, None, :]


# ------------------------------------------------------------------------------------ processes


def _run(
    work: Callable[..., Result],
    jobs: list[tuple[Any, ...]],
    labels: list[str],
    n_jobs: int,
    progress: Progress | None,
    done: str,
) -> list[Result]:
    """Do jobs in this process or in several others; return their results in order."""
    if n_jobs == 1:
        found: Iterator[tuple[int, Result]] = ((k, work(*job)) for k, job in enumerate(jobs))
    else:
        calls = (delayed(_numbered)(work, k, job) for k, job in enumerate(jobs))
        found = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls)
    results: dict[int, Result] = {}
    for k, result in found:
        results[k] = result
        if progress is not None:
            progress(len(results), len(jobs), f"{labels[k]}: {done}")
    return [results[k] for k in range(len(jobs))]


def _numbered(work: Callable[..., Result], number: int, job: tuple[Any, ...]) -> tuple[int, Result]:
    return number, work(*job)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one CPU thread, because rounding, and so the results, depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ----------------------------------------------------------------------------- fit and forecast


def _fit(setup: Setup, arm: Candidate, seed: int) -> Fitted:
    """Fit one arm with one seed on the rows before the test part."""
    layout = setup.panel.layout
    model = Forecaster(
        setup.horizon,
        setup.context_length,
        patcher=clone(arm.patcher),
        backbone=setup.backbone,
        embedding=None if arm.patcher.halo else setup.embedding,
        loss=LOSSES[setup.metric],
        missing=setup.missing,
        trainer=setup.trainer,
        random_state=fit_seed(seed, arm.name),
    )
    frame = setup.panel.slice_rows(0, setup.border).to_frame()
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fits without validation raise below
        started = time.process_time()
        model.fit(
            frame,
            item_id=layout.item_id,
            timestamp=layout.timestamp,
            freq=setup.panel.freq,
            validation_rows=setup.validation_rows,
            refit=False,
        )
        seconds = time.process_time() - started
    record = model.record_
    if getattr(record, "interrupted", False):
        raise KeyboardInterrupt
    if not np.isfinite(record.best_loss):
        raise InvalidFrameError(
            "A comparison selects arms on validation rows before the test part, and no series is "
            f"long enough to have any. The longest has {int(setup.border.max())} rows there. Pass "
            "longer series, or a shorter horizon.",
            parameter="horizon",
        )
    return Fitted(
        model.model_,
        float(record.best_loss),
        int(record.best_step),
        count_parameters(model.network_),
        seconds,
    )


def _test(setup: Setup, stride: int, model: PanelModel) -> Tested:
    """Forecast every test window with one fit."""
    windows = setup.windows(stride)
    with _one_thread():
        started = time.process_time()
        prediction = model.predict(setup.panel, windows)[..., 0]
        seconds = time.process_time() - started
        some = windows.select(slice(None, None, max(1, len(windows) // _SEGMENTED_WINDOWS)))
        tokens = float(model.segment(setup.panel, some).num_patches.double().mean())
    scale = model.scaling_of(setup.panel).std[windows.item][:, None, :]
    error = (prediction - windows.future()) / scale
    loss = error**2 if setup.metric == "MSE" else np.abs(error)
    total = np.where(observed_targets(windows), loss, 0.0).sum(axis=(1, 2))
    return Tested(total, tokens, seconds)


def _runs_of(arm: Candidate, fits: list[Fitted], tests: list[Tested]) -> ArmRuns:
    return ArmRuns(
        name=arm.name,
        role=arm.role,
        kind=arm.patcher.name,
        patcher=repr(arm.patcher),
        is_trainable=arm.patcher.trainable,
        total=np.stack([test.total for test in tests]),
        tokens=float(np.mean([test.tokens for test in tests])),
        parameters=fits[0].parameters,
        validation_error=np.array([fit.validation_error for fit in fits]),
        best_step=np.array([fit.best_step for fit in fits]),
        fit_seconds=np.array([fit.cpu_seconds for fit in fits]),
        predict_seconds=np.array([test.cpu_seconds for test in tests]),
    )
