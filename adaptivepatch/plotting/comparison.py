"""Plot of a comparison."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from adaptivepatch.plotting.figures import LINE_STYLES, TRUTH, new_figure

if TYPE_CHECKING:
    from adaptivepatch.plotting.figures import Figure


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
    """Draw errors, differences and cost of the arms of a comparison, one row per arm.

    Parameters
    ----------
    errors : mapping of str to array of shape (seeds,)
        Test error of every seed, by arm.
    difference : array of shape (arms, 3)
        Relative difference from the baseline and the bounds of its interval; NaN is not drawn.
    cost : array of shape (arms, 2)
        CPU time of training and of prediction, relative to the baseline.
    roles : sequence of str
        Role of each arm; arms of the same role have the same colour.
    baseline : str
        Arm that differences and cost are relative to.
    metric : str, default="MSE"
        Name of the error.
    title : str, optional
        Title, wrapped into lines.

    Returns
    -------
    matplotlib.figure.Figure
        Three axes: errors of seeds and their mean, differences in percent, relative CPU time.
    """
    names, colours = list(errors), {role: k for k, role in enumerate(dict.fromkeys(roles))}
    paint = [LINE_STYLES[colours[role] % len(LINE_STYLES)][0] for role in roles]
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
    middle.axvline(0, color=TRUTH, linewidth=0.8)
    right.axvline(1, color=TRUTH, linewidth=0.8)
    left.set_yticks(range(len(names)), names)
    left.set_xlabel(f"test {metric}: each seed, mean")
    middle.set_xlabel(f"difference from {baseline}, %\nwith interval")
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
