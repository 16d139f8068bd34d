"""What is unusual but legitimate works from `fit` to `backtest`; what is not gets an answer."""

from __future__ import annotations

import datetime
import decimal
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidFrameError,
    InvalidParameterError,
    Trainer,
    TransformerBackbone,
)

HORIZON, CONTEXT, ROWS = 4, 16, 40


def make(**parameters) -> Forecaster:
    defaults = {
        "horizon": HORIZON,
        "context_length": CONTEXT,
        "patcher": FixedPatcher(4),
        "backbone": TransformerBackbone(d_model=8, num_layers=1),
        "trainer": Trainer(max_steps=3, batch_size=16),
        "random_state": 0,
    }
    return Forecaster(**{**defaults, **parameters})


def waves(rows=ROWS, scale=1.0):
    return scale * (3 + np.sin(np.arange(rows)))


def wide(index, values=None) -> pd.DataFrame:
    return pd.DataFrame({"y": waves(len(index)) if values is None else values}, index=index)


def long(lengths, ids=None) -> pd.DataFrame:
    ids = [f"item{k:04d}" for k in range(len(lengths))] if ids is None else ids
    frame = pd.DataFrame({"item_id": pd.Series(ids).repeat(lengths).reset_index(drop=True)})
    frame["timestamp"] = np.concatenate([np.arange(n) for n in lengths])
    return frame.assign(y=np.sin(np.arange(len(frame))))


def forecast_of(frame, fit=None, **parameters) -> pd.DataFrame:
    """Fit, predict and backtest, with nothing to warn about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The validation loss was still falling")
        model = make(**parameters).fit(frame, **(fit or {}))
        forecast = model.predict()
        backtest = model.backtest(frame)
        pd.testing.assert_frame_equal(model.predict(frame), forecast)
    assert np.isfinite(forecast.prediction).all()
    assert np.isfinite(backtest.to_frame().prediction).all()
    return forecast


# ------------------------------------------------------------------------------------ frequencies


FREQUENCIES = [
    "B", "ME", "MS", "QE", "QS", "YE", "W-SUN", "W-WED", "2W", "BME", "BQE", "SMS", "bh", "12h",
    "15min", "s", "ms", "QS-FEB", "YE-JUN", "WOM-2TUE", "2B",
    pd.offsets.CustomBusinessDay(weekmask="Sun Mon Tue Wed Thu"),
    pd.offsets.CustomBusinessHour(start="08:00", end="12:00"),
]  # fmt: skip


@pytest.mark.parametrize("freq", FREQUENCIES, ids=str)
def test_any_frequency_is_forecast(freq):
    index = pd.date_range("2019-01-06", periods=ROWS + HORIZON, freq=freq)
    forecast = forecast_of(wide(index[:ROWS]), {"freq": freq})
    assert forecast.timestamp.tolist() == index[ROWS:].tolist()


@pytest.mark.parametrize("freq", FREQUENCIES[-2:], ids=str)
def test_a_step_that_cannot_be_inferred_can_be_named(freq):
    index = pd.date_range("2019-01-06", periods=ROWS, freq=freq)
    with pytest.raises(InvalidFrameError, match=r"(lacks|only) .* freq=\.\.\."):
        make().fit(wide(index))


SPRING, AFTER, AUTUMN = "2024-03-30 20:00", "2024-04-02", "2024-10-26 20:00"


@pytest.mark.parametrize(
    ("freq", "end"),
    [
        *(("h", end) for end in (SPRING, AFTER, AUTUMN)),
        *(("D", end) for end in (SPRING, AFTER, AUTUMN)),
        ("30min", AUTUMN),
        ("6h", SPRING),
        ("W-SUN", SPRING),
        ("MS", AUTUMN),
        ("B", AFTER),
    ],
)
def test_clock_changes_are_crossed(freq, end):
    start = pd.date_range(end=end, periods=ROWS, freq=freq, tz="Europe/Berlin")[0]
    index = pd.date_range(start, periods=ROWS + HORIZON, freq=freq)
    forecast = forecast_of(wide(index[:ROWS]))
    assert forecast.timestamp.tolist() == index[ROWS:].tolist()
    assert str(forecast.timestamp.dtype).endswith("Europe/Berlin]")


LAST_DAYS = {  # last day of the history -> local times of the next four days
    "2024-03-29": ["30 02:30+01:00", "31 03:00+02:00", "04-01 02:30+02:00", "04-02 02:30+02:00"],
    "2024-03-31": ["04-01 02:30+02:00", "04-02 02:30+02:00", "04-03 02:30+02:00"],
    "2024-10-25": ["26 02:30+02:00", "27 02:30+02:00", "28 02:30+01:00", "29 02:30+01:00"],
    "2024-10-27": ["28 02:30+01:00", "29 02:30+01:00", "30 02:30+01:00", "31 02:30+01:00"],
}


def local_days(last, first, skipped="shift_forward"):
    clock = pd.date_range(end=f"{last} 02:30", periods=ROWS, freq="D")
    which = np.full(ROWS, first)
    return clock.tz_localize("Europe/Berlin", ambiguous=which, nonexistent=skipped)


@pytest.mark.parametrize("last", LAST_DAYS)
@pytest.mark.parametrize(
    ("first", "skipped"), [(True, "shift_forward"), (False, pd.Timedelta(hours=1))]
)
def test_times_that_a_clock_change_skips_or_repeats(last, first, skipped):
    """02:30 does not exist on 31 March 2024 and comes twice on 27 October."""
    index = local_days(last, first, skipped)
    forecast = forecast_of(wide(index))
    for stamp, text in zip(forecast.timestamp, LAST_DAYS[last], strict=False):
        day, clock = text.split(" ")
        assert str(stamp).endswith(clock.replace("+", ":00+"))
        assert stamp.strftime("%Y-%m-%d").endswith(day)
    model = make().fit(wide(index))
    assert model.backtest(wide(index)).cutoff[-1] in index


def test_a_skipped_day_may_be_missing():
    index = local_days("2024-04-10", True)
    frame = wide(index).drop(pd.Timestamp("2024-03-31 03:00", tz="Europe/Berlin"))
    with pytest.raises(InvalidFrameError, match=r"lacks 1 .* '2024-03-31 03:00:00\+02:00'"):
        make().fit(frame)
    assert len(forecast_of(frame, missing="mask")) == HORIZON


def test_both_of_two_repeated_times_are_refused():
    index = local_days("2024-11-10", True)
    second = pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin")
    frame = wide(index.append(pd.DatetimeIndex([second])).sort_values())
    with pytest.raises(InvalidFrameError, match=r"'2024-10-27 02:30:00\+01:00', which is off the"):
        make(missing="mask").fit(frame, freq="D")


def test_midnight_may_be_skipped():
    """In Beirut a day of 2024 began at 01:00."""
    index = pd.date_range(end="2024-03-30", periods=ROWS, freq="D", tz="Asia/Beirut")
    forecast = forecast_of(wide(index))
    assert [stamp.hour for stamp in forecast.timestamp] == [1, 0, 0, 0]
    later = pd.date_range(end="2024-04-05", periods=ROWS, freq="D")
    later = later.tz_localize("Asia/Beirut", nonexistent="shift_forward")
    assert forecast_of(wide(later)).timestamp[0] == pd.Timestamp("2024-04-06", tz="Asia/Beirut")


def test_zones_are_not_mixed():
    stamps = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    zones = [stamps.tz_localize(zone) for zone in ("UTC", "Europe/Berlin")]
    mixed = pd.Series([stamp for zone in zones for stamp in zone], dtype=object)
    frame = pd.DataFrame({"item_id": np.repeat(["a", "b"], ROWS), "timestamp": mixed, "y": 1.0})
    match = (
        r"mixes the time zones \['Europe/Berlin', 'UTC'\]\. Convert it to one time zone with pd\.t"
    )
    with pytest.raises(InvalidFrameError, match=match):
        make().fit(frame)
    frame["timestamp"] = pd.to_datetime(mixed, utc=True).dt.tz_convert("Asia/Tokyo")
    assert str(forecast_of(frame).timestamp.dtype).endswith("Asia/Tokyo]")


@pytest.mark.parametrize("freq", ["M", "Q", "h", "W"])
def test_periods_count_on(freq):
    index = pd.period_range("2001-01-01", periods=ROWS + HORIZON, freq=freq)
    forecast = forecast_of(wide(index[:ROWS]))
    assert forecast.timestamp.tolist() == index[ROWS:].to_timestamp().tolist()


@pytest.mark.parametrize("first", [-40, 0, 10**12])
def test_integer_steps_of_more_than_one(first):
    stamps = np.delete(first + 3 * np.arange(ROWS), 5)
    with pytest.raises(InvalidFrameError, match=rf"step 3, the first at '{first + 15}'"):
        make().fit(wide(stamps))
    forecast = forecast_of(wide(stamps), missing="mask")
    assert forecast.timestamp.tolist() == (stamps[-1] + 3 * np.arange(1, 5)).tolist()


# -------------------------------------------------------------------------------- types of columns


@pytest.mark.parametrize(
    "dtype", ["Int64", "Int32", "UInt8", "Float64", "Float32", "float16", "int8", "Sparse[float]"]
)
def test_numbers_of_any_type(dtype):
    values = pd.Series(np.arange(ROWS) % 7).astype(float).astype(dtype).array
    frame = wide(pd.date_range("2024", periods=ROWS, freq="h"), values)
    expected = forecast_of(frame.astype("float64"))
    pd.testing.assert_frame_equal(forecast_of(frame), expected)


@pytest.mark.parametrize("dtype", ["int64[pyarrow]", "double[pyarrow]", "uint8[pyarrow]"])
def test_numbers_of_arrow(dtype):
    pytest.importorskip("pyarrow")
    frame = wide(np.arange(ROWS), (np.arange(ROWS) % 7).astype("float64"))
    expected = forecast_of(frame)
    pd.testing.assert_frame_equal(forecast_of(frame.astype(dtype)), expected)
    gap = frame.astype(dtype)
    gap.iloc[5, 0] = pd.NA
    assert len(forecast_of(gap, missing="mask")) == HORIZON


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (pd.Series([True, False] * 20), r"dtype 'bool'.*\.astype\(float\)"),
        (pd.Series([True, False] * 20, dtype="boolean"), r"dtype 'boolean'.*\.astype\(float\)"),
        (pd.Series([decimal.Decimal(k) for k in range(ROWS)]), "dtype 'object'.*pd.to_numeric"),
        (pd.Series(["1.5"] * ROWS, dtype=object), "dtype '(object|str)'.*pd.to_numeric"),
        (pd.Series(range(ROWS)).astype("category"), "dtype 'category'.*pd.to_numeric"),
    ],
)
def test_what_is_no_number_is_converted_as_the_message_says(values, remedy):
    frame = wide(np.arange(ROWS), values.array)
    with pytest.raises(InvalidFrameError, match=remedy):
        make().fit(frame)
    if "to_numeric" in remedy:
        frame["y"] = pd.to_numeric(frame["y"])
    else:
        frame["y"] = frame["y"].astype(float)
    assert len(forecast_of(frame)) == HORIZON


@pytest.mark.parametrize(
    ("stamps", "remedy"),
    [
        (pd.Series([f"2024-02-{k:02d}" for k in range(1, 21)], dtype=object), "pd.to_datetime"),
        (pd.Series([datetime.date(2024, 2, k) for k in range(1, 21)]), "pd.to_datetime"),
        (pd.Series(np.arange(20.0)), r"\.astype\('int64'\)"),
        (pd.Series(pd.to_timedelta(np.arange(20), unit="h")), "Add a start date"),
    ],
)
def test_what_is_no_time_is_converted_as_the_message_says(stamps, remedy):
    frame = pd.DataFrame({"timestamp": stamps, "y": waves(20)})
    with pytest.raises(InvalidFrameError, match=f"Stamps must be datetimes .*{remedy}"):
        make().fit(frame)
    if "astype" in remedy:
        frame["timestamp"] = stamps.astype("int64")
    elif "start" in remedy:
        frame["timestamp"] = stamps + pd.Timestamp("2024-01-01")
    else:
        frame["timestamp"] = pd.to_datetime(stamps)
    assert len(forecast_of(frame)) == HORIZON


def test_integers_beyond_64_bits_are_refused():
    stamps = np.arange(ROWS).astype("uint64") + np.uint64(2**63)
    with pytest.raises(InvalidFrameError, match=r"into 64 bits, but the column 'timestamp' reach"):
        make().fit(pd.DataFrame({"timestamp": stamps, "y": waves()}))


@pytest.mark.parametrize(
    "ids",
    [
        [3, 1],
        ["b", "a"],
        ["a", 1],
        ["1", 1],
        [1.5, 2.5],
        [True, False],
        [("a", 1), ("b", 2)],
        pd.Categorical(["b", "a"], categories=["b", "unused", "a"]),
        pd.array([2, 1], dtype="Int64"),
        pd.array(["b", "a"], dtype="string"),
    ],
    ids=repr,
)
def test_items_of_any_name(ids):
    frame = long([30, 40], ids)
    forecast = forecast_of(frame)
    assert forecast.item_id.drop_duplicates().tolist() == list(ids)
    assert make().fit(frame).segment().item_id.drop_duplicates().tolist() == list(ids)


# ------------------------------------------------------------------------------- sizes and lengths


@pytest.mark.parametrize("scale", [1e12, 1e-12, 1e-200, 1e150])
def test_the_scale_does_not_matter(scale):
    expected = forecast_of(wide(np.arange(ROWS)))
    forecast = forecast_of(wide(np.arange(ROWS), waves(scale=scale)))
    np.testing.assert_allclose(forecast.prediction, scale * expected.prediction, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e12, 1e-12])
def test_constant_series_stay_near_their_value(value):
    forecast = forecast_of(wide(np.arange(ROWS), np.full(ROWS, value)))
    assert (np.abs(forecast.prediction - value) <= 3).all()


def test_channels_of_any_scale_together():
    frame = pd.DataFrame({"c": waves(), "a": waves(scale=1e12), "b": waves(scale=1e-12), "k": 5})
    forecast = forecast_of(frame)
    assert forecast.target_name.drop_duplicates().tolist() == ["c", "a", "b", "k"]
    assert forecast.groupby("target_name").prediction.mean()["a"] > 1e11


def test_a_single_window():
    rows = CONTEXT + HORIZON
    with pytest.warns(UserWarning, match="Training runs its fixed number of steps"):
        model = make(context_length=30).fit(wide(np.arange(2 + HORIZON)))
    assert len(model.predict()) == HORIZON
    assert len(forecast_of(wide(np.arange(rows)))) == HORIZON


def test_a_thousand_items_of_different_length():
    lengths = np.random.default_rng(0).integers(2 + HORIZON, 90, 1000)
    assert np.median(lengths) < 64
    model = make(context_length=64)
    started = time.process_time()
    model.fit(long(lengths))
    forecast = model.predict()
    assert time.process_time() - started < 10
    assert len(forecast) == 1000 * HORIZON
    assert (forecast.groupby("item_id").timestamp.first().to_numpy() == lengths).all()
    assert len(model.segment().item_id.unique()) == 1000


def test_calendars_are_built_once_for_all_items():
    """Month starts in a zone: a calendar each would take seconds."""
    index = pd.date_range("1990-01-01", periods=400, freq="MS", tz="Europe/Berlin")
    parts = [wide(index[k : k + 40 + k % 7]).assign(item_id=k) for k in range(300)]
    frame = pd.concat(parts).rename_axis("timestamp").reset_index()
    model = make().fit(frame)
    started = time.process_time()
    forecast = model.predict(frame)
    assert time.process_time() - started < 5
    expected = [index[k + 40 + k % 7] for k in range(300)]
    assert forecast.groupby("item_id").timestamp.first().tolist() == expected


# ------------------------------------------------------------------------------------ short items


def test_short_items_are_refused_or_skipped():
    frame = long([30, 5, 40, 1])
    match = (
        r"Series 'item0001' \(and 1 more\) has 5 observations, but horizon 4 needs at least 6 .*\. "
        r'Drop the series, reduce the horizon, or pass short="skip" to fit\.'
    )
    with pytest.raises(InvalidFrameError, match=match):
        make().fit(frame)
    with pytest.warns(
        UserWarning, match=r"2 of 4 series have fewer rows and are left out: 'item0001', 'item00"
    ):
        model = make().fit(frame, short="skip")
    assert model.skipped_ == ("item0001", "item0003")
    kept = frame[frame.item_id.isin(["item0000", "item0002"])]
    alone = make().fit(kept)
    assert alone.skipped_ == ()
    pd.testing.assert_frame_equal(model.predict(), alone.predict())
    new = frame[frame.item_id == "item0001"]
    pd.testing.assert_frame_equal(model.predict(new), alone.predict(new))
    with pytest.raises(
        InvalidFrameError, match="needs 2 look-back points, but series 'item0003' has 1"
    ):
        model.predict(frame)


def test_not_all_items_can_be_skipped():
    with pytest.raises(InvalidFrameError, match="the longest of 2 series has 5"):
        make().fit(long([5, 4]), short="skip")
    with pytest.raises(InvalidParameterError, match=r"'short' .* 'error' or 'skip'\. Got 'drop'"):
        make().fit(long([30]), short="drop")


# ----------------------------------------------------------------------------------- wide frames


@pytest.mark.parametrize(
    "values",
    [
        waves() + 200,
        waves(scale=1e4),
        3 + 1e-5 * np.sin(np.arange(ROWS)),
    ],
)
def test_another_series_in_wide_form_is_noticed(values):
    model = make().fit(wide(np.arange(ROWS)))
    other = wide(np.arange(ROWS), values)
    with pytest.warns(
        UserWarning, match=r"treated as the series of fit.*as an item of a long frame"
    ):
        model.predict(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The validation loss was still falling")
        model.predict(other.assign(item_id="other", timestamp=np.arange(ROWS)))


@pytest.mark.parametrize("values", [waves() + 50, waves(scale=20.0), np.full(ROWS, 3.0)])
def test_later_values_of_the_same_series_need_no_warning(values):
    model = make().fit(wide(np.arange(ROWS)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The validation loss was still falling")
        model.predict(wide(np.arange(100, 100 + ROWS), values))
        constant = make().fit(wide(np.arange(ROWS), np.full(ROWS, 1e9)))
        constant.predict(wide(np.arange(ROWS), np.full(ROWS, 2e9)))


# ------------------------------------------------------------------------------------- covariates


@pytest.mark.parametrize("role", ["past_covariates", "future_covariates", "static_covariates"])
def test_covariate_roles_are_reserved(role):
    frame = wide(np.arange(ROWS))
    with pytest.raises(InvalidParameterError, match=rf"not yet supported.*{role} of type list and"):
        make().fit(frame, **{role: ["z"]})
    make().fit(frame, **{role: None})
    with pytest.raises(TypeError, match="no parameter 'covariates'. Covariates are not"):
        make().fit(frame, covariates=["z"])
