"""Run a suite, one run after another; finished rows are appended, rows that are there skipped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptivepatch.bench.planted import run_planted
from adaptivepatch.bench.protocol import CELLS, load_ltsf, num_test_windows, verify_repeat_oracle
from adaptivepatch.bench.record import (
    Measured,
    PlantedRecord,
    RunRecord,
    append_record,
    append_rows,
    as_settings,
    curve_row,
    finished_keys,
    provenance,
    write_windows,
)
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError, suggest
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.training.devices import resolve_device
from adaptivepatch.training.trainer import Callback


def run_suite(
    suite: str | Path,
    results: Path,
    *,
    only: Callable[[Run], bool] | None = None,
    device: str = "auto",
    on_start: Callable[[Run, int, int], None] | None = None,
    on_validation: Callback | None = None,
) -> list[RunRecord | PlantedRecord]:
    """Run what is missing of a suite.

    Parameters
    ----------
    suite : str or Path
        See `adaptivepatch.bench.task.read_suite`.
    results : Path
        CSV file to append rows to; beside it ``NAME.curves.csv`` receives the validations.
    only : callable, optional
        Which runs to do.
    device : str, default="auto"
        Where to train, unless a trainer of the suite names a device.
    on_start : callable, optional
        Called as ``on_start(run, number, total)``.
    on_validation : callable, optional
        Called as ``on_validation(step, metrics)``.

    Returns
    -------
    list of RunRecord or PlantedRecord
        The new rows, of the kind that the protocol of their task has.
    """
    provenance(torch.device("cpu"))  # notes the commit before a long run lets it move on
    wanted = [run for run in read_suite(suite) if only is None or only(run)]
    done = finished_keys(results)
    todo = [run for run in wanted if run.key not in done]
    _check_protocols({run.task.protocol for run in todo})
    _verify({run.task.dataset for run in todo if run.task.protocol != "planted"})
    records: list[RunRecord | PlantedRecord] = []
    for number, run in enumerate(todo, start=1):
        if on_start is not None:
            on_start(run, number, len(todo))
        measure = _MEASURES[run.task.protocol]
        measured = Measured(*measure(run, device=device, callback=on_validation))
        if measured.window_mse is not None:
            write_windows(results, measured.record, measured.window_mse)
        append_record(results, measured.record)
        append_rows(results.with_suffix(".curves.csv"), measured.curve)
        records.append(measured.record)
    return records


def _check_protocols(protocols: set[str]) -> None:
    for protocol in sorted(protocols):
        if protocol not in _MEASURES:
            raise InvalidParameterError(
                f"Unknown protocol {protocol!r} of a task. Available: {sorted(_MEASURES)}."
                f"{suggest(protocol, _MEASURES)}"
            )


def _verify(datasets: set[str]) -> None:
    """Refuse to measure anything on data whose Repeat figures are known and not reproduced."""
    cells = [cell for cell in CELLS if cell.dataset in datasets]
    wrong = [check for check in verify_repeat_oracle(cells=cells) if not check.is_reproduced]
    if wrong:
        raise AdaptivePatchError(
            "The last-value forecast must reproduce its known errors before anything is measured. "
            f"{wrong[0].dataset}-{wrong[0].horizon} gives {wrong[0].mse!r} instead of "
            f"{wrong[0].expected_mse!r}. Check the file, or report this as a bug."
        )


def run_one(run: Run, *, device: str = "auto", callback: Callback | None = None) -> Measured:
    """Train on the rows up to the validation border, then forecast every test window once.

    Parameters
    ----------
    run : Run
        What to run.
    device : str, default="auto"
        Where, unless the arm's trainer says.
    callback : callable, optional
        Called after every validation.

    Returns
    -------
    Measured
    """
    frame, borders = load_ltsf(run.task.dataset)
    model = run.arm.forecaster(run.task, run.seed)
    if model.trainer.device == "auto":
        model.trainer.set_params(device=device)
    origin = provenance(resolve_device(model.trainer.device))  # of the code that runs
    started = time.perf_counter()
    model.fit(
        frame[: borders.val_end],
        validation_rows=borders.val_end - borders.train_end,
        refit=False,
        callback=callback,
    )
    if model.record_.interrupted:
        raise KeyboardInterrupt  # a run that was cut short is no result
    fitted = time.perf_counter()
    test = model.backtest(frame.iloc[borders.val_end - run.task.context_length :])
    predicted = time.perf_counter()
    if len(test) != num_test_windows(borders, run.task.horizon):
        raise AdaptivePatchError(
            f"Every test window must be forecast: {num_test_windows(borders, run.task.horizon)} "
            f"windows, but the backtest holds {len(test)}. Report this as a bug."
        )
    error = (test.prediction - test.actual) / model.scaling_.std[0]
    tokens = model.patcher_.capacity(run.task.context_length)
    record = RunRecord(
        suite=run.suite,
        task=run.task.fingerprint,
        dataset=run.task.dataset,
        protocol=run.task.protocol,
        horizon=run.task.horizon,
        context_length=run.task.context_length,
        arm=run.arm.name,
        settings_id=run.arm.fingerprint,
        seed=run.seed,
        num_windows=len(test),
        test_mse=float(np.mean(error**2)),
        test_mae=float(np.mean(np.abs(error))),
        validation_loss=model.record_.best_loss,
        best_step=model.record_.best_step,
        num_steps=model.record_.num_steps,
        steps_per_epoch=model.record_.steps_per_epoch,
        tokens=tokens,
        compression_rate=run.task.context_length / tokens,
        num_parameters=count_parameters(model.network_),
        fit_seconds=round(fitted - started, 2),
        predict_seconds=round(predicted - fitted, 2),
        settings=as_settings(run.arm.settings),
        **origin,
    )
    identity = {key: asdict(record)[key] for key in ("suite", "task", "arm", "settings_id", "seed")}
    curve = [{**identity, **curve_row(entry)} for entry in model.record_.history]
    return Measured(record, curve, np.mean(error**2, axis=(1, 2)))


_MEASURES: dict[str, Callable[..., tuple[Any, ...]]] = {
    "ltsf": run_one,
    "small": run_one,
    "planted": run_planted,
}
"""What runs one training, by the protocol of its task."""
