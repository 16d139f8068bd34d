"""The course of a fit: train with validation, then again on all rows; and that at every refit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_int
from adaptivepatch.estimators import frames
from adaptivepatch.estimators.backtest import Backtest, join_backtests, run_backtest
from adaptivepatch.estimators.fitting import draw_seed
from adaptivepatch.estimators.panel_fit import fit_panel
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.resuming import Checkpoints
from adaptivepatch.estimators.selection import held_out_rows
from adaptivepatch.metrics import seasonal_naive_scale
from adaptivepatch.training.record import Callback, TrainingRecord
from adaptivepatch.training.trainer import Trainer

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster


def train_and_refit(
    forecaster: Forecaster,
    panel: Panel,
    trainer: Trainer,
    settings: Mapping[str, Any],
    *,
    seed: int,
    callback: Callback | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[PanelModel, TrainingRecord]:
    """Train with the last rows held out, then on all rows for the best number of steps.

    Parameters
    ----------
    forecaster : Forecaster
        Whose settings to use; it is not changed.
    panel : Panel
        All rows.
    trainer : Trainer
        Checked.
    settings : mapping
        The arguments ``validation_rows`` and ``refit`` of `Forecaster.fit`.
    seed : int
        Of everything random.
    callback : callable, optional
        See `Forecaster.fit`.
    init : mapping, optional
        Weights to begin with, both times.
    checkpoints : Checkpoints, optional
        Where to write states, and to go on from.

    Returns
    -------
    model : PanelModel
    record : TrainingRecord
        Of the first training. ``interrupted`` if Ctrl-C ended either; the model then is the best
        of the first.
    """
    held_out = held_out_rows(panel, forecaster.horizon, settings["validation_rows"])
    first = None if checkpoints is None else checkpoints.first
    model, record = fit_panel(
        forecaster,
        panel,
        trainer,
        held_out,
        seed=seed,
        callback=callback,
        init=init,
        checkpoint=first,
    )
    if record.interrupted or not settings["refit"] or np.isnan(record.best_loss):
        return model, record
    second = None if checkpoints is None else checkpoints.second
    try:
        model, _ = fit_panel(
            forecaster, panel, trainer, 0, seed=seed, plan=record, init=init, checkpoint=second
        )
    except KeyboardInterrupt:
        record.interrupted = record.refit_interrupted = True
    return model, record


def warn_interrupted(record: TrainingRecord, folder: Path | None) -> None:
    """Say which weights a fit that Ctrl-C ended has kept, and how to go on."""
    how = (
        "Next time pass checkpoint=... to be able to go on."
        if folder is None
        else f"To go on, call fit with the same data and resume={str(folder)!r}."
    )
    best = "" if math.isnan(record.best_loss) else f", validation loss {record.best_loss:.4g}"
    what = (
        "Training again on all rows was interrupted."
        if record.refit_interrupted
        else f"Training was interrupted at step {record.num_steps} of {record.total_steps}."
    )
    warnings.warn(
        f"{what} The model has the weights of step {record.best_step}{best}, and was not trained "
        f"on the validation rows. {how}",
        UserWarning,
        stacklevel=3,
    )


def backtest_with_refits(
    forecaster: Forecaster, trainer: Trainer, windows: Windows, start: Any, refit_every: int
) -> Backtest:
    """Forecast windows block by block of time, each with a model trained on all rows before it.

    Parameters
    ----------
    forecaster : Forecaster
        Fitted; its parameters and arguments of `fit` are used, it is not changed. Every refit
        begins with random weights, also where the fit began with a model's.
    trainer : Trainer
        Checked.
    windows : Windows
        What to forecast.
    start : timestamp or int
        First target of the first block.
    refit_every : int
        Steps of a block, counted over the stamps of all series together.
    """
    check_int(forecaster, refit_every=refit_every)
    if start is None:
        raise InvalidParameterError(
            "A backtest with refit_every needs the stamp of the first forecast, to train on what "
            "is before it. Got start=None. Pass start=..."
        )
    panel, seed = windows.panel, draw_seed(forecaster.random_state)
    borders = [*_borders(panel, frames.rows_before(panel, start), refit_every), panel.lengths]
    first_target = windows.cutoff_row + 1
    parts = []
    for begin, end in pairwise(borders):
        inside = (first_target >= begin[windows.item]) & (first_target < end[windows.item])
        if not inside.any():
            continue
        known = _rows_to_train_on(panel, begin, forecaster.horizon, start)
        model, record = train_and_refit(forecaster, known, trainer, forecaster.settings_, seed=seed)
        if record.interrupted:
            raise KeyboardInterrupt
        scale = seasonal_naive_scale(known.values, forecaster.season_, known.row_offsets)
        block = windows.select(inside)
        parts.append((inside, run_backtest(model, block, scale, forecaster.season_)))
    return join_backtests(windows, parts)


def _borders(
    panel: Panel, start_rows: NDArray[np.int64], refit_every: int
) -> list[NDArray[np.int64]]:
    """Return, for each refit, the rows of every item before it."""
    stamps = panel.stamps.unique().sort_values()
    first = min(
        index[row] for index, row in zip(panel.index, start_rows, strict=True) if row < len(index)
    )
    refits = stamps[stamps >= first][::refit_every]
    return [np.array([index.searchsorted(at) for index in panel.index]) for at in refits]


def _rows_to_train_on(panel: Panel, rows: NDArray[np.int64], horizon: int, start: Any) -> Panel:
    """Return the first rows of the items that have enough of them for a training window."""
    enough = rows >= 2 + horizon
    if not enough.any():
        raise InvalidFrameError(
            f"Training before start={start!r} needs a series of at least {2 + horizon} rows there "
            f"(2 look-back points plus the horizon). The longest has {int(rows.max())}. Pass a "
            "later start."
        )
    return panel.slice_rows(0, rows).select_items(enough)
