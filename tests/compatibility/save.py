"""Save a model, a patcher and a checkpoint, and what they forecast.

    python tests/compatibility/save.py FOLDER

The folder ``saved`` was written in this way by commit 8d34afa, before the packages were regrouped.
It stays as it is: later versions must load it and forecast the same.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    HierarchicalPatcher,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
)

STOP_AT = 8


class Stopped(Exception):
    """Ends a training after a checkpoint."""


def make_frame() -> pd.DataFrame:
    """Two channels with gaps."""
    rng = np.random.default_rng(0)
    step = np.arange(200)
    index = pd.date_range("2024-01-01", periods=200, freq="h", tz="Europe/Berlin")
    columns = {"b": np.sin(step / 4), "a": np.cos(step / 6)}
    frame = pd.DataFrame({k: v + rng.normal(0, 0.3, 200) for k, v in columns.items()}, index)
    frame.iloc[40:50, 0] = np.nan
    return frame


def make_forecaster() -> Forecaster:
    """A small forecaster with a learned patcher on two levels."""
    return Forecaster(
        horizon=8,
        context_length=48,
        patcher=HierarchicalPatcher(ReinPatcher(4), FixedPatcher(2)),
        backbone=TransformerBackbone(d_model=8, num_layers=2),
        quantiles=[0.1, 0.5, 0.9],
        missing="mask",
        loss="mse",  # settings that were the defaults of that version are stated here
        trainer=Trainer(
            max_steps=12,
            batch_size=8,
            learning_rate=1e-3,
            validate_every=4,
            validation_share=None,
            device="cpu",
        ),
        random_state=3,
    )


def stop(step: int, metrics: dict[str, float]) -> None:
    """Raise at the second validation."""
    if step == STOP_AT:
        raise Stopped


def main(folder: Path) -> None:
    """Write everything."""
    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    frame = make_frame()
    model = make_forecaster().fit(frame)
    model.save(folder / "model")
    model.patcher_.fine.save_pretrained(folder / "patcher")
    with suppress(Stopped):
        make_forecaster().fit(frame, checkpoint=folder / "checkpoint", callback=stop)
    numbers = {
        "forecast": model.predict().select_dtypes("number").to_numpy().tolist(),
        "lengths": model.segment()["length"].tolist(),
        "history": [row["validation_loss"] for row in model.record_.history],
    }
    (folder / "numbers.json").write_text(json.dumps(numbers), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
