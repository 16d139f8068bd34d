"""The fits of a comparison: every arm is fitted with every seed and forecasts the test windows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from adaptivepatch.comparison.arms import ArmRuns, Candidate, fit_seed
from adaptivepatch.comparison.effort import Effort
from adaptivepatch.data.naive import naive_forecasts
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.data.seasons import default_season, naive_seasons
from adaptivepatch.data.splitting import held_out_rows
from adaptivepatch.data.windows import Windows, complete_or_padded
from adaptivepatch.errors import InvalidFrameError
from adaptivepatch.estimators.backtest import MIN_OBSERVED
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.network import PatchNetwork
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.record import TrainingRecord, WindowSets
from adaptivepatch.training.sampler import WindowSource
from adaptivepatch.training.trainer import Trainer

LOSSES = {"MSE": "mse", "MAE": "mae"}
_SEGMENTED_WINDOWS = 256  # number of test windows in which tokens are counted
_LAST_PART, _LEAST_FALL = 0.25, 0.01  # share of the steps, and relative fall of the loss in it

Done = Callable[[int, str], None]
"""Function that is called as ``done(arm, text)`` with the position of an arm."""

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
    effort : Effort
        Distances of validation and test windows.
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
    effort: Effort

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

    @property
    def training(self) -> Panel:
        """All rows before the test part."""
        return self.panel.slice_rows(0, self.border)

    def held_out(self) -> NDArray[np.int64]:
        """Return the number of validation rows at the end of each item of `training`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fits without validation raise
            return held_out_rows(self.training, self.horizon, self.validation_rows)

    def scale(self) -> NDArray[np.float64]:
        """Return the deviation of the training rows, of shape (items, channels)."""
        return Scaling.fit(self.panel, self.border - self.held_out()).std

    @cached_property
    def validation_stride(self) -> int:
        """Distance of the validation windows that are evaluated."""
        training, held_out = self.training, self.held_out()
        starts = np.where(held_out > 0, training.lengths - held_out, training.lengths)
        shape = (self.context_length, self.horizon)
        windows = complete_or_padded(training, *shape, targets_from=starts)
        return self.effort.validation_stride(len(windows), training.num_channels, self.horizon)

    def thinned(self, windows: WindowSets) -> WindowSets:
        """Return windows of a fit with evenly spaced validation windows only."""
        if windows.validation is None:
            return windows
        return windows._replace(validation=windows.validation[:: self.validation_stride])


class ThinningTrainer(Trainer):
    """A trainer that validates on evenly spaced windows only.

    Parameters
    ----------
    trainer : Trainer
        Trainer that trains.
    setup : Setup
        Setup that thins the windows.
    """

    def __init__(self, trainer: Trainer, setup: Setup) -> None:
        super().__init__(**{name: getattr(trainer, name) for name in Trainer._get_param_names()})
        self.trainer, self.setup = trainer, setup

    def fit(
        self,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        **settings: Any,
    ) -> TrainingRecord:
        """Train with fewer validation windows.

        Parameters
        ----------
        network, source, windows, row_loss, **settings
            Arguments of `Trainer.fit`.
        """
        thinned = self.setup.thinned(windows)
        return self.trainer.fit(network, source, thinned, row_loss, **settings)


class Fitted(NamedTuple):
    """One fit."""

    model: PanelModel
    validation_error: float
    best_step: int
    still_falling: bool
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
    fitted: Done,
    tested: Done,
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
    fitted, tested : callable
        Functions that are called after every fit, and after every forecast of the test windows.
    """
    jobs = [(arm, seed) for seed in seeds for arm in arms]  # seeds outermost, as in suites
    labels = [f"{arm.name}, seed {seed}" for arm, seed in jobs]

    def to(done: Done, what: str) -> Callable[[int], None]:
        return lambda job: done(job % len(arms), f"{labels[job]}: {what}")

    fits = _run(fit_arm, [(setup, *job) for job in jobs], n_jobs, to(fitted, "fitted"))
    models = [(setup, windows.stride, fit.model) for fit in fits]
    tests = _run(forecast_test, models, n_jobs, to(tested, "forecast the test part"))
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
    n_jobs: int,
    done: Callable[[int], None],
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
        done(k)
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


def fit_arm(setup: Setup, arm: Candidate, seed: int, trainer: Trainer | None = None) -> Fitted:
    """Fit one arm with one seed on the rows before the test part.

    Parameters
    ----------
    setup : Setup
        Data and settings.
    arm : Candidate
        Arm to fit.
    seed : int
        Seed of the comparison.
    trainer : Trainer, optional
        Trainer to fit it with. Default: a `ThinningTrainer` around that of the setup.
    """
    layout = setup.panel.layout
    model = Forecaster(
        setup.horizon,
        setup.context_length,
        patcher=clone(arm.patcher),
        backbone=setup.backbone,
        embedding=None if arm.patcher.halo else setup.embedding,
        loss=LOSSES[setup.metric],
        missing=setup.missing,
        trainer=ThinningTrainer(setup.trainer, setup) if trainer is None else trainer,
        random_state=fit_seed(seed, arm.name),
    )
    frame = setup.training.to_frame()
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
        is_still_falling(record),
        count_parameters(model.network_),
        seconds,
    )


def is_still_falling(record: TrainingRecord) -> bool:
    """Tell whether training ended at its last step, and longer training would probably help.

    The last validation is then the best one, and its loss is at least 1 % below that before the
    last quarter of the training.
    """
    steps = record.total_steps
    earlier = [
        entry["validation_loss"]
        for entry in record.history
        if entry["step"] <= (1 - _LAST_PART) * steps
    ]
    if record.best_step < steps or not earlier:
        return False
    return record.best_loss <= (1 - _LEAST_FALL) * earlier[-1]


def forecast_test(setup: Setup, stride: int, model: PanelModel) -> Tested:
    """Forecast the test windows with one fit.

    Parameters
    ----------
    setup : Setup
        Data and settings.
    stride : int
        Distance of the test windows.
    model : PanelModel
        Trained model.
    """
    windows = setup.windows(stride)
    with _one_thread():
        started = time.process_time()
        prediction = model.predict(setup.panel, windows)[..., 0]
        seconds = time.process_time() - started
        some = windows.select(slice(None, None, max(1, len(windows) // _SEGMENTED_WINDOWS)))
        tokens = float(model.segment(setup.panel, some).num_patches.double().mean())
    total = _losses(setup, windows, prediction, model.scaling_of(setup.panel).std)
    return Tested(total, tokens, seconds)


def naive_losses(setup: Setup, windows: Windows) -> dict[str, NDArray[np.float64]]:
    """Return the losses of the naive forecasts that exist for every target, by name.

    The seasons are those of the training rows.

    Parameters
    ----------
    setup : Setup
        Data and settings.
    windows : Windows
        Test windows.

    Returns
    -------
    dict of str to ndarray of shape (windows,)
        Losses, each summed over observed steps and channels.
    """
    training, scale = setup.training, setup.scale()
    seasons = naive_seasons(training, default_season(training.freq))
    found = {
        name: _losses(setup, windows, forecast, scale)
        for name, forecast in naive_forecasts(windows, seasons)
    }
    return {name: total for name, total in found.items() if np.isfinite(total).all()}


def _losses(
    setup: Setup,
    windows: Windows,
    forecast: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the loss of each window, summed over observed steps and channels.

    Parameters
    ----------
    setup : Setup
        Setup with the metric.
    windows : Windows
        Windows that were forecast.
    forecast : ndarray of shape (windows, horizon, channels)
        Forecasts in original units.
    scale : ndarray of shape (items, channels)
        Deviation of the training rows.
    """
    error = (forecast - windows.future()) / scale[windows.item][:, None, :]
    loss = error**2 if setup.metric == "MSE" else np.abs(error)
    return np.where(observed_targets(windows), loss, 0.0).sum(axis=(1, 2))


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
        still_falling=np.array([fit.still_falling for fit in fits]),
        fit_seconds=np.array([fit.cpu_seconds for fit in fits]),
        predict_seconds=np.array([test.cpu_seconds for test in tests]),
    )
