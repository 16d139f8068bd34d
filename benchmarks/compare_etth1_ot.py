"""`adaptivepatch compare` on the oil temperature of ETTh1, as a user would call it, with its time.

Writes the dates and ``OT`` of all rows to a CSV file, calls the command with two processes, and
writes its table with the provenance to ``results/compare_etth1_ot.csv``. The test part is the last
20 % of the rows, not the test rows of the benchmark.

    ADAPTIVEPATCH_DATA=folder python benchmarks/compare_etth1_ot.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.cli import main as command
from adaptivepatch.datasets.loading import load_dataset, load_stamps

RESULTS = Path(__file__).parent / "results" / "compare_etth1_ot.csv"
HORIZON = 96


def main() -> None:
    """Call the command and write its table."""
    origin = provenance(torch.device("cpu"))
    frame = pd.DataFrame({"OT": load_dataset("ETTh1")["OT"].to_numpy()})
    frame.insert(0, "date", load_stamps("ETTh1"))
    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(f"{folder}/ot.csv", index=False)
        arguments = ["compare", f"{folder}/ot.csv", "--horizon", str(HORIZON), "--jobs", "2"]
        arguments.append("--thorough")
        started = time.perf_counter()
        try:
            command([*arguments, "--out", f"{folder}/result"])
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"the command ended with status {end.code}") from end
        seconds = time.perf_counter() - started
        table = pd.read_csv(f"{folder}/result/table.csv")
    print(f"{seconds:.0f} s")
    rows = [
        {
            "protocol": "compare, ETTh1 OT with dates, all rows, last 20 % tested",
            "horizon": HORIZON,
            **{str(name): value for name, value in row.items()},
            "wall_seconds": round(seconds),
            **origin,
        }
        for row in table.to_dict("records")
    ]
    RESULTS.unlink(missing_ok=True)
    append_rows(RESULTS, rows)


if __name__ == "__main__":
    main()
