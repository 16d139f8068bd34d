from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.naive import last_value, naive_forecasts, seasonal_naive
from adaptivepatch.data.windows import make_windows
from adaptivepatch.errors import InvalidParameterError


def some_windows(missing_share=0.0, context_length=4, horizon=7, lengths=(30, 12), stride=1):
    """Windows of two items, of different lengths and with gaps."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(sum(lengths), 2))
    values[generator.random(values.shape) < missing_share] = np.nan
    frame = pd.DataFrame(values, columns=["a", "b"])
    frame["item_id"] = np.repeat(range(len(lengths)), lengths)
    frame["timestamp"] = np.concatenate(
        [pd.date_range("2024-01-01", periods=n, freq="h") for n in lengths]
    )
    return make_windows(read_frame(frame, missing="mask"), context_length, horizon, stride=stride)


def by_shift(windows, season):
    """The definition with pandas: rows after the cutoff are deleted before they are shifted."""
    panel = windows.panel
    result = np.full((len(windows), windows.horizon, panel.num_channels), np.nan)
    for w in range(len(windows)):
        known = pd.DataFrame(panel.item(windows.item[w])).loc[: windows.cutoff_row[w]]
        whole = known.reindex(range(len(known) + windows.horizon))
        forecast = whole.copy()
        for cycle in range(1, len(whole) // season + 1):  # the latest cycle first
            forecast = forecast.fillna(whole.shift(cycle * season))
        result[w] = forecast.iloc[-windows.horizon :]
    return result


@pytest.mark.parametrize("missing_share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("season", [1, 3, 7, 10, 25, 100])
def test_seasonal_naive_equals_shifts_of_the_rows_up_to_the_cutoff(season, missing_share):
    windows = some_windows(missing_share)

    np.testing.assert_array_equal(seasonal_naive(windows, season), by_shift(windows, season))


def test_last_value_is_season_1():
    windows = some_windows(0.5)

    np.testing.assert_array_equal(last_value(windows), by_shift(windows, 1))


@pytest.mark.parametrize("season", [1, 5])
def test_rows_after_the_cutoff_and_other_items_do_not_matter(season):
    windows = some_windows(0.3)
    forecast = seasonal_naive(windows, season)

    for w in (0, 9, len(windows) - 1):
        panel = windows.panel
        start = panel.row_offsets[windows.item[w]]
        known = slice(start, start + windows.cutoff_row[w] + 1)
        other = np.full_like(panel.values, 1e9)
        other[known] = panel.values[known]
        changed = make_windows(
            read_frame(panel.to_frame().assign(a=other[:, 0], b=other[:, 1]), missing="mask"), 4, 7
        )
        np.testing.assert_array_equal(seasonal_naive(changed, season)[w], forecast[w])


def test_a_season_longer_than_the_history_has_no_forecast():
    windows = some_windows(lengths=(30, 12), context_length=4, horizon=2)
    forecast = seasonal_naive(windows, 10)

    exists = ~np.isnan(forecast).any(axis=2)
    first_source = windows.cutoff_row[:, None] + [1, 2] - 10
    np.testing.assert_array_equal(exists, first_source >= 0)
    assert 0 < exists.mean() < 1
    assert [name for name, _ in naive_forecasts(windows, (1, 10, 24, 30))] == [
        "last value", "10 steps before", "day before",
    ]  # fmt: skip


@pytest.mark.parametrize("season", [0, -1, 2.0, True])
def test_a_season_must_be_a_positive_int(season):
    with pytest.raises(InvalidParameterError, match="'season' parameter must be an int"):
        seasonal_naive(some_windows(), season)
