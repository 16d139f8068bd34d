"""Do the same patchers, trained with other seeds, find the same boundaries?

    ADAPTIVEPATCH_DATA=... OMP_NUM_THREADS=1 python benchmarks/boundary_agreement.py

Trains the arms of the suite family_etth1 that learn where patches start, once for each of its
seeds, and compares their boundaries in 400 test look-backs, pair by pair of seeds. ``agreement`` is
the share of boundaries that the other network has within two steps, ``chance`` the same for
boundaries put down anywhere, and ``beyond_chance`` is 1 for the same boundaries and 0 for chance
(`adaptivepatch.boundaries.measures.agreement`). Appends to ``results/boundary_agreement.csv`` arm
by arm; arms that are there are not trained again.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch

from adaptivepatch.bench.family import cut_test_lookbacks
from adaptivepatch.bench.ltsf import fit_ltsf
from adaptivepatch.bench.record import append_rows, as_settings, provenance
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
    """Train a forecaster, and cut the test look-backs."""
    model = fit_ltsf(run, device="cpu").model
    return cut_test_lookbacks(model.patcher_, run.task.dataset, run.task.context_length)


def compare_seeds(arm: str, runs: list[Run], out: Path) -> None:
    """Append a row for every pair of seeds of an arm."""
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
                    "settings": as_settings(run.arm.settings),
                    **provenance(torch.device("cpu")),
                }
            ],
        )


def main() -> None:
    """Train, compare and append."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rates", type=int, nargs="+", default=[48, 16])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    provenance(torch.device("cpu"))  # remembers the commit of the code loaded now
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
