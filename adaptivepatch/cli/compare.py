"""``adaptivepatch compare``: test whether a patcher beats the best fixed patch length on a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.options import (
    BackboneName,
    ContextLength,
    File,
    Freq,
    Gaps,
    Horizon,
    ItemId,
    Target,
    Timestamp,
)
from adaptivepatch.cli.screen import note, show_table, write_json
from adaptivepatch.cli.tables import ITEM_ID, Columns, read_table
from adaptivepatch.files import as_path

if TYPE_CHECKING:
    from adaptivepatch.cli.tables import Table
    from adaptivepatch.comparison.result import Comparison
    from adaptivepatch.training.trainer import Trainer

EXAMPLE = "Example:\n\nadaptivepatch compare my.csv --horizon 96 --jobs 2 --out comparison"


def _setting(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel="Comparison", **more)


Challengers = Annotated[
    list[str] | None,
    _setting(
        f"Challenger, a patcher with a compression rate: {options.PATCHER_NAMES}; "
        f"{options.OWN_OR_PRETRAINED}. Repeat for more.",
        metavar="NAME",
        show_default="recency, reinpatch, dynamic_chunking",
    ),
]
Seeds = Annotated[int, _setting("Fits of each arm; a verdict needs 5.", min=1)]
Metric = Annotated[str, _setting("Error measure: MSE or MAE, on scaled series.")]
TestShare = Annotated[float, _setting("Share of the last rows, used for testing only.")]
ValidationRows = Annotated[
    int | None,
    _setting(
        "Last rows before the test rows, which select steps and arms.",
        min=1,
        show_default="10 %, or the horizon",
    ),
]
MaxSteps = Annotated[
    int | None, _setting("Maximum number of steps of a fit.", min=1, show_default="400")
]
Jobs = Annotated[int, _setting("Number of processes, one CPU thread each.", metavar="N", min=1)]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder for the table, runs, verdict and figure.",
        parser=options.user_path,
        show_default=False,
        rich_help_panel="Output",
    ),
]


def compare(
    file: File,
    horizon: Horizon,
    context_length: ContextLength = 336,
    patcher: Challengers = None,
    seeds: Seeds = 5,
    metric: Metric = "MSE",
    test_share: TestShare = 0.2,
    validation_rows: ValidationRows = None,
    backbone: BackboneName = "patchtst",
    max_steps: MaxSteps = None,
    item_id: ItemId = None,
    timestamp: Timestamp = None,
    target: Target = None,
    date_format: options.DateFormat = None,
    freq: Freq = None,
    missing: Gaps = options.Missing.error,
    jobs: Jobs = 1,
    out: Out = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Compare fixed, recency, learned and random patches on your own data.

    Each arm is fitted several times on the rows before the test part. Validation rows select
    the best fixed length and the challenger. The test part is forecast once, at the end. The
    last line states whether the challenger helps.
    """
    from adaptivepatch.comparison.arms import CHALLENGERS, default_patchers
    from adaptivepatch.comparison.compare import compare as compare_frame
    from adaptivepatch.comparison.result import check_folder

    if out is not None:
        check_folder(out, force)
    table = read_table(file, Columns(item_id, timestamp, target, date_format))
    columns, trainer = table.columns, _trainer(table, max_steps)
    challengers = [
        options.patcher_class(p) if ":" in p and not as_path(p, "patcher").exists() else p
        for p in patcher or CHALLENGERS
    ]
    with _progress() as progress:
        result = compare_frame(
            table.frame,
            default_patchers(context_length, challengers),
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
            freq=options.time_step(freq),
            missing=missing.value,
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
    """Return the default trainer for a file, with `max_steps` if given."""
    from adaptivepatch.comparison.compare import default_trainer

    columns = table.columns
    keys = {columns.item_id or ITEM_ID, columns.timestamp}
    channels = columns.target or [name for name in table.frame.columns if name not in keys]
    trainer = default_trainer(len(channels))
    if max_steps is not None:
        trainer.set_params(max_steps=max_steps, validate_every=min(50, max(1, max_steps // 4)))
    return trainer


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """Print the progress on the error stream: a line per fit, or one status line on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, text: typer.echo(f"[{done}/{total}] {text}", err=True)
        return
    from rich.console import Console

    with Console(stderr=True).status("comparing ...") as status:
        yield lambda done, total, text: status.update(f"{done} of {total}: {text}")


def _show(result: Comparison, out: Path | None) -> None:
    """Print the table, the controls and the verdict."""
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
        f"stride {settings['stride']}, {len(settings['seeds'])} seed(s). diff: relative to "
        f"{result.baseline}; from, to: interval, {100 * settings['confidence']:g} % for all "
        f"{settings['comparisons']} together. fit, predict: CPU seconds."
    )
    typer.echo("Controls:")
    for name, state in result.controls.items():
        typer.echo(f"  {name}: {state}")
    typer.echo(f"\n{result.verdict}")
    if out is not None:
        note(f"wrote {out}.")
