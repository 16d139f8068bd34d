"""`compare`: does it help, on this data, to choose where patches begin? One table, one sentence.

Here: which arms, which rows, the fits, and the one opening of the test part. The result and its
sentence are in ``comparison.py``, the intervals in ``statistics.py``.

The course of a comparison: every arm is fitted with every seed on the rows before the test part
(their last rows select the step, nothing is fitted again); validation then chooses the baseline
and the challenger of the headline; only then is the test part forecast, once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from adaptivepatch.comparison.arms import Candidate, fit_seed, make_arms
from adaptivepatch.comparison.result import Comparison, conclude
from adaptivepatch.comparison.statistics import MIN_BLOCKS, MIN_ITEMS
from adaptivepatch.comparison.verdict import ArmRuns
from adaptivepatch.components import resolve_backbone
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.windows import Windows, complete_or_padded
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidParameterError,
    check_choice,
    check_float,
    check_int,
    suggest,
)
from adaptivepatch.estimators.backtest import MIN_OBSERVED
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.nn.tokens.patch_embedding import EMBEDDINGS
from adaptivepatch.training.trainer import Trainer, resolve_trainer

LOSSES = {"MSE": "mse", "MAE": "mae"}
MAX_TEST_ROWS = 50_000  # windows times channels; above, windows are thinned and the stride told
_SEGMENTED_WINDOWS = 256  # of the test windows, to count tokens in

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setup:
    """What all fits of a comparison share; travels to other processes."""

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
        """Return the test windows: all targets are test rows, look-backs may reach before."""
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
    """One fit's losses on the test windows: sums over observed steps and channels."""

    total: NDArray[np.float64]
    tokens: float
    cpu_seconds: float


def compare(
    df: pd.DataFrame,
    patchers: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    horizon: int,
    context_length: int = 336,
    seeds: int | Sequence[int] = 5,
    baseline: str | Sequence[str] | None = None,
    backbone: Any = "patchtst",
    embedding: str | None = "aligned",
    trainer: Trainer | None = None,
    metric: str = "MSE",
    test_share: float = 0.2,
    validation_rows: int | None = None,
    confidence: float = 0.95,
    item_id: str = "item_id",
    timestamp: str = "timestamp",
    target: str | Sequence[str] | None = None,
    freq: Any = None,
    missing: Literal["error", "mask"] = "error",
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Compare ways of patching on your own data: tell whether any beats the best fixed length.

    Parameters
    ----------
    df : pandas.DataFrame
        Wide or long, as in `Forecaster.fit`.
    patchers : sequence or mapping of str to Patcher, optional
        Arms: patchers or registered names. Fixed patchers are candidates for the baseline, random
        ones and policies that do not learn are controls, all others challengers. Default:
        `default_patchers`.
    horizon, context_length : int
        In time steps.
    seeds : int or sequence of int, default=5
        How many fits of every arm, or their seeds. Fewer than 5 are exploratory.
    baseline : str or sequence of str, optional
        Names of the arms that are candidates for the baseline; default: all fixed patchers.
    backbone : Backbone or str, default="patchtst"
        The same for all arms.
    embedding : {"aligned", "resampled"} or None, default="aligned"
        The same for all arms, so that they differ in boundaries only; patches that overlap are
        resampled in any case. None: each patcher's own, as in `Forecaster`.
    trainer : Trainer, optional
        The same for all arms. Default: `default_trainer`, short.
    metric : {"MSE", "MAE"}, default="MSE"
        On series scaled by training rows; also what is trained and validated on.
    test_share : float, default=0.2
        Last rows of each item that no fit sees.
    validation_rows : int, optional
        Rows before those that select steps and arms; default as in `Forecaster.fit`.
    confidence : float, default=0.95
        Of all intervals together (Bonferroni).
    item_id, timestamp : str
        Names of the key columns.
    target : str or sequence of str, optional
        Channels, as in `Forecaster.fit`.
    freq : str, pandas offset or int, optional
        One step, where it cannot be inferred.
    missing : {"error", "mask"}, default="error"
        As in `Forecaster`.
    n_jobs : int, default=1
        Processes, of one CPU thread each; the result does not depend on it.
    progress : callable, optional
        Called as ``progress(done, total, text)`` after every fit and every forecast of the test
        part.

    Returns
    -------
    Comparison
        ``print(result.verdict)``, ``result.table``, ``result.plot()``, ``result.save(folder)``.

    Raises
    ------
    InvalidParameterError
        If an argument is out of range, or no baseline or no challenger is among the arms.
    InvalidFrameError
        If the frame is not one of regular series, or too short.

    Notes
    -----
    Arms share the seed list, but each fit's weights and order depend on seed *and* arm name
    (`fit_seed`): two names of one patcher are two independent sets of fits.
    """
    _check(metric, embedding, test_share, n_jobs)
    numbers = _seed_list(seeds)
    panel = read_frame(
        df, item_id=item_id, timestamp=timestamp, target=target, freq=freq, missing=missing
    )
    check_int(None, horizon=horizon)
    check_int(None, low=2, context_length=context_length)
    setup = Setup(
        panel=panel,
        test_rows=np.floor(test_share * panel.lengths + 1e-9).astype(np.int64),
        horizon=horizon,
        context_length=context_length,
        metric=metric,
        backbone=resolve_backbone(backbone),
        embedding=embedding,
        trainer=resolve_trainer(trainer or default_trainer(panel.num_channels)),
        validation_rows=validation_rows,
        missing=missing,
    )
    arms = make_arms(patchers, context_length, baseline)
    windows = _test_windows(setup, test_share)
    jobs = [(arm, seed) for seed in numbers for arm in arms]  # seeds outermost, as in suites
    labels = [f"{arm.name}, seed {seed}" for arm, seed in jobs]
    fits = _run(_fit, [(setup, *job) for job in jobs], labels, n_jobs, progress, "fitted")
    models = [(setup, windows.stride, fit.model) for fit in fits]
    tests = _run(_test, models, labels, n_jobs, progress, "forecast the test part")
    runs = []
    for arm in arms:
        own = [k for k, job in enumerate(jobs) if job[0] is arm]
        runs.append(_runs_of(arm, [fits[k] for k in own], [tests[k] for k in own]))
    return conclude(
        runs,
        numbers,
        windows,
        count=_observed(windows).sum(axis=(1, 2)).astype(np.float64),
        settings=_settings(setup, windows, test_share, confidence),
    )


def default_trainer(num_channels: int) -> Trainer:
    """Return the training of a comparison that names none: short, the same for all arms."""
    return Trainer(
        max_steps=400,
        batch_size=max(1, 64 // num_channels),
        learning_rate=2e-3,
        validate_every=50,
        patience=3,
    )


# ------------------------------------------------------------------------------------- arguments


def _check(metric: str, embedding: str | None, test_share: float, n_jobs: int) -> None:
    if embedding is not None:
        check_choice(None, EMBEDDINGS, embedding=embedding)
    if metric not in LOSSES:
        raise InvalidParameterError(
            f"The 'metric' parameter must be one of {list(LOSSES)}. Got {metric!r} instead."
            f"{suggest(metric, LOSSES)}",
            parameter="metric",
        )
    check_float(None, "(0, 1)", test_share=test_share)
    check_int(None, n_jobs=n_jobs)


def _seed_list(seeds: int | Sequence[int]) -> list[int]:
    if hasattr(seeds, "__index__"):
        check_int(None, seeds=seeds)
        return list(range(int(seeds)))
    if not isinstance(seeds, Iterable):
        raise InvalidParameterError(
            f"The 'seeds' parameter must be a number of fits or their seeds. Got {seeds!r} instead.",
            parameter="seeds",
        )
    numbers = list(seeds)
    for number in numbers:
        check_int(None, low=0, seed=number)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InvalidParameterError(
            f"The 'seeds' parameter must be at least 1, or different seeds. Got {seeds!r} instead.",
            parameter="seeds",
        )
    return numbers


def _test_windows(setup: Setup, test_share: float) -> Windows:
    """Return the test windows, thinned if they are very many; refuse too few."""
    windows, channels = setup.windows(), setup.panel.num_channels
    needed, panel = MIN_BLOCKS * setup.horizon, setup.panel
    num_items = len(np.unique(windows.item))
    num_times = len(np.unique(windows.cutoff)) if len(windows) else 0
    if num_times < needed and num_items < MIN_ITEMS:
        rows = needed + setup.horizon - 1
        raise InvalidFrameError(
            f"A comparison needs {rows} test rows, for {MIN_BLOCKS} blocks of {setup.horizon} "
            f"cutoffs, or test windows of {MIN_ITEMS} items. The longest of {panel.num_items} "
            f"series has {int(setup.test_rows.max())} test rows of {int(panel.lengths.max())} and "
            f"{num_items} series have test windows. Pass {int(np.ceil(rows / test_share))} rows, "
            "a larger test_share or a shorter horizon."
        )
    stride = int(np.ceil(len(windows) * channels / MAX_TEST_ROWS))
    stride = min(stride, setup.horizon)
    return windows if stride == 1 else setup.windows(stride)


def _settings(
    setup: Setup, windows: Windows, test_share: float, confidence: float
) -> dict[str, Any]:
    return {
        "horizon": setup.horizon,
        "context_length": setup.context_length,
        "metric": setup.metric,
        "confidence": confidence,
        "test_share": test_share,
        "items": setup.panel.num_items,
        "items_tested": len(np.unique(windows.item)),
        "channels": setup.panel.num_channels,
        "test_windows": len(windows),
        "stride": windows.stride,
        "scaled_by": "training rows of each item and channel",
        "refit": False,
        "backbone": repr(setup.backbone),
        "embedding": setup.embedding,
        "trainer": repr(setup.trainer),
    }


# ------------------------------------------------------------------------------- fits and forecasts


def _run(
    work: Callable[..., Result],
    jobs: list[tuple[Any, ...]],
    labels: list[str],
    n_jobs: int,
    progress: Progress | None,
    done: str,
) -> list[Result]:
    """Do jobs in this process or in others; return their results in order."""
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
    """Compute on one CPU thread: rounding, and so results, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
        warnings.simplefilter("ignore", UserWarning)  # no validation: an error, below
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
            "A comparison selects arms on validation rows. No series is long enough to have some "
            f"before its test part: the longest has {int(setup.border.max())} rows there. Pass "
            "longer series, or a shorter horizon."
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
    total = np.where(_observed(windows), loss, 0.0).sum(axis=(1, 2))
    return Tested(total, tokens, seconds)


def _observed(windows: Windows) -> NDArray[np.bool_]:
    """Tell which targets count, of shape (windows, horizon, channels)."""
    possible = windows.num_observed_past() >= MIN_OBSERVED
    return np.isfinite(windows.future()) & possible[:, None, :]


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
