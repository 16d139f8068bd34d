from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.seasons import calendar_seasons, find_seasons, naive_seasons, season_name
from adaptivepatch.data.steps import parse_step


def panel_of(values, index=None):
    frame = pd.DataFrame(values, index=index)
    return read_frame(frame.rename(columns=str), missing="mask")


def cycles(rows, *periods, noise=1.0, channels=1):
    """Sums of sine waves of the given periods, and white noise."""
    time = np.arange(rows)[:, None]
    waves = sum(2 * np.sin(2 * np.pi * (time / period + 0.3)) for period in periods)
    return waves + noise * np.random.default_rng(0).normal(size=(rows, channels))


def day_and_week(rows):
    """A day of 24 steps that is weaker on two days of seven."""
    time = np.arange(rows)
    day = np.where(time // 24 % 7 < 5, 3.0, 1.0) * np.sin(2 * np.pi * time / 24)
    return day + 0.3 * np.random.default_rng(0).normal(size=rows)


@pytest.mark.parametrize(
    ("freq", "seasons"),
    [
        ("5min", {288: "day", 2016: "week", 105120: "year"}),
        ("7min", {1440: "week", 74880: "year"}),  # no whole number of steps is a day, or 365 days
        ("6h", {4: "day", 28: "week", 1460: "year"}),
        ("D", {7: "week", 365: "year"}),
        ("2D", {182: "year"}),  # 52 weeks
        ("2W", {26: "year"}),
        ("ME", {12: "year"}),
        ("QE", {4: "year"}),
        ("YS", {}),
        ("bh", {}),
    ],
)
def test_calendar_seasons_are_whole_numbers_of_steps(freq, seasons):
    step = parse_step(freq, pd.date_range("2024-01-01", periods=2, freq=freq))

    assert calendar_seasons(step) == seasons


def test_names_of_naive_forecasts():
    names = [season_name(season, pd.offsets.Hour()) for season in (1, 24, 168, 8760, 12)]

    assert names == ["last value", "day before", "week before", "year before", "12 steps before"]
    assert season_name(24, 1) == "24 steps before"


def test_the_seasons_of_a_frame_contain_that_of_mase():
    hours = pd.date_range("2024-01-01", periods=300, freq="h")

    assert naive_seasons(panel_of(cycles(300, 12), hours), 24) == (1, 24, 168, 8760)
    assert naive_seasons(panel_of(cycles(300, 12), hours), 5) == (1, 5, 24, 168, 8760)
    assert naive_seasons(panel_of(cycles(300, 12)), 5) == (1, 5, 12)
    assert naive_seasons(panel_of(cycles(300)), 1) == (1,)


def test_a_week_is_found_beside_a_day_but_not_two_days():
    assert find_seasons(panel_of(day_and_week(4000))) == (24, 168)
    assert find_seasons(panel_of(cycles(4000, 24))) == (24,)
    assert find_seasons(panel_of(cycles(4000, 24, noise=0.0))) == (24,)


def test_a_season_is_found_in_spite_of_a_trend_gaps_and_scales():
    values = cycles(600, 12, channels=3) * [1, 1e6, 1e-6] + np.arange(600)[:, None] * [1, 0, -1e-6]
    values[np.random.default_rng(0).random(values.shape) < 0.3] = np.nan

    assert find_seasons(panel_of(values)) == (12,)


def test_short_items_share_their_evidence():
    frame = pd.DataFrame({"x": cycles(40 * 30, 8, noise=2.0)[:, 0]})
    frame["item_id"], frame["timestamp"] = np.repeat(range(30), 40), np.tile(range(40), 30)

    assert find_seasons(read_frame(frame)) == (8,)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(5000, 1)),
        np.zeros((100, 1)),
        1e6 + np.arange(500.0)[:, None],
        cycles(30, 12),  # fewer than three cycles
        cycles(3, 2),
    ],
    ids=["noise", "constant", "line", "short", "three rows"],
)
def test_nothing_is_found_where_nothing_repeats_itself(values):
    assert find_seasons(panel_of(values)) == ()
