"""What an earlier version saved is loaded, resumed and forecast with the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptivepatch import Forecaster, ReinPatcher, load_patcher
from tests.compatibility.save import make_forecaster, make_frame

SAVED = Path(__file__).with_name("saved")
NUMBERS = json.loads((SAVED / "numbers.json").read_text(encoding="utf-8"))


def forecast_of(model):
    return model.predict().select_dtypes("number").to_numpy()


def test_a_model_is_loaded():
    model = Forecaster.load(SAVED / "model")
    np.testing.assert_allclose(forecast_of(model), NUMBERS["forecast"], rtol=1e-5, atol=1e-6)
    assert model.segment()["length"].tolist() == NUMBERS["lengths"]
    assert [row["validation_loss"] for row in model.record_.history] == NUMBERS["history"]
    assert str(model.history_.index[0].tz) == "Europe/Berlin"
    assert model.channels_ == ("a", "b")


def test_a_patcher_is_loaded_with_its_weights():
    patcher = load_patcher(SAVED / "patcher")
    assert isinstance(patcher, ReinPatcher)
    fine = Forecaster.load(SAVED / "model").patcher_.fine
    for name, weight in patcher.state_dict().items():
        assert weight.equal(fine.state_dict()[name]), name


def test_a_checkpoint_is_resumed(tmp_path):
    shutil.copytree(SAVED / "checkpoint", tmp_path / "checkpoint")
    model = make_forecaster().fit(make_frame(), resume=tmp_path / "checkpoint")
    losses = [row["validation_loss"] for row in model.record_.history]
    assert losses == pytest.approx(NUMBERS["history"], rel=1e-5)
    np.testing.assert_allclose(forecast_of(model), NUMBERS["forecast"], rtol=1e-4, atol=1e-5)
