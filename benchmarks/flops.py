"""Floating-point operations of a forecast, for each arm of a suite.

    python benchmarks/flops.py levels_etth1

Torch counts the operations of one forward pass in eval mode; printed are those per window and
channel. Only matrix products count (an addition and a multiplication each), which are nearly all
operations. No data set is needed.
"""

from __future__ import annotations

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaptivepatch import Forecaster
from adaptivepatch.bench.ltsf_fit import make_forecaster
from adaptivepatch.bench.task import read_suite
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.network import PatchNetwork

ROWS = 64


def flops_per_window(network: PatchNetwork, context_length: int) -> float:
    """Return the operations of the forecast of one row."""
    series = torch.randn(ROWS, context_length, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(series)
    return counter.get_total_flops() / ROWS


def main() -> None:
    """Print a row for each arm and look-back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite")
    seen = set()
    print(f"{'arm':24} {'look-back':>9} {'tokens':>12} {'parameters':>10} {'MFLOP':>8}")
    for run in read_suite(parser.parse_args().suite):
        key = (run.arm.name, run.task.context_length)
        if key in seen:
            continue
        seen.add(key)
        network = make_forecaster(Forecaster, run).make_network()
        level, tokens = network.patcher.reference_patches(run.task.context_length), []
        while level is not None:
            tokens.append(str(level.capacity))
            level = level.parent
        flops = flops_per_window(network, run.task.context_length)
        print(
            f"{run.arm.name:24} {run.task.context_length:>9} {' > '.join(tokens):>12} "
            f"{count_parameters(network):>10} {flops / 1e6:>8.3f}"
        )


if __name__ == "__main__":
    main()
