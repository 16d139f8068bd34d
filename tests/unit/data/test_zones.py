"""Time zones are kept as text that gives the same moments and the same wall clock."""

from __future__ import annotations

import datetime
import zoneinfo

import dateutil.tz
import pandas as pd
import pytest

from adaptivepatch.data.zones import read_zone, zone_name
from adaptivepatch.errors import InvalidParameterError

ZONES = {
    "zoneinfo": (zoneinfo.ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
    "utc": (datetime.UTC, "+00:00"),
    "a fixed offset with the name of a zone": (
        datetime.timezone(datetime.timedelta(hours=1), "CET"),
        "+01:00",
    ),
    "negative": (datetime.timezone(-datetime.timedelta(hours=3, minutes=30)), "-03:30"),
    "dateutil": (dateutil.tz.gettz("America/New_York"), "America/New_York"),
    "dateutil offset": (dateutil.tz.tzoffset(None, 7200), "+02:00"),
}


@pytest.mark.parametrize(("zone", "name"), ZONES.values(), ids=ZONES)
def test_a_zone_is_read_again(zone, name):
    assert zone_name(zone) == name
    moments = pd.date_range("2024-03-01", periods=400, freq="17h", tz="UTC")
    clocks = [moments.tz_convert(z).tz_localize(None) for z in (zone, read_zone(name))]
    assert clocks[0].equals(clocks[1])


def test_pytz_zones_are_read_again():
    pytz = pytest.importorskip("pytz")
    assert zone_name(pytz.FixedOffset(330)) == "+05:30"
    assert zone_name(pytz.timezone("Asia/Kolkata")) == "Asia/Kolkata"


def test_older_names_are_read():
    assert read_zone("UTC+01:00") == datetime.timezone(datetime.timedelta(hours=1))
    assert read_zone("UTC") == "UTC"
    with pytest.raises(ValueError, match="no time zone 'Mars/Base'"):
        read_zone("Mars/Base")


def test_a_zone_without_name_and_fixed_offset_is_refused():
    class Local(datetime.tzinfo):
        def utcoffset(self, moment):
            return datetime.timedelta(hours=1 + (3 < moment.month < 10))

    with pytest.raises(InvalidParameterError, match="has neither"):
        zone_name(Local())
