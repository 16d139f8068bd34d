"""Progress of a comparison on the error stream."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Progress = Callable[[int, int, str], None]
"""Function that is called as ``progress(done, total, text)``."""

_LINES = 20  # where lines cannot be overwritten


@contextmanager
def reporting(progress: Progress | bool | None) -> Iterator[Progress]:
    """Yield the function that progress is reported to.

    Parameters
    ----------
    progress : bool or callable, optional
        A function, which is used as it is, or whether to write to the error stream: what comes
        before the first fit stays there, and what follows is one line that changes on a terminal,
        and about 20 lines elsewhere.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield _ignore
    elif not sys.stderr.isatty():
        yield _write_some
    else:
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("comparing ...") as status:

            def show(done: int, total: int, text: str) -> None:
                if not done:
                    console.print(text, highlight=False, markup=False)
                status.update(f"{done} of {total}: {text}" if done else "comparing ...")

            yield show


def _ignore(done: int, total: int, text: str) -> None:
    del done, total, text


def _write_some(done: int, total: int, text: str) -> None:
    if not done:
        line = text
    elif done * _LINES // total > (done - 1) * _LINES // total:
        line = f"[{done}/{total}] {text}"
    else:
        return
    with suppress(OSError):  # the comparison goes on if nobody can read it
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
