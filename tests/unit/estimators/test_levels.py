"""Data frames through several levels of patches: fit, predict, save, load."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    HierarchicalPatcher,
    InvalidModelError,
    MultiLevelBackbone,
    PatchTSTBackbone,
    RandomPatcher,
    Trainer,
    TransformerBackbone,
    WindowRegressor,
)
from tests.contracts.spikes import SegmentalPolicy

CONTEXT, HORIZON = 48, 6
SMALL = {"d_model": 8, "num_heads": 2, "d_ff": 16, "dropout": 0.1}


def frame(num_rows=260, gaps=0.0, seed=0):
    rng = np.random.default_rng(seed)
    step = np.arange(num_rows)
    values = {
        name: np.sin(step * np.pi / period) + 0.1 * rng.normal(size=num_rows)
        for name, period in (("a", 12), ("b", 5))
    }
    index = pd.date_range("2024-01-01", periods=num_rows, freq="h")
    df = pd.DataFrame(values, index=index)
    return df.mask(rng.random(df.shape) < gaps)


def three_levels(top=None):
    return HierarchicalPatcher(
        FixedPatcher(4, 2), HierarchicalPatcher(RandomPatcher(3), top or RandomPatcher(2))
    )


def forecaster(patcher=None, backbone=None, **parameters):
    return Forecaster(
        HORIZON,
        CONTEXT,
        patcher=three_levels() if patcher is None else patcher,
        backbone=PatchTSTBackbone(num_layers=3, **SMALL) if backbone is None else backbone,
        trainer=Trainer(max_steps=6, batch_size=16),
        random_state=0,
        **parameters,
    )


EXPLICIT = MultiLevelBackbone(
    TransformerBackbone(num_layers=1, **SMALL),
    MultiLevelBackbone(
        PatchTSTBackbone(num_layers=1, **SMALL), TransformerBackbone(d_model=16, num_layers=2)
    ),
    TransformerBackbone(num_layers=1, **SMALL),
)


@pytest.mark.parametrize(
    "backbone", [None, TransformerBackbone(num_layers=5, **SMALL), EXPLICIT, "transformer"]
)
@pytest.mark.parametrize("patcher", [three_levels(), "hierarchical"])
def test_a_model_of_levels_predicts_the_same_after_loading(tmp_path, backbone, patcher):
    if patcher == "hierarchical" and backbone is EXPLICIT:
        patcher = three_levels(FixedPatcher(compression_rate=2))
    model = forecaster(patcher, backbone).fit(frame())
    expected = model.predict()
    again = Forecaster.load(model.save(tmp_path / "model"))
    pd.testing.assert_frame_equal(again.predict(), expected)
    assert repr(again.patcher_) == repr(model.patcher_)
    assert isinstance(again.network_.backbone, MultiLevelBackbone)
    other = frame(seed=3)
    pd.testing.assert_frame_equal(again.predict(other), model.predict(other))
    # What was loaded can be trained again, saved again, and goes on from itself.
    twice = again.fit(frame(), init=model)
    assert np.isfinite(twice.predict()["prediction"]).all()
    assert Forecaster.load(twice.save(tmp_path / "second")).predict().equals(twice.predict())


def test_learned_levels_are_saved_with_their_weights(tmp_path):
    patcher = HierarchicalPatcher(
        FixedPatcher(compression_rate=2),
        HierarchicalPatcher(SegmentalPolicy(8), SegmentalPolicy(3)),
    )
    model = forecaster(patcher).fit(frame())
    saved = model.save(tmp_path / "model")
    with pytest.raises(InvalidModelError, match="segmental_spike.*classes="):
        Forecaster.load(saved)
    again = Forecaster.load(saved, classes=[SegmentalPolicy])
    assert again.predict().equals(model.predict())
    found, expected = again.patcher_.state_dict(), model.patcher_.state_dict()
    assert any(key.startswith("coarse.coarse.encoder") for key in found)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    start = forecaster(patcher).make_network().patcher.state_dict()
    assert any(not torch.equal(found[key], start[key]) for key in found)
    assert json.loads((saved / "config.json").read_text())  # plain JSON, however nested


@pytest.mark.parametrize("backbone", [None, TransformerBackbone(num_layers=3, **SMALL)])
def test_a_forecast_does_not_depend_on_the_other_series(backbone):
    model = forecaster(backbone=backbone).fit(frame())
    long = [
        frame(seed=seed)[["a", "b"]].reset_index(names="timestamp").assign(item_id=f"s{seed}")
        for seed in range(70)
    ]
    together = model.predict(pd.concat(long, ignore_index=True))
    for number in (0, 17, 69):
        alone = model.predict(long[number])
        rows = together[together["item_id"] == f"s{number}"]
        assert (rows["prediction"].to_numpy() == alone["prediction"].to_numpy()).all()


def test_gaps_and_shared_patches_and_quantiles():
    model = forecaster(missing="mask", share_segmentation=True, quantiles=(0.1, 0.5, 0.9))
    model.fit(frame(gaps=0.2))
    forecast = model.predict()
    assert np.isfinite(forecast.select_dtypes("number")).all().all()
    assert model.predict().equals(forecast)


def test_nested_parameters_reach_every_level():
    model = forecaster().set_params(
        patcher__fine__patch_length=3,
        patcher__coarse__coarse__compression_rate=4,
        backbone__num_layers=5,
    )
    patcher = model.make_network().patcher
    mode = patcher(torch.zeros(1, CONTEXT)).mode
    assert (mode.capacity, mode.parent.capacity, mode.parent.parent.capacity) == (24, 8, 2)
    assert model.make_network().backbone.inner.decoder is not None


def test_two_fits_with_one_seed_are_identical():
    first, second = forecaster().fit(frame()), forecaster().fit(frame())
    assert first.predict().equals(second.predict())


@pytest.mark.parametrize("context_length", [1, 2, 5, 40])
def test_array_face_of_any_look_back(context_length):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, context_length)), rng.normal(size=40)
    model = WindowRegressor(
        patcher="hierarchical",
        backbone=TransformerBackbone(num_layers=3, **SMALL),
        trainer=Trainer(max_steps=3),
        random_state=0,
    ).fit(X, y)
    assert model.predict(X).shape == (40,)
    assert (model.predict(X[7:9]) == model.predict(X)[7:9]).all()
