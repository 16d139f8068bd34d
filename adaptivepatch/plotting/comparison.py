"""Plot of a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.plotting.figures import LINE_STYLES, PAST, TRUTH, new_figure

if TYPE_CHECKING:
    from adaptivepatch.plotting.figures import Axes, Figure

ROLES = {
    "baseline candidate": (PAST, "fixed patches: equally long, the usual choice"),
    "challenger": (
        LINE_STYLES[0][0],
        "adaptive patches: begin where the series asks for it, the possible change",
    ),
    "control": (
        LINE_STYLES[1][0],
        "controls: random, even or unlearned patches, which show what a gain is due to",
    ),
    "naive": (LINE_STYLES[3][0], "naive forecasts: repeat earlier values, no training"),
}
"""Colour of each role, and its description in the legend."""

_LINE = 0.19  # inches of a line of text
_NARROW, _WIDE = 105, 145  # letters of a line in bold and in plain text


def plot_comparison(
    errors: Mapping[str, ArrayLike],
    *,
    difference: ArrayLike,
    cost: ArrayLike,
    roles: Sequence[str],
    baseline: str,
    headline: str | None = None,
    metric: str = "MSE",
    title: str | None = None,
) -> Figure:
    """Draw errors, differences and cost of the arms of a comparison, one row per arm.

    Parameters
    ----------
    errors : mapping of str to array of shape (seeds,)
        Test error of every seed, by arm; one value for a naive forecast.
    difference : array of shape (arms, 3)
        Relative difference from the baseline and the bounds of its interval; NaN is not drawn.
    cost : array of shape (arms, 2)
        CPU time of training and of prediction, relative to the baseline; NaN is not drawn.
    roles : sequence of str
        Role of each arm, which the legend explains: "baseline candidate", "challenger", "control"
        or "naive".
    baseline : str
        Arm that differences and cost are relative to.
    headline : str, optional
        Challenger that the answer is about.
    metric : str, default="MSE"
        Name of the error.
    title : str, optional
        Text above the axes, wrapped into lines, with its first sentence in bold.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes: errors of seeds and their mean, differences in percent, relative CPU time. An
        arrow at the right edge stands for a naive forecast that is further to the right.
    """
    names = list(errors)
    roles = list(roles)
    paint = [ROLES.get(role, (TRUTH, role))[0] for role in roles]
    values = [np.asarray(errors[name], dtype=np.float64) for name in names]
    change, price = np.asarray(difference) * 100, np.asarray(cost)
    trained = np.array([role != "naive" for role in roles])
    first, _, rest = (title or "").partition(". ")
    bold = textwrap.wrap(first + "." if rest else first, _NARROW)
    plain = textwrap.wrap(rest, _WIDE)
    heading = _LINE * (len(bold) + len(plain)) + 0.1
    shown_roles = [role for role in ROLES if role in roles]
    height = 1.3 + 0.27 * len(names) + heading + _LINE * len(shown_roles)
    figure, axes = new_figure(1, 3, width=11.0, height=height)
    left, middle, right = axes[0]
    left.get_gridspec().set_width_ratios([3, 3, 2])
    for line, (name, seeds) in enumerate(zip(names, values, strict=True)):
        style: dict[str, Any] = {"color": paint[line], "linestyle": "none"}
        left.plot(seeds, np.full(len(seeds), line), marker="o", markersize=4, alpha=0.5, **style)
        left.plot(seeds.mean(), line, marker="|", markersize=13, markeredgewidth=2, **style)
        if name != baseline:
            middle.plot(change[line, 0], line, marker="o", markersize=5, **style)
        if np.isfinite(change[line, 1:]).all():
            middle.hlines(line, *change[line, 1:], color=paint[line], linewidth=1.5)
        right.plot(price[line, 0], line, marker="o", markersize=5, **style)
        right.plot(price[line, 1], line, marker="x", markersize=5, **style)
    _limit(left, values, trained, paint, ".3g")
    _limit(middle, list(change), trained, paint, "+.0f")
    middle.axvline(0, color=TRUTH, linewidth=0.8)
    right.axvline(1, color=TRUTH, linewidth=0.8)
    left.set_xlabel(f"error on test data ({metric})\ndots: single trainings, bar: their mean")
    middle.set_xlabel(
        f"change of the error against {baseline}, %\n\u2190 less error      more error \u2192"
    )
    right.set_xlabel(f"time / time of {baseline}\n\u25cf training   \u00d7 forecast")
    right.set_xlim(left=0)
    for ax in (left, middle, right):
        _finish(ax, len(names))
    marks = {headline: " \u25c0 best adaptive", baseline: " \u25c0 baseline"}
    left.set_yticks(range(len(names)), [f"{name}{marks.get(name, '')}" for name in names])
    for label, name, colour in zip(left.get_yticklabels(), names, paint, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold" if name in marks else "normal")
    figure.legend(
        [right.lines[2 * roles.index(role)] for role in shown_roles],  # the dot of its first arm
        [ROLES[role][1] for role in shown_roles],
        loc="outside lower left",
        frameon=False,
        fontsize="small",
    )
    top = 1 - heading / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, top))
    y = 1 - 0.05 / height
    for lines, weight, size in ((bold, "bold", "large"), (plain, "normal", "medium")):
        if lines:
            figure.text(0.01, y, "\n".join(lines), va="top", weight=weight, size=size)
            y -= (len(lines) * _LINE + 0.03) / height
    return figure


def _limit(
    ax: Axes,
    values: Sequence[NDArray[np.float64]],
    trained: NDArray[np.bool_],
    paint: Sequence[str],
    form: str,
) -> None:
    """Limit an axis so that trained models fill most of it; naive forecasts may be far away.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes with all values drawn.
    values : sequence of array
        Values of each arm; NaN is not drawn.
    trained : ndarray of shape (arms,)
        Whether an arm is trained.
    paint : sequence of str
        Colour of each arm.
    form : str
        Format of the value of a naive forecast that is too far to the right.
    """
    if trained.all():
        return
    low = min(np.nanmin(some) for some in values)
    high = max(
        np.nanmax(some) for some, is_trained in zip(values, trained, strict=True) if is_trained
    )
    width = max(high - low, 1e-9)
    limit = high + 0.4 * width
    ax.set_xlim(low - 0.05 * width, limit)
    for line, some in enumerate(values):
        if np.nanmin(some) > limit:
            ax.annotate(
                f"{np.nanmin(some):{form}} \u25b6",
                (1, line),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center",
                color=paint[line],
                size="small",
            )


def _finish(ax: Axes, num_rows: int) -> None:
    ax.set_ylim(num_rows - 0.5, -0.5)
    ax.set_yticks(range(num_rows), [""] * num_rows)
    ax.set_xlabel(ax.get_xlabel(), fontsize="small")
    ax.tick_params(labelsize="small")
    ax.tick_params(axis="y", left=False)
    ax.grid(axis="y", color="#EEEEEE")
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
