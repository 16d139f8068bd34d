"""What ``fit`` notes beside a model, for the commands that read files like that of ``fit``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from adaptivepatch.files import write_atomic

ABOUT = "cli.json"
_CONFIG, _DIGEST = "config.json", "sha256_of_config"


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write notes about the model that the folder holds."""
    text = json.dumps({**about, _DIGEST: _digest(folder)}, indent=2) + "\n"
    write_atomic(folder / ABOUT, lambda path: path.write_text(text, encoding="utf-8"))


def read_about(folder: Path) -> dict[str, Any] | None:
    """Return the notes about a model; None if it was saved in Python.

    Notes about an earlier model, which Python has replaced in the same folder, are not returned.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        is_own = about.get(_DIGEST) in (None, _digest(folder))  # None: an earlier version wrote it
    except (OSError, ValueError, AttributeError):
        return None
    return about if is_own else None


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / _CONFIG).read_bytes()).hexdigest()
