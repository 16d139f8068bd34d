"""The long-horizon protocol: forecast every test window once, and take the mean error.

The protocol "small" is the same protocol under another name. It is for small models that are
trained for few steps, whose errors must not be ranked with the errors of others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adaptivepatch.bench.ltsf_fit import fit_ltsf, make_forecaster
from adaptivepatch.bench.protocols.base import Protocol
from adaptivepatch.bench.result_row import Measured, ResultRow, costs, curve_rows
from adaptivepatch.bench.task import Run
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.training.record import Callback


class LtsfMeasures(NamedTuple):
    """Errors, course of training and number of patches.

    Errors are means over all test windows, steps and channels, on data scaled by training rows.
    ``tokens`` is the capacity of the patcher, and ``compression_rate`` the look-back divided by it.
    """

    num_windows: int
    test_mse: float
    test_mae: float
    validation_loss: float
    best_step: int
    num_steps: int
    steps_per_epoch: int
    tokens: int
    compression_rate: float


def measure(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Train a forecaster and test it.

    Parameters
    ----------
    run, device, callback
        Arguments as in `adaptivepatch.bench.ltsf_fit.fit_ltsf`.
    """
    model = make_forecaster(Forecaster, run)
    tested = fit_ltsf(model, run, device=device, callback=callback)
    squared, training = tested.error**2, model.record_
    tokens = model.patcher_.capacity(run.task.context_length)
    measures = LtsfMeasures(
        num_windows=len(squared),
        test_mse=float(np.mean(squared)),
        test_mae=float(np.mean(np.abs(tested.error))),
        validation_loss=training.best_loss,
        best_step=training.best_step,
        num_steps=training.num_steps,
        steps_per_epoch=training.steps_per_epoch,
        tokens=tokens,
        compression_rate=run.task.context_length / tokens,
    )
    cost = costs(count_parameters(model.network_), tested.fit, tested.predict)
    row = ResultRow(run, measures._asdict(), cost, tested.provenance)
    return Measured(row, curve_rows(run, training.history), np.mean(squared, axis=(1, 2)))


LTSF = Protocol(
    measure=measure,
    measures=LtsfMeasures,
    costs=("num_parameters", "fit_seconds", "predict_seconds"),
    summary=(
        "{dataset}-{horizon} {arm} seed {seed}: test MSE {test_mse:.4f}, MAE {test_mae:.4f} over "
        "{num_windows} windows"
    ),
)
