"""Exclusive claims of files. A claim ends with the process that holds it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptivepatch.errors import OutputError
from adaptivepatch.files import is_running

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class Claim:
    """Exclusive use of what a file stands for, until `release` or the end of the process.

    `claim_file` makes a claim. As a context manager, a claim is released at the end of the block.
    """

    def __init__(self, path: Path, handle: int | None) -> None:
        self.path, self._handle = path, handle

    def release(self) -> None:
        """Remove the file, and then release its lock."""
        self.path.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim_file(path: Path) -> Claim | None:
    """Claim a file, or return None if another claim holds it.

    The operating system locks the file (``flock``) and ends the lock with the process. On a system
    without such locks, the file is created exclusively, with the process and the host in it; if the
    process ran on this host and is known to have ended, its claim is removed.

    Parameters
    ----------
    path : Path
        File to create or lock; its folder must exist.

    Raises
    ------
    OutputError
        If the file cannot be created or locked.
    """
    try:
        return _create(path) if fcntl is None else _lock(path)
    except OSError as error:
        raise OutputError(
            f"{str(path)!r} cannot be claimed: {error.strerror or error}. Free space, change "
            "permissions, or write the results to a folder on a disk with file locks."
        ) from error


@contextmanager
def wait_for_file(path: Path) -> Iterator[None]:
    """Claim a file as soon as no other claim holds it.

    Parameters
    ----------
    path : Path
        Argument of `claim_file`.
    """
    while (claim := claim_file(path)) is None:
        time.sleep(0.02)
    with claim:
        yield


def _lock(path: Path) -> Claim | None:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:
            os.close(handle)
            raise
        if _is_at(handle, path):
            return Claim(path, handle)
        os.close(handle)  # the previous holder removed this file after it was opened here


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------- without flock


def _create(path: Path) -> Claim | None:
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not _remove_stale(path):
                return None
        else:
            os.close(handle)
            claim = Claim(path, None)
            try:
                path.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
            except OSError:
                claim.release()
                raise
            return claim


def _remove_stale(path: Path) -> bool:
    """Remove a claim whose process no longer runs; tell whether the file is gone.

    The file is first moved aside, so that of several processes only one removes it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return True
    pid, _, host = text.partition(" ")
    if not pid.isdecimal() or host != socket.gethostname() or is_running(int(pid)):
        return False
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return True
    if aside.read_text(encoding="utf-8") != text:  # a new claim has replaced the stale one
        aside.replace(path)
        return False
    aside.unlink()
    return True
