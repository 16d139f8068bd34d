"""Plots of one series: forecasts with the observed values, and the patches of a look-back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidSegmentationError
from adaptivepatch.plotting.figures import (
    LINE_STYLES,
    PAST,
    TRUTH,
    axes_or_new,
    check_lengths,
    finish,
)
from adaptivepatch.segmentation import Segmentation

if TYPE_CHECKING:
    from adaptivepatch.plotting.figures import Axes

_BANDS = ("#DCEBF5", "#FFFFFF")
_BOUNDARY, _PROBABILITY = "#0072B2", "#D55E00"


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
    """Draw forecasts of one series together with the observed values.

    Parameters
    ----------
    stamps : array of shape (horizon,)
        Datetimes or numbers of the forecast steps.
    actual : array of shape (horizon,)
        Observed values; NaN leaves a gap.
    forecasts : mapping of str to array of shape (horizon,)
        Forecasts by name, one line each.
    past_stamps, past : array of shape (steps,), optional
        Stamps and values of the end of the look-back, drawn before the forecast.
    interval : pair of arrays of shape (horizon,), optional
        Lower and upper quantile of the first forecast, drawn as a band.
    ylabel : str, default="value"
        Name and unit of the values.
    title : str, optional
        Title.
    legend : bool, default=True
        Add a legend of the lines.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the plot.

    Raises
    ------
    InvalidParameterError
        If the arrays do not have one value for each stamp.
    """
    when, truth = np.asarray(stamps), np.asarray(actual, dtype=np.float64)
    check_lengths(when, actual=truth, **{f"forecast {k!r}": v for k, v in forecasts.items()})
    ax = axes_or_new(ax)
    if past is not None and past_stamps is not None:
        before, history = np.asarray(past_stamps), np.asarray(past, dtype=np.float64)
        check_lengths(before, past=history)
        ax.plot(before, history, color=PAST, linewidth=1.1, label="look-back")
        ax.plot([before[-1], when[0]], [history[-1], truth[0]], color=PAST, linewidth=0.8)
    ax.axvline(when[0], color=PAST, linewidth=0.8, linestyle=(0, (2, 2)))
    ax.plot(when, truth, color=TRUTH, linewidth=1.5, label="observed")
    for (name, values), (colour, dashes) in zip(
        forecasts.items(), _styles(len(forecasts)), strict=True
    ):
        ax.plot(when, np.asarray(values), color=colour, linestyle=dashes, linewidth=1.5, label=name)
    if interval is not None:
        check_lengths(when, lower=interval[0], upper=interval[1])
        low, high = (np.asarray(bound, dtype=np.float64) for bound in interval)
        ax.fill_between(when, low, high, color=LINE_STYLES[0][0], alpha=0.2, linewidth=0)
    finish(ax, when, ylabel, title)
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
    """Draw one look-back and its patches: alternating bands, and a line where each patch starts.

    Parameters
    ----------
    series : array of shape (steps,)
        Values of the look-back; NaN leaves a gap.
    segmentation : Segmentation or sequence of int
        Patches, or their lengths in time steps (0 is padding), oldest first.
    row : int, default=0
        Row of the segmentation.
    stamps : array of shape (steps,), optional
        Datetimes or numbers; default: steps counted from the newest, which is 0.
    boundary_prob : array of shape (steps,), optional
        Probability that a step starts a patch, drawn below on a separate axis from 0 to 1.
    ylabel : str, default="value"
        Name and unit of the values.
    title : str, optional
        Title.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; default: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the plot.

    Raises
    ------
    InvalidParameterError
        If `stamps` or `boundary_prob` do not have one value per step.
    InvalidSegmentationError
        If the patches do not cover the series.

    Notes
    -----
    A value is drawn at its stamp. A patch extends from the stamp of its first step to the stamp of
    the next patch's first step.
    """
    values = np.asarray(series, dtype=np.float64)
    lengths = _lengths_of(segmentation, row, len(values))
    when = np.arange(1 - len(values), 1) if stamps is None else np.asarray(stamps)
    check_lengths(when, series=values)
    edges = _edges(when)
    ax = axes_or_new(ax)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for number, (first, after) in enumerate(pairwise(starts)):
        ax.axvspan(edges[first], edges[after], facecolor=_BANDS[number % 2], linewidth=0, zorder=0)
        ax.axvline(edges[first], color=_BOUNDARY, linewidth=0.7, alpha=0.8, zorder=1)
    ax.plot(when, values, color=TRUTH, linewidth=1.1, zorder=3)
    ax.set_xlim(edges[0], edges[-1])
    if boundary_prob is not None:
        check_lengths(when, boundary_prob=boundary_prob)
        _draw_probability(ax, when, np.asarray(boundary_prob, dtype=np.float64))
    finish(ax, when, ylabel, title)
    if stamps is None:
        ax.set_xlabel("time steps (0: the newest)")
    return ax


def _styles(count: int) -> list[tuple[str, Any]]:
    return [LINE_STYLES[number % len(LINE_STYLES)] for number in range(count)]


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
            f"{int(lengths.sum())}. Pass the look-back that was segmented.",
            parameter="segmentation",
        )
    return lengths[lengths > 0]


def _edges(stamps: NDArray[Any]) -> NDArray[Any]:
    """Return the stamps and the end of the last step."""
    step = stamps[-1] - stamps[-2] if len(stamps) > 1 else stamps[-1] - stamps[-1] + 1
    return np.append(stamps, stamps[-1:] + step)


def _draw_probability(ax: Axes, when: NDArray[Any], probability: NDArray[np.float64]) -> None:
    """Draw probabilities as bars in the lower quarter, on a separate axis at the right."""
    twin: Any = ax.twinx()
    twin.vlines(when, 0, probability, color=_PROBABILITY, linewidth=1.2)
    twin.set_ylim(0, 4)
    twin.set_yticks([0, 1])
    twin.set_ylabel("P(starts a patch)", color=_PROBABILITY, loc="bottom", fontsize="small")
    twin.tick_params(axis="y", colors=_PROBABILITY, labelsize="small")
    for side in ("top", "left", "bottom", "right"):
        twin.spines[side].set_visible(False)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set_ylim(low - (high - low) / 3, high)  # keeps the series above the bars
    ax.set_yticks(ticks)  # no ticks beside the bars
