"""Two protocols that apply the same measures to patchers of every kind.

"family" runs on real series and "family_planted" on planted tasks. Both measure errors,
boundaries and costs, so that their rows can be in one file.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.bench.boundary_scores import boundary_f1
from adaptivepatch.bench.ltsf_data import load_ltsf, scaled_panel
from adaptivepatch.bench.ltsf_fit import fit_ltsf, make_forecaster
from adaptivepatch.bench.planted_fit import TEST, VALIDATION, evaluate, fit_planted, held_out
from adaptivepatch.bench.protocols.base import Protocol
from adaptivepatch.bench.result_row import Measured, ResultRow, Seconds, costs, curve_rows
from adaptivepatch.bench.task import Run
from adaptivepatch.boundaries.cutting import cut_rows
from adaptivepatch.boundaries.measures import churn, enrichment, ranks
from adaptivepatch.boundaries.surprise import reference_forecaster, surprise
from adaptivepatch.datasets.planted import CONTEXT_LENGTH
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.nn.placement.surprise import NextPointPredictor
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.record import Callback

_LOOK_BACKS = 400  # look-backs, of training and of test rows each, in which boundaries are measured


class FamilyMeasures(NamedTuple):
    """Errors, boundaries and course of training.

    ``tokens`` and ``compression_rate`` are means over test look-backs, ``train_rate`` over training
    look-backs, all at the coarsest level. ``boundary_f1`` is NaN if no boundaries are known, and
    ``churn`` is NaN if windows are drawn independently. Enrichment and churn are defined in
    `adaptivepatch.boundaries.measures`.
    """

    num_windows: int
    test_mse: float
    test_mae: float
    validation_loss: float
    tokens: float
    tokens_std: float
    compression_rate: float
    train_rate: float
    boundary_f1: float
    enrichment: float
    enrichment_z: float
    rank_enrichment: float
    rank_enrichment_z: float
    churn: float
    best_step: int
    num_steps: int


def measure(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Train a forecaster, test it, and measure its boundaries in 400 look-backs.

    Parameters
    ----------
    run, device, callback
        Arguments as in `adaptivepatch.bench.ltsf_fit.fit_ltsf`.
    """
    model = make_forecaster(Forecaster, run)
    tested = fit_ltsf(model, run, device=device, callback=callback)
    squared, training = tested.error**2, model.record_
    name, steps = run.task.dataset, run.task.context_length
    train, test = _look_backs(name, steps)
    errors = surprise(_reference(name, steps), _normalised(test[:, :-1]))
    before = _coarsest(cut_rows(model.patcher_, test[:, :-1]).patches)
    after = _coarsest(cut_rows(model.patcher_, test[:, 1:]).patches)
    tokens = before.num_patches.double()
    measures = FamilyMeasures(
        num_windows=len(squared),
        test_mse=float(np.mean(squared)),
        test_mae=float(np.mean(np.abs(tested.error))),
        validation_loss=training.best_loss,
        tokens=float(tokens.mean()),
        tokens_std=float(tokens.std()),
        compression_rate=before.num_steps / float(tokens.mean()),
        train_rate=_rate(model.patcher_, train[:, :-1]),
        boundary_f1=float("nan"),
        **_enrichments(before, errors),
        churn=float(churn(before, after).mean()),
        best_step=training.best_step,
        num_steps=training.num_steps,
    )
    cost = costs(count_parameters(model.network_), tested.fit, tested.predict)
    row = ResultRow(run, measures._asdict(), cost, tested.provenance)
    return Measured(row, curve_rows(run, training.history), np.mean(squared, axis=(1, 2)))


def measure_planted(
    run: Run, *, device: str = "auto", callback: Callback | None = None
) -> Measured:
    """Train an arm of a planted task, test it, and measure its boundaries.

    Parameters
    ----------
    run, device, callback
        Arguments as in `adaptivepatch.bench.planted_fit.fit_planted`.
    """
    fitted = fit_planted(run, device=device, callback=callback)
    network, training = fitted.network, fitted.training
    test = held_out(run.task.dataset, TEST)
    started = Seconds.now()
    mse, mae, predicted = evaluate(network, fitted.source, test)
    predict = Seconds.now().since(started)
    errors = surprise(_reference(run.task.dataset, CONTEXT_LENGTH), test.series[:_LOOK_BACKS])
    network.patcher.cpu()
    tokens = predicted.sum(1)
    true = test.boundary_mask.numpy()
    measures = FamilyMeasures(
        num_windows=len(test.series),
        test_mse=mse,
        test_mae=mae,
        validation_loss=training.best_loss,
        tokens=float(tokens.mean()),
        tokens_std=float(tokens.std()),
        compression_rate=CONTEXT_LENGTH / float(tokens.mean()),
        train_rate=_planted_rate(run.task.dataset, network.patcher, fitted.source.truth),
        boundary_f1=boundary_f1(predicted, true),
        **_enrichments(Segmentation(torch.from_numpy(predicted[:_LOOK_BACKS])), errors),
        churn=float("nan"),
        best_step=training.best_step,
        num_steps=training.num_steps,
    )
    cost = costs(count_parameters(network), fitted.fit, predict)
    row = ResultRow(run, measures._asdict(), cost, fitted.provenance)
    return Measured(row, curve_rows(run, training.history))


_COSTS = (
    "num_parameters",
    *("fit_seconds", "fit_cpu_seconds", "predict_seconds", "predict_cpu_seconds"),
)
_SUMMARY = (
    "{dataset}-{horizon} {arm} seed {seed}: test MSE {test_mse:.4f} at {tokens:.1f} tokens, "
    "enrichment {enrichment:.2f}"
)
FAMILY = Protocol(measure, FamilyMeasures, _COSTS, _SUMMARY)
FAMILY_PLANTED = Protocol(measure_planted, FamilyMeasures, _COSTS, _SUMMARY, verifies_data=False)


# ------------------------------------------------------------------------------------ boundaries


def cut_test_lookbacks(patcher: Patcher, dataset: str, num_steps: int) -> Segmentation:
    """Cut all channels of 400 test look-backs of a data set into patches, in eval mode.

    Parameters
    ----------
    patcher : Patcher
        Trained patcher.
    dataset : str
        Name of a data set of real series.
    num_steps : int
        Look-back T.
    """
    return _coarsest(cut_rows(patcher, _look_backs(dataset, num_steps)[1][:, :-1]).patches)


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


def _planted_rate(dataset: str, patcher: Patcher, truth: Patcher | None) -> float:
    """Return points per patch on validation windows, which are drawn like training windows."""
    if truth is not None:  # it needs a source that delivers the boundaries
        return 24.0
    rows = held_out(dataset, VALIDATION).series[:_LOOK_BACKS]
    return _rate(patcher, rows, normalise=False)


@cache
def _look_backs(dataset: str, num_steps: int) -> tuple[Tensor, Tensor]:
    """Return 400 training and 400 test look-backs with the next step, as rows (N, T + 1).

    Each channel of a look-back is a row.
    """
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
    """Train the next-point forecaster whose errors measure surprise, on training rows.

    All arms share this forecaster.
    """
    if dataset.startswith("planted"):
        rows = held_out(dataset, VALIDATION).series
    else:
        rows = _normalised(_look_backs(dataset, num_steps)[0][:, :-1])
    return reference_forecaster(rows, num_steps=200, batch_size=32)


def _coarsest(patches: Segmentation) -> Segmentation:
    while patches.parent is not None:
        patches = patches.coarse
    return patches
