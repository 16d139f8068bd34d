"""Rates of wrong and of right verdicts of `compare`, where the answer is known.

Each repeat is one call of the public `compare` on a new series (two seasons and white noise), with
five seeds per arm. Both arms are the *same* patcher under two names. The names give them different
random streams (`adaptivepatch.comparison.arms.fit_seed`), so that their fits differ as two
independent sets of five fits do.

* ``a_a`` (200 repeats, 1,200 rows): the verdict of ``compare(thorough=True)``, which uses all
  windows. Every verdict but "no evidence" is wrong.
* ``planted`` (50 repeats, other series): every test error of the challenger is multiplied by
  sqrt(0.95), which makes its expected MSE exactly 5 % smaller, and the interval is computed again
  from these losses. Before that, the interval of the unchanged losses is checked against the one of
  `compare`. The difference is planted in the test errors, not in the patches.
* ``a_a_default`` (80 repeats, 16,000 rows of 3 channels): as ``a_a`` with the default of
  `compare`, which uses every fourth validation and test window of these series.

The fits of all three are equally small and have the trainer below: the intervals are calibrated,
not the length of the training.

Appends one row per repeat to ``results/compare_calibration.csv``; repeats that have a row are
skipped.

    python benchmarks/compare_calibration.py
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from adaptivepatch import Comparison, FixedPatcher, Trainer, TransformerBackbone, compare
from adaptivepatch.bench.result_row import as_json, provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.comparison.statistics import Interval, relative_difference

RESULTS = Path(__file__).parent / "results" / "compare_calibration.csv"
REPEATS = {"a_a": range(200), "planted": range(200, 250), "a_a_default": range(250, 330)}
DEFAULT_ROWS, DEFAULT_CHANNELS = 16_000, 3
ROWS, NOISE, HORIZON, CONTEXT, SEEDS, PLANTED = 1200, 1.5, 12, 48, 5, -0.05
BACKBONE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "d_ff": 16, "dropout": 0.0}
TRAINER = {"max_steps": 40, "batch_size": 64, "learning_rate": 5e-3, "validate_every": 20}
SMALL_BATCHES = {**TRAINER, "batch_size": 64 // DEFAULT_CHANNELS}


def series(repeat: int, rows: int = ROWS, channels: int = 1) -> pd.DataFrame:
    """Return channels of two seasons of random phase and white noise."""
    rng, step = np.random.default_rng(repeat), np.arange(rows)
    columns = {}
    for channel in range(channels):
        first, second = rng.uniform(0, 2 * np.pi, size=2)
        season = 1.5 * np.sin(step * np.pi / 12 + first) + 0.5 * np.sin(step * np.pi / 6 + second)
        columns[f"x{channel}"] = season + NOISE * rng.normal(size=rows)
    return pd.DataFrame(columns, pd.date_range("2024-01-01", periods=rows, freq="h"))


def compare_twins(repeat: int, size: tuple[int, int], *, thorough: bool) -> Comparison:
    """Compare a patcher with itself, with seeds that no other repeat has."""
    return compare(
        series(repeat, *size),
        {"once": FixedPatcher(8), "again": FixedPatcher(8)},
        baseline="once",
        horizon=HORIZON,
        context_length=CONTEXT,
        seeds=range(SEEDS * repeat, SEEDS * (repeat + 1)),
        backbone=TransformerBackbone(**BACKBONE),
        trainer=Trainer(**(TRAINER if thorough else SMALL_BATCHES)),
        thorough=thorough,
        progress=False,
    )


def interval(result: Comparison, factor: float = 1.0) -> Interval:
    """Return the interval with the challenger's losses multiplied; every target is observed."""
    once, again = result.losses["once"], result.losses["again"]
    horizon = math.ceil(HORIZON / result.settings["stride"])
    return relative_difference(factor * again, once, np.ones(once.shape[1]), horizon=horizon)


def measure(kind: str, repeat: int) -> dict[str, Any]:
    """Do one repeat and return its row."""
    started = time.process_time()
    is_default = kind == "a_a_default"
    size = (DEFAULT_ROWS, DEFAULT_CHANNELS) if is_default else (ROWS, 1)
    result = compare_twins(repeat, size, thorough=not is_default)
    settings = {"rows": size[0], "noise": NOISE, **BACKBONE, **TRAINER}
    if is_default:
        settings |= SMALL_BATCHES | {"channels": size[1], "stride": result.settings["stride"]}
    row, own = result.table.set_index("arm").loc["again"], interval(result)
    if not np.allclose([row.difference, row.low, row.high], [own.difference, own.low, own.high]):
        raise AssertionError("the interval of the losses is not that of the comparison")
    judged = interval(result, 1 + PLANTED) if kind == "planted" else own
    return {
        "protocol": "compare, same patcher twice",
        "kind": kind,
        "repeat": repeat,
        "seed": SEEDS * repeat,
        "seeds": SEEDS,
        "difference": judged.difference,
        "low": judged.low,
        "high": judged.high,
        "verdict": judged.verdict,
        "seed_std_once": result.table.test_error_std[0] / result.table.test_error[0],
        "seed_std_again": result.table.test_error_std[1] / result.table.test_error[1],
        "degrees_of_freedom": judged.degrees_of_freedom,
        "seed_error": judged.seed_error,
        "time_error": judged.time_error,
        "blocks": judged.num_blocks,
        "cpu_seconds": round(time.process_time() - started, 2),
        "settings": as_json(settings),
    }


def main() -> None:
    """Do the repeats that have no row yet, and print the counts of verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    origin = provenance(torch.device("cpu"))
    done: set[tuple[str, int]] = set()
    if arguments.out.exists():
        found = pd.read_csv(arguments.out)
        done = set(zip(found.kind, found.repeat, strict=True))
    for kind, repeats in REPEATS.items():
        for repeat in repeats:
            if (kind, repeat) not in done:
                row = measure(kind, repeat)
                finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                append_rows(arguments.out, [{**row, **origin, "finished": finished}])
                print(kind, repeat, row["verdict"], f"{row['cpu_seconds']:.1f} s", flush=True)
    table = pd.read_csv(arguments.out)
    print(table.groupby("kind").verdict.value_counts().to_string())


if __name__ == "__main__":
    main()
