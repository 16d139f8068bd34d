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
    DynamicChunkingPatcher,
    FixedPatcher,
    Forecaster,
    GroupPolicyGradient,
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    PatchTSTBackbone,
    RandomPatcher,
    RecencyPatcher,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
)
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import complete_or_padded
from adaptivepatch.errors import OutputExistsError
from adaptivepatch.estimators.training_windows import PanelSource, PanelTrainingData
from adaptivepatch.nn.tokens.patch_embedding import AlignedEmbedding
from tests.builders import daily_frame as wide

HORIZON, CONTEXT = 12, 48


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


LEARNED = ReinPatcher(8, prior=1.0, gradient=GroupPolicyGradient(2, delay=0.0))


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return make().fit(wide())


@pytest.fixture(scope="module")
def learned() -> Forecaster:
    return make(patcher=LEARNED).fit(wide())


@pytest.fixture(scope="module")
def chunked():
    return make(patcher=DynamicChunkingPatcher(8)).fit(wide())


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
    with pytest.raises(InvalidParameterError, match=r"12 steps. Got horizon=13.*recursive=True"):
        fitted.predict(horizon=13)


def test_rollout_feeds_forecasts_back(fitted):
    rolled = fitted.predict(horizon=20, recursive=True)
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
    with pytest.raises(InvalidFrameError, match=r"'a' has 13 observations, but horizon 12 .* 14"):
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


@pytest.mark.parametrize(
    "patcher",
    [FixedPatcher(8), LEARNED, DynamicChunkingPatcher(8), DynamicChunkingPatcher(8, "exact")],
    ids=["fixed", "reinpatch", "chunking", "chunking, exact"],
)
def test_gaps_are_refused_or_masked(patcher):
    frame = wide()
    frame.iloc[100, 0] = np.nan
    with pytest.raises(InvalidFrameError, match="missing='mask'|missing=\"mask\""):
        make(patcher=patcher).fit(frame)
    frame.iloc[-20:-4, 1] = np.nan  # more than one patch of the last look-back
    model = make(patcher=patcher, missing="mask").fit(frame)
    forecast = model.predict()
    assert np.isfinite(forecast.prediction).all()
    hidden = frame.drop(index=frame.index[230])  # absent stamps are as unobserved as NaN
    frame.iloc[230] = np.nan
    expected = model.predict(frame)
    assert (expected.prediction != forecast.prediction).any()
    pd.testing.assert_frame_equal(model.predict(hidden), expected, check_exact=True)


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
        model.predict(horizon=20, recursive=True)


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


def test_segment_states_boundary_probabilities_of_a_policy(learned, fitted):
    patches, steps = learned.segment(), learned.segment(by="step")
    assert steps.columns.tolist() == [
        "item_id", "target_name", "timestamp", "patch", "boundary_prob",
    ]  # fmt: skip
    assert len(steps) == 2 * CONTEXT
    series = torch.stack([torch.tensor(wide()[name].to_numpy()[-CONTEXT:]) for name in "ab"])
    scaled = (series - series.mean(1, keepdim=True)) / series.std(1, keepdim=True)
    expected = learned.network_.segment(scaled.float())[1].boundary_prob
    np.testing.assert_allclose(steps.boundary_prob, expected.flatten(), atol=1e-4)
    assert steps.boundary_prob.groupby(steps.target_name).sum().tolist() == pytest.approx([6, 6])
    starts = steps.groupby(["target_name", "patch"]).first()
    counts = steps.groupby(["target_name", "patch"]).size()
    assert patches["length"].tolist() == counts.tolist()
    assert patches.start.tolist() == starts.timestamp.tolist()
    assert patches.boundary_prob.tolist() == starts.boundary_prob.tolist()
    assert "boundary_prob" not in fitted.segment(by="step")
    with pytest.raises(
        InvalidParameterError, match=r"one of \['patch', 'step', 'series'\].*mean 'step'"
    ):
        learned.segment(by="steps")


def test_steps_of_padding_are_left_out():
    frame = long((200, 30, 260))
    for patcher in (FixedPatcher(8), LEARNED):
        model = make(patcher=patcher).fit(frame)
        patches, steps = model.segment(), model.segment(by="step")
        counts = steps.groupby(["item_id", "patch"], sort=False).size()
        assert counts.tolist() == patches["length"].tolist()
        assert counts["a"].sum() == 30
        assert steps.patch.groupby(steps.item_id).min().eq(0).all()


@pytest.mark.parametrize(
    "patcher",
    [RandomPatcher(8), RecencyPatcher(8, shortest=4), FixedPatcher(8, stride=4), LEARNED],
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


def test_groups_of_channels_can_share_their_patches(tmp_path):
    frame = pd.concat([wide(), wide().add_prefix("other ") + 1], axis=1)
    first, second, third, _ = frame.columns
    model = make(patcher=RandomPatcher(8), share_segmentation=[[first, third]]).fit(frame)
    patches = model.segment()
    lengths = {name: part["length"].tolist() for name, part in patches.groupby("target_name")}
    assert lengths[first] == lengths[third] != lengths[second]
    model.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    assert loaded.share_segmentation == [[first, third]]
    pd.testing.assert_frame_equal(loaded.segment(), patches)
    with pytest.raises(InvalidParameterError, match="Got 'other'. Available: .*Did you mean"):
        model.set_params(share_segmentation=[[first, "other"]]).fit(frame)


# ------------------------------------------------------------------------------ seeds and quiet


@pytest.mark.parametrize("name", ["fitted", "learned", "chunked"])
def test_two_fits_are_identical_and_leave_the_generators_alone(name, request):
    fitted = request.getfixturevalue(name)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = make(patcher=fitted.patcher).fit(wide())
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


def test_saved_models_predict_the_same_in_a_new_process(fitted, learned, chunked, tmp_path):
    models = {"fitted": fitted, "learned": learned, "chunked": chunked}
    for name, model in models.items():
        model.save(tmp_path / name)
    script = (
        "import sys; from pathlib import Path; from adaptivepatch import Forecaster\n"
        "for folder in map(Path, sys.argv[1:]):\n"
        "    Forecaster.load(folder).predict().to_pickle(folder / 'forecast.pkl')\n"
    )
    subprocess.run([sys.executable, "-c", script, *map(tmp_path.joinpath, models)], check=True)
    for name, model in models.items():
        forecast = pd.read_pickle(tmp_path / name / "forecast.pkl")
        pd.testing.assert_frame_equal(forecast, model.predict(), check_exact=True)


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


def test_a_loaded_policy_is_the_same_to_the_bit(learned, tmp_path):
    learned.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    for name, value in learned.network_.state_dict().items():
        assert torch.equal(value, loaded.network_.state_dict()[name]), name
    pd.testing.assert_frame_equal(
        loaded.segment(by="step"), learned.segment(by="step"), check_exact=True
    )
    history = [pd.DataFrame(model.record_.history) for model in (loaded, learned)]
    pd.testing.assert_frame_equal(*history, check_exact=True)  # NaN where the policy rested


def test_a_fitted_model_pickles(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict(), fitted.predict(), check_exact=True)


def test_a_model_is_not_overwritten_by_accident(fitted, tmp_path):
    fitted.save(tmp_path)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
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
        (_truncate, "damaged or not a safetensors file"),
        (_pickle, "damaged or not a safetensors file"),
        (_newer, "format 99.*Update adaptivepatch-forecasting"),
        (_foreign, "does not hold a saved 'forecaster'"),
        (_no_json, "is not the JSON of a saved"),
        (_unknown_patcher, "Unknown patcher 'mine'.*classes="),
        (_other_size, "do not fit its config.json"),
        (_no_history, "does not describe a saved"),
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
    with pytest.raises(InvalidFrameError, match=r"but it lacks \['b'\]"):
        fitted.predict(wide()[["a"]])


def test_another_time_step_is_refused(fitted):
    with pytest.raises(InvalidFrameError, match="lacks 259 stamp.* of step 'h'"):
        fitted.predict(wide(freq="2h"))


def test_two_precisions_work_in_one_process():
    single = make(trainer=Trainer(max_steps=3)).fit(wide())
    double = make(trainer=Trainer(max_steps=3, precision="float64")).fit(wide())
    lower = make(trainer=Trainer(max_steps=3, precision="bfloat16")).fit(wide())
    assert next(single.network_.parameters()).dtype == torch.float32
    assert next(double.network_.parameters()).dtype == torch.float64
    assert next(lower.network_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(single.predict().prediction, double.predict().prediction, atol=0.5)


# ------------------------------------------------------------------- what a careful reader found


def ramps(lengths: dict[str, int]) -> pd.DataFrame:
    """Item k counts 1000 k + 1, 1000 k + 2, ...: a look-back shows where it was read."""
    parts = [
        pd.DataFrame(
            {"item_id": name, "timestamp": range(rows), "y": 1000.0 * k + 1 + np.arange(rows)}
        )
        for k, (name, rows) in enumerate(lengths.items())
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("held_out", [0, 4, 6])
@pytest.mark.parametrize("lengths", [{"a": 24}, {"a": 60, "b": 24}, {"a": 24, "b": 60, "c": 9}])
def test_look_backs_stay_inside_their_item(lengths, held_out):
    context, horizon = 16, 4
    panel = read_frame(ramps(lengths))
    rows = np.where(panel.lengths - held_out >= horizon + 2, held_out, 0)
    placement = Trainer(device="cpu").placement()
    parts = PanelTrainingData(panel, rows, context, horizon, False, placement).windows(rows)
    assert len(parts) == 1 + bool(rows.any())
    source = PanelSource(panel, parts, device="cpu", dtype=torch.float64)
    for part in parts:
        batch = source.batch(source.numbers(part))
        observed = torch.ones_like(batch.series) if batch.observed is None else batch.observed
        assert len(batch.series) == len(part)
        for series, seen, target in zip(batch.series, observed.bool(), batch.target, strict=True):
            expected = target[0] - torch.arange(len(seen), 0, -1)
            assert torch.equal(series[seen], expected[seen])
            assert (expected[seen] % 1000 >= 1).all()
            assert torch.equal(target, target[0] + torch.arange(horizon))
            assert seen.sum() == min(context, int(target[0] % 1000) - 1)


def test_strides_count_from_the_first_complete_look_back():
    panel = read_frame(ramps({"a": 20, "b": 70, "c": 10}))
    windows = complete_or_padded(panel, 16, 4, stride=20)
    by_item = {id_: windows.cutoff_row[windows.item_id == id_].tolist() for id_ in "abc"}
    assert by_item["a"] == [15]
    assert by_item["b"] == [15, 35, 55]
    assert by_item["c"] == [1]


def test_settings_changed_after_fit_do_not_change_forecasts(tmp_path):
    model = make(quantiles=[0.1, 0.5, 0.9]).fit(wide())
    forecast = model.predict()
    model.set_params(horizon=2, context_length=32, quantiles=None, share_segmentation=True)
    pd.testing.assert_frame_equal(model.predict(), forecast, check_exact=True)
    model.save(tmp_path)
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path).predict(), forecast, check_exact=True)


def test_numpy_parameters_are_saved(tmp_path):
    model = make(
        horizon=np.int64(HORIZON),
        patcher=FixedPatcher(np.int64(8)),
        quantiles=np.array([0.1, 0.5, 0.9], dtype=np.float32),
        share_segmentation=np.bool_(True),
    ).fit(wide(), target=wide().columns)
    model.save(tmp_path)
    loaded = Forecaster.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.predict(), model.predict(), check_exact=True)
    assert loaded.share_segmentation is True


@pytest.mark.parametrize("frame", [wide(rows=13) * 1000, wide() * np.inf])
def test_a_failed_fit_leaves_the_earlier_one(frame):
    model = make().fit(wide())
    forecast = model.predict()
    with pytest.raises(InvalidFrameError):
        model.fit(frame)

    def stop(step, metrics):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.fit(wide() * 5, callback=stop)
    pd.testing.assert_frame_equal(model.predict(), forecast, check_exact=True)


@pytest.mark.parametrize("freq", ["W-MON", "B", "QS", "3MS", "ME", "7h"])
def test_the_frame_of_fit_can_be_backtested(freq):
    frame = wide(rows=130, freq=freq)
    model = make(trainer=Trainer(max_steps=2)).fit(frame, freq=freq)
    assert len(model.backtest(frame)) == 130 - CONTEXT - HORIZON + 1
    assert len(model.predict(frame[-60:])) == 2 * HORIZON


def test_a_frame_of_two_rows_is_forecast(fitted):
    assert np.isfinite(fitted.predict(wide()[-2:]).prediction).all()


def test_every_second_stamp_may_be_missing():
    model = make(missing="mask").fit(wide())
    assert np.isfinite(model.predict(wide()[::2]).prediction).all()


def test_a_number_is_no_start_for_dates(fitted):
    with pytest.raises(InvalidFrameError, match="start must be a stamp"):
        fitted.backtest(wide(), start=100)


def test_values_too_large_to_square_are_refused():
    with pytest.raises(InvalidFrameError, match="variance overflows: channel 'a'"):
        make().fit(wide() * 1e200)


def test_scores_need_known_items():
    model = make().fit(long())
    with pytest.raises(InvalidFrameError, match="MASE needs"):
        model.score(long().replace({"item_id": {"a": "x", "b": "y", "c": "z"}}))


@pytest.mark.parametrize("quantiles", [0.5, "median", [None]])
def test_odd_quantiles_are_refused(quantiles):
    with pytest.raises(InvalidParameterError, match="'quantiles' parameter"):
        make(quantiles=quantiles).fit(wide())


@pytest.mark.parametrize("device", ["meta", "mps", "cuda:99"])
def test_odd_devices_are_refused(device):
    with pytest.raises(InvalidParameterError, match=device):
        make(trainer=Trainer(device=device)).fit(wide())


def test_a_backtest_is_shown_in_one_line(fitted):
    assert repr(fitted.backtest(wide())) == "Backtest(windows=201, items=1, channels=2, horizon=12)"


@pytest.mark.parametrize("start", ["2024-03-30", "2024-10-25"])
def test_local_stamps_around_a_clock_change_are_saved(tmp_path, start):
    clock = pd.date_range(f"{start} 02:30", periods=60, freq="D")
    second = np.zeros(60, dtype=bool)  # of the two times of the night in October
    index = clock.tz_localize("Europe/Berlin", nonexistent="shift_forward", ambiguous=second)
    frame = wide(rows=60).set_axis(index)
    model = make(horizon=2, context_length=60).fit(frame, freq="D")
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    assert loaded.history_.index[0].equals(model.history_.index[0])
    pd.testing.assert_frame_equal(loaded.predict(), model.predict(), check_exact=True)


def test_a_calendar_of_holidays_is_not_saved_by_name(tmp_path):
    days = pd.offsets.CustomBusinessDay(holidays=["2024-01-17"])
    frame = wide(rows=60).set_axis(pd.date_range("2024-01-01", periods=60, freq=days))
    model = make(horizon=2, context_length=8).fit(frame, freq=days)
    with pytest.raises(InvalidParameterError, match="time step .* be saved.*Number the rows"):
        model.save(tmp_path / "model")


def test_skipped_items_are_saved(tmp_path):
    with pytest.warns(UserWarning, match="1 of 3 series have fewer"):
        model = make().fit(long((200, 5, 260)), short="skip")
    assert model.skipped_ == ("a",)
    assert Forecaster.load(model.save(tmp_path / "model")).skipped_ == ("a",)


def test_metrics_by_item_are_those_of_its_windows():
    frame = long((120, 90, 260))
    result = make().fit(frame).backtest(frame)
    by_item = result.metrics(by="item")
    assert list(by_item.index) == ["a", "b", "c"]
    for name in "abc":
        rows = result.item_id == name
        error = result.actual[rows] - result.prediction[rows]
        assert by_item.loc[name, "MSE"] == pytest.approx((error**2).mean())


# ------------------------------------------------------------------------------------- embedding


def test_fixed_patches_can_be_aligned_and_saved(tmp_path):
    frame = wide()
    model = make(embedding="aligned").fit(frame)
    assert type(model.network_.embedding) is AlignedEmbedding
    expected = model.predict()
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    assert loaded.embedding == "aligned"
    pd.testing.assert_frame_equal(loaded.predict(), expected, check_exact=True)
    assert not expected.equals(make().fit(frame).predict())


def test_models_saved_before_there_was_a_choice_are_resampled(tmp_path):
    model = make(patcher=RandomPatcher(8), embedding="resampled").fit(wide())
    folder = model.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["parameters"]["embedding"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    loaded = Forecaster.load(folder)
    assert loaded.embedding == "resampled"
    pd.testing.assert_frame_equal(loaded.predict(), model.predict(), check_exact=True)


def test_an_unknown_embedding_is_refused():
    with pytest.raises(InvalidParameterError, match="'embedding' parameter.*Got 'raw'"):
        make(embedding="raw").fit(wide())
    with pytest.raises(InvalidParameterError, match="values_per_patch=3"):
        make(embedding="aligned", values_per_patch=3).fit(wide())
