"""Fits neither depend on what the caller has set in torch nor change it."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    Forecaster,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
    WindowRegressor,
    load_patcher,
    segment,
)

STEP = np.arange(120)
FRAME = pd.DataFrame(
    {"v": np.sin(STEP / 4) + 0.1 * np.cos(STEP)},
    index=pd.date_range("2024-01-01", periods=120, freq="h"),
)


def forecaster(seed=0):
    return Forecaster(
        4,
        24,
        patcher=ReinPatcher(6),
        backbone=TransformerBackbone(d_model=8, num_layers=1),
        trainer=Trainer(max_steps=4, validate_every=2, device="cpu"),
        random_state=seed,
    )


def regressor():
    trainer = Trainer(max_steps=4, validate_every=2, device="cpu")
    return WindowRegressor(
        ReinPatcher(6),
        TransformerBackbone(d_model=8, num_layers=1),
        trainer=trainer,
        random_state=0,
    )


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "meta device": lambda: torch.device("meta"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    model = forecaster().fit(FRAME)
    model.save(folder / "model")
    model.patcher_.save_pretrained(folder / "patcher")
    X = np.lib.stride_tricks.sliding_window_view(FRAME["v"].to_numpy(), 28)
    windows = regressor().fit(X[:, :24], X[:, 24:])
    return {
        "folder": folder,
        "model": model,
        "forecast": model.predict(),
        "patches": model.segment(),
        "backtest": model.backtest(FRAME, stride=8).prediction,
        "X": X,
        "regression": windows.predict(X[:5, :24]),
        "cut": segment(model.patcher_, FRAME, 24),
    }


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_callers_context_changes_nothing(plain, context):
    with CONTEXTS[context]():
        model = forecaster().fit(FRAME)
        loaded = Forecaster.load(plain["folder"] / "model")
        for one in (model, loaded, plain["model"]):
            pd.testing.assert_frame_equal(one.predict(), plain["forecast"], check_exact=True)
            pd.testing.assert_frame_equal(one.segment(), plain["patches"], check_exact=True)
        assert (model.backtest(FRAME, stride=8).prediction == plain["backtest"]).all()
        windows = regressor().fit(plain["X"][:, :24], plain["X"][:, 24:])
        assert (windows.predict(plain["X"][:5, :24]) == plain["regression"]).all()
        patcher = load_patcher(plain["folder"] / "patcher")
        pd.testing.assert_frame_equal(segment(patcher, FRAME, 24), plain["cut"], check_exact=True)
    for weight in model.network_.parameters():
        assert weight.requires_grad and not weight.is_inference()  # noqa: PT018
        assert weight.dtype == torch.float32


def test_nothing_that_the_caller_has_set_changes(plain):
    one, other = forecaster(), forecaster()  # a patcher draws its weights when it is made
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with default_dtype(torch.float64), torch.no_grad():
        one.fit(FRAME).save(plain["folder"] / "again", overwrite=True)
        loaded = Forecaster.load(plain["folder"] / "again")
        other.fit(FRAME, init=loaded)
        loaded.make_network()
        loaded.predict()
        load_patcher(plain["folder"] / "patcher")
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_default_dtype() == torch.float64
        assert not torch.is_grad_enabled()


def test_fits_in_threads_are_those_of_one_after_the_other():
    expected = [forecaster(seed).fit(FRAME).predict() for seed in (0, 1)]
    models = [forecaster(number % 2) for number in range(4)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found: dict[int, pd.DataFrame] = {}

    def fit(number):
        found[number] = models[number].fit(FRAME).predict()

    threads = [threading.Thread(target=fit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, forecast in found.items():
        pd.testing.assert_frame_equal(forecast, expected[number % 2], check_exact=True)
    assert len(found) == 4
    assert torch.equal(torch.get_rng_state(), before)
