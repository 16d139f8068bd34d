"""Options that several commands share, and the plug-in classes they name."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adaptivepatch.patchers.base import Patcher

_COLUMNS, _OUTPUT, _MODEL = "Columns of FILE", "Output", "Model"


class Missing(StrEnum):
    """What NaN and absent stamps mean."""

    error = "error"
    mask = "mask"


class Short(StrEnum):
    """What series that are too short mean."""

    error = "error"
    skip = "skip"


class By(StrEnum):
    """What the rows of a table of metrics are."""

    item = "item"
    channel = "channel"
    step = "step"


SavedModel = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model folder that fit wrote.", show_default=False)
]
OtherFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help="Series with the columns of fit. Default: the series of fit.",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document.", rich_help_panel=_OUTPUT),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace what is there.", rich_help_panel=_OUTPUT)
]
DateFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="How dates are written, such as '%d/%m/%Y'; default: the year first.",
        rich_help_panel=_COLUMNS,
        show_default=False,
    ),
]
PluginPatcher = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CLASS",
        help="Class of your own that the model was fitted with.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="CPU threads.", rich_help_panel=_MODEL, show_default=False
    ),
]


def set_threads(threads: int | None) -> None:
    """Use so many CPU threads, if a number is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def patcher_class(name: str) -> type[Patcher]:
    """Return the class that --patcher names; see `adaptivepatch.components.patcher_class`.

    A class of the user's, ``module:Class``, is also looked for in the current folder.
    """
    from adaptivepatch.components import patcher_class

    here = str(Path.cwd())
    if ":" in name and here not in sys.path:
        sys.path.insert(0, here)
    return patcher_class(name)
