"""Conversion of time zones to text and back, without a change of moments or wall clock times."""

from __future__ import annotations

import datetime
import re
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adaptivepatch.errors import InvalidParameterError

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d))?")
_KEY_AFTER = "zoneinfo/"  # dateutil keeps the file that it read a zone from


def zone_name(zone: datetime.tzinfo) -> str:
    """Return a time zone as text: a key of the tz database, or a fixed offset such as "+05:30".

    Parameters
    ----------
    zone : tzinfo
        Time zone that zoneinfo, pytz, dateutil or datetime made.

    Raises
    ------
    InvalidParameterError
        If the zone has no key, such as the local zone of a machine.
    """
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if key is None:
        file = str(getattr(zone, "_filename", ""))
        key = file.rpartition(_KEY_AFTER)[2] if _KEY_AFTER in file else file or None
    if key is not None and _is_key(key):
        return str(key)
    offsets = {zone.utcoffset(datetime.datetime(2000 + n, 1 + n % 12, 1)) for n in range(25)}
    if len(offsets) == 1 and (offset := offsets.pop()) is not None:
        return _as_text(offset)
    raise InvalidParameterError(
        f"The time zone {zone!r} cannot be saved, because it has neither a name in the tz database "
        "nor a fixed offset. Convert the stamps first, such as with "
        "df.index.tz_convert('Europe/Berlin') or .tz_convert('UTC')."
    )


def read_zone(name: str) -> str | datetime.tzinfo:
    """Return the time zone that `zone_name` wrote; keys stay text, for pandas to look up.

    Raises
    ------
    ValueError
        If this machine does not know the zone.
    """
    match = _OFFSET.fullmatch(name.removeprefix("UTC") if name != "UTC" else name)
    if match is not None:
        sign, hours, minutes, seconds = match.groups()
        size = datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0))
        return datetime.timezone(-size if sign == "-" else size)
    if not _is_key(name):
        raise ValueError(f"there is no time zone {name!r} on this machine")
    return name


def _is_key(name: Any) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        return False
    return True


def _as_text(offset: datetime.timedelta) -> str:
    sign = "-" if offset < datetime.timedelta(0) else "+"
    seconds = int(abs(offset).total_seconds())
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return text if seconds % 60 == 0 else f"{text}:{seconds % 60:02d}"
