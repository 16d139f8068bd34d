"""Files that commands write: checked before the work, and complete or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptivepatch.cli.tables import ending_of
from adaptivepatch.errors import InvalidParameterError, MissingDependencyError
from adaptivepatch.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd


def check_output(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Raise unless a file can be written: before the work, not after it.

    Parameters
    ----------
    path : path
        To write, with a known ending unless it is a picture.
    force : bool
        Replace a file that is there.
    source : path, optional
        The file that is read, which is never replaced.
    """
    check_target(path, force=force, source=source)
    ending_of(path, "The output")


def check_target(path: Path, *, force: bool, source: Path | None = None) -> None:
    """Do the same for a file of any kind."""
    folder = path.parent
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise InvalidParameterError(
            f"The data that are read are never replaced. {str(path)!r} is FILE. Name another file."
        )
    if path.is_dir():
        raise InvalidParameterError(
            f"The output must be a file. {str(path)!r} is a folder. Name a file in it."
        )
    if path.exists() and not force:
        raise InvalidParameterError(
            f"Files are not replaced unasked. {str(path)!r} exists. Name another, or pass --force."
        )
    if not folder.is_dir():
        raise InvalidParameterError(
            f"The output needs a folder to be in. {str(folder)!r} is none. Create it first."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidParameterError(
            f"The output needs a folder that can be written to. {str(folder)!r} cannot. Name "
            "another file, or change the permissions of the folder."
        )


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame in the format that its ending names; complete or not at all."""
    ending = ending_of(path, "The output")
    if ending == ".parquet":
        try:
            write_atomic(path, lambda target: frame.to_parquet(target, index=False))
        except ImportError as error:
            raise MissingDependencyError(
                "Parquet needs the 'pyarrow' package, which is not installed. "
                'Install it with: pip install "adaptivepatch-forecasting[data]".'
            ) from error
        return
    methods: dict[str, Any] = {".gz": {"method": "gzip", "mtime": 0}, ".xz": "xz"}
    separator = "\t" if ".tsv" in ending else ","
    write_atomic(
        path,
        lambda target: frame.to_csv(
            target,
            sep=separator,
            index=False,
            lineterminator="\n",
            compression=methods.get(path.suffix.lower()),
        ),
    )
