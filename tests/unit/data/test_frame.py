from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.data.frame import read_frame, refuse_covariates
from adaptivepatch.data.panel import Panel, future_index
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError


def long_frame(lengths, channels=("y",), freq="h", start="2024-01-01"):
    """A long frame of items 'a', 'b', ... whose values are all different."""
    parts = []
    for position, length in enumerate(lengths):
        values = {
            name: 1000.0 * position + 100.0 * column + np.arange(length)
            for column, name in enumerate(channels)
        }
        stamps = pd.date_range(start, periods=length, freq=freq)
        parts.append(pd.DataFrame({"item_id": chr(97 + position), "timestamp": stamps} | values))
    return pd.concat(parts, ignore_index=True)


def wide_frame(length=6, freq="D", **index):
    stamps = pd.date_range("2024-01-01", periods=length, freq=freq, **index)
    return pd.DataFrame({"y": np.arange(float(length))}, index=stamps)


def assert_same(one: Panel, other: Panel) -> None:
    assert one.item_ids == other.item_ids
    assert one.channels == other.channels
    assert one.freq == other.freq
    np.testing.assert_array_equal(one.row_offsets, other.row_offsets)
    np.testing.assert_array_equal(one.values, other.values)
    for left, right in zip(one.index, other.index, strict=True):
        assert left.dtype == right.dtype
        assert left.equals(right)


# ------------------------------------------------------------------------------- layouts


def test_long_frame_is_read_in_canonical_order():
    frame = long_frame([3, 4], channels=("b", "a"))
    panel = read_frame(frame)
    assert panel.item_ids == ("a", "b")
    assert panel.channels == ("a", "b")
    assert panel.lengths.tolist() == [3, 4]
    assert panel.item(1)[:, 1].tolist() == [1000, 1001, 1002, 1003]
    assert panel.freq.freqstr == "h"
    assert panel.layout.channel_order == ("b", "a")
    assert panel.layout.was_long
    assert not panel.layout.stamps_in_index
    assert panel.num_items == panel.num_channels == 2
    assert panel.observed.all()


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 8), min_size=1, max_size=4),
    columns=st.permutations(["item_id", "timestamp", "y", "z"]),
    seed=st.integers(0, 2**16),
)
def test_row_item_and_column_order_do_not_matter(lengths, columns, seed):
    frame = long_frame(lengths, channels=("y", "z"))
    expected = read_frame(frame)
    rank = np.random.default_rng(seed).random(len(frame))
    for rows in frame.groupby("item_id").indices.values():  # interleave items, keep times in order
        rank[rows] = np.sort(rank[rows])
    shuffled = frame.iloc[np.argsort(rank)][list(columns)]
    assert_same(read_frame(shuffled), expected)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(3, 8), min_size=1, max_size=3), gap=st.booleans())
def test_reading_is_idempotent(lengths, gap):
    frame = long_frame(lengths, channels=("y", "z"))
    frame.loc[1, "y"] = np.nan
    frame = frame.drop(index=[1] if gap and lengths[0] > 4 else [])
    panel = read_frame(frame, missing="mask")
    assert_same(read_frame(panel.to_frame(), missing="mask"), panel)


def test_the_frame_is_not_modified():
    frame = long_frame([3, 3]).iloc[::-1].sort_values("timestamp")
    before = frame.copy(deep=True)
    panel = read_frame(frame)
    panel.values[:] = -1
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_wide_frame_keeps_the_resolution_of_its_stamps(unit):
    frame = wide_frame()
    frame.index = frame.index.as_unit(unit)
    panel = read_frame(frame.rename_axis("day"))
    assert panel.item_ids == ("series",)
    assert panel.layout.timestamp == "day"
    assert panel.layout.stamps_in_index
    assert panel.index[0].unit == unit
    assert future_index(panel.index[0], panel.freq, 2).unit == unit


def test_wide_frame_with_a_timestamp_column():
    frame = wide_frame().reset_index(names="when")
    panel = read_frame(frame, timestamp="when")
    assert panel.channels == ("y",)
    assert panel.index[0][-1] == pd.Timestamp("2024-01-06")


def test_periods_become_their_first_moment():
    frame = pd.DataFrame({"y": [1, 2, 3]}, index=pd.period_range("2024-01", periods=3, freq="M"))
    panel = read_frame(frame)
    assert panel.index[0][1] == pd.Timestamp("2024-02-01")
    assert panel.freq.freqstr == "MS"


def test_integer_time_as_index_or_column():
    panel = read_frame(pd.DataFrame({"y": [1, 2, 3]}))
    assert panel.freq == 1
    frame = pd.DataFrame({"item_id": 1, "timestamp": [10, 15, 20], "y": 0})
    panel = read_frame(frame)
    assert panel.freq == 5
    assert future_index(panel.index[0], panel.freq, 2).tolist() == [25, 30]


def test_a_series_is_one_channel():
    assert read_frame(wide_frame()["y"]).channels == ("y",)
    assert read_frame(pd.Series([1.0, 2.0, 3.0])).channels == ("target",)


def test_target_chooses_channels():
    frame = long_frame([3], channels=("y", "z")).assign(note="text")
    assert read_frame(frame, target="z").channels == ("z",)
    assert read_frame(frame, target=["z", "y"]).layout.channel_order == ("z", "y")


@pytest.mark.parametrize("dtype", ["int32", "Int64", "Float64", "float32", "uint8"])
def test_numeric_dtypes_become_float64(dtype):
    panel = read_frame(wide_frame().astype(dtype))
    assert panel.values.dtype == np.float64
    assert panel.values[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_pandas_na_is_unobserved():
    frame = wide_frame().astype("Int64")
    frame.iloc[2, 0] = pd.NA
    panel = read_frame(frame, missing="mask")
    assert panel.observed[:, 0].tolist() == [True, True, False, True, True, True]


def test_ids_of_several_types_are_sorted_by_type_first():
    frame = long_frame([3, 3, 3])
    frame["item_id"] = frame["item_id"].map({"a": "x", "b": 7, "c": 3}).astype(object)
    panel = read_frame(frame)
    assert panel.item_ids == (3, 7, "x")
    assert panel.layout.item_order == ("x", 7, 3)


def test_categorical_ids_are_plain_values():
    frame = long_frame([3, 3])
    frame["item_id"] = pd.Categorical(frame["item_id"], categories=["b", "a", "unused"])
    assert read_frame(frame).item_ids == ("a", "b")


def test_cuts_of_a_panel():
    panel = read_frame(long_frame([3, 5]))
    assert panel.tail(2).values[:, 0].tolist() == [1, 2, 1003, 1004]
    assert panel.tail(4).lengths.tolist() == [3, 4]
    assert panel.slice_rows(0, panel.lengths - 3).lengths.tolist() == [0, 2]
    assert panel.slice_rows(0, panel.lengths - [1, 4]).values[:, 0].tolist() == [0, 1, 1000]
    cut = panel.slice_rows(1, panel.lengths - 1)
    assert cut.values[:, 0].tolist() == [1, 1001, 1002, 1003]
    assert cut.index[0].tolist() == panel.index[0][1:2].tolist()


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        ([1, 2], r"must be a pandas DataFrame or Series\. Got list"),
        (pd.DataFrame(), r"must have rows and columns, but its shape is \(0, 0\)"),
        (pd.DataFrame({0: [1.0]}), r"must be strings\. Got 0 .* df\.columns\.astype\(str\)"),
        (pd.DataFrame([[1, 2]], columns=["y", "y"]), r"must be unique\. Repeated: \['y'\]"),
        (
            pd.DataFrame({"y": [1]}, index=pd.MultiIndex.from_tuples([("a", 1)])),
            r"not be a MultiIndex\. It has 2.*reset_index",
        ),
        (
            pd.DataFrame({"timestamp": pd.date_range("2024", periods=3)}),
            r"at least one value column",
        ),
        (
            pd.DataFrame({"item_id": ["a"] * 3, "y": 1.0}),
            r"long frame needs stamps, but it has no column 'timestamp'",
        ),
        (
            pd.DataFrame({"timestamp": ["2024-01-01", "2024-01-02"], "y": 1.0}),
            r"must be datetimes or integers\. The column 'timestamp' has dtype .*to_datetime",
        ),
        (
            pd.DataFrame({"y": [1.0, 2.0]}, index=["a", "b"]),
            r"The index has dtype .*timestamp=",
        ),
        (
            pd.DataFrame({"date": ["2024-01-01", "2024-01-02"], "y": 1.0}),
            r"Column 'date' has dtype .* pass timestamp='date'",
        ),
        (pd.DataFrame({"y": [True, False]}), r"Column 'y' has dtype 'bool'"),
        (pd.DataFrame({"y": [1j, 2j]}), r"Column 'y' has dtype 'complex128'"),
        (pd.DataFrame({"y": [1.0, None]}, dtype=object), r"Column 'y' has dtype 'object'"),
        (
            pd.DataFrame({"timestamp": pd.to_datetime(["2024-01-01", None]), "y": 1.0}),
            r"1 row\(s\) have none in the .* first one in row 1 \(series 'series'\)",
        ),
        (
            pd.DataFrame({"item_id": ["a", None], "timestamp": [1, 2], "y": 1.0}),
            r"Every row needs an item id, but column 'item_id' has none in row 1",
        ),
    ],
)
def test_what_is_no_frame_of_series_is_refused(frame, match):
    with pytest.raises(InvalidFrameError, match=match):
        read_frame(frame)


def test_unknown_arguments_are_refused():
    with pytest.raises(InvalidFrameError, match=r"'yy' is not a value.*: \['y'\]\. Did you mean"):
        read_frame(wide_frame(), target="yy")
    with pytest.raises(InvalidFrameError, match="3 is not"):
        read_frame(wide_frame(), target=3)
    with pytest.raises(InvalidFrameError, match="each may be named only once"):
        read_frame(wide_frame(), target=["y", "y"])
    with pytest.raises(InvalidParameterError, match=r"'missing' parameter .* Got 'fill'"):
        read_frame(wide_frame(), missing="fill")
    with pytest.raises(InvalidParameterError, match=r"'freq' parameter must be a pandas frequency"):
        read_frame(wide_frame(), freq="fortnight")
    with pytest.raises(InvalidParameterError, match=r"'freq' parameter must be a positive int"):
        read_frame(pd.DataFrame({"y": [1, 2, 3]}), freq="D")
    with pytest.raises(InvalidParameterError, match="Got -1 instead"):
        read_frame(pd.DataFrame({"y": [1, 2, 3]}), freq=-1)


def test_times_that_do_not_increase_are_refused():
    frame = long_frame([3, 4])
    swapped = frame.iloc[[0, 1, 2, 3, 5, 4, 6]]
    match = r"'b' goes from '2024-01-01 02:00:00' back to '2024-01-01 01:00:00'\. Sort the rows by"
    with pytest.raises(InvalidFrameError, match=match):
        read_frame(swapped)
    with pytest.raises(InvalidFrameError, match=r"Sort the rows with df\.sort_index\(\)"):
        read_frame(wide_frame().iloc[::-1])
    with pytest.raises(InvalidFrameError, match=r"'b' has the stamp '2024-01-01 01:00:00' more"):
        read_frame(frame.iloc[[0, 1, 2, 3, 4, 4, 5]])


def test_missing_values_are_refused_or_kept():
    frame = long_frame([4, 4], channels=("y", "z"))
    frame.loc[[5, 6], "z"] = np.nan
    match = r"'z' of series 'b' has 2 NaN value\(s\), the first at '2024-01-01 01:00:00'"
    with pytest.raises(InvalidFrameError, match=match):
        read_frame(frame)
    assert int(np.isnan(read_frame(frame, missing="mask").values).sum()) == 2


def test_infinite_values_are_always_refused():
    frame = wide_frame()
    frame.iloc[3, 0] = -np.inf
    for missing in ("error", "mask"):
        with pytest.raises(InvalidFrameError, match="1 infinite value.* '2024-01-04"):
            read_frame(frame, missing=missing)


def test_a_channel_without_observations_is_refused():
    frame = long_frame([3, 3], channels=("y", "z"))
    frame.loc[frame["item_id"] == "b", "z"] = np.nan
    with pytest.raises(InvalidFrameError, match="but channel 'z' of series 'b' has none"):
        read_frame(frame, missing="mask")
    panel = read_frame(frame, missing="mask", require_observed=False)
    assert np.isnan(panel.item(1)[:, 1]).all()


# ------------------------------------------------------------------------------- frequency


@pytest.mark.parametrize(
    "freq", ["h", "15min", "D", "B", "MS", "ME", "QS", "YE", "W-TUE", "7h", "bh", "2MS"]
)
def test_frequency_is_inferred_and_continued(freq):
    stamps = pd.date_range("2024-01-02", periods=40, freq=freq)
    panel = read_frame(pd.DataFrame({"y": range(30)}, index=stamps[:30]))
    assert future_index(panel.index[0], panel.freq, 10).equals(stamps[30:])


@pytest.mark.parametrize("freq", ["h", "D"])
def test_clock_changes_are_no_gaps(freq):
    stamps = pd.date_range("2024-03-25", periods=200, freq=freq, tz="Europe/Berlin")
    panel = read_frame(pd.DataFrame({"y": range(150)}, index=stamps[:150]))
    assert panel.lengths.tolist() == [150]
    following = future_index(panel.index[0], panel.freq, 50)
    assert following.tolist() == stamps[150:].tolist()


def test_the_future_of_local_days_crosses_a_clock_change():
    stamps = pd.date_range("2024-03-25", periods=10, freq="D", tz="Europe/Berlin")
    panel = read_frame(pd.DataFrame({"y": range(4)}, index=stamps[:4]))
    assert future_index(panel.index[0], panel.freq, 6).tolist() == stamps[4:].tolist()


def test_utc_days_shown_in_local_time_are_24_hours_apart():
    stamps = pd.date_range("2024-03-25", periods=10, freq="D", tz="UTC").tz_convert("Europe/Berlin")
    panel = read_frame(pd.DataFrame({"y": range(9)}, index=stamps[:9]))
    assert future_index(panel.index[0], panel.freq, 1)[0] == stamps[9]


def test_the_future_of_a_month_end_stays_at_month_ends():
    stamps = pd.DatetimeIndex(["2024-01-31", "2024-02-29", "2024-03-31"])
    panel = read_frame(pd.DataFrame({"y": [1, 2, 3]}, index=stamps))
    following = future_index(panel.index[0], panel.freq, 2)
    assert following.tolist() == [pd.Timestamp("2024-04-30"), pd.Timestamp("2024-05-31")]


@pytest.mark.parametrize("freq", ["h", "D", "B", "MS", "ME", "QS", "YS"])
def test_absent_stamps_are_refused_or_inserted(freq):
    frame = wide_frame(40, freq=freq)
    gapped = frame.drop(frame.index[[5, 6, 20]])
    with pytest.raises(InvalidFrameError, match=r"lacks 3 stamp\(s\) .*missing=\"mask\"") as error:
        read_frame(gapped)
    assert str(frame.index[5]) in str(error.value)
    panel = read_frame(gapped, missing="mask")
    assert panel.lengths.tolist() == [40]
    assert np.flatnonzero(~panel.observed[:, 0]).tolist() == [5, 6, 20]
    assert panel.index[0].tolist() == frame.index.tolist()


def test_absent_integer_stamps():
    frame = pd.DataFrame({"y": range(5)}, index=[0, 2, 4, 8, 10])
    with pytest.raises(InvalidFrameError, match=r"lacks 1 stamp\(s\) of step 2, the first at '6'"):
        read_frame(frame)
    assert read_frame(frame, missing="mask").index[0].tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("missing", ["error", "mask"])
def test_stamps_off_the_grid_are_refused(missing):
    frame = wide_frame(8, freq="h")
    stamps = frame.index.tolist()
    stamps[4] += pd.Timedelta(minutes=7)
    frame.index = pd.DatetimeIndex(stamps)
    with pytest.raises(InvalidFrameError, match="is 'h', which '2024-01-01 04:07:00' does not fit"):
        read_frame(frame, missing=missing)


def test_items_must_agree_on_the_frequency():
    frame = pd.concat([long_frame([4]), long_frame([4], freq="D").assign(item_id="b")])
    with pytest.raises(InvalidFrameError, match="'a' has 'h' and series 'b' has 'D'"):
        read_frame(frame)


def test_short_items_borrow_the_frequency():
    frame = long_frame([2, 4, 1])
    assert read_frame(frame).lengths.tolist() == [2, 4, 1]
    with pytest.raises(InvalidFrameError, match=r"at least 3 rows, but .* has 2\. Pass freq="):
        read_frame(frame[frame["item_id"] != "b"])
    panel = read_frame(frame[frame["item_id"] != "b"], freq="h")
    assert panel.lengths.tolist() == [2, 1]


def test_a_short_week_of_business_days_agrees_with_business_days():
    weeks = long_frame([20], freq="B").assign(item_id="a")
    week = long_frame([5], freq="B").assign(item_id="b")  # Monday to Friday looks daily
    panel = read_frame(pd.concat([weeks, week]))
    assert panel.freq.freqstr == "B"


def test_weekly_items_may_fall_on_different_days():
    monday = long_frame([5], freq="7D")
    tuesday = long_frame([5], freq="7D", start="2024-01-02").assign(item_id="b")
    assert read_frame(pd.concat([monday, tuesday])).lengths.tolist() == [5, 5]


def test_an_item_with_gaps_follows_the_complete_ones():
    sparse = long_frame([9]).assign(item_id="b").iloc[[0, 4, 6, 8]]
    frame = pd.concat([long_frame([6]), sparse])
    with pytest.raises(InvalidFrameError, match="'b' lacks 5"):
        read_frame(frame)


def test_freq_overrides_what_would_be_inferred():
    panel = read_frame(wide_frame(4, freq="2D"), freq="D", missing="mask")
    assert panel.observed[:, 0].tolist() == [True, False, True, False, True, False, True]


@pytest.mark.parametrize("missing", ["error", "mask"])
def test_events_are_no_series(missing):
    stamps = pd.to_datetime(["2010-01-01T00:00:00", "2024-01-01T00:00:00", "2024-01-01T00:00:01"])
    with pytest.raises(InvalidFrameError, match="steps of 's', but only 3 rows. Resample"):
        read_frame(pd.DataFrame({"y": [1, 2, 3]}, index=stamps), missing=missing)


def test_numpy_ints_are_steps():
    assert read_frame(pd.DataFrame({"y": [1, 2, 3]}), freq=np.int64(1)).freq == 1


def test_timestamps_kept_as_objects_are_refused():
    stamps = pd.Series([pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02")], dtype=object)
    with pytest.raises(InvalidFrameError, match="has dtype 'object'"):
        read_frame(pd.DataFrame({"timestamp": stamps, "y": 1.0}))


# ------------------------------------------------------------------------------- other libraries


def of_library(module, name):
    """An instance of a class that looks like one of another library."""
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("module", "name", "conversion"),
    [
        ("polars.dataframe.frame", "DataFrame", "df.to_pandas()"),
        ("polars.lazyframe.frame", "LazyFrame", "df.collect().to_pandas()"),
        ("pyarrow.lib", "Table", "table.to_pandas()"),
        ("darts.timeseries", "TimeSeries", "series.to_dataframe()"),
        ("gluonts.dataset.pandas", "PandasDataset", "for entry in dataset])"),
        ("xarray.core.dataarray", "DataArray", "array.to_pandas()"),
    ],
)
def test_data_of_other_libraries_are_named_with_their_conversion(module, name, conversion):
    library = module.partition(".")[0]
    with pytest.raises(InvalidFrameError) as caught:
        read_frame(of_library(module, name))
    assert f"Got {library}.{name} instead. Use " in str(caught.value)
    assert str(caught.value).endswith(f"{conversion}.")
    with pytest.raises(InvalidFrameError, match="reset_index"):
        read_frame([of_library(module, name)])


def conversion_of(data):
    with pytest.raises(InvalidFrameError) as caught:
        read_frame(data)
    return str(caught.value).partition(" instead. Use ")[2].removesuffix(".")


def test_conversions_of_arrays_and_dicts_run():
    array, scope = np.arange(20.0).reshape(10, 2), {"pd": pd, "range": range, "len": len}
    code = conversion_of(array).partition(", or ")[0].replace("[...]", "['a', 'b']")
    assert read_frame(eval(code, scope | {"array": array})).channels == ("a", "b")
    data = {"a": array[:, 0], "b": array[:, 1]}
    channels, series = conversion_of(data).split(", or ")
    channels = channels.partition(" for channels")[0]
    assert read_frame(eval(channels, scope | {"data": data})).channels == ("a", "b")
    data["b"] = data["b"][:7]
    panel = read_frame(eval(series.partition(" for separate")[0], scope | {"data": data}))
    assert (panel.item_ids, panel.lengths.tolist()) == (("a", "b"), [10, 7])


def test_conversions_of_lists_run():
    entry = {"item_id": "x", "start": pd.Period("2024-01-01", "h"), "target": np.arange(9.0)}
    dataset = [entry, entry | {"item_id": "y"}]
    panel = read_frame(eval(conversion_of(dataset), {"pd": pd, "len": len, "dataset": dataset}))
    assert panel.item_ids == ("x", "y")
    hours = pd.date_range("2024", periods=9, freq="h")
    frames = [pd.DataFrame({"a": np.arange(9.0)}, index=hours)] * 2
    code = conversion_of(frames)
    assert read_frame(eval(code, {"pd": pd, "frames": frames, "ids": ["x", "y"]})).num_items == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pd.DataFrame({"a": range(3), "b": 0.5}), r"of type DataFrame and shape \(3, 2\)\. Leave"),
        ([1, 2], r"of type list and length 2\. Leave"),
        (5, r"of type int\. Leave"),
    ],
)
def test_covariates_are_described_by_their_size(value, text):
    with pytest.raises(InvalidParameterError, match=f"Got past_covariates {text}") as caught:
        refuse_covariates({"past_covariates": value})
    assert "0.5" not in str(caught.value)


def test_a_digest_follows_values_names_and_stamps():
    frame = long_frame([5, 7])
    renamed = frame.assign(item_id=frame.item_id.map({"a": "a", "b": "c"}))
    later = frame.assign(timestamp=frame.timestamp + pd.Timedelta(hours=1))
    others = [frame.assign(y=frame.y + 1), renamed, later, frame.rename(columns={"y": "z"})]
    digests = {read_frame(given).digest() for given in (frame, *others)}
    assert len(digests) == 5
    assert read_frame(frame.copy()).digest() in digests
