from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import (
    WindowSplit,
    forecast_windows,
    make_windows,
    num_windows,
    sliding_windows,
)
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError


def make_panel(lengths, num_channels=1, gaps=()):
    """Items 0, 1, ... with values that are all different; `gaps` are unobserved rows."""
    values = np.arange(float(sum(lengths) * num_channels)).reshape(-1, num_channels)
    values[list(gaps)] = np.nan
    frame = pd.DataFrame(values, columns=[f"c{k}" for k in range(num_channels)])
    frame["item_id"] = np.repeat(np.arange(len(lengths)), lengths)
    frame["timestamp"] = np.concatenate([np.arange(n) + 10 * k for k, n in enumerate(lengths)])
    return read_frame(frame, freq=1, missing="mask", require_observed=False)


def naive_windows(panel, context_length, horizon, stride, first_context, start, stop):
    """Every window by a double loop: item, cutoff row, look-back, targets."""
    found = []
    for item in range(panel.num_items):
        rows = panel.item(item)
        cutoff = max(start[item], first_context) - 1
        while cutoff + horizon < min(stop[item], len(rows)):
            past = np.full((context_length, panel.num_channels), np.nan)
            for back in range(context_length):
                if cutoff - back >= 0:
                    past[context_length - 1 - back] = rows[cutoff - back]
            found.append((item, cutoff, past, rows[cutoff + 1 : cutoff + 1 + horizon]))
            cutoff += stride
    return found


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_windows_equal_a_double_loop(data):
    lengths = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    context_length = data.draw(st.integers(1, 8))
    horizon, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    allow_short, min_context = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    start = [data.draw(st.integers(0, n)) for n in lengths]
    stop = [data.draw(st.integers(0, n + 2)) for n in lengths]
    panel = make_panel(lengths, num_channels=2)
    windows = make_windows(
        panel,
        context_length,
        horizon,
        stride=stride,
        allow_short=allow_short,
        min_context=min_context,
        targets_from=start,
        targets_to=stop,
    )
    first_context = min(min_context, context_length) if allow_short else context_length
    expected = naive_windows(panel, context_length, horizon, stride, first_context, start, stop)
    assert len(windows) == len(expected)
    past, future = windows.past(), windows.future()
    assert past.shape == (len(expected), context_length, 2)
    assert future.shape == (len(expected), horizon, 2)
    assert not np.isnan(future).any()
    for k, (item, cutoff, look_back, targets) in enumerate(expected):
        assert (windows.item[k], windows.cutoff_row[k]) == (item, cutoff)
        np.testing.assert_array_equal(past[k], look_back)
        np.testing.assert_array_equal(future[k], targets)
    used = {item for item, *_ in expected}
    assert windows.skipped == tuple(k for k in range(len(lengths)) if k not in used)
    np.testing.assert_array_equal(windows.num_observed_past(), (~np.isnan(past)).sum(axis=1))


@settings(max_examples=100, deadline=None)
@given(
    length=st.integers(1, 30),
    context_length=st.integers(1, 10),
    horizon=st.integers(1, 10),
    stride=st.integers(1, 6),
)
def test_the_closed_formula_counts_windows(length, context_length, horizon, stride):
    count = len(range(0, length - context_length - horizon + 1, stride))
    assert num_windows(length, context_length, horizon, stride) == count
    windows = make_windows(make_panel([length]), context_length, horizon, stride=stride)
    assert len(windows) == count


def test_a_validation_range_is_covered_by_targets():
    panel = make_panel([20, 9])
    windows = make_windows(panel, 4, 3, targets_from=panel.lengths - 5)
    assert windows.item.tolist() == [0, 0, 0, 1, 1, 1]
    assert windows.cutoff_row.tolist() == [14, 15, 16, 3, 4, 5]
    training = make_windows(panel, 4, 3, targets_to=panel.lengths - 5)
    assert training.skipped == (1,)
    assert training.cutoff_row.max() + 3 == 14


def test_ids_and_stamps_of_windows():
    panel = make_panel([5, 4])
    windows = make_windows(panel, 2, 2)
    assert windows.item_id.tolist() == [0, 0, 1]
    assert windows.cutoff.tolist() == [1, 2, 11]
    assert windows.timestamps(2).tolist() == [12, 13]


def test_tuple_ids_stay_tuples():
    frame = pd.DataFrame({"timestamp": [1, 2, 3], "y": 0.0})
    frame["item_id"] = pd.Series([("a", 1)] * 3)
    assert make_windows(read_frame(frame), 1, 1).item_id.tolist() == [("a", 1)] * 2


def test_a_selection_is_windows_too():
    windows = make_windows(make_panel([9], gaps=[3]), 3, 2)
    complete = windows.select(windows.num_observed_past()[:, 0] == 3)
    assert complete.cutoff_row.tolist() == [2, 6]
    np.testing.assert_array_equal(complete.past(), windows.past([0, 4]))
    np.testing.assert_array_equal(windows.future(slice(0, 2)), windows.future([0, 1]))


def test_forecast_windows_end_with_the_items():
    stamps = pd.date_range("2024-01-31", periods=4, freq="ME")
    panel = read_frame(pd.DataFrame({"y": [1.0, 2, 3, 4]}, index=stamps))
    windows = forecast_windows(panel, context_length=6, horizon=2)
    assert windows.past()[0, :, 0].tolist()[2:] == [1, 2, 3, 4]
    assert np.isnan(windows.past()[0, :2]).all()
    assert np.isnan(windows.future()).all()
    assert windows.cutoff[0] == stamps[-1]
    expected = [pd.Timestamp("2024-05-31"), pd.Timestamp("2024-06-30")]
    assert windows.timestamps(0).tolist() == expected


def test_too_short_items_are_named():
    panel = make_panel([20, 25])
    windows = make_windows(panel, 30, 24, allow_short=True)
    assert windows.skipped == (0, 1)
    match = (
        r"Series 0 \(and 1 more\) has 20 observations, but horizon 24 needs at least 26 \(2 look"
    )
    with pytest.raises(InvalidFrameError, match=match):
        windows.raise_if_skipped()
    make_windows(panel, 2, 2).raise_if_skipped()
    assert forecast_windows(make_panel([1, 3]), 4, 2).skipped == (0,)


@pytest.mark.parametrize("name", ["context_length", "horizon", "stride"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_lengths_must_be_positive_ints(name, value):
    arguments = {"context_length": 2, "horizon": 2, "stride": 1} | {name: value}
    with pytest.raises(InvalidParameterError, match=f"{name!r} parameter must be an int"):
        make_windows(make_panel([9]), **arguments)
    with pytest.raises(InvalidParameterError, match=f"{name!r} parameter must be an int"):
        sliding_windows(range(9), **arguments)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(12,), (12, 1), (12, 3)]),
    context_length=st.integers(1, 6),
    horizon=st.integers(1, 6),
    stride=st.integers(1, 5),
)
def test_sliding_windows_equal_a_loop(shape, context_length, horizon, stride):
    series = np.arange(float(np.prod(shape))).reshape(shape)
    past, future = sliding_windows(series, context_length, horizon, stride)
    starts = range(0, 12 - context_length - horizon + 1, stride)
    np.testing.assert_array_equal(past, [series[s : s + context_length] for s in starts])
    ends = [s + context_length for s in starts]
    np.testing.assert_array_equal(future, [series[e : e + horizon] for e in ends])
    assert np.shares_memory(past, series)
    assert not past.flags.writeable
    assert not future.flags.writeable


def test_sliding_windows_need_a_long_enough_series():
    with pytest.raises(InvalidParameterError, match=r"horizon = 6 steps\. Got .*=\(5,\)"):
        sliding_windows(range(5), 4, 2)
    with pytest.raises(InvalidParameterError, match=r"series\.shape=\(2, 3, 4\)"):
        sliding_windows(np.zeros((2, 3, 4)), 1, 1)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_training_target_is_a_test_target(data):
    horizon, stride = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    n_splits, test_size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    max_train_size = data.draw(st.none() | st.integers(1, 5))
    gap = (horizon - 1) // stride
    count = n_splits * test_size + gap + data.draw(st.integers(1, 10))
    splitter = WindowSplit(
        n_splits=n_splits,
        horizon=horizon,
        stride=stride,
        test_size=test_size,
        max_train_size=max_train_size,
    )
    windows = np.arange(count)
    targets = [set(range(k * stride, k * stride + horizon)) for k in windows]
    tested = []
    for train, test in splitter.split(windows):
        assert len(train) >= 1
        trained = set().union(*(targets[k] for k in train))
        assert trained.isdisjoint(set().union(*(targets[k] for k in test)))
        if train[-1] + 1 < test[0]:  # one window more would overlap
            assert not targets[train[-1] + 1].isdisjoint(targets[test[0]])
        assert max_train_size is None or len(train) <= max_train_size
        tested += test.tolist()
    assert tested == list(range(count - n_splits * test_size, count))
    assert splitter.get_n_splits(windows) == n_splits


def test_window_split_works_inside_scikit_learn():
    X, y = sliding_windows(np.arange(60.0), 5, 3)
    scores = cross_val_score(LinearRegression(), X, y, cv=WindowSplit(n_splits=3, horizon=3))
    assert scores.round(6).tolist() == [1, 1, 1]


def test_window_split_needs_enough_windows():
    match = r"needs at least 12 windows: 5 test sets of 1, a gap of 6 and one to train on\. Got 10"
    with pytest.raises(InvalidParameterError, match=match):
        next(WindowSplit(horizon=7).split(np.zeros(10)))
    with pytest.raises(InvalidParameterError, match="'n_splits' parameter must be an int"):
        next(WindowSplit(n_splits=0, horizon=7).split(np.zeros(10)))


def test_panels_and_windows_are_shown_in_one_line():
    panel = read_frame(pd.DataFrame({"x": range(10), "y": range(10)}))
    assert repr(panel) == "Panel(1 items, 2 channels, 10 rows, step 1)"
    shown = "Windows(5 of 1 items, context_length=4, horizon=2, stride=1)"
    assert repr(make_windows(panel, 4, 2)) == shown
