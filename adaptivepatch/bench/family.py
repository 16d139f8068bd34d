"""All patchers in one table: error, boundaries and cost, at one protocol.

Real series (protocol "family") and planted tasks ("family_planted") fill the same columns.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.bench.ltsf import Seconds, curve_of, fit_ltsf, identity
from adaptivepatch.bench.planted import (
    TEST,
    VALIDATION,
    boundary_f1,
    evaluate,
    fit_planted,
    held_out,
)
from adaptivepatch.bench.protocol import load_ltsf, scaled_panel
from adaptivepatch.bench.record import FamilyRecord, Measured, as_settings
from adaptivepatch.bench.task import Run
from adaptivepatch.data.planted import CONTEXT_LENGTH
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.nn.boundary_measures import churn, enrichment, ranks
from adaptivepatch.nn.next_point import NextPointPredictor, fit_next_point
from adaptivepatch.nn.normalization import InstanceNorm
from adaptivepatch.patchers import Patcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.record import TrainingRecord
from adaptivepatch.training.trainer import Callback

_LOOK_BACKS = 400  # of training and of test, whose boundaries are measured
_ROWS = 256  # segmented at once
_REFERENCE_WIDTH = 16


def run_family(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Train a forecaster, forecast every test window, and measure its boundaries in some of them.

    Parameters
    ----------
    run, device, callback
        See `adaptivepatch.bench.ltsf.fit_ltsf`.
    """
    model, error, fit, predict, origin = fit_ltsf(run, device=device, callback=callback)
    name, steps = run.task.dataset, run.task.context_length
    train, test = _look_backs(name, steps)
    surprise = _surprise(name, steps, _normalised(test[:, :-1]))
    record = FamilyRecord(
        **identity(run),
        num_windows=len(error),
        test_mse=float(np.mean(error**2)),
        test_mae=float(np.mean(np.abs(error))),
        **_boundaries(model.patcher_, train, test, surprise),
        boundary_f1=float("nan"),
        **_training(model.record_),
        num_parameters=count_parameters(model.network_),
        **_times(fit, predict),
        settings=as_settings(run.arm.settings),
        **origin,
    )
    return Measured(record, curve_of(record, model.record_.history), np.mean(error**2, (1, 2)))


def run_family_planted(
    run: Run, *, device: str = "auto", callback: Callback | None = None
) -> tuple[FamilyRecord, list[dict[str, Any]]]:
    """Train an arm of a planted task; see `adaptivepatch.bench.planted.run_planted`.

    Parameters
    ----------
    run, device, callback
        See there.

    Returns
    -------
    record : FamilyRecord
    curve : list of dict
        One row per validation.
    """
    network, source, training, fit, origin = fit_planted(run, device=device, callback=callback)
    test = held_out(run.task.dataset, TEST)
    started = Seconds.now()
    mse, mae, predicted = evaluate(network, source, test)
    predict = Seconds.now().since(started)
    train = held_out(run.task.dataset, VALIDATION).series  # another draw of the same process
    surprise = _surprise(run.task.dataset, CONTEXT_LENGTH, test.series[:_LOOK_BACKS])
    network.patcher.cpu()
    found = Segmentation(torch.from_numpy(predicted[:_LOOK_BACKS]))
    measured = _enrichments(found, surprise)
    tokens = predicted.sum(1)
    record = FamilyRecord(
        **identity(run),
        num_windows=len(test.series),
        test_mse=mse,
        test_mae=mae,
        tokens=float(tokens.mean()),
        tokens_std=float(tokens.std()),
        compression_rate=CONTEXT_LENGTH / float(tokens.mean()),
        train_rate=_rate(network.patcher, train[:_LOOK_BACKS]) if source.truth is None else 24.0,
        boundary_f1=boundary_f1(predicted, test.boundary_mask.numpy()),
        churn=float("nan"),  # windows are drawn apart: there is no next step
        **measured,
        **_training(training),
        num_parameters=count_parameters(network),
        **_times(fit, predict),
        settings=as_settings(run.arm.settings),
        **origin,
    )
    return record, curve_of(record, training.history)


def _training(record: TrainingRecord) -> dict[str, Any]:
    """Return the columns that describe the course of training."""
    return {
        "validation_loss": record.best_loss,
        "best_step": record.best_step,
        "num_steps": record.num_steps,
    }


def _times(fit: Seconds, predict: Seconds) -> dict[str, Any]:
    return {
        "fit_seconds": fit.wall,
        "fit_cpu_seconds": fit.cpu,
        "predict_seconds": predict.wall,
        "predict_cpu_seconds": predict.cpu,
    }


# ------------------------------------------------------------------------------------ boundaries


def cut_test_lookbacks(patcher: Patcher, dataset: str, num_steps: int) -> Segmentation:
    """Cut 400 test look-backs of a data set, all channels of each; in eval mode.

    Parameters
    ----------
    patcher : Patcher
        Trained.
    dataset : str
        Of real series.
    num_steps : int
        Look-back T.
    """
    return _cut(patcher, _normalised(_look_backs(dataset, num_steps)[1][:, :-1]))


def _boundaries(patcher: Patcher, train: Tensor, test: Tensor, surprise: Tensor) -> dict[str, Any]:
    """Return the columns that describe the boundaries of rows (N, T + 1)."""
    before = _cut(patcher, _normalised(test[:, :-1]))
    after = _cut(patcher, _normalised(test[:, 1:]))
    tokens = before.num_patches.double()
    return {
        "tokens": float(tokens.mean()),
        "tokens_std": float(tokens.std()),
        "compression_rate": before.num_steps / float(tokens.mean()),
        "train_rate": _rate(patcher, _normalised(train[:, :-1])),
        "churn": float(churn(before, after).mean()),
        **_enrichments(before, surprise),
    }


def _enrichments(found: Segmentation, surprise: Tensor) -> dict[str, Any]:
    by_size, by_rank = enrichment(found, surprise), enrichment(found, ranks(surprise))
    return {
        "enrichment": float(by_size.value.nanmean()),
        "enrichment_z": by_size.z_of_mean,
        "rank_enrichment": float(by_rank.value.nanmean()),
        "rank_enrichment_z": by_rank.z_of_mean,
    }


def _rate(patcher: Patcher, rows: Tensor) -> float:
    """Return points per patch, over all rows together."""
    return rows.shape[1] / float(_cut(patcher, rows).num_patches.double().mean())


@torch.no_grad()
def _cut(patcher: Patcher, rows: Tensor) -> Segmentation:
    """Return the coarsest patches of rows (N, T)."""
    like = next(patcher.parameters(), torch.zeros(()))
    parts = []
    for part in rows.split(_ROWS):
        mode = patcher.eval()(part.to(like)).mode
        while mode.parent is not None:
            mode = mode.coarse
        parts.append(mode.to("cpu"))
    return Segmentation.cat(parts)


def _normalised(rows: Tensor) -> Tensor:
    """Return rows as a network gives them to its patcher."""
    return InstanceNorm()(rows, None)[0]


@cache
def _look_backs(dataset: str, num_steps: int) -> tuple[Tensor, Tensor]:
    """Return rows (N, T + 1) of 400 look-backs of training and of test, all channels of each."""
    frame, borders = load_ltsf(dataset)
    values = scaled_panel(frame, borders)[0].values
    test_start = borders.val_end - num_steps

    def rows(first: int, end: int) -> Tensor:
        starts = np.linspace(first, end - num_steps - 1, _LOOK_BACKS).round().astype(int)
        index = starts[:, None] + np.arange(num_steps + 1)
        taken: NDArray[np.float64] = values[index].transpose(0, 2, 1).reshape(-1, num_steps + 1)
        return torch.from_numpy(taken).float()

    return rows(0, borders.train_end), rows(test_start, borders.test_end)


@torch.no_grad()
def _surprise(dataset: str, num_steps: int, rows: Tensor) -> Tensor:
    """Return the squared error of a forecaster of the next value, the same for all arms."""
    return _reference(dataset, num_steps).squared_error(rows)


@cache
def _reference(dataset: str, num_steps: int) -> NextPointPredictor:
    """Train the forecaster that says what surprises, on training rows, with a fixed seed."""
    if dataset.startswith("planted"):
        rows = held_out(dataset, VALIDATION).series
    else:
        rows = _normalised(_look_backs(dataset, num_steps)[0][:, :-1])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        predictor = NextPointPredictor(_REFERENCE_WIDTH)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        fit_next_point(predictor, rows, None, generator, num_steps=200, batch_size=32)
    return predictor
