"""Frames that nobody thought of: each is forecast, or refused by an error of our own.

`messy_frames` makes them; most defects are drawn rarely, so that many frames are good.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.errors import AdaptivePatchError
from tests.bad_inputs.helpers import assert_one_line, assert_ours

STEPS = ["h", "D", "15min", "s", "W-SUN", "MS", "ME", "B", "QS", "YE", "7h", "2D", "W-WED"]
ZONES = [None, None, None, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]
STARTS = ["2024-01-01", "2024-03-30", "2024-10-26 20:00", "1999-12-31", "1970-01-01", "2024-02-29"]
UNITS = ["ns", "us", "ms", "s"]
ITEMS = [
    ["a", "b", "c"], ["007", "7", "x y"], [1, 2, 3], [0.5, 1.5, -2.0], [True, False, True],
    ["", "é", "🙂"], [("a", 1), ("b", 2), ("c", 3)], ["b", 1, 2.5],
    list(pd.date_range("2024-01-01", periods=3)),
]  # fmt: skip
TYPES = ["float64"] * 6 + [
    "float32",
    "int64",
    "int8",
    "uint16",
    "Int64",
    "Float64",
    "Sparse[float]",
]
BAD_TYPES = ["object", "str", "complex128", "bool", "category"]
NAMES = st.sampled_from(["timestamp", None, "date"])
SCALES = [1.0] * 8 + [1e-300, 1e-150, 1e-20, 1e-6, 1e6, 1e20, 1e100, 1e150, 1e300]


def rarely(draw, one_in):
    """True once in so many draws."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


@st.composite
def indexes(draw, length):
    """Stamps of one item."""
    if draw(st.integers(0, 4)) == 0:
        step = draw(st.sampled_from([1, 1, 5, 24, 10**9]))
        return pd.Index(draw(st.integers(-(10**6), 10**6)) + step * np.arange(length))
    start, zone = draw(st.sampled_from(STARTS)), draw(st.sampled_from(ZONES))
    unit = draw(st.sampled_from(UNITS))
    stamps = pd.date_range(start, periods=length, freq=draw(st.sampled_from(STEPS)), unit=unit)
    if zone is not None:
        stamps = stamps.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return stamps.to_period("h") if zone is None and rarely(draw, 15) else stamps


@st.composite
def values(draw, length):
    """One channel of one item, a numpy array of floats."""
    kind = draw(st.sampled_from(["noise", "noise", "wave", "walk", "constant", "spike", "counts"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    series = {
        "noise": lambda: rng.normal(size=length),
        "wave": lambda: np.sin(np.arange(length) / 3),
        "walk": lambda: rng.normal(size=length).cumsum(),
        "constant": lambda: np.full(length, rng.normal()),
        "spike": lambda: np.where(np.arange(length) == length // 2, 1e3, 0.0),
        "counts": lambda: rng.poisson(2.0, length).astype(float),
    }[kind]()
    level = draw(st.sampled_from([0.0, 0.0, 0.0, 1.0, 1e9, -1e15]))
    return series * draw(st.sampled_from(SCALES)) + level


@st.composite
def messy_frames(draw):
    """A frame, wide or long, and whether it is long."""
    is_long = draw(st.booleans())
    names = draw(st.sampled_from([["a"], ["a", "b"], ["x", "load", "prediction"]]))
    ids = draw(st.sampled_from(ITEMS))[: draw(st.integers(1, 3))] if is_long else ["only"]
    length = st.integers(8, 40) if not rarely(draw, 4) else st.integers(1, 12)
    shared, parts = None, []
    for item in ids:
        rows = draw(length)
        same = shared is not None and not rarely(draw, 8)
        stamps = shared[:rows] if same else draw(indexes(rows))
        shared = stamps if shared is None else shared
        columns = {name: draw(values(len(stamps))) for name in names}
        part = pd.DataFrame(columns)
        part.insert(0, "timestamp", stamps)
        if is_long:
            part.insert(0, "item_id", pd.Series([item] * len(part), dtype=object))
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)[:60]
    for name in names:
        kind = (
            draw(st.sampled_from(TYPES))
            if not rarely(draw, 25)
            else draw(st.sampled_from(BAD_TYPES))
        )
        frame[name] = as_type(frame[name], kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about what is done to the frame here
        frame = with_defects(draw, frame, names)
    if not is_long and frame.columns.is_unique and draw(st.booleans()):
        stamps = frame.pop("timestamp")
        frame.index = pd.Index(stamps, dtype=stamps.dtype, name=draw(NAMES))
    return frame


def as_type(column, kind):
    """A channel of another type, where numpy can say it."""
    if kind in ("int64", "int8", "uint16", "Int64"):
        return (column.rank() % 100).astype("float64").round().astype(kind)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return column.astype(kind)


def with_defects(draw, frame, names):
    """Spoil a frame, rarely in each way."""
    rows = len(frame)
    somewhere = st.integers(0, rows - 1)
    floats = [name for name in names if frame[name].dtype in ("float64", "float32")]
    if floats and draw(st.integers(0, 3)) == 0:
        for _ in range(draw(st.integers(1, 6))):
            frame.loc[draw(somewhere), draw(st.sampled_from(floats))] = np.nan
    if floats and rarely(draw, 25):
        frame.loc[draw(somewhere), floats[0]] = draw(st.sampled_from([np.inf, -np.inf, 1e308]))
    if floats and rarely(draw, 30):
        frame[floats[0]] = np.nan
    if draw(st.integers(0, 4)) == 0:  # a gap
        frame = frame.drop(index=[draw(somewhere) for _ in range(draw(st.integers(1, 3)))])
    if len(frame) and rarely(draw, 20):
        frame = pd.concat([frame, frame.iloc[[-1]]])
    if rarely(draw, 20):
        frame = frame.sample(frac=1, random_state=draw(st.integers(0, 99)))
    if rarely(draw, 40):
        frame = frame.sample(frac=1, random_state=1)
        with contextlib.suppress(TypeError):  # dates and integers have no order
            frame = frame.sort_values("timestamp")
    if len(frame) and rarely(draw, 30):
        frame = frame.assign(timestamp=frame["timestamp"].astype(object))
        frame.iloc[0, frame.columns.get_loc("timestamp")] = draw(
            st.sampled_from([None, pd.NaT, "2024", 3.5])
        )
    if rarely(draw, 30):
        frame = frame.assign(timestamp=frame["timestamp"].astype(str))
    if "item_id" in frame and len(frame) and rarely(draw, 30):
        frame.iloc[0, frame.columns.get_loc("item_id")] = None
    if rarely(draw, 40):
        frame = frame.rename(columns={names[0]: draw(st.sampled_from([0, None, "timestamp", ""]))})
    if rarely(draw, 40):
        frame = frame[:0]
    return frame


@st.composite
def requests(draw):
    """Arguments of a small forecaster and of its fit."""
    quantiles = [0.1, 0.5, 0.9] if rarely(draw, 5) else None
    model = {
        "horizon": draw(st.integers(1, 4)),
        "context_length": draw(st.integers(4, 12)),
        "missing": draw(st.sampled_from(["mask", "mask", "error"])),
        "quantiles": quantiles,
        "share_segmentation": rarely(draw, 6),
    }
    fit = {
        "short": draw(st.sampled_from(["error", "skip"])),
        "freq": draw(st.sampled_from([None] * 12 + ["h", "D", 1, "QS"])),
        "refit": draw(st.booleans()),
    }
    return model, fit


def forecaster(horizon, **parameters):
    return Forecaster(
        horizon,
        patcher=FixedPatcher(4),
        backbone=TransformerBackbone(d_model=8, num_layers=1, num_heads=2),
        trainer=Trainer(max_steps=1, batch_size=16, device="cpu"),
        random_state=0,
        **parameters,
    )


def outcome(frame, model, fit):
    """Fit and predict; return what came of it: "forecast", or the class of our error."""
    before = frame.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            fitted = forecaster(**model).fit(frame, **fit)
            forecast = fitted.predict()
        except (AdaptivePatchError, TypeError) as error:
            assert_ours(error)
            assert_one_line(error)
            return type(error).__name__
        finally:
            pd.testing.assert_frame_equal(frame, before)
    check(fitted, frame, forecast, model)
    return "forecast"


def check(fitted, frame, forecast, model):
    """Every series goes on by as many finite steps as were asked for, from its last stamp."""
    panel, horizon = fitted.history_, model["horizon"]
    numbers = forecast.drop(columns=["item_id", "timestamp", "target_name"]).to_numpy()
    assert np.isfinite(numbers).all()
    assert len(forecast) == panel.num_items * panel.num_channels * horizon
    for position in range(panel.num_items):
        mine = forecast.iloc[: panel.num_channels * horizon]
        forecast = forecast.iloc[len(mine) :]
        item = panel.layout.item_order[position]
        last = panel.index[panel.position[item]][-1]
        for _, channel in mine.groupby("target_name", sort=False):
            assert channel["timestamp"].is_monotonic_increasing
            assert channel["timestamp"].is_unique
            assert channel["timestamp"].iloc[0] > last
    given = frame["timestamp"] if "timestamp" in frame else frame.index.to_series()
    latest = (given.dt.to_timestamp() if given.dtype.kind == "O" else given).max()
    assert max(stamps[-1] for stamps in panel.index) == latest or fitted.skipped_


@pytest.mark.parametrize("num_frames", [150, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_generated_frames_are_forecast_or_refused(num_frames):
    outcomes = Counter()

    @settings(
        max_examples=num_frames,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(messy_frames(), requests())
    def try_one(frame, request):
        model, fit = request
        outcomes[outcome(frame, model, fit)] += 1

    try_one()
    total = outcomes.total()
    print(f"\n{total} frames:", ", ".join(f"{n} {name}" for name, n in outcomes.most_common()))
    assert total >= num_frames
    assert outcomes["forecast"] >= 0.3 * total  # a strategy of rubbish would prove nothing
    assert outcomes["InvalidFrameError"] >= 0.1 * total
