"""Work on a store of results in a process of its own, which tests kill."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np

from adaptivepatch.bench import planted_fit
from adaptivepatch.bench.protocols.planted import PLANTED
from adaptivepatch.bench.result_row import PROVENANCE, Measured, ResultRow, curve_rows
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.store import Store
from adaptivepatch.bench.task import read_suite
from adaptivepatch.cli import app

SUITE = """
tasks:
  - {dataset: planted_b, horizon: 24, context_length: 192, protocol: planted}
seeds: SEEDS
base:
  reward: none
  backbone: {name: transformer, d_model: 8, num_layers: 1, dropout: 0.0}
  trainer: {max_steps: 2, learning_rate: 0.001, validate_every: 1}
arms:
  oracle: {patcher: {name: truth}}
  random: {reward: chance, patcher: {name: random, compression_rate: 24}}
"""
PRELOADED = [__name__, "torch._dynamo", "adaptivepatch.backbones.transformer"]
TIMES = [*PROVENANCE, "fit_seconds", "fit_cpu_seconds"]


def process(function, *arguments):
    """A started process; `PRELOADED` is imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started = context.Process(target=function, args=arguments)
    started.start()
    return started


def bench_run(suite, out):
    """What `adaptivepatch bench run` does, on fewer windows."""
    planted_fit.NUM_VALIDATION, planted_fit.NUM_TEST = 40, 60
    with contextlib.redirect_stdout(io.StringIO()):
        app(["bench", "run", str(suite), "--out", str(out)], standalone_mode=False)


def run_together(suite, out, log, barrier):
    """Do a suite; the first run begins when that of another process has begun."""
    planted_fit.NUM_VALIDATION, planted_fit.NUM_TEST = 40, 60
    started = []

    def note(run, number, total):
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {run.arm.name} {run.seed}\n")
        if not started:
            barrier.wait(timeout=120)
        started.append(run)

    run_suite(suite, Path(out), device="cpu", on_start=note)


def measure(run):
    """A result that depends on the run and costs nothing."""
    columns = [*PLANTED.measures._fields, *PLANTED.costs]
    measures = {name: (run.seed + place) / 7 for place, name in enumerate(columns)}
    entry = {"train_loss": 1 / 3, "validation_loss": float("nan"), "auxiliary_loss": 0.0}
    history = [{**entry, "step": step, "learning_rate": 0.1, "seconds": 0.5} for step in (1, 2)]
    row = ResultRow(run, measures, {}, dict.fromkeys(PROVENANCE, "é"))
    return Measured(row, curve_rows(run, history), np.arange(5) / (3 + run.seed))


def do_all(suite, out):
    """Do the runs that are missing, as `run_suite` does."""
    store = Store(out)
    store.tables()
    for run in read_suite(suite):
        claim = store.claim(run)
        if claim is not None:
            with claim:
                store.put(measure(run))
            store.tables()


def die_at(number, suite, out):
    """Do the missing runs, and be killed before an operation on a file; exit with 0 if done."""
    folder, left = str(Path(out).parent), [number]

    def count(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(
            folder
        ):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    do_all(suite, out)
