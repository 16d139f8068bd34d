"""Pictures of forecasts and of patches, for data frames, arrays and `Segmentation`.

Every function draws on the axes it is given or on a figure of its own, and leaves matplotlib's
global state (pyplot, backend, styles) alone. Save with ``ax.figure.savefig("picture.png")``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidParameterError, InvalidSegmentationError, require
from adaptivepatch.segmentation import Segmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people tell apart; dashes do it once more.
_FORECAST_STYLES: tuple[tuple[str, Any], ...] = (
    ("#0072B2", "-"),
    ("#D55E00", (0, (4, 1))),
    ("#009E73", (0, (1, 1))),
    ("#CC79A7", (0, (4, 1, 1, 1))),
    ("#E69F00", (0, (6, 2))),
)
_TRUTH, _PAST = "#000000", "#777777"
_BANDS = ("#DCEBF5", "#FFFFFF")
_BOUNDARY, _PROBABILITY = "#0072B2", "#D55E00"


def new_figure(
    num_rows: int = 1,
    num_columns: int = 1,
    *,
    width: float = 8.0,
    height: float = 3.0,
    share_x: bool = False,
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure and its axes, made without pyplot.

    Parameters
    ----------
    num_rows, num_columns : int, default=1
        Grid of axes.
    width, height : float
        Of the figure and of one row, in inches.
    share_x : bool, default=False
        Give all axes the same horizontal range, labelled in the last row.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of shape (num_rows, num_columns)

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    library = require("matplotlib.figure", extra="plot", purpose="Plotting")
    figure = library.Figure(figsize=(width, height * num_rows), layout="constrained")
    return figure, figure.subplots(num_rows, num_columns, squeeze=False, sharex=share_x)


def plot_forecast(
    stamps: ArrayLike,
    actual: ArrayLike,
    forecasts: Mapping[str, ArrayLike],
    *,
    past_stamps: ArrayLike | None = None,
    past: ArrayLike | None = None,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    ylabel: str = "value",
    title: str | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw forecasts of one series beside what happened.

    Parameters
    ----------
    stamps : array of shape (horizon,)
        Datetimes or numbers.
    actual : array of shape (horizon,)
        What happened; NaN leaves a gap.
    forecasts : mapping of str to array of shape (horizon,)
        One line each, in order, under these names.
    past_stamps, past : array of shape (steps,), optional
        End of the look-back, drawn before the forecast.
    interval : pair of arrays of shape (horizon,), optional
        Lower and upper quantile of the first forecast, drawn as a band.
    ylabel : str, default="value"
        Name and unit of the values.
    title : str, optional
        Heading.
    legend : bool, default=True
        Name the lines on these axes.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidParameterError
        If the arrays do not have one value for each stamp.
    """
    when, truth = np.asarray(stamps), np.asarray(actual, dtype=np.float64)
    _check_lengths(when, actual=truth, **{f"forecast {k!r}": v for k, v in forecasts.items()})
    ax = _axes(ax)
    if past is not None and past_stamps is not None:
        before, history = np.asarray(past_stamps), np.asarray(past, dtype=np.float64)
        _check_lengths(before, past=history)
        ax.plot(before, history, color=_PAST, linewidth=1.1, label="look-back")
        ax.plot([before[-1], when[0]], [history[-1], truth[0]], color=_PAST, linewidth=0.8)
    ax.axvline(when[0], color=_PAST, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.plot(when, truth, color=_TRUTH, linewidth=1.5, label="what happened")
    for (name, values), (colour, dashes) in zip(
        forecasts.items(), _styles(len(forecasts)), strict=True
    ):
        ax.plot(when, np.asarray(values), color=colour, linestyle=dashes, linewidth=1.5, label=name)
    if interval is not None:
        _check_lengths(when, lower=interval[0], upper=interval[1])
        low, high = (np.asarray(bound, dtype=np.float64) for bound in interval)
        ax.fill_between(when, low, high, color=_FORECAST_STYLES[0][0], alpha=0.2, linewidth=0)
    _finish(ax, when, ylabel, title)
    if legend:
        ax.legend(frameon=False, fontsize="small", ncols=2)
    return ax


def plot_segmentation(
    series: ArrayLike,
    segmentation: Segmentation | Sequence[int],
    *,
    row: int = 0,
    stamps: ArrayLike | None = None,
    boundary_prob: ArrayLike | None = None,
    ylabel: str = "value",
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one look-back over its patches: alternating bands with a line where a patch starts.

    Parameters
    ----------
    series : array of shape (steps,)
        Values; NaN leaves a gap.
    segmentation : Segmentation or sequence of int
        Patches, or their lengths in time steps (0 is padding), oldest first.
    row : int, default=0
        Row of the segmentation.
    stamps : array of shape (steps,), optional
        Datetimes or numbers; default: steps counted from the newest, which is 0.
    boundary_prob : array of shape (steps,), optional
        Probability that a step starts a patch, drawn below on its own axis from 0 to 1.
    ylabel : str, default="value"
        Name and unit of the values.
    title : str, optional
        Heading.
    ax : matplotlib.axes.Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidSegmentationError
        If the patches do not cover the series.

    Notes
    -----
    A step's value is drawn at its stamp, and a patch from the stamp of its first step to the one
    of the next patch's first step.
    """
    values = np.asarray(series, dtype=np.float64)
    lengths = _lengths_of(segmentation, row, len(values))
    when = np.arange(1 - len(values), 1) if stamps is None else np.asarray(stamps)
    _check_lengths(when, series=values)
    edges = _edges(when)
    ax = _axes(ax)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for number, (first, after) in enumerate(pairwise(starts)):
        ax.axvspan(edges[first], edges[after], facecolor=_BANDS[number % 2], linewidth=0, zorder=0)
        ax.axvline(edges[first], color=_BOUNDARY, linewidth=0.7, alpha=0.8, zorder=1)
    ax.plot(when, values, color=_TRUTH, linewidth=1.1, zorder=3)
    ax.set_xlim(edges[0], edges[-1])
    if boundary_prob is not None:
        _check_lengths(when, boundary_prob=boundary_prob)
        _draw_probability(ax, when, np.asarray(boundary_prob, dtype=np.float64))
    _finish(ax, when, ylabel, title)
    if stamps is None:
        ax.set_xlabel("time steps (0: the newest)")
    return ax


def plot_comparison(
    errors: Mapping[str, ArrayLike],
    *,
    difference: ArrayLike,
    cost: ArrayLike,
    roles: Sequence[str],
    baseline: str,
    metric: str = "MSE",
    title: str | None = None,
) -> Figure:
    """Draw the arms of a comparison, one line each: errors, differences, cost.

    Parameters
    ----------
    errors : mapping of str to array of shape (seeds,)
        Test error of every seed, by arm.
    difference : array of shape (arms, 3)
        Relative difference to the baseline and its interval; NaN draws none.
    cost : array of shape (arms, 2)
        CPU time of training and of prediction, relative to the baseline.
    roles : sequence of str
        Of each arm; the arms of a role have one colour.
    baseline : str
        Arm that the differences refer to.
    metric : str, default="MSE"
        Name of the error.
    title : str, optional
        Heading, broken into lines.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names, colours = list(errors), {role: k for k, role in enumerate(dict.fromkeys(roles))}
    paint = [_FORECAST_STYLES[colours[role] % len(_FORECAST_STYLES)][0] for role in roles]
    change, price = np.asarray(difference) * 100, np.asarray(cost)
    heading = [] if title is None else textwrap.wrap(title, 110)
    height = 1.4 + 0.28 * len(names) + 0.2 * len(heading)
    figure, axes = new_figure(1, 3, width=10.0, height=height)
    left, middle, right = axes[0]
    for line, name in enumerate(names):
        values = np.asarray(errors[name], dtype=np.float64)
        dots = {"color": paint[line], "linestyle": "none"}
        left.plot(values, np.full(len(values), line), marker="o", markersize=4, alpha=0.5, **dots)
        left.plot(values.mean(), line, marker="|", markersize=13, markeredgewidth=2, **dots)
        if name != baseline:
            middle.plot(change[line, 0], line, marker="o", markersize=5, **dots)
        if np.isfinite(change[line, 1:]).all():
            middle.hlines(line, *change[line, 1:], color=paint[line], linewidth=1.5)
        right.plot(price[line, 0], line, marker="o", markersize=5, **dots)
        right.plot(price[line, 1], line, marker="x", markersize=5, **dots)
    middle.axvline(0, color=_TRUTH, linewidth=0.8)
    right.axvline(1, color=_TRUTH, linewidth=0.8)
    left.set_yticks(range(len(names)), names)
    left.set_xlabel(f"test {metric}: each seed, mean")
    middle.set_xlabel(f"difference to {baseline}, %\nwith interval")
    right.set_xlabel(f"CPU time / that of {baseline}\n\u25cf training   \u00d7 prediction")
    right.set_xlim(left=0)
    for ax in (left, middle, right):
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlabel(ax.get_xlabel(), fontsize="small")
        ax.tick_params(labelsize="small")
        ax.grid(axis="y", color="#EEEEEE")
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    for ax in (middle, right):
        ax.tick_params(axis="y", left=False, labelleft=False)
        ax.set_yticks(range(len(names)))
    if heading:
        figure.suptitle("\n".join(heading), fontsize="medium", x=0.01, ha="left")
    return figure


def _axes(ax: Axes | None) -> Axes:
    return new_figure()[1][0, 0] if ax is None else ax


def _styles(count: int) -> list[tuple[str, Any]]:
    return [_FORECAST_STYLES[number % len(_FORECAST_STYLES)] for number in range(count)]


def _check_lengths(stamps: NDArray[Any], **arrays: ArrayLike) -> None:
    for name, values in arrays.items():
        if np.shape(values) != stamps.shape or stamps.ndim != 1 or not len(stamps):
            raise InvalidParameterError(
                f"{name} must be one series with a value for each stamp. Its shape is "
                f"{np.shape(values)!r}, that of the stamps {stamps.shape!r}. "
                "Pass one window and one channel."
            )


def _lengths_of(
    segmentation: Segmentation | Sequence[int], row: int, num_steps: int
) -> NDArray[np.int64]:
    """Return the lengths of one row's patches, without padding."""
    if isinstance(segmentation, Segmentation):
        lengths = segmentation.patch_lengths[row].cpu().numpy()
    else:
        lengths = np.asarray(segmentation, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != num_steps:
        raise InvalidSegmentationError(
            f"Patches must cover the {num_steps} steps of the series. Their lengths sum to "
            f"{int(lengths.sum())}. Pass the look-back that was segmented."
        )
    return lengths[lengths > 0]


def _edges(stamps: NDArray[Any]) -> NDArray[Any]:
    """Return the stamps and the one that would come next."""
    step = stamps[-1] - stamps[-2] if len(stamps) > 1 else stamps[-1] - stamps[-1] + 1
    return np.append(stamps, stamps[-1:] + step)


def _draw_probability(ax: Axes, when: NDArray[Any], probability: NDArray[np.float64]) -> None:
    """Draw probabilities as bars in the lower quarter, on an axis of their own at the right."""
    twin: Any = ax.twinx()
    twin.vlines(when, 0, probability, color=_PROBABILITY, linewidth=1.2)
    twin.set_ylim(0, 4)
    twin.set_yticks([0, 1])
    twin.set_ylabel("P(starts a patch)", color=_PROBABILITY, loc="bottom", fontsize="small")
    twin.tick_params(axis="y", colors=_PROBABILITY, labelsize="small")
    for side in ("top", "left", "bottom", "right"):
        twin.spines[side].set_visible(False)
    low, high = ax.get_ylim()
    ax.set_ylim(low - (high - low) / 3, high)  # keeps the series above the bars


def _finish(ax: Axes, when: NDArray[Any], ylabel: str, title: str | None) -> None:
    ax.set_ylabel(ylabel)
    if title is not None:
        ax.set_title(title, loc="left", fontsize="medium")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize="small")
    if np.issubdtype(when.dtype, np.datetime64):
        dates = require("matplotlib.dates", extra="plot", purpose="Plotting")
        locator = dates.AutoDateLocator(maxticks=10)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
