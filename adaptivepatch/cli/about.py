"""What ``fit`` notes beside a model, for the commands that read files like that of ``fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adaptivepatch import schema
from adaptivepatch.errors import InvalidModelError
from adaptivepatch.files import digest_of, write_atomic

ABOUT = "cli.json"
_CONFIG, _DIGEST = "config.json", "config_sha256"
_NOTES = schema.fields(
    {},
    {
        "date_format": schema.maybe(schema.text),
        "patcher": schema.text,
        "rows_are_numbered": schema.boolean,
        "rows_held_out": schema.boolean,
        _DIGEST: schema.text,
    },
)


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write notes about the model that the folder holds."""
    text = json.dumps({**about, _DIGEST: digest_of(folder / _CONFIG)}, indent=2) + "\n"
    write_atomic(folder / ABOUT, lambda path: path.write_text(text, encoding="utf-8"))


def read_about(folder: Path) -> dict[str, Any] | None:
    """Return the notes about a model; None if it was saved in Python.

    Notes about an earlier model, which Python has replaced in the same folder, are not returned.
    Files are then read as they are for any model that was saved in Python.

    Raises
    ------
    InvalidModelError
        If the file is damaged.
    """
    from adaptivepatch import model_folder

    file = folder / ABOUT
    if not file.exists():
        return None
    try:
        about: dict[str, Any] = model_folder.read_json(file.read_bytes())
        _NOTES(about, ABOUT)
        digest = about.get(_DIGEST)  # an earlier version did not write it
        return about if digest in (None, digest_of(folder / _CONFIG)) else None
    except (OSError, ValueError) as error:
        raise InvalidModelError(
            f"{str(file)!r} is not the JSON that fit wrote ({schema.reason(error)}). Fit again, or "
            "delete the file and pass --date-format if dates need it."
        ) from error
