"""Naive forecasts beside the scores of a backtest, and the skill of the model."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.cli import main
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.seasons import naive_seasons
from adaptivepatch.data.windows import complete_or_padded
from adaptivepatch.estimators.backtest import Backtest

HORIZON, CONTEXT = 3, 8
NAIVE = ["last value", "day before", "week before"]


def load(rows=400, gaps=False):
    """Hourly values of two channels, with a daily cycle and with noise."""
    rng = np.random.default_rng(0)
    day = np.sin(np.arange(rows) * 2 * np.pi / 24)
    frame = pd.DataFrame(
        {"a": 10 * day + rng.normal(size=rows), "b": day + rng.normal(size=rows)},
        index=pd.date_range("2024-01-01", periods=rows, freq="h"),
    )
    if gaps:
        frame = frame.mask(rng.random(frame.shape) < 0.3)
    return frame


def backtest_of(frame, error, start=200, seasons=(1, 24, 168), **changes):
    """A backtest of a model whose forecasts are wrong by `error`, alternating in sign."""
    panel = read_frame(frame, missing="mask")
    windows = complete_or_padded(panel, CONTEXT, HORIZON, targets_from=start)
    actual = windows.future()
    sign = np.where(np.arange(actual.size).reshape(actual.shape) % 2, -1, 1)
    backtest = Backtest(
        windows=windows,
        prediction=np.nan_to_num(actual) + error * sign,
        actual=actual,
        quantile_prediction=None,
        quantiles=None,
        naive_scale=np.ones((len(windows), 2)),
        season=24,
        num_impossible=0,
        naive_seasons=seasons,
    )
    return replace(backtest, **changes)


def naive_errors(frame, start=200):
    """Errors of naive forecasts with pandas, of shape (windows, horizon, channels) each."""
    cutoffs = range(start - 1, len(frame) - HORIZON)
    result = {}
    for name, season in zip(NAIVE, (1, 24, 168), strict=True):
        per_window = []
        for cutoff in cutoffs:
            known = frame.iloc[: cutoff + 1].reindex(frame.index[: cutoff + 1 + HORIZON])
            forecast, cycle = known.iloc[-HORIZON:], 0
            while forecast.isna().any(axis=None) and (cycle := cycle + season) < len(known):
                forecast = forecast.fillna(known.shift(cycle))
            per_window.append(frame.loc[forecast.index] - forecast)
        result[name] = np.stack(per_window)
    return result


def quiet(backtest, by=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return backtest.metrics(by=by)


# ----------------------------------------------------------------------------------- definition


@pytest.mark.parametrize("gaps", [False, True])
def test_rows_of_naive_forecasts_have_their_errors(gaps):
    frame = load(rows=260, gaps=gaps)
    table = quiet(backtest_of(frame, 0.5))

    assert table.index.tolist() == ["all", *NAIVE]
    for name, error in naive_errors(frame).items():
        assert table.loc[name, "MAE"] == pytest.approx(np.nanmean(np.abs(error)))
        assert table.loc[name, "MSE"] == pytest.approx(np.nanmean(error**2))
        assert table.loc[name, "RMSE"] == pytest.approx(np.sqrt(np.nanmean(error**2)))
    if not gaps:
        assert (table["share"] == 1).all()


def test_skill_compares_with_the_best_naive_forecast_of_the_same_windows():
    table = quiet(backtest_of(load(), 0.5))

    for metric in ("MSE", "MAE"):
        best = table.loc[NAIVE, metric].min()
        assert table.loc["all", f"skill_{metric}"] == pytest.approx(
            1 - table.loc["all", metric] / best
        )
        assert table.loc[NAIVE, f"skill_{metric}"].isna().all()


@pytest.mark.parametrize("by", ["item", "channel", "step"])
def test_each_group_has_its_own_best_naive_forecast(by):
    frame = load(rows=260)
    table = quiet(backtest_of(frame, 0.5), by)

    errors = {name: np.abs(error) for name, error in naive_errors(frame).items()}
    axes = {"item": (0, 1, 2), "channel": (0, 1), "step": (0, 2)}[by]
    means = pd.DataFrame({name: np.ravel(error.mean(axes)) for name, error in errors.items()})
    means.index = table.index
    assert table["best_naive"].tolist() == means.idxmin(axis=1).tolist()
    np.testing.assert_allclose(table["skill_MAE"], 1 - table["MAE"] / means.min(axis=1))


def test_the_columns_of_the_model_do_not_depend_on_naive_forecasts():
    backtest = backtest_of(load(), 0.5)
    columns = ["MSE", "MAE", "RMSE", "sMAPE", "MASE"]

    for by in (None, "item", "channel", "step"):
        alone = quiet(replace(backtest, naive_seasons=()), by)[columns]
        pd.testing.assert_frame_equal(
            quiet(backtest, by).iloc[: len(alone)][columns], alone, check_exact=True
        )


# ------------------------------------------------------------------------ what is not comparable


def test_a_season_longer_than_the_rows_has_a_share_and_is_compared_there():
    frame = load(rows=300)
    backtest = backtest_of(frame, 0.5, start=CONTEXT)  # targets from row 8 on
    table = quiet(backtest)

    share = (300 - HORIZON - 168 + 1) / len(backtest)
    assert table.loc["week before", "share"] == pytest.approx(share, abs=0.01)
    assert table.loc["day before", "share"] > 0.9
    weekly = dict(backtest.naive_backtests())["week before"]
    error = np.abs(weekly.actual - weekly.prediction)
    assert np.isfinite(error).mean() == pytest.approx(table.loc["week before", "share"])
    assert table.loc["week before", "MAE"] == pytest.approx(np.nanmean(error))


def test_errors_are_compared_where_both_forecasts_exist():
    """The model is wrong only where the naive forecast of a week does not exist."""
    backtest = backtest_of(load(rows=400), 0.0, start=CONTEXT, seasons=(168,))
    exists = np.isfinite(dict(backtest.naive_backtests())["week before"].actual)
    backtest = replace(backtest, prediction=np.where(exists, backtest.prediction, 1e3))

    table = backtest.metrics()

    assert table.loc["all", "MAE"] > 100
    assert table.loc["all", "skill_MAE"] == 1


def test_a_forecast_of_few_targets_is_not_the_best():
    backtest = backtest_of(load(rows=300), 0.5, start=CONTEXT, seasons=(168,))
    table = quiet(backtest)

    assert table.loc["week before", "share"] < 0.5
    assert np.isnan(table.loc["all", "skill_MAE"])
    assert quiet(backtest, "channel")["best_naive"].tolist() == [None, None]


def test_a_season_without_rows_is_absent():
    table = quiet(backtest_of(load(), 0.5, seasons=(1, 24, 500)))

    assert table.index.tolist() == ["all", "last value", "day before"]


def test_unobserved_targets_have_no_skill():
    backtest = backtest_of(load(), 0.5)
    table = quiet(replace(backtest, actual=np.full_like(backtest.actual, np.nan)))

    assert table.index.tolist() == ["all"]
    assert table[["skill_MSE", "skill_MAE"]].isna().all(axis=None)


def test_a_naive_forecast_without_error_leaves_no_skill():
    frame = pd.DataFrame({"a": np.arange(300.0) % 24, "b": 1.0}, index=load(300).index)
    exact = backtest_of(frame, 0.0, start=30, seasons=(24,))
    assert exact.metrics().loc["all", "skill_MAE"] == 0
    wrong = backtest_of(frame, 0.5, start=30, seasons=(24,))
    with pytest.warns(UserWarning, match=r"its MAE is 0.5, above the 0 of 'day before'\.$"):
        assert wrong.metrics().loc["all", "skill_MAE"] == -np.inf


# -------------------------------------------------------------------------------------- warning


def test_a_model_that_is_worse_is_said_to_be():
    backtest = backtest_of(load(), 2.5)
    table = quiet(backtest)
    assert (table.loc["all", "MSE"], table.loc["all", "MAE"]) == pytest.approx((6.25, 2.5))
    best = table.loc[NAIVE, ["MSE", "MAE"]].min()
    names = table.loc[NAIVE, ["MSE", "MAE"]].idxmin()
    mse, mae = (-100 * table.loc["all", f"skill_{metric}"] for metric in ("MSE", "MAE"))
    assert mse > mae > 100
    text = (
        f"The model is worse than a naive forecast: its MSE is 6.25, {mse:,.0f} % above the "
        f"{best['MSE']:.4g} of '{names['MSE']}', and its MAE is 2.5, {mae:,.0f} % above the "
        f"{best['MAE']:.4g} of '{names['MAE']}'."
    )
    for by in (None, "item", "channel", "step"):
        with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
            backtest.metrics(by=by)
    with pytest.warns(UserWarning, match=re.escape(text)):
        backtest.mase()


def test_a_warning_names_the_targets_that_it_is_about():
    backtest = backtest_of(load(rows=400), 1.3, start=CONTEXT, seasons=(168,))
    with pytest.warns(UserWarning, match=r"'week before' \(on 59 % of the targets\)\.$"):
        backtest.metrics()


def test_a_model_that_is_better_is_not_warned_about(recwarn):
    backtest = backtest_of(load(), 0.5)
    assert (backtest.metrics().loc["all", ["skill_MSE", "skill_MAE"]] > 0).all()
    backtest.metrics(by="step")
    backtest.mase()
    assert not recwarn.list


# ----------------------------------------------------------------------------------- forecasters


def forecaster(**parameters):
    return Forecaster(
        **{
            "horizon": HORIZON,
            "context_length": CONTEXT,
            "patcher": FixedPatcher(4),
            "backbone": TransformerBackbone(d_model=8, num_layers=1),
            "trainer": Trainer(max_steps=2),
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted():
    return forecaster(quantiles=[0.1, 0.5, 0.9]).fit(load()[:300])


def test_the_skill_of_a_quantile_model_is_that_of_its_median(fitted):
    backtest = fitted.backtest(load(), start=load().index[300])
    table = quiet(backtest)

    error = np.abs(backtest.actual - backtest.quantile_prediction[..., 1]).mean()
    best = table.loc[NAIVE, "MAE"].min()
    assert table.loc["all", "skill_MAE"] == pytest.approx(1 - error / best)
    assert table.loc[NAIVE, ["QuantileLoss", "Coverage"]].isna().all(axis=None)
    assert np.isfinite(table.loc["all", "QuantileLoss"])


def test_values_after_the_cutoff_do_not_reach_a_naive_forecast(fitted):
    frame = load()
    first = dict(fitted.backtest(frame, start=frame.index[300]).naive_backtests())
    frame.iloc[300:] += 50
    other = dict(fitted.backtest(frame, start=frame.index[300]).naive_backtests())

    assert list(first) == NAIVE
    for name in NAIVE:
        np.testing.assert_array_equal(first[name].prediction[0], other[name].prediction[0])
        assert (first[name].prediction[-1] != other[name].prediction[-1]).any() or name == NAIVE[2]


def test_the_season_of_the_user_is_shown_too():
    model = forecaster(season=12).fit(load()[:300])
    assert model.naive_seasons_ == (1, 12, 24, 168, 8760)
    table = quiet(model.backtest(load(), start=load().index[300]))
    assert table.index.tolist() == ["all", "last value", "12 steps before", *NAIVE[1:]]


def test_seasons_of_integer_stamps_are_those_of_the_training_rows(tmp_path):
    frame = load().reset_index(drop=True)
    frame.iloc[300:] = np.sin(np.arange(100) * 2 * np.pi / 7)[:, None]
    model = forecaster().fit(frame[:300])

    assert model.naive_seasons_ == (1, 24)
    assert quiet(model.backtest(frame, start=300)).index.tolist() == [
        "all", "last value", "24 steps before",
    ]  # fmt: skip
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    assert loaded.naive_seasons_ == (1, 24)  # the saved look-back is too short to find them

    refitted = model.backtest(frame, start=350, refit_every=40)
    assert refitted.naive_seasons == naive_seasons(read_frame(frame[:350]), 1) != (1, 24)


def test_a_model_of_an_earlier_version_has_the_seasons_of_its_step(tmp_path):
    model = forecaster().fit(load()[:300])
    config = model.save(tmp_path / "model") / "config.json"
    stored = json.loads(config.read_text())
    del stored["naive_seasons"]
    config.write_text(json.dumps(stored))

    assert Forecaster.load(tmp_path / "model").naive_seasons_ == (1, 24, 168, 8760)


# --------------------------------------------------------------------- every score that is shown

SCORES = {"MSE", "MAE", "RMSE", "sMAPE", "MASE"}


def assert_beside_naive(table, is_naive):
    """Every score of a model has a skill; naive rows, if there are any, have the same scores."""
    scores = sorted(SCORES & set(table.columns))
    skills = [name for name in table.columns if name.startswith("skill")]
    assert scores
    assert skills
    assert np.isfinite(table.loc[~is_naive, [*scores, *skills]].astype(float)).all(axis=None)
    if is_naive.any():
        assert np.isfinite(table.loc[is_naive, scores].astype(float)).all(axis=None)
    else:
        assert table["best_naive"].isin(NAIVE).all()


def output_of(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    return capsys.readouterr()


@pytest.mark.parametrize("by", [None, "item", "channel", "step"])
def test_every_score_of_metrics_stands_beside_a_naive_one(fitted, by):
    table = quiet(fitted.backtest(load(), start=load().index[300]), by)
    is_naive = table.index.isin(NAIVE)
    assert is_naive.sum() == (3 if by is None else 0)
    assert_beside_naive(table, is_naive)


@pytest.mark.parametrize("by", [None, "channel", "step"])
def test_every_score_of_evaluate_stands_beside_a_naive_one(fitted, by, tmp_path, capsys):
    model, file = fitted.save(tmp_path / "model"), tmp_path / "load.csv"
    load().rename_axis("timestamp").to_csv(file)
    arguments = ["evaluate", str(model), str(file), "--start", str(load().index[300])]
    arguments += [] if by is None else ["--by", by]

    shown = output_of(arguments, capsys)
    written = output_of([*arguments, "--json"], capsys)

    rows = json.loads(written.out)["metrics"]
    table = pd.DataFrame(rows)
    is_naive = table[table.columns[0]].isin(NAIVE).to_numpy()
    assert is_naive.sum() == (3 if by is None else 0)
    assert_beside_naive(table, is_naive)
    header, *lines = (re.split(r"  +", line.strip()) for line in shown.out.splitlines())
    assert [name.replace("Coverage (80 %)", "Coverage") for name in header] == list(rows[0])
    assert [line[0] for line in lines] == [str(row[header[0]]) for row in rows]
    for error_stream in (shown.err, written.err):
        assert "warning: The model is worse than a naive forecast: its MSE is" in error_stream


def test_every_score_of_the_demo_stands_beside_a_naive_one(tmp_path):
    pytest.importorskip("matplotlib")
    from adaptivepatch.demo import SMOKE, run_demo

    settings = replace(SMOKE, horizon=3, context_length=24, held_out=40, validation=20)
    result = run_demo(tmp_path, counts=load(), arms={"fixed": FixedPatcher(4)}, settings=settings)

    written = pd.read_csv(tmp_path / "metrics.csv")
    for table in (result.metrics, written):
        is_naive = (table["kind"] == "naive").to_numpy()
        assert set(table.loc[is_naive, "method"]) == set(NAIVE)
        assert_beside_naive(table, is_naive)
    assert set(written["sensor"]) == {"all sensors", "a", "b"}
