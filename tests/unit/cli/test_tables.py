"""Files are read without guessing: every value is read, or an error names the wrong one."""

from __future__ import annotations

import gzip
import lzma

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
    write_table(frame, path)
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
