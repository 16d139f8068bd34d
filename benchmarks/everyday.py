"""Default settings beside tuned ones and naive forecasts, on real sets, with one thread.

Every arm forecasts the same windows. Errors are divided by the standard deviation of the training
rows, per series, and averaged; a run is one row of ``results/everyday.csv``. Runs that the file
holds are skipped.

    python benchmarks/everyday.py
    python benchmarks/everyday.py --arms default --data FILE --horizon H
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptivepatch import FixedPatcher, Forecaster, PatchTSTBackbone, Trainer, TransformerBackbone
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from benchmarks.everyday_sets import SETS, EverydaySet, wide

RESULTS = Path(__file__).parent / "results" / "everyday.csv"
ROWS = 256  # rows of a batch of the tuned settings


def tuned(
    steps: int,
    learning_rate: float,
    d_model: int,
    num_layers: int,
    dropout: float,
    patch_length: int,
    context: int,
    embedding: str,
    loss: str,
    backbone: str = "patchtst",
) -> Callable[[EverydaySet], Forecaster]:
    """Return a function that makes a forecaster with these settings for a set."""

    def make(data: EverydaySet) -> Forecaster:
        kind = {"patchtst": PatchTSTBackbone, "transformer": TransformerBackbone}[backbone]
        return Forecaster(
            data.horizon,
            context_length=context if data.longest > 2 * context else max(24, data.longest // 4),
            patcher=FixedPatcher(patch_length),
            backbone=kind(d_model, num_layers, 4, 2 * d_model, dropout),
            embedding=embedding,
            loss=loss,
            missing="mask",
            trainer=Trainer(
                max_steps=steps,
                batch_size=max(1, round(ROWS / data.channels)),
                learning_rate=learning_rate,
            ),
        )

    return make


TUNED = {
    "t01": tuned(400, 3e-3, 32, 2, 0.1, 16, 336, "resampled", "mae"),
    "t02": tuned(400, 3e-3, 32, 2, 0.1, 16, 336, "both", "mae"),
    "t03": tuned(400, 3e-3, 32, 2, 0.1, 16, 336, "resampled", "mse"),
    "t04": tuned(400, 1e-3, 32, 2, 0.1, 16, 336, "both", "mae"),
    "t05": tuned(400, 3e-3, 16, 3, 0.3, 16, 336, "both", "mae"),
    "t06": tuned(400, 3e-3, 32, 2, 0.1, 24, 336, "both", "mae"),
    "t07": tuned(400, 3e-3, 32, 2, 0.1, 24, 672, "both", "mae"),
    "t08": tuned(400, 3e-3, 32, 2, 0.1, 16, 168, "both", "mae"),
    "t09": tuned(400, 3e-3, 64, 2, 0.1, 16, 336, "both", "mae"),
    "t10": tuned(400, 3e-3, 32, 2, 0.1, 16, 336, "both", "mae", "transformer"),
    "t11": tuned(400, 3e-3, 32, 2, 0.3, 16, 336, "both", "mae"),
    "t12": tuned(1000, 3e-3, 32, 2, 0.1, 16, 336, "resampled", "mae"),
    "t13": tuned(1000, 3e-3, 32, 2, 0.2, 16, 336, "both", "mae"),
    "t14": tuned(150, 5e-3, 32, 2, 0.1, 24, 336, "both", "mae"),
    "t15": tuned(400, 3e-3, 64, 2, 0.2, 16, 336, "resampled", "mae"),
    "t16": tuned(600, 5e-3, 32, 2, 0.2, 16, 336, "both", "mae"),
    "t17": tuned(400, 3e-3, 64, 3, 0.2, 16, 512, "resampled", "huber"),
    "t18": tuned(400, 3e-3, 32, 2, 0.1, 16, 336, "both", "huber"),
    "t19": tuned(400, 3e-3, 64, 2, 0.1, 16, 336, "resampled", "mae", "transformer"),
    "t20": tuned(400, 3e-3, 32, 2, 0.1, 8, 336, "resampled", "mae"),
}
ARMS: dict[str, Callable[[EverydaySet], Forecaster]] = {
    "default": lambda data: Forecaster(data.horizon, missing="mask"),
    "old_default": lambda data: Forecaster(
        data.horizon,
        context_length=336,
        backbone="patchtst",
        loss="mse",
        missing="mask",
        trainer=Trainer(max_steps=1000, batch_size=32, learning_rate=1e-3, validation_share=None),
    ),
    **TUNED,
}


def split(data: EverydaySet) -> tuple[pd.DataFrame, Any]:
    """Return the training rows and the first tested stamp, None where items end at unlike steps."""
    frame = data.frame
    if "item_id" not in frame:
        return frame.iloc[: -data.test_rows], frame.index[-data.test_rows]
    position = frame.groupby("item_id").cumcount(ascending=False)
    return frame[position >= data.test_rows], None


class Scores:
    """Errors of the forecasts of one set, in deviations of the training rows."""

    def __init__(self, data: EverydaySet) -> None:
        self.data = data
        self.train, self.start = split(data)

    def windows(self, model: Forecaster) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return forecasts and observed values of the tested windows, divided by deviations."""
        if self.start is not None:
            tested = model.backtest(self.data.frame, stride=self.data.stride, start=self.start)
            scale = self.train.std().to_numpy()  # channels are sorted by name
            order = np.argsort(self.train.columns.to_numpy())
            return tested.prediction / scale[order], tested.actual / scale[order]
        found = model.predict().set_index(["item_id", "timestamp"])["prediction"]
        truth = self.data.frame.set_index(["item_id", "timestamp"])["value"].reindex(found.index)
        scale = self.train.groupby("item_id")["value"].std()
        divisor = scale.reindex(found.index.get_level_values(0)).to_numpy()
        keep = divisor > 0
        return found.to_numpy()[keep] / divisor[keep], truth.to_numpy()[keep] / divisor[keep]

    def naive(self) -> dict[str, tuple[float, float]]:
        """Return MAE and MSE of the last value and of each seasonal naive forecast."""
        return {f"season {lag}": self._naive(lag) for lag in (1, *self.data.seasons)}

    def _naive(self, lag: int) -> tuple[float, float]:
        data, errors = self.data, []
        wide_frame = self.start is not None
        groups = (
            [(None, data.frame[name]) for name in data.frame]
            if wide_frame
            else list(data.frame.groupby("item_id")["value"])
        )
        for _, series in groups:
            values = series.to_numpy(dtype=float)
            first = len(values) - data.test_rows
            scale = np.nanstd(values[:first], ddof=1)
            if not scale > 0:
                continue
            filled = pd.Series(values).ffill().to_numpy()
            ahead = np.arange(data.horizon)
            cutoffs = range(first - 1, len(values) - data.horizon, data.stride)
            for cutoff in cutoffs:
                past = cutoff - lag + 1 + ahead % lag
                if past[0] < 0:
                    continue
                errors.append((filled[past] - values[cutoff + 1 + ahead]) / scale)
        found = np.concatenate(errors)
        return float(np.nanmean(np.abs(found))), float(np.nanmean(found**2))


def run(name: str, data: EverydaySet, arm: str, seed: int) -> dict[str, Any]:
    """Return the row of one fit."""
    scores = Scores(data)
    model = ARMS[arm](data).set_params(random_state=seed)
    started, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(scores.train, **({"short": "skip"} if scores.start is None else {}))
        fit_cpu = time.process_time() - cpu
        prediction, actual = scores.windows(model)
    error = prediction - actual
    naive = {lag: errors[0] for lag, errors in scores.naive().items()}
    best = min(naive, key=naive.__getitem__)
    return {
        "protocol": "last fifth or official holdout; errors in training deviations",
        "set": name,
        "arm": arm,
        "seed": seed,
        "horizon": data.horizon,
        "mae": float(np.nanmean(np.abs(error))),
        "mse": float(np.nanmean(error**2)),
        "naive": best,
        "naive_mae": naive[best],
        "skill": 1 - float(np.nanmean(np.abs(error))) / naive[best],
        "best_step": model.record_.best_step,
        "fit_cpu_seconds": fit_cpu,
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - started,
        **provenance(torch.device("cpu")),
        "settings": " ".join(repr(model).split()),
    }


def main() -> None:
    """Run the arms on the sets, set after set within an arm."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--data", type=Path, help="a CSV file of your own, stamps first")
    parser.add_argument("--horizon", type=int, help="horizon for --data")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: SETS[name] for name in given.sets}
    if given.data is not None:
        frame = pd.read_csv(given.data, index_col=0, parse_dates=True)
        own = wide(frame, given.horizon, (24, 168), rows=len(frame))
        sets = {given.data.stem: lambda: own}
    loaded = {name: make() for name, make in sets.items()}
    done = set()
    if given.out.exists():
        table = pd.read_csv(given.out)
        done = set(zip(table["set"], table["arm"], table["seed"], strict=True))
    for arm in given.arms:
        for seed in given.seeds:
            for name, data in loaded.items():
                if (name, arm, seed) not in done:
                    row = run(name, data, arm, seed)
                    append_rows(given.out, [row])
                    score = f"{row['mae']:.4f} {row['skill']:+.3f} {row['fit_cpu_seconds']:.0f} s"
                    print(f"{name:22}{arm:8}{seed:2} {score}", flush=True)


if __name__ == "__main__":
    main()
