"""`plot`: one call from a forecast or a backtest to a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.frame import SINGLE_ITEM
from adaptivepatch.data.panel import Panel
from adaptivepatch.errors import check_int
from adaptivepatch.keywords import helpful
from adaptivepatch.plotting.figures import LINE_STYLES, PAST, TRUTH, finish, moments, new_figure
from adaptivepatch.plotting.forecast_choice import (
    NO_CUTOFF,
    BacktestLike,
    Choice,
    ChosenForecasts,
    choose_forecasts,
)
from adaptivepatch.plotting.forecast_windows import ObservedFrames, Window, place_windows

if TYPE_CHECKING:
    from adaptivepatch.plotting.figures import Axes, Figure

_FORECAST = LINE_STYLES[0][0]
_SHADES = ("#D3E5F1", "#A9CDE4", "#7FB4D7", "#559CCA")  # of bands, the widest first
_MAX_COLUMNS = 4
_FEW_STEPS = 5  # up to which a forecast has a dot at each step


@helpful
def plot(
    forecast: pd.DataFrame | BacktestLike,
    history: pd.DataFrame | pd.Series[Any] | Panel | None = None,
    *,
    actual: pd.DataFrame | pd.Series[Any] | None = None,
    items: Any = None,
    channels: Any = None,
    cutoffs: Any = 3,
    max_series: int = 6,
    history_steps: int | None = None,
    item_id: str = "item_id",
    timestamp: str = "timestamp",
    freq: Any = None,
    ylabel: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw forecasts with their intervals, the history before them and the actual values.

    Parameters
    ----------
    forecast : pandas.DataFrame or Backtest
        Result of `Forecaster.predict`, or of `Forecaster.backtest` as it is or as a frame. Columns
        other than item_id, cutoff, timestamp, target_name, actual, prediction and quantiles are
        ignored.
    history : pandas.DataFrame, pandas.Series or Panel, optional
        Observed values, wide or long as in `Forecaster.fit`. Rows before a forecast are its
        history, rows at its stamps are actual values, and later rows are not drawn. Default: the
        frame of the backtest, if `forecast` is a `Backtest`.
    actual : pandas.DataFrame or pandas.Series, optional
        Further observed values in the same layout, such as rows that were held out.
    items, channels : name or list of names, optional
        Items and channels to draw. Default: all.
    cutoffs : int, stamp or list of stamps, default=3
        Number of cutoffs of a backtest to draw for each series, evenly spread over all of them; or
        the cutoffs to draw. A single cutoff that is an integer is passed in a list.
    max_series : int, default=6
        Largest number of series (pairs of item and channel) to draw.
    history_steps : int, optional
        Number of steps of history to draw. Default: 3 times the longest forecast, and at least 30.
    item_id, timestamp : str
        Names of the key columns of `history` and `actual`.
    freq : str, pandas offset or int, optional
        Time step, if it cannot be inferred.
    ylabel : str, optional
        Unit of the values.
    title : str, optional
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        One row of axes per series and one column per cutoff; more than 4 cutoffs fill further
        rows. Intervals between the quantiles q and 1 - q are bands; other quantiles are thin lines.
        Lines and bands are interrupted where stamps or values are absent. A sentence at the bottom
        says what is left out. ``figure.savefig("forecast.png")`` saves the figure.

    Raises
    ------
    InvalidFrameError
        If a frame lacks columns or rows, or the history lacks an item or channel of the forecast.
    InvalidParameterError
        If the forecast lacks a chosen item, channel or cutoff, or a number is out of range.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from adaptivepatch import plot
    >>> stamps = pd.date_range("2024-01-01", periods=100, freq="h", name="timestamp")
    >>> df = pd.DataFrame({"load": np.sin(np.arange(100))}, index=stamps)
    >>> forecast = pd.DataFrame(
    ...     {
    ...         "item_id": "series",
    ...         "timestamp": stamps[90:],
    ...         "target_name": "load",
    ...         "prediction": np.sin(np.arange(90, 100)),
    ...     }
    ... )
    >>> figure = plot(forecast, df)
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['history', 'actual', 'forecast']
    """
    check_int(None, max_series=max_series)
    if history_steps is not None:
        check_int(None, low=0, history_steps=history_steps)
    chosen = choose_forecasts(forecast, Choice(items, channels, cutoffs, max_series))
    own = None if isinstance(forecast, pd.DataFrame) else forecast.windows.panel
    known = own if history is None else history
    frames = ObservedFrames(known, actual, item_id, timestamp, freq)
    windows = place_windows(chosen, frames, history_steps)
    bands, lines, notes = _quantiles_to_draw(list(windows.values()))
    figure, axes = _grid(chosen, windows)
    is_wide = {item for item, _ in chosen.series} == {SINGLE_ITEM}
    for cells, (item, channel) in zip(axes, chosen.series, strict=True):
        name = channel if is_wide else f"{item}, {channel}"
        for ax, cutoff in zip(cells, chosen.cutoffs[item], strict=False):
            window = windows.get((item, channel, cutoff))
            if window is not None:
                _draw_window(ax, window, bands, lines)
            _finish(ax, window, name + _after(cutoff, window))
        for ax in cells[len(chosen.cutoffs[item]) :]:
            ax.set_visible(False)
    _add_texts(figure, axes, [*chosen.notes, *notes], ylabel, title)
    return figure


# -------------------------------------------------------------------------------- one forecast


def _draw_window(
    ax: Axes, window: Window, bands: list[tuple[float, float]], lines: list[float]
) -> None:
    """Draw the bands of a forecast, the observed values, and the lines of the forecast."""
    when, start = moments(window.stamps), window.start
    for (low, high), shade in zip(bands, _SHADES, strict=False):
        label = f"{100 * (high - low):.10g} % interval"
        _draw_band(ax, when, window.quantiles[low], window.quantiles[high], shade, label)
    if not np.isnan(window.observed[:start]).all():
        _draw_line(ax, when, window.observed, slice(start), PAST, "history", linewidth=1.1)
    actual = window.observed[start:]
    if not np.isnan(actual).all():
        joined = slice(start - 1 if start and not np.isnan(actual[0]) else start, None)
        _draw_line(ax, when, window.observed, joined, TRUTH, "actual", linewidth=1.3)
    ahead = slice(start, None)
    marker = "o" if len(actual) <= _FEW_STEPS else None
    for number, quantile in enumerate(lines):
        dashes = LINE_STYLES[1 + number % (len(LINE_STYLES) - 1)][1]
        style = {"linewidth": 0.9, "linestyle": dashes, "label": f"quantile {quantile:.10g}"}
        _draw_line(ax, when, window.quantiles[quantile], ahead, _FORECAST, **style)
    style = {"linewidth": 1.5, "label": "forecast", "marker": marker}
    _draw_line(ax, when, window.prediction, ahead, _FORECAST, **style)
    ax.axvline(when[start], color=PAST, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)


def _draw_line(
    ax: Axes,
    when: NDArray[Any],
    values: NDArray[np.float64],
    part: slice,
    colour: str,
    label: str,
    **style: Any,
) -> None:
    """Draw a part of a line, with a dot where a value has no neighbour to be joined to."""
    ax.plot(when[part], values[part], color=colour, label=label, markersize=3, **style)
    alone = _alone(values[part])
    if alone.any():
        ax.plot(when[part][alone], values[part][alone], "o", color=colour, markersize=3)


def _draw_band(
    ax: Axes,
    when: NDArray[Any],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    shade: str,
    label: str,
) -> None:
    """Draw the band between two quantiles, with a bar where a step has no neighbour."""
    ax.fill_between(when, low, high, color=shade, linewidth=0, zorder=0.5, label=label)
    alone = _alone(low + high)
    if alone.any():
        ax.vlines(when[alone], low[alone], high[alone], color=shade, linewidth=7, zorder=0.5)


def _alone(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a value is observed and its neighbours are not."""
    known = np.pad(~np.isnan(values), 1)
    return known[1:-1] & ~known[:-2] & ~known[2:]


# ---------------------------------------------------------------------------------- the figure


def _quantiles_to_draw(
    windows: list[Window],
) -> tuple[list[tuple[float, float]], list[float], list[str]]:
    """Return pairs of quantiles for bands, the widest first, and single quantiles for lines.

    The quantile 0.5 is left out where it is the forecast itself. The third result are notes on
    what is shown of more.
    """
    by_name = {round(quantile, 10): quantile for quantile in windows[0].quantiles}
    pairs = {q: by_name.get(round(1 - q, 10)) for q in by_name.values()}
    bands = [(low, high) for low, high in pairs.items() if high is not None and low < high]
    lines = [q for q, other in pairs.items() if other is None]
    if 0.5 in pairs and not all(
        np.array_equal(window.quantiles[0.5], window.prediction, equal_nan=True)
        for window in windows
    ):
        lines.append(0.5)
    notes = []
    if any(window.hides_history for window in windows):
        steps = max(window.start for window in windows)
        notes.append(f"the last {steps:,} steps of the history" if steps else "no history")
    most = len(_SHADES)
    if len(bands) > most:
        notes.append(f"{most} of {len(bands)} intervals")
        bands = [bands[number * len(bands) // most] for number in range(most)]
    return bands, lines, notes


def _grid(
    chosen: ChosenForecasts, windows: Mapping[tuple[Any, ...], Window]
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure, and its axes with a row for each series and a column for each cutoff.

    In the figure, the axes of a series fill as many rows as they need. The axes of such a row have
    the same vertical range, and those of a column the same horizontal range if they show the same
    stamps.
    """
    num_cutoffs = max(map(len, chosen.cutoffs.values()))
    num_columns = min(num_cutoffs, _MAX_COLUMNS)
    rows_per_series = ceil(num_cutoffs / num_columns)
    spans = {
        (chosen.cutoffs[item].index(cutoff) % num_columns, window.stamps[0], window.stamps[-1])
        for (item, _, cutoff), window in windows.items()
    }
    num_rows = len(chosen.series) * rows_per_series
    figure, axes = new_figure(
        num_rows,
        num_columns,
        width=9.0 if num_columns == 1 else 4.3 * num_columns,
        height=3.4 if num_rows == 1 else 2.3,
        share_x="col" if len(spans) <= num_columns else False,
        share_y="row",
    )
    return figure, axes.reshape(len(chosen.series), -1)


def _finish(ax: Axes, window: Window | None, title: str) -> None:
    """Set the title and the labels of one forecast; without a forecast, say so."""
    place = ax.get_subplotspec()
    is_narrow = place is not None and place.get_gridspec().ncols > 1
    lines = textwrap.wrap(title, 48 if is_narrow else 100, max_lines=3, placeholder=" ...")
    title = "\n".join(map(_plain, lines))
    if window is None:
        finish(ax, np.empty(0), "", title)
        ax.text(0.5, 0.5, "no forecast", transform=ax.transAxes, ha="center", color=PAST)
        return
    zone = getattr(window.stamps, "tz", None)
    ticks = 5 if is_narrow else 10
    finish(ax, moments(window.stamps), "", title, max_ticks=ticks, zone=zone)
    if place is None or place.is_last_row():
        is_date = isinstance(window.stamps, pd.DatetimeIndex)
        label = (str(zone) if zone else "") if is_date else "timestamp"
        ax.set_xlabel(label, fontsize="small")


def _add_texts(
    figure: Figure,
    axes: NDArray[np.object_],
    notes: list[str],
    ylabel: str | None,
    title: str | None,
) -> None:
    """Add the legend of all axes, and the texts around them."""
    entries: dict[str, Any] = {}
    every: list[Axes] = list(axes.ravel())
    for ax in every:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    rank = {"history": 0, "actual": 1, "forecast": 2}
    order = sorted(entries, key=lambda label: rank.get(label, 3 + label.endswith("interval")))
    figure.legend(
        [entries[label] for label in order],
        order,
        loc="outside upper right",
        ncols=8,
        handlelength=1.6,
        columnspacing=1.4,
        frameon=False,
        fontsize="small",
    )
    if ylabel is not None:
        figure.supylabel(_plain(ylabel), fontsize="medium")
    if title is not None:
        figure.suptitle(_plain(title), fontsize="medium", x=0.01, ha="left")
    if notes:
        *first, last = notes
        text = f"This figure shows {', '.join(first)}{' and ' if first else ''}{last}."
        figure.supxlabel(text, fontsize="small", color=PAST, x=0.01, ha="left")


def _plain(text: str) -> str:
    """Return a text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _after(cutoff: Any, window: Window | None) -> str:
    """Return the end of a title, which names the cutoff, with a time of day if stamps have one."""
    if not isinstance(cutoff, pd.Timestamp):
        return "" if cutoff == NO_CUTOFF else f", cutoff {cutoff}"
    stamps = pd.DatetimeIndex([cutoff] if window is None else window.stamps)
    if (stamps == stamps.normalize()).all():
        return f", cutoff {cutoff:%Y-%m-%d}"
    seconds = "" if (stamps.second == 0).all() else f":{cutoff:%S}"
    return f", cutoff {cutoff:%Y-%m-%d %H:%M}{seconds}"
