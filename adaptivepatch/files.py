"""Files that appear complete or not at all, and errors of writing them.

This module imports the standard library and `errors` only, so that every layer can use it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptivepatch.errors import OutputError


def write_atomic(target: str | Path, write: Callable[[Path], object]) -> Path:
    """Write a file next to the target, flush it to the disk and move it to the target.

    Parameters
    ----------
    target : path
        File to create or replace; its folder must exist.
    write : callable
        Function that is called with the path of a temporary file in the same folder and fills it.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    OutputError
        If the file cannot be written. An earlier file remains; the temporary file is removed.
    """
    target = Path(target)
    with _writing(target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return target


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents unless they exist.

    Raises
    ------
    OutputError
        If the folder cannot be created.
    """
    folder = Path(path)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Raise `OutputError` for errors of the operating system."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Writing needs a writable folder with free space. {str(target)!r} cannot be written: "
            f"{error.strerror or error}. Free space, change permissions, or name another path."
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
