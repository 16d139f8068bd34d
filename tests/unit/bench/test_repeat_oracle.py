"""The known errors of the last-value forecast, and the data that they prove."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import metrics
from adaptivepatch.bench import repeat_oracle
from adaptivepatch.bench.ltsf_data import (
    BATCH_OF_CONVENTION,
    load_ltsf,
    num_test_windows,
    scaled_panel,
)
from adaptivepatch.bench.repeat_oracle import (
    CELLS,
    Cell,
    RepeatCheck,
    repeat_errors,
    verify_repeat_oracle,
)
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import make_windows
from adaptivepatch.datasets.catalog import SplitBorders, split_borders
from adaptivepatch.errors import InvalidParameterError

BORDERS = SplitBorders(40, 50, 70)


def open_windows(panel, context_length, horizon):
    """Every test window; look-backs may reach into the validation rows."""
    limits = {"targets_from": BORDERS.val_end, "targets_to": BORDERS.test_end}
    return make_windows(panel, context_length, horizon, **limits)


@pytest.fixture
def frame():
    values = np.random.default_rng(0).normal(3, 2, (70, 3)).cumsum(axis=0)
    return pd.DataFrame(values, columns=["c", "a", "b"])


@pytest.mark.parametrize(
    ("name", "horizon", "full", "drop_32", "drop_128"),
    [
        ("ETTh1", 96, 2785, 2784, 2688),
        ("ETTh2", 336, 2545, 2528, 2432),
        ("ETTm1", 720, 10801, 10784, 10752),
        ("weather", 192, 10348, 10336, 10240),
        ("exchange", 720, 798, 768, 768),
        ("ili", 24, 170, 160, 128),
    ],
)
def test_windows_are_counted_as_in_the_literature(name, horizon, full, drop_32, drop_128):
    borders = split_borders(name)
    assert num_test_windows(borders, horizon) == full
    assert num_test_windows(borders, horizon, "drop_last_32") == drop_32
    assert num_test_windows(borders, horizon, "drop_last_128") == drop_128
    with pytest.raises(InvalidParameterError, match=r"'drop_last' of .*Available: \['full'"):
        num_test_windows(borders, horizon, "drop_last")


@pytest.mark.parametrize("context_length", [1, 8, 50])
def test_every_test_window_is_opened_for_every_look_back(frame, context_length):
    windows = open_windows(read_frame(frame), context_length, 6)
    assert len(windows) == num_test_windows(BORDERS, 6) == 15
    assert windows.cutoff_row.tolist() == list(range(49, 64))


def test_series_are_scaled_by_their_training_rows(frame):
    panel, scaling = scaled_panel(frame, BORDERS)
    np.testing.assert_allclose(panel.values[:40].mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(panel.values[:40].std(axis=0), 1)
    restored = scaling.inverse(panel.values, 0 * np.arange(70))
    np.testing.assert_allclose(restored, frame[["a", "b", "c"]])


def test_fast_repeat_errors_equal_those_of_opened_windows(frame):
    panel, _ = scaled_panel(frame, BORDERS)
    for horizon, squared, absolute in repeat_errors(panel.values, BORDERS, [1, 4, 20]):
        windows = open_windows(panel, 1, horizon)
        repeat = np.repeat(windows.past(), horizon, axis=1)
        expected = metrics.mse(windows.future(), repeat, axis=1)
        np.testing.assert_allclose(squared, expected, rtol=1e-12)
        expected = metrics.mae(windows.future(), repeat, axis=1)
        np.testing.assert_allclose(absolute, expected, rtol=1e-12)


def test_expected_figures_are_package_data():
    figures = repeat_oracle._expected_figures()
    for name, horizon in CELLS:
        borders = split_borders(name)
        for label in BATCH_OF_CONVENTION:
            windows = figures[name][str(horizon)][label]["windows"]
            assert windows == num_test_windows(borders, horizon, label)


def test_a_check_fails_on_windows_or_figures():
    good = RepeatCheck("ETTh1", 96, "full", 10, 1.0, 0.5, 10, 1.0, 0.5)
    assert good.is_reproduced
    assert good.relative_error == 0
    assert not RepeatCheck("ETTh1", 96, "full", 9, 1.0, 0.5, 10, 1.0, 0.5).is_reproduced
    off = RepeatCheck("ETTh1", 96, "full", 10, 1.0, 0.5 * (1 + 1e-8), 10, 1.0, 0.5)
    assert off.relative_error == pytest.approx(1e-8)
    assert not off.is_reproduced


def test_cells_without_figures_are_refused():
    with pytest.raises(InvalidParameterError, match=r"no figures for 'ili' at horizon 24\. Avail"):
        verify_repeat_oracle(cells=[Cell("ili", 24)])
    with pytest.raises(InvalidParameterError, match="no figures for 'ETTh1' at horizon 97"):
        verify_repeat_oracle(cells=[Cell("ETTh1", 97)])


def test_the_repeat_oracle_is_reproduced_in_every_cell(ltsf_data):
    seen: list[RepeatCheck] = []
    checks = verify_repeat_oracle(seen.append, conventions=BATCH_OF_CONVENTION, folder=ltsf_data)
    assert checks == seen
    assert {(check.dataset, check.horizon) for check in checks} == set(CELLS)
    assert len(checks) == 60
    assert [check for check in checks if not check.is_reproduced] == []
    first = checks[0]
    assert (round(first.mse, 4), round(first.mae, 4)) == (1.2944, 0.7132)


def test_wrong_borders_do_not_pass_the_oracle(ltsf_data, monkeypatch):
    wrong = SplitBorders(8641, 11520, 14400)
    monkeypatch.setattr("adaptivepatch.bench.ltsf_data.split_borders", lambda *_: wrong)
    checks = verify_repeat_oracle(cells=[Cell("ETTh1", 96)], folder=ltsf_data)
    assert not any(check.is_reproduced for check in checks)


def test_a_public_set_is_cut_to_its_used_rows(ltsf_data):
    frame, borders = load_ltsf("ETTh1", ltsf_data)
    assert frame.shape == (14400, 7)
    assert borders.test_end == 14400
