"""Pictures of the two routers of dynamic chunking, on smooth and rough series and in training.

Writes ``docs/images/routers.png``: boundary probabilities before training. If
``results/family.curves.csv`` has rows of the suite ``family_etth1``, also writes
``docs/images/router_training.png``: rate, confidence and gradients of the router over the steps.

    python benchmarks/router_picture.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adaptivepatch import DynamicChunkingPatcher
from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.plotting.figures import new_figure

ROOT = Path(__file__).resolve().parents[1]
STEPS, RATE, SEED = 336, 16, 1
ROUTERS = {"cosine": "#D55E00", "calibrated": "#0072B2"}
ARMS = {"chunking_published_16": "#D55E00", "chunking_16": "#0072B2"}
LABELS = {"chunking_published_16": "cosine, as published", "chunking_16": "calibrated"}
PANELS = {
    "compression_rate": "points per patch in training steps",
    "router_confidence": "mean probability of the decision",
    "router_gradient": "norm of the router's gradient",
}


def kinds() -> dict[str, torch.Tensor]:
    """Return rows (64, T) of two processes: sums of slow sines, and the same with noise."""
    rng, step = np.random.default_rng(SEED), np.arange(STEPS)
    phase, period = rng.uniform(0, 2 * np.pi, (2, 64, 1)), rng.uniform(40, 160, (2, 64, 1))
    smooth = np.sin(2 * np.pi * step / period + phase).sum(0)
    rough = smooth + 0.3 * rng.normal(size=smooth.shape)
    return {
        name: InstanceNorm()(torch.from_numpy(values).float(), None)[0]
        for name, values in (("smooth", smooth), ("rough", rough))
    }


@torch.no_grad()
def draw_routers(path: Path) -> None:
    """Draw one row of each process, and its boundary probabilities with both routers."""
    figure, grid = new_figure(4, 1, width=9.0, height=1.5, share_x=True)
    for (name, rows), (above, below) in zip(kinds().items(), grid.reshape(2, 2), strict=True):
        above.plot(rows[0], color="#000000", linewidth=0.9)
        above.set_title(f"a {name} series", loc="left", fontsize="small")
        for router, color in ROUTERS.items():
            torch.manual_seed(SEED)
            patcher = DynamicChunkingPatcher(RATE, router=router).eval()
            patcher.prepare(rows, None, torch.Generator())
            found = patcher(rows)
            prob = found.boundary_prob[0]
            tokens = float(found.mode.num_patches.float().mean())
            label = f"{router}: {tokens:.1f} patches a row"
            below.semilogy(prob.clamp(min=1e-7), color=color, linewidth=0.9, label=label)
        below.axhline(0.5, color="#777777", linewidth=0.7, linestyle=":")
        below.set_ylim(1e-7, 2)
        below.set_ylabel("p", rotation=0)
        below.legend(fontsize="x-small", loc="lower right", ncols=2)
    grid[-1, 0].set_xlabel(f"step; {STEPS / RATE:.0f} patches a row are wanted")
    figure.savefig(path, dpi=120)


def draw_training(curves: pd.DataFrame, path: Path) -> None:
    """Draw the course of training of both routers, with a line for each seed."""
    figure, grid = new_figure(1, len(PANELS), width=9.0, height=3.0)
    axes = grid.ravel()
    for arm, color in ARMS.items():
        for number, (_, part) in enumerate(curves[curves.arm == arm].groupby("seed")):
            known = pd.DataFrame([json.loads(text) for text in part.patcher])
            for ax, (column, title) in zip(axes, PANELS.items(), strict=True):
                label = LABELS[arm] if number == 0 else None
                ax.plot(part.step, known[column], color=color, linewidth=1.2, label=label)
                ax.set_title(title, fontsize="small")
                ax.set_xlabel("step")
    axes[0].axhline(RATE, color="#777777", linewidth=0.7, linestyle=":")
    for ax in (axes[0], axes[2]):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
    axes[0].legend(fontsize="x-small")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Draw the pictures whose data exist."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    out = parser.parse_args().out
    draw_routers(out / "routers.png")
    curves = ROOT / "benchmarks" / "results" / "family.curves.csv"
    if curves.exists():
        table = pd.read_csv(curves)
        if table.arm.isin(ARMS).any():
            draw_training(table[table.suite == "family_etth1"], out / "router_training.png")


if __name__ == "__main__":
    main()
