"""Stamps on the command line: how they are found in a file, read and written."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection

    import pandas as pd

    from adaptivepatch.data.steps import Step

NAMES = ("timestamp", "date", "ds", "time")
_DAY = r"\d{4}([-/]\d{1,2}([-/.]\d{1,2})?|\.\d{1,2}[-/.]\d{1,2})?|\d{8}"  # no decimal years
_CLOCK = r"\d{1,2}(:?\d{2}(:?\d{2}([.,]\d+)?)?)?"
_OFFSET = r"(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)"
_ISO = rf"(?:{_DAY})(?:[T ]{_CLOCK}\s?{_OFFSET}?)?"
_LIKE_A_DATE = r"\d{1,4}[-/. ]\w{1,9}[-/. ]\d{1,4}.*"
_PRINTED = r"\d{4}-\d{2}-\d{2}( .*)?"  # as `as_text` writes dates
_SHORT_DAY = "20h"  # days of a local clock are 23 to 25 hours apart, or more


def find(
    frame: pd.DataFrame, named: str | None, item_id: str, channels: Collection[str] = ()
) -> str | None:
    """Return the name of the column of stamps, or None if there is no such column.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns as read from the file.
    named : str, optional
        Column that the user names.
    item_id : str
        Name of the column of items, which may be absent.
    channels : collection of str
        Columns that are known to be channels.

    Raises
    ------
    InvalidFrameError
        If the names of several columns are names of stamps.
    """
    if named is not None:
        return named
    others = [name for name in frame.columns if name != item_id and name not in channels]
    candidates = [name for name in others if name.lower() in NAMES]
    if len(candidates) > 1:
        raise InvalidFrameError(
            f"One column must hold the stamps. The names of {candidates!r} all suggest it. Name "
            "one with --timestamp, and list the channels with --target."
        )
    if candidates:
        return str(candidates[0])
    if not others or others[0] != next(name for name in frame.columns if name != item_id):
        return None
    first, column = others[0], frame[others[0]]
    if _is_date_dtype(column):
        return str(first)
    text = column.astype(str)
    if column.notna().all() and is_text(column):
        if text.str.fullmatch(_ISO).all() and as_integers(column) is None:
            return str(first)
        if text.str.fullmatch(_LIKE_A_DATE).all():
            return str(first)  # `parse` refuses it and names the expected format
        if (
            first == "Unnamed: 0"
            and item_id not in frame.columns
            and as_integers(column) is not None
        ):
            return str(first)  # a saved index of integers
    return None


def parse(
    column: pd.Series[Any],
    name: str,
    date_format: str | None,
    zone: datetime.tzinfo | None = None,
    items: pd.Series[Any] | None = None,
) -> pd.Series[Any]:
    """Return stamps as dates or integers.

    Parameters
    ----------
    column : pandas.Series
        Stamps as text, dates or integers. Dates and integers are returned unchanged.
    name : str
        Name of the column, for messages.
    date_format : str, optional
        Format of dates in the codes of strftime. Default: ISO dates, the year first.
    zone : tzinfo, optional
        Time zone to which dates with offsets are converted. Default: that of the dates; UTC if
        their offsets differ, as in summer and winter.
    items : pandas.Series, optional
        Item of each row.

    Raises
    ------
    InvalidFrameError
        If a stamp is missing or cannot be read without guessing, or if days of a local clock have
        offsets and `zone` is unknown.
    """
    import pandas as pd

    dates, several = _read(column, name, date_format)
    if zone is not None and isinstance(dates.dtype, pd.DatetimeTZDtype):
        return dates.dt.tz_convert(zone)
    if several:
        _refuse_local_days(dates, column, name, items)
    return dates


def moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return stamps that can be compared: the first moment of each period, or the stamps."""
    import pandas as pd

    if not isinstance(column.dtype, pd.PeriodDtype):
        return column
    return pd.Series(pd.PeriodIndex(column).to_timestamp(), column.index)


def parse_stamp(text: str, option: str, like: pd.Series[Any], date_format: str | None) -> Any:
    """Return the stamp of an option, which is written like the stamps of the file.

    A date may also be written as the commands print it, with the year first, if `date_format`
    begins with the day or the month. A date without an offset from UTC is one of the time zone of
    the file.

    Parameters
    ----------
    text : str
        Stamp as given.
    option : str
        Name of the option, for messages.
    like : pandas.Series
        Stamps of the file, as dates or integers.
    date_format : str, optional
        Format of dates, as in `parse`.

    Returns
    -------
    pandas.Timestamp or int
        Stamp that can be compared with those of the file.

    Raises
    ------
    InvalidParameterError
        If the text is not such a stamp, or if it is a time of day that the clocks of the time zone
        skip or show twice.
    """
    import pandas as pd

    is_date, first = _is_date_dtype(like), like.iloc[0]
    zone = getattr(first, "tz", None)
    stamp = _one_stamp(text, option, date_format if is_date else None)
    if isinstance(stamp, pd.Timestamp) != is_date or (getattr(stamp, "tz", None) and not zone):
        raise InvalidParameterError(
            f"{option} must be a stamp that is written like those of the file, such as "
            f"{as_in_file(first, date_format)!r}. Got {text!r}."
        )
    if zone is None:
        return stamp
    if stamp.tz is not None:
        return stamp.tz_convert(zone)
    moment = stamp.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    if moment is pd.NaT:
        raise InvalidParameterError(
            f"{option} must be one moment. The clocks of {zone} skip {text!r} or show it twice. "
            f"Write it with an offset from UTC, such as {str(first)!r}."
        )
    return moment


def _one_stamp(text: str, option: str, date_format: str | None) -> Any:
    """Return a stamp in the given format or as the commands print it; None if it is neither."""
    import pandas as pd

    formats = [date_format]
    first_code = None if date_format is None else re.search("%[a-zA-Z]", date_format)
    if first_code and first_code[0] in ("%d", "%m") and re.fullmatch(_PRINTED, text.strip()):
        formats.append(None)
    for form in formats:
        try:
            return _read(pd.Series([text]), option, form)[0].iloc[0]
        except InvalidFrameError:
            continue
    return None


def as_in_file(stamp: Any, date_format: str | None) -> str:
    """Return a stamp as an option takes it: in the format of the file, if one was stated."""
    in_format = date_format is not None and hasattr(stamp, "strftime")
    return str(stamp.strftime(date_format) if in_format else stamp)


def as_text(stamp: Any, step: Step) -> str | int:
    """Return a stamp as all commands print it; an integer is returned unchanged.

    Dates have the year first, and their offset from UTC if they have a time zone. Midnight is left
    out where steps are days or longer and there is no time zone.

    Parameters
    ----------
    stamp : pandas.Timestamp, str or int
        Stamp of a series, or the text of such a stamp.
    step : pandas offset or int
        Time step of the series.
    """
    import pandas as pd

    if isinstance(step, int):
        return int(stamp)
    of_hours = isinstance(step, pd.offsets.Tick) and not isinstance(step, pd.offsets.Day)
    if of_hours or isinstance(step, pd.offsets.BusinessHour):
        return str(stamp)
    return str(stamp).removesuffix(" 00:00:00")


def dates_as_text(frame: pd.DataFrame, step: Step) -> pd.DataFrame:
    """Return a table whose dates are text, as `as_text` writes them.

    Parameters
    ----------
    frame : pandas.DataFrame
        Table of results.
    step : pandas offset or int
        Time step of the series.
    """
    import pandas as pd

    texts = {}
    for name, column in frame.items():
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            known = {stamp: as_text(stamp, step) for stamp in pd.DatetimeIndex(column.unique())}
            texts[str(name)] = column.map(known)
    return frame.assign(**texts)


def _read(
    column: pd.Series[Any], name: str, date_format: str | None
) -> tuple[pd.Series[Any], bool]:
    """Return stamps as dates or integers, and whether dates in UTC had several offsets."""
    import pandas as pd

    if _is_date_dtype(column) or (
        date_format is None and pd.api.types.is_integer_dtype(column.dtype)
    ):
        return column, False
    if column.isna().any():
        row = int(column.isna().to_numpy().argmax())
        raise InvalidFrameError(
            f"Every row needs a stamp. Column {name!r} has none in data row {row + 1}, and in "
            f"{int(column.isna().sum())} of {len(column)} rows. Fill or drop these rows."
        )
    text = column.astype(str).str.strip()
    if date_format is not None:
        return _by_format(text, name, date_format)
    integers = as_integers(text)
    if integers is not None:
        return integers, False
    matches = text.str.fullmatch(_ISO)
    if not matches.all():
        _refuse(text, name, int((~matches).to_numpy().argmax()))
    offsets = text.str.extract(rf"[T ]{_CLOCK}\s?{_OFFSET}$")["offset"].fillna("")
    several = len(set(offsets)) > 1  # as in summer and winter; all are converted to UTC
    if several and "" in set(offsets):
        row = int((offsets == "").to_numpy().argmax())
        raise InvalidFrameError(
            f"Either all stamps or none must have an offset from UTC. Column {name!r} has "
            f"{text.iloc[row]!r} in data row {row + 1}, and others have offsets. Correct the file."
        )
    try:
        return pd.to_datetime(text, format="ISO8601", utc=several), several
    except pd.errors.OutOfBoundsDatetime as error:
        raise InvalidFrameError(
            f"Dates must lie between 1678 and 2261. Column {name!r} has others "
            f"({str(error).partition(', at')[0]}). Correct them, or use integers."
        ) from error
    except ValueError:
        parsed = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        _refuse(text, name, int(parsed.isna().to_numpy().argmax()))


def as_integers(column: pd.Series[Any]) -> pd.Series[Any] | None:
    """Return a column as integers, or None if a value is not an integer."""
    import pandas as pd

    if pd.api.types.is_integer_dtype(column.dtype):
        return column
    if not is_text(column) or not column.astype(str).str.fullmatch(r"\s*[+-]?\d{1,18}\s*").all():
        return None
    return column.astype(str).astype("int64")


def is_text(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds text, or values of several types."""
    import pandas as pd

    return pd.api.types.is_object_dtype(column.dtype) or isinstance(column.dtype, pd.StringDtype)


def is_value(text: str) -> bool:
    """Tell whether a text is a number or a date, and so not the name of a column."""
    return _is_float(text) or re.fullmatch(_ISO, text) is not None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_format(text: pd.Series[Any], name: str, date_format: str) -> tuple[pd.Series[Any], bool]:
    """Return dates in a format, and whether they had several offsets and are in UTC now."""
    import pandas as pd

    has_offset = re.search("%[zZ]", date_format.replace("%%", "")) is not None
    try:
        parsed = pd.to_datetime(text, format=date_format, errors="coerce", utc=has_offset)
    except ValueError as error:
        raise InvalidFrameError(
            f"--date-format must consist of codes such as %d/%m/%Y %H:%M. Got {date_format!r} "
            f"({error})."
        ) from error
    if parsed.isna().any():
        row = int(parsed.isna().to_numpy().argmax())
        raise InvalidFrameError(
            f"Every stamp must follow --date-format {date_format!r}. Column {name!r} has "
            f"{text.iloc[row]!r} in data row {row + 1}. Correct the format or the row."
        )
    if not has_offset:
        return parsed, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # of pandas 2 for several offsets
            own = pd.to_datetime(text, format=date_format)
    except (ValueError, FutureWarning):
        return parsed, True
    return own, False


def _refuse_local_days(
    dates: pd.Series[Any], column: pd.Series[Any], name: str, items: pd.Series[Any] | None
) -> None:
    """Refuse days, weeks or months of a local clock, which are irregular in UTC.

    Parameters
    ----------
    dates : pandas.Series
        Dates in UTC that had several offsets.
    column : pandas.Series
        The dates as they are written.
    name : str
        Name of the column.
    items : pandas.Series, optional
        Item of each row.
    """
    import pandas as pd

    keys = pd.Series(0, index=dates.index) if items is None else items
    gaps = dates.groupby(keys, sort=False).diff().abs()
    times = (dates - dates.dt.normalize()).groupby(keys, sort=False).nunique()
    if gaps.isna().all() or gaps.min() < pd.Timedelta(_SHORT_DAY) or times.max() == 1:
        return
    raise InvalidFrameError(
        f"Days of a local clock need its time zone, or no offsets from UTC. Column {name!r} has "
        f"several offsets, such as in {str(column.iloc[0])!r}, and no zone. Write the dates "
        "without offsets, such as 2024-01-31 or 2024-01-31 06:00."
    )


def _refuse(text: pd.Series[Any], name: str, row: int) -> NoReturn:
    if _is_float(text.iloc[row]):
        raise InvalidFrameError(
            f"Stamps must be integers or dates, not decimal numbers. Column {name!r} has "
            f"{text.iloc[row]!r} in data row {row + 1}. Write dates, such as 2024-07-01 for the "
            "middle of 2024; or state the format of dates, such as --date-format '%Y.%m'."
        )
    raise InvalidFrameError(
        f"Stamps must be integers, or dates with the year first such as 2024-01-31 23:00. Column "
        f"{name!r} has {text.iloc[row]!r} in data row {row + 1}. State the format of dates, such "
        "as --date-format '%d/%m/%Y', or name another column with --timestamp."
    )


def _is_date_dtype(column: pd.Series[Any]) -> bool:
    import pandas as pd

    is_period = isinstance(column.dtype, pd.PeriodDtype)
    return is_period or pd.api.types.is_datetime64_any_dtype(column.dtype)
