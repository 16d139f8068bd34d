"""The forecasts that a plot shows: the chosen series and cutoffs of a frame or of a backtest."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.data.windows import Windows
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_int, suggest

SeriesKey = tuple[Hashable, str]  # item and channel

NO_CUTOFF = ""  # stands for the cutoff of a forecast that is not one of a backtest
_NEEDED = ("item_id", "timestamp", "target_name", "prediction")


class BacktestLike(Protocol):
    """The part of a `Backtest` that is needed here; the class itself is in a higher layer."""

    @property
    def windows(self) -> Windows:
        """Items and cutoffs of the windows."""

    def select(self, which: NDArray[np.bool_]) -> Self:
        """Return the forecasts of some of the windows."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per window, channel and step."""


@dataclass(frozen=True)
class Choice:
    """What the user wants to see; the fields are parameters of `plot`."""

    items: Any
    channels: Any
    cutoffs: Any
    max_series: int


@dataclass(frozen=True)
class ChosenForecasts:
    """Forecasts to draw.

    Parameters
    ----------
    parts : dict
        Rows of the frame by item, channel and cutoff, in the order of time.
    series : list of tuple
        Items and channels.
    cutoffs : dict
        Cutoffs by item; `NO_CUTOFF` if the forecast is not that of a backtest.
    quantiles : dict of float to str
        Columns of the quantiles.
    notes : list of str
        What is shown of more, such as "6 of 21 series".
    """

    parts: dict[tuple[Any, ...], pd.DataFrame]
    series: list[SeriesKey]
    cutoffs: dict[Hashable, list[Any]]
    quantiles: dict[float, Any]
    notes: list[str]


def choose_forecasts(forecast: pd.DataFrame | BacktestLike, choice: Choice) -> ChosenForecasts:
    """Return the rows of the chosen series and cutoffs, after checking them.

    Raises
    ------
    InvalidFrameError
        If the frame lacks columns or rows, or has values of a wrong type.
    InvalidParameterError
        If the forecast lacks a series or a cutoff of the choice.
    """
    if isinstance(forecast, pd.DataFrame):
        _check_columns(forecast)
        pairs = forecast[["item_id", "target_name"]].drop_duplicates()
        offered = list(pairs.itertuples(index=False, name=None))
        keys = forecast[["item_id"]].assign(cutoff=forecast.get("cutoff", NO_CUTOFF))
    else:
        offered, keys = _offered_by_backtest(forecast)
    wanted = _wanted(offered, choice) if offered else []
    series = wanted[: choice.max_series]
    which, cutoffs, notes = _spread(keys, {item for item, _ in series}, choice.cutoffs)
    if len(series) < len(wanted):
        notes.insert(0, f"{len(series)} of {len(wanted):,} series")
    if isinstance(forecast, pd.DataFrame):
        rows = forecast[which].assign(cutoff=keys["cutoff"][which])
    else:
        rows = forecast.select(which).to_frame()
    rows = rows[rows["target_name"].isin({channel for _, channel in series})]
    quantiles = quantile_columns(rows)
    _check_values(rows, ["prediction", *quantiles.values()])
    groups = rows.groupby(["item_id", "target_name", "cutoff"], sort=False)
    parts: dict[Any, pd.DataFrame] = {
        key: part.sort_values("timestamp") for key, part in groups if key[:2] in series
    }
    if not parts:
        raise InvalidFrameError(
            f"A plot needs a forecast. None of the {int(which.sum())} chosen windows of the "
            "backtest has one, because fewer than 2 look-back points were observed. Choose other "
            "items or cutoffs.",
            parameter="forecast",
        )
    return ChosenForecasts(parts, series, cutoffs, quantiles, notes)


def quantile_columns(frame: pd.DataFrame) -> dict[float, Any]:
    """Return the columns of quantiles, which are named by numbers between 0 and 1, by quantile.

    Examples
    --------
    >>> quantile_columns(pd.DataFrame(columns=["prediction", "0.9", "0.1", "1.5"]))
    {0.1: '0.1', 0.9: '0.9'}
    """
    found = {}
    for name in frame.columns:
        with suppress(ValueError):
            if 0 < (quantile := float(str(name))) < 1:
                found[quantile] = name
    return dict(sorted(found.items()))


def listed(names: Iterable[Any]) -> str:
    """Return the first names, and the number of the others."""
    every = list(names)
    more = f" and {len(every) - 8} more" if len(every) > 8 else ""
    return ", ".join(map(repr, every[:8])) + more


# ------------------------------------------------------------------------- series and cutoffs


def _offered_by_backtest(backtest: Any) -> tuple[list[SeriesKey], pd.DataFrame]:
    """Return all series of a backtest, and item and cutoff of its windows."""
    if not all(hasattr(backtest, name) for name in ("windows", "select", "to_frame")):
        raise InvalidFrameError(
            "The forecast must be the frame that predict returns, or the result of backtest. Got "
            f"{type(backtest).__name__} instead. Pass model.predict() or model.backtest(df).",
            parameter="forecast",
        )
    windows = backtest.windows
    keys = pd.DataFrame({"item_id": windows.item_id, "cutoff": windows.cutoff})
    items, layout = set(keys["item_id"]), windows.panel.layout
    series = [(i, c) for i in layout.item_order if i in items for c in layout.channel_order]
    return series, keys


def _wanted(offered: list[SeriesKey], choice: Choice) -> list[SeriesKey]:
    """Return the series with the items and channels of the choice."""
    items, channels = (list(dict.fromkeys(names)) for names in zip(*offered, strict=True))
    items = _named(choice.items, items, "items")
    channels = _named(choice.channels, channels, "channels")
    known = set(offered)
    wanted = [(i, c) for i in items for c in channels if (i, c) in known]
    if not wanted:
        raise InvalidParameterError(
            f"The forecast must have a series of the chosen items and channels. No item of "
            f"{items[:5]} has a channel of {channels[:5]}. Choose others.",
            parameter="items",
        )
    return wanted


def _named(given: Any, known: list[Any], parameter: str) -> list[Any]:
    """Return the names that the user chose among the known ones, or all of these."""
    if given is None:
        return known
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    names = [given] if is_one or (isinstance(given, tuple) and given in known) else list(given)
    for name in names or [None]:
        if name not in known:
            raise InvalidParameterError(
                f"The {parameter!r} parameter must name {parameter} of the forecast. Got {name!r}; "
                f"the forecast has {listed(known)}.{suggest(str(name), map(str, known))}",
                parameter=parameter,
            )
    return list(dict.fromkeys(names))


def _spread(
    keys: pd.DataFrame, items: set[Hashable], wanted: Any
) -> tuple[NDArray[np.bool_], dict[Hashable, list[Any]], list[str]]:
    """Return which rows have a cutoff that is drawn, and the cutoffs of each item.

    Parameters
    ----------
    keys : pandas.DataFrame
        Columns item_id and cutoff.
    items : set
        Items that are drawn.
    wanted : int, stamp or sequence of stamps
        Number of cutoffs of each item, evenly spread over all of them; or the cutoffs.
    """
    which, chosen = np.zeros(len(keys), dtype=bool), {}
    named = _as_stamps(wanted, keys["cutoff"])
    if named is not None and (keys["cutoff"] == NO_CUTOFF).all():
        raise InvalidParameterError(
            f"Cutoffs can be chosen for a backtest. Got cutoffs={wanted!r} for a forecast without "
            "the column 'cutoff'. Leave out cutoffs.",
            parameter="cutoffs",
        )
    codes, ids = pd.factorize(keys["item_id"])
    shown = total = 0
    for code, item in enumerate(ids.tolist()):
        if item not in items:
            continue
        rows = np.flatnonzero(codes == code)
        every = pd.Index(keys["cutoff"].iloc[rows].unique()).sort_values()
        some = every.take(_evenly(len(every), wanted)) if named is None else named
        which[rows[keys["cutoff"].iloc[rows].isin(some)]] = True
        chosen[item] = list(some)
        shown, total = max(shown, len(some)), max(total, len(every))
    if named is not None and not (known := named.isin(keys["cutoff"][which])).all():
        every = pd.Index(keys["cutoff"].unique()).sort_values()
        raise InvalidParameterError(
            f"The 'cutoffs' parameter must be a number of cutoffs, or cutoffs of the forecast. Got "
            f"{str(named[~known][0])!r}; the forecast has {len(every)} cutoffs from "
            f"{str(every[0])!r} to {str(every[-1])!r}. Choose values of the column cutoff.",
            parameter="cutoffs",
        )
    is_part = named is None and shown < total
    return which, chosen, [f"{shown} of {total:,} cutoffs (evenly spread)"] if is_part else []


def _evenly(size: int, count: int) -> NDArray[np.int64]:
    """Return positions in the middles of `count` equal parts, or all positions.

    Examples
    --------
    >>> _evenly(9, 3), _evenly(2, 3)
    (array([1, 4, 7]), array([0, 1]))
    """
    count = min(count, size)
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def _as_stamps(wanted: Any, cutoffs: pd.Series[Any]) -> pd.Index[Any] | None:
    """Return the cutoffs that the user names, or None if `wanted` is a number of them."""
    if hasattr(wanted, "__index__"):
        check_int(None, cutoffs=wanted)
        return None
    is_one = isinstance(wanted, str) or not isinstance(wanted, Iterable)
    known = pd.Index(cutoffs)
    try:
        stamps = pd.Index([wanted] if is_one else list(wanted)).unique()
        if not len(stamps):
            raise ValueError("no cutoff is named")
        if not isinstance(known, pd.DatetimeIndex):
            return stamps.astype(known.dtype)
        stamps = pd.DatetimeIndex(stamps)
        needs_zone = known.tz is not None and stamps.tz is None
        return stamps.tz_localize(known.tz) if needs_zone else stamps
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(
            "The 'cutoffs' parameter must be a number of cutoffs, or cutoffs of the forecast. Got "
            f"{wanted!r} instead. Choose values of the column cutoff.",
            parameter="cutoffs",
        ) from error


# ------------------------------------------------------------------------------------- checks


def _check_columns(frame: pd.DataFrame) -> None:
    absent = [name for name in _NEEDED if name not in frame.columns]
    if absent or frame.empty:
        raise InvalidFrameError(
            f"A frame of forecasts must have rows and the columns {list(_NEEDED)}. It has "
            f"{len(frame)} rows and the columns {list(frame.columns)}. Pass the frame that "
            "predict() or backtest(df).to_frame() returns.",
            parameter="forecast",
        )
    if not frame.columns.is_unique:
        copies = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise InvalidFrameError(
            f"Column names must be unique. The forecast repeats {copies}. Rename or drop the "
            "copies.",
            parameter="forecast",
        )
    names = [name for name in (*_NEEDED[:3], "cutoff") if name in frame.columns]
    for name in names:
        if frame[name].isna().any():
            raise InvalidFrameError(
                f"Every row of a forecast needs a value in the columns {names}. "
                f"{int(frame[name].isna().sum())} of {len(frame)} rows have none in {name!r}. Drop "
                "or fill them.",
                parameter="forecast",
            )
    types = pd.api.types
    for name in [name for name in ("timestamp", "cutoff") if name in names]:
        dtype = frame[name].dtype
        if not (types.is_datetime64_any_dtype(dtype) or types.is_integer_dtype(dtype)):
            raise InvalidFrameError(
                f"Stamps must be datetimes or integers. The column {name!r} of the forecast has "
                f"dtype {str(dtype)!r}. Convert it with pd.to_datetime, or read the file with "
                f"pd.read_csv(path, parse_dates=[{name!r}]).",
                parameter="forecast",
            )


def _check_values(rows: pd.DataFrame, columns: list[Any]) -> None:
    types = pd.api.types
    for name in [*columns, *(["actual"] if "actual" in rows else [])]:
        column = rows[name]
        if not types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
            raise InvalidFrameError(
                f"Forecasts must be numbers. The column {name!r} has dtype {str(column.dtype)!r}. "
                "Convert it with pd.to_numeric.",
                parameter="forecast",
            )
        infinite = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
        if infinite.any():
            raise InvalidFrameError(
                f"Forecasts must be finite, or NaN where there is none. The column {name!r} has "
                f"{int(infinite.sum())} infinite value(s), the first at "
                f"{str(rows['timestamp'].iloc[int(infinite.argmax())])!r}. Replace them with NaN.",
                parameter="forecast",
            )
    keys = ["item_id", "target_name", "cutoff"]
    copies = rows.duplicated([*keys, "timestamp"])
    if copies.any():
        row = rows[copies].iloc[0]
        raise InvalidFrameError(
            "A frame of forecasts must have one row per item, channel, cutoff and stamp. It has "
            f"several of item {row['item_id']!r} and channel {row['target_name']!r} at "
            f"{str(row['timestamp'])!r}. Plot the forecasts of each model or cutoff by themselves.",
            parameter="forecast",
        )
