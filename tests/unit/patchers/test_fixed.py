from __future__ import annotations

import math

import pytest
import torch

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.segmentation import Segmentation


@pytest.mark.parametrize(
    ("num_steps", "options", "count", "first", "halo", "nominal"),
    [
        (336, {"patch_length": 16, "stride": 8}, 42, 8, 8, 8),
        (512, {"patch_length": 16, "stride": 8}, 64, 8, 8, 8),
        (336, {"patch_length": 48, "stride": 24}, 14, 24, 24, 24),
        (96, {}, 6, 16, 0, 16),
        (96, {"patch_length": 16, "stride": 16}, 6, 16, 0, 16),
        (100, {"patch_length": 16, "stride": 8}, 13, 4, 8, 8),
        (97, {"patch_length": 16}, 7, 1, 0, 16),
        (10, {}, 1, 10, 0, 16),
        (1, {}, 1, 1, 0, 16),
        (336, {"compression_rate": 16}, 21, 16, 0, 16),
        (336, {"compression_rate": 48.0}, 7, 48, 0, 48),
        (10, {"compression_rate": 4}, 2, 5, 0, 5),
        (10, {"compression_rate": 11}, 1, 10, 0, 10),
    ],
)
def test_counts_lengths_and_halo(num_steps, options, count, first, halo, nominal):
    patcher = FixedPatcher(**options)
    mode = patcher(torch.zeros(3, num_steps)).mode
    assert mode.num_patches.tolist() == [count] * 3
    assert int(mode.patch_lengths[0, 0]) == first
    assert patcher.capacity(num_steps) == count
    assert patcher.halo == halo
    assert patcher.nominal_length(num_steps) == nominal
    assert torch.equal(patcher.reference_patches(num_steps).boundary_mask, mode.boundary_mask[:1])
    assert mode.is_shared
    assert mode.exact


def test_boundaries_are_counted_back_from_the_origin():
    for num_steps in range(1, 60):
        starts = FixedPatcher(9, 7).reference_patches(num_steps).patch_starts[0].tolist()
        assert starts == sorted({0, *range(num_steps - 7, 0, -7)})


def test_a_rate_is_even_patching():
    for num_steps in (1, 5, 24, 97):
        for rate in (1, 2.5, 7, 200):
            patcher = FixedPatcher(compression_rate=rate)
            count = max(1, math.floor(num_steps / rate))
            expected = Segmentation.even(num_steps, count).boundary_mask
            assert torch.equal(patcher.reference_patches(num_steps).boundary_mask, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_length": 0}, r"'patch_length' parameter of FixedPatcher must be an int.*Got 0"),
        ({"patch_length": 2.0}, "'patch_length'.*Got 2.0"),
        ({"stride": 0}, "'stride'.*Got 0"),
        ({"patch_length": 4, "stride": 5}, "'stride'.*must not exceed patch_length=4.*Got 5"),
        ({"stride": 17}, "must not exceed patch_length=16"),
        ({"compression_rate": 4, "stride": 2}, "either 'compression_rate' or.*stride=2"),
        ({"compression_rate": 0.9}, "'compression_rate'.*Got 0.9"),
    ],
)
def test_parameter_errors(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        FixedPatcher(**options)(torch.zeros(1, 20))
