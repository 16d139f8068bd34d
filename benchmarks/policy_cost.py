"""CPU seconds of training steps and predictions, with a learned policy and with fixed patches.

    OMP_NUM_THREADS=1 python benchmarks/policy_cost.py

Look-back 336, 21 patches, horizon 96, the encoder of PatchTST at widths 16 and 128, 224 rows. A
round times every patcher once, in turn, in one process. A result is the median over rounds, its
ratio the median of the rounds' ratios to fixed patches. A training step scores G rollouts and
trains on one segmentation; a prediction is one forward pass with the most probable patches. Appends
to ``results/policy_cost.csv``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from adaptivepatch import FixedPatcher, GroupPolicyGradient, PatchTSTBackbone, ReinPatcher
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.network import build_network
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep

RESULTS = Path(__file__).parent / "results" / "policy_cost.csv"
ROWS, CONTEXT, HORIZON, RATE = 224, 336, 96, 16
BACKBONES = {
    16: {"num_heads": 4, "d_ff": 128, "dropout": 0.3},
    128: {"num_heads": 16, "d_ff": 256, "dropout": 0.2},
}
PATCHERS: dict[str, Callable[[], object]] = {
    "fixed": lambda: FixedPatcher(compression_rate=RATE),
    "reinpatch, G = 4": lambda: ReinPatcher(RATE, gradient=GroupPolicyGradient(4)),
    "reinpatch, G = 8": lambda: ReinPatcher(RATE, gradient=GroupPolicyGradient(8)),
    "reinpatch, segmental, G = 4": lambda: ReinPatcher(RATE, policy="segmental"),
}


def subject(patcher: object, width: int) -> dict[str, Callable[[], object]]:
    """Return functions that do a training step and a prediction with a patcher."""
    torch.default_generator.manual_seed(0)
    network = build_network(
        patcher,
        PatchTSTBackbone(d_model=width, **BACKBONES[width]),
        context_length=CONTEXT,
        horizon=HORIZON,
    )
    series = torch.randn(ROWS, CONTEXT).cumsum(1)
    batch = Batch(series, None, torch.randn(ROWS, HORIZON), None, None)
    step = TrainingStep(network, make_loss("mse"))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)

    def train() -> None:
        network.train()
        train_step(step, optimizer, batch, generator=generator, progress=0.5)

    @torch.no_grad()
    def predict() -> None:
        network.eval()
        network(series)

    return {"training step": train, "prediction": predict}


def measure(width: int, rounds: int, repeats: int) -> list[dict[str, object]]:
    """Time all patchers at one width, and return their rows."""
    subjects = {name: subject(make(), width) for name, make in PATCHERS.items()}
    rows = []
    for what in ("training step", "prediction"):
        times: dict[str, list[float]] = {name: [] for name in subjects}
        for number in range(rounds + 1):
            for name, calls in subjects.items():
                started = time.process_time()
                for _ in range(repeats):
                    calls[what]()
                if number:  # the first round warms up
                    times[name].append((time.process_time() - started) / repeats)
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times["fixed"], strict=True)]
            rows.append(
                {
                    "protocol": "cpu seconds, one process, in turn",
                    "what": what,
                    "patcher": name,
                    "d_model": width,
                    "rows": ROWS,
                    "look_back": CONTEXT,
                    "tokens": CONTEXT // RATE,
                    "seed": 0,
                    "rounds": rounds,
                    "seconds": round(median(seconds), 5),
                    "ratio": round(median(ratios), 3),
                    "lowest_ratio": round(min(ratios), 3),
                    "highest_ratio": round(max(ratios), 3),
                    **provenance(torch.device("cpu")),
                }
            )
    return rows


def main() -> None:
    """Time both widths, and print and append the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    provenance(torch.device("cpu"))  # reads the commit before it can change
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        for width in BACKBONES:
            rows = measure(width, options.rounds, options.repeats)
            append_rows(options.out, rows)
            for row in rows:
                print(*(row[key] for key in ("d_model", "what", "patcher", "seconds", "ratio")))


if __name__ == "__main__":
    main()
