"""The DataFrame face: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    PatchTSTBackbone,
    RandomPatcher,
    RecencyPatcher,
    Trainer,
    TransformerBackbone,
)

HORIZON, CONTEXT = 12, 48


def wide(rows=260, channels=("a", "b"), seed=0, freq="h") -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    steps = np.arange(rows)
    columns = {
        name: 10 * (k + 1) + np.sin(steps * np.pi / 12 + k) + generator.normal(0, 0.1, rows)
        for k, name in enumerate(channels)
    }
    return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=rows, freq=freq))


def long(lengths=(200, 90, 260)) -> pd.DataFrame:
    parts = [
        wide(rows, ("y",), seed=k).rename_axis("timestamp").reset_index().assign(item_id=name)
        for k, (name, rows) in enumerate(zip("cab", lengths, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def make(**parameters) -> Forecaster:
    defaults = {
        "horizon": HORIZON,
        "context_length": CONTEXT,
        "patcher": FixedPatcher(8),
        "backbone": TransformerBackbone(d_model=16, num_layers=1),
        "trainer": Trainer(max_steps=12, batch_size=16, learning_rate=3e-3),
        "random_state": 0,
    }
    return Forecaster(**{**defaults, **parameters})


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return make().fit(wide())


# ------------------------------------------------------------------------------------ forecasts


def test_forecast_is_a_tidy_frame_of_the_next_steps(fitted):
    forecast = fitted.predict()
    assert forecast.columns.tolist() == ["item_id", "timestamp", "target_name", "prediction"]
    assert len(forecast) == HORIZON * 2
    first = forecast[forecast.target_name == "a"]
    expected = pd.date_range("2024-01-01", periods=260 + HORIZON, freq="h")[-HORIZON:]
    assert (first.timestamp.to_numpy() == expected.to_numpy()).all()
    assert np.isfinite(forecast.prediction).all()
    assert first.prediction.between(5, 15).all()


def test_shorter_horizon_is_a_slice(fitted):
    whole = fitted.predict().groupby("target_name").head(5).reset_index(drop=True)
    pd.testing.assert_frame_equal(fitted.predict(horizon=5), whole, check_exact=True)


def test_longer_horizon_needs_rollout(fitted):
    with pytest.raises(InvalidParameterError, match=r"12 steps. Got horizon=13.*rollout=True"):
        fitted.predict(horizon=13)


def test_rollout_feeds_forecasts_back(fitted):
    rolled = fitted.predict(horizon=20, rollout=True)
    direct = fitted.predict().pivot_table("prediction", "timestamp", "target_name")
    history = pd.concat([wide(), direct])
    second = fitted.predict(history, horizon=8)
    tail = rolled.groupby("target_name").tail(8).reset_index(drop=True)
    np.testing.assert_allclose(tail.prediction, second.prediction, rtol=1e-12)
    assert (tail.timestamp == second.timestamp).all()


def test_predict_on_the_training_frame_is_predict(fitted):
    pd.testing.assert_frame_equal(fitted.predict(wide()), fitted.predict(), check_exact=True)


def test_predict_on_new_items_needs_no_refit():
    model = make().fit(long())
    new = long().replace({"item_id": {"a": "new"}})
    forecast = model.predict(new[new.item_id == "new"])
    assert forecast.item_id.unique().tolist() == ["new"]
    assert forecast.prediction.between(5, 15).all()


def test_before_fit_is_an_error():
    with pytest.raises(NotFittedError):
        make().predict()


# ----------------------------------------------------------------------------- equivalent frames


def test_long_and_wide_frames_give_the_same_forecast(fitted):
    frame = wide().rename_axis("timestamp").reset_index().assign(item_id="series")
    model = make().fit(frame)
    pd.testing.assert_frame_equal(model.predict(), fitted.predict(), check_exact=True)


def test_column_order_does_not_matter(fitted):
    model = make().fit(wide()[["b", "a"]])
    keys = ["target_name", "timestamp"]
    pd.testing.assert_frame_equal(
        model.predict().sort_values(keys, ignore_index=True),
        fitted.predict().sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    assert model.predict().target_name.iloc[0] == "b"


def test_item_order_does_not_matter():
    frame = long()
    one = make().fit(frame).predict()
    swapped = frame.sort_values(["item_id", "timestamp"], ignore_index=True)
    two = make().fit(swapped).predict()
    keys = ["item_id", "timestamp"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True),
        two.sort_values(keys, ignore_index=True),
        check_exact=True,
    )
    assert one.item_id.unique().tolist() == ["c", "a", "b"]


def test_interleaved_rows_of_items_do_not_matter():
    frame = long()
    one = make().fit(frame).predict()
    two = make().fit(frame.sort_values(["timestamp", "item_id"], ignore_index=True)).predict()
    keys = ["item_id", "timestamp"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True),
        two.sort_values(keys, ignore_index=True),
        check_exact=True,
    )


def test_integer_index_counts_on():
    frame = wide().reset_index(drop=True)
    forecast = make().fit(frame).predict()
    assert forecast.timestamp.iloc[:3].tolist() == [260, 261, 262]


def test_the_frame_is_left_alone():
    frame = wide()
    before = frame.copy(deep=True)
    make().fit(frame)
    pd.testing.assert_frame_equal(frame, before)


# -------------------------------------------------------------------------------- short and gaps


def test_items_shorter_than_the_context_are_masked():
    model = make().fit(long((200, 20, 260)))
    forecast = model.predict()
    assert np.isfinite(forecast.prediction).all()
    patches = model.segment()
    assert patches[patches.item_id == "a"]["length"].sum() == 20


def test_an_item_needs_two_points_and_the_horizon():
    make().fit(long((200, HORIZON + 2, 260)))
    with pytest.raises(InvalidFrameError, match=r"'a' has 13 observations; horizon 12 .* 14"):
        make().fit(long((200, HORIZON + 1, 260)))


def test_without_room_for_validation_training_runs_its_steps():
    with pytest.warns(UserWarning, match="hold out 12 validation rows"):
        model = make().fit(wide(rows=24))
    assert model.record_.num_steps == 12
    assert np.isnan(model.record_.best_loss)


def test_validation_rows_are_the_larger_of_horizon_and_a_tenth():
    model = make(trainer=Trainer(max_steps=2, batch_size=1024)).fit(wide(rows=260), refit=False)
    # 26 validation rows: training windows end before them
    assert model.record_.steps_per_epoch == 1
    trained_rows = wide(rows=260)[:-26]
    np.testing.assert_allclose(model.scaling_.mean[0], trained_rows.mean().to_numpy())


def test_refit_scales_on_all_rows():
    model = make().fit(wide())
    np.testing.assert_allclose(model.scaling_.mean[0], wide().mean().to_numpy())


def test_gaps_are_refused_or_masked():
    frame = wide()
    frame.iloc[100, 0] = np.nan
    with pytest.raises(InvalidFrameError, match="missing='mask'|missing=\"mask\""):
        make().fit(frame)
    model = make(missing="mask").fit(frame)
    assert np.isfinite(model.predict().prediction).all()


def test_a_channel_without_history_cannot_be_forecast():
    frame = wide()
    model = make(missing="mask").fit(frame)
    frame.iloc[-CONTEXT:, 1] = np.nan
    with pytest.raises(InvalidFrameError, match=r"'b' of series 'series' has 0 in the last 48"):
        model.predict(frame)


def test_impossible_windows_of_a_backtest_are_counted():
    frame = wide()
    model = make(missing="mask").fit(frame)
    frame.iloc[100 : 100 + CONTEXT + 3, 1] = np.nan
    test = model.backtest(frame)
    assert test.num_impossible == ((test.windows.num_observed_past() < 2).sum()) > 0
    assert np.isfinite(test.prediction).all()
    assert len(test.to_frame()) == (len(test) * 2 - test.num_impossible) * HORIZON


# -------------------------------------------------------------------------------------- backtest


def test_backtest_holds_every_window(fitted):
    test = fitted.backtest(wide())
    assert len(test) == 260 - CONTEXT - HORIZON + 1
    assert test.prediction.shape == (len(test), HORIZON, 2)
    frame = test.to_frame()
    assert len(frame) == test.prediction.size
    row = frame.iloc[5 * 2 * HORIZON + HORIZON + 3]  # window 5, channel b, step 4
    assert row.target_name == "b"
    assert row.prediction == test.prediction[5, 3, 1]
    assert row.actual == wide().loc[row.timestamp, "b"]
    assert row.timestamp - row.cutoff == pd.Timedelta(hours=4)


def test_backtest_forecasts_what_predict_forecasts(fitted):
    test = fitted.backtest(wide(), stride=7)
    cutoff = test.cutoff[3]
    forecast = fitted.predict(wide()[:cutoff])
    np.testing.assert_array_equal(
        forecast.prediction.to_numpy().reshape(2, HORIZON).T, test.prediction[3]
    )


def test_backtest_from_a_start_uses_earlier_rows_as_look_back(fitted):
    frame = wide()
    test = fitted.backtest(frame, start=frame.index[200])
    assert len(test) == 60 - HORIZON + 1
    assert test.cutoff[0] == frame.index[199]


def test_metrics_are_in_original_units(fitted):
    test = fitted.backtest(wide())
    table = test.metrics()
    error = test.prediction - test.actual
    assert table.loc["all", "MAE"] == pytest.approx(np.abs(error).mean())
    assert table.loc["all", "MSE"] == pytest.approx((error**2).mean())
    naive = np.abs(wide().diff(24)).mean().to_numpy()
    assert fitted.season_ == 24
    assert table.loc["all", "MASE"] == pytest.approx((np.abs(error) / naive).mean())
    assert fitted.score(wide()) == -table.loc["all", "MASE"]
    by_channel = test.metrics(by="channel")
    assert by_channel["MAE"].mean() == pytest.approx(table.loc["all", "MAE"])
    assert len(test.metrics(by="step")) == HORIZON
    assert len(test.metrics(by="item")) == 1
    with pytest.raises(InvalidParameterError, match="'by' parameter"):
        test.metrics(by="week")


def test_a_frame_without_windows_is_an_error(fitted):
    with pytest.raises(InvalidFrameError, match="needs a window"):
        fitted.backtest(wide(rows=13))


# ------------------------------------------------------------------------------------- quantiles


def test_quantiles_never_cross_and_hold_the_point_forecast():
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    model = make(quantiles=levels).fit(wide())
    forecast = model.predict()
    columns = forecast[[str(level) for level in levels]].to_numpy()
    assert (np.diff(columns, axis=1) >= 0).all()
    assert (forecast["0.5"] == forecast.prediction).all()
    table = model.backtest(wide()).metrics()
    assert 0 < table.loc["all", "Coverage"] <= 1
    assert table.loc["all", "QuantileLoss"] > 0


@pytest.mark.parametrize("levels", [[0.1, 0.9], [0.5, 0.1], [0.0, 0.5], [0.5, 0.5], []])
def test_bad_quantiles_are_refused(levels):
    with pytest.raises(InvalidParameterError, match="'quantiles' parameter of Forecaster"):
        make(quantiles=levels).fit(wide())


def test_quantiles_are_not_rolled_out():
    model = make(quantiles=[0.1, 0.5, 0.9]).fit(wide())
    with pytest.raises(InvalidParameterError, match="gives no quantiles"):
        model.predict(horizon=20, rollout=True)


# --------------------------------------------------------------------------------------- patches


def test_segment_lists_the_patches_of_the_last_look_back(fitted):
    patches = fitted.segment()
    assert patches.columns.tolist() == [
        "item_id",
        "target_name",
        "patch",
        "start",
        "end",
        "length",
    ]
    of_a = patches[patches.target_name == "a"]
    assert of_a["length"].tolist() == [8] * 6
    assert of_a.end.iloc[-1] == wide().index[-1]
    assert (of_a.start.iloc[1:].to_numpy() - of_a.end.iloc[:-1].to_numpy()).max() == np.timedelta64(
        1, "h"
    )


@pytest.mark.parametrize(
    "patcher", [RandomPatcher(8), RecencyPatcher(8, shortest=4), FixedPatcher(8, stride=4)]
)
@pytest.mark.parametrize("backbone", [PatchTSTBackbone(), TransformerBackbone(16, 1)])
def test_every_patcher_trains_with_every_backbone(patcher, backbone):
    model = make(patcher=patcher, backbone=backbone).fit(wide())
    assert np.isfinite(model.predict().prediction).all()
    lengths = model.segment().groupby("target_name")["length"].sum()
    assert (lengths == CONTEXT).all()


def test_channels_can_share_their_patches():
    model = make(patcher=RandomPatcher(8), share_segmentation=True).fit(wide())
    patches = model.segment()
    by_channel = [part["length"].tolist() for _, part in patches.groupby("target_name")]
    assert by_channel[0] == by_channel[1]
    apart = make(patcher=RandomPatcher(8)).fit(wide()).segment()
    by_channel = [part["length"].tolist() for _, part in apart.groupby("target_name")]
    assert by_channel[0] != by_channel[1]


# ------------------------------------------------------------------------------ seeds and quiet


def test_two_fits_are_identical_and_leave_the_generators_alone(fitted):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = make().fit(wide())
    assert (torch.get_rng_state() == torch_state).all()
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    pd.testing.assert_frame_equal(again.predict(), fitted.predict(), check_exact=True)
    for name, value in fitted.network_.state_dict().items():
        assert torch.equal(value, again.network_.state_dict()[name]), name


def test_fit_is_quiet_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make().fit(wide()).predict()
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_callback_sees_every_validation():
    seen = []
    trainer = Trainer(max_steps=6, validate_every=2, batch_size=16)
    make(trainer=trainer).fit(wide(), callback=lambda step, metrics: seen.append((step, metrics)))
    assert [step for step, _ in seen] == [2, 4, 6]
    assert {"train_loss", "validation_loss", "learning_rate"} <= set(seen[0][1])


# ------------------------------------------------------------------------------------ save, load


def test_a_saved_model_predicts_the_same_in_a_new_process(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    script = (
        "import sys; from adaptivepatch import Forecaster;"
        "Forecaster.load(sys.argv[1]).predict().to_pickle(sys.argv[2])"
    )
    target = tmp_path / "forecast.pkl"
    subprocess.run([sys.executable, "-c", script, tmp_path / "model", target], check=True)
    pd.testing.assert_frame_equal(pd.read_pickle(target), fitted.predict(), check_exact=True)


def test_loading_restores_everything(tmp_path):
    frame = long((200, 20, 260))
    frame["timestamp"] = frame.timestamp.dt.tz_localize("Europe/Berlin", ambiguous="raise")
    model = make(
        patcher=RecencyPatcher(8, 4),
        quantiles=(0.1, 0.5, 0.9),
        backbone=PatchTSTBackbone(d_model=8, num_heads=2),
    ).fit(frame)
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = Forecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), model.predict(), check_exact=True)
    pd.testing.assert_frame_equal(loaded.segment(), model.segment())
    pd.testing.assert_frame_equal(
        loaded.backtest(frame).metrics(), model.backtest(frame).metrics(), check_exact=True
    )
    assert repr(loaded.patcher) == repr(model.patcher)
    assert loaded.record_.history == model.record_.history


def test_a_fitted_model_pickles(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict(), fitted.predict(), check_exact=True)


def test_a_model_is_not_overwritten_by_accident(fitted, tmp_path):
    fitted.save(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fitted.save(tmp_path)
    fitted.save(tmp_path, overwrite=True)


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": 1}))


def _newer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))


def _foreign(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("weights: yes")


def _unknown_patcher(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["parameters"]["patcher"]["name"] = "mine"
    (folder / "config.json").write_text(json.dumps(config))


def _other_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["parameters"]["backbone"]["parameters"]["d_model"] = 32
    (folder / "config.json").write_text(json.dumps(config))


def _no_history(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["history"]
    (folder / "config.json").write_text(json.dumps(config))


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "damaged or no safetensors file"),
        (_pickle, "damaged or no safetensors file"),
        (_newer, "format 99.*Update adaptivepatch-forecasting"),
        (_foreign, "must hold a 'forecaster'"),
        (_no_json, "is not the JSON that save"),
        (_unknown_patcher, "Unknown patcher 'mine'.*classes="),
        (_other_size, "do not fit its config.json"),
        (_no_history, "is not one that save"),
        (_empty, "does not exist"),
    ],
)
def test_damaged_models_are_refused(fitted, tmp_path, damage, message):
    fitted.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InvalidModelError, match=message):
        Forecaster.load(tmp_path)


class Halves(FixedPatcher):
    """A patcher of a user's own."""

    name = "halves"


def test_a_patcher_of_ones_own_is_loaded_by_class(tmp_path):
    model = make(patcher=Halves(24)).fit(wide())
    model.save(tmp_path)
    loaded = Forecaster.load(tmp_path, classes=[Halves])
    pd.testing.assert_frame_equal(loaded.predict(), model.predict(), check_exact=True)


# ---------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"horizon": 0}, r"'horizon' parameter of Forecaster .* Got 0"),
        ({"context_length": 1}, r"'context_length' .* \[2, inf\). Got 1"),
        ({"values_per_patch": 0}, "'values_per_patch' .* Got 0"),
        ({"trainer": Trainer(max_steps=0)}, "'max_steps' parameter of Trainer .* Got 0"),
        ({"trainer": Trainer(max_steps=1, max_epochs=1)}, "either 'max_steps' or 'max_epochs'"),
        ({"trainer": Trainer(learning_rate=-1.0)}, r"'learning_rate' .* \(0, inf\). Got -1.0"),
        ({"trainer": Trainer(schedule="cosin")}, "Unknown schedule 'cosin'.*mean 'cosine'"),
        ({"trainer": Trainer(device="gpu")}, "'device' parameter .* Got 'gpu'"),
        ({"trainer": Trainer(precision="half")}, "'precision' parameter .* Got 'half'"),
        ({"missing": "ignore"}, "'missing' parameter must be 'error' or 'mask'"),
        ({"backbone": PatchTSTBackbone(d_model=15)}, "multiple of num_heads=4. Got 15"),
        ({"backbone": PatchTSTBackbone(dropout=1.0)}, r"\[0, 1\). Got 1.0"),
        ({"backbone": TransformerBackbone(num_layers=0)}, "'num_layers' .* Got 0"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        make(**parameters).fit(wide())


def test_validation_rows_must_hold_a_window():
    with pytest.raises(InvalidParameterError, match="at least the horizon 12. Got 5"):
        make().fit(wide(), validation_rows=5)


def test_a_frame_without_a_trained_channel_is_refused(fitted):
    with pytest.raises(InvalidFrameError, match=r"It lacks \['b'\]"):
        fitted.predict(wide()[["a"]])


def test_another_time_step_is_refused(fitted):
    with pytest.raises(InvalidFrameError, match="time step must be the one of fit, 'h'"):
        fitted.predict(wide(freq="2h"))


def test_two_precisions_work_in_one_process():
    single = make(trainer=Trainer(max_steps=3)).fit(wide())
    double = make(trainer=Trainer(max_steps=3, precision="float64")).fit(wide())
    lower = make(trainer=Trainer(max_steps=3, precision="bfloat16")).fit(wide())
    assert next(single.network_.parameters()).dtype == torch.float32
    assert next(double.network_.parameters()).dtype == torch.float64
    assert next(lower.network_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(single.predict().prediction, double.predict().prediction, atol=0.5)
