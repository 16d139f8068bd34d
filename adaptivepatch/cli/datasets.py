"""``adaptivepatch datasets``: list the named public data sets, find and download their files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.screen import note, show_table, write_json

app = typer.Typer(help="List, find and download public data sets.", no_args_is_help=True)

_STEP = 0.1  # share of a file between two lines of progress, if there is no terminal
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of a data set, as in `datasets list`.", show_default=False
    ),
]


@app.command("list", epilog="Example:\n\nadaptivepatch datasets list --json")
def list_(as_json: options.Json = False) -> None:
    """Show each data set: size, license, and whether its file is available.

    Files are searched for in the folder ADAPTIVEPATCH_DATA and in the cache.
    """
    from adaptivepatch.datasets.sources import dataset_table

    rows = dataset_table()
    if as_json:
        write_json({"datasets": rows})
        return
    shown = [
        {
            "name": row["name"],
            "rows": row["rows"],
            "channels": row["channels"],
            "license": row["license"],
            "file": "here" if row["path"] else "fetch it" if row["fetchable"] else "absent",
        }
        for row in rows
    ]
    show_table(shown, {"rows": ",", "channels": ","})


@app.command(epilog='Example:\n\nadaptivepatch fit "$(adaptivepatch datasets path ETTh1)" ...')
def path(name: Name, as_json: options.Json = False) -> None:
    """Print the path of the file of a data set."""
    from adaptivepatch.datasets.sources import dataset_path

    found = dataset_path(name)
    if as_json:
        write_json({"name": name, "path": str(found)})
    else:
        typer.echo(str(found))


@app.command(epilog="Example:\n\nadaptivepatch datasets fetch ETTh1")
def fetch(name: Name, as_json: options.Json = False) -> None:
    """Download a data set, verify it, and print its path."""
    from adaptivepatch.datasets.sources import fetch_dataset

    found = (
        _fetch_with_bar(name) if sys.stderr.isatty() else fetch_dataset(name, progress=_Lines(name))
    )
    if as_json:
        write_json({"name": name, "path": str(found)})
    else:
        typer.echo(str(found))


def _fetch_with_bar(name: str) -> object:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from adaptivepatch.datasets.sources import fetch_dataset

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        return fetch_dataset(
            name, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


class _Lines:
    """Prints the progress of a download at every tenth of the file.

    Parameters
    ----------
    name : str
        Name of the data set.
    """

    def __init__(self, name: str) -> None:
        self.name, self.next = name, 0.0

    def __call__(self, done: int, total: int | None) -> None:
        """Print a line if a tenth of the file has arrived since the last one."""
        share = 1.0 if not total else done / total
        if total and share >= self.next:
            note(f"{self.name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
            self.next = share + _STEP
