"""Files that appear complete or not at all, and are not replaced by accident.

This module imports the standard library and `errors` only, so that every layer may use it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


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
    OSError
        If it cannot be written; what stood there before is untouched, the temporary file gone.
    """
    target = Path(target)
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


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
