"""Increase of the error on ETTh1-96 when points of the look-back are missing at random.

A model is trained on complete data. It forecasts every test window from look-backs in which a share
of the points was removed and filled in three ways. Appends to ``results/gaps.csv``.

    ADAPTIVEPATCH_DATA=... python benchmarks/gaps.py --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adaptivepatch import FixedPatcher, Forecaster, PatchTSTBackbone, Trainer
from adaptivepatch.bench.ltsf_data import load_ltsf
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.training.inference import predict_windows

RESULTS = Path(__file__).parent / "results" / "gaps.csv"
HORIZON, CONTEXT = 96, 336


def last_value(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill with the last observed value; before the first one, with the first."""
    observed = ~np.isnan(rows)
    step = np.where(observed, np.arange(rows.shape[1]), -1)
    before = np.maximum.accumulate(step, axis=1)
    return np.take_along_axis(rows, np.where(before < 0, observed.argmax(1)[:, None], before), 1)


def window_mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill with the mean of the observed points of the window, which is 0 in normalised units."""
    return np.where(np.isnan(rows), np.nanmean(rows, axis=1, keepdims=True), rows)


FILLINGS = {"mask": lambda rows: rows, "last_value": last_value, "window_mean": window_mean}


def main() -> None:
    """Train once, and forecast once per share and filling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frame, borders = load_ltsf("ETTh1")
    origin = provenance(torch.device("cpu"))
    model = Forecaster(
        HORIZON,
        CONTEXT,
        patcher=FixedPatcher(16),
        backbone=PatchTSTBackbone(),
        trainer=Trainer(max_steps=arguments.steps, validate_every=100, patience=3, device="cpu"),
        missing="mask",
        random_state=arguments.seed,
    )
    validation_rows = borders.val_end - borders.train_end
    model.fit(frame[: borders.val_end], validation_rows=validation_rows, refit=False)

    test = model.backtest(frame.iloc[borders.val_end - CONTEXT :])
    past = model.scaling_.transform(test.windows.past(), test.windows.item)
    actual = model.scaling_.transform(test.actual, test.windows.item)
    rows = past.transpose(0, 2, 1).reshape(-1, CONTEXT)
    target = actual.transpose(0, 2, 1).reshape(-1, HORIZON)

    def mse(filled: NDArray[np.float64]) -> float:
        observed = torch.as_tensor(~np.isnan(filled))
        series = torch.as_tensor(np.nan_to_num(filled), dtype=torch.float32)
        complete = bool(observed.all())

        def lookbacks(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
            return series[windows], None if complete else observed[windows], None

        forecast = predict_windows(model.network_, lookbacks, torch.arange(len(series)))
        return float(np.mean((forecast.numpy() - target) ** 2))

    whole = mse(rows)
    generator = np.random.default_rng(arguments.seed)
    table = []
    for share in (0.1, 0.3, 0.5):
        holed = np.where(generator.random(rows.shape) < share, np.nan, rows)
        for name, fill in FILLINGS.items():
            error = mse(fill(holed))
            table.append(
                {
                    "dataset": "ETTh1",
                    "protocol": "ltsf",
                    "horizon": HORIZON,
                    "context_length": CONTEXT,
                    "seed": arguments.seed,
                    "steps": arguments.steps,
                    "num_windows": len(test),
                    "missing_share": share,
                    "filling": name,
                    "test_mse": error,
                    "test_mse_complete": whole,
                    "increase_percent": 100 * (error / whole - 1),
                    **origin,
                }
            )
    append_rows(arguments.out, table)


if __name__ == "__main__":
    main()
