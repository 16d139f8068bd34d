"""Power transforms agree with scikit-learn, are undone, and never leave their domain."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PowerTransformer, StandardScaler

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel_scaling import Scaling, check_values
from adaptivepatch.data.transforms import (
    DOMAINS,
    TRANSFORMS,
    PowerTransform,
    check_bounds,
    clip,
)

EXPONENTS = np.array([[0.0, 0.01, 0.5], [1.0, 1.7, 2.0]])
REFERENCES = {
    "log1p": make_pipeline(FunctionTransformer(np.log1p), StandardScaler()),
    "box_cox": PowerTransformer("box-cox"),
    "yeo_johnson": PowerTransformer("yeo-johnson"),
}


@pytest.fixture
def panel():
    """Skewed values with exponents inside the limits; the first channel has gaps."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame((rng.normal(5, 1, (300, 2)) ** 3).clip(0.1), columns=["x", "y"])
    frame.loc[[2, 20, 280], "x"] = np.nan
    frame["item_id"] = ["a"] * 120 + ["b"] * 180
    frame["timestamp"] = [*range(120), *range(180)]
    return read_frame(frame, missing="mask")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_scaled_values_are_those_of_scikit_learn(panel, name):
    ends = np.array([100, 150])
    scaling = Scaling.fit(panel, ends, name)
    scaled = scaling.apply(panel)
    for item in range(2):
        reference = REFERENCES[name].fit(panel.item(item)[: ends[item]])
        expected = reference.transform(panel.item(item))
        np.testing.assert_allclose(scaled.item(item), expected, rtol=1e-9, atol=1e-9)
    assert (np.isnan(scaled.values) == np.isnan(panel.values)).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rows_after_the_training_rows_do_not_change_the_transform(panel, name):
    changed = panel.values.copy()
    changed[110:120] *= 50
    other = panel.__class__(**{**vars(panel), "values": changed})
    one, two = (Scaling.fit(each, np.array([110, 180]), name) for each in (panel, other))
    np.testing.assert_array_equal(one.power.exponent, two.power.exponent)
    np.testing.assert_array_equal(one.mean, two.mean)
    if name != "log1p":
        assert Scaling.fit(other, None, name).power.exponent[0, 0] != one.power.exponent[0, 0]


@pytest.mark.parametrize("name", TRANSFORMS)
@given(data=st.data())
def test_the_inverse_undoes_the_transform(name, data):
    low, high = max(DOMAINS[name][0], -1e9), 1e9
    values = np.array(data.draw(st.lists(st.floats(low, high), min_size=9, max_size=9)))
    values = values.reshape(3, 3).clip(*DOMAINS[name])
    values[0, 0] = np.nan
    transform, item = PowerTransform(name, EXPONENTS), np.array([0, 1, 0])
    there = transform.forward(values, item)
    assert np.isfinite(there).sum() == 8
    # The digits of log(1 + x) near its pole, and of 1 + x for tiny x, are those of 1.
    np.testing.assert_allclose(transform.inverse(there, item), values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_inverse_is_finite_increasing_and_inside_the_domain_everywhere(name):
    size = np.geomspace(1e-6, 1e300, 2000)
    line = np.concatenate([-size[::-1], [0], size])
    for item in range(2):
        transform = PowerTransform(name, EXPONENTS)
        with np.errstate(all="raise", under="ignore", over="ignore"):
            found = transform.inverse(np.repeat(line[:, None], 3, axis=1), item)
        assert np.isfinite(found).all()
        assert (np.diff(found, axis=0) >= 0).all()
        low, high = DOMAINS[name]
        assert (low <= found).all()
        assert (found <= high).all()
        assert np.isfinite(transform.forward(found, item)).all()


@pytest.mark.parametrize(("name", "end"), [("log1p", -1.0), ("box_cox", 0.0)])
def test_values_below_the_range_become_the_end_of_the_domain(name, end):
    found = PowerTransform(name, EXPONENTS).inverse(np.full((1, 3), -1e4), 1)
    np.testing.assert_allclose(found, end, atol=1e-15)


def test_windows_of_quantiles_are_transformed_by_item_and_channel():
    transform = PowerTransform("yeo_johnson", EXPONENTS)
    windows = np.random.default_rng(1).normal(0, 3, (4, 5, 3, 2))
    item = np.array([1, 0, 0, 1])
    found = transform.inverse(windows, item, channel_axis=-2)
    for w, c in np.ndindex(4, 3):
        own = PowerTransform("yeo_johnson", EXPONENTS[item[w], c].reshape(1, 1))
        expected = own.inverse(windows[w, :, c, :].reshape(-1, 1), 0).reshape(5, 2)
        np.testing.assert_array_equal(found[w, :, c, :], expected)


@pytest.mark.parametrize("name", ["box_cox", "yeo_johnson"])
def test_a_constant_or_unobserved_channel_has_the_exponent_1(name):
    rows = np.column_stack([np.full(9, 7.0), np.full(9, np.nan), np.arange(1.0, 10)])
    exponent = PowerTransform.fit(name, [rows]).exponent[0]
    assert exponent[:2].tolist() == [1, 1]
    assert exponent[2] != 1


@pytest.mark.parametrize(
    ("values", "exponent"), [(1 / np.arange(1.0, 90), 0), (np.arange(1.0, 90) ** (1 / 9), 2)]
)
def test_exponents_are_limited(values, exponent):
    assert PowerTransform.fit("box_cox", [values[:, None]]).exponent == exponent


def test_items_that_were_not_in_fit_get_the_median_exponents():
    transform = PowerTransform("box_cox", np.array([[0.0, 1.0], [0.2, 0.4], [1.0, 0.5]]))
    found = transform.of_items(["new", "b", "a"], ["a", "b", "c"]).exponent
    assert found.tolist() == [[0.2, 0.5], [0.2, 0.4], [0.0, 1.0]]


def test_the_deviation_is_in_target_units(panel):
    plain = Scaling.fit(panel)
    np.testing.assert_array_equal(plain.deviation(), plain.std)
    logs = Scaling.fit(panel, None, "log1p")
    expected = np.exp(logs.mean) * np.sinh(logs.std)
    np.testing.assert_allclose(logs.deviation(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_values_at_the_bounds_are_accepted_in_any_dtype(dtype):
    panel = read_frame(pd.DataFrame({"x": np.array([0, 3, 100, 1], dtype=dtype)}))
    check_values(panel, "log1p", (0.0, 100.0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("nonnegative", (0.0, None)),
        ((0, None), (0.0, None)),
        ([None, 5], (None, 5.0)),
        ((np.float32(0.5), np.int64(2)), (0.5, 2.0)),
        ((None, None), (None, None)),
    ],
)
def test_bounds_are_a_pair(given, expected):
    assert check_bounds(None, given) == expected


def test_clipping_keeps_order_and_nan():
    values = np.array([-2.0, np.nan, 0.5, 3.0])
    np.testing.assert_array_equal(clip(values, (0.0, None)), [0, np.nan, 0.5, 3])
    np.testing.assert_array_equal(clip(values, (None, 1.0)), [-2, np.nan, 0.5, 1])
    assert clip(values, None) is values
