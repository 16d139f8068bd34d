"""CPU seconds of a training step, in this package and other libraries, and of a backtest.

Needs an environment with this package, neuralforecast, transformers and gluonts:

    OMP_NUM_THREADS=1 python benchmarks/peers/training_step.py             # everything
    OMP_NUM_THREADS=1 python benchmarks/peers/training_step.py --what bare_step --look-back 336
    OMP_NUM_THREADS=1 python benchmarks/peers/training_step.py --profile ours --look-back 336

``bare_step``: see ``models.py``. ``public_fit``: each library's own training, (time of 60 steps -
time of 20) / 40. ``backtest``: `Forecaster.backtest` of the 2,785 test windows of ETTh1 against the
bare forward passes of the same rows in the same micro-batches. A round times every library once, in
turn, in one process. A result is the median over rounds, its ratio the median of the rounds' ratios
to this package (of the backtest: to the bare forward passes). Appends to ``results/peers.csv``.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from models import BACKBONES, CHANNELS, HORIZON, WINDOWS, bare, public_fit, single_thread

from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.datasets.catalog import split_borders
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.training.trainer import Trainer

RESULTS = Path(__file__).parents[1] / "results" / "peers.csv"
BARE = ["ours", "transformers", "neuralforecast", "gluonts", "ours_transformer"]
PUBLIC = ["ours", "neuralforecast", "ours_transformer"]
STEPS, FEW, MANY = 3, 20, 60  # bare steps per round; steps of the two public fits


def cpu_seconds(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def bare_step(look_back: int, rounds: int, libraries: list[str]) -> list[dict[str, object]]:
    """Time bare training steps, and return the rows."""
    subjects = {library: bare(library, look_back) for library in libraries}
    times: dict[str, list[float]] = {library: [] for library in libraries}
    for subject in subjects.values():
        subject.step()
    for _ in range(rounds):
        for library, subject in subjects.items():
            seconds = cpu_seconds(lambda step=subject.step: [step() for _ in range(STEPS)])
            times[library].append(seconds / STEPS)
    facts = {
        library: {"version": s.version, "tokens": s.tokens, "parameters": s.parameters}
        for library, s in subjects.items()
    }
    return _rows("bare_step", look_back, WINDOWS * CHANNELS, times, facts, "ours")


def public(look_back: int, rounds: int, libraries: list[str]) -> list[dict[str, object]]:
    """Time the training of each library that has one, and return the rows."""
    libraries = [library for library in libraries if library in PUBLIC]
    times: dict[str, list[float]] = {library: [] for library in libraries}
    facts = {}
    for library in libraries:
        subject = bare(library, look_back)
        facts[library] = {
            "version": subject.version,
            "tokens": subject.tokens,
            "parameters": subject.parameters,
        }
        public_fit(library, look_back, 1)()
    for _ in range(rounds):
        for library in libraries:
            few, many = (cpu_seconds(public_fit(library, look_back, n)) for n in (FEW, MANY))
            times[library].append((many - few) / (MANY - FEW))
    return _rows("public_fit", look_back, WINDOWS * CHANNELS, times, facts, "ours")


@torch.no_grad()
def backtest(look_back: int, rounds: int, _: list[str]) -> list[dict[str, object]]:
    """Time the backtest of ETTh1, and the bare forward passes of its rows; return the rows."""
    frame, borders = load_dataset("ETTh1"), split_borders("ETTh1")
    subject = bare("ours", look_back)
    forecaster = Forecaster(
        horizon=HORIZON,
        context_length=look_back,
        patcher=FixedPatcher(16, 8),
        backbone=BACKBONES["ours"](),
        trainer=Trainer(max_steps=1, batch_size=WINDOWS, device="cpu"),
        random_state=0,
    )
    with torch.enable_grad():
        forecaster.fit(frame.iloc[: borders.val_end], refit=False)
    test = frame.iloc[borders.val_end - look_back : borders.test_end]
    network = forecaster.model_.network.eval()
    values = torch.as_tensor(test.to_numpy(), dtype=torch.float32).T.contiguous()
    windows = values.unfold(1, look_back, 1)[:, :-HORIZON]
    rows = windows.transpose(0, 1).flatten(0, 1).contiguous()
    rows = torch.cat([rows, rows[:64]])  # so that the last micro-batch is full
    batches = [rows[start : start + 64] for start in range(0, len(rows) - 64, 63)]

    def forward() -> None:
        for batch in batches:
            network(batch)

    times: dict[str, list[float]] = {"bare_forward": [], "backtest": []}
    found = len(forecaster.backtest(test))
    assert found == 2785, f"{found} windows"
    for _ in range(rounds):
        times["bare_forward"].append(cpu_seconds(forward))
        times["backtest"].append(cpu_seconds(lambda: forecaster.backtest(test)))
    fact = {
        "version": subject.version,
        "tokens": subject.tokens,
        "parameters": subject.parameters,
    }
    facts = dict.fromkeys(times, fact)
    written = _rows("", look_back, found * CHANNELS, times, facts, "bare_forward")
    for row, what in zip(written, times, strict=True):
        row |= {"library": "ours", "what": what}
    return written


def _rows(
    what: str,
    look_back: int,
    num_rows: int,
    times: dict[str, list[float]],
    facts: dict[str, dict[str, object]],
    base: str,
) -> list[dict[str, object]]:
    origin = provenance(torch.device("cpu"))
    written = []
    for library, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times[base], strict=True)]
        written.append(
            {
                "protocol": "cpu seconds, one process, in turn",
                "what": what,
                "library": library,
                **facts[library],
                "look_back": look_back,
                "rows": num_rows,
                "seed": 0,
                "rounds": len(seconds),
                "seconds": round(median(seconds), 4),
                "fastest": round(min(seconds), 4),
                "slowest": round(max(seconds), 4),
                "ratio": round(median(ratios), 3),
                "lowest_ratio": round(min(ratios), 3),
                "highest_ratio": round(max(ratios), 3),
                **origin,
            }
        )
    return written


def profile(library: str, look_back: int) -> None:
    """Print the CPU time of the operations of three bare steps."""
    subject = bare(library, look_back)
    subject.step()
    with torch.profiler.profile() as profiler:
        for _ in range(3):
            subject.step()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))


def main() -> None:
    """Time what the options choose, and print and append the rows."""
    parser = argparse.ArgumentParser()
    kinds = {"bare_step": bare_step, "public_fit": public, "backtest": backtest}
    parser.add_argument("--what", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--look-back", nargs="+", type=int, default=[336, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--library", nargs="+", choices=BARE, default=BARE)
    parser.add_argument("--profile", choices=BARE)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    others = [library for library in options.library if library != "ours"]
    provenance(torch.device("cpu"))  # reads the commit before it can change
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    with single_thread(), torch.random.fork_rng(devices=[]):
        if options.profile:
            profile(options.profile, options.look_back[0])
            return
        for look_back in options.look_back:
            for what in options.what:
                rows = kinds[what](look_back, options.rounds, ["ours", *others])
                append_rows(options.out, rows)
                for row in rows:
                    keys = ("what", "library", "look_back", "seconds", "ratio")
                    print(*(row[key] for key in keys), flush=True)


if __name__ == "__main__":
    main()
