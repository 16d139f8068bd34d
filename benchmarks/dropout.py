"""CPU time of dropout: the layer of this package and that of torch, in turn, with one thread.

Appends one row per pair to ``results/dropout.csv``; quote the median of the ratios.

    python benchmarks/dropout.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.nn.layers.dropout import Dropout

RESULTS = Path(__file__).parent / "results" / "dropout.csv"
SHAPE, P, REPEATS, PAIRS = (896, 42, 128), 0.3, 10, 7


def cpu_seconds(module: torch.nn.Module, values: torch.Tensor) -> float:
    """Return the CPU seconds of a forward and a backward pass."""
    started = time.process_time()
    for _ in range(REPEATS):
        module(values).sum().backward()
    return (time.process_time() - started) / REPEATS


def main() -> None:
    """Time both layers in turn, after a warm-up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    origin = provenance(torch.device("cpu"))
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        values = torch.randn(SHAPE, requires_grad=True)
        for pair in range(PAIRS + 1):
            ours, theirs = (cpu_seconds(m, values) for m in (Dropout(P), torch.nn.Dropout(P)))
            if pair:
                rows.append(
                    {
                        "protocol": "cpu seconds, forward and backward, in turn",
                        "shape": "x".join(map(str, SHAPE)),
                        "p": P,
                        "seed": 0,
                        "pair": pair,
                        "ours": ours,
                        "torch_dropout": theirs,
                        "ratio": ours / theirs,
                        **origin,
                    }
                )
    append_rows(out, rows)


if __name__ == "__main__":
    main()
