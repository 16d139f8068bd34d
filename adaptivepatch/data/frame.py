"""Check a user's DataFrame and convert it to regular series.

`read_frame` applies the rules of a valid frame and returns a `Panel` (``panel.py``). The time step
and gaps of the stamps (timestamps) are the subject of ``steps.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Sized
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.panel import FrameLayout, Panel, future_index, row_offsets
from adaptivepatch.data.steps import (
    Step,
    check_own_step,
    complete_grid,
    find_step,
    parse_step,
    step_name,
)
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, suggest
from adaptivepatch.keywords import unexpected

__all__ = ["FrameLayout", "Panel", "future_index", "read_frame"]

_FIRST_YEAR, _LAST_YEAR = 1900, 2100  # years of integers that may be dates
SINGLE_ITEM = "series"  # id of the only item of a wide frame
COVARIATE_ROLES = ("past_covariates", "future_covariates", "static_covariates")


def refuse_covariates(given: Mapping[str, object], known: Iterable[str] = ()) -> None:
    """Refuse extra keyword arguments of `fit`: covariates (reserved names) and unknown names.

    Parameters
    ----------
    given : mapping
        Values by name; None stands for absent covariates.
    known : iterable of str, optional
        Names of the parameters of `fit`, for the message about an unknown name.

    Raises
    ------
    InvalidParameterError
        If covariates are given.
    UnexpectedArgumentError
        If a name is unknown.
    """
    for name, value in given.items():
        if name not in COVARIATE_ROLES:
            raise unexpected("Forecaster.fit", name, known)
        if value is not None:
            raise InvalidParameterError(
                f"Covariates are not yet supported. Got {name} of type {_type_and_size(value)}. "
                "Leave this argument out. If the frame has columns of covariates, list the "
                "channels to forecast with target=[...].",
                parameter=name,
            )


def _type_and_size(value: object) -> str:
    """Return the type of a value with its shape or length, which is short for any data."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if shape is not None:
        return f"{kind} and shape {tuple(shape)!r}"
    return f"{kind} and length {len(value)}" if isinstance(value, Sized) else kind


def read_frame(
    df: pd.DataFrame | pd.Series[Any],
    *,
    item_id: str = "item_id",
    timestamp: str = "timestamp",
    target: str | Sequence[str] | None = None,
    missing: Literal["error", "mask"] = "error",
    freq: str | Step | pd.Timedelta | None = None,
    require_observed: bool = True,
    keys_must_exist: bool = False,
    is_fitted_step: bool = False,
) -> Panel:
    """Check a wide or long frame and return its series in canonical order.

    A frame with the column `item_id` is long: one row per item and stamp. Any other frame is wide:
    one item, one column per channel. The frame is never modified.

    Parameters
    ----------
    df : pandas.DataFrame or pandas.Series
        Frame to read; a Series is a frame of one channel.
    item_id, timestamp : str, default="item_id", "timestamp"
        Names of the key columns. Without the `timestamp` column, the index must hold the stamps.
    target : str or sequence of str, optional
        Names of the channels. By default every column that is not a key is a channel.
    missing : {"error", "mask"}, default="error"
        Treatment of absent stamps and NaN: "error" refuses the frame, "mask" keeps them as
        unobserved steps.
    freq : str, pandas offset or int, optional
        Time step, an int for integer stamps. By default it is inferred.
    require_observed : bool, default=True
        Whether to refuse a channel that has no observed value in an item.
    keys_must_exist : bool, default=False
        Whether to refuse a frame that lacks a key column named by the caller. A key with its
        default name may always be absent.
    is_fitted_step : bool, default=False
        Whether `freq` is the step of a fitted model. If so, stamps with a longer step of their own
        are refused, because they would leave most of the grid empty.

    Returns
    -------
    Panel
        Regular series with sorted items and channels.

    Raises
    ------
    InvalidFrameError
        If the frame does not describe regular numeric series.
    InvalidParameterError
        If an argument is not one of its documented values.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"sales": [1, 2, 3]}, index=pd.date_range("2024", periods=3))
    >>> panel = read_frame(frame)
    >>> panel.channels, panel.lengths.tolist(), panel.freq.freqstr
    (('sales',), [3], 'D')
    """
    if missing not in ("error", "mask"):
        raise InvalidParameterError(
            f"The 'missing' parameter must be 'error' or 'mask'. Got {missing!r} instead.",
            parameter="missing",
        )
    check_keys(item_id, timestamp)
    if keys_must_exist:
        _check_named_keys(df, item_id, timestamp)
    frame = _as_frame(df)
    was_long = item_id in frame.columns
    stamps, in_index = _stamps(frame, item_id, timestamp, was_long)
    names = _channels(frame, target, {item_id, timestamp})
    channels = tuple(sorted(names))
    values = np.column_stack([_numbers(frame, name) for name in channels])
    codes, item_ids, item_order = _items(frame, item_id if was_long else None)

    order = np.argsort(codes, kind="stable")
    offsets = row_offsets(np.bincount(codes, minlength=len(item_ids)))
    stamps, values = stamps.take(order), values[order]
    others = [] if was_long else [c for c in frame.columns if c not in (timestamp, *names)]
    _check_increasing(stamps, offsets, item_ids, timestamp, in_index, others)
    index = tuple(stamps[a:b] for a, b in pairwise(offsets))
    step = find_step(index, item_ids) if freq is None else parse_step(freq, stamps)
    if is_fitted_step and missing == "mask":
        check_own_step(index, item_ids, step)
    index, position = complete_grid(index, item_ids, step, fill=missing == "mask")

    offsets = row_offsets([len(stamps) for stamps in index])
    regular = np.full((offsets[-1], len(channels)), np.nan)
    regular[position] = values
    panel = Panel(
        item_ids=item_ids,
        channels=channels,
        row_offsets=offsets,
        values=regular,
        index=index,
        freq=step,
        layout=FrameLayout(
            item_id=item_id,
            timestamp=str(frame.index.name) if in_index and frame.index.name else timestamp,
            channel_order=names,
            item_order=item_order,
            was_long=was_long,
            stamps_in_index=in_index,
        ),
    )
    _check_values(panel, missing, require_observed)
    return panel


def read_frame_like_fitted(
    df: pd.DataFrame,
    columns: Mapping[str, Any],
    channels: tuple[str, ...],
    step: Step,
    *,
    missing: Literal["error", "mask"],
) -> Panel:
    """Read a frame that must have the channels and the time step of training.

    Parameters
    ----------
    df : pandas.DataFrame
        Frame with later rows or other items.
    columns : mapping
        Names of the key columns in `fit`, under "item_id" and "timestamp".
    channels : tuple of str
        Channels of `fit`; other columns are ignored.
    step : pandas offset or int
        Time step of `fit`.
    missing : {"error", "mask"}
        Treatment of absent stamps and NaN, as in `read_frame`.

    Raises
    ------
    InvalidFrameError
        If the frame lacks a channel, has stamps of another kind, or is refused by `read_frame`.
    """
    keys = {"item_id": columns["item_id"], "timestamp": columns["timestamp"]}
    if isinstance(df, pd.DataFrame | pd.Series) and not df.empty:
        given = list(df.columns) if isinstance(df, pd.DataFrame) else [df.name or "target"]
        absent = [name for name in channels if name not in given]
        if absent:
            raise InvalidFrameError(
                f"The frame must have the channels of fit, {list(channels)}, but it lacks "
                f"{absent}. It has {[c for c in given if c not in keys.values()]}. Add or rename "
                "columns."
            )
    names = list(channels)
    if isinstance(df, pd.DataFrame):
        names.sort(key=list(df.columns).index)  # forecasts come in the order of this frame
    try:
        return read_frame(
            df,
            **keys,
            target=names,
            missing=missing,
            freq=step,
            require_observed=False,
            is_fitted_step=True,
        )
    except InvalidParameterError as error:  # the step of fit does not suit these stamps
        kind = "integers" if isinstance(step, int) else "datetimes"
        raise InvalidFrameError(
            f"The stamps must be {kind} with the step {step_name(step)!r}, as in fit, but the "
            "stamps of this frame are of another kind. Convert them."
        ) from error


def check_id_types(given: Sequence[Hashable], fitted: Sequence[Hashable]) -> None:
    """Refuse item ids that differ from the ids of `fit` only in their type, such as '1' for 1.

    Parameters
    ----------
    given, fitted : sequence of hashable
        Ids of a frame, and ids of `fit`.

    Raises
    ------
    InvalidFrameError
        If an id is unknown, but its text equals the text of a known id.
    """
    known, by_text = set(fitted), {str(id_): id_ for id_ in fitted}
    for id_ in given:
        if id_ not in known and str(id_) in by_text:
            own = by_text[str(id_)]
            raise InvalidFrameError(
                f"Item ids must have the same type as in fit. Got {id_!r} of type "
                f"{type(id_).__name__}, but fit had {own!r} of type {type(own).__name__}. Convert "
                f"the column of ids, such as with .astype({type(own).__name__}).",
                parameter="item_id",
            )


def _as_frame(df: object) -> pd.DataFrame:
    frame = df
    if isinstance(frame, pd.Series):
        frame = frame.to_frame("target" if frame.name is None else frame.name)
    if not isinstance(frame, pd.DataFrame):
        raise InvalidFrameError(
            f"The data must be a pandas DataFrame or Series. Got {_full_name(df)} instead. "
            f"Use {_conversion(df)}."
        )
    if frame.empty:
        raise InvalidFrameError(
            f"The frame must have rows and columns, but its shape is {frame.shape!r}. Check the "
            "file or the filter that it came from."
        )
    if isinstance(frame.columns, pd.MultiIndex):
        raise InvalidFrameError(
            f"The columns must not be a MultiIndex. Their names have {frame.columns.nlevels} "
            f"part(s), such as {frame.columns[0]!r}. Use df.columns = ['_'.join(map(str, name)) "
            "for name in df.columns]."
        )
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise InvalidFrameError(
            f"Column names must be strings. Got {odd[0]!r} of type {type(odd[0]).__name__}. "
            "Use df.columns = df.columns.astype(str)."
        )
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise InvalidFrameError(
            f"Column names must be unique. Repeated: {repeated!r}. Rename or drop the duplicates."
        )
    if isinstance(frame.index, pd.MultiIndex):
        raise InvalidFrameError(
            f"The index must not be a MultiIndex. It has {frame.index.nlevels} part(s): "
            f"{list(frame.index.names)!r}. Use df.reset_index()."
        )
    return frame


_FROM_ARRAY = 'pd.DataFrame({}, columns=[...]).rename_axis("timestamp").reset_index()'
_FROM_GLUONTS = (
    'pd.concat([pd.DataFrame({"item_id": entry["item_id"], "timestamp": pd.period_range('
    'entry["start"], periods=len(entry["target"]), freq=entry["start"].freq).to_timestamp(), '
    '"target": entry["target"]}) for entry in dataset])'
)
_CONVERSIONS = {
    ("polars", "DataFrame"): "df.to_pandas()",
    ("polars", "LazyFrame"): "df.collect().to_pandas()",
    ("polars", "Series"): "series.to_pandas()",
    ("pyarrow", "Table"): "table.to_pandas()",
    ("pyarrow", "RecordBatch"): "batch.to_pandas()",
    ("darts", "TimeSeries"): "series.to_dataframe()",
    ("gluonts", None): _FROM_GLUONTS,
    ("xarray", "DataArray"): "array.to_pandas()",
    ("xarray", "Dataset"): "dataset.to_dataframe()",
    ("pyspark", "DataFrame"): "df.toPandas()",
    ("dask", "DataFrame"): "df.compute()",
    ("numpy", "ndarray"): (
        f"{_FROM_ARRAY.format('array')}, or WindowRegressor for arrays of windows"
    ),
    ("torch", "Tensor"): _FROM_ARRAY.format("tensor.numpy()"),
    ("pathlib", "PurePath"): "pd.read_csv(path)",
}
"""Conversions to a DataFrame, by the library of a type and its name (None: any name)."""

_FROM_MAPPING = (
    'pd.DataFrame(data).rename_axis("timestamp").reset_index() for channels of equal length, or '
    'pd.concat([pd.DataFrame({"item_id": key, "timestamp": range(len(values)), "value": values}) '
    "for key, values in data.items()]) for separate series"
)
_FROM_BUILT_IN: dict[type, str] = {
    str: "pd.read_csv(path)",
    int: "predict(horizon=...) for a number of steps",
}


def _full_name(value: object) -> str:
    """Return the name of a value's type, with its library if it is not a built-in type."""
    library, kind = type(value).__module__.partition(".")[0], type(value).__name__
    return kind if library == "builtins" else f"{library}.{kind}"


def _conversion(value: object) -> str:
    """Return the code that converts a value of another type to a frame."""
    for kind in type(value).__mro__:  # a type may be derived from one in the table
        library = kind.__module__.partition(".")[0]
        for known in ((library, kind.__name__), (library, None)):
            if known in _CONVERSIONS:
                return _CONVERSIONS[known]
    if isinstance(value, Mapping):
        return _FROM_MAPPING
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return _FROM_GLUONTS if {"start", "target"} <= value[0].keys() else "pd.DataFrame(data)"
    if isinstance(value, list | tuple) and value and type(value[0]).__module__ != "builtins":
        one = _conversion(value[0])
        join = 'pd.concat(frames, keys=ids, names=["item_id", "timestamp"]).reset_index()'
        return join if isinstance(value[0], pd.DataFrame) else f"{one} for each, and {join}"
    return _FROM_BUILT_IN.get(type(value), _FROM_ARRAY.format("data"))


def _stamps(
    frame: pd.DataFrame, item_id: str, timestamp: str, was_long: bool
) -> tuple[pd.Index[Any], bool]:
    """Return the stamps of all rows and whether they came from the index."""
    in_index = timestamp not in frame.columns
    if not in_index:
        column = frame[timestamp]
        stamps, place = pd.Index(column, dtype=column.dtype), f"column {timestamp!r}"
    else:
        stamps, place = frame.index, "index"
    if isinstance(stamps, pd.PeriodIndex):
        stamps = stamps.to_timestamp()
    if stamps.hasnans:
        row = int(np.flatnonzero(stamps.isna())[0])
        who = f"series {frame[item_id].iloc[row]!r}" if was_long else f"series {SINGLE_ITEM!r}"
        raise InvalidFrameError(
            f"Every row needs a stamp, but {int(stamps.isna().sum())} row(s) have none in the "
            f"{place}, the first one in row {row} ({who}). Drop these rows or fill the stamps."
        )
    if pd.api.types.is_datetime64_any_dtype(stamps.dtype):
        return pd.DatetimeIndex(stamps), in_index
    if pd.api.types.is_integer_dtype(stamps.dtype) and not (in_index and was_long):
        numbers = _int64(stamps, place)
        _refuse_dates_as_integers(numbers, place)
        return pd.Index(numbers, name=stamps.name), in_index
    if in_index and (was_long or isinstance(stamps, pd.RangeIndex)):
        close = suggest(timestamp, frame.columns)
        raise InvalidFrameError(
            f"A long frame needs stamps, but it has no column {timestamp!r} among "
            f"{list(frame.columns)!r}, and its index holds no datetimes. Pass timestamp=...{close}",
            parameter="timestamp",
        )
    raise InvalidFrameError(
        f"Stamps must be datetimes or integers. The {place} has dtype {str(stamps.dtype)!r}"
        f"{_remedy(stamps)}, or name the column of stamps with timestamp=...",
        parameter="timestamp",
    )


def _int64(stamps: pd.Index[Any], place: str) -> NDArray[np.int64]:
    largest = int(stamps.max())
    if largest > np.iinfo(np.int64).max:
        raise InvalidFrameError(
            f"Integer stamps must fit into 64 bits, but the {place} reaches {largest}. Subtract a "
            "constant."
        )
    return cast("NDArray[np.int64]", stamps.to_numpy(dtype=np.int64))


def _refuse_dates_as_integers(numbers: NDArray[np.int64], place: str) -> None:
    """Refuse integers that all read as dates, such as 20240131, as they do not count steps."""
    for form, length in (("%Y%m%d", 8), ("%Y%m", 6)):
        low, high = _FIRST_YEAR * 10 ** (length - 4), (_LAST_YEAR + 1) * 10 ** (length - 4)
        if not (low <= numbers.min() and numbers.max() < high):
            continue
        dates = pd.to_datetime(np.unique(numbers).astype(str), format=form, errors="coerce")
        if not dates.isna().any():
            raise InvalidFrameError(
                f"Integer stamps must count steps, but all integers in the {place} read as dates: "
                f"{int(numbers[0])} reads as {dates[0]:%Y-%m-%d}. Convert them with "
                f"pd.to_datetime(stamps.astype(str), format={form!r}), or subtract a constant if "
                "they count steps.",
                parameter="timestamp",
            )


def _remedy(stamps: pd.Index[Any]) -> str:
    """Return the part of a message that says how to convert stamps of a wrong type."""
    if pd.api.types.is_float_dtype(stamps.dtype):
        return ". Convert step numbers with .astype('int64') and dates with pd.to_datetime"
    if pd.api.types.is_timedelta64_dtype(stamps.dtype):
        return ". Add a start date, such as pd.Timestamp('2024-01-01')"
    if stamps.inferred_type == "integer":
        return ". Subtract a constant from large numbers and convert it with .astype('int64')"
    zones = {str(stamp.tzinfo) for stamp in stamps if isinstance(stamp, datetime)}
    if len(zones) > 1:
        return (
            f" and mixes the time zones {sorted(zones)[:3]}. Convert it to one time zone with "
            "pd.to_datetime(..., utc=True) and .dt.tz_convert(...)"
        )
    return ". Convert it with pd.to_datetime"


def _channels(
    frame: pd.DataFrame, target: str | Sequence[str] | None, keys: set[str]
) -> tuple[str, ...]:
    if target is None:
        names = [name for name in frame.columns if name not in keys]
    else:
        is_one = isinstance(target, str) or not isinstance(target, Iterable)
        names = [cast("str", target)] if is_one else list(target)
    for name in names:
        if not isinstance(name, str) or name in keys or name not in frame.columns:
            available = [column for column in frame.columns if column not in keys]
            raise InvalidFrameError(
                f"The target {name!r} is not a value column of the frame. Available: "
                f"{available!r}.{suggest(name, available)}",
                parameter="target",
            )
    if not names or len(set(names)) < len(names):
        raise InvalidFrameError(
            "The frame needs at least one value column, and each may be named only once. Got "
            f"{names!r} among the columns {list(frame.columns)!r}. Add a column of numbers or pass "
            "target=...",
            parameter="target",
        )
    return tuple(names)


def _numbers(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    column, types = frame[name], pd.api.types
    numeric = types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)
    if not numeric or types.is_complex_dtype(column.dtype):
        is_bool = types.is_bool_dtype(column.dtype)
        remedy = "with .astype(float)" if is_bool else "with pd.to_numeric"
        if types.is_complex_dtype(column.dtype):
            remedy = "with np.real or np.abs"
        is_text = types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype)
        names = f" or item_id={name!r} if it names the series" if is_text else ""
        raise InvalidFrameError(
            f"A channel must hold real numbers. Column {name!r} has dtype {str(column.dtype)!r}. "
            f"Convert it {remedy}, pass timestamp={name!r} if it holds the stamps{names}, or leave "
            "it out by listing the channels with target=[...].",
            parameter="target",
        )
    return cast("NDArray[np.float64]", column.to_numpy(dtype=np.float64, na_value=np.nan))


def _items(
    frame: pd.DataFrame, item_id: str | None
) -> tuple[NDArray[np.intp], tuple[Hashable, ...], tuple[Hashable, ...]]:
    """Return each row's position in the sorted ids, the sorted ids, and the ids as first seen."""
    if item_id is None:
        return np.zeros(len(frame), dtype=np.intp), (SINGLE_ITEM,), (SINGLE_ITEM,)
    try:
        seen_codes, uniques = pd.factorize(frame[item_id])
    except TypeError as error:
        raise InvalidFrameError(
            f"Item ids must be hashable, such as strings or numbers, but column {item_id!r} holds "
            f"other values ({error}). Convert the column with .astype(str)."
        ) from error
    if (seen_codes < 0).any():
        row = int(np.flatnonzero(seen_codes < 0)[0])
        raise InvalidFrameError(
            f"Every row needs an item id, but column {item_id!r} has none in row {row}. Drop such "
            "rows or fill the ids."
        )
    seen: list[Hashable] = uniques.tolist()
    try:
        order = sorted(range(len(seen)), key=lambda k: (type(seen[k]).__name__, seen[k]))
    except TypeError:  # ids of this type cannot be compared
        order = sorted(range(len(seen)), key=lambda k: (type(seen[k]).__name__, repr(seen[k])))
    rank = np.empty(len(seen), dtype=np.intp)
    rank[order] = np.arange(len(seen))
    return rank[seen_codes], tuple(seen[k] for k in order), tuple(seen)


def _check_increasing(
    stamps: pd.Index[Any],
    offsets: NDArray[np.int64],
    item_ids: tuple[Hashable, ...],
    timestamp: str,
    in_index: bool,
    others: Sequence[str],
) -> None:
    """Refuse stamps that repeat or go back; `others` may name the series of a wide frame."""
    late = np.asarray(stamps[1:] <= stamps[:-1])
    late[offsets[1:-1] - 1] = False  # the step from one item to the next
    if not late.any():
        return
    row = int(np.flatnonzero(late)[0]) + 1
    item = item_ids[int(np.searchsorted(offsets, row, side="right")) - 1]
    if stamps[row] == stamps[row - 1]:
        found = f"has the stamp {str(stamps[row])!r} more than once"
        remedy = "Drop or aggregate the repeated rows"
    else:
        found = f"goes from {str(stamps[row - 1])!r} back to {str(stamps[row])!r}"
        remedy = f"Sort the rows {'with df.sort_index()' if in_index else f'by {timestamp!r}'}"
    if others:
        remedy += f". If the frame holds several series, pass item_id={others[0]!r}"
    raise InvalidFrameError(
        f"Stamps must increase within a series. Series {item!r} {found}. {remedy}.",
        parameter="item_id" if others else None,
    )


def _check_values(panel: Panel, missing: str, require_observed: bool) -> None:
    infinite = np.isinf(panel.values)
    if infinite.any():
        raise InvalidFrameError(
            f"Values must be finite. {_where(panel, infinite, 'infinite')}. "
            'Replace them with NaN and pass missing="mask".',
            parameter="missing",
        )
    gaps = np.isnan(panel.values)
    if missing == "error" and gaps.any():
        raise InvalidFrameError(
            f"Values must not be NaN. {_where(panel, gaps, 'NaN')}. "
            'Fill them or pass missing="mask".',
            parameter="missing",
        )
    if require_observed and gaps.any():
        for i, item in enumerate(panel.item_ids):
            empty = np.isnan(panel.item(i)).all(axis=0)
            if empty.any():
                name = panel.channels[int(np.flatnonzero(empty)[0])]
                raise InvalidFrameError(
                    f"Every channel needs an observed value in every series, but channel {name!r} "
                    f"of series {item!r} has none. Drop the channel or the series."
                )


def _where(panel: Panel, bad: NDArray[np.bool_], kind: str) -> str:
    """Name the channel, series and stamp of the first bad value, and the number of bad values."""
    row, column = (int(k) for k in np.argwhere(bad)[0])
    item = int(np.searchsorted(panel.row_offsets, row, side="right")) - 1
    start, stop = panel.row_offsets[item], panel.row_offsets[item + 1]
    stamp = panel.index[item][row - start]
    return (
        f"Channel {panel.channels[column]!r} of series {panel.item_ids[item]!r} has "
        f"{int(bad[start:stop, column].sum())} {kind} value(s), the first at {str(stamp)!r}"
    )


def check_keys(item_id: object, timestamp: object) -> None:
    """Refuse names of key columns that are not strings or are equal.

    Parameters
    ----------
    item_id, timestamp : object
        Names of the key columns, as the user gave them.

    Raises
    ------
    InvalidParameterError
        If a name is not a string, or both are equal.
    """
    for name, value in (("item_id", item_id), ("timestamp", timestamp)):
        if not isinstance(value, str):
            raise InvalidParameterError(
                f"The {name!r} parameter must be the name of one column. Got {value!r} instead. "
                "Leave the parameter out if there is no such column.",
                parameter=name,
            )
    if item_id == timestamp:
        raise InvalidParameterError(
            f"item_id and timestamp must name different columns, but both are {timestamp!r}. Name "
            "two columns, or leave out the key that the frame lacks.",
            parameter="timestamp",
        )


def _check_named_keys(df: object, item_id: str, timestamp: str) -> None:
    """Refuse keys that the user names and the frame lacks; the default names may be absent.

    Parameters
    ----------
    df : object
        Argument of the user; anything but a frame with rows and columns is refused elsewhere.
    item_id, timestamp : str
        Names of the key columns or of the index.

    Raises
    ------
    InvalidFrameError
        If no column or index has the name.
    """
    if not isinstance(df, pd.DataFrame) or df.empty:
        return
    present = [*df.columns, *df.index.names]
    for key, name in (("item_id", item_id), ("timestamp", timestamp)):
        if name != key and name not in present:
            columns = [column for column in df.columns if isinstance(column, str)]
            raise InvalidFrameError(
                f"The frame has no column {name!r}, which {key} names. Its columns are "
                f"{list(df.columns)!r}. Correct {key}=..., or leave it out if there is no such "
                f"column.{suggest(name, columns)}",
                parameter=key,
            )
