"""Run a suite, one run after another; finished rows are appended, rows that are there skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adaptivepatch.bench.family import run_family, run_family_planted
from adaptivepatch.bench.ltsf import run_ltsf
from adaptivepatch.bench.planted import run_planted
from adaptivepatch.bench.protocol import CELLS, verify_repeat_oracle
from adaptivepatch.bench.record import (
    FamilyRecord,
    Measured,
    PlantedRecord,
    Record,
    RunRecord,
    append_record,
    append_rows,
    check_columns,
    column_names,
    finished_keys,
    provenance,
    write_windows,
)
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError, suggest
from adaptivepatch.training.record import Callback


def run_suite(
    suite: str | Path,
    results: Path,
    *,
    only: Callable[[Run], bool] | None = None,
    device: str = "auto",
    on_start: Callable[[Run, int, int], None] | None = None,
    on_validation: Callback | None = None,
) -> list[Record]:
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
    list of RunRecord, PlantedRecord or FamilyRecord
        The new rows, of the kind that the protocol of their task has.
    """
    provenance(torch.device("cpu"))  # notes the commit before a long run lets it move on
    wanted = [run for run in read_suite(suite) if only is None or only(run)]
    done = finished_keys(results)
    todo = [run for run in wanted if run.key not in done]
    _check_protocols({run.task.protocol for run in todo})
    for protocol in sorted({run.task.protocol for run in todo}):
        check_columns(results, column_names(_PROTOCOLS[protocol].record))
    _verify({run.task.dataset for run in todo if "planted" not in run.task.protocol})
    records: list[Record] = []
    for number, run in enumerate(todo, start=1):
        if on_start is not None:
            on_start(run, number, len(todo))
        measure = _PROTOCOLS[run.task.protocol].measure
        measured = Measured(*measure(run, device=device, callback=on_validation))
        if measured.window_mse is not None:
            write_windows(results, measured.record, measured.window_mse)
        append_record(results, measured.record)
        append_rows(results.with_suffix(".curves.csv"), measured.curve)
        records.append(measured.record)
    return records


def _check_protocols(protocols: set[str]) -> None:
    for protocol in sorted(protocols):
        if protocol not in _PROTOCOLS:
            raise InvalidParameterError(
                f"Unknown protocol {protocol!r} of a task. Available: {sorted(_PROTOCOLS)}."
                f"{suggest(protocol, _PROTOCOLS)}"
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


class _Protocol(NamedTuple):
    """What runs one training, and the kind of row that it leaves."""

    measure: Callable[..., tuple[Any, ...]]
    record: type[Record]


_PROTOCOLS = {
    "ltsf": _Protocol(run_ltsf, RunRecord),
    "small": _Protocol(run_ltsf, RunRecord),
    "planted": _Protocol(run_planted, PlantedRecord),
    "family": _Protocol(run_family, FamilyRecord),
    "family_planted": _Protocol(run_family_planted, FamilyRecord),
}
