"""``adaptivepatch predict``, ``evaluate`` and ``segment``, which use a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.about import read_about
from adaptivepatch.cli.fitted_files import Given, last_stamp, read_like_fitted
from adaptivepatch.cli.screen import note, records, show_table, write_csv, write_json
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    check_choice,
)

if TYPE_CHECKING:
    import pandas as pd

    from adaptivepatch.data.panel import Panel
    from adaptivepatch.estimators.backtest import Backtest
    from adaptivepatch.estimators.forecaster import Forecaster

PREDICT = """Examples:

adaptivepatch predict out/ --out forecast.csv

adaptivepatch predict out/ --plot forecast.png

adaptivepatch predict out/ newer.csv --horizon 24 --json

adaptivepatch predict out/ | head"""
EVALUATE = r"""Examples:

adaptivepatch evaluate out/ load.csv --by channel

adaptivepatch evaluate out/ load.csv --start 2024-02-01 --plot windows.png

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
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Figure to draw: .png, .svg or .pdf. Needs matplotlib.",
        parser=options.user_path,
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="STAMP",
        help="First stamp to forecast. Earlier rows are used as look-back only.",
        show_default="the first that fit held out, else the first possible one",
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
    plot: Plot = None,
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
    target_name, prediction, and a column per quantile. With --plot it is drawn
    behind the end of each series, and written only if --out or --json asks for it.
    """
    _check(out, file, plot, force=force)
    options.set_threads(threads)
    forecaster = _load(model, patcher)
    given = Given(item_id, timestamp, date_format)
    frame = None if file is None else read_like_fitted(file, model, forecaster, given).frame
    _check_types(out, frame, forecaster)
    forecast = forecaster.predict(frame, horizon=horizon, recursive=recursive)
    if plot is not None:
        _draw_forecast(forecast, _panel(forecaster, frame), plot)
    _deliver(forecast, out, "forecast", model, forecaster, as_json=as_json, figure=plot)


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
    plot: Plot = None,
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
    the error of repeating the previous season, on the rows used in fit. Coverage
    (80 %) is the share of values in the 80 % interval, between the quantiles 0.1 and
    0.9. Only observed values count. With --plot, forecasts from three cutoffs are drawn.

    The rows below "all" are naive forecasts of the same windows: the last value,
    and the value a day, a week or a year before. The skill of the model is 1
    minus its error divided by that of the best naive forecast; it is negative if
    the model is worse. share is the part of the values that a forecast exists
    for, since a season can be longer than the rows before a window.
    """
    from adaptivepatch.cli.stamps import as_text

    _check(out, file, plot, force=force)
    options.set_threads(threads)
    forecaster = _load(model, patcher)
    series = read_like_fitted(file, model, forecaster, Given(item_id, timestamp, date_format))
    frame, first = series.frame, series.first_target(start)
    _check_types(out, frame, forecaster)
    backtest = forecaster.backtest(frame, stride=stride, start=first, refit_every=refit_every)
    metrics = backtest.metrics(by=None if by is None else by.value)
    metrics = metrics.rename_axis("over" if by is None else by.value).reset_index()
    level = _coverage_level(forecaster)
    seen = 0 if refit_every is not None else _num_seen(backtest, forecaster)
    if out is not None:
        from adaptivepatch.cli.outputs import write_table

        write_table(backtest.to_frame(), out, forecaster.freq_)
        note(f"wrote {out}.")
    if plot is not None:
        _draw_forecast(backtest, None, plot)
    if seen:
        note(
            f"warning: {seen} of {len(backtest)} windows have targets that the model was trained "
            "on. Their errors say little about new data. Pass --start with a stamp after the last "
            f"row of fit, {as_text(last_stamp(forecaster), forecaster.freq_)}."
        )
    if as_json:
        document: dict[str, Any] = {
            "model": str(model),
            "windows": len(backtest),
            "windows_seen_in_fit": seen,
            "start": None if first is None else as_text(first, forecaster.freq_),
            "metrics": records(metrics),
        }
        if level is not None:
            document["coverage_level"] = level
        written = [str(path) for path in (out, plot) if path is not None]
        write_json(document | ({"written": written} if written else {}))
        return
    numbers = metrics.columns[1:].drop("best_naive", errors="ignore")
    formats = dict.fromkeys(numbers, ".4g")
    if level is not None:
        name = f"Coverage ({100 * level:g} %)"
        metrics = metrics.rename(columns={"Coverage": name})
        formats[name] = formats.pop("Coverage")
    show_table(records(metrics), formats)
    since = "" if first is None else f", from {as_text(first, forecaster.freq_)} on"
    note(f"{len(backtest)} window(s) of {forecaster.horizon} steps, stride {stride}{since}.")


def segment(
    model: options.SavedModel,
    file: options.OtherFile = None,
    out: Out = None,
    plot: Plot = None,
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
    _check(out, file, plot, force=force)
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
        measures = forecaster.segment(frame, by="series")
        _deliver(measures, out, "series", model, forecaster, as_json=as_json)
        return
    patches = forecaster.segment(frame)
    if plot is not None:
        _draw_patches(forecaster, frame, patches, plot)
    _deliver(patches, out, "patches", model, forecaster, as_json=as_json, figure=plot)


# -------------------------------------------------------------------------------- in and out


def _check(out: Path | None, file: Path | None, plot: Path | None, *, force: bool) -> None:
    """Raise before the work if a table or a figure cannot be written after it."""
    from adaptivepatch.cli.outputs import check_figure, check_output

    if out is not None:
        check_output(out, force=force, source=file)
    check_figure(plot, force=force)


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
    forecaster: Forecaster,
    *,
    as_json: bool,
    figure: Path | None = None,
) -> None:
    """Write a frame to a file, or to the output stream as JSON, or as CSV if there is no figure."""
    from adaptivepatch.cli.stamps import dates_as_text

    files = [] if figure is None else [str(figure)]
    if out is not None:
        from adaptivepatch.cli.outputs import write_table

        write_table(frame, out, forecaster.freq_)
        files.append(str(out))
        note(f"wrote {out}: {len(frame)} rows.")
    if as_json:
        rows = records(dates_as_text(frame, forecaster.freq_))
        document: dict[str, Any] = {"model": str(model), what: rows}
        write_json(document | ({"written": files} if files else {}))
    elif out is None and figure is None:
        write_csv(dates_as_text(frame, forecaster.freq_))


def _coverage_level(forecaster: Forecaster) -> float | None:
    """Return the share of values that should lie between the lowest and the highest quantile."""
    quantiles = forecaster.model_.quantiles
    return None if quantiles is None else round(quantiles[-1] - quantiles[0], 10)


def _num_seen(backtest: Backtest, forecaster: Forecaster) -> int:
    """Return the number of windows whose first target is among the rows used in fit."""
    history = forecaster.history_
    last = {id_: index[-1] for id_, index in zip(history.item_ids, history.index, strict=True)}
    pairs = zip(backtest.item_id.tolist(), backtest.cutoff, strict=True)
    return sum(id_ in last and cutoff < last[id_] for id_, cutoff in pairs)


# ------------------------------------------------------------------------------------ figures


def _panel(forecaster: Forecaster, frame: pd.DataFrame | None) -> Panel:
    """Return the series of a file as the forecaster reads them, or those of fit."""
    from adaptivepatch.data.frame import read_frame_like_fitted

    if frame is None:
        return forecaster.history_
    return read_frame_like_fitted(
        frame,
        forecaster.columns_,
        forecaster.channels_,
        forecaster.freq_,
        missing=forecaster.missing,
    )


def _draw_forecast(forecast: pd.DataFrame | Backtest, history: Panel | None, path: Path) -> None:
    from adaptivepatch.cli.outputs import write_figure
    from adaptivepatch.plotting.forecasts import plot

    figure = plot(forecast, history)
    write_figure(figure, path)
    note(f"wrote {path}. {figure.get_supxlabel()}")


def _draw_patches(
    forecaster: Forecaster, frame: pd.DataFrame | None, patches: pd.DataFrame, path: Path
) -> None:
    """Draw the patches of each series and channel, one plot below another."""
    from adaptivepatch.cli.outputs import write_figure
    from adaptivepatch.plotting.figures import new_figure
    from adaptivepatch.plotting.series import plot_segmentation

    panel = _panel(forecaster, frame)
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
        name = f"{item}, {channel}" if panel.layout.was_long else channel
        plot_segmentation(
            panel.item(i)[-steps:, panel.channels.index(channel)],
            part["length"].tolist(),
            stamps=panel.index[i][-steps:].to_numpy(),
            boundary_prob=steps_of[item, channel].get("boundary_prob"),
            ylabel="",
            title=f"{name}: {steps} time steps in {len(part)} patches",
            ax=ax,
        )
    write_figure(figure, path)
    note(f"wrote {path}.")
