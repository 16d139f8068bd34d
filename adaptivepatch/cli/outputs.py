"""Output files of commands: checked before the work, and written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivepatch.cli.stamps import dates_as_text
from adaptivepatch.cli.tables import ending_of
from adaptivepatch.errors import InvalidParameterError, MissingDependencyError
from adaptivepatch.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

    from adaptivepatch.data.steps import Step
    from adaptivepatch.plotting.figures import Figure

FIGURES = (".png", ".svg", ".pdf")


def check_output(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Fail early if the output table cannot be written.

    Parameters
    ----------
    path : path
        File to write; its name must have a known ending.
    force : bool
        Whether an existing file is replaced.
    source : path, optional
        Input file, which is never replaced.

    Raises
    ------
    InvalidParameterError
        If the file cannot be written.
    """
    check_target(path, force=force, source=source)
    ending_of(path, "the output")


def check_target(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Do those checks of `check_output` that hold for a file of any kind."""
    folder = path.parent
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InvalidParameterError(
            f"The input file is never replaced. {str(path)!r} is FILE. Name another file."
        )
    if path.is_dir():
        raise InvalidParameterError(
            f"The output must be a file. {str(path)!r} is a folder. Name a file in it."
        )
    if path.exists() and not force:
        raise InvalidParameterError(
            f"An existing file is replaced only with --force. {str(path)!r} exists. Pass --force "
            "or name another file."
        )
    if not folder.is_dir():
        raise InvalidParameterError(
            f"The output folder must exist. {str(folder)!r} is not a folder. Create it."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidParameterError(
            f"The output needs a folder that can be written to. {str(folder)!r} cannot be written "
            "to. Name another file, or change the permissions of the folder."
        )


def check_figure(path: Path | None, *, force: bool) -> None:
    """Fail early if a figure cannot be drawn or written; None stands for no figure.

    Raises
    ------
    InvalidParameterError
        If the file cannot be written.
    MissingDependencyError
        If matplotlib is not installed.
    """
    from adaptivepatch.plotting.figures import new_figure

    if path is None:
        return
    if path.suffix.lower() not in FIGURES:
        raise InvalidParameterError(
            f"The name of a figure must end in .png, .svg or .pdf. Got {str(path)!r}. Rename it."
        )
    check_target(path, force=force)
    new_figure()  # raises if matplotlib is missing


def check_types(path: Path, name: str, values: Iterable[object]) -> None:
    """Raise if a column cannot be written because its values are of several types.

    Parameters
    ----------
    path : path
        File to write; only parquet columns have one type.
    name : str
        Name of the column.
    values : iterable
        Values of the column.

    Raises
    ------
    InvalidParameterError
        If a parquet column would hold values of several types.
    """
    types = {type(value).__name__: value for value in values}
    if ending_of(path, "the output") == ".parquet" and len(types) > 1:
        shown = " and ".join(f"{value!r} ({kind})" for kind, value in sorted(types.items())[:2])
        raise InvalidParameterError(
            f"The values of a parquet column must have one type. Those of {name!r} have several, "
            f"such as {shown}. Write a .csv file, or fit a model on item ids of one type."
        )


def write_table(frame: pd.DataFrame, path: Path, step: Step) -> None:
    """Write a frame in the format of the file's ending, completely or not at all.

    Parameters
    ----------
    frame : pandas.DataFrame
        Table of results. Its dates keep their type in a parquet file and are text in others.
    path : path
        File to write.
    step : pandas offset or int
        Time step of the series, which decides how dates are written.
    """
    ending = ending_of(path, "the output")
    if ending == ".parquet":
        for name, column in frame.items():
            if column.dtype.kind == "O":
                check_types(path, str(name), column)
        try:
            write_atomic(path, lambda target: frame.to_parquet(target, index=False))
        except ImportError as error:
            raise MissingDependencyError(
                "Parquet needs the 'pyarrow' package, which is not installed. "
                'Install it with: pip install "adaptivepatch-forecasting[data]".'
            ) from error
        return
    methods: dict[str, Any] = {".gz": {"method": "gzip", "mtime": 0}, ".xz": "xz"}
    separator, text = "\t" if ".tsv" in ending else ",", dates_as_text(frame, step)
    write_atomic(
        path,
        lambda target: text.to_csv(
            target,
            sep=separator,
            index=False,
            lineterminator="\n",
            compression=methods.get(path.suffix.lower()),
        ),
    )


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's ending, completely or not at all."""
    kind = path.suffix.lower().removeprefix(".")
    write_atomic(path, lambda target: figure.savefig(target, dpi=110, format=kind))
