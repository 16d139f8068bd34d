"""Files that appear complete or not at all, and are not replaced by accident.

This module imports the standard library and `errors` only, so that every layer may use it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptivepatch.errors import OutputError


def write_atomic(target: str | Path, write: Callable[[Path], object]) -> Path:
    """Write beside the target, flush to the disk, then move into place.

    Parameters
    ----------
    target : path
        File to create or replace; its folder exists.
    write : callable
        Called with the path of a temporary file in the same folder, which it fills.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    OutputError
        If it cannot be written; what stood there before is untouched, the temporary file gone.
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
    """Create a folder and those above it, unless it is there.

    Raises
    ------
    OutputError
        If it cannot be created.
    """
    folder = Path(path)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Phrase errors of the disk."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Writing needs a folder with free space that can be written to. {str(target)!r} "
            f"cannot be written: {error.strerror or error}. Free space, change permissions, or "
            "name another path."
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
