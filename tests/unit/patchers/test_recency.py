from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.segmentation import Segmentation


def test_the_documented_example():
    patcher = RecencyPatcher(64, 16)
    lengths = patcher.reference_patches(1344).patch_lengths[0].tolist()
    assert lengths[:4] == [161, 143, 127, 114]
    assert lengths[-2:] == [18, 16]
    assert len(lengths) == 21
    assert sum(lengths) == 1344
    assert patcher.nominal_length(1344) == 16


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 2000), st.floats(1, 300), st.integers(1, 64))
@example(1344, 8.0, 4)  # 168 terms: q**k overflowed
@example(2000, 2.0, 1)
@example(2000, 1.0, 1)
@example(2000, 1999.0, 1)
def test_lengths_grow_into_the_past(num_steps, rate, shortest):
    patcher = RecencyPatcher(rate, shortest)
    segmentation = patcher.reference_patches(num_steps)
    lengths = segmentation.patch_lengths[0].tolist()
    count = max(1, math.floor(num_steps / rate))
    assert len(lengths) == count == patcher.capacity(num_steps)
    assert sum(lengths) == num_steps
    assert min(lengths) >= 1
    # Each is at least the next newer one, up to the rounding of two cumulative sums.
    assert all(newer - older <= 1 for older, newer in itertools.pairwise(lengths))
    if count * shortest >= num_steps:
        assert segmentation.patch_starts.tolist() == (
            Segmentation.even(num_steps, count).patch_starts.tolist()
        )
    elif count > 1:
        assert abs(lengths[-1] - shortest) <= 1
        assert patcher.nominal_length(num_steps) == lengths[-1]


def test_lengths_are_geometric():
    lengths = RecencyPatcher(64, 16).reference_patches(1344).patch_lengths[0].double()
    ratio = lengths[:-1] / lengths[1:]
    assert float(ratio.max()) < 1.2
    assert float(ratio.min()) > 1.05
    growth = float((lengths[0] / lengths[-1]) ** (1 / 20))
    ideal = 16 * growth ** torch.arange(20.0, -1, -1)
    assert float((lengths - ideal).abs().max()) < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortest": 0}, r"'shortest' parameter of RecencyPatcher must be an int.*Got 0"),
        ({"shortest": 1.5}, "Got 1.5"),
        ({"compression_rate": None}, "'compression_rate'.*Got None"),
    ],
)
def test_parameter_errors(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        RecencyPatcher(**options)(torch.zeros(1, 20))
