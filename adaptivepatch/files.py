"""Atomic writing of files, and checks of paths that users pass.

This module imports only the standard library and `errors`, so that every layer can use it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from adaptivepatch.errors import InvalidParameterError, OutputError, shortened

# Name of a temporary file: target, machine, process id, start of the process, and random digits.
_TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-\w{8}")

_LEAST_UNPACKED, _RATIO = 1 << 28, 100


def as_path(value: object, name: str = "path") -> Path:
    """Return a path that a user passed, with ``~`` replaced by the home folder.

    Parameters
    ----------
    value : str or path
        Value of the argument.
    name : str, default="path"
        Name of the argument, for the messages.

    Raises
    ------
    TypeError
        If the value is neither a str nor a path.
    InvalidParameterError
        If the value begins with ``~`` and the name of a user who does not exist.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(
            f"The {name!r} argument must be a str or Path. Got {shortened(repr(value))} instead."
        )
    path = Path(value)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InvalidParameterError(
            f"The home folder that {str(path)!r} refers to is not known. Correct the user name "
            f"after '~', or pass {'./' + str(path)!r} for a path in the current folder.",
            parameter=name,
        ) from error


def is_file(path: Path) -> bool:
    """Tell whether a file exists; return False for names that no file can have."""
    try:
        return path.is_file()
    except OSError:  # for example if the name is too long
        return False


def is_folder(path: Path) -> bool:
    """Tell whether a folder exists; return False for names that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PackedTooLargeError(ValueError):
    """Compressed content expands to much more than its compressed size suggests."""


def unpack(content: bytes, kind: str) -> bytes:
    """Decompress content, up to 256 MiB or 100 times its compressed size, whichever is more.

    Tables reach about a tenth of this ratio. A file that was crafted to exhaust the memory exceeds
    it.

    Parameters
    ----------
    content : bytes
        Compressed content.
    kind : {"gz", "xz"}
        Format of the content.

    Raises
    ------
    PackedTooLargeError
        If the decompressed content is larger than that.
    ValueError
        If the content is damaged or incomplete.
    """
    most = max(_LEAST_UNPACKED, _RATIO * len(content))
    opened = gzip.open if kind == "gz" else lzma.open
    try:
        with opened(io.BytesIO(content)) as stream:
            unpacked: bytes = stream.read(most + 1)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(unpacked) > most:
        raise PackedTooLargeError(
            f"it unpacks to more than {most >> 20} MiB from {len(content)} bytes"
        )
    return unpacked


class Replacement:
    """Several files that are written first and then replace their targets together.

    Inside a ``with`` block, `write` fills temporary files beside their targets. At the end of the
    block, they are moved to their targets in the order of writing. If the block raises, no target
    changes. If the process is killed, the temporary files remain until the next `Replacement` that
    writes into the same folder deletes them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Replacement() as files:
    ...     _ = files.write(Path(folder) / "a.txt", lambda target: target.write_text("new"))
    """

    def __init__(self) -> None:
        self._written: dict[Path, Path] = {}  # temporary file by target

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for target, temporary in self._written.items():
                    with _writing(target):
                        temporary.replace(target)
        finally:
            for temporary in self._written.values():
                temporary.unlink(missing_ok=True)

    def write(self, target: str | Path, write: Callable[[Path], object]) -> Path:
        """Write a temporary file and flush it to the disk.

        Parameters
        ----------
        target : path
            File to create or replace; its folder must exist.
        write : callable
            Function that is called with the path of an empty temporary file and fills it.

        Returns
        -------
        Path
            The temporary file.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        target = Path(target)
        with _writing(target):
            _remove_leftovers(target.parent)
            temporary = _create_beside(target)
            self._written[target] = temporary
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
        return temporary


def write_atomic(target: str | Path, write: Callable[[Path], object]) -> Path:
    """Write a file next to the target, flush it to the disk and move it to the target.

    Parameters
    ----------
    target : path
        File to write or to replace.
    write : callable
        Function that writes the content to the temporary path it is called with.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    OutputError
        If the file cannot be written. An existing target stays unchanged, and the temporary file is
        removed.
    """
    with Replacement() as files:
        files.write(target, write)
    return Path(target)


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


def is_running(pid: int, start: int = 0) -> bool:
    """Tell whether a process is running; return True if this is unknown, as on Windows.

    Parameters
    ----------
    pid : int
        Number of the process.
    start : int, default=0
        Start of the process in clock ticks since the boot, which distinguishes it from a later
        process with the same number; 0 if the start is unknown.
    """
    if sys.platform == "win32":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    now = _start_of(pid)
    return start == 0 or now is None or now == start


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn errors of the operating system into `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{shortened(repr(str(target)))} cannot be written: {error.strerror or error}. Free "
            "space, change permissions, or name another path."
        ) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


# -------------------------------------------------------------------------------- temporary files


def _create_beside(target: Path) -> Path:
    """Create an empty file whose name states its target and the process that writes it."""
    pid = os.getpid()
    owner = f"{_machine()}-{pid}-{_start_of(pid) or 0}"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.{owner}-")
    os.close(handle)
    return Path(name)


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that have ended on this machine."""
    for entry in list(os.scandir(folder)):
        name = _TEMPORARY.fullmatch(entry.name)
        if name is None or name["machine"] != _machine():
            continue
        if not is_running(int(name["pid"]), int(name["start"])):
            Path(entry.path).unlink(missing_ok=True)


def _start_of(pid: int) -> int | None:
    """Return the start of a process in clock ticks since the boot; None if it is unknown."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(status.rpartition(")")[2].split()[19])  # the name may contain spaces
    except (OSError, ValueError, IndexError):
        return None


@lru_cache
def _machine() -> str:
    """Return eight digits that identify a machine or a container with its own process numbers."""
    try:
        numbering = os.readlink("/proc/self/ns/pid")  # noqa: PTH115, not a path
    except OSError:
        numbering = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]
