"""``adaptivepatch predict``, ``evaluate`` and ``segment``, which use a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.about import read_about
from adaptivepatch.cli.fitted_files import Given, read_like_fitted
from adaptivepatch.cli.screen import note, records, show_table, write_csv, write_json
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    check_choice,
)

if TYPE_CHECKING:
    import pandas as pd

    from adaptivepatch.estimators.backtest import Backtest
    from adaptivepatch.estimators.forecaster import Forecaster

PREDICT = """Examples:

adaptivepatch predict out/ --out forecast.csv

adaptivepatch predict out/ newer.csv --horizon 24 --json

adaptivepatch predict out/ | head"""
EVALUATE = r"""Examples:

adaptivepatch evaluate out/ load.csv --start 2024-02-01 --by channel

adaptivepatch evaluate out/ load.csv --start 2024-02-01 --stride 24 \
  --out windows.csv --json"""
SEGMENT = """Examples:

adaptivepatch segment out/ --plot patches.png

adaptivepatch segment out/ newer.csv --out patches.csv"""

_OUTPUT = "Output"
_MAX_PLOTS = 12

Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File to write: .csv, .csv.gz, .csv.xz, .tsv or .parquet.",
        parser=options.user_path,
        show_default="the output stream, as CSV",
        rich_help_panel=_OUTPUT,
    ),
]
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Series with the same columns as in fit.",
        parser=options.user_path,
        show_default=False,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="STAMP",
        help="First stamp to forecast. Earlier rows are used as look-back only.",
        show_default="the first possible one",
    ),
]
RefitEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Train again at --start and every N steps after it.",
        show_default="never",
    ),
]
Windows = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File to write all forecasts and actual values to.",
        parser=options.user_path,
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]


def predict(
    model: options.SavedModel,
    file: options.OtherFile = None,
    horizon: Annotated[
        int | None, typer.Option(help="Number of time steps to forecast.", show_default="as in fit")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Allow a longer horizon than in fit.")
    ] = False,
    out: Out = None,
    force: options.Force = False,
    as_json: options.Json = False,
    item_id: options.OtherItemId = None,
    timestamp: options.OtherTimestamp = None,
    date_format: options.DateFormat = None,
    patcher: options.PluginPatcher = None,
    threads: options.Threads = None,
) -> None:
    """Forecast the steps after the end of each series.

    The output has one row per series, channel and stamp: item_id, timestamp,
    target_name, prediction, and a column per quantile.
    """
    _check(out, file, force=force)
    options.set_threads(threads)
    forecaster = _load(model, patcher)
    given = Given(item_id, timestamp, date_format)
    frame = None if file is None else read_like_fitted(file, model, forecaster, given).frame
    _check_types(out, frame, forecaster)
    forecast = forecaster.predict(frame, horizon=horizon, recursive=recursive)
    _deliver(forecast, out, "forecast", model, as_json=as_json)


def evaluate(
    model: options.SavedModel,
    file: File,
    stride: Annotated[int, typer.Option(help="Number of time steps between windows.")] = 1,
    start: Start = None,
    by: Annotated[
        options.By | None,
        typer.Option(
            help="Compute the metrics for each item, channel or step.", show_default=False
        ),
    ] = None,
    refit_every: RefitEvery = None,
    out: Windows = None,
    force: options.Force = False,
    as_json: options.Json = False,
    item_id: options.OtherItemId = None,
    timestamp: options.OtherTimestamp = None,
    date_format: options.DateFormat = None,
    patcher: options.PluginPatcher = None,
    threads: options.Threads = None,
) -> None:
    """Forecast every window of a file and measure the errors.

    Errors are in the units of the file. MASE is relative to a naive forecast: 1 is
    the error of repeating the previous season, on the rows used in fit. Only
    observed values count.

    The rows below "all" are naive forecasts of the same windows: the last value,
    and the value a day, a week or a year before. The skill of the model is 1
    minus its error divided by that of the best naive forecast; it is negative if
    the model is worse. share is the part of the values that a forecast exists
    for, since a season can be longer than the rows before a window.
    """
    _check(out, file, force=force)
    options.set_threads(threads)
    forecaster = _load(model, patcher)
    series = read_like_fitted(file, model, forecaster, Given(item_id, timestamp, date_format))
    frame, first = series.frame, None if start is None else series.stamp(start)
    _check_types(out, frame, forecaster)
    backtest = forecaster.backtest(frame, stride=stride, start=first, refit_every=refit_every)
    metrics = backtest.metrics(by=None if by is None else by.value)
    metrics = metrics.rename_axis("over" if by is None else by.value).reset_index()
    seen = 0 if refit_every is not None else _num_seen(backtest, forecaster)
    if out is not None:
        from adaptivepatch.cli.outputs import write_table

        write_table(backtest.to_frame(), out)
        note(f"wrote {out}.")
    if seen:
        note(
            f"warning: {seen} of {len(backtest)} windows have targets that the model was trained "
            "on. Their errors say little about new data. Pass --start with a stamp after the last "
            "row of fit."
        )
    if as_json:
        document: dict[str, Any] = {
            "model": str(model),
            "windows": len(backtest),
            "windows_seen_in_fit": seen,
            "metrics": records(metrics),
        }
        write_json(document | ({} if out is None else {"written": [str(out)]}))
        return
    numbers = metrics.columns[1:].drop("best_naive", errors="ignore")
    show_table(records(metrics), dict.fromkeys(numbers, ".4g"))
    note(f"{len(backtest)} window(s) of {forecaster.horizon} steps, stride {stride}.")


def segment(
    model: options.SavedModel,
    file: options.OtherFile = None,
    out: Out = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Figure to draw: .png, .svg or .pdf. Needs matplotlib.",
            parser=options.user_path,
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="patch|series",
            help="One row per patch, or per series with measures of its boundaries.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "patch",
    force: options.Force = False,
    as_json: options.Json = False,
    item_id: options.OtherItemId = None,
    timestamp: options.OtherTimestamp = None,
    date_format: options.DateFormat = None,
    patcher: options.PluginPatcher = None,
    threads: options.Threads = None,
) -> None:
    """Show the patches of the last look-back of each series.

    The output has one row per patch: item_id, target_name, patch (number from 0,
    the oldest), start and end (stamps of its first and last step), length in time
    steps, and boundary_prob (probability that a patch begins at start) if the
    patcher computes it. The figure then shows this probability at every step.

    With --by series, there is one row per series: mean number of patches, share of
    boundaries that move when the look-back moves (churn), and how much larger the
    surprise of the series is at boundaries than elsewhere (enrichment).
    """
    _check(out, file, force=force)
    if plot is not None:
        _check_plot(plot, force=force)
    options.set_threads(threads)
    forecaster = _load(model, patcher)
    given = Given(item_id, timestamp, date_format)
    frame = None if file is None else read_like_fitted(file, model, forecaster, given).frame
    _check_types(out, frame, forecaster)
    check_choice(None, ("patch", "series"), by=by)
    if by == "series":
        if plot is not None:
            raise InvalidParameterError(
                "A figure shows patches, but --by series returns none. Omit --plot or --by."
            )
        _deliver(forecaster.segment(frame, by="series"), out, "series", model, as_json=as_json)
        return
    patches = forecaster.segment(frame)
    if plot is not None:
        _draw(forecaster, frame, patches, plot)
        note(f"wrote {plot}.")
    if plot is None or out is not None or as_json:
        figures = [] if plot is None else [str(plot)]
        _deliver(patches, out, "patches", model, as_json=as_json, written=figures)


# -------------------------------------------------------------------------------- in and out


def _check(out: Path | None, file: Path | None, *, force: bool) -> None:
    if out is not None:
        from adaptivepatch.cli.outputs import check_output

        check_output(out, force=force, source=file)


def _check_types(out: Path | None, frame: pd.DataFrame | None, forecaster: Forecaster) -> None:
    """Raise before the work if the item ids cannot be written after it."""
    from adaptivepatch.cli.outputs import check_types

    history, key = forecaster.history_, forecaster.columns_["item_id"]
    if out is not None and (frame is None or key in frame.columns):
        check_types(out, "item_id", history.item_ids if frame is None else frame[key])


def _load(folder: Path, patcher: str | None) -> Forecaster:
    """Load a model, with the user's patcher class if --patcher names one."""
    from adaptivepatch.estimators.forecaster import Forecaster

    classes = [] if patcher is None else [options.patcher_class(patcher)]
    try:
        return Forecaster.load(folder, classes)
    except InvalidModelError as error:
        fitted_with = str((read_about(folder) or {}).get("patcher"))
        if ":" not in fitted_with or patcher is not None:
            raise
        raise InvalidModelError(
            f"{str(folder)!r} was fitted with a class of your own, which must be named. Pass "
            f"--patcher {fitted_with}"
        ) from error


def _deliver(
    frame: pd.DataFrame,
    out: Path | None,
    what: str,
    model: Path,
    *,
    as_json: bool,
    written: list[str] | None = None,
) -> None:
    """Write a frame to a file, or to the output stream as CSV or JSON."""
    files = list(written or [])
    if out is not None:
        from adaptivepatch.cli.outputs import write_table

        write_table(frame, out)
        files.append(str(out))
        note(f"wrote {out}: {len(frame)} rows.")
    if as_json:
        document: dict[str, Any] = {"model": str(model), what: records(frame)}
        write_json(document | ({"written": files} if files else {}))
    elif out is None:
        write_csv(frame)


def _num_seen(backtest: Backtest, forecaster: Forecaster) -> int:
    """Return the number of windows whose first target is among the rows used in fit."""
    history = forecaster.history_
    last = {id_: index[-1] for id_, index in zip(history.item_ids, history.index, strict=True)}
    pairs = zip(backtest.item_id.tolist(), backtest.cutoff, strict=True)
    return sum(id_ in last and cutoff < last[id_] for id_, cutoff in pairs)


# ------------------------------------------------------------------------------------ figures


def _check_plot(plot: Path, *, force: bool) -> None:
    from adaptivepatch.cli.outputs import check_target
    from adaptivepatch.plotting.figures import new_figure

    if plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidParameterError(
            f"The name of a figure must end in .png, .svg or .pdf. Got {str(plot)!r}. Rename it."
        )
    check_target(plot, force=force)
    new_figure()  # raises if matplotlib is missing


def _draw(
    forecaster: Forecaster, frame: pd.DataFrame | None, patches: pd.DataFrame, path: Path
) -> None:
    """Draw the patches of each series and channel, one plot below another."""
    from adaptivepatch.data.frame import read_frame_like_fitted
    from adaptivepatch.files import write_atomic
    from adaptivepatch.plotting.figures import new_figure
    from adaptivepatch.plotting.series import plot_segmentation

    panel = forecaster.history_
    if frame is not None:
        panel = read_frame_like_fitted(
            frame,
            forecaster.columns_,
            forecaster.channels_,
            forecaster.freq_,
            missing=forecaster.missing,
        )
    groups = list(patches.groupby(["item_id", "target_name"], sort=False))
    if len(groups) > _MAX_PLOTS:
        note(f"the figure shows the first {_MAX_PLOTS} of {len(groups)} series and channels.")
    shown = groups[:_MAX_PLOTS]
    if not shown:
        raise InvalidFrameError("A figure needs a patch. There is none. Pass longer series.")
    steps_of = dict(list(forecaster.segment(frame, by="step").groupby(["item_id", "target_name"])))
    figure, axes = new_figure(len(shown), width=9.0, height=2.2)
    for ax, ((item, channel), part) in zip(axes[:, 0], shown, strict=True):
        steps, i = int(part["length"].sum()), panel.item_ids.index(item)
        plot_segmentation(
            panel.item(i)[-steps:, panel.channels.index(channel)],
            part["length"].tolist(),
            stamps=panel.index[i][-steps:].to_numpy(),
            boundary_prob=steps_of[item, channel].get("boundary_prob"),
            ylabel="",
            title=f"{item}, {channel}: {len(part)} patches of {steps} steps",
            ax=ax,
        )
    kind = path.suffix.lower().removeprefix(".")
    write_atomic(path, lambda target: figure.savefig(target, dpi=110, format=kind))
