"""``adaptivepatch compare``: does any way of patching beat the best fixed length on a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptivepatch.cli.screen import show_table, write_json
from adaptivepatch.cli.tables import ITEM_ID, Columns, read_table

if TYPE_CHECKING:
    from adaptivepatch.bench.comparison import Comparison
    from adaptivepatch.cli.tables import Table
    from adaptivepatch.training.trainer import Trainer

EXAMPLE = "Example:\n\nadaptivepatch compare my.csv --horizon 96 --jobs 2 --out comparison"


def compare(
    file: Annotated[Path, typer.Argument(help="CSV or parquet file of series.")],
    horizon: Annotated[int, typer.Option(help="Steps to forecast.", min=1)],
    context_length: Annotated[int, typer.Option(help="Look-back, in steps.", min=2)] = 336,
    patcher: Annotated[
        list[str] | None,
        typer.Option(help="Challenger by name, in place of recency. May be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fits of every arm; a verdict takes 5.", min=1)] = 5,
    metric: Annotated[str, typer.Option(help="MSE or MAE, on scaled series.")] = "MSE",
    test_share: Annotated[float, typer.Option(help="Last rows, seen by no fit.")] = 0.2,
    validation_rows: Annotated[int | None, typer.Option(help="Rows that select.", min=1)] = None,
    backbone: Annotated[str, typer.Option(help="patchtst or transformer.")] = "patchtst",
    max_steps: Annotated[int | None, typer.Option(help="Steps of a fit.", min=1)] = None,
    item_id: Annotated[str | None, typer.Option(help="Column of item ids.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column of stamps.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Channel. May be repeated.")] = None,
    date_format: Annotated[str | None, typer.Option(help="Of stamps, as strftime.")] = None,
    freq: Annotated[str | None, typer.Option(help="One time step, such as h.")] = None,
    missing: Annotated[str, typer.Option(help="error, or mask: gaps are allowed.")] = "error",
    jobs: Annotated[int, typer.Option(help="Processes of one thread each.", min=1)] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder for table, runs and picture.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")] = False,
) -> None:
    """Compare fixed, recency and random patches on your own data, in one sentence.

    Every arm is fitted several times on the rows before the test part; validation rows choose
    the best fixed length and the challenger; the test part is forecast once, at the end.
    """
    from adaptivepatch.bench.arms import default_patchers
    from adaptivepatch.bench.compare import compare as compare_frame
    from adaptivepatch.bench.comparison import check_folder

    if out is not None:
        check_folder(out, force)
    table = read_table(file, Columns(item_id, timestamp, target, date_format))
    columns, trainer = table.columns, _trainer(table, max_steps)
    with _progress() as progress:
        result = compare_frame(
            table.frame,
            default_patchers(context_length, patcher or ["recency"]),
            horizon=horizon,
            context_length=context_length,
            seeds=seeds,
            backbone=backbone,
            trainer=trainer,
            metric=metric,
            test_share=test_share,
            validation_rows=validation_rows,
            item_id=columns.item_id or ITEM_ID,
            timestamp=columns.timestamp or "timestamp",
            target=target,
            freq=freq,
            missing=missing,  # type: ignore[arg-type]
            n_jobs=jobs,
            progress=progress,
        )
    if out is not None:
        result.save(out, overwrite=force)
    if as_json:
        write_json(result.to_dict())
    else:
        _show(result, out)


def _trainer(table: Table, max_steps: int | None) -> Trainer:
    """Return the default training for a file, perhaps of another length."""
    from adaptivepatch.bench.compare import default_trainer

    columns = table.columns
    keys = {columns.item_id or ITEM_ID, columns.timestamp}
    channels = columns.target or [name for name in table.frame.columns if name not in keys]
    trainer = default_trainer(len(channels))
    if max_steps is not None:
        trainer.set_params(max_steps=max_steps, validate_every=min(50, max(1, max_steps // 4)))
    return trainer


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """Report on the error stream: one changing line on a terminal, a line per fit elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total, text: typer.echo(f"[{done}/{total}] {text}", err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("comparing ...") as status:
        yield lambda done, total, text: status.update(f"{done} of {total}: {text}")


def _show(result: Comparison, out: Path | None) -> None:
    """Print table, controls and verdict."""
    import pandas as pd

    table, settings = result.table, result.settings
    percent = 100 * table[["difference", "low", "high"]]
    shown = pd.DataFrame(
        {
            "arm": table.arm,
            "tokens": table.tokens,
            "validation": table.validation_error,
            "test": table.test_error,
            "std": table.test_error_std,
            "diff %": percent.difference,
            "from": percent.low,
            "to": percent.high,
            "fit s": table.fit_cpu_seconds,
            "predict s": table.predict_cpu_seconds,
            "cost": table.fit_cost,
            "verdict": table.verdict,
        }
    )
    forms = {"tokens": ".1f", "validation": ".4f", "test": ".4f", "std": ".4f", "fit s": ".1f"}
    forms |= {"predict s": ".2f", "cost": ".2f", "diff %": "+.1f", "from": "+.1f", "to": "+.1f"}
    show_table(shown, forms)
    typer.echo(
        f"\n{settings['metric']} on scaled series, {settings['test_windows']} test windows of "
        f"stride {settings['stride']}, {len(settings['seeds'])} seed(s). diff: to "
        f"{result.baseline}; from, to: {100 * settings['confidence']:g} % for all "
        f"{settings['comparisons']} intervals together. fit, predict: CPU seconds."
    )
    typer.echo("Controls:")
    for name, state in result.controls.items():
        typer.echo(f"  {name}: {state}")
    typer.echo(f"\n{result.verdict}")
    if out is not None:
        typer.echo(f"Written to {out}.", err=True)
