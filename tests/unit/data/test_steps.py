"""Steps of stamps: one form for each, the longest one that fits, and stamps that go on."""

from __future__ import annotations

import datetime

import dateutil.tz
import numpy as np
import pandas as pd
import pytest
from pandas.tseries.frequencies import to_offset

from adaptivepatch.data.frame import read_frame, read_frame_like_fitted
from adaptivepatch.data.panel import future_index
from adaptivepatch.data.steps import normalised, parse_step, step_name
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]
ZONES = [
    *(None, None, None, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"),
    datetime.timezone(datetime.timedelta(hours=5, minutes=30)),
    dateutil.tz.gettz("Europe/Paris"),
]
HORIZON = 6


def frame_of(stamps, **columns):
    return pd.DataFrame({"v": np.arange(len(stamps), dtype=float)}, index=stamps._with_freq(None))


def draw_offset(rng):
    """One of all kinds of pandas offsets, with anchors and multiples."""
    few = int(rng.integers(1, 4))
    kinds = [
        f"{int(rng.integers(1, 7))}{rng.choice(['s', 'min', 'h'])}",
        f"{int(rng.integers(1, 7))}D",
        f"{few}W-{rng.choice(DAYS)}",
        f"{int(rng.integers(1, 7))}{rng.choice(['MS', 'ME', 'BMS', 'BME'])}",
        f"{few}{rng.choice(['QS', 'QE', 'BQS', 'BQE'])}-{rng.choice(MONTHS)}",
        f"{few}{rng.choice(['YS', 'YE', 'BYS', 'BYE'])}-{rng.choice(MONTHS)}",
        str(rng.choice(["SMS", "SME"])),
        "B",
        pd.DateOffset(months=few),
    ]
    return kinds[rng.integers(len(kinds))]


def draw_stamps(rng, offset):
    start = pd.Timestamp(int(rng.integers(1950, 2020)), int(rng.integers(1, 13)), 1)
    start += pd.Timedelta(days=int(rng.integers(0, 27)))
    if rng.random() < 0.3:
        start += pd.Timedelta(hours=int(rng.integers(0, 24)), minutes=int(rng.choice([0, 30])))
    stamps = pd.date_range(start, periods=int(rng.integers(20, 70)) + HORIZON, freq=offset)
    zone = ZONES[rng.integers(len(ZONES))]
    if zone is not None and isinstance(offset, str) and offset.endswith(("h", "min", "s")):
        stamps = stamps.tz_localize("UTC").tz_convert(zone)
    elif zone is not None:
        first = np.ones(len(stamps), dtype=bool)
        stamps = stamps.tz_localize(zone, nonexistent="shift_forward", ambiguous=first)
    return stamps.as_unit(str(rng.choice(["s", "ms", "us", "ns"])))


def check_stamps_go_on(seeds):
    """Frames with gaps are continued as `date_range` continues them; return the refusals."""
    refused = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        offset = draw_offset(rng)
        stamps = draw_stamps(rng, offset)
        kept = np.ones(len(stamps) - HORIZON, dtype=bool)
        kept[1:-1] = rng.random(len(kept) - 2) > rng.choice([0, 0.02, 0.1, 0.3])
        freq = offset if rng.random() < 0.3 else None
        try:
            panel = read_frame(frame_of(stamps[:-HORIZON][kept]), missing="mask", freq=freq)
        except InvalidFrameError as error:
            refused.append((seed, offset, str(error)))
            continue
        future = future_index(panel.index[0], panel.freq, HORIZON)
        assert (future.asi8 == stamps[-HORIZON:].asi8).all(), (seed, offset, panel.freq, future)
        assert future.unit == stamps.unit
    return refused


def test_frames_with_gaps_are_continued():
    assert len(check_stamps_go_on(range(300))) <= 3


@pytest.mark.slow
def test_5000_frames_with_gaps_are_continued():
    assert len(check_stamps_go_on(range(10_000, 15_000))) <= 50


# ----------------------------------------------------------------------------- one form of a step


@pytest.mark.parametrize(
    "same",
    [
        ["W-WED", "7D", pd.Timedelta(days=7), datetime.timedelta(days=7), np.timedelta64(7, "D")],
        ["QS-FEB", "3MS", "QS"],
        ["YE-MAR", "12ME", "4QE"],
        ["h", pd.Timedelta(hours=1), np.timedelta64(1, "h"), np.timedelta64(3600 * 10**9, "ns")],
        [pd.DateOffset(months=2), pd.DateOffset(months=2)],
        ["2D", pd.DateOffset(days=2)],
    ],
    ids=lambda steps: str(steps[0]),
)
def test_a_step_has_one_form(same):
    empty = pd.DatetimeIndex([])  # no stamp, no anchor to check
    steps = {parse_step(freq, empty) for freq in same}
    assert len(steps) == 1
    (step,) = steps
    assert parse_step(step_name(step), empty) == step  # as models keep it


@pytest.mark.parametrize("freq", ["B", "SMS", "bh", "3BME", "90min", "WOM-2TUE"])
def test_other_steps_stay(freq):
    assert normalised(to_offset(freq)) == to_offset(freq)


@pytest.mark.parametrize(
    ("stamps", "freq", "own"),
    [
        ("W-WED", "W", "W-WED"),
        ("ME", "MS", "ME"),
        ("QS-FEB", "QS", "QS-NOV"),
        ("YS-APR", "YS", "YS-APR"),
    ],
)
def test_an_anchor_that_does_not_fit_is_refused_with_the_one_that_does(stamps, freq, own):
    frame = frame_of(pd.date_range("2019-01-01", periods=20, freq=stamps))
    with pytest.raises(InvalidParameterError, match=f"Pass freq='{own}'") as caught:
        read_frame(frame, freq=freq)
    assert caught.value.parameter == "freq"


@pytest.mark.parametrize(
    "freq", [pd.DateOffset(months=1, days=2), pd.DateOffset(hour=3), 0, "often"]
)
def test_what_is_no_step_is_refused(freq):
    with pytest.raises(InvalidParameterError, match="'freq'"):
        read_frame(frame_of(pd.date_range("2024", periods=9)), freq=freq)


# ------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize("day", [2, 15, 28])
@pytest.mark.parametrize("months", [1, 3])
def test_the_same_day_of_every_month_is_a_step(day, months):
    first = pd.Timestamp(2010, 1, day)
    stamps = pd.DatetimeIndex([first + pd.DateOffset(months=months * k) for k in range(46)])
    panel = read_frame(frame_of(stamps[:40].delete(7)), missing="mask")
    assert panel.lengths.tolist() == [40]
    assert future_index(panel.index[0], panel.freq, 6).equals(stamps[40:])


def test_a_grid_that_would_be_mostly_empty_is_refused():
    stamps = pd.date_range("2024-01-01", periods=40)[[0, 1, 2, 9, 20, 33, 39]]
    with pytest.raises(InvalidFrameError, match=r"has 40 stamps, and only 7 of them have"):
        read_frame(frame_of(stamps), missing="mask")
    panel = read_frame(frame_of(stamps), missing="mask", freq="D")
    assert panel.lengths.tolist() == [40]
    numbers = pd.DataFrame({"timestamp": [0, 1, 2, 9, 20, 33, 39], "v": 1.0})
    with pytest.raises(InvalidFrameError, match="The most common distance in series"):
        read_frame(numbers, missing="mask")


def test_two_steps_that_fit_equally_are_both_named():
    # First days that are business days; the absent month begins on a Sunday.
    stamps = pd.DatetimeIndex(["2024-07-01", "2024-08-01", "2024-10-01", "2024-11-01"])
    with pytest.raises(InvalidFrameError, match="'MS' and 'BMS' fit the stamps"):
        read_frame(frame_of(stamps), missing="mask")
    assert read_frame(frame_of(stamps), missing="mask", freq="BMS").lengths.tolist() == [5]


def test_weeks_of_different_days_share_a_step():
    parts = [
        frame_of(pd.date_range(start, periods=12, freq=freq)).rename_axis("timestamp").reset_index()
        for start, freq in (("2024-01-01", "W-WED"), ("2024-01-01", "W-FRI"))
    ]
    frame = pd.concat([part.assign(item_id=k) for k, part in enumerate(parts)])
    assert step_name(read_frame(frame).freq) == "7D"


def test_an_hourly_model_refuses_daily_stamps_and_takes_gaps():
    columns = {"item_id": "item_id", "timestamp": "timestamp", "target": None}
    hour = to_offset("h")

    def read(stamps):
        return read_frame_like_fitted(frame_of(stamps), columns, ("v",), hour, missing="mask")

    with pytest.raises(InvalidFrameError, match="have the step 'D'"):
        read(pd.date_range("2024-01-01", periods=30))
    hours = pd.date_range("2024-01-01", periods=100, freq="h")
    assert read(hours[np.r_[0:3, 90:100]]).lengths.tolist() == [100]


def test_years_beyond_nanoseconds_go_on_in_seconds():
    stamps = pd.date_range("2250-01-01", periods=240, freq="MS", unit="s")
    panel = read_frame(frame_of(stamps[:200]))
    assert future_index(panel.index[0], panel.freq, 40).equals(stamps[200:])
    old = pd.date_range("1500-01-01", periods=50, freq="YS", unit="s")
    panel = read_frame(frame_of(old[:40]))
    assert future_index(panel.index[0], panel.freq, 10).equals(old[40:])
