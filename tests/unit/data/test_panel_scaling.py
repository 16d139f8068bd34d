from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.errors import InvalidFrameError


@pytest.fixture
def panel():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(5, 3, (30, 2)), columns=["x", "y"])
    frame.loc[[2, 20], "x"] = np.nan
    frame["item_id"] = ["a"] * 12 + ["b"] * 18
    frame["timestamp"] = [*range(12), *range(18)]
    return read_frame(frame, missing="mask")


@pytest.mark.parametrize("rows_end", [None, 10, [7, 15]])
def test_scaling_equals_scikit_learn_on_training_rows(panel, rows_end):
    scaling = Scaling.fit(panel, rows_end)
    scaled = scaling.apply(panel)
    ends = np.broadcast_to(panel.lengths if rows_end is None else rows_end, 2)
    for item in range(2):
        reference = StandardScaler().fit(panel.item(item)[: ends[item]])
        np.testing.assert_allclose(scaling.mean[item], reference.mean_, rtol=1e-13)
        np.testing.assert_allclose(scaling.std[item], reference.scale_, rtol=1e-13)
        expected = reference.transform(panel.item(item))
        np.testing.assert_allclose(scaled.item(item), expected, rtol=1e-12)


def test_inverse_undoes_transform_of_rows_windows_and_quantiles(panel):
    scaling = Scaling.fit(panel)
    item = np.repeat([0, 1], panel.lengths)
    scaled = scaling.apply(panel).values
    np.testing.assert_allclose(scaling.inverse(scaled, item), panel.values)
    windows = np.random.default_rng(1).normal(size=(3, 4, 2))
    position = np.array([1, 0, 1])
    there = scaling.inverse(windows, position)
    np.testing.assert_allclose(there[2], windows[2] * scaling.std[1] + scaling.mean[1])
    np.testing.assert_allclose(scaling.transform(there, position), windows)
    quantiles = np.stack([windows, windows + 1], axis=-1)
    moved = scaling.inverse(quantiles, position, channel_axis=-2)
    np.testing.assert_allclose(moved[..., 0], there)
    np.testing.assert_allclose(scaling.inverse(windows, 0)[1], there[1])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -3.3])
def test_a_constant_channel_becomes_exactly_zero(value):
    panel = read_frame(pd.DataFrame({"x": np.full(11, value)}))
    scaling = Scaling.fit(panel)
    assert scaling.std.tolist() == [[1.0]]
    assert (scaling.apply(panel).values == 0).all()


def test_training_rows_without_observations_are_refused():
    frame = pd.DataFrame({"x": [1.0, 2, 3], "y": [np.nan, np.nan, 1]})
    match = "channel 'y' of series 'series' has none in its first 2 rows"
    with pytest.raises(InvalidFrameError, match=match):
        Scaling.fit(read_frame(frame, missing="mask"), 2)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-150])
def test_tiny_values_are_scaled_although_their_squares_vanish(scale):
    values = np.arange(10.0)
    panel = read_frame(pd.DataFrame({"x": scale * values}))
    scaling = Scaling.fit(panel)
    assert scaling.std[0, 0] == pytest.approx(scale * values.std(), rel=1e-9)
    assert scaling.apply(panel).values.std() == pytest.approx(1)
