"""Forecasters of other packages at their defaults on the sets of ``everyday.py``, with one thread.

Look-back, horizon, training rows and tested windows are those of the default `Forecaster`. A
training stops after ``--seconds`` of wall time; the column ``stopped`` says so. Appends one row per
run to ``results/everyday_peers.csv``; runs that the file holds are skipped.

    python -m benchmarks.everyday_peers
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.estimators.settings import default_context_length
from benchmarks.everyday import split
from benchmarks.everyday_sets import SETS, EverydaySet

RESULTS = Path(__file__).parent / "results" / "everyday_peers.csv"


class Outcome(NamedTuple):
    """Errors in deviations of the training rows, CPU seconds, and whether the time ran out."""

    errors: NDArray[np.float64]
    fit_cpu_seconds: float
    stopped: bool


def as_items(data: EverydaySet) -> pd.DataFrame:
    """Return a set as a long frame with the columns unique_id, ds and y; ds counts steps.

    Gaps hold the last value before them, since these packages know no gaps.
    """
    if "item_id" in data.frame:
        long = data.frame.set_axis(["unique_id", "ds", "y"], axis=1)
    else:
        plain = data.frame.reset_index(drop=True).rename_axis("ds")
        long = plain.melt(ignore_index=False, var_name="unique_id", value_name="y").reset_index()
    long["y"] = long.groupby("unique_id")["y"].transform(lambda y: y.ffill().bfill())
    # The last tested window ends with the last row, as cross-validation requires.
    rest = (data.test_rows - data.horizon) % data.stride
    position = long.groupby("unique_id").cumcount(ascending=False)
    return long[position >= rest].sort_values(["unique_id", "ds"], ignore_index=True)


def scaled_errors(found: pd.DataFrame, column: str, data: EverydaySet) -> NDArray[np.float64]:
    """Return the errors at observed targets, in deviations of the training rows."""
    train, _ = split(data)
    if "item_id" in train:
        scale = train.groupby("item_id")["value"].std()
        truth = data.frame.set_index(["item_id", "timestamp"])["value"]
    else:
        scale = train.std()
        plain = data.frame.reset_index(drop=True).rename_axis("ds")
        melted = plain.melt(ignore_index=False, var_name="unique_id", value_name="y")
        truth = melted.reset_index().set_index(["unique_id", "ds"])["y"]
    keys = pd.MultiIndex.from_frame(found[["unique_id", "ds"]])
    divisor = scale.reindex(found["unique_id"]).to_numpy()
    error = (found[column].to_numpy() - truth.reindex(keys).to_numpy()) / divisor
    return error[np.isfinite(error)]


def neuralforecast(kind: str) -> Callable[[EverydaySet, int, int, float], Outcome]:
    """Return a function that trains and tests a model of NeuralForecast."""

    def run(data: EverydaySet, context: int, seed: int, seconds: float) -> Outcome:
        from neuralforecast import NeuralForecast, models

        clock = Clock(seconds)
        model = getattr(models, kind)(
            h=data.horizon,
            input_size=context,
            random_seed=seed,
            accelerator="cpu",
            enable_progress_bar=False,
            logger=False,
            enable_checkpointing=False,
            callbacks=[clock.callback()],
        )
        long = as_items(data)
        rest = (data.test_rows - data.horizon) % data.stride
        found = NeuralForecast([model], freq=1).cross_validation(
            long,
            n_windows=None,
            test_size=data.test_rows - rest,
            step_size=data.stride,
            val_size=0,
        )
        return Outcome(scaled_errors(found, kind, data), clock.cpu, clock.stopped)

    return run


def dlinear(data: EverydaySet, context: int, seed: int, seconds: float) -> Outcome:
    """Train and test Darts' DLinear: one model for all series of a set."""
    from darts import TimeSeries
    from darts.models import DLinearModel

    long = as_items(data)
    rest = (data.test_rows - data.horizon) % data.stride
    test_rows = data.test_rows - rest
    series = {
        name: TimeSeries.from_values(group["y"].to_numpy(np.float32))
        for name, group in long.groupby("unique_id")
    }
    train = {name: whole[:-test_rows] for name, whole in series.items()}
    scale = {name: (t.values().mean(), max(t.values().std(), 1e-9)) for name, t in train.items()}
    scaled = {
        name: TimeSeries.from_values((whole.values() - scale[name][0]) / scale[name][1])
        for name, whole in series.items()
    }
    context = min(context, min(map(len, train.values())) - data.horizon)
    clock = Clock(seconds)
    model = DLinearModel(
        input_chunk_length=context,
        output_chunk_length=data.horizon,
        random_state=seed,
        pl_trainer_kwargs={
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "callbacks": [clock.callback()],
        },
    )
    model.fit([whole[:-test_rows] for whole in scaled.values()])
    parts = []
    for name, whole in scaled.items():
        forecasts = model.historical_forecasts(
            whole,
            start=len(whole) - test_rows,
            forecast_horizon=data.horizon,
            stride=data.stride,
            retrain=False,
            last_points_only=False,
        )
        for forecast in forecasts:
            values = forecast.values()[:, 0] * scale[name][1] + scale[name][0]
            steps = np.arange(len(values)) + int(forecast.start_time())
            parts.append(pd.DataFrame({"unique_id": name, "ds": steps, "DLinear": values}))
    found = pd.concat(parts, ignore_index=True)
    return Outcome(scaled_errors(found, "DLinear", data), clock.cpu, clock.stopped)


class Clock:
    """CPU time of a training, which it stops when the time is up."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.cpu, self.stopped = seconds, 0.0, False

    def callback(self) -> Any:
        """Return the Lightning callback."""
        import pytorch_lightning

        clock = self

        class Stop(pytorch_lightning.Callback):
            def on_train_start(self, *_: Any) -> None:
                clock.started = time.process_time()

            def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
                clock.cpu = time.process_time() - clock.started
                if clock.cpu > clock.seconds:
                    clock.stopped = trainer.should_stop = True

        return Stop()


PEERS = {
    "neuralforecast_patchtst": (neuralforecast("PatchTST"), "neuralforecast"),
    "neuralforecast_nhits": (neuralforecast("NHITS"), "neuralforecast"),
    "darts_dlinear": (dlinear, "darts"),
}


def main() -> None:
    """Run the peers on the sets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=120.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    done = set()
    if given.out.exists():
        table = pd.read_csv(given.out)
        done = set(zip(table["set"], table["arm"], table["seed"], strict=True))
    for name in given.sets:
        data = SETS[name]()
        context = default_context_length(data.longest)
        for peer in given.peers:
            for seed in given.seeds:
                if (name, peer, seed) in done:
                    continue
                run, package = PEERS[peer]
                cpu = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    errors, fit_cpu, stopped = run(data, context, seed, given.seconds)
                row = {
                    "protocol": "last fifth or official holdout; errors in training deviations",
                    "set": name,
                    "arm": peer,
                    "seed": seed,
                    "horizon": data.horizon,
                    "context_length": context,
                    "mae": float(np.abs(errors).mean()),
                    "mse": float((errors**2).mean()),
                    "num_errors": len(errors),
                    "fit_cpu_seconds": fit_cpu,
                    "cpu_seconds": time.process_time() - cpu,
                    "seconds_allowed": given.seconds,
                    "stopped": stopped,
                    "package": f"{package} {version(package)}",
                    **provenance(torch.device("cpu")),
                }
                append_rows(given.out, [row])
                print(f"{name:22}{peer:26}{row['mae']:.4f} {fit_cpu:.0f} s {stopped}", flush=True)


if __name__ == "__main__":
    main()
