"""Comparison of the demo's dynamic chunking ("chunks") with controls, on pedestrian counts.

In `adaptivepatch demo`, with one seed and the last eight weeks, chunks have the smallest error.
Here `compare` fits the network of the demo with five seeds on the same counts (21 sensors, hourly,
from 2023 on; the last fifth is tested). The arms are fixed patches of several lengths, chunks at 12
and 24 hours per patch and, as controls at both rates, even chunks (the same network with even
patches) and random boundaries. Writes ``results/compare_pedestrians.csv`` and replaces the file.

    OMP_NUM_THREADS=1 python benchmarks/compare_pedestrians.py --jobs 2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from adaptivepatch import DynamicChunkingPatcher, FixedPatcher, RandomPatcher, Trainer, compare
from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.demo import WEEK, DemoSettings, demo_counts
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.recency import RecencyPatcher

RESULTS = Path(__file__).parent / "results" / "compare_pedestrians.csv"
DEMO = DemoSettings()
RATES = (4, 6, 8, 12, 24)  # predictions with 4 take about as long as those with chunks


def arms() -> dict[str, Patcher]:
    """Return the patcher of each arm."""
    chunks = {"budget": "exact", "width": 8, "num_layers": 1}  # as in the demo
    made: dict[str, Patcher] = {f"fixed {n}": FixedPatcher(compression_rate=n) for n in RATES}
    made["recency 24"] = RecencyPatcher(compression_rate=24, shortest=12)
    for n in (12, 24):
        made[f"chunks {n}"] = DynamicChunkingPatcher(n, **chunks)
        made[f"even chunks {n}"] = DynamicChunkingPatcher(n, router="even", **chunks)
        made[f"random {n}"] = RandomPatcher(compression_rate=n)
    return made


def main() -> None:
    """Compare, and write the table with the intervals between chunks and even chunks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    origin = provenance(torch.device("cpu"))
    started = time.perf_counter()
    result = compare(
        demo_counts(),
        arms(),
        horizon=DEMO.horizon,
        context_length=DEMO.context_length,
        seeds=range(1, options.seeds + 1),  # the seed of the demo is 0
        backbone=PatchTSTBackbone(
            d_model=DEMO.d_model, num_layers=1, d_ff=2 * DEMO.d_model, dropout=0.0
        ),
        trainer=Trainer(
            max_steps=DEMO.max_steps,
            batch_size=DEMO.batch_size,
            learning_rate=DEMO.learning_rate,
            validate_every=DEMO.max_steps // 4,
        ),
        metric="MAE",
        validation_rows=4 * WEEK,
        missing="mask",
        thorough=True,
        n_jobs=options.jobs,
        progress=lambda done, total, text: print(f"[{done}/{total}] {text}", flush=True),
    )
    print(result.verdict, f"{time.perf_counter() - started:.0f} s", sep="\n")
    rows = []
    for row in result.table.to_dict("records"):
        name = str(row["arm"])
        control = f"even {name}" if name.startswith("chunks") else ""
        between = result.between(name, control) if control else None
        rows.append(
            {
                "protocol": "compare, 21 Auckland sensors from 2023 on, last 20 % tested, MAE",
                "horizon": DEMO.horizon,
                "context_length": DEMO.context_length,
                "stride": result.settings["stride"],
                "test_windows": result.settings["test_windows"],
                **{str(key): value for key, value in row.items()},
                "control": control,
                "control_difference": between.difference if between else "",
                "control_low": between.low if between else "",
                "control_high": between.high if between else "",
                "verdict_text": result.verdict if name == result.headline else "",
                **origin,
            }
        )
    options.out.unlink(missing_ok=True)
    append_rows(options.out, rows)


if __name__ == "__main__":
    main()
