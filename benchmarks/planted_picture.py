"""Picture of a window of planted task A and one of B, with the patches of several arms.

Reads the patches of the first test windows from ``results/planted.csv``, and writes
``docs/images/planted.png``.

    python benchmarks/planted_picture.py
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from adaptivepatch.bench.planted_fit import TEST, held_out
from adaptivepatch.datasets.planted import HORIZON, NUM_REGIMES, PLANTED_TASKS
from adaptivepatch.plotting.figures import new_figure

ROOT = Path(__file__).resolve().parents[1]
ARMS = {
    "oracle": ("true", "#000000"),
    "uniform": ("uniform", "#777777"),
    "change_points": ("change points", "#D55E00"),
    "forecast_reward": ("learned, forecast reward", "#0072B2"),
}
BANDS = ("#E4EFF7", "#FFFFFF")


def draw(ax, strip, task: str, number: int, starts: dict[str, list[int]]) -> None:
    """Draw a window above, and the patch starts of each arm below; bands are the true regimes."""
    windows = held_out(task, TEST)
    series, target = windows.series[number].numpy(), windows.target[number].numpy()
    steps = len(series)
    edges = [*starts["oracle"], steps]
    for k, (first, after) in enumerate(pairwise(edges)):
        for axes in (ax, strip):
            axes.axvspan(first, after, facecolor=BANDS[k % 2], linewidth=0, zorder=0)
    # A value is drawn from its step to the next, so that the lines end where patches end.
    ax.stairs(series, np.arange(steps + 1), baseline=None, color="#000000", linewidth=0.9)
    future = np.arange(steps + 4, steps + 4 + HORIZON + 1)
    ax.stairs(target, future, baseline=None, color="#009E73", linewidth=0.9)
    means = target.reshape(NUM_REGIMES, -1).mean(1)
    ax.stairs(
        means, future[:: HORIZON // NUM_REGIMES], baseline=None, color="#009E73", linewidth=2.0
    )
    names = list(starts)
    for line, name in enumerate(names):
        inner = [start for start in starts[name] if start > 0]
        strip.vlines(inner, line - 0.4, line + 0.4, color=ARMS[name][1], linewidth=2.0)
    strip.set_ylim(len(names) - 0.4, -0.6)
    strip.set_yticks(range(len(names)), [ARMS[name][0] for name in names], fontsize="small")
    for tick, name in zip(strip.get_yticklabels(), names, strict=True):
        tick.set_color(ARMS[name][1])
    strip.tick_params(axis="y", length=0)
    ax.tick_params(labelsize="small")
    for axes in (ax, strip):
        axes.set_xlim(0, future[-1])
        axes.tick_params(axis="x", labelsize="small")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    strip.spines["left"].set_visible(False)


def main() -> None:
    """Draw both tasks into one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/planted.csv")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images/planted.png")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--window", type=int, default=[0, 0], nargs=2, help="numbers of a window of A and one of B"
    )
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.results)
    table = table[table.seed == arguments.seed].set_index(["dataset", "arm"])
    figure, axes = new_figure(4, 1, width=9.0, height=1.5, share_x=True)
    axes[0, 0].get_gridspec().set_height_ratios([1.7, 1.0, 1.7, 1.0])
    titles = ("A: eight regimes", "B: with two doublets that do not affect the future")
    for k, (task, title) in enumerate(zip(PLANTED_TASKS, titles, strict=True)):
        number = arguments.window[k]
        starts = {
            arm: json.loads(table.example_starts[task, arm])[number]
            for arm in ARMS
            if (task, arm) in table.index
        }
        upper, lower = axes[2 * k, 0], axes[2 * k + 1, 0]
        draw(upper, lower, task, number, starts)
        upper.set_title(f"Task {title}", loc="left", fontsize="medium")
        upper.set_ylabel("value", fontsize="small")
        upper.text(
            1.0,
            1.0,
            "to forecast (bold: means)",
            transform=upper.transAxes,
            ha="right",
            va="bottom",
            color="#009E73",
            fontsize="small",
        )
    axes[-1, 0].set_xlabel("time step of the look-back; bands: true regimes", fontsize="small")
    figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
