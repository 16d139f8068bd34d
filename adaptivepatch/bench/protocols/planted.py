"""The planted protocol: whether known boundaries are found, and how they help the forecast."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from adaptivepatch.bench.boundary_scores import best_shift, boundary_f1
from adaptivepatch.bench.planted_fit import TEST, evaluate, fit_planted, held_out
from adaptivepatch.bench.protocols.base import Protocol
from adaptivepatch.bench.result_row import Measured, ResultRow, costs, curve_rows
from adaptivepatch.bench.task import Run
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.training.record import Callback

NUM_EXAMPLES = 8
"""Number of test windows whose patches are kept, for pictures."""


class PlantedMeasures(NamedTuple):
    """Errors, boundaries and course of training, on the test windows unless named otherwise.

    Errors are means over windows and steps, in units of the series. ``shifted_f1`` is the F1 after
    the best constant ``shift`` of the boundaries, in time steps. ``tokens`` is the mean number of
    patches. ``example_starts`` holds the patch starts of the first eight windows, as JSON.
    """

    num_windows: int
    test_mse: float
    validation_mse: float
    boundary_f1: float
    shifted_f1: float
    shift: int
    tokens: float
    example_starts: str
    best_step: int
    num_steps: int


def measure(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Train an arm on new windows at every step, then forecast the test windows once.

    Parameters
    ----------
    run, device, callback
        Arguments as in `adaptivepatch.bench.planted_fit.fit_planted`.
    """
    fitted = fit_planted(run, device=device, callback=callback)
    training = fitted.training
    test = held_out(run.task.dataset, TEST)
    mse, _, predicted = evaluate(fitted.network, fitted.source, test)
    true = test.boundary_mask.numpy()
    shifted_f1, shift = best_shift(predicted, true)
    examples = [np.flatnonzero(row).tolist() for row in predicted[:NUM_EXAMPLES]]
    measures = PlantedMeasures(
        num_windows=len(test.series),
        test_mse=mse,
        validation_mse=training.best_loss,
        boundary_f1=boundary_f1(predicted, true),
        shifted_f1=shifted_f1,
        shift=shift,
        tokens=float(predicted.sum(1).mean()),
        example_starts=json.dumps(examples, separators=(",", ":")),
        best_step=training.best_step,
        num_steps=training.num_steps,
    )
    cost = costs(count_parameters(fitted.network), fitted.fit)
    row = ResultRow(run, measures._asdict(), cost, fitted.provenance)
    return Measured(row, curve_rows(run, training.history))


PLANTED = Protocol(
    measure=measure,
    measures=PlantedMeasures,
    costs=("num_parameters", "fit_seconds", "fit_cpu_seconds"),
    summary=(
        "{dataset} {arm} seed {seed}: test MSE {test_mse:.4f}, boundary F1 {boundary_f1:.3f}, "
        "shifted by {shift} {shifted_f1:.3f}"
    ),
    settings=("reward",),
    verifies_data=False,
)
