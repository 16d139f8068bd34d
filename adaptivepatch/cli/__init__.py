"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant.

Each command or group of commands has its own file. This file joins them and prints every error as
one line. `options` holds shared options, `parameters` the Python parameters that options stand
for, `build` makes forecasters, `screen` prints results and notes, `streams` treats closed streams,
`tables` reads data files (`stamps` their dates) and `outputs` writes files.

Exit status: 0 for success; 1 if a check failed; 2 for wrong use or input, or too little memory or
disk space, explained in one line on the error stream; 70 for a bug in this package; 130 after an
interruption; 141 if the reader of the output has closed it.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from adaptivepatch import __version__
from adaptivepatch.cli import bench, datasets, streams
from adaptivepatch.cli.apply import EVALUATE, PREDICT, SEGMENT, evaluate, predict, segment
from adaptivepatch.cli.compare import EXAMPLE as COMPARE
from adaptivepatch.cli.compare import compare
from adaptivepatch.cli.demo import demo
from adaptivepatch.cli.fit import EXAMPLES, fit
from adaptivepatch.cli.plot import EXAMPLES as PLOT
from adaptivepatch.cli.plot import plot
from adaptivepatch.cli.pretrain import EXAMPLES as PRETRAIN
from adaptivepatch.cli.pretrain import pretrain_patcher
from adaptivepatch.cli.screen import note, say_error

app = typer.Typer(
    name="adaptivepatch",
    help="Forecasting with patches whose boundaries depend on the series.",
    epilog="adaptivepatch COMMAND --help shows examples. Exit status: 0 done, 1 a check failed, "
    "2 wrong use or input, 70 a bug, 130 interrupted.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(epilog=EXAMPLES)(fit)
app.command(epilog=PREDICT)(predict)
app.command(epilog=EVALUATE)(evaluate)
app.command(epilog=SEGMENT)(segment)
app.command(epilog=PLOT)(plot)
app.command(epilog=COMPARE)(compare)
app.command(epilog=PRETRAIN)(pretrain_patcher)
app.add_typer(datasets.app, name="datasets")
app.command(epilog="Example:\n\nadaptivepatch demo --out my_demo")(demo)
app.add_typer(bench.app, name="bench")

INTERRUPTED, BUG, NO_READER = 130, 70, 141
_TRACEBACK = "--traceback"
_OUT_OF_MEMORY = (  # parts of the messages of torch, Python and the loader of shared libraries
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "can't start new thread",
    "failed to map segment from shared object",
)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    traceback: Annotated[  # noqa: ARG001, `main` reads it, as it needs it for any error
        bool, typer.Option(_TRACEBACK, help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Forecasting with patches whose boundaries depend on the series."""
    if version:
        typer.echo(f"adaptivepatch {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with an exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments without the program name. Default: those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    wants_traceback = _TRACEBACK in given
    given = [argument for argument in given if argument != _TRACEBACK]
    streams.replace_closed()
    try:
        with _warnings_as_notes():
            status = app(given, prog_name="adaptivepatch", standalone_mode=False)
            sys.stdout.flush()
        if status == INTERRUPTED:
            note("interrupted.")
    except KeyboardInterrupt:
        note("interrupted.")
        status = INTERRUPTED
    except BrokenPipeError:
        status = NO_READER
    except SystemExit as end:
        closed = isinstance(end.__context__, BrokenPipeError)  # typer ends the process itself
        status = NO_READER if closed else end.code
    except Exception as error:
        if wants_traceback:
            raise
        status = _explain(error, _command(given))
    streams.flush()
    raise SystemExit(status if isinstance(status, int) else 0)


def _command(arguments: Sequence[str]) -> Any:
    """Return the command that the arguments name, with its options."""
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    return command


def _explain(error: Exception, command: Any) -> int:
    """Print an error as one line and return the exit status."""
    from adaptivepatch.errors import AdaptivePatchError

    if hasattr(error, "format_message"):  # raised by typer for a wrong use of options
        _explain_usage(error)
    elif _is_out_of_memory(error):
        note(
            f"There is not enough memory ({type(error).__name__}). Allow the process more, or use "
            "fewer series, a shorter look-back, or a smaller --set trainer__batch_size=..."
        )
    elif isinstance(error, AdaptivePatchError | OSError):
        note(say_error(error, command))
    elif isinstance(error, UnicodeEncodeError):
        note(
            f"The output stream must hold every character. Its encoding, {error.encoding!r}, lacks "
            f"{error.object[error.start]!r}. Set the environment variable PYTHONIOENCODING=utf-8."
        )
    elif type(error).__name__ == "Abort":
        note("interrupted.")
        return INTERRUPTED
    else:
        note(
            f"This is a bug in adaptivepatch: {type(error).__name__}: {say_error(error)} Run the "
            f"command again with {_TRACEBACK} and report what it prints."
        )
        return BUG
    return 2


def _explain_usage(error: Exception) -> None:
    context = getattr(error, "ctx", None)
    command = "adaptivepatch" if context is None else context.command_path
    message = str(error.format_message())  # type: ignore[attr-defined]
    if message:  # empty where help was shown instead
        message = message.replace("Value error, ", "")
        end = "" if message.endswith((".", "?")) else "."
        note(f"{message}{end} See: {command} --help")


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory is exhausted; torch and loaders have no class of their own for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_own = isinstance(error, RuntimeError | ImportError)
    return is_own and any(part in str(error) for part in _OUT_OF_MEMORY)


@contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Print warnings of Python as single lines, without file names and source."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        note(f"warning: {say_error(message) if isinstance(message, Warning) else message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
