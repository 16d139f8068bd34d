from __future__ import annotations

import hashlib
import lzma
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.datasets.catalog import DATASETS, SplitBorders, split_borders
from adaptivepatch.datasets.loading import load_dataset, load_stamps
from adaptivepatch.errors import DatasetError

CONTENT = b"date,x,y\r\n2024-01-01 00:00,1,0.1\r\n2024-01-01 00:00,2,0.2\r\n"


@pytest.fixture
def tiny(monkeypatch):
    """A data set of two rows and two channels, under the name 'tiny'."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    info = replace(DATASETS["ili"], name="tiny", rows=2, channels=2, sha256=digest)
    monkeypatch.setitem(DATASETS, "tiny", info)
    return info


def test_the_table_is_complete():
    assert len(DATASETS) == 13
    for name, info in DATASETS.items():
        assert name == info.name
        assert info.license
        assert info.sha256 is None or len(info.sha256) == 64
    assert [info.name for info in DATASETS.values() if not info.is_verified] == ["solar"]


def test_csv_and_xz_are_found_in_the_folder_and_its_subfolders(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path))
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "tiny.csv.xz"
    path.write_bytes(lzma.compress(CONTENT))
    frame = load_dataset("tiny")
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame.dtypes.tolist() == [np.float64, np.float64]
    assert frame.to_numpy().tolist() == [[1, 0.1], [2, 0.2]]
    assert load_stamps("tiny").tolist() == [pd.Timestamp("2024-01-01")] * 2
    path.unlink()
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    pd.testing.assert_frame_equal(load_dataset("tiny"), frame)
    pd.testing.assert_frame_equal(load_dataset("tiny", folder=tmp_path), frame)


def test_frames_of_two_calls_are_independent(tiny, tmp_path):
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    frame = load_dataset("tiny", tmp_path)
    frame.loc[:, :] = -1
    assert load_dataset("tiny", tmp_path).iloc[0, 0] == 1


def test_another_file_is_refused_with_both_digests(tiny, tmp_path):
    other = CONTENT.replace(b"0.2", b"0.3")
    (tmp_path / "tiny.csv").write_bytes(other)
    with pytest.raises(DatasetError) as error:
        load_dataset("tiny", tmp_path)
    assert tiny.sha256 in str(error.value)
    assert hashlib.sha256(other).hexdigest() in str(error.value)
    (tmp_path / "tiny.csv").unlink()
    (tmp_path / "tiny.csv.xz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match="cannot be unpacked as an xz file"):
        load_dataset("tiny", tmp_path)


def test_an_unverified_file_must_have_the_right_size(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny, sha256=None, rows=3))
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    match = r"must have 3 rows and 2 channels .* but .* has \(2, 2\)"
    with (
        pytest.warns(UserWarning, match="No trusted digest"),
        pytest.raises(DatasetError, match=match),
    ):
        load_dataset("tiny", tmp_path)


def test_absent_data_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAPTIVEPATCH_DATA", raising=False)
    match = r"is not set\. Run `adaptivepatch datasets fetch ETTh1`, or put the original 'ETTh1\.c"
    with pytest.raises(DatasetError, match=match):
        load_dataset("ETTh1")
    with pytest.raises(
        DatasetError, match=r"no download address: put the original 'weather\.csv'.*34e"
    ):
        load_dataset("weather")
    with pytest.raises(DatasetError, match=r"neither 'ETTh1\.csv' .* or its direct subfolders\. R"):
        load_dataset("ETTh1", tmp_path)
    with pytest.raises(DatasetError, match="The 'folder' argument must name a folder"):
        load_dataset("ETTh1", tmp_path / "absent")
    with pytest.raises(DatasetError, match=r"Unknown data set 'wether'.* Did you mean 'weather'\?"):
        load_dataset("wether", tmp_path)
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path / "absent"))
    with pytest.raises(DatasetError, match="ADAPTIVEPATCH_DATA must name a folder"):
        load_dataset("ETTh1")


def test_the_digest_of_solar_is_unknown(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny, sha256=None))
    (tmp_path / "tiny.csv").write_bytes(CONTENT)
    with pytest.warns(UserWarning, match="digest of data set 'tiny' is known. Only the size"):
        load_dataset("tiny", tmp_path)
    assert not DATASETS["solar"].is_verified


@pytest.mark.parametrize(
    ("name", "borders"),
    [
        ("ETTh2", (8640, 11520, 14400)),
        ("ETTm1", (34560, 46080, 57600)),
        ("weather", (36887, 42157, 52696)),
        ("exchange", (5311, 6071, 7588)),
        ("ili", (676, 773, 966)),
    ],
)
def test_borders_are_those_of_the_protocol(name, borders):
    assert split_borders(name) == SplitBorders(*borders)


def test_borders_need_enough_rows():
    assert split_borders("weather", 100) == (70, 80, 100)
    with pytest.raises(DatasetError, match=r"borders of 'ETTh1' need 14400 rows, but .* 100"):
        split_borders("ETTh1", 100)


@pytest.mark.parametrize("name", ["ETTh1", "weather", "electricity_6of321", "traffic_6of862"])
def test_public_files_are_the_originals(name, ltsf_data):
    frame, stamps = load_dataset(name, ltsf_data), load_stamps(name, ltsf_data)
    info = DATASETS[name]
    assert frame.shape == (info.rows, info.channels)
    assert frame.columns.is_unique
    assert frame.notna().all(axis=None)
    assert len(stamps) == info.rows
    assert stamps.is_monotonic_increasing
    assert stamps.is_unique == (name != "weather")


def test_weather_gets_its_lost_characters_back(ltsf_data):
    columns = load_dataset("weather", ltsf_data).columns
    assert columns[16:19].tolist() == ["SWDR (W/m²)", "PAR (µmol/m²/s)", "max. PAR (µmol/m²/s)"]


def test_hourly_sets_are_every_fourth_row_of_the_minute_sets(ltsf_data):
    hour, minute = load_dataset("ETTh1", ltsf_data), load_dataset("ETTm1", ltsf_data)
    np.testing.assert_allclose(hour, minute[::4], rtol=1e-15)  # the files print 17 digits
