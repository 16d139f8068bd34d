"""Do the runs of a suite that a results file does not have yet, and append their rows to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.record import Record, provenance
from adaptivepatch.bench.repeat_oracle import CELLS, verify_repeat_oracle
from adaptivepatch.bench.results import append_rows, check_columns, finished_keys, write_windows
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.errors import AdaptivePatchError
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
    """Do the missing runs of a suite, one after another.

    Parameters
    ----------
    suite : str or Path
        Name or file of the suite; see `adaptivepatch.bench.task.read_suite`.
    results : Path
        CSV file to append rows to; ``NAME.curves.csv`` next to it receives the validations.
    only : callable, optional
        Function of a `Run` that returns whether to do it; by default all runs are done.
    device : str, default="auto"
        Device to train on, unless a trainer of the suite names one.
    on_start : callable, optional
        Function called as ``on_start(run, number, total)`` before each run.
    on_validation : callable, optional
        Function called as ``on_validation(step, metrics)`` after each validation.

    Returns
    -------
    list of Record
        Records of the new runs.

    Raises
    ------
    InvalidParameterError
        If the suite is wrong, or the file has the columns of another protocol.
    AdaptivePatchError
        If the Repeat forecast does not have its known errors on a data set of the suite.
    """
    provenance(torch.device("cpu"))  # reads the commit before it can change
    wanted = [run for run in read_suite(suite) if only is None or only(run)]
    done = finished_keys(results)
    todo = [run for run in wanted if run.key not in done]
    protocols = {name: find_protocol(name) for name in sorted({run.task.protocol for run in todo})}
    for protocol in protocols.values():
        check_columns(results, protocol.columns)
    _verify_data({r.task.dataset for r in todo if protocols[r.task.protocol].verifies_data})
    records: list[Record] = []
    for number, run in enumerate(todo, start=1):
        if on_start is not None:
            on_start(run, number, len(todo))
        protocol = protocols[run.task.protocol]
        record, curve, window_mse = protocol.measure(run, device=device, callback=on_validation)
        if window_mse is not None:
            write_windows(results, record, window_mse)
        append_rows(results, [protocol.row(record)])
        append_rows(results.with_suffix(".curves.csv"), curve)
        records.append(record)
    return records


def _verify_data(datasets: set[str]) -> None:
    """Raise an error unless the Repeat forecast has its known errors on these data sets."""
    cells = [cell for cell in CELLS if cell.dataset in datasets]
    wrong = [check for check in verify_repeat_oracle(cells=cells) if not check.is_reproduced]
    if wrong:
        raise AdaptivePatchError(
            "The last-value forecast must reproduce its known errors before anything is measured. "
            f"{wrong[0].dataset}-{wrong[0].horizon} gives {wrong[0].mse!r} instead of "
            f"{wrong[0].expected_mse!r}. Check the file, or report this as a bug."
        )
