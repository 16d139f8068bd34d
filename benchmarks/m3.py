"""Forecasts of all 3,003 series of the M3 competition, from four fits with one thread.

Series have 20 to 144 values and no dates, so their index is the row number. The last H values of
each series, the official holdout, are forecast by a model that was fitted without them. Appends one
row per frequency group and one for all to ``results/m3.csv``. Times are of a shared machine.

    python benchmarks/m3.py
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.bench.result_row import as_json, provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.metrics import smape

RESULTS = Path(__file__).parent / "results" / "m3.csv"
FILE = Path("pretrain") / "m3_competition.parquet"
SEED = 0


class Group(NamedTuple):
    """A frequency with its official horizon and season, and with our look-back and patch length."""

    name: str
    horizon: int
    season: int
    context_length: int
    patch_length: int


GROUPS = (
    Group("yearly", 6, 1, 24, 3),
    Group("quarterly", 8, 4, 32, 4),
    Group("monthly", 18, 12, 72, 6),
    Group("other", 8, 1, 48, 4),
)


class Outcome(NamedTuple):
    """Holdouts and forecasts of shape (series, horizon), and the time of fit and forecast."""

    actual: NDArray[np.float64]
    prediction: NDArray[np.float64]
    naive: NDArray[np.float64]
    wall_seconds: float
    cpu_seconds: float


def read_series(group: str) -> dict[str, NDArray[np.float64]]:
    """Return the values of each series of a group."""
    table = pd.read_parquet(Path(os.environ["ADAPTIVEPATCH_DATA"]) / FILE)
    rows = table[table.freq == group].itertuples()
    return {row.series_id: np.asarray(row.q, dtype=np.float64) / 10.0**row.k for row in rows}


def make_forecaster(group: Group) -> Forecaster:
    """Return the untrained model of a group."""
    return Forecaster(
        horizon=group.horizon,
        context_length=group.context_length,
        patcher=FixedPatcher(patch_length=group.patch_length),
        backbone=TransformerBackbone(d_model=32, num_layers=2),
        loss="mae",
        trainer=Trainer(max_steps=300, batch_size=128, validate_every=50, device="cpu"),
        random_state=SEED,
    )


def measure(group: Group) -> Outcome:
    """Fit the series of a group without their holdouts, and forecast the holdouts."""
    series, horizon = read_series(group.name), group.horizon
    known = [values[:-horizon] for values in series.values()]
    frame = pd.DataFrame(
        {
            "item_id": np.repeat(list(series), [len(values) for values in known]),
            "timestamp": np.concatenate([np.arange(len(values)) for values in known]),
            "y": np.concatenate(known),
        }
    )
    wall, cpu = time.perf_counter(), time.process_time()
    forecast = make_forecaster(group).fit(frame).predict()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert forecast.item_id.drop_duplicates().tolist() == list(series)
    latest = np.arange(horizon) % group.season - group.season  # the last season, repeated
    return Outcome(
        actual=np.stack([values[-horizon:] for values in series.values()]),
        prediction=forecast.prediction.to_numpy().reshape(-1, horizon),
        naive=np.stack([values[latest] for values in known]),
        wall_seconds=wall,
        cpu_seconds=cpu,
    )


def mean_smape(parts: list[Outcome], which: str) -> float:
    """Return the sMAPE as in the competition: the mean over all steps of all series."""
    errors = [smape(part.actual, getattr(part, which), axis=1) for part in parts]
    weights = [part.actual.shape[1] for part in parts]
    total = sum(float(np.sum(error)) * w for error, w in zip(errors, weights, strict=True))
    return total / sum(part.actual.size for part in parts)


def describe(group: Group) -> str:
    """Return the settings of a group as JSON."""
    forecaster = make_forecaster(group)
    names = ("context_length", "patcher", "backbone", "loss", "trainer")
    settings = {name: str(getattr(forecaster, name)) for name in names}
    return as_json({"season": group.season, **settings})


def main() -> None:
    """Measure the four groups in turn, and all series together."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    origin = provenance(torch.device("cpu"))
    outcomes = {group.name: [measure(group)] for group in GROUPS}
    settings = {group.name: describe(group) for group in GROUPS} | {"all": "as above"}
    horizons = {group.name: str(group.horizon) for group in GROUPS} | {"all": "6, 8, 18, 8"}
    outcomes["all"] = [part for parts in outcomes.values() for part in parts]
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = kilobytes / 1024 / (1024 if sys.platform == "darwin" else 1)  # macOS counts bytes
    rows = [
        {
            "protocol": "last H held out; fit and predict, one thread",
            "group": name,
            "horizon": horizons[name],
            "num_series": sum(len(part.prediction) for part in parts),
            "smape": mean_smape(parts, "prediction"),
            "smape_seasonal_naive": mean_smape(parts, "naive"),
            "wall_seconds": sum(part.wall_seconds for part in parts),
            "cpu_seconds": sum(part.cpu_seconds for part in parts),
            "peak_mb_of_process": peak,
            "seed": SEED,
            "settings": settings[name],
            **origin,
        }
        for name, parts in outcomes.items()
    ]
    append_rows(out, rows)


if __name__ == "__main__":
    main()
