"""The forecaster for sktime passes sktime's tests, and forecasts as `Forecaster` does.

sktime compares forecasts that are flat data frames without looking at their values, so the tests of
repeated fits, pickles and files are here as well, bit for bit.
"""

from __future__ import annotations

import inspect
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidFrameError,
    InvalidParameterError,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
)

pytest.importorskip("sktime", reason="the extra 'sktime' is not installed")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sktime.base import load
    from sktime.forecasting.base import ForecastingHorizon
    from sktime.split import ExpandingWindowSplitter
    from sktime.utils.estimator_checks import check_estimator

from adaptivepatch.adapters.sktime import AdaptivePatchForecaster

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of sktime about itself

TRUE_TAGS = [
    *("capability:multivariate", "capability:pred_int", "capability:missing_values"),
    *("capability:update", "capability:pretrain", "capability:random_state"),
]
FAST_CHECKS = [
    *("test_class_has_doctest_example", "test_constructor", "test_clone", "test_set_params"),
    *("test_set_params_sklearn", "test_get_test_params_coverage", "test_object_tags"),
    *("test_random_tags", "test_valid_object_tags", "test_fit_does_not_overwrite_hyper_params"),
    *("test_pred_int_tag", "test_update_tag", "test_cutoff", "test_predict_quantiles"),
    *("test_hierarchical_with_exogenous", "test_unequal_length_hierarchical_fit_predict"),
    *("test_pretrain_capability_tag", "test_pretrain_clone_preserves_state"),
    *("test_pretrain_fitted_params_separation", "test_pretrain_not_reset_by_fit"),
    *("test_categorical_y_raises_error", "test_y_invalid_type_raises_error"),
]
SMALL = {
    "context_length": 12,
    "backbone": TransformerBackbone(d_model=8, num_layers=1, num_heads=2, d_ff=8),
    "random_state": 1,
}
TINY = {**SMALL, "patcher": FixedPatcher(4, 4), "trainer": Trainer(max_steps=3, progress=False)}


def make(**changes):
    return AdaptivePatchForecaster(**{**TINY, **changes})


def core(horizon=3, **changes):
    own = {"missing": "mask", "quantiles": make().quantiles}
    return Forecaster(horizon, **{**TINY, **own, **changes})


def table(rows=60, channels=("load", "heat"), seed=0, start="2024-01-01"):
    values = np.random.default_rng(seed).normal(size=(rows, len(channels))).cumsum(0)
    index = pd.date_range(start, periods=rows, freq="h", name="time")
    return pd.DataFrame(values, index=index, columns=list(channels))


def panel(lengths=(40, 50), channels=("load", "heat"), names=("shop", "time")):
    parts = {f"s{k}": table(rows, channels, seed=k) for k, rows in enumerate(lengths)}
    return pd.concat(parts, names=list(names))


def long(y):
    return y.rename_axis(["item_id", "timestamp"]).reset_index()


def weights(forecaster):
    return {k: v.clone() for k, v in forecaster.network_.state_dict().items()}


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())


DATA = {"series": lambda: table(channels=("load",))["load"], "table": table, "panel": panel}
every_data = pytest.mark.parametrize("kind", DATA)


# --------------------------------------------------------------------------- tests of sktime


def check(**which):
    results = check_estimator(
        AdaptivePatchForecaster, raise_exceptions=False, verbose=False, **which
    )
    failed = {name: result for name, result in results.items() if result != "PASSED"}
    assert failed == {}
    return len(results)


def test_tags_state_what_is_there():
    tags = AdaptivePatchForecaster.get_class_tags()
    assert [tag for tag in TRUE_TAGS if tags[tag] is not True] == []
    assert {"pd-multiindex", "pd_multiindex_hier"} < set(tags["y_inner_mtype"])
    assert not tags.get("tests:skip_by_name")
    assert not tags.get("tests:skip_all")
    assert tags["property:randomness"] == "derandomized"
    for parameters in AdaptivePatchForecaster.get_test_params():
        own = AdaptivePatchForecaster(**parameters).get_tags()
        assert [tag for tag in TRUE_TAGS if own[tag] is not True] == []


def test_a_selection_of_the_tests_of_sktime():
    assert check(tests_to_run=FAST_CHECKS) >= 75


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_tests_of_sktime():
    assert check() >= 690


# ------------------------------------------------------------------- delegation, bit for bit


def test_forecasts_are_those_of_a_forecaster():
    y = panel()
    found = make().fit(y, fh=[1, 3])
    own = core().fit(long(y))
    assert_same_weights(weights(found.forecaster_), weights(own))
    tidy = own.predict()  # by item, channel and step
    values = tidy["prediction"].to_numpy().reshape(2, 2, 3)[:, :, [0, 2]]
    expected = values.transpose(0, 2, 1).reshape(4, 2)
    np.testing.assert_array_equal(found.predict().to_numpy(), expected)
    keys = tidy[tidy["target_name"] == "load"].iloc[[0, 2, 3, 5]]
    assert found.predict().index.tolist() == list(
        keys[["item_id", "timestamp"]].itertuples(index=False, name=None)
    )
    assert found.predict().index.names == ["shop", "time"]


@every_data
def test_a_second_fit_forecasts_the_same(kind):
    forecaster, y = make(), DATA[kind]()
    first = forecaster.fit(y, fh=[1, 2]).predict()
    quantiles = forecaster.predict_quantiles(alpha=[0.1, 0.6])
    forecaster.fit(y, fh=[1, 2])
    assert first.equals(forecaster.predict())
    assert quantiles.equals(forecaster.predict_quantiles(alpha=[0.1, 0.6]))
    other = make(random_state=2).fit(y, fh=[1, 2]).predict()
    assert not np.allclose(first, other)


@every_data
def test_a_pickle_and_a_file_forecast_the_same(kind, tmp_path):
    forecaster, y = make().fit(DATA[kind](), fh=[1, 2]), DATA[kind]()
    forecaster.update(y, update_params=False)
    expected = forecaster.predict(), forecaster.predict_interval(coverage=0.8)
    copies = [pickle.loads(pickle.dumps(forecaster)), load(forecaster.save())]
    forecaster.save(tmp_path / "saved")
    copies.append(AdaptivePatchForecaster.load_from_path(tmp_path / "saved.zip"))
    for copy in copies:
        assert type(copy) is AdaptivePatchForecaster
        assert copy.predict().equals(expected[0])
        assert copy.predict_interval(coverage=0.8).equals(expected[1])


def test_nested_parameters_make_their_component_and_survive_a_clone():
    forecaster = AdaptivePatchForecaster()
    forecaster.set_params(patcher__patch_length=8, trainer__max_steps=2, random_state=3)
    assert (forecaster.patcher.patch_length, forecaster.trainer.max_steps) == (8, 2)
    clone = forecaster.clone()
    assert clone.patcher is not forecaster.patcher
    assert clone.get_params()["patcher__patch_length"] == 8
    assert clone.get_params().keys() == forecaster.get_params().keys()
    assert clone.random_state == 3


# ---------------------------------------------------------------------- horizon and stamps


def test_a_horizon_allows_any_fh_up_to_it():
    forecaster = make(horizon=4).fit(table())
    both = forecaster.predict(fh=[1, 4])
    assert both.iloc[[1]].equals(forecaster.predict(fh=[4]))
    with pytest.raises(InvalidParameterError, match=r"from .* to .*, the 4 steps .* Got \[5\]"):
        forecaster.predict(fh=[5])
    with pytest.raises(InvalidParameterError, match="beyond the horizon of 4 steps"):
        make(horizon=4).fit(table(), fh=[6])
    with pytest.raises(ValueError, match="`fh` must be passed"):
        make().fit(table())


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(100, 140),
        pd.period_range("2019-02", periods=40, freq="Q"),
        pd.date_range("2024-03-20", periods=40, freq="D", tz="Europe/Berlin"),
        pd.date_range("2020-01-31", periods=40, freq="ME"),
    ],
    ids=["integers", "quarters", "time zone", "ends of months"],
)
def test_forecasts_have_the_stamps_after_the_series(index):
    known = index[:30]
    y = pd.DataFrame({"a": np.arange(30.0)}, index=known)
    assert make().fit(y, fh=[1, 3]).predict().index.tolist() == [index[30], index[32]]
    fh = ForecastingHorizon(index[[30, 32]], is_relative=False)
    assert make().fit(y, fh=fh).predict().index.tolist() == [index[30], index[32]]


def test_each_series_of_a_panel_is_forecast_from_its_own_end():
    y = panel((40, 50))
    found = make().fit(y, fh=[2]).predict()
    assert found.index.tolist() == [
        (item, y.loc[item].index[-1] + pd.Timedelta("2h")) for item in ("s0", "s1")
    ]
    late = y.loc["s1"].index[-1] + pd.Timedelta("1h")  # step 11 of the series s0
    fh = ForecastingHorizon(pd.DatetimeIndex([late]), is_relative=False, freq="h")
    forecaster = make().fit(y, fh=fh)
    assert forecaster.forecaster_.horizon == 11
    assert forecaster.predict().index.tolist() == [("s0", late), ("s1", late)]


def test_one_network_forecasts_a_hierarchy():
    parts = {("north", "a"): table(seed=1), ("north", "b"): table(seed=2), ("south", "a"): table()}
    y = pd.concat(parts, names=["area", "shop", "time"])
    forecaster = make().fit(y, fh=[1])
    assert forecaster.forecaster_.model_.item_ids == (
        ("north", "a"),
        ("north", "b"),
        ("south", "a"),
    )
    found = forecaster.predict()
    assert found.index.names == ["area", "shop", "time"]
    assert found.index.droplevel(-1).tolist() == list(parts)


def test_variables_must_not_be_called_like_the_keys():
    with pytest.raises(InvalidFrameError, match=r"Got \['timestamp'\]. Rename"):
        make().fit(table(channels=("timestamp", "x")), fh=1)


# ------------------------------------------------------------------------------- quantiles


def test_quantiles_are_interpolated_and_intervals_are_quantiles():
    forecaster = make(quantiles=(0.1, 0.5, 0.9)).fit(table(), fh=[1, 2])
    q = forecaster.predict_quantiles(alpha=[0.1, 0.2, 0.5, 0.9])
    assert q.columns.tolist() == [(v, a) for v in ("load", "heat") for a in (0.1, 0.2, 0.5, 0.9)]
    np.testing.assert_allclose(q["load"][0.2], 0.75 * q["load"][0.1] + 0.25 * q["load"][0.5])
    assert forecaster.predict().equals(q.xs(0.5, axis=1, level=1))
    interval = forecaster.predict_interval(coverage=0.8)
    np.testing.assert_allclose(interval["heat"][0.8]["lower"], q["heat"][0.1])
    np.testing.assert_allclose(interval["heat"][0.8]["upper"], q["heat"][0.9])
    assert (forecaster.predict_var() >= 0).all(axis=None)
    with pytest.raises(InvalidParameterError, match="from 0.1 to 0.9, .* Got 0.05"):
        forecaster.predict_interval(coverage=0.9)


def test_without_quantiles_there_are_no_intervals():
    forecaster = make(quantiles=None).fit(table(), fh=1)
    assert forecaster.predict().shape == (1, 2)
    with pytest.raises(NotImplementedError, match="prediction intervals"):
        forecaster.predict_interval()


# ------------------------------------------------------------------- X and missing values


def test_exogenous_data_are_refused_or_ignored_on_request():
    y, x = table(), table(63, channels=("sun",))
    message = "Exogenous data are not yet supported. Got X of type DataFrame. Leave X out"
    with pytest.raises(InvalidParameterError, match=message):
        make().fit(y, X=x, fh=1)
    fitted = make().fit(y, fh=1)
    with pytest.raises(InvalidParameterError, match=message):
        fitted.predict(X=x)
    ignoring = make(exogenous="ignore").fit(y, X=x, fh=1)
    assert ignoring.predict(X=x).equals(fitted.predict())
    with pytest.raises(InvalidParameterError, match="'exogenous'"):
        make(exogenous="use").fit(y, fh=1)


def test_missing_values_and_absent_stamps_are_masked():
    y = table()
    y.iloc[20:24, 0] = np.nan
    y = y.drop(y.index[30])
    found = make().fit(y, fh=[1, 2, 3])
    own = core().fit(y)
    assert_same_weights(weights(found.forecaster_), weights(own))
    expected = own.predict()["prediction"].to_numpy().reshape(2, 3).T
    np.testing.assert_array_equal(found.predict().to_numpy(), expected)
    strict = make(missing="error")
    assert strict.get_tag("capability:missing_values") is False
    with pytest.raises(ValueError, match="missing data"):
        strict.fit(y, fh=1)


# ---------------------------------------------------------------------------------- update


@pytest.mark.parametrize("kind", ["table", "panel"])
def test_update_appends_rows(kind):
    y = table() if kind == "table" else panel((50, 50))
    frame = y if kind == "table" else long(y)
    early = y[y.index.get_level_values("time") < "2024-01-02 20:00"]
    new = y.drop(early.index)
    forecaster = make().fit(early, fh=[1, 2, 3])
    before = weights(forecaster.forecaster_)
    forecaster.update(new, update_params=False)
    assert_same_weights(before, weights(forecaster.forecaster_))
    own = core().fit(early if kind == "table" else long(early))
    values = own.predict(frame)["prediction"].to_numpy().reshape(-1, 2, 3)
    expected = values.transpose(0, 2, 1).reshape(-1, 2)
    np.testing.assert_array_equal(forecaster.predict().to_numpy(), expected)
    assert forecaster.cutoff[0] == y.index[-1] if kind == "table" else y.index[-1][-1]


@pytest.mark.parametrize("kind", ["table", "panel"])
def test_update_continues_training_on_all_rows(kind):
    y = table() if kind == "table" else panel((50, 50))
    early = y[y.index.get_level_values("time") < "2024-01-02 20:00"]
    forecaster = make().fit(early, fh=[1, 2, 3])
    before = weights(forecaster.forecaster_)
    forecaster.update(y.drop(early.index), update_params=True)
    own = core().fit(early if kind == "table" else long(early))
    own = core().fit(y if kind == "table" else long(y), init=own)
    assert_same_weights(weights(own), weights(forecaster.forecaster_))
    assert any(not torch.equal(v, before[k]) for k, v in weights(own).items())


def test_update_of_one_series_keeps_the_others():
    y = panel((40, 40))
    forecaster = make().fit(y, fh=[1])
    before = forecaster.predict()
    more = pd.concat({"s1": table(45, seed=1).iloc[40:]}, names=["shop", "time"])
    after = forecaster.update(more, update_params=False).predict()
    assert after.loc["s0"].equals(before.loc["s0"])
    assert after.loc["s1"].index[0] == before.loc["s1"].index[0] + pd.Timedelta("5h")


def test_forecasts_back_in_time_do_not_see_later_rows():
    y = table()
    forecaster = make().fit(y, fh=[1, 2])
    cv = ExpandingWindowSplitter(fh=[1, 2], initial_window=30, step_length=10)
    found = forecaster.update_predict(y, cv=cv, update_params=False)
    cutoff = y.index[39]
    model = make().fit(y, fh=[1, 2]).to_forecaster()
    expected = model.predict(y.loc[:cutoff])["prediction"].to_numpy().reshape(2, 2).T
    np.testing.assert_array_equal(found[cutoff].dropna().to_numpy(), expected)
    assert forecaster.cutoff[0] == y.index[-1]


def test_update_refuses_other_variables():
    forecaster = make().fit(table(), fh=1)
    with pytest.raises(InvalidFrameError, match=r"\['load', 'heat'\]. Got 1 level.* \['load'\]"):
        forecaster.update(table()[["load"]], update_params=False)


# -------------------------------------------------------------------------------- pretrain


def learned(**changes):
    return make(patcher=ReinPatcher(compression_rate=4, shortest=8), **changes)


def test_fit_after_pretrain_keeps_the_patcher_and_trains_the_rest():
    forecaster = learned().pretrain(panel((40, 50)), fh=[1, 2, 3])
    first = forecaster.pretrained_
    kept = {k: v.clone() for k, v in first.patcher_.state_dict().items()}
    forecaster.fit(table(30, channels=("sales",)), fh=[1, 2, 3])
    fitted = forecaster.forecaster_
    assert fitted.patcher_.is_frozen
    assert not first.patcher_.is_frozen
    assert_same_weights(kept, dict(fitted.patcher_.state_dict()))
    assert forecaster.predict().columns.tolist() == ["sales"]
    changed = forecaster.clone().set_config(warnings="off")
    assert changed.state == "pretrained"
    again = changed.fit(table(30, channels=("sales",)), fh=[1, 2, 3])
    assert again.predict().equals(forecaster.predict())
    cold = learned().fit(table(30, channels=("sales",)), fh=[1, 2, 3])
    assert not np.allclose(cold.predict(), forecaster.predict())
    forecaster.update(table(33, channels=("sales",)).iloc[30:])
    assert_same_weights(kept, dict(forecaster.forecaster_.patcher_.state_dict()))


def test_a_second_pretrain_continues():
    one, two = panel((40, 50)), panel((45, 45))
    forecaster = make().pretrain(one, fh=[1, 2, 3]).pretrain(two)
    own = core().fit(long(two), init=core().fit(long(one)))
    assert_same_weights(weights(own), weights(forecaster.pretrained_))


def test_pretrain_needs_a_number_of_steps():
    with pytest.raises(InvalidParameterError, match=r"Got horizon=None and fh=None"):
        make().pretrain(panel())
    forecaster = make().pretrain(panel(), fh=[1, 2])
    with pytest.raises(InvalidParameterError, match="beyond the horizon of 2 steps"):
        forecaster.fit(table(), fh=[3])


# ------------------------------------------------------------------------------ conversion


@pytest.mark.parametrize("quantiles", [None, (0.1, 0.5, 0.9)])
@pytest.mark.parametrize("kind", ["wide", "long"])
def test_a_fitted_forecaster_is_used_without_training(kind, quantiles, monkeypatch):
    wide = table(channels=("load", "heat"))
    df = wide if kind == "wide" else panel(names=("shop", "hour")).reset_index()
    keys = {} if kind == "wide" else {"item_id": "shop", "timestamp": "hour"}
    fitted = core(quantiles=quantiles).fit(df, **keys)
    original = fitted.predict()
    with monkeypatch.context() as patch:
        patch.setattr(Forecaster, "fit", None)
        forecaster = AdaptivePatchForecaster.from_forecaster(fitted)
        found = forecaster.predict(fh=[1, 2, 3])
        back = forecaster.to_forecaster()
    expected = original["prediction"].to_numpy().reshape(-1, 2, 3).transpose(0, 2, 1)
    np.testing.assert_allclose(found.to_numpy(), expected.reshape(-1, 2), rtol=0, atol=1e-6)
    assert found.columns.tolist() == ["load", "heat"]
    pd.testing.assert_frame_equal(back.predict(), original, check_exact=True)
    if quantiles:
        q = forecaster.predict_quantiles(fh=[1, 2, 3], alpha=[0.1])
        own = original["0.1"].to_numpy().reshape(-1, 2, 3).transpose(0, 2, 1).reshape(-1, 2)
        np.testing.assert_allclose(q.to_numpy(), own, rtol=0, atol=1e-6)
    if kind == "long":  # both go on with the names of the keys
        new = table(52, seed=1).iloc[50:].rename_axis("hour")
        forecaster.update(pd.concat({"s1": new}, names=["shop"]), update_params=True)
        assert forecaster.to_forecaster().columns_["item_id"] == "shop"


def test_a_forecaster_that_is_returned_knows_appended_rows(tmp_path):
    y = table()
    forecaster = make().fit(y.iloc[:50], fh=[1, 2, 3]).update(y.iloc[50:], update_params=False)
    forecaster.to_forecaster().save(tmp_path / "model")
    found = Forecaster.load(tmp_path / "model").predict()["prediction"].to_numpy()
    np.testing.assert_array_equal(found.reshape(2, 3).T, forecaster.predict().to_numpy())


def test_an_unfitted_forecaster_is_refused():
    with pytest.raises(ValueError, match="not fitted"):
        AdaptivePatchForecaster.from_forecaster(core())


def test_parameters_have_the_defaults_of_forecaster():
    """A new parameter or default of `Forecaster` must reach sktime too."""
    signature = inspect.signature(Forecaster.__init__).parameters
    own = inspect.signature(AdaptivePatchForecaster.__init__).parameters
    assert set(signature) < set(own)
    differs = {name for name in signature if own[name].default != signature[name].default}
    assert differs == {"horizon", "quantiles", "missing"}
