"""``adaptivepatch compare``: answer whether adaptive patches help on the data of a file."""

from __future__ import annotations

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
    from adaptivepatch.comparison.effort import Effort
    from adaptivepatch.comparison.result import Comparison
    from adaptivepatch.training.trainer import Trainer

ROLES = {
    "baseline candidate": "fixed",
    "challenger": "adaptive",
    "control": "control",
    "naive": "naive",
}
EXAMPLE = "Example:\n\nadaptivepatch compare my.csv --horizon 96 --jobs 2 --out comparison"


def _setting(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel="Comparison", **more)


Challengers = Annotated[
    list[str] | None,
    _setting(
        f"Adaptive patcher to try, with a compression rate: {options.PATCHER_NAMES}; "
        f"{options.OWN_OR_PRETRAINED}. Repeat for more.",
        metavar="NAME",
        show_default="recency, reinpatch, dynamic_chunking",
    ),
]
Seeds = Annotated[int, _setting("Trainings of each model; an answer needs 5.", min=1)]
Metric = Annotated[str, _setting("Error measure: MSE or MAE, on scaled series.")]
TestShare = Annotated[float, _setting("Share of the last rows, used for testing only.")]
ValidationRows = Annotated[
    int | None,
    _setting(
        "Last rows before the test rows, which select training steps and models.",
        min=1,
        show_default="10 %, or the horizon",
    ),
]
MaxSteps = Annotated[
    int | None,
    _setting("Maximum number of training steps.", min=1, show_default="200, thorough 400"),
]
Thorough = Annotated[
    bool,
    _setting(
        "Train longer, try more patch lengths and use all validation and test windows. This takes "
        "about five times as long."
    ),
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
    thorough: Thorough = False,
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
    """Answer whether adaptive patches help on your own data: yes, no or not shown.

    Each model is trained several times on the rows before the test part. Validation rows select
    the best fixed patches and the best adaptive ones. The test part is forecast once, at the end.
    The last paragraph is the answer; in all percentages, minus means less error.
    """
    from adaptivepatch.comparison.arms import CHALLENGERS, default_patchers
    from adaptivepatch.comparison.compare import compare as compare_frame
    from adaptivepatch.comparison.effort import QUICK, THOROUGH
    from adaptivepatch.comparison.result import check_folder

    if out is not None:
        check_folder(out, force)
    table = read_table(file, Columns(item_id, timestamp, target, date_format))
    columns = table.columns
    trainer = _trainer(table, THOROUGH if thorough else QUICK, max_steps)
    challengers = [
        options.patcher_class(p) if ":" in p and not as_path(p, "patcher").exists() else p
        for p in patcher or CHALLENGERS
    ]
    result = compare_frame(
        table.frame,
        default_patchers(context_length, challengers, thorough=thorough),
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
        thorough=thorough,
        n_jobs=jobs,
    )
    if out is not None:
        result.save(out, overwrite=force)
    if as_json:
        write_json(result.to_dict())
    else:
        _show(result, out)


def _trainer(table: Table, effort: Effort, max_steps: int | None) -> Trainer:
    """Return the trainer of an effort for a file, with `max_steps` if given."""
    columns = table.columns
    keys = {columns.item_id or ITEM_ID, columns.timestamp}
    channels = columns.target or [name for name in table.frame.columns if name not in keys]
    return effort.trainer(len(channels), max_steps)


def _show(result: Comparison, out: Path | None) -> None:
    """Print the table, the controls and the verdict."""
    import pandas as pd

    table, settings = result.table, result.settings
    percent = 100 * table[["difference", "low", "high"]]
    shown = pd.DataFrame(
        {
            "model": table.arm,
            "role": table.role.map(ROLES),
            "patches": table.tokens,
            "validation": table.validation_error,
            "test": table.test_error,
            "std": table.test_error_std,
            "change %": percent.difference,
            "from": percent.low,
            "to": percent.high,
            "train s": table.fit_cpu_seconds,
            "forecast s": table.predict_cpu_seconds,
            "shown": table.verdict,
        }
    )
    forms = {"patches": ".1f", "validation": ".4f", "test": ".4f", "std": ".4f", "train s": ".1f"}
    forms |= {"forecast s": ".2f", "change %": "+.1f", "from": "+.1f", "to": "+.1f"}
    show_table(shown, forms)
    typer.echo(
        f"\nvalidation, test: mean error ({settings['metric']}) on scaled series; std: deviation "
        f"between {len(settings['seeds'])} training(s). change: of the test error against "
        f"{result.baseline}, minus means less error; from, to: its range, with "
        f"{100 * settings['confidence']:g} % confidence for all {settings['comparisons']} ranges "
        "together. patches: number per look-back. s: CPU seconds.\n"
        f"Tested on {settings['test_windows']} windows {settings['stride']} step(s) apart, "
        f"validated on windows {settings['validation_stride']} step(s) apart."
    )
    typer.echo("Controls:")
    for name, state in result.controls.items():
        typer.echo(f"  {name}: {state}")
    typer.echo(f"\n{result.verdict}")
    if out is not None:
        note(f"wrote {out}.")
