"""One run of the long-horizon protocol: train, forecast every test window once, make its row."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.bench.protocol import load_ltsf, num_test_windows
from adaptivepatch.bench.record import Measured, RunRecord, as_settings, curve_row, provenance
from adaptivepatch.bench.task import Run
from adaptivepatch.errors import AdaptivePatchError
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.training.devices import resolve_device
from adaptivepatch.training.record import Callback


class Seconds(NamedTuple):
    """What a stretch of work took, by the clock and of the processor."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def since(self, start: Seconds) -> Seconds:
        """Return the difference, in hundredths."""
        return Seconds(round(self.wall - start.wall, 2), round(self.cpu - start.cpu, 2))


class Fitted(NamedTuple):
    """A trained forecaster, its errors in the test windows, and what it took.

    ``error`` has the shape (windows, steps, channels), in units of the training rows' deviation.
    """

    model: Forecaster
    error: NDArray[np.float64]
    fit: Seconds
    predict: Seconds
    origin: dict[str, Any]


def fit_ltsf(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Fitted:
    """Train on the rows up to the validation border, then forecast every test window once.

    Parameters
    ----------
    run : Run
        What to run.
    device : str, default="auto"
        Where, unless the arm's trainer says.
    callback : callable, optional
        Called after every validation.
    """
    frame, borders = load_ltsf(run.task.dataset)
    model = run.arm.forecaster(run.task, run.seed)
    if model.trainer.device == "auto":
        model.trainer.set_params(device=device)
    origin = provenance(resolve_device(model.trainer.device))  # of the code that runs
    started = Seconds.now()
    model.fit(
        frame[: borders.val_end],
        validation_rows=borders.val_end - borders.train_end,
        refit=False,
        callback=callback,
    )
    if model.record_.interrupted:
        raise KeyboardInterrupt  # a run that was cut short is no result
    fitted = Seconds.now()
    test = model.backtest(frame.iloc[borders.val_end - run.task.context_length :])
    predicted = Seconds.now()
    if len(test) != num_test_windows(borders, run.task.horizon):
        raise AdaptivePatchError(
            f"Every test window must be forecast: {num_test_windows(borders, run.task.horizon)} "
            f"windows, but the backtest holds {len(test)}. Report this as a bug."
        )
    error = (test.prediction - test.actual) / model.scaling_.std[0]
    return Fitted(model, error, fitted.since(started), predicted.since(fitted), origin)


def identity(run: Run) -> dict[str, Any]:
    """Return the first columns of a row."""
    task = run.task
    return {
        "suite": run.suite,
        "task": task.fingerprint,
        "dataset": task.dataset,
        "protocol": task.protocol,
        "horizon": task.horizon,
        "context_length": task.context_length,
        "arm": run.arm.name,
        "settings_id": run.arm.fingerprint,
        "seed": run.seed,
    }


def curve_of(record: Any, history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return one row per validation, with the keys of the run's row."""
    keys = ("suite", "task", "arm", "settings_id", "seed")
    own = {key: value for key, value in asdict(record).items() if key in keys}
    return [{**own, **curve_row(entry)} for entry in history]


def run_ltsf(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Do one run and make its row.

    Parameters
    ----------
    run, device, callback
        See `fit_ltsf`.
    """
    model, error, fit, predict, origin = fit_ltsf(run, device=device, callback=callback)
    tokens = model.patcher_.capacity(run.task.context_length)
    record = RunRecord(
        **identity(run),
        num_windows=len(error),
        test_mse=float(np.mean(error**2)),
        test_mae=float(np.mean(np.abs(error))),
        validation_loss=model.record_.best_loss,
        best_step=model.record_.best_step,
        num_steps=model.record_.num_steps,
        steps_per_epoch=model.record_.steps_per_epoch,
        tokens=tokens,
        compression_rate=run.task.context_length / tokens,
        num_parameters=count_parameters(model.network_),
        fit_seconds=fit.wall,
        predict_seconds=predict.wall,
        settings=as_settings(run.arm.settings),
        **origin,
    )
    curve = curve_of(record, model.record_.history)
    return Measured(record, curve, np.mean(error**2, axis=(1, 2)))
