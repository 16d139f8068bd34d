"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant.

One file per command or group of commands; this one joins them and turns errors into one line.

Exit status: 0, done; 1, a check failed; 2, wrong use or input, said in one line on the error
stream; 130, interrupted.
"""

from __future__ import annotations

from typing import NoReturn

import typer

from adaptivepatch.cli import bench
from adaptivepatch.cli.demo import demo

app = typer.Typer(
    name="adaptivepatch",
    help="Forecasting with patches whose boundaries are chosen, not given.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.add_typer(bench.app, name="bench")


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
