"""Rate of wrong intervals of `compare` on simulated losses, whose true difference is known.

Nothing is fitted. Two arms of five seeds have the same expected loss. The losses of windows are
moving averages, over the horizon, of an autocorrelated squared error. Four columns state how arms
and seeds differ: seeds by a factor (``seed_sd``) and by noise in time (``seed_noise``), arms by
noise in time that all their seeds share (``arm_noise``); all noise is autocorrelated by
``persistence`` from step to step. ``plain`` is the rate of wrong verdicts with the usual percentile
bootstrap of seeds, then of blocks of one horizon; ``built`` is the rate with
`adaptivepatch.comparison.statistics`. ``power`` is the rate at which ``built`` finds a challenger
whose losses are 5 % smaller.

Writes one row per setting to ``results/compare_intervals.csv`` and replaces the file.

    python benchmarks/compare_intervals.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.comparison.statistics import relative_difference

RESULTS = Path(__file__).parent / "results" / "compare_intervals.csv"
SEEDS, REPEATS, REPLICATES = 5, 500, 1000
SIZES = ((109, 12),)  # test windows and horizon
NOISE = (  # seed_sd, seed_noise, arm_noise, persistence
    (0.01, 0.0, 0.0, 0.0),
    (0.02, 0.05, 0.0, 0.5),
    (0.03, 0.1, 0.0, 0.5),
    (0.0, 0.3, 0.0, 0.9),
    (0.01, 0.1, 0.3, 0.0),
    (0.005, 0.05, 0.3, 0.9),
)


def losses(
    rng: np.random.Generator, num_windows: int, horizon: int, noise: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return losses of two arms, of shape (2, seeds, windows)."""
    seed_sd, seed_noise, arm_noise, persistence = noise

    def walk(*shape: int) -> NDArray[np.float64]:
        values = rng.normal(size=(*shape, num_windows + horizon - 1))
        if persistence:
            for k in range(1, values.shape[-1]):
                fresh = np.sqrt(1 - persistence**2) * values[..., k]
                values[..., k] = persistence * values[..., k - 1] + fresh
        return values

    step = walk() ** 2
    loss = step * (1 + seed_sd * rng.normal(size=(2, SEEDS, 1)))
    loss = loss + np.sqrt(step) * (seed_noise * walk(2, SEEDS) + arm_noise * walk(2, 1))
    running = np.cumsum(np.pad(loss, [(0, 0), (0, 0), (1, 0)]), axis=-1)
    return (running[..., horizon:] - running[..., :-horizon]) / horizon


def plain_excludes_zero(pair: NDArray[np.float64], horizon: int, rng: np.random.Generator) -> bool:
    """Return whether the percentile interval excludes 0: draws of seeds, then of blocks."""
    num_windows = pair.shape[2]
    running = np.cumsum(np.concatenate([pair, pair[..., :horizon]], axis=2), axis=2)
    running = np.pad(running, [(0, 0), (0, 0), (1, 0)])
    blocks = running[..., horizon:] - running[..., :-horizon]
    starts = rng.integers(num_windows, size=(REPLICATES, -(-num_windows // horizon)))
    by_seed = blocks[..., starts].sum(axis=-1)  # (2, seeds, replicates)
    drawn = rng.integers(SEEDS, size=(2, SEEDS, REPLICATES))
    means = np.take_along_axis(by_seed, drawn, axis=1).mean(axis=1)
    low, high = np.quantile(means[0] / means[1] - 1, [0.025, 0.975])
    return bool(low > 0 or high < 0)


def main() -> None:
    """Simulate all settings and write their rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    origin, rows = provenance(torch.device("cpu")), []
    for num_windows, horizon in SIZES:
        for number, noise in enumerate(NOISE):
            rng, started = np.random.default_rng([number, num_windows]), time.process_time()
            plain = built = found = 0
            ones = np.ones(num_windows)
            for repeat in range(REPEATS):
                pair = losses(rng, num_windows, horizon, noise)
                settings = {"horizon": horizon, "num_replicates": REPLICATES, "seed": repeat}
                plain += plain_excludes_zero(pair, horizon, rng)
                judged = relative_difference(pair[0], pair[1], ones, **settings)
                built += judged.verdict != "no evidence"
                better = relative_difference(0.95 * pair[0], pair[1], ones, **settings)
                found += better.verdict == "helps"
            names = ("seed_sd", "seed_noise", "arm_noise", "persistence")
            rows.append(
                {
                    "protocol": "simulated losses, 95 %, 5 seeds",
                    "windows": num_windows,
                    "horizon": horizon,
                    "blocks": round(judged.num_blocks, 1),
                    **dict(zip(names, noise, strict=True)),
                    "repeats": REPEATS,
                    "seed": number,
                    "plain": plain / REPEATS,
                    "built": built / REPEATS,
                    "power": found / REPEATS,
                    "cpu_seconds": round(time.process_time() - started, 1),
                    **origin,
                }
            )
            print(num_windows, *noise, plain, built, found, flush=True)
    out.unlink(missing_ok=True)
    append_rows(out, rows)


if __name__ == "__main__":
    main()
