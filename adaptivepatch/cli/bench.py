"""``adaptivepatch bench``: verify the data of the benchmark, and run its suites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptivepatch.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from adaptivepatch.bench.result_row import ResultRow
    from adaptivepatch.bench.task import Run

app = typer.Typer(help="Run the benchmark and verify its data.", no_args_is_help=True)


@app.command()
def verify() -> None:
    """Check data, splits and metrics by the known errors of the last-value (Repeat) forecast.

    Needs ETTh1, ETTh2, ETTm1, ETTm2 and Weather in the folder ADAPTIVEPATCH_DATA. The exit status
    is 1 unless every error agrees to 1e-9.
    """
    import time

    from rich.console import Console
    from rich.table import Table

    from adaptivepatch.bench.repeat_oracle import verify_repeat_oracle

    console, started = Console(), time.perf_counter()
    checks = verify_repeat_oracle()
    table = Table("data set", "horizon", "counting", "windows", "MSE", "MAE", "rel. error", "")
    for check in checks:
        table.add_row(
            check.dataset,
            str(check.horizon),
            check.convention,
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


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or path of a YAML file.")],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="CSV file that receives a row per run.",
            parser=options.user_path,
        ),
    ],
    seed: Annotated[list[int] | None, typer.Option(help="Only these seeds.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only these arms.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only these data sets.")] = None,
    device: Annotated[
        str, typer.Option(help="Device to train on: auto, cpu, cuda, cuda:1, ...")
    ] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of this process.", min=1)] = 1,
) -> None:
    """Do the runs of a suite that the results file does not have yet.

    Several processes can share one results file. After an interruption, repeat the command: only
    the run that was interrupted is lost.

    Example: adaptivepatch bench run patchtst_etth1 --out results.csv --seed 1
    """
    import torch
    from rich.console import Console

    from adaptivepatch.bench.runner import run_suite
    from adaptivepatch.bench.task import choose_runs, read_suite

    torch.set_num_threads(threads)
    console = Console()
    chosen = choose_runs(
        read_suite(suite), arms=arm or (), datasets=dataset or (), seeds=seed or ()
    )
    keys = {run.key for run in chosen}

    def show_run(run: Run, number: int, total: int) -> None:
        console.print(f"[{number}/{total}] {_describe(run)}", highlight=False)

    def show_validation(step: int, metrics: dict[str, float]) -> None:
        console.print(f"  step {step}: {_describe_losses(metrics)}", highlight=False)

    rows = run_suite(
        suite,
        out,
        only=lambda run: run.key in keys,
        device=device,
        on_start=show_run,
        on_validation=show_validation,
    )
    _report(console, rows, out, keys)


def _report(console: Console, rows: list[ResultRow], out: Path, keys: set[tuple[str, ...]]) -> None:
    """Print the new results, and why chosen runs were not done."""
    from adaptivepatch.bench.protocols import find_protocol
    from adaptivepatch.bench.store import Store

    for row in rows:
        protocol = find_protocol(row.run.task.protocol)
        console.print(protocol.summarise(row), highlight=False)
    store = Store(out)
    if claimed := len(keys - store.finished()):
        console.print(f"Chosen runs left to other processes: {claimed} (claims in {store.folder}).")
    elif not rows:
        console.print(f"Nothing to do: all chosen runs are in {out}.")


def _describe(run: Run) -> str:
    task = run.task
    return f"{task.dataset}-{task.horizon} L={task.context_length} {run.arm.name} seed {run.seed}"


def _describe_losses(metrics: dict[str, float]) -> str:
    validation = metrics.get("validation_loss", float("nan"))
    return (
        f"train {metrics['train_loss']:.4f}, validation {validation:.4f}, "
        f"{metrics['seconds']:.0f} s"
    )
