"""Files are read without guessing: every value is read, or an error names the wrong one."""

from __future__ import annotations

import gzip
import lzma
import re

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.cli.outputs import check_output, write_table
from adaptivepatch.cli.tables import Columns, read_table
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

WIDE = "date,load\n2024-01-01,1.5\n2024-01-02,2.5\n"
VALUES = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)


def write(folder, text, name="data.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder, text, name="data.csv", **columns):
    return read_table(write(folder, text, name), Columns(**columns))


# ---------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.xz", ".tsv", ".parquet"])
def test_written_tables_are_read_back_exactly(tmp_path, ending):
    days = pd.date_range("2024-01-01", periods=50, freq="h")
    frame = pd.DataFrame({"date": days, "load": VALUES})
    path = tmp_path / f"data{ending}"
    write_table(frame, path, pd.offsets.Hour())
    before = path.read_bytes()
    table = read_table(path, Columns())
    pd.testing.assert_frame_equal(table.frame, frame, check_exact=True, check_dtype=False)
    assert (table.columns.timestamp, table.columns.numbered) == ("date", False)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(tmp_path, separator):
    frame = read(tmp_path, WIDE.replace(",", separator)).frame
    assert frame["load"].tolist() == [1.5, 2.5]


def test_byte_order_mark_windows_line_ends_and_quotes(tmp_path):
    text = '\ufeff"date","load, kW"\r\n2024-01-01,1\r\n2024-01-02,\r\n'
    frame = read(tmp_path, text).frame
    assert frame["load, kW"].isna().tolist() == [False, True]


def test_a_parquet_file_with_dates_in_the_index(tmp_path):
    index = pd.date_range("2024", periods=3, tz="Europe/Berlin")
    pd.DataFrame({"load": [1, 2, 3]}, index=index).to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet", Columns())
    assert table.frame["timestamp"].tolist() == list(index)


# --------------------------------------------------------------------------- keys and stamps


@pytest.mark.parametrize("name", ["timestamp", "Date", "ds", "TIME", "when"])
def test_the_column_of_stamps_is_found(tmp_path, name):
    text = f"{name},load\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n"
    table = read(tmp_path, text)
    assert table.columns.timestamp == name
    assert table.frame[name].dt.hour.tolist() == [0, 1]


def test_a_column_of_stamps_need_not_be_first(tmp_path):
    table = read(tmp_path, "load,day,timestamp\n1,3,5\n2,4,6\n")
    assert table.columns.timestamp == "timestamp"
    assert table.frame.to_dict("list") == {"load": [1, 2], "day": [3, 4], "timestamp": [5, 6]}


def test_long_files_keep_ids_as_they_are_written(tmp_path):
    text = "shop,day,sales\n007,2024-01-01,1\nNA,2024-01-01,2\n"
    table = read(tmp_path, text, item_id="shop")
    assert table.frame["shop"].tolist() == ["007", "NA"]
    assert table.columns.timestamp == "day"
    assert table.frame["day"].dt.tz is None


def test_integer_stamps_stay_integers(tmp_path):
    frame = read(tmp_path, "time,load\n5,1\n6,2\n").frame
    assert frame["time"].tolist() == [5, 6]
    assert frame["time"].dtype == np.int64


def test_a_saved_index(tmp_path):
    dates = read(tmp_path, ",load\n2024-01-01,1\n2024-01-02,2\n")
    assert dates.columns.timestamp == "Unnamed: 0"
    numbers = read(tmp_path, ",load\n3,1\n4,2\n")
    assert numbers.frame["Unnamed: 0"].tolist() == [3, 4]
    beside = read(tmp_path, ",date,load\n0,2024-01-01,1\n1,2024-01-02,2\n")
    assert list(beside.frame) == ["date", "load"]


def test_rows_without_stamps_are_numbered_with_a_note(tmp_path, capsys):
    table = read(tmp_path, "year,load\n2012.5,0.1\n2013.5,0.30000000000000004\n")
    assert table.columns.numbered
    assert table.frame["year"].tolist() == [2012.5, 2013.5]
    assert table.frame["load"].tolist()[1] == 0.30000000000000004
    assert "rows are numbered" in capsys.readouterr().err


def test_offsets_of_summer_and_winter_become_utc(tmp_path):
    text = "date,load\n2024-03-31T01:00+01:00,1\n2024-03-31T03:00+02:00,2\n"
    stamps = read(tmp_path, text).frame["date"]
    assert stamps.diff().iloc[1] == pd.Timedelta(hours=1)


def test_date_format(tmp_path):
    text = "date,load\n01/02/2024,1\n02/02/2024,2\n"
    with pytest.raises(InvalidFrameError, match=r"'01/02/2024' in data row 1.*--date-format"):
        read(tmp_path, text)
    assert read(tmp_path, text, date_format="%d/%m/%Y").frame["date"].dt.month.tolist() == [2, 2]
    with pytest.raises(InvalidFrameError, match=r"must follow --date-format '%m/%Y'"):
        read(tmp_path, text, date_format="%m/%Y")


@pytest.mark.parametrize("offsets", [("+01:00", "+01:00"), ("+0100", "+0200"), ("Z", "+0200")])
def test_date_format_with_offsets(tmp_path, offsets):
    text = "date,load\n" + "".join(
        f"31/03/2024 {hour:02} {offset},1\n" for hour, offset in zip((1, 5), offsets, strict=True)
    )
    stamps = read(tmp_path, text, date_format="%d/%m/%Y %H %z").frame["date"]
    hours = {"+01:00": 1, "+0100": 1, "+0200": 2, "Z": 0}
    expected = [hour - hours[offset] for hour, offset in zip((1, 5), offsets, strict=True)]
    assert stamps.dt.tz_convert("UTC").dt.hour.tolist() == expected
    assert stamps.dt.hour.tolist() == ([1, 5] if offsets[0] == offsets[1] else expected)


@pytest.mark.parametrize("values", [("2020.5", "2021.5"), ("2020.083", "2020.167"), ("2024.10",)])
def test_decimal_years_are_not_months(tmp_path, values):
    text = "date,load\n" + "".join(f"{value},1\n" for value in values)
    with pytest.raises(InvalidFrameError, match=rf"decimal numbers.* '{values[0]}' in data row 1"):
        read(tmp_path, text)


def test_years_and_months_with_a_dot_are_read_where_the_format_says_so(tmp_path):
    text = "date,load\n2024.01,1\n2024.10,1\n"
    assert read(tmp_path, text, date_format="%Y.%m").frame["date"].dt.month.tolist() == [1, 10]
    text = "date,load\n2024.01.31,1\n2024.02.29,1\n"
    assert read(tmp_path, text).frame["date"].dt.day.tolist() == [31, 29]


SPRING = pd.date_range("2024-03-10", periods=40, tz="Europe/Berlin")


def local_days(days, item=None):
    """Days with offsets that change in spring."""
    key = "" if item is None else f",{item}"
    return "".join(f"{day.isoformat()}{key},{k}\n" for k, day in enumerate(days))


@pytest.mark.parametrize("form", [None, "%Y-%m-%dT%H:%M:%S%z"])
def test_days_of_a_local_clock_need_its_zone(tmp_path, form):
    wide = "date,load\n" + local_days(SPRING)
    other = local_days(SPRING.tz_convert("America/New_York").normalize() + pd.Timedelta("5h"), "b")
    long = "date,item_id,load\n" + local_days(SPRING, "a") + other
    for text in (wide, long):
        with pytest.raises(InvalidFrameError, match="Write the dates without offsets"):
            read(tmp_path, text, date_format=form)
        column = read(tmp_path, text, date_format=form, zone=SPRING.tz).frame["date"]
        assert column[:40].tolist() == list(SPRING)
    if form is None:  # what the message says to do
        column = read(tmp_path, re.sub(r"T00:00:00\S\d\d:\d\d", "", wide)).frame["date"]
        assert column.tolist() == list(SPRING.tz_localize(None))


def test_days_that_are_regular_in_utc_are_read(tmp_path):
    days = SPRING.tz_convert("UTC").normalize().unique().tz_convert("Europe/Berlin")
    column = read(tmp_path, "date,load\n" + local_days(days)).frame["date"]
    assert column.tolist() == list(days.tz_convert("UTC"))


def test_a_channel_may_have_the_name_of_a_column_of_stamps(tmp_path):
    table = read(tmp_path, "date,time\n2024-01-01,1\n2024-01-02,2\n", target=["time"])
    assert table.columns.timestamp == "date"


def test_named_columns_must_be_there(tmp_path):
    with pytest.raises(InvalidFrameError, match=r"the column 'laod'.*Did you mean 'load'"):
        read(tmp_path, WIDE, target=["laod"])


# ---------------------------------------------------------------------------------- mistakes

GZ, XZ = gzip.compress(WIDE.encode() * 50, mtime=0), lzma.compress(WIDE.encode() * 50)
LATIN = "date,größe\n2024-01-01,1\n".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "a.csv", "is empty"),
        ("\n\n", "a.csv", "is empty"),
        ("date,load\n", "a.csv", "has 0 rows"),
        (b"\x89PNG\x00\x01", "a.csv", "bytes that are not text"),
        (WIDE.encode("utf-16"), "a.csv", "UTF-16"),
        (LATIN, "a.csv", "byte 0xf6 in line 1.*iconv"),
        (WIDE + "2024-01-03\n", "a.csv", r"Line 4 of 'a.csv' has 1 fields, the header 2"),
        (WIDE + "2024-01-03,1,2\n", "a.csv", "Line 4 .* has 3 fields"),
        (GZ[:-9], "a.csv.gz", "damaged or cut short"),
        (XZ[:-9], "a.csv.xz", "damaged or cut short"),
        (WIDE, "a.csv.gz", "does not begin like a compressed file"),
        (WIDE, "a.parquet", "damaged or in another format"),
        (WIDE, "a.xlsx", r"end in one of \.csv, .*'.*a\.xlsx'"),
        ("date,a,a\n2024-01-01,1,2\n", "a.csv", "repeats 'a'"),
        ("2024-01-01,1\n2024-01-02,2\n", "a.csv", "must name the columns"),
        ("date;a\n2024-01-01;1,5\n", "a.csv", "decimal point.*'1,5' in data row 1"),
        ("date,a\n2024-01-01,1\n2024-01-02,x\n", "a.csv", "'a' has 'x' in data row 2"),
        ("date,a\n2024-01-01,1\n,2\n", "a.csv", "has none in data row 2"),
        ("date,a\n2024-01-01,1\n2024-02-30,2\n", "a.csv", "'2024-02-30' in data row 2"),
        ("date,a\n2024-01-01,1\nnow,2\n", "a.csv", "'now' in data row 2"),
        ("date,a\n2024-01-01,1\n2024-01-01,2\n", "a.csv", "repeats .*--item-id"),
        ("date,time,a\n2024-01-01,1,2\n", "a.csv", "Name one with --timestamp"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(tmp_path, content, name, message):
    with pytest.raises((InvalidFrameError, InvalidParameterError), match=message):
        read(tmp_path, content, name)


def test_absent_files_and_folders(tmp_path):
    write(tmp_path, WIDE, "load.csv")
    with pytest.raises(InvalidFrameError, match=r"does not exist. Did you mean 'load.csv'"):
        read_table(tmp_path / "laod.csv", Columns())
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InvalidFrameError, match="is a folder"):
        read_table(tmp_path / "x.csv", Columns())


# ----------------------------------------------------------------------------------- outputs


def test_outputs_are_checked_before_the_work(tmp_path):
    source = write(tmp_path, WIDE)
    other = write(tmp_path, WIDE, "other.csv")
    check_output(tmp_path / "new.csv", force=False, source=source)
    check_output(other, force=True, source=source)
    for path, force, message in [
        (other, False, "--force"),
        (source, True, "never replaced"),
        (tmp_path, True, "is a folder"),
        (tmp_path / "no" / "x.csv", True, "output folder must exist"),
        (tmp_path / "x.txt", True, "end in one of"),
    ]:
        with pytest.raises(InvalidParameterError, match=message):
            check_output(path, force=force, source=source)
