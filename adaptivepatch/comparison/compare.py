"""`compare`: tell whether choosing where patches begin helps on a user's own data.

The steps of a comparison, with the file of each: decide how much is trained and tested
(``effort.py``); name the arms (``arms.py``); measure how long it will take (``costs.py``); fit
every arm with every seed on the rows before the test part, whose last rows select the training
step, and forecast the test part once with every fit (``fits.py``); select the baseline and the
challenger of the verdict by validation error, and compute intervals (``findings.py``,
``statistics.py``); write the answer (``verdict.py``); return table, verdict, figure and files
(``result.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from adaptivepatch.comparison.arms import default_patchers, make_arms
from adaptivepatch.comparison.costs import Clock, measure
from adaptivepatch.comparison.effort import QUICK, THOROUGH
from adaptivepatch.comparison.fits import LOSSES, Setup, naive_losses, observed_targets, run_arms
from adaptivepatch.comparison.progress import Progress, reporting
from adaptivepatch.comparison.result import Comparison, conclude
from adaptivepatch.comparison.statistics import MIN_BLOCKS, MIN_ITEMS
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidParameterError,
    check_choice,
    check_float,
    check_int,
)
from adaptivepatch.keywords import helpful
from adaptivepatch.nn.tokens.patch_embedding import EMBEDDINGS
from adaptivepatch.resolver import resolve_backbone
from adaptivepatch.training.trainer import Trainer, resolve_trainer


@helpful
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
    thorough: bool = False,
    n_jobs: int = 1,
    progress: Progress | bool | None = True,
) -> Comparison:
    """Compare patchers on your own data, and answer whether adaptive patches help.

    Parameters
    ----------
    df : pandas.DataFrame
        Wide or long frame, as in `Forecaster.fit`.
    patchers : sequence or mapping of str to Patcher, optional
        Patchers to compare, called arms, or their registered names. Fixed patchers are
        candidates for the baseline, random ones and policies that do not learn are controls, all
        others are challengers. Default: `default_patchers`.
    horizon, context_length : int
        Horizon and look-back in time steps.
    seeds : int or sequence of int, default=5
        Number of fits of every arm, or their seeds. Fewer than 5 are exploratory.
    baseline : str or sequence of str, optional
        Names of the arms that are candidates for the baseline. Default: all fixed patchers.
    backbone : Backbone or str, default="patchtst"
        Backbone of all arms.
    embedding : {"aligned", "resampled"} or None, default="aligned"
        Embedding of all arms, so that they differ in boundaries only. Patches that overlap are
        always resampled. None means each patcher's own embedding, as in `Forecaster`.
    trainer : Trainer, optional
        Trainer of all arms. Default: one whose training is short; `thorough` trains longer.
    metric : {"MSE", "MAE"}, default="MSE"
        Loss of training, validation and test, on series scaled by training rows.
    test_share : float, default=0.2
        Share of the last rows of each item that are test rows, which no fit sees.
    validation_rows : int, optional
        Number of rows before the test rows that select steps and arms. Default: as in
        `Forecaster.fit`.
    confidence : float, default=0.95
        Confidence level of all intervals together (Bonferroni).
    item_id, timestamp : str
        Names of the key columns.
    target : str or sequence of str, optional
        Names of the channels, as in `Forecaster.fit`.
    freq : str, pandas offset or int, optional
        Time step, if it cannot be inferred.
    missing : {"error", "mask"}, default="error"
        Treatment of gaps, as in `Forecaster`.
    thorough : bool, default=False
        Try all compression rates, train longer, and validate and test on all windows. By default
        the training is short and windows are thinned evenly, so that a comparison ends in minutes.
    n_jobs : int, default=1
        Number of processes, each with one CPU thread. The result does not depend on it.
    progress : bool or callable, default=True
        Print the estimated time before the first fit, and then the progress with the time left, on
        the error stream. A function is called instead, as ``progress(done, total, text)``: with
        `done` 0 before the first fit, and after every fit and every forecast of the test part.

    Returns
    -------
    Comparison
        Result with `verdict`, `table`, ``plot()`` and ``save(folder)``.

    Raises
    ------
    InvalidParameterError
        If an argument is out of range, or the arms include no baseline or no challenger.
    InvalidFrameError
        If the series of the frame are not regular, or too short.

    Notes
    -----
    All arms have the same seeds, but the weights and batch order of a fit depend on the seed *and*
    the name of the arm (`fit_seed`). Two names of one patcher are two independent sets of fits.
    """
    _check(metric, embedding, test_share, n_jobs)
    numbers = _seed_list(seeds)
    panel = read_frame(
        df, item_id=item_id, timestamp=timestamp, target=target, freq=freq, missing=missing
    )
    check_int(None, horizon=horizon)
    check_int(None, low=2, context_length=context_length)
    effort = THOROUGH if thorough else QUICK
    setup = Setup(
        panel=panel,
        test_rows=np.floor(test_share * panel.lengths + 1e-9).astype(np.int64),
        horizon=horizon,
        context_length=context_length,
        metric=metric,
        backbone=resolve_backbone(backbone),
        embedding=embedding,
        trainer=resolve_trainer(trainer or effort.trainer(panel.num_channels)),
        validation_rows=validation_rows,
        missing=missing,
        effort=effort,
    )
    if patchers is None:
        patchers = default_patchers(context_length, thorough=thorough)
    arms = make_arms(patchers, context_length, baseline)
    windows = _test_windows(setup, test_share)
    naive = naive_losses(setup, windows)
    with reporting(progress) as report:
        costs = measure(arms, numbers, setup, windows)
        clock = Clock(costs, len(arms), len(numbers), n_jobs, report)
        clock.announce(
            _announcement(len(arms), len(numbers), setup, windows),
            is_upper_bound=setup.trainer.patience is not None,
        )
        done = {"fitted": clock.fitted, "tested": clock.tested}
        runs = run_arms(arms, numbers, setup, windows, n_jobs=n_jobs, **done)
    return conclude(
        runs,
        numbers,
        windows,
        count=observed_targets(windows).sum(axis=(1, 2)).astype(np.float64),
        naive=naive,
        settings=_settings(setup, windows, test_share, confidence, clock),
    )


# ------------------------------------------------------------------------------------- arguments


def _check(metric: str, embedding: str | None, test_share: float, n_jobs: int) -> None:
    if embedding is not None:
        check_choice(None, EMBEDDINGS, embedding=embedding)
    check_choice(None, LOSSES, metric=metric)
    check_float(None, "(0, 1)", test_share=test_share)
    check_int(None, n_jobs=n_jobs)


def _seed_list(seeds: int | Sequence[int]) -> list[int]:
    if hasattr(seeds, "__index__"):
        check_int(None, seeds=seeds)
        return list(range(int(seeds)))
    if not isinstance(seeds, Iterable):
        raise InvalidParameterError(
            "The 'seeds' parameter must be the number of fits, or a sequence of seeds. Got "
            f"{seeds!r} instead.",
            parameter="seeds",
        )
    numbers = list(seeds)
    for number in numbers:
        check_int(None, low=0, seed=number)
    if not numbers or len(set(numbers)) < len(numbers):
        raise InvalidParameterError(
            "The 'seeds' parameter must be the number of fits, or a sequence of different seeds. "
            f"Got {seeds!r} instead.",
            parameter="seeds",
        )
    return numbers


def _test_windows(setup: Setup, test_share: float) -> Windows:
    """Return the test windows, with a larger stride if there are very many; refuse too few."""
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
            "a larger test_share or a shorter horizon.",
            parameter="test_share",
        )
    stride = setup.effort.test_stride(len(windows), channels, num_times, setup.horizon)
    return windows if stride == 1 else setup.windows(stride)


def _announcement(num_arms: int, num_seeds: int, setup: Setup, windows: Windows) -> str:
    """Return what is going to be done, and which windows are left out."""
    text = f"{num_arms} models, each trained {num_seeds} times."
    strides = {"test": windows.stride, "validation": setup.validation_stride}
    if max(strides.values()) > 1:
        used = [f"{'all' if n == 1 else f'one in {n}'} {name}" for name, n in strides.items()]
        text += f" The comparison uses {' and '.join(used)} windows"
        text += "." if setup.effort is THOROUGH else "; the option thorough uses all."
    return text


def _settings(
    setup: Setup, windows: Windows, test_share: float, confidence: float, clock: Clock
) -> dict[str, Any]:
    return {
        "effort": setup.effort.name,
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
        "validation_stride": setup.validation_stride,
        "scaled_by": "training rows of each item and channel",
        "refit": False,
        "backbone": repr(setup.backbone),
        "embedding": setup.embedding,
        "trainer": repr(setup.trainer),
        "estimated_cpu_seconds": clock.cpu_seconds,
    }
