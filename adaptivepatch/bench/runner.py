"""Do the runs of a suite that have no result yet, and store their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.protocols.base import Protocol
from adaptivepatch.bench.repeat_oracle import CELLS, verify_repeat_oracle
from adaptivepatch.bench.result_row import ResultRow, provenance
from adaptivepatch.bench.store import Store
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError
from adaptivepatch.training.record import Callback


def run_suite(
    suite: str | Path,
    results: Path,
    *,
    only: Callable[[Run], bool] | None = None,
    device: str = "auto",
    on_start: Callable[[Run, int, int], None] | None = None,
    on_validation: Callback | None = None,
) -> list[ResultRow]:
    """Do the missing runs of a suite, one after another.

    Several processes may work on the same results file: a run that another process has claimed is
    skipped. After an interruption, call the function again; only the current run is lost.

    Parameters
    ----------
    suite : str or Path
        Name or file of the suite; see `adaptivepatch.bench.task.read_suite`.
    results : Path
        CSV file ``NAME.csv`` that receives a row per run; the folder ``NAME.results`` beside it
        receives a file per run (`adaptivepatch.bench.store.Store`).
    only : callable, optional
        Function that tells whether to do a `Run`. Default: all runs are done.
    device : str, default="auto"
        Device to train on, unless a trainer of the suite names one.
    on_start : callable, optional
        Function called as ``on_start(run, number, total)`` before each run.
    on_validation : callable, optional
        Function called as ``on_validation(step, metrics)`` after each validation.

    Returns
    -------
    list of ResultRow
        Rows of the runs that this call did.

    Raises
    ------
    InvalidParameterError
        If the suite is not valid, or the file has the columns of another protocol or an incomplete
        line.
    OutputError
        If a result cannot be written. Earlier results remain.
    AdaptivePatchError
        If a file of results is damaged, or the Repeat forecast does not reproduce its known errors
        on a data set of the suite.
    """
    provenance(torch.device("cpu"))  # reads the commit before it can change
    wanted = [run for run in read_suite(suite) if only is None or only(run)]
    store = Store(results)
    done = store.finished()
    todo = [run for run in wanted if run.key not in done]
    protocols = {name: find_protocol(name) for name in sorted({run.task.protocol for run in todo})}
    _check_columns(protocols, store)
    store.tables()  # after an interrupted call, results may be missing in the tables
    _verify_data({r.task.dataset for r in todo if protocols[r.task.protocol].verifies_data})
    rows: list[ResultRow] = []
    for number, run in enumerate(todo, start=1):
        claim = store.claim(run)
        if claim is None:  # another process is doing the run, or has done it
            continue
        with claim:
            if on_start is not None:
                on_start(run, number, len(todo))
            protocol = protocols[run.task.protocol]
            measured = protocol.measure(run, device=device, callback=on_validation)
            store.put(measured)
        store.tables()
        rows.append(measured.row)
    return rows


def _check_columns(protocols: Mapping[str, Protocol], store: Store) -> None:
    """Raise an error unless all protocols have the columns of the results file."""
    for protocol in protocols.values():
        store.check_columns(protocol.columns)
    if len({protocol.columns for protocol in protocols.values()}) > 1:
        raise InvalidParameterError(
            "All rows of a results file must have the same columns, but the protocols of the "
            f"chosen runs have different columns: {list(protocols)}. Choose the runs of one "
            "protocol.",
            parameter="only",
        )


def _verify_data(datasets: set[str]) -> None:
    """Raise an error unless the Repeat forecast reproduces its known errors on these data sets."""
    cells = [cell for cell in CELLS if cell.dataset in datasets]
    wrong = [check for check in verify_repeat_oracle(cells=cells) if not check.is_reproduced]
    if wrong:
        raise AdaptivePatchError(
            "The last-value forecast does not reproduce its known errors, so nothing is measured: "
            f"on {wrong[0].dataset}-{wrong[0].horizon} its MSE is {wrong[0].mse!r} instead of "
            f"{wrong[0].expected_mse!r}. Check the data file, or report this as a bug."
        )
