"""Calibration of nine quantile forecasts on ETTh1-96, with a seasonal naive forecast as baseline.

The baseline repeats the last day and adds, per step and channel, the quantiles of its errors on
training windows. Appends to ``results/quantiles.csv``.

    ADAPTIVEPATCH_DATA=... python benchmarks/quantiles.py --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from adaptivepatch import FixedPatcher, Forecaster, PatchTSTBackbone, Trainer, metrics
from adaptivepatch.bench.ltsf_data import load_ltsf
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import Windows, make_windows

RESULTS = Path(__file__).parent / "results" / "quantiles.csv"
HORIZON, CONTEXT, SEASON = 96, 336, 24
QUANTILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def seasonal_naive(windows: Windows) -> np.ndarray:
    """Repeat the last day of each look-back, shape (windows, horizon, channels)."""
    season = windows.past()[:, -SEASON:]
    return np.tile(season, (1, -(-HORIZON // SEASON), 1))[:, :HORIZON]


def main() -> None:
    """Train, forecast every test window with both models, and append their rows."""
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
        quantiles=QUANTILES,
        trainer=Trainer(max_steps=arguments.steps, validate_every=100, patience=3, device="cpu"),
        random_state=arguments.seed,
    )
    validation_rows = borders.val_end - borders.train_end
    model.fit(frame[: borders.val_end], validation_rows=validation_rows, refit=False)
    test = model.backtest(frame.iloc[borders.val_end - CONTEXT :])

    training = make_windows(read_frame(frame[: borders.train_end]), CONTEXT, HORIZON)
    residuals = np.quantile(training.future() - seasonal_naive(training), QUANTILES, axis=0)
    naive = seasonal_naive(test.windows)[..., None] + residuals.transpose(1, 2, 0)[None]

    scaling, item = model.scaling_, test.windows.item
    actual = scaling.transform(test.actual, item)
    rows = []
    for name, predicted in (("patchtst", test.quantile_prediction), ("seasonal_naive", naive)):
        scaled = scaling.transform(predicted, item, channel_axis=-2)
        rows.append(
            {
                "dataset": "ETTh1",
                "protocol": "ltsf",
                "horizon": HORIZON,
                "context_length": CONTEXT,
                "seed": arguments.seed,
                "steps": arguments.steps,
                "model": name,
                "num_windows": len(test),
                "num_crossings": int((np.diff(scaled, axis=-1) < 0).sum()),
                "coverage_80": metrics.coverage(actual, scaled[..., 0], scaled[..., -1]),
                "quantile_loss": metrics.quantile_loss(actual, scaled, QUANTILES),
                **origin,
            }
        )
    append_rows(arguments.out, rows)


if __name__ == "__main__":
    main()
