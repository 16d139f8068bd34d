"""Corpora are found, verified and read; what is not one is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from adaptivepatch.datasets import corpora
from adaptivepatch.datasets.catalog import CORPORA, corpus_info
from adaptivepatch.datasets.corpora import PERMITTED, load_corpora, load_corpus
from adaptivepatch.errors import DatasetError
from tests.corpora import write_corpus

pytest.importorskip("pyarrow")


def test_decimals_and_gaps_are_read_exactly(tmp_path):
    values = [0.1, 0.7, np.nan, -3.25, 1234.56]
    path = write_corpus(tmp_path / "mine.parquet", {"a": values}, places=2)
    corpus = load_corpus(path)
    np.testing.assert_array_equal(corpus.values[0], values)
    assert corpus.series_id == ("a",)
    assert [name for name, _ in corpus.named()] == ["mine/a"]


def test_reals_are_read_as_they_are(tmp_path):
    values = [1 / 3, np.nan, 1e-300, -2e300]
    path = write_corpus(tmp_path / "mine.parquet", {"a": values, "b": [1.0]})
    corpus = load_corpus(str(path))
    np.testing.assert_array_equal(corpus.values[0], values)
    assert len(corpus) == 2


def test_a_file_of_ones_own_has_no_license(tmp_path):
    path = write_corpus(tmp_path / "pjm_hourly.parquet", {"a": [1.0, 2.0]})
    info = load_corpus(path).info
    assert (info.name, info.license, info.is_permitted) == ("pjm_hourly", "not stated", False)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(tmp_path) not in repr(info)


def test_a_known_corpus_is_found_in_a_subfolder_and_verified(tmp_path, monkeypatch):
    inner = tmp_path / "pretrain"
    inner.mkdir()
    path = write_corpus(inner / "classics.parquet", {"a": [1.0, 2.0]})
    monkeypatch.setenv("ADAPTIVEPATCH_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="is not the original of 'classics'.*its path"):
        load_corpus("classics")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(corpora.CORPORA, "classics", replace(CORPORA["classics"], sha256=digest))
    assert load_corpus("classics").info.license == "Apache-2.0 / BSD-3"
    assert load_corpus(path).info.license == "Apache-2.0 / BSD-3"  # known by its content


def test_what_cannot_be_found_is_said(tmp_path, monkeypatch):
    monkeypatch.delenv("ADAPTIVEPATCH_DATA", raising=False)
    with pytest.raises(DatasetError, match=r"Unknown corpus 'clasics'.*Did you mean 'classics'"):
        load_corpus("clasics")
    with pytest.raises(DatasetError, match="'ADAPTIVEPATCH_DATA' is not set"):
        load_corpus("classics")
    with pytest.raises(DatasetError, match="is not in .* or its direct subfolders"):
        load_corpus("classics", tmp_path)
    with pytest.raises(DatasetError, match="searched for in a folder"):
        load_corpus("classics", tmp_path / "absent")
    with pytest.raises(DatasetError, match="The corpus file .* cannot be read"):
        load_corpus(tmp_path / "absent.parquet")


def test_other_files_are_refused(tmp_path):
    pandas = pytest.importorskip("pandas")
    text, table = tmp_path / "text.parquet", tmp_path / "table.parquet"
    text.write_text("a,b\n1,2\n")
    pandas.DataFrame({"series_id": ["a"], "value": [1.0]}).to_parquet(table)
    with pytest.raises(DatasetError, match="columns series_id, k, q and v"):
        load_corpus(text)
    with pytest.raises(DatasetError, match=r"lacks the columns \['k', 'q', 'v'\]"):
        load_corpus(table)
    with pytest.raises(DatasetError, match="holds no series"):
        load_corpus(write_corpus(tmp_path / "none.parquet", {}))


def test_a_corpus_is_named_once(tmp_path):
    path = write_corpus(tmp_path / "mine.parquet", {"a": [1.0, 2.0]})
    assert len(load_corpora([path])) == 1
    with pytest.raises(DatasetError, match="may be named only once"):
        load_corpora([path, str(path)])


def test_only_open_licenses_are_permitted():
    assert set(PERMITTED) == {
        "pjm_hourly",
        "household_power_1min",
        "beijing_multisite_air",
        "melbourne_ped",
        "epf_fr_be",
        "gas_turbine_emission",
        "bike_sharing_hour",
        "bdg2_sample",
        "misc_daily",
        "air_quality_uci",
        "beijing_pm25",
        "fpp3_monthly",
        "fpp3_bank_calls",
        "classics",
    }
    assert not corpus_info("auckland_ped").is_permitted  # CC BY 4.0, but the demo's
    assert not corpus_info("gefcom2012").is_permitted
    assert len(CORPORA) == 28


@pytest.mark.parametrize("name", ["classics", "beijing_pm25", "fpp3_monthly"])
def test_known_corpora_have_the_size_the_table_says(ltsf_data, name):
    try:
        corpus = load_corpus(name)
    except DatasetError as error:
        pytest.skip(str(error))
    info = corpus.info
    assert len(corpus) == info.num_series
    assert sum(map(len, corpus.values)) == info.num_points
    assert all(values.dtype == np.float64 and values.ndim == 1 for values in corpus.values)
