from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.naive import last_value, seasonal_naive
from adaptivepatch.data.windows import make_windows
from adaptivepatch.errors import InvalidParameterError


def some_windows(missing_share, context_length=11, horizon=7, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(30, 2))
    values[generator.random(values.shape) < missing_share] = np.nan
    panel = read_frame(pd.DataFrame(values, columns=["a", "b"]), missing="mask")
    return make_windows(panel, context_length, horizon)


def by_loop(windows, season):
    """The definition, one target at a time; `season=None` is the last value."""
    past = windows.past()
    result = np.full((len(windows), windows.horizon, past.shape[2]), np.nan)
    for w, h, c in np.ndindex(*result.shape):
        row = past[w, :, c]
        observed = row[~np.isnan(row)]
        if observed.size:
            result[w, h, c] = observed[-1]
        if season is not None:
            step = len(row) + h
            while step >= len(row) or (step >= 0 and np.isnan(row[step])):
                step -= season
            if step >= 0:
                result[w, h, c] = row[step]
    return result


@pytest.mark.parametrize("missing_share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("season", [1, 3, 4, 10, 11])
def test_seasonal_naive_is_its_definition(season, missing_share):
    windows = some_windows(missing_share)

    forecast = seasonal_naive(windows, season)

    np.testing.assert_array_equal(forecast, by_loop(windows, season))


@pytest.mark.parametrize("missing_share", [0.0, 0.3, 0.9])
def test_last_value_is_its_definition(missing_share):
    windows = some_windows(missing_share)

    np.testing.assert_array_equal(last_value(windows), by_loop(windows, None))


def test_unobserved_lookbacks_have_no_forecast():
    windows = some_windows(missing_share=0.95, context_length=4)
    unobserved = windows.num_observed_past() == 0
    assert unobserved.any()

    for forecast in (last_value(windows), seasonal_naive(windows, 2)):
        np.testing.assert_array_equal(np.isnan(forecast).all(axis=1), unobserved)


@pytest.mark.parametrize("season", [0, 12, 2.0])
def test_a_season_must_fit_into_the_lookback(season):
    with pytest.raises(InvalidParameterError, match="season must be an int from 1 to .* 11"):
        seasonal_naive(some_windows(0.0), season)
