"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from adaptivepatch.bench.task import Run

app = typer.Typer(
    name="adaptivepatch",
    help="Forecasting with patches whose boundaries are chosen, not given.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure forecasters on the long-horizon benchmark.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("demo_output"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace results that are in a folder of your own.")
    ] = False,
) -> None:
    """Train on real data, compare with naive forecasts, draw the patches. Takes a minute or two.

    Hourly pedestrian counts of 21 places in Auckland; needs the extra "demo". The default folder,
    demo_output, is overwritten.
    """
    import os

    from rich.console import Console

    from adaptivepatch.demo import DEFAULT_FOLDER, SMOKE, WEEK, demo_counts, run_demo

    console = Console()
    smoke = os.environ.get("ADAPTIVEPATCH_SMOKE") == "1"  # for tests: seconds, and no result
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
    """Return the comparison; a dash stands for what a naive forecast does not have."""
    from rich.table import Table

    table = Table(
        caption="MAE, RMSE: pedestrians per hour. MASE: 1 is the training error of the\n"
        "same hour of the day before. fit, predict: seconds.",
        caption_justify="left",
    )
    table.add_column("")
    formats = {
        "MAE": ",.1f",
        "RMSE": ",.1f",
        "MASE": ".3f",
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


@bench.command()
def verify() -> None:
    """Check data, splits and metrics against the training-free Repeat forecast.

    Needs ETTh1, ETTh2, ETTm1, ETTm2 and Weather in the folder ADAPTIVEPATCH_DATA. Ends with exit
    status 1 unless every cell agrees to 1e-9.
    """
    import time

    from rich.console import Console
    from rich.table import Table

    from adaptivepatch.bench.protocol import verify_repeat_oracle

    console, started = Console(), time.perf_counter()
    checks = verify_repeat_oracle()
    table = Table("data set", "horizon", "protocol", "windows", "MSE", "MAE", "rel. error", "")
    for check in checks:
        table.add_row(
            check.dataset,
            str(check.horizon),
            check.protocol,
            str(check.num_windows),
            f"{check.mse:.6f}",
            f"{check.mae:.6f}",
            f"{check.relative_error:.1e}",
            "ok" if check.is_reproduced else "[red]differs[/red]",
        )
    console.print(table)
    agreed = sum(check.is_reproduced for check in checks)
    seconds = time.perf_counter() - started
    worst = max(check.relative_error for check in checks)
    console.print(
        f"{agreed} of {len(checks)} agree; largest relative error {worst:.1e}; {seconds:.1f} s"
    )
    if agreed < len(checks):
        raise typer.Exit(1)


@bench.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or a YAML file.")],
    out: Annotated[Path, typer.Option(help="CSV file to append finished runs to.")],
    seed: Annotated[list[int] | None, typer.Option(help="Only these seeds.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only these arms.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only these data sets.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of this process.", min=1)] = 1,
) -> None:
    """Run what is missing of a suite; rows that are in the file already are skipped.

    Example: adaptivepatch bench run patchtst_etth1 --out results.csv --seed 1
    """
    import torch
    from rich.console import Console

    from adaptivepatch.bench.runner import run_suite

    torch.set_num_threads(threads)
    console = Console()

    def wanted(run: Run) -> bool:
        return (
            (not seed or run.seed in seed)
            and (not arm or run.arm.name in arm)
            and (not dataset or run.task.dataset in dataset)
        )

    def announce(run: Run, number: int, total: int) -> None:
        task = run.task
        console.print(
            f"[{number}/{total}] {task.dataset}-{task.horizon} L={task.context_length} "
            f"{run.arm.name} seed {run.seed}",
            highlight=False,
        )

    def report(step: int, metrics: dict[str, float]) -> None:
        console.print(
            f"  step {step}: train {metrics['train_loss']:.4f}, validation "
            f"{metrics.get('validation_loss', float('nan')):.4f}, {metrics['seconds']:.0f} s",
            highlight=False,
        )

    records = run_suite(
        suite, out, only=wanted, device=device, on_start=announce, on_validation=report
    )
    for record in records:
        console.print(
            f"{record.dataset}-{record.horizon} {record.arm} seed {record.seed}: test MSE "
            f"{record.test_mse:.4f}, MAE {record.test_mae:.4f} over {record.num_windows} windows",
            highlight=False,
        )
    if not records:
        console.print(f"Nothing to do: every wanted run is in {out}.")


@bench.command()
def report(
    documents: Annotated[list[Path], typer.Argument(help="Markdown files with marked tables.")],
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Fill the tables of documents from result files, in place."""
    from adaptivepatch.bench.report import render

    for document in documents:
        text = document.read_text(encoding="utf-8")
        document.write_text(render(text, results), encoding="utf-8")


def main() -> None:
    """Run the command line; errors of this package become one line and exit status 2."""
    from adaptivepatch.errors import AdaptivePatchError

    try:
        app()
    except (AdaptivePatchError, OSError) as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print an error and end with exit status 2."""
    typer.echo(f"adaptivepatch: {message}", err=True)
    raise SystemExit(2)
