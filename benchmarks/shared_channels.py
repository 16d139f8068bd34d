"""Boundaries per channel against boundaries that channels share, on planted sets of channels.

    python benchmarks/shared_channels.py            # both sets, both arms, seeds 1 to 3
    python benchmarks/shared_channels.py --seed 1 --steps 200 --out /dev/stdout

Windows have 4 channels and 96 steps with 4 regimes per channel; the future repeats the means of a
channel's regimes, 3 steps each. In the set "lead_lag" all channels change together, two of them a
step later, so that channels help to find changes that the noise of one channel hides. In the set
"independent" each channel changes at its own steps. A token is the mean of a patch; there are
exactly 4 patches, from the segmental policy with a reconstruction warm-up. Arms differ only in
whether the logits of the channels of a window are averaged.

Appends a row for each set, arm and seed to ``results/shared_channels.csv``; those that have a row
are skipped. Then compares the arms of each set over all seeds, with the interval of `adaptivepatch
compare`, and writes ``results/shared_channels_intervals.csv``. Test windows are independent draws.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from adaptivepatch import GroupPolicyGradient, ReinPatcher, Trainer, TransformerBackbone
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.comparison.statistics import relative_difference
from adaptivepatch.network import PatchNetwork
from adaptivepatch.nn.tokens.heads import SlotHead
from adaptivepatch.nn.tokens.patch_embedding import ResampleEmbedding
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import WindowSets
from adaptivepatch.training.sampler import Batch

RESULTS = Path(__file__).parent / "results" / "shared_channels.csv"
SETS, ARMS = ("lead_lag", "independent"), ("per_channel", "shared")
CHANNELS, STEPS, REGIMES, SHORTEST, HORIZON = 4, 96, 4, 10, 12
NOISE, LATE = 0.8, (0, 0, 1, 1)
WINDOWS, NUM_VALIDATION, NUM_TEST = 32, 500, 2000


def draw(kind: str, windows: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw look-backs (windows * 4, 96) and futures (windows * 4, 12), window by window."""
    groups = windows if kind == "lead_lag" else windows * CHANNELS
    share = rng.exponential(size=(groups, REGIMES))
    share = share / share.sum(1, keepdims=True)
    length = SHORTEST + np.floor(share * (STEPS - REGIMES * SHORTEST)).astype(int)
    start = np.cumsum(length, axis=1)[:, :-1]  # starts from the second regime on
    if kind == "lead_lag":
        start = np.repeat(start, CHANNELS, axis=0) + np.tile(LATE, windows)[:, None]
    mean = rng.normal(size=(windows * CHANNELS, REGIMES))
    for k in range(1, REGIMES):
        while (near := np.abs(mean[:, k] - mean[:, k - 1]) < 1.0).any():
            mean[near, k] = rng.normal(size=near.sum())
    regime = (np.arange(STEPS) >= start[:, :, None]).sum(1)
    series = np.take_along_axis(mean, regime, axis=1)
    future = np.repeat(mean, HORIZON // REGIMES, axis=1)
    noisy = series + NOISE * rng.normal(size=series.shape)
    return torch.tensor(noisy, dtype=torch.float32), torch.tensor(future, dtype=torch.float32)


class Source:
    """New windows for every training step, and the same validation windows for all seeds."""

    def __init__(self, kind: str, shared: bool, seed: int) -> None:
        self.kind, self.shared, self.seed = kind, shared, seed
        self.held_out = draw(kind, NUM_VALIDATION, np.random.default_rng([1, SETS.index(kind)]))

    def batch(self, windows: Tensor) -> Batch:
        """Return 32 windows for each number; negative numbers are validation windows."""
        parts = [self._part(int(number)) for number in windows]
        series, target = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return Batch(series, None, target, None, self.group(series))

    def group(self, series: Tensor) -> Tensor | None:
        """Return the window of every row, if its channels share patches."""
        return torch.arange(len(series)) // CHANNELS if self.shared else None

    def _part(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= 0:
            return draw(self.kind, WINDOWS, np.random.default_rng([3, self.seed, number]))
        rows = slice((-1 - number) * WINDOWS * CHANNELS, -number * WINDOWS * CHANNELS)
        return self.held_out[0][rows], self.held_out[1][rows]


def measure(kind: str, arm: str, seed: int, steps: int) -> tuple[dict[str, object], np.ndarray]:
    """Train an arm, and return its row and the mean squared error of every test window."""
    origin = provenance(torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        gradient = GroupPolicyGradient(4, warmup=0.3, mode_share=0.0, frozen_share=0.1)
        patcher = ReinPatcher(
            STEPS / REGIMES,
            policy="segmental",
            candidates=None,
            min_length=4,
            max_length=80,
            prior=0.0,
            width=16,
            gradient=gradient,
        )
        backbone = TransformerBackbone(d_model=32, num_layers=1, num_heads=4, dropout=0.0)
        backbone.build(Segmentation.even(STEPS, REGIMES))
        embedding = ResampleEmbedding(1, 32, STEPS // REGIMES)
        head = SlotHead(REGIMES, 32, HORIZON)
        network = PatchNetwork(patcher, embedding, backbone, head, instance_norm=False)
    source = Source(kind, arm == "shared", seed)
    slices = -(-NUM_VALIDATION // WINDOWS)
    sets = WindowSets(torch.arange(steps), torch.arange(-slices, 0))
    trainer = Trainer(max_steps=steps, batch_size=1, validate_every=max(1, steps // 5))
    started = time.process_time()
    record = trainer.fit(network, source, sets, make_loss("mse"), seed=seed)
    seconds = time.process_time() - started
    series, target = draw(kind, NUM_TEST, np.random.default_rng([2, SETS.index(kind)]))
    with torch.no_grad():
        forecast = network(series, None, source.group(series))
    by_window = (forecast - target).square().view(NUM_TEST, -1).mean(1).double().numpy()
    row = {
        "protocol": "planted channels, fresh training windows",
        "set": kind,
        "arm": arm,
        "seed": seed,
        "num_windows": NUM_TEST,
        "test_mse": float(by_window.mean()),
        "validation_mse": record.best_loss,
        "steps": steps,
        "cpu_seconds": round(seconds, 1),
        **origin,
    }
    return row, by_window


def compare(folder: Path, seeds: list[int]) -> list[dict[str, object]]:
    """Return a row for each set: the difference of the arms with its interval."""
    rows = []
    for kind in SETS:
        errors = {
            arm: np.stack([np.load(folder / f"{kind}-{arm}-{seed}.npy") for seed in seeds])
            for arm in ARMS
        }
        found = relative_difference(
            errors["shared"].astype(float),
            errors["per_channel"].astype(float),
            np.ones(NUM_TEST),
            horizon=1,
            num_comparisons=len(SETS),
        )
        rows.append(
            {
                "set": kind,
                "seeds": " ".join(map(str, seeds)),
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
                "verdict": found.verdict,
                **provenance(torch.device("cpu")),
            }
        )
    return rows


def main() -> None:
    """Measure what has no row yet, then compare the arms."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    provenance(torch.device("cpu"))  # reads the commit before it can change
    torch.set_num_threads(1)
    folder = options.out.with_suffix(".windows")
    done: set[tuple[object, ...]] = set()
    if options.out.is_file():
        table = pd.read_csv(options.out)
        done = set(table[["set", "arm", "seed"]].itertuples(index=False, name=None))
    for seed in options.seed:
        for kind in SETS:
            for arm in ARMS:
                if (kind, arm, seed) in done:
                    continue
                row, by_window = measure(kind, arm, seed, options.steps)
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / f"{kind}-{arm}-{seed}.npy", by_window.astype(np.float32))
                append_rows(options.out, [row])
                print(*(row[key] for key in ("set", "arm", "seed", "test_mse", "cpu_seconds")))
    intervals = options.out.with_name("shared_channels_intervals.csv")
    rows = compare(folder, options.seed)
    intervals.unlink(missing_ok=True)
    append_rows(intervals, rows)
    for row in rows:
        print(row["set"], f"{row['difference']:+.1%} [{row['low']:+.1%}, {row['high']:+.1%}]")


if __name__ == "__main__":
    main()
