"""Options that several commands share, and the patcher classes that they name."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.files import as_path
from adaptivepatch.registry import BACKBONES, PATCHERS

if TYPE_CHECKING:
    from adaptivepatch.patchers.base import Patcher

COLUMNS, _OUTPUT, _MODEL = "Columns of FILE", "Output", "Model"
MODEL_AND_TRAINING = "Model and training"
PATCHER_NAMES, BACKBONE_NAMES = ", ".join(PATCHERS), " or ".join(BACKBONES)
OWN_OR_PRETRAINED = (
    "module:Class of your own; or a pretrained patcher, such as reinpatch-small or its folder"
)


def user_path(value: str) -> Path:
    """Return the path that an option or argument names; `typer` calls it for each of them."""
    try:
        return as_path(value)
    except InvalidParameterError as error:
        raise typer.BadParameter(str(error)) from error


class Missing(StrEnum):
    """How NaN and absent stamps are treated."""

    error = "error"
    mask = "mask"


class Short(StrEnum):
    """How series that are too short are treated."""

    error = "error"
    skip = "skip"


class By(StrEnum):
    """Kinds of rows in a table of metrics."""

    item = "item"
    channel = "channel"
    step = "step"


def column_option(text: str, **more: Any) -> Any:
    """Return an option of the panel of columns."""
    return typer.Option(help=text, rich_help_panel=COLUMNS, show_default=False, **more)


def model_option(text: str, *names: str, **more: Any) -> Any:
    """Return an option of the panel of the model and its training."""
    return typer.Option(*names, help=text, rich_help_panel=MODEL_AND_TRAINING, **more)


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="File of series: .csv or .tsv (also .gz, .xz), or .parquet.",
        parser=user_path,
        show_default=False,
    ),
]
Horizon = Annotated[int, typer.Option(help="Number of time steps to forecast.", show_default=False)]
ItemId = Annotated[
    str | None,
    column_option("Column of series names. Default: item_id, if it exists.", metavar="COL"),
]
Timestamp = Annotated[
    str | None,
    column_option(
        "Column of dates or integers. Default: timestamp, date, ds, time, or the first.",
        metavar="COL",
    ),
]
OtherItemId = Annotated[
    str | None, column_option("Column of series names. Default: as in fit.", metavar="COL")
]
OtherTimestamp = Annotated[
    str | None, column_option("Column of dates or integers. Default: as in fit.", metavar="COL")
]
Target = Annotated[
    list[str] | None,
    column_option("Column of a channel; repeat for more. Default: all others.", metavar="COL"),
]
Freq = Annotated[
    str | None, column_option("Time step, such as h, 15min, D or 1. Default: inferred.")
]
Gaps = Annotated[
    Missing,
    typer.Option(help="Refuse gaps, or mask them as unobserved.", rich_help_panel=COLUMNS),
]
ContextLength = Annotated[int, model_option("Look-back in time steps.")]
BackboneName = Annotated[str, model_option(f"Backbone: {BACKBONE_NAMES}.", metavar="NAME")]
SavedModel = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Folder of a saved model.",
        parser=user_path,
        show_default=False,
    ),
]
OtherFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE",
        help="Series with the same columns as in fit. Default: the series of fit.",
        parser=user_path,
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document.", rich_help_panel=_OUTPUT),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing files.", rich_help_panel=_OUTPUT)
]
DateFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="Format of dates, such as '%d/%m/%Y'. Default: the year first.",
        rich_help_panel=COLUMNS,
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
        metavar="N",
        min=1,
        help="Number of CPU threads.",
        rich_help_panel=_MODEL,
        show_default="chosen by torch",
    ),
]


def time_step(freq: str | None) -> str | int | None:
    """Return the value of --freq: an int for integer stamps, otherwise as it is given."""
    return int(freq) if freq is not None and freq.isdecimal() else freq


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads, if one is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def patcher_class(name: str) -> type[Patcher]:
    """Return the class that --patcher names, as `adaptivepatch.resolver.patcher_class` does.

    The module of a class that is named ``module:Class`` may be in the current folder.
    """
    from adaptivepatch.resolver import patcher_class

    here = str(Path.cwd())
    if ":" in name and here not in sys.path:
        sys.path.insert(0, here)
    return patcher_class(name)
