"""``adaptivepatch plot``: draw a file of forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.screen import note, write_json

if TYPE_CHECKING:
    from datetime import tzinfo

    import pandas as pd

EXAMPLES = r"""Examples:

adaptivepatch plot forecast.csv --history load.csv --out forecast.png

adaptivepatch plot windows.csv --history load.csv --target load \
  --cutoff '2024-02-01 06:00' --out windows.png"""

_OUTPUT, _CHOICE = "Output", "What is drawn"

Forecasts = Annotated[
    Path,
    typer.Argument(
        metavar="FORECAST",
        help="File that predict --out or evaluate --out has written.",
        parser=options.user_path,
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="Figure to draw: .png, .svg or .pdf. Needs matplotlib.",
        parser=options.user_path,
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
History = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Series with the same columns as in fit. Rows at the stamps of a forecast are its "
        "actual values.",
        parser=options.user_path,
        show_default=False,
    ),
]


Item = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID",
        help="Item to draw; repeat for more. Default: all.",
        show_default=False,
        rich_help_panel=_CHOICE,
    ),
]
Target = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COL",
        help="Channel to draw; repeat for more. Default: all.",
        show_default=False,
        rich_help_panel=_CHOICE,
    ),
]
Cutoff = Annotated[
    list[str] | None,
    typer.Option(
        metavar="STAMP",
        help="Cutoff of a backtest to draw; repeat for more. Default: 3, evenly spread.",
        show_default=False,
        rich_help_panel=_CHOICE,
    ),
]
MaxSeries = Annotated[
    int,
    typer.Option(metavar="N", help="Largest number of series to draw.", rich_help_panel=_CHOICE),
]
HistorySteps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Number of steps of history to draw.",
        show_default="3 horizons, at least 30",
        rich_help_panel=_CHOICE,
    ),
]
Unit = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Unit of the values.", show_default=False, rich_help_panel=_CHOICE
    ),
]
Title = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Title of the figure.", show_default=False, rich_help_panel=_CHOICE
    ),
]


def plot(
    forecast: Forecasts,
    out: Out,
    history: History = None,
    item: Item = None,
    target: Target = None,
    cutoff: Cutoff = None,
    max_series: MaxSeries = 6,
    history_steps: HistorySteps = None,
    ylabel: Unit = None,
    title: Title = None,
    item_id: options.ItemId = None,
    timestamp: options.Timestamp = None,
    freq: options.Freq = None,
    date_format: options.DateFormat = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Draw a file of forecasts with the history before them and the actual values.

    Intervals between quantiles are bands. A sentence in the figure says what is
    left out. --item-id, --timestamp and --date-format describe the file of --history.
    """
    from adaptivepatch.cli.outputs import check_figure, write_figure
    from adaptivepatch.cli.stamps import parse_stamp
    from adaptivepatch.cli.tables import Columns, read_table
    from adaptivepatch.plotting import forecasts

    check_figure(out, force=force)
    rows = read_forecasts(forecast)
    known: dict[str, Any] = {}
    if history is not None:
        channels = rows["target_name"].unique().tolist()
        table = read_table(
            history,
            Columns(
                item_id=item_id,
                timestamp=timestamp,
                target=[name for name in channels if name in (target or channels)] or channels,
                date_format=date_format,
                zone=_zone(rows["timestamp"]),
                numbered=rows["timestamp"].dtype.kind == "i",
            ),
        )
        known = {"history": table.frame, "item_id": table.columns.item_id}
        known |= {"timestamp": table.columns.timestamp or "timestamp"}
    chosen: Any = cutoff or 3
    if cutoff and "cutoff" in rows:
        chosen = [parse_stamp(text, "--cutoff", rows["cutoff"], None) for text in cutoff]
    figure = forecasts.plot(
        rows,
        **known,
        items=item or None,
        channels=target or None,
        cutoffs=chosen,
        max_series=max_series,
        history_steps=history_steps,
        freq=options.time_step(freq),
        ylabel=ylabel,
        title=title,
    )
    write_figure(figure, out)
    note(f"wrote {out}. {figure.get_supxlabel()}")
    if as_json:
        write_json({"forecast": str(forecast), "written": [str(out)]})


def read_forecasts(path: Path) -> pd.DataFrame:
    """Read a file that ``predict --out`` or ``evaluate --out`` has written."""
    from adaptivepatch.cli import stamps
    from adaptivepatch.cli.tables import Columns, read_table

    text = ("target_name", "cutoff")
    rows = read_table(path, Columns("item_id", "timestamp", ["prediction"], text=text)).frame
    if "cutoff" in rows:
        zone = _zone(rows["timestamp"])
        rows["cutoff"] = stamps.parse(rows["cutoff"], "cutoff", None, zone, rows["item_id"])
    return rows


def _zone(column: pd.Series[Any]) -> tzinfo | None:
    return getattr(column.dtype, "tz", None)
