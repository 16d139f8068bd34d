"""Agreement of the boundaries of learned patchers across seeds.

    ADAPTIVEPATCH_DATA=... OMP_NUM_THREADS=1 python benchmarks/boundary_agreement.py

Trains the arms of the suite family_etth1 that learn where patches start, once with each seed, and
compares the boundaries of each pair of seeds in 400 test look-backs. ``agreement`` is the share of
boundaries that the other network has within two steps, ``chance`` is the expected share if
boundaries were placed at random, and ``beyond_chance`` is 1 for equal boundaries and 0 for chance
(`adaptivepatch.boundaries.measures.agreement`). Appends the rows of each arm to
``results/boundary_agreement.csv``; arms that have rows are not trained again.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch

from adaptivepatch import Forecaster
from adaptivepatch.bench.ltsf_fit import fit_ltsf, make_forecaster
from adaptivepatch.bench.protocols.family import cut_test_lookbacks
from adaptivepatch.bench.result_row import as_json, provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.bench.task import Run, read_suite
from adaptivepatch.boundaries.measures import agreement
from adaptivepatch.segmentation import Segmentation

RESULTS = Path(__file__).parent / "results" / "boundary_agreement.csv"
PATCHERS = (
    *("entropy", "reinpatch", "score_function", "pooling", "pooling_exact"),
    *("chunking", "chunking_exact", "chunking_published", "merging"),
)
TOLERANCE = 2  # steps


def boundaries_of(run: Run) -> Segmentation:
    """Train a forecaster, and return the boundaries of its patcher in the test look-backs."""
    model = make_forecaster(Forecaster, run)
    fit_ltsf(model, run, device="cpu")
    return cut_test_lookbacks(model.patcher_, run.task.dataset, run.task.context_length)


def compare_seeds(arm: str, runs: list[Run], out: Path) -> None:
    """Append a row for each pair of seeds of an arm."""
    cut = {run.seed: boundaries_of(run) for run in runs}
    run = runs[0]
    for one, other in combinations(cut, 2):
        found = agreement(cut[one], cut[other], TOLERANCE)
        known = found.value.isfinite()
        append_rows(
            out,
            [
                {
                    "suite": run.suite,
                    "dataset": run.task.dataset,
                    "protocol": run.task.protocol,
                    "horizon": run.task.horizon,
                    "context_length": run.task.context_length,
                    "arm": arm,
                    "seed": one,
                    "other_seed": other,
                    "look_backs": int(known.sum()),
                    "tolerance": TOLERANCE,
                    "agreement": f"{float(found.value[known].mean()):.4f}",
                    "chance": f"{float(found.chance[known].mean()):.4f}",
                    "beyond_chance": f"{found.beyond_chance:.4f}",
                    "settings": as_json(run.arm.settings),
                    **provenance(torch.device("cpu")),
                }
            ],
        )


def main() -> None:
    """Do the arms that have no rows yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rates", type=int, nargs="+", default=[48, 16])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    provenance(torch.device("cpu"))  # reads the commit before it can change
    torch.set_num_threads(1)
    done = set(pd.read_csv(options.out)["arm"]) if options.out.exists() else set()
    runs = read_suite("family_etth1")
    for rate in options.rates:
        for name in PATCHERS:
            arm = f"{name}_{rate}"
            if arm not in done:
                compare_seeds(arm, [run for run in runs if run.arm.name == arm], options.out)
                print(arm, flush=True)


if __name__ == "__main__":
    main()
