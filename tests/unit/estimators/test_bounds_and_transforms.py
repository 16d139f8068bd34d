"""Forecasts that stay within bounds, and transforms that are undone in every result."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidModelError,
    InvalidParameterError,
    Trainer,
    TransformerBackbone,
)
from adaptivepatch.data.transforms import TRANSFORMS

QUANTILES = [0.05, 0.5, 0.95]


def make(**parameters):
    defaults = {
        "horizon": 4,
        "context_length": 24,
        "patcher": FixedPatcher(4),
        "backbone": TransformerBackbone(d_model=8, num_layers=1),
        "trainer": Trainer(max_steps=8, batch_size=16, validate_every=4, device="cpu"),
        "random_state": 0,
    }
    return Forecaster(**(defaults | parameters))


def counts(rows=150, items="abc", low=0):
    """Counts of two channels with nights of zeros and at most 40 by day."""
    rng, step = np.random.default_rng(0), np.arange(rows)
    day = np.exp(2 * np.sin(step * np.pi / 12))
    parts = [
        pd.DataFrame(
            {
                "item_id": item,
                "timestamp": pd.date_range("2024-01-01", periods=rows, freq="h"),
                "x": low + rng.poisson(day * 4**k).clip(max=40),
                "y": low + rng.poisson(day[::-1]),
            }
        )
        for k, item in enumerate(items)
    ]
    return pd.concat(parts, ignore_index=True)


def cubes(rows=120):
    """Positive values whose exponents are not at a limit."""
    frame = counts(rows)
    normal = np.random.default_rng(1).normal(5, 1, (len(frame), 2)).clip(1)
    return frame.assign(x=normal[:, 0] ** 3, y=normal[:, 1] ** 2)


def numbers(forecast):
    return forecast.select_dtypes("float").to_numpy()


# --------------------------------------------------------------------------------------- bounds


@pytest.fixture(scope="module")
def models():
    """The same fit without and with bounds."""
    bounds = (None, (0, 40.5), (0, None))
    return [make(quantiles=QUANTILES, bounds=each).fit(counts()) for each in bounds]


def test_bounds_clip_all_forecasts_and_change_nothing_else(models):
    free, both, low = models
    assert free.record_.history[0]["validation_loss"] == both.record_.history[0]["validation_loss"]
    forecast, table = free.predict(), free.backtest(counts()).to_frame()
    assert numbers(table).min() < 0
    assert numbers(table.drop(columns="actual")).max() > 40.5
    for model, high in ((both, 40.5), (low, np.inf)):
        np.testing.assert_array_equal(numbers(model.predict()), numbers(forecast).clip(0, high))
        found = model.backtest(counts()).to_frame()
        names = ["prediction", "0.05", "0.5", "0.95"]
        np.testing.assert_array_equal(found[names], table[names].clip(0, high))
        np.testing.assert_array_equal(found["actual"], table["actual"])
        assert (np.diff(found[names[1:]], axis=1) >= 0).all()


def test_bounds_that_hold_never_raise_an_error(models):
    free, _, low = models
    before, after = (model.backtest(counts()).metrics().loc["all"] for model in (free, low))
    for name in ("MSE", "MAE", "MASE", "QuantileLoss"):
        assert after[name] < before[name]


def test_nonnegative_means_a_low_bound_of_0(models):
    named = make(quantiles=QUANTILES, bounds="nonnegative").fit(counts())
    assert named.predict().equals(models[2].predict())


def test_forecasts_that_are_fed_back_are_clipped():
    free, bounded = (make(bounds=bounds).fit(counts()) for bounds in (None, "nonnegative"))
    one, two = (each.predict(horizon=30, recursive=True) for each in (free, bounded))
    assert one.prediction.min() < 0
    assert two.prediction.min() == 0
    assert not two.prediction.equals(one.prediction.clip(0))  # later steps see clipped ones


def test_a_backtest_with_refits_is_clipped():
    frame = counts(rows=110, items="ab")
    start = frame.timestamp[90]
    arguments = {"start": start, "refit_every": 10, "stride": 5}
    free, bounded = (
        make(bounds=bounds).fit(frame).backtest(frame, **arguments).prediction
        for bounds in (None, (0, None))
    )
    assert free.min() < 0
    np.testing.assert_array_equal(bounded, free.clip(0))


# ------------------------------------------------------------------------------------ transforms


def test_log1p_is_the_forecast_of_logarithms():
    frame = counts()
    logs = frame.assign(x=np.log1p(frame.x), y=np.log1p(frame.y))
    inside, outside = make(transform="log1p").fit(frame), make().fit(logs)
    expected = np.expm1(numbers(outside.predict()))
    np.testing.assert_array_equal(numbers(inside.predict()), expected)
    own, theirs = inside.backtest(frame, stride=3), outside.backtest(logs, stride=3)
    np.testing.assert_array_equal(own.prediction, np.expm1(theirs.prediction))
    np.testing.assert_allclose(own.actual, np.expm1(theirs.actual), atol=1e-12)
    far = inside.predict(horizon=11, recursive=True)
    expected = np.expm1(numbers(outside.predict(horizon=11, recursive=True)))
    np.testing.assert_allclose(numbers(far), expected, rtol=1e-4)
    assert inside.segment(frame).equals(outside.segment(logs))
    series = [m.segment(f, by="series") for m, f in ((inside, frame), (outside, logs))]
    pd.testing.assert_frame_equal(*series)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_errors_are_in_original_units(transform):
    frame = counts(low=1)
    model = make(transform=transform, quantiles=QUANTILES).fit(frame)
    plain = make(quantiles=QUANTILES).fit(frame)
    result, other = model.backtest(frame, stride=5), plain.backtest(frame, stride=5)
    np.testing.assert_array_equal(result.actual, other.actual)
    np.testing.assert_array_equal(result.naive_scale, other.naive_scale)
    error = np.abs(result.prediction - result.actual).mean()
    assert result.metrics()["MAE"].iloc[0] == pytest.approx(error)
    assert (np.diff(result.quantile_prediction, axis=-1) >= 0).all()
    assert (result.quantile_prediction > -1).all()


@pytest.mark.parametrize(
    ("transform", "bounds"),
    [("log1p", "nonnegative"), ("box_cox", (None, 2000)), ("yeo_johnson", None), (None, (0, 2000))],
)
def test_a_saved_model_forecasts_the_same_bits(tmp_path, transform, bounds):
    frame = cubes()
    model = make(transform=transform, bounds=bounds, quantiles=QUANTILES).fit(frame)
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    new = frame[frame.item_id == "a"].assign(item_id="new")
    for given in (None, frame, pd.concat([frame, new])):
        pd.testing.assert_frame_equal(loaded.predict(given), model.predict(given), check_exact=True)
    again = loaded.save(tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (again / file).read_bytes() == (tmp_path / "model" / file).read_bytes()
    pd.testing.assert_frame_equal(loaded.fit(frame).predict(), model.predict(), check_exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e + 2.5, "scaling.exponent must be between 0 and 2"),
        (lambda e: e * np.nan, "scaling.exponent must be between 0 and 2"),
        (lambda e: e[:1], "items, channels, stamps and values are of different sizes"),
        (lambda e: e.astype(np.float32), "scaling.exponent holds torch.float32"),
    ],
)
def test_damaged_exponents_are_refused(tmp_path, change, message):
    folder = make(transform="box_cox").fit(counts(low=1)).save(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["scaling.exponent"] = change(tensors["scaling.exponent"])
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModelError, match=message):
        Forecaster.load(folder)


def test_held_out_rows_change_the_transform_only_in_the_refit():
    frame = cubes()
    other = frame.copy()
    late = other.timestamp >= other.timestamp[100]
    other.loc[late, "x"] = other.x[late] ** 1.1
    exponents = {}
    for refit in (False, True):
        for name, given in (("frame", frame), ("other", other)):
            model = make(transform="box_cox").fit(given, validation_rows=20, refit=refit)
            exponents[refit, name] = model.scaling_.power.exponent
            first = model.record_.history[0]["train_loss"]
            assert exponents.setdefault("loss", first) == first
    np.testing.assert_array_equal(exponents[False, "frame"], exponents[False, "other"])
    assert (exponents[True, "frame"] != exponents[True, "other"])[:, 0].all()


def test_a_backtest_does_not_look_ahead():
    frame = cubes()
    model = make(transform="box_cox").fit(frame)
    new = frame[frame.item_id == "b"].assign(item_id="new")
    other = new.copy()
    other.iloc[60:, 2:] = other.iloc[60:, 2:] * 9
    one, two = (model.backtest(each).to_frame() for each in (new, other))
    before = one.cutoff < new.timestamp.iloc[59]
    np.testing.assert_array_equal(one[before].prediction, two[before].prediction)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gaps_constant_channels_and_short_items(transform):
    frame = counts(low=1).astype({"x": float})
    frame.loc[[5, 6, 200], "x"] = np.nan
    frame.loc[frame.item_id == "b", "y"] = 3
    frame = frame[(frame.item_id != "c") | (frame.timestamp < frame.timestamp[10])]
    model = make(transform=transform, missing="mask").fit(frame)
    forecast = model.predict()
    assert np.isfinite(forecast.prediction).all()
    constant = forecast[(forecast.item_id == "b") & (forecast.target_name == "y")]
    np.testing.assert_allclose(constant.prediction, 3, atol=0.5)


def test_float32_and_float64_data_give_the_same_model():
    small = cubes().astype({"x": np.float32, "y": np.float32})
    large = small.astype({"x": np.float64, "y": np.float64})
    one, two = (make(transform="box_cox").fit(each).predict() for each in (small, large))
    assert one.equals(two)


def test_a_training_that_diverges_forecasts_finite_numbers():
    trainer = Trainer(max_steps=4, learning_rate=50.0, device="cpu")
    model = make(transform="log1p", trainer=trainer).fit(counts(), refit=False)
    with np.errstate(over="ignore"), pytest.warns(UserWarning, match="far outside the data"):
        forecast = model.predict(horizon=12, recursive=True)
    assert np.isfinite(forecast.prediction).all()


def test_a_wide_frame_far_from_that_of_fit_is_told_in_transformed_units():
    frame = counts(items="a").drop(columns="item_id")
    model = make(transform="log1p").fit(frame)
    other = frame.assign(x=10.0 ** np.arange(len(frame)).clip(20, 60))
    with pytest.warns(UserWarning, match="frame, after the transform 'log1p'. If this is another"):
        model.predict(other)


# --------------------------------------------------------------- checkpoints and initial weights


class Stop(Exception):
    """Raised by a callback in place of a crash."""


def stop(step, metrics):
    raise Stop


def test_a_stopped_fit_resumes_with_its_transform_only(tmp_path):
    frame = cubes()
    whole = make(transform="box_cox").fit(frame)
    with pytest.raises(Stop):
        make(transform="box_cox").fit(frame, checkpoint=tmp_path, callback=stop)
    for other in (None, "log1p"):
        message = f"transform was 'box_cox' and is {other!r}"
        with pytest.raises(InvalidParameterError, match=message):
            make(transform=other).fit(frame, resume=tmp_path)
    resumed = make(transform="box_cox").fit(frame, resume=tmp_path)
    pd.testing.assert_frame_equal(resumed.predict(), whole.predict(), check_exact=True)


def test_fine_tuning_needs_the_same_transform():
    frame = cubes()
    trained = make(transform="yeo_johnson").fit(frame)
    newer = frame.assign(x=frame.x * 3)
    tuned = make(transform="yeo_johnson").fit(newer, init=trained)
    fresh = make(transform="yeo_johnson").fit(newer)
    np.testing.assert_array_equal(tuned.scaling_.power.exponent, fresh.scaling_.power.exponent)
    message = "of the model is 'yeo_johnson', but the transform of this forecaster is None. Set"
    with pytest.raises(InvalidParameterError, match=message):
        make().fit(frame, init=trained)
