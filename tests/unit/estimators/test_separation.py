"""Held-out rows, channels and items stay apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.metrics import seasonal_naive_scale
from tests.builders import daily_frame


def make(**parameters):
    return Forecaster(
        horizon=4,
        context_length=24,
        patcher=FixedPatcher(4),
        backbone=TransformerBackbone(d_model=8, num_layers=1),
        trainer=Trainer(max_steps=6, batch_size=16, validate_every=2, device="cpu"),
        random_state=0,
        **parameters,
    )


def test_validation_rows_do_not_reach_the_training():
    frame = daily_frame(rows=120)
    other = frame.copy()
    other.iloc[-20:] += np.random.default_rng(1).normal(size=(20, 2))
    losses = {}
    for name, given in (("frame", frame), ("other", other)):
        history = make().fit(given, refit=False, validation_rows=20).record_.history
        for key in ("train_loss", "validation_loss"):
            losses[name, key] = [entry[key] for entry in history]
    assert losses["frame", "train_loss"] == losses["other", "train_loss"]
    assert losses["frame", "validation_loss"] != losses["other", "validation_loss"]


def test_a_channel_is_forecast_by_its_own_values():
    frame = daily_frame(rows=120, channels=("a", "b", "c"))
    model = make().fit(frame)
    other = frame.copy()
    other["a"] = other["a"].to_numpy()[::-1]
    one, two = (model.predict(given).set_index("target_name") for given in (frame, other))
    assert (one.loc["a"].prediction.to_numpy() != two.loc["a"].prediction.to_numpy()).all()
    for name in ("b", "c"):
        np.testing.assert_array_equal(one.loc[name].prediction, two.loc[name].prediction)


@pytest.fixture(scope="module")
def items():
    parts = [
        (daily_frame(rows=100, channels=("y",), seed=k) * 100**k).assign(item_id=f"item {k}")
        for k in range(3)
    ]
    return pd.concat(parts).rename_axis("timestamp").reset_index()


def test_errors_are_in_units_of_the_own_item(items):
    result = make().fit(items).backtest(items)
    for k in range(3):
        values = items[items.item_id == f"item {k}"].y.to_numpy()
        own = result.naive_scale[result.item_id == f"item {k}"]
        np.testing.assert_allclose(own, seasonal_naive_scale(values, 24), rtol=1e-9)
