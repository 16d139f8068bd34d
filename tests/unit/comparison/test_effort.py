"""What a comparison leaves out by default, and the time that it announces and reports."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import FixedPatcher, RecencyPatcher, Trainer, TransformerBackbone, compare
from adaptivepatch.comparison import compare as module
from adaptivepatch.comparison import costs, effort
from adaptivepatch.comparison.costs import Clock, Cost, Costs
from adaptivepatch.comparison.effort import QUICK, THOROUGH
from adaptivepatch.comparison.progress import reporting
from adaptivepatch.comparison.statistics import MIN_BLOCKS, block_length
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.training import loop
from adaptivepatch.training.trainer import ForecastLoop

ARMS = {"fixed 4": FixedPatcher(4), "recency 8": RecencyPatcher(8, shortest=4)}
SMALL = {
    "horizon": 6,
    "context_length": 24,
    "backbone": TransformerBackbone(d_model=8, num_layers=1, num_heads=1, d_ff=8, dropout=0.0),
    "trainer": Trainer(max_steps=4, batch_size=8, validate_every=2),
}
TINY = replace(QUICK, validation_rows=6, test_rows=20)


def wave(rows=300):
    noise = np.random.default_rng(0).normal(size=rows)
    stamps = pd.date_range("2024", periods=rows, freq="h")
    return pd.DataFrame({"x": np.sin(np.arange(rows) / 4) + 0.3 * noise}, stamps)


# -------------------------------------------------------------------------------------- thinning


@pytest.mark.parametrize("horizon", [1, 7, 24, 96, 336])
@pytest.mark.parametrize("num_cutoffs", [40, 500, 1680, 9505, 100_000])
@pytest.mark.parametrize("kind", [QUICK, THOROUGH])
def test_thinned_windows_keep_their_time_blocks(kind, num_cutoffs, horizon):
    stride = kind.test_stride(3 * num_cutoffs, 21, num_cutoffs, horizon)
    left = num_cutoffs // stride
    assert stride <= horizon or (kind is QUICK and left >= effort.FEWEST_CUTOFFS)
    if num_cutoffs >= MIN_BLOCKS * horizon:
        assert left / block_length(left, int(np.ceil(horizon / stride))) >= MIN_BLOCKS


def test_few_windows_are_not_thinned_and_many_to_about_a_number():
    assert QUICK.test_stride(900, 3, 900, 96) == 1
    assert QUICK.test_stride(9505, 3, 9505, 96) == 10
    assert QUICK.validation_stride(3745, 3, 96) == 10
    assert THOROUGH.validation_stride(100_000, 21, 96) == 1
    assert THOROUGH.test_stride(9505, 21, 9505, 96) == 4


def test_thinning_is_done_and_told(monkeypatch):
    monkeypatch.setattr(module, "QUICK", TINY)
    validated, texts = [], []
    real = ForecastLoop.validate

    def validate(self, windows):
        validated.append(windows.diff().unique().tolist())
        return real(self, windows)

    monkeypatch.setattr(ForecastLoop, "validate", validate)
    result = compare(wave(), ARMS, seeds=1, progress=lambda *event: texts.append(event[2]), **SMALL)
    assert result.settings["effort"] == "default"
    assert (result.settings["stride"], result.settings["test_windows"]) == (3, 19)
    assert result.windows.time.diff()[1:].unique().tolist() == [1]  # in strides: evenly spaced
    assert result.settings["block_length"] >= SMALL["horizon"]
    assert result.settings["validation_stride"] == 4  # 24 - 6 + 1 windows
    assert validated == [[4]] * 4
    assert texts[0].endswith(
        " The comparison uses one in 3 test and one in 4 validation windows; the option thorough "
        "uses all."
    )


def test_a_thorough_comparison_uses_all_windows(monkeypatch):
    monkeypatch.setattr(module, "QUICK", TINY)
    texts = []
    result = compare(
        wave(),
        ARMS,
        seeds=1,
        thorough=True,
        progress=lambda *event: texts.append(event[2]),
        **SMALL,
    )
    assert result.settings["effort"] == "thorough"
    assert (result.settings["stride"], result.settings["validation_stride"]) == (1, 1)
    assert "windows" not in texts[0]


@pytest.mark.parametrize("kind", [QUICK, THOROUGH])
def test_training_does_not_depend_on_defaults_of_the_trainer(monkeypatch, kind):
    monkeypatch.setattr(effort, "Trainer", lambda **settings: settings)
    settings = kind.trainer(3)
    assert set(settings) == set(Trainer._get_param_names())
    assert settings["batch_size"] == 21  # 64 rows
    assert kind.trainer(100)["batch_size"] == 1
    assert kind.trainer(3, 8) == {**settings, "max_steps": 8, "validate_every": 2}


def test_only_a_thorough_training_stops_early():
    """The time of a fit is known in advance if it takes all of its steps."""
    assert QUICK.trainer(1).patience is None
    assert THOROUGH.trainer(1).patience == 3


# ---------------------------------------------------------------------------------- the estimate


class FakeTime:
    """A clock that moves by a fixed time for every step, validation window and forecast."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "process_time", lambda: self.now)
        monkeypatch.setattr(time, "perf_counter", lambda: 2 * self.now)  # another program runs
        self.take(monkeypatch, loop, "train_step", lambda *_: 1.0)
        self.take(monkeypatch, ForecastLoop, "validate", lambda _, windows: 0.1 * len(windows))
        self.take(monkeypatch, PanelModel, "predict", lambda *_: 0.01 * len(_[2]))

    def take(self, monkeypatch, owner, name, seconds):
        real = getattr(owner, name)

        def slow(*arguments, **settings):
            self.now += seconds(*arguments)
            return real(*arguments, **settings)

        monkeypatch.setattr(owner, name, slow)


def test_the_estimate_is_the_time_of_all_fits_and_forecasts(monkeypatch):
    clock, events = FakeTime(monkeypatch), []

    def progress(done, total, text):
        events.append((done, text, clock.now))

    trainer = Trainer(max_steps=60, batch_size=8, validate_every=10)
    result = compare(wave(), ARMS, seeds=2, progress=progress, **{**SMALL, "trainer": trainer})
    taken = clock.now - events[0][2]
    assert taken == pytest.approx(2 * 2 * (60 + 6 * 1.9 + 0.55))
    assert result.settings["estimated_cpu_seconds"] == pytest.approx(taken)
    assert events[0][:2] == (
        0,
        "Estimated time: about 9 min 36 s (4 min 48 s of CPU time) for 2 models, each trained 2 "
        "times.",
    )
    for done, text, now in events[1:]:
        left = 2 * (events[-1][2] - now)  # in seconds of the clock on the wall
        assert text.endswith(f"; {costs.duration(left)} left")
        assert done <= 8


def test_training_that_may_stop_early_has_an_upper_bound(monkeypatch):
    FakeTime(monkeypatch)
    texts = []
    trainer = Trainer(max_steps=60, batch_size=8, validate_every=30, patience=1)
    settings = {**SMALL, "trainer": trainer}
    compare(wave(), ARMS, seeds=2, progress=lambda *event: texts.append(event[2]), **settings)
    assert texts[0].startswith("Estimated time: at most ")


def test_the_measurement_changes_no_result(monkeypatch):
    first = compare(wave(), ARMS, seeds=1, progress=False, **SMALL)
    assert first.settings["estimated_cpu_seconds"] is None  # 4 steps are too few to measure
    monkeypatch.setattr(costs, "SHORTEST", 0)
    second = compare(wave(), ARMS, seeds=1, progress=False, **SMALL)
    assert second.settings["estimated_cpu_seconds"] > 0
    exact = ["arm", "validation_error", "test_error"]
    pd.testing.assert_frame_equal(second.table[exact], first.table[exact])


# ---------------------------------------------------------------------------------- the progress


def test_time_left_follows_the_costs_of_what_is_done(monkeypatch):
    now, events = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    some = Costs([Cost(fit=10.0, test=1.0), Cost(fit=30.0, test=3.0)], slowness=1.0)
    clock = Clock(some, 2, 1, 1, lambda *event: events.append(event))
    clock.announce("a comparison.", is_upper_bound=False)
    now[0] = 20.0  # twice as long as estimated
    clock.fitted(0, "first")
    clock.fitted(1, "second")
    assert events == [
        (0, 4, "Estimated time: about 44 s (44 s of CPU time) for a comparison."),
        (1, 4, "first; 1 min 8 s left"),
        (2, 4, "second; 2 s left"),
    ]


def test_more_processes_take_less_time(monkeypatch):
    monkeypatch.setattr(costs.os, "cpu_count", lambda: 4)
    some = Costs([Cost(fit=90.0, test=10.0)] * 2, slowness=1.5)
    texts = []
    for n_jobs in (1, 2):
        clock = Clock(some, 2, 5, n_jobs, lambda *event: texts.append(event[2]))
        clock.announce("x", is_upper_bound=False)
    assert texts[0].startswith("Estimated time: about 25 min 0 s (16 min 40 s of CPU time)")
    assert texts[1].startswith("Estimated time: about 12 min 30 s (16 min 40 s of CPU time)")


def test_progress_goes_to_the_error_stream_in_about_20_lines(capsys):
    with reporting(True) as report:
        for done in range(101):
            report(done, 100, f"number {done}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["number 0", "[5/100] number 5"]
    assert lines[-1] == "[100/100] number 100"
    assert len(lines) == 21
    for silent in (False, None):
        with reporting(silent) as report:
            report(0, 100, "number 0")
    assert capsys.readouterr().err == ""
