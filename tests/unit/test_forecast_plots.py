"""`plot` draws what the frames hold, breaks lines at gaps, and says what it leaves out."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import adaptivepatch
from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone, plot
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError
from tests.builders import daily_frame

pytest.importorskip("matplotlib")
from matplotlib.dates import date2num

HOURS = pd.date_range("2024-03-01", periods=200, freq="h")
SERIES = pd.DataFrame({"x": np.arange(200.0), "y": -np.arange(200.0)}, index=HOURS)


def forecast_of(stamps, items=("series",), channels=("x",), **columns):
    """A frame of forecasts: 0.5, 1.5, ... for every series."""
    values = np.arange(len(stamps)) + 0.5
    offsets = {"prediction": 0, **{name.removeprefix("q"): by for name, by in columns.items()}}
    forecasts = {name: values + by for name, by in offsets.items()}
    keys = [
        {"item_id": item, "timestamp": stamps, "target_name": channel}
        for item in items
        for channel in channels
    ]
    return pd.concat([pd.DataFrame(key | forecasts) for key in keys], ignore_index=True)


def line(ax, label):
    """Stamps and values of the only line with a label."""
    (found,) = [one for one in ax.lines if one.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata(), dtype=float)


def dots(ax):
    """Positions of the dots of values without neighbours."""
    alone = [one for one in ax.lines if one.get_linestyle() == "None"]
    return [(x, y) for one in alone for x, y in zip(*one.get_data(), strict=True)]


def band(ax, label):
    """The paths of a band, as arrays of (x, y)."""
    (found,) = [one for one in ax.collections if one.get_label() == label]
    return [path.vertices for path in found.get_paths()]


def shown(figure):
    return [ax for ax in figure.axes if ax.get_visible()]


def titles(figure):
    return [ax.get_title(loc="left") for ax in shown(figure)]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.fixture(scope="module")
def backtest():
    model = Forecaster(
        horizon=6,
        context_length=24,
        patcher=FixedPatcher(8),
        backbone=TransformerBackbone(d_model=8, num_layers=1, num_heads=1, d_ff=8),
        quantiles=[0.1, 0.5, 0.9],
        trainer=Trainer(max_steps=2, batch_size=8),
        random_state=0,
    )
    frame = daily_frame(rows=120)
    return model.fit(frame[:80], refit=False).backtest(frame, start=frame.index[80])


# --------------------------------------------------------------------------- what is drawn


def test_forecast_with_history_and_actual_values():
    figure = plot(forecast_of(HOURS[190:]), SERIES, history_steps=20, ylabel="MW", title="Load")
    (ax,) = figure.axes
    for label, stamps, values in [
        ("history", HOURS[170:190], np.arange(170.0, 190)),
        ("actual", HOURS[189:], np.arange(189.0, 200)),  # joined to the history
        ("forecast", HOURS[190:], np.arange(10) + 0.5),
    ]:
        drawn_stamps, drawn = line(ax, label)
        np.testing.assert_array_equal(drawn_stamps, stamps.to_numpy())
        np.testing.assert_array_equal(drawn, values)
    assert legend(figure) == ["history", "actual", "forecast"]
    assert titles(figure) == ["x"]
    assert (figure.get_supylabel(), figure.get_suptitle()) == ("MW", "Load")
    assert figure.get_supxlabel() == "This figure shows the last 20 steps of the history."


def test_a_forecast_alone_and_one_with_its_whole_history_need_no_sentence():
    alone = plot(forecast_of(HOURS[190:]))
    assert legend(alone) == ["forecast"]
    assert alone.get_supxlabel() == ""
    whole = plot(forecast_of(HOURS[20:30]), SERIES["x"][:20])
    assert legend(whole) == ["history", "forecast"]
    assert whole.get_supxlabel() == ""


@pytest.mark.parametrize(("horizon", "steps"), [(1, 30), (10, 30), (40, 120)])
def test_history_of_three_horizons_is_drawn(horizon, steps):
    figure = plot(forecast_of(HOURS[150 : 150 + horizon]), SERIES)
    assert len(line(figure.axes[0], "history")[0]) == steps


def test_actual_values_may_be_a_frame_of_their_own():
    figure = plot(forecast_of(HOURS[190:]), SERIES[:190], actual=SERIES[190:192])
    stamps, values = line(figure.axes[0], "actual")
    assert stamps[0] == HOURS[189]
    np.testing.assert_array_equal(values, [189, 190, 191, *[np.nan] * 8])


def test_long_frames_with_other_names_and_ids_of_any_type():
    ids = [("shop", 1), 7, "$a$"]
    long = pd.concat(
        [pd.DataFrame({"id": [i] * 60, "at": HOURS[:60], "x": np.arange(60.0) + n})
         for n, i in enumerate(ids)], ignore_index=True,
    )  # fmt: skip
    stamps = HOURS[60:64]
    frame = pd.concat([forecast_of(stamps).assign(item_id=[i] * 4) for i in ids], ignore_index=True)
    figure = plot(frame, long, item_id="id", timestamp="at")
    assert titles(figure) == ["('shop', 1), x", "7, x", r"\$a\$, x"]
    assert [line(ax, "history")[1][-1] for ax in figure.axes] == [59, 60, 61]
    one = plot(frame, long, item_id="id", timestamp="at", items=("shop", 1))
    assert titles(one) == ["('shop', 1), x"]
    two = plot(frame, long[long["id"] == 7], item_id="id", timestamp="at", items=[7])
    assert titles(two) == ["7, x"]


def test_items_and_channels_are_chosen_and_the_rest_is_counted():
    frame = forecast_of(HOURS[190:], items="abcd", channels="xy")
    assert titles(plot(frame)) == ["a, x", "a, y", "b, x", "b, y", "c, x", "c, y"]
    assert plot(frame).get_supxlabel() == "This figure shows 6 of 8 series."
    some = plot(frame, items=["d", "a"], channels="y")
    assert titles(some) == ["d, y", "a, y"]
    assert some.get_supxlabel() == ""
    assert titles(plot(frame, max_series=1)) == ["a, x"]


def test_integer_stamps_have_integer_ticks_and_dates_those_of_their_zone():
    counted = SERIES.reset_index(drop=True).rename_axis("t").reset_index()
    figure = plot(forecast_of(np.arange(200, 203)), counted, timestamp="t")
    assert figure.axes[0].get_xlabel() == "timestamp"
    figure.draw_without_rendering()
    assert all(text.get_text().isdigit() for text in figure.axes[0].get_xticklabels())

    zoned = SERIES.tz_localize("Asia/Kolkata")
    figure = plot(forecast_of(zoned.index[190:].tz_convert("UTC")), zoned)
    ax = figure.axes[0]
    np.testing.assert_array_equal(
        line(ax, "forecast")[0], zoned.index[190:].tz_convert(None).to_numpy()
    )
    assert ax.get_xlabel() == "Asia/Kolkata"
    figure.draw_without_rendering()
    midnight = date2num(pd.Timestamp("2024-03-09", tz="Asia/Kolkata"))
    label = ax.xaxis.get_major_formatter().format_ticks([midnight - 0.5, midnight])[1]
    assert label.endswith("09")


# ------------------------------------------------------------------------------------- gaps


def test_lines_and_bands_are_interrupted_at_absent_stamps_and_values():
    history = SERIES[["x"]].drop(HOURS[[175, 176]])
    history.loc[HOURS[180], "x"] = np.nan
    history.loc[HOURS[182], "x"] = np.nan
    frame = forecast_of(HOURS[190:], **{"q0.1": -1, "q0.9": 1}).drop([3, 5])
    (ax,) = plot(frame, history).axes
    stamps, values = line(ax, "history")
    np.testing.assert_array_equal(stamps, HOURS[160:190].to_numpy())
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [15, 16, 20, 22])
    stamps, values = line(ax, "forecast")
    np.testing.assert_array_equal(stamps, HOURS[190:].to_numpy())
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [3, 5])
    assert (HOURS[181], 181) in dots(ax)
    assert (HOURS[194], 4.5) in dots(ax)
    drawn = [path for path in band(ax, "80 % interval") if np.ptp(path[:, 0]) > 0]
    spans = [(path[:, 0].min(), path[:, 0].max()) for path in drawn]
    assert spans == [
        tuple(date2num(HOURS[[190, 192]])),
        tuple(date2num(HOURS[[196, 199]])),
    ]
    (bar,) = [one for one in ax.collections if "LineCollection" in type(one).__name__]
    assert bar.get_segments()[0][:, 1].tolist() == [3.5, 5.5]


def test_a_forecast_is_not_joined_to_a_history_that_ends_earlier():
    figure = plot(forecast_of(HOURS[190:]), SERIES[:185], actual=SERIES[190:])
    ax = figure.axes[0]
    assert np.isnan(line(ax, "history")[1][-5:]).all()
    values = line(ax, "actual")[1]
    assert np.isnan(values[:-10]).all()
    assert values[-10] == 190


def test_history_that_is_not_drawn_is_mentioned():
    frame = forecast_of(HOURS[190:])
    assert plot(frame, SERIES, history_steps=0).get_supxlabel() == "This figure shows no history."
    old = plot(frame, SERIES[:20], actual=SERIES[190:])
    assert legend(old) == ["actual", "forecast"]
    assert old.get_supxlabel() == "This figure shows no history."
    gap = plot(frame, pd.concat([SERIES[:20], SERIES[190:]]), freq="h")
    assert legend(gap) == ["actual", "forecast"]
    assert gap.get_supxlabel() == "This figure shows the last 30 steps of the history."
    whole = plot(frame, SERIES[:190], history_steps=10**12)
    assert len(line(whole.axes[0], "history")[0]) == 190
    assert whole.get_supxlabel() == ""


@pytest.mark.parametrize("freq", ["B", "ME", "QS", "W-WED", "15min"])
def test_steps_of_a_calendar_are_no_gaps(freq):
    stamps = pd.date_range("2024-01-03", periods=60, freq=freq)
    figure = plot(forecast_of(stamps[50:]), pd.Series(np.arange(60.0), stamps, name="x"))
    for label in ("history", "actual", "forecast"):
        assert not np.isnan(line(figure.axes[0], label)[1]).any()
    without = plot(forecast_of(stamps[50:]).drop(4))
    assert np.isnan(line(without.axes[0], "forecast")[1]).sum() == 1


def test_a_single_step_is_a_dot_with_bars():
    figure = plot(forecast_of(HOURS[190:191], **{"q0.25": -1, "q0.75": 1}), SERIES[:190])
    (ax,) = figure.axes
    assert dots(ax) == [(HOURS[190], 0.5)]
    (bar,) = [one for one in ax.collections if "LineCollection" in type(one).__name__]
    assert bar.get_segments()[0][:, 1].tolist() == [-0.5, 1.5]
    assert "50 % interval" in legend(figure)


def test_a_step_can_be_given_where_none_can_be_inferred():
    frame, two = forecast_of(HOURS[[190, 192]]), SERIES[186:188]
    assert not np.isnan(line(plot(frame).axes[0], "forecast")[1]).any()
    stepped = plot(frame, two, freq="h")
    assert np.isnan(line(stepped.axes[0], "forecast")[1]).tolist() == [False, True, False]
    with pytest.raises(InvalidFrameError, match="at least 3 rows"):
        plot(frame, two)


# --------------------------------------------------------------------------------- quantiles


def test_intervals_are_nested_bands_named_by_their_level():
    offsets = {"q0.025": -4, "q0.1": -2, "q0.25": -1, "q0.5": 0, "q0.75": 1, "q0.9": 2, "q0.975": 4}
    figure = plot(forecast_of(HOURS[190:], **offsets), SERIES[:190])
    (ax,) = figure.axes
    names = ["95 % interval", "80 % interval", "50 % interval"]
    assert legend(figure) == ["history", "forecast", *names]
    for name, half in zip(names, (4, 2, 1), strict=True):
        (path,) = band(ax, name)
        assert (path[:, 1].min(), path[:, 1].max()) == (0.5 - half, 9.5 + half)
    colours = [tuple(one.get_facecolor()[0]) for one in ax.collections]
    assert colours == sorted(colours, reverse=True)  # the widest is the lightest
    assert len(set(colours)) == 3


def test_quantiles_without_a_partner_are_lines():
    figure = plot(forecast_of(HOURS[190:], **{"q0.1": -3, "q0.2": -2, "q0.8": 2, "q0.5": 0.25}))
    assert legend(figure) == ["forecast", "quantile 0.1", "quantile 0.5", "60 % interval"]
    assert line(figure.axes[0], "quantile 0.1")[1][0] == -2.5


def test_four_of_many_intervals_are_drawn_the_widest_first():
    many = {f"q{k / 100:g}": k - 50 for k in range(1, 100)}
    figure = plot(forecast_of(HOURS[190:], **many))
    names = ["98 % interval", "74 % interval", "50 % interval", "26 % interval"]
    assert legend(figure) == ["forecast", *names]
    assert figure.get_supxlabel() == "This figure shows 4 of 49 intervals."


# ---------------------------------------------------------------------------------- backtest


def test_three_cutoffs_of_a_backtest_are_spread_evenly(backtest):
    figure = plot(backtest)
    frame, per_channel = backtest.to_frame(), len(backtest.cutoff.unique())
    assert per_channel == 35
    cutoffs = backtest.cutoff[[5, 17, 29]]
    assert titles(figure) == [f"{c}, cutoff {at:%Y-%m-%d %H:%M}" for c in "ab" for at in cutoffs]
    assert figure.get_supxlabel() == (
        "This figure shows 3 of 35 cutoffs (evenly spread) and the last 30 steps of the history."
    )
    assert legend(figure) == ["history", "actual", "forecast", "80 % interval"]
    windows = [(channel, at) for channel in "ab" for at in cutoffs]
    for ax, (channel, at) in zip(figure.axes, windows, strict=True):
        part = frame[(frame["target_name"] == channel) & (frame["cutoff"] == at)]
        np.testing.assert_array_equal(line(ax, "forecast")[1], part["prediction"])
        np.testing.assert_array_equal(line(ax, "actual")[1][1:], part["actual"])
        assert line(ax, "history")[0][-1] == at


def test_a_backtest_and_its_frame_give_the_same_picture(backtest):
    one, other = plot(backtest), plot(backtest.to_frame(), daily_frame(rows=120))
    assert titles(one) == titles(other)
    for left, right in zip(one.axes, other.axes, strict=True):
        for label in ("history", "actual", "forecast"):
            np.testing.assert_array_equal(line(left, label), line(right, label))
    without = plot(backtest.to_frame())
    assert legend(without) == ["actual", "forecast", "80 % interval"]


def test_cutoffs_can_be_named_or_counted(backtest):
    at = backtest.cutoff[3]
    assert titles(plot(backtest, cutoffs=str(at), channels="b")) == [
        f"b, cutoff {at:%Y-%m-%d %H:%M}"
    ]
    assert len(plot(backtest, cutoffs=[at, backtest.cutoff[0]]).axes) == 4
    assert titles(plot(backtest, cutoffs=1, channels="a"))[0].endswith(
        f"{backtest.cutoff[17]:%H:%M}"
    )
    many = plot(backtest, cutoffs=6, channels="a")
    assert len(shown(many)) == 6
    assert len(many.axes) == 8  # two rows of four


def test_a_series_without_a_forecast_says_so(backtest):
    frame, at = backtest.to_frame(), backtest.cutoff[3]
    frame = frame[(frame["target_name"] == "a") | (frame["cutoff"] != at)]
    figure = plot(frame, cutoffs=[at])
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[], ["no forecast"]]
    panel = replace(backtest.windows.panel, values=np.full((120, 2), np.nan))
    unknown = replace(backtest, windows=replace(backtest.windows, panel=panel))
    for empty in (unknown, backtest.select(np.arange(0))):
        with pytest.raises(InvalidFrameError, match=r"needs a forecast.*Choose other items"):
            plot(empty)


def test_windows_can_be_selected(backtest):
    which = np.array([7, 2])
    some = backtest.select(which)
    frame, part = backtest.to_frame(), some.to_frame()
    rows = [frame[frame["cutoff"] == at] for at in backtest.cutoff[which]]
    pd.testing.assert_frame_equal(part, pd.concat(rows, ignore_index=True))
    assert (len(some), some.num_impossible) == (2, 0)


# ------------------------------------------------------------------------------------ errors

FRAME = forecast_of(HOURS[190:], items="ab", channels="xy")
WITH_CUTOFF = FRAME.assign(cutoff=HOURS[189])
LONG = pd.concat([SERIES.assign(item_id=i).rename_axis("timestamp").reset_index() for i in "ab"])


@pytest.mark.parametrize(
    ("forecast", "arguments", "message"),
    [
        (np.zeros(3), {}, r"must be the frame that predict returns.*Got ndarray"),
        (FRAME["prediction"], {}, r"Got Series instead"),
        (FRAME.drop(columns="target_name"), {}, r"the columns \['item_id', .*It has 40 rows and"),
        (FRAME[:0], {}, r"It has 0 rows and"),
        (pd.concat([FRAME, FRAME["item_id"]], axis=1), {}, r"The forecast repeats \['item_id'\]"),
        (FRAME.astype({"timestamp": str}), {}, r"column 'timestamp' .*dtype 'object'.*to_datetime"),
        (FRAME.assign(item_id=None), {}, r"40 of 40 rows have none in 'item_id'"),
        (FRAME.astype({"prediction": str}), {}, r"The column 'prediction' has dtype 'object'"),
        (FRAME.assign(prediction=np.inf), {}, r"40 infinite value\(s\), the first at '2024"),
        (pd.concat([FRAME, FRAME]), {}, r"several of item 'a' and channel 'x' at '2024-03-08 22"),
        (FRAME, {"history": LONG[LONG.item_id == "a"]}, r"lacks 'b'; it has 'a'\. Pass a frame"),
        (FRAME, {"history": LONG.drop(columns="y")}, r"must have the channels .*lacks 'y'"),
        (FRAME, {"history": SERIES}, r"items 'a', 'b', and 'history' has no column 'item_id'"),
        (FRAME, {"history": SERIES["x"]}, r"items 'a', 'b', and 'history' has no column"),
        (FRAME, {"history": 5}, r"must be a pandas DataFrame or Series. Got int"),
        (FRAME, {"history": LONG, "item_id": "shop"}, r"'history' has no column 'shop'"),
        (FRAME, {"history": LONG.assign(timestamp=range(400))}, r"must be of one kind"),
        (
            FRAME,
            {"history": LONG, "actual": LONG.assign(timestamp=range(400))},
            r"The stamps of 'actual' must be datetimes with the step 'h'",
        ),
        (
            FRAME,
            {"history": LONG[LONG["timestamp"] < HOURS[100]]},
            r"must reach up to the forecast\. .*the 30 steps before them",
        ),
        (FRAME.assign(actual=1.0), {"actual": LONG}, r"must be given once"),
        (FRAME, {"items": ["c"]}, r"Got 'c'; the forecast has 'a', 'b'"),
        (FRAME, {"channels": "X"}, r"Got 'X'; .* 'x', 'y'\. Did you mean 'x'"),
        (FRAME[~((FRAME.item_id == "a") & (FRAME.target_name == "x"))],
         {"items": "a", "channels": "x"}, r"No item of \['a'\] has a channel of \['x'\]"),
        (FRAME, {"cutoffs": [HOURS[189]]}, r"without the column 'cutoff'"),
        (WITH_CUTOFF, {"cutoffs": "2024-01-01"}, r"Got '2024-01-01.*the forecast has 1"),
        (WITH_CUTOFF, {"cutoffs": "soon"}, r"Got 'soon' instead"),
        (WITH_CUTOFF, {"cutoffs": []}, r"Got \[\] instead"),
        (WITH_CUTOFF, {"cutoffs": 0}, r"'cutoffs' parameter must be an int"),
        (FRAME, {"max_series": 0}, r"'max_series' parameter must be an int in the range \[1"),
        (FRAME, {"history_steps": -1}, r"'history_steps' parameter must be an int .*\[0"),
        (FRAME, {"item_id": "timestamp"}, r"must name different columns"),
        (FRAME, {"freq": "soon"}, r"'freq' parameter must be a pandas frequency"),
        (FRAME, {"quantiles": 1}, r"plot has no parameter 'quantiles'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_remedy(forecast, arguments, message):
    with pytest.raises((InvalidFrameError, InvalidParameterError), match=message):
        plot(forecast, **arguments)


def test_the_function_is_not_hidden_by_a_module():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("adaptivepatch.plot")
    importlib.import_module("adaptivepatch.plotting")
    assert callable(adaptivepatch.plot)
