"""Frames that are no regular series: each is refused with its own words, and left as it was."""

from __future__ import annotations

import copy
import decimal
from functools import lru_cache

import numpy as np
import pandas as pd

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from tests.bad_inputs.helpers import (
    HOURS,
    Case,
    assert_refused,
    fitted,
    fitted_long,
    long,
    parametrized,
    spoiled,
    stamped,
    tiny,
    wide,
)

BERLIN, TOKYO = HOURS.tz_localize("Europe/Berlin"), HOURS.tz_localize("Asia/Tokyo")


class Polars:
    """Looks like a frame, and is none of pandas."""

    __module__ = "polars.dataframe.frame"
    columns = ("a", "b")
    shape = (3, 2)

    def to_pandas(self):
        return wide()


Polars.__name__ = "DataFrame"


def fit(name, frame, error, text, model=None, **arguments):
    """A case of `Forecaster.fit`; the frame must be left as it was."""
    model = {} if model is None else model

    def call():
        given = frame()
        before = copy.deepcopy(given)
        try:
            tiny(**model).fit(given, **arguments)
        finally:
            if isinstance(given, pd.DataFrame):
                pd.testing.assert_frame_equal(given, before)

    return Case(name, call, error, text)


def mask(name, frame, error, text, **arguments):
    """The same, gaps allowed."""
    return fit(name, frame, error, text, {"missing": "mask"}, **arguments)


def later(name, frame, error, text, model=fitted, method="predict"):
    """A case of a fitted model that meets another frame."""
    return Case(name, lambda: getattr(model(), method)(frame()), error, text)


FRAME, PARAMETER = InvalidFrameError, InvalidParameterError

NO_FRAME = [
    fit(
        "list",
        lambda: [1, 2, 3],
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got list instead. Use "
            'pd.DataFrame(data, columns=[...]).rename_axis("timestamp").reset_index().'
        ),
    ),
    fit(
        "none",
        lambda: None,
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got NoneType instead. Use "
            'pd.DataFrame(data, columns=[...]).rename_axis("timestamp").reset_index().'
        ),
    ),
    fit(
        "dict",
        lambda: {"a": [1.0]},
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got dict instead. Use "
            'pd.DataFrame(data).rename_axis("timestamp").reset_index() for channels of equal '
            'length, or pd.concat([pd.DataFrame({"item_id": key, "timestamp": '
            'range(len(values)), "value": values}) for key, values in data.items()]) for '
            "separate series."
        ),
    ),
    fit(
        "array",
        lambda: np.zeros((30, 2)),
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got numpy.ndarray instead. Use "
            'pd.DataFrame(array, columns=[...]).rename_axis("timestamp").reset_index(), or '
            "WindowRegressor for arrays of windows."
        ),
    ),
    fit(
        "polars",
        Polars,
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got polars.DataFrame instead. Use "
            "df.to_pandas()."
        ),
    ),
    fit(
        "path",
        lambda: "load.csv",
        FRAME,
        ("The data must be a pandas DataFrame or Series. Got str instead. Use pd.read_csv(path)."),
    ),
    fit(
        "empty",
        pd.DataFrame,
        FRAME,
        (
            "The frame must have rows and columns, but its shape is (0, 0). Check the file or the "
            "filter that it came from."
        ),
    ),
    fit(
        "no rows",
        lambda: wide()[:0],
        FRAME,
        (
            "The frame must have rows and columns, but its shape is (0, 2). Check the file or the "
            "filter that it came from."
        ),
    ),
    fit(
        "no columns",
        lambda: wide()[[]],
        FRAME,
        (
            "The frame must have rows and columns, but its shape is (30, 0). Check the file or the "
            "filter that it came from."
        ),
    ),
    fit(
        "repeated column",
        lambda: wide()[["a", "b", "a"]],
        FRAME,
        ("Column names must be unique. Repeated: ['a']. Rename or drop the duplicates."),
    ),
    fit(
        "column of int name",
        lambda: wide().set_axis([0, 1], axis=1),
        FRAME,
        (
            "Column names must be strings. Got 0 of type int. Use df.columns = "
            "df.columns.astype(str)."
        ),
    ),
    fit(
        "column without name",
        lambda: wide().set_axis(["a", None], axis=1),
        FRAME,
        (
            "Column names must be strings. Got None of type NoneType. Use df.columns = "
            "df.columns.astype(str)."
        ),
    ),
    fit(
        "column levels",
        lambda: pd.concat({"x": wide()}, axis=1),
        FRAME,
        (
            "The columns must not be a MultiIndex. Their names have 2 part(s), such as ('x', "
            "'a'). Use df.columns = ['_'.join(map(str, name)) for name in df.columns]."
        ),
    ),
    fit(
        "index levels",
        lambda: long().set_index(["item_id", "timestamp"]),
        FRAME,
        (
            "The index must not be a MultiIndex. It has 2 part(s): ['item_id', 'timestamp']. "
            "Use df.reset_index()."
        ),
    ),
    fit(
        "series of text",
        lambda: pd.Series(list("abc") * 10, HOURS),
        FRAME,
        (
            "A channel must hold real numbers. Column 'target' has dtype 'object'. Convert "
            "it with pd.to_numeric, pass timestamp='target' if it holds the stamps or "
            "item_id='target' if it names the series, or leave it out by listing the "
            "channels with target=[...]."
        ),
    ),
]

STAMPS = [
    fit(
        "nat in index",
        lambda: stamped(HOURS.where(HOURS.hour != 5)),
        FRAME,
        (
            "Every row needs a stamp, but 2 row(s) have none in the index, the first one in row 5 "
            "(series 'series'). Drop these rows or fill the stamps."
        ),
    ),
    fit(
        "nat in column",
        lambda: spoiled(long(), 31, "timestamp", pd.NaT),
        FRAME,
        (
            "Every row needs a stamp, but 1 row(s) have none in the column 'timestamp', the first "
            "one in row 31 (series 'y'). Drop these rows or fill the stamps."
        ),
    ),
    fit(
        "na in integer stamps",
        lambda: spoiled(
            long().assign(timestamp=pd.array([*range(30)] * 2, dtype="Int64")),
            7,
            "timestamp",
            pd.NA,
        ),
        FRAME,
        (
            "Every row needs a stamp, but 1 row(s) have none in the column 'timestamp', the first "
            "one in row 7 (series 'x'). Drop these rows or fill the stamps."
        ),
    ),
    fit(
        "repeated stamp",
        lambda: stamped(HOURS[[0, 1, 1, *range(2, 29)]]),
        FRAME,
        (
            "Stamps must increase within a series. Series 'series' has the stamp '2024-01-01 "
            "01:00:00' more than once. Drop or aggregate the repeated rows."
        ),
    ),
    fit(
        "repeated stamp of an item",
        lambda: long().iloc[[*range(60), 59]],
        FRAME,
        (
            "Stamps must increase within a series. Series 'y' has the stamp '2024-01-02 "
            "05:00:00' more than once. Drop or aggregate the repeated rows."
        ),
    ),
    fit(
        "items without ids",
        lambda: long()[["timestamp", "a"]],
        FRAME,
        (
            "Stamps must increase within a series. Series 'series' goes from '2024-01-02 "
            "05:00:00' back to '2024-01-01 00:00:00'. Sort the rows by 'timestamp'."
        ),
    ),
    fit(
        "unsorted index",
        lambda: wide().iloc[[0, 2, 1, *range(3, 30)]],
        FRAME,
        (
            "Stamps must increase within a series. Series 'series' goes from '2024-01-01 "
            "02:00:00' back to '2024-01-01 01:00:00'. Sort the rows with df.sort_index()."
        ),
    ),
    fit(
        "reversed index",
        lambda: wide()[::-1],
        FRAME,
        (
            "Stamps must increase within a series. Series 'series' goes from '2024-01-02 "
            "05:00:00' back to '2024-01-02 04:00:00'. Sort the rows with df.sort_index()."
        ),
    ),
    fit(
        "unsorted column",
        lambda: long().iloc[[*range(30), 31, 30, *range(32, 60)]],
        FRAME,
        (
            "Stamps must increase within a series. Series 'y' goes from '2024-01-01 01:00:00' "
            "back to '2024-01-01 00:00:00'. Sort the rows by 'timestamp'."
        ),
    ),
    fit(
        "absent stamp",
        lambda: wide().drop(index=HOURS[9]),
        FRAME,
        (
            "Stamps must be regular. Series 'series' lacks 1 stamp(s) of step 'h', the first at "
            "'2024-01-01 09:00:00'. Add the rows, pass missing=\"mask\", or name another step with "
            "freq=..."
        ),
    ),
    fit(
        "absent integer",
        lambda: stamped([0, 1, *range(4, 32)]),
        FRAME,
        (
            "Stamps must be regular. Series 'series' lacks 2 stamp(s) of step 1, the first at "
            "'2'. Add the rows, pass missing=\"mask\", or name another step with freq=..."
        ),
    ),
    fit(
        "mixed steps of items",
        lambda: pd.concat(
            [long(items="x"), long(items="y").assign(timestamp=pd.date_range("2024", periods=30))]
        ),
        FRAME,
        (
            "All series must have the same frequency, but series 'x' has 'h' and series 'y' has "
            "'D'. Resample them, fit them separately, or pass freq=..."
        ),
    ),
    mask(
        "mixed steps of gappy items",
        lambda: pd.concat(
            [
                long(items="x").drop(index=4),
                long(items="y").assign(timestamp=pd.date_range("2024", periods=30)).drop(index=4),
            ]
        ),
        FRAME,
        (
            "All series must have the same frequency, but series 'x' has 'h' and series 'y' has "
            "'D'. Resample them, fit them separately, or pass freq=..."
        ),
    ),
    mask(
        "stamp off the grid",
        lambda: stamped(HOURS[:29].append(HOURS[28:29] + pd.Timedelta("7min"))),
        FRAME,
        (
            "The frequency cannot be inferred. The longest step that fits every stamp is 'min', "
            "but a regular grid with that step has 1688 stamps, and only 30 of them have rows. The "
            "most common distance in series 'series' is 'h', which '2024-01-02 04:07:00' does not "
            "fit. Pass freq=... to choose, or round or resample the stamps."
        ),
    ),
    mask(
        "events",
        lambda: stamped(
            pd.DatetimeIndex(
                [
                    "2024-01-01 00:00:00",
                    "2024-01-01 00:00:01",
                    *pd.date_range("2025", periods=28, freq="7h"),
                ]
            )
        ),
        FRAME,
        (
            "Stamps must be regular. From '2024-01-01 00:00:00' to '2025-01-08 21:00:00' there are "
            "32302800 steps of 's', but only 30 rows. Resample the data or pass a longer step "
            "as freq=..."
        ),
        freq="s",
    ),
    fit(
        "text in the index",
        lambda: stamped(HOURS.astype(str)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'object'. Convert it "
            "with pd.to_datetime, or name the column of stamps with timestamp=..."
        ),
    ),
    fit(
        "text in the column",
        lambda: long().assign(timestamp=long().timestamp.astype(str)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The column 'timestamp' has dtype 'object'. "
            "Convert it with pd.to_datetime, or name the column of stamps with timestamp=..."
        ),
    ),
    fit(
        "dates as objects",
        lambda: stamped(pd.Index(list(HOURS.date), dtype=object)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'object'. Convert it "
            "with pd.to_datetime, or name the column of stamps with timestamp=..."
        ),
    ),
    fit(
        "zones and none",
        lambda: stamped(pd.Index([*HOURS[:9], *BERLIN[9:]], dtype=object)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'object' and mixes the "
            "time zones ['Europe/Berlin', 'None']. Convert it to one time zone with "
            "pd.to_datetime(..., utc=True) and .dt.tz_convert(...), or name the column of "
            "stamps with timestamp=..."
        ),
    ),
    fit(
        "two zones",
        lambda: stamped(pd.Index([*TOKYO[:9], *BERLIN[9:]], dtype=object)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'object' and mixes the "
            "time zones ['Asia/Tokyo', 'Europe/Berlin']. Convert it to one time zone with "
            "pd.to_datetime(..., utc=True) and .dt.tz_convert(...), or name the column of "
            "stamps with timestamp=..."
        ),
    ),
    fit(
        "float index",
        lambda: stamped(np.arange(30.0)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'float64'. Convert "
            "step numbers with .astype('int64') and dates with pd.to_datetime, or name the "
            "column of stamps with timestamp=..."
        ),
    ),
    fit(
        "timedelta index",
        lambda: stamped(HOURS - HOURS[0]),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'timedelta64[ns]'. Add "
            "a start date, such as pd.Timestamp('2024-01-01'), or name the column of stamps "
            "with timestamp=..."
        ),
    ),
    fit(
        "bool column of stamps",
        lambda: long().assign(timestamp=True),
        FRAME,
        (
            "Stamps must be datetimes or integers. The column 'timestamp' has dtype 'bool'. "
            "Convert it with pd.to_datetime, or name the column of stamps with timestamp=..."
        ),
    ),
    fit(
        "categories in the index",
        lambda: stamped(pd.CategoricalIndex(HOURS)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'category'. Convert it "
            "with pd.to_datetime, or name the column of stamps with timestamp=..."
        ),
    ),
    fit(
        "intervals in the index",
        lambda: stamped(pd.interval_range(0, 30)),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'interval[int64, "
            "right]'. Convert it with pd.to_datetime, or name the column of stamps with "
            "timestamp=..."
        ),
    ),
    fit(
        "long without stamps",
        lambda: long().drop(columns="timestamp"),
        FRAME,
        (
            "A long frame needs stamps, but it has no column 'timestamp' among ['item_id', 'a'], "
            "and its index holds no datetimes. Pass timestamp=..."
        ),
    ),
    fit(
        "long with another name",
        lambda: long(stamp="time_stamp"),
        FRAME,
        (
            "A long frame needs stamps, but it has no column 'timestamp' among ['item_id', "
            "'time_stamp', 'a'], and its index holds no datetimes. Pass timestamp=... Did you mean "
            "'time_stamp'?"
        ),
    ),
    fit(
        "misspelt timestamp",
        lambda: long(),
        FRAME,
        (
            "The frame has no column 'tiemstamp', which timestamp names. Its columns are "
            "['item_id', 'timestamp', 'a']. Correct timestamp=..., or leave it out if there is no "
            "such column. Did you mean 'timestamp'?"
        ),
        timestamp="tiemstamp",
    ),
    fit(
        "misspelt timestamp of a wide frame",
        wide,
        FRAME,
        (
            "The frame has no column 'day', which timestamp names. Its columns are ['a', 'b']. "
            "Correct timestamp=..., or leave it out if there is no such column."
        ),
        timestamp="day",
    ),
    fit(
        "integers beyond 64 bits",
        lambda: stamped([2**70 + k for k in range(30)]),
        FRAME,
        (
            "Stamps must be datetimes or integers. The index has dtype 'object'. Subtract a "
            "constant from large numbers and convert it with .astype('int64'), or name the "
            "column of stamps with timestamp=..."
        ),
    ),
    fit(
        "unsigned beyond 63 bits",
        lambda: stamped(np.arange(30, dtype="u8") + np.uint64(2**63)),
        FRAME,
        (
            "Integer stamps must fit into 64 bits, but the index reaches 9223372036854775837. "
            "Subtract a constant."
        ),
    ),
    fit(
        "one row",
        lambda: wide(1),
        FRAME,
        (
            "Inferring the frequency needs a series of at least 3 rows, but the longest series has "
            "1. Pass freq=..."
        ),
    ),
    fit(
        "two rows",
        lambda: wide(2),
        FRAME,
        (
            "Inferring the frequency needs a series of at least 3 rows, but the longest series has "
            "2. Pass freq=..."
        ),
    ),
    later(
        "no date after the last",
        lambda: stamped(pd.date_range("2262-04-10 18:00", periods=30, freq="h", unit="ns")),
        FRAME,
        (
            "Forecasts need stamps after the end of a series, but the dtype 'datetime64[ns]' "
            "cannot hold 4 step(s) of 'h' after '2262-04-11 23:00:00'. Use smaller integers, or a "
            "coarser unit of dates with df.index.as_unit('s')."
        ),
    ),
    later(
        "no integer after the last",
        lambda: stamped(np.arange(30) + (2**63 - 31)),
        FRAME,
        (
            "Forecasts need stamps after the end of a series, but the dtype 'int64' cannot hold 4 "
            "step(s) of 1 after '9223372036854775806'. Use smaller integers, or a coarser unit of "
            "dates with df.index.as_unit('s')."
        ),
        lambda: tiny().fit(stamped(np.arange(30))),
    ),
]

OUTSIDE = {
    "log1p": (
        "transform='log1p' needs values above -1, at most 1e70. Channel 'b' of series 'series' has "
        "{} at '2024-01-01 03:00:00'. Correct the value, or use 'log1p' for values above -1, or "
        "'yeo_johnson' for values of any sign."
    ),
    "box_cox": (
        "transform='box_cox' needs positive values, from 1e-70 to 1e70. Channel 'b' of series "
        "'series' has {} at '2024-01-01 03:00:00'. Correct the value, or use 'log1p' for values "
        "above -1, or 'yeo_johnson' for values of any sign."
    ),
    "yeo_johnson": (
        "transform='yeo_johnson' needs values from -1e70 to 1e70. Channel 'b' of series 'series' "
        "has {} at '2024-01-01 03:00:00'. Correct the value, or use 'log1p' for values above -1, "
        "or 'yeo_johnson' for values of any sign."
    ),
}

VALUES = [
    *(
        fit(
            f"{value} for {name}",
            lambda value=value: spoiled(wide(), 3, "b", value),
            FRAME,
            OUTSIDE[name].format(value),
            {"transform": name},
        )
        for name, value in (
            *(("log1p", -1.0), ("log1p", -5.5), ("log1p", 1e71)),
            *(("box_cox", 0.0), ("box_cox", -2.0), ("box_cox", 1e-71)),
            *(("yeo_johnson", 1e71), ("yeo_johnson", -1e71)),
        )
    ),
    fit(
        "negative count of an item",
        lambda: spoiled(long(), 33, "a", -1.0),
        FRAME,
        (
            "All values must be within bounds=(0.0, None). Channel 'a' of series 'y' has -1.0 at "
            "'2024-01-01 03:00:00'. Correct the value, or fit with wider bounds."
        ),
        {"bounds": "nonnegative"},
    ),
    fit(
        "value above the bounds in the last row",
        lambda: spoiled(wide(), 29, "a", 100.5),
        FRAME,
        (
            "All values must be within bounds=(0.0, 100.0). Channel 'a' of series 'series' has "
            "100.5 at '2024-01-02 05:00:00'. Correct the value, or fit with wider bounds."
        ),
        {"bounds": (0, 100)},
    ),
    fit(
        "nan",
        lambda: spoiled(wide(), 3, "b", np.nan),
        FRAME,
        (
            "Values must not be NaN. Channel 'b' of series 'series' has 1 NaN value(s), the "
            "first at '2024-01-01 03:00:00'. Fill them or pass missing=\"mask\"."
        ),
    ),
    fit(
        "nan of an item",
        lambda: spoiled(long(), 33, "a", np.nan),
        FRAME,
        (
            "Values must not be NaN. Channel 'a' of series 'y' has 1 NaN value(s), the first "
            "at '2024-01-01 03:00:00'. Fill them or pass missing=\"mask\"."
        ),
    ),
    fit(
        "infinite",
        lambda: spoiled(wide(), 3, "a", np.inf),
        FRAME,
        (
            "Values must be finite. Channel 'a' of series 'series' has 1 infinite value(s), "
            "the first at '2024-01-01 03:00:00'. Replace them with NaN and pass "
            'missing="mask".'
        ),
    ),
    mask(
        "minus infinite",
        lambda: spoiled(long(), 34, "a", -np.inf),
        FRAME,
        (
            "Values must be finite. Channel 'a' of series 'y' has 1 infinite value(s), the "
            "first at '2024-01-01 04:00:00'. Replace them with NaN and pass missing=\"mask\"."
        ),
    ),
    mask(
        "channel of nan",
        lambda: wide(b=np.nan),
        FRAME,
        (
            "Every channel needs an observed value in every series, but channel 'b' of series "
            "'series' has none. Drop the channel or the series."
        ),
    ),
    mask(
        "channel of nan in an item",
        lambda: long().assign(a=[1.0] * 30 + [np.nan] * 30),
        FRAME,
        (
            "Every channel needs an observed value in every series, but channel 'a' of series 'y' "
            "has none. Drop the channel or the series."
        ),
    ),
    mask(
        "nothing to learn from",
        lambda: wide(
            5, a=[1.0, 2.0, np.nan, np.nan, np.nan], b=[1.0, 2.0, np.nan, np.nan, np.nan]
        ).pipe(lambda f: pd.concat([f, stamped(HOURS[5:8], a=np.nan, b=np.nan)])),
        FRAME,
        (
            "Training needs a window with 2 observed look-back points and an observed target, but "
            "no window of 12 + 4 steps has both. Fill gaps, or reduce the horizon."
        ),
    ),
    fit(
        "too large to square",
        lambda: wide(a=np.linspace(-1e300, 1e300, 30)),
        FRAME,
        (
            "Values are too large, because their variance overflows: channel 'a' of series "
            "'series' reaches 1e+300. Divide the channel by a constant."
        ),
    ),
    fit(
        "text",
        lambda: wide(b="high"),
        FRAME,
        (
            "A channel must hold real numbers. Column 'b' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='b' if it holds the stamps or item_id='b' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "text of numbers",
        lambda: wide(b=[str(k) for k in range(30)]),
        FRAME,
        (
            "A channel must hold real numbers. Column 'b' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='b' if it holds the stamps or item_id='b' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "text type",
        lambda: wide(b=pd.array(["1"] * 30, dtype="string[python]")),
        FRAME,
        (
            "A channel must hold real numbers. Column 'b' has dtype 'string'. Convert it "
            "with pd.to_numeric, pass timestamp='b' if it holds the stamps or item_id='b' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "complex",
        lambda: wide(a=1j),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'complex128'. Convert it "
            "with np.real or np.abs, pass timestamp='a' if it holds the stamps, or leave it "
            "out by listing the channels with target=[...]."
        ),
    ),
    fit(
        "truth values",
        lambda: wide(a=True),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'bool'. Convert it with "
            ".astype(float), pass timestamp='a' if it holds the stamps, or leave it out by "
            "listing the channels with target=[...]."
        ),
    ),
    fit(
        "categories",
        lambda: wide(a=pd.Categorical([1, 2, 3] * 10)),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'category'. Convert it "
            "with pd.to_numeric, pass timestamp='a' if it holds the stamps, or leave it out "
            "by listing the channels with target=[...]."
        ),
    ),
    fit(
        "durations",
        lambda: wide(a=pd.Timedelta("1h")),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'timedelta64[ns]'. "
            "Convert it with pd.to_numeric, pass timestamp='a' if it holds the stamps, or "
            "leave it out by listing the channels with target=[...]."
        ),
    ),
    fit(
        "dates",
        lambda: wide(day=HOURS),
        FRAME,
        (
            "A channel must hold real numbers. Column 'day' has dtype 'datetime64[ns]'. "
            "Convert it with pd.to_numeric, pass timestamp='day' if it holds the stamps, or "
            "leave it out by listing the channels with target=[...]."
        ),
    ),
    fit(
        "periods",
        lambda: wide(day=HOURS.to_period("h")),
        FRAME,
        (
            "A channel must hold real numbers. Column 'day' has dtype 'period[h]'. Convert it "
            "with pd.to_numeric, pass timestamp='day' if it holds the stamps, or leave it "
            "out by listing the channels with target=[...]."
        ),
    ),
    fit(
        "decimals",
        lambda: wide(a=decimal.Decimal(1)),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='a' if it holds the stamps or item_id='a' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "lists",
        lambda: wide(a=[[1.0]] * 30),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='a' if it holds the stamps or item_id='a' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "huge integers",
        lambda: wide(a=[2**70] * 30),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='a' if it holds the stamps or item_id='a' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    fit(
        "sparse truth",
        lambda: wide(a=pd.arrays.SparseArray([True] * 30)),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'Sparse[bool, False]'. "
            "Convert it with .astype(float), pass timestamp='a' if it holds the stamps, or "
            "leave it out by listing the channels with target=[...]."
        ),
    ),
    fit(
        "a number among text",
        lambda: spoiled(wide(), 4, "a", "-"),
        FRAME,
        (
            "A channel must hold real numbers. Column 'a' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='a' if it holds the stamps or item_id='a' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
]

NAMES = [
    fit(
        "missing item",
        lambda: spoiled(long(), 40, "item_id", None),
        FRAME,
        (
            "Every row needs an item id, but column 'item_id' has none in row 40. Drop such rows "
            "or fill the ids."
        ),
    ),
    fit(
        "nan as item",
        lambda: long(items=(1.0, np.nan)),
        FRAME,
        (
            "Every row needs an item id, but column 'item_id' has none in row 30. Drop such rows "
            "or fill the ids."
        ),
    ),
    fit(
        "lists as items",
        lambda: long().assign(item_id=[["x"]] * 60),
        FRAME,
        (
            "Item ids must be hashable, such as strings or numbers, but column 'item_id' holds "
            "other values (unhashable type: 'list'). Convert the column with .astype(str)."
        ),
    ),
    fit(
        "misspelt item_id",
        lambda: long(items=(1, 2), key="shop"),
        FRAME,
        (
            "The frame has no column 'shpo', which item_id names. Its columns are ['shop', "
            "'timestamp', 'a']. Correct item_id=..., or leave it out if there is no such column. "
            "Did you mean 'shop'?"
        ),
        item_id="shpo",
    ),
    fit(
        "misspelt target",
        wide,
        FRAME,
        (
            "The target 'aa' is not a value column of the frame. Available: ['a', 'b']. Did you "
            "mean 'a'?"
        ),
        target=["aa"],
    ),
    fit(
        "target is the key",
        long,
        FRAME,
        ("The target 'timestamp' is not a value column of the frame. Available: ['a']."),
        target="timestamp",
    ),
    fit(
        "target twice",
        wide,
        FRAME,
        (
            "The frame needs at least one value column, and each may be named only once. Got ['a', "
            "'b', 'a'] among the columns ['a', 'b']. Add a column of numbers or pass target=..."
        ),
        target=["a", "b", "a"],
    ),
    fit(
        "no target",
        wide,
        FRAME,
        (
            "The frame needs at least one value column, and each may be named only once. Got [] "
            "among the columns ['a', 'b']. Add a column of numbers or pass target=..."
        ),
        target=[],
    ),
    fit(
        "only keys",
        lambda: long()[["item_id", "timestamp"]],
        FRAME,
        (
            "The frame needs at least one value column, and each may be named only once. Got [] "
            "among the columns ['item_id', 'timestamp']. Add a column of numbers or pass target=..."
        ),
    ),
    fit(
        "target is a number",
        wide,
        FRAME,
        "The target 5 is not a value column of the frame. Available: ['a', 'b'].",
        target=5,
    ),
    fit(
        "target in a list in a list",
        wide,
        FRAME,
        ("The target ['a'] is not a value column of the frame. Available: ['a', 'b']."),
        target=[["a"]],
    ),
    fit(
        "item_id is a list",
        long,
        PARAMETER,
        (
            "The 'item_id' parameter must be the name of one column. Got ['item_id', 'shop'] "
            "instead. Leave the parameter out if there is no such column."
        ),
        item_id=["item_id", "shop"],
    ),
    fit(
        "timestamp is none",
        wide,
        PARAMETER,
        (
            "The 'timestamp' parameter must be the name of one column. Got None instead. Leave the "
            "parameter out if there is no such column."
        ),
        timestamp=None,
    ),
    fit(
        "one column for both keys",
        long,
        PARAMETER,
        (
            "item_id and timestamp must name different columns, but both are 'timestamp'. Name two "
            "columns, or leave out the key that the frame lacks."
        ),
        item_id="timestamp",
    ),
]

LENGTHS = [
    fit(
        "a step too short",
        lambda: wide(5),
        FRAME,
        (
            "Series 'series' has 5 observations, but horizon 4 needs at least 6 (2 look-back "
            'points plus the horizon). Drop the series, reduce the horizon, or pass short="skip" '
            "to fit."
        ),
    ),
    fit(
        "an item a step too short",
        lambda: long().iloc[:35],
        FRAME,
        (
            "Series 'y' has 5 observations, but horizon 4 needs at least 6 (2 look-back points "
            'plus the horizon). Drop the series, reduce the horizon, or pass short="skip" to fit.'
        ),
    ),
    fit(
        "all skipped",
        lambda: long(5),
        FRAME,
        (
            "Training needs a series of at least 6 rows (2 look-back points plus the horizon), but "
            "the longest of 2 series has 5. Pass more rows or reduce the horizon."
        ),
        short="skip",
    ),
    fit(
        "horizon beyond the series",
        wide,
        FRAME,
        (
            "Series 'series' has 30 observations, but horizon 1000000 needs at least 1000002 (2 "
            "look-back points plus the horizon). Drop the series, reduce the horizon, or pass "
            'short="skip" to fit.'
        ),
        {"horizon": 10**6},
    ),
]

STEPS = [
    fit(
        "item_id is none",
        wide,
        PARAMETER,
        (
            "The 'item_id' parameter must be the name of one column. Got None instead. Leave the "
            "parameter out if there is no such column."
        ),
        item_id=None,
    ),
    fit(
        "misspelt freq",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got 'hourly' instead."
        ),
        freq="hourly",
    ),
    fit(
        "freq of another kind",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got 1 instead."
        ),
        freq=1,
    ),
    fit(
        "freq is zero",
        lambda: stamped(range(30)),
        PARAMETER,
        ("The 'freq' parameter must be a positive int for integer stamps. Got 0 instead."),
        freq=0,
    ),
    fit(
        "freq backwards",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got '-1h' instead."
        ),
        freq="-1h",
    ),
    fit(
        "freq is a float",
        lambda: stamped(range(30)),
        PARAMETER,
        ("The 'freq' parameter must be a positive int for integer stamps. Got 1.5 instead."),
        freq=1.5,
    ),
    fit(
        "freq is true",
        lambda: stamped(range(30)),
        PARAMETER,
        ("The 'freq' parameter must be a positive int for integer stamps. Got True instead."),
        freq=True,
    ),
    fit(
        "freq in a list",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got ['h'] instead."
        ),
        freq=["h"],
    ),
    fit(
        "freq is true for dates",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got True instead."
        ),
        freq=True,
    ),
    fit(
        "freq is zero hours",
        wide,
        PARAMETER,
        (
            "The 'freq' parameter must be a pandas frequency such as 'h' or 'MS' for datetime "
            "stamps. Got '0h' instead."
        ),
        freq="0h",
    ),
    fit(
        "freq too long",
        wide,
        FRAME,
        (
            "Stamps must lie on a grid of step 'D'. Series 'series' has '2024-01-01 01:00:00', "
            "which is off the grid that starts at '2024-01-01 00:00:00'. Round or resample the "
            "stamps, or pass freq=..."
        ),
        freq="D",
    ),
    fit(
        "freq too short",
        wide,
        FRAME,
        (
            "Stamps must be regular. Series 'series' lacks 29 stamp(s) of step '30min', the "
            "first at '2024-01-01 00:30:00'. Add the rows, pass missing=\"mask\", or name another "
            "step with freq=..."
        ),
        freq="30min",
    ),
    fit(
        "freq below the unit",
        lambda: stamped(HOURS.as_unit("s")),
        FRAME,
        (
            "Stamps must be regular. From '2024-01-01 00:00:00' to '2024-01-02 05:00:00' there are "
            "14914286 steps of '7ms', but only 30 rows. Resample the data or pass a longer "
            "step as freq=..."
        ),
        freq="7ms",
    ),
    fit(
        "integer freq too long",
        lambda: stamped(range(30)),
        FRAME,
        (
            "Stamps must lie on a grid of step 7. Series 'series' has '1', which is off the grid "
            "that starts at '0'. Round or resample the stamps, or pass freq=..."
        ),
        freq=7,
    ),
]


@lru_cache
def fitted_to_counts():
    """A model with bounds and a transform."""
    return tiny(bounds=(0, 100), transform="box_cox").fit(wide())


OTHER_FRAMES = [
    *(
        later(
            f"{method} a value outside the bounds",
            lambda: spoiled(wide(), 3, "b", 101.0),
            FRAME,
            (
                "All values must be within bounds=(0.0, 100.0). Channel 'b' of series 'series' has "
                "101.0 at '2024-01-01 03:00:00'. Correct the value, or fit with wider bounds."
            ),
            fitted_to_counts,
            method,
        )
        for method in ("predict", "backtest", "score", "segment")
    ),
    later(
        "predict a value outside the domain",
        lambda: spoiled(wide(), 3, "b", 0.0),
        FRAME,
        OUTSIDE["box_cox"].format(0.0),
        fitted_to_counts,
    ),
    later(
        "predict a list",
        lambda: [1.0],
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got list instead. Use "
            'pd.DataFrame(data, columns=[...]).rename_axis("timestamp").reset_index().'
        ),
    ),
    later(
        "predict an empty frame",
        lambda: wide()[:0],
        FRAME,
        (
            "The frame must have rows and columns, but its shape is (0, 2). Check the file or the "
            "filter that it came from."
        ),
    ),
    later(
        "predict without a channel",
        lambda: wide()[["a"]],
        FRAME,
        (
            "The frame must have the channels of fit, ['a', 'b'], but it lacks ['b']. It has "
            "['a']. Add or rename columns."
        ),
    ),
    later(
        "predict with other columns",
        lambda: wide().set_axis(["x", "y"], axis=1),
        FRAME,
        (
            "The frame must have the channels of fit, ['a', 'b'], but it lacks ['a', 'b']. It has "
            "['x', 'y']. Add or rename columns."
        ),
    ),
    later(
        "predict another step",
        lambda: stamped(pd.date_range("2024", periods=30)),
        FRAME,
        (
            "Stamps must be regular. Series 'series' lacks 667 stamp(s) of step 'h', the first "
            "at '2024-01-01 01:00:00'. Add the rows, pass missing=\"mask\", or name another step "
            "with freq=..."
        ),
    ),
    later(
        "predict integers after dates",
        lambda: stamped(range(30)),
        FRAME,
        (
            "The stamps must be datetimes with the step 'h', as in fit, but the stamps of this "
            "frame are of another kind. Convert them."
        ),
    ),
    later(
        "predict one row",
        lambda: wide(1),
        FRAME,
        (
            "A forecast needs 2 look-back points, but series 'series' has 1. Leave the series out, "
            "or pass more of its history."
        ),
    ),
    later(
        "predict nan",
        lambda: spoiled(wide(), 3, "a", np.nan),
        FRAME,
        (
            "Values must not be NaN. Channel 'a' of series 'series' has 1 NaN value(s), the "
            "first at '2024-01-01 03:00:00'. Fill them or pass missing=\"mask\"."
        ),
    ),
    later(
        "predict text",
        lambda: wide(b="x"),
        FRAME,
        (
            "A channel must hold real numbers. Column 'b' has dtype 'object'. Convert it "
            "with pd.to_numeric, pass timestamp='b' if it holds the stamps or item_id='b' "
            "if it names the series, or leave it out by listing the channels with "
            "target=[...]."
        ),
    ),
    later(
        "predict inf",
        lambda: spoiled(wide(), 3, "a", np.inf),
        FRAME,
        (
            "Values must be finite. Channel 'a' of series 'series' has 1 infinite value(s), "
            "the first at '2024-01-01 03:00:00'. Replace them with NaN and pass "
            'missing="mask".'
        ),
    ),
    later(
        "predict a series of another name",
        lambda: wide()["b"],
        FRAME,
        (
            "The frame must have the channels of fit, ['a', 'b'], but it lacks ['a']. It has "
            "['b']. Add or rename columns."
        ),
    ),
    later(
        "predict a gap",
        lambda: wide().drop(index=HOURS[9]),
        FRAME,
        (
            "Stamps must be regular. Series 'series' lacks 1 stamp(s) of step 'h', the first at "
            "'2024-01-01 09:00:00'. Add the rows, pass missing=\"mask\", or name another step with "
            "freq=..."
        ),
    ),
    later(
        "predict an item without values",
        lambda: long().assign(a=np.nan),
        FRAME,
        (
            "A forecast needs 2 observed look-back points, but channel 'a' of series 'x' has 0 in "
            "the last 12 steps. Leave the series out, fill it, or use a longer context_length."
        ),
        fitted_long,
    ),
    later(
        "predict a short item",
        lambda: long().iloc[:31],
        FRAME,
        (
            "A forecast needs 2 look-back points, but series 'y' has 1. Leave the series out, or "
            "pass more of its history."
        ),
        fitted_long,
    ),
    later(
        "segment a list",
        lambda: [1.0],
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got list instead. Use "
            'pd.DataFrame(data, columns=[...]).rename_axis("timestamp").reset_index().'
        ),
        fitted,
        "segment",
    ),
    later(
        "backtest too few rows",
        lambda: wide(5),
        FRAME,
        (
            "A backtest needs a window of 2 look-back points and 4 targets. The longest series "
            "has 5 rows. Pass more rows or an earlier start."
        ),
        fitted,
        "backtest",
    ),
    later(
        "backtest none",
        lambda: None,
        FRAME,
        (
            "The data must be a pandas DataFrame or Series. Got NoneType instead. Use "
            'pd.DataFrame(data, columns=[...]).rename_axis("timestamp").reset_index().'
        ),
        fitted,
        "backtest",
    ),
    later(
        "score unknown items",
        lambda: long(items="z"),
        FRAME,
        (
            "MASE needs the error of the seasonal naive forecast on training rows. It is unknown "
            "or 0 for the items ['z']. Fit on these items, or use another column of metrics()."
        ),
        fitted_long,
        "score",
    ),
    later(
        "predict to the end of time",
        lambda: stamped(pd.date_range("2262-04-10 18:00", periods=30, freq="h", unit="ns")),
        FRAME,
        (
            "Forecasts need stamps after the end of a series, but the dtype 'datetime64[ns]' "
            "cannot hold 4 step(s) of 'h' after '2262-04-11 23:00:00'. Use smaller integers, or a "
            "coarser unit of dates with df.index.as_unit('s')."
        ),
    ),
]

CASES = [*NO_FRAME, *STAMPS, *VALUES, *NAMES, *LENGTHS, *STEPS, *OTHER_FRAMES]


@parametrized(CASES)
def test_a_bad_frame_is_refused(case):
    assert_refused(case)
