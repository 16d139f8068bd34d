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
from adaptivepatch.boundaries.cutting import cut_rows
from adaptivepatch.boundaries.measures import churn, enrichment, ranks
from adaptivepatch.boundaries.surprise import reference_forecaster, surprise
from adaptivepatch.datasets.planted import CONTEXT_LENGTH
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.nn.placement.surprise import NextPointPredictor
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.record import Callback, TrainingRecord

_LOOK_BACKS = 400  # of training and of test, whose boundaries are measured


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
    errors = surprise(_reference(name, steps), _normalised(test[:, :-1]))
    record = FamilyRecord(
        **identity(run),
        num_windows=len(error),
        test_mse=float(np.mean(error**2)),
        test_mae=float(np.mean(np.abs(error))),
        **_boundaries(model.patcher_, train, test, errors),
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
    reference = _reference(run.task.dataset, CONTEXT_LENGTH)
    errors = surprise(reference, test.series[:_LOOK_BACKS])
    network.patcher.cpu()
    found = Segmentation(torch.from_numpy(predicted[:_LOOK_BACKS]))
    measured = _enrichments(found, errors)
    tokens = predicted.sum(1)
    record = FamilyRecord(
        **identity(run),
        num_windows=len(test.series),
        test_mse=mse,
        test_mae=mae,
        tokens=float(tokens.mean()),
        tokens_std=float(tokens.std()),
        compression_rate=CONTEXT_LENGTH / float(tokens.mean()),
        train_rate=_rate(network.patcher, train[:_LOOK_BACKS], normalise=False)
        if source.truth is None
        else 24.0,
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
    return _coarsest(cut_rows(patcher, _look_backs(dataset, num_steps)[1][:, :-1]).patches)


def _boundaries(patcher: Patcher, train: Tensor, test: Tensor, errors: Tensor) -> dict[str, Any]:
    """Return the columns that describe the boundaries of rows (N, T + 1)."""
    before = _coarsest(cut_rows(patcher, test[:, :-1]).patches)
    after = _coarsest(cut_rows(patcher, test[:, 1:]).patches)
    tokens = before.num_patches.double()
    return {
        "tokens": float(tokens.mean()),
        "tokens_std": float(tokens.std()),
        "compression_rate": before.num_steps / float(tokens.mean()),
        "train_rate": _rate(patcher, train[:, :-1]),
        "churn": float(churn(before, after).mean()),
        **_enrichments(before, errors),
    }


def _enrichments(found: Segmentation, errors: Tensor) -> dict[str, Any]:
    by_size, by_rank = enrichment(found, errors), enrichment(found, ranks(errors))
    return {
        "enrichment": float(by_size.value.nanmean()),
        "enrichment_z": by_size.z_of_mean,
        "rank_enrichment": float(by_rank.value.nanmean()),
        "rank_enrichment_z": by_rank.z_of_mean,
    }


def _rate(patcher: Patcher, rows: Tensor, *, normalise: bool = True) -> float:
    """Return points per patch, over all rows together."""
    patches = _coarsest(cut_rows(patcher, rows, normalise=normalise).patches)
    return rows.shape[1] / float(patches.num_patches.double().mean())


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


def _normalised(rows: Tensor) -> Tensor:
    """Return rows as a network gives them to its patcher."""
    return InstanceNorm()(rows, None)[0]


@cache
def _reference(dataset: str, num_steps: int) -> NextPointPredictor:
    """Train the forecaster whose errors say what surprises, on training rows, for all arms."""
    if dataset.startswith("planted"):
        rows = held_out(dataset, VALIDATION).series
    else:
        rows = _normalised(_look_backs(dataset, num_steps)[0][:, :-1])
    return reference_forecaster(rows, num_steps=200, batch_size=32)


def _coarsest(patches: Segmentation) -> Segmentation:
    while patches.parent is not None:
        patches = patches.coarse
    return patches
