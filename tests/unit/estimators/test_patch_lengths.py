"""Patches longer than the look-back warn, wherever a patcher meets its look-back first."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from adaptivepatch import (
    ChangePointPatcher,
    DynamicChunkingPatcher,
    EntropyPatcher,
    FixedPatcher,
    Forecaster,
    HierarchicalPatcher,
    InvalidParameterError,
    PeriodicPatcher,
    RandomPatcher,
    RecencyPatcher,
    ReinPatcher,
    Trainer,
    WindowRegressor,
    compare,
)
from tests.builders import daily_frame

LOOKBACK = 48
TRAINER = Trainer(max_steps=1, device="cpu")


def messages_of(patcher):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patcher.warn_if_too_long(LOOKBACK)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("patcher", "parameter", "length"),
    [
        (FixedPatcher(96), "patch_length", "96 steps"),
        (FixedPatcher(64, stride=8), "patch_length", "64 steps"),
        (FixedPatcher(compression_rate=49), "compression_rate", "49 steps"),
        (ReinPatcher(500), "compression_rate", "500 steps"),
        (RandomPatcher(48.5), "compression_rate", "48.5 steps"),
        (RecencyPatcher(), "compression_rate", "64 steps"),
        (ChangePointPatcher(50), "compression_rate", "50 steps"),
        (EntropyPatcher(50), "compression_rate", "50 steps"),
        (DynamicChunkingPatcher(50), "compression_rate", "50 steps"),
        (PeriodicPatcher(168), "period", "168 steps"),
        (PeriodicPatcher(24, cycles=3), "period", "72 steps"),
        (PeriodicPatcher("auto", nominal_period=49), "nominal_period", "49 steps"),
        (HierarchicalPatcher(FixedPatcher(96), FixedPatcher(1)), "fine__patch_length", "96 steps"),
        (
            HierarchicalPatcher(FixedPatcher(8), FixedPatcher(7)),
            "coarse__patch_length",
            "7 fine patches",
        ),
    ],
)
def test_the_parameter_and_both_numbers_are_named(patcher, parameter, length):
    (message,) = messages_of(patcher)
    available = 6 if "fine patches" in length else LOOKBACK
    assert f"The {parameter!r} parameter of {type(patcher).__name__} asks" in message
    assert f"patches of {length}, but the look-back has only {available}." in message


@pytest.mark.parametrize(
    "patcher",
    [
        *(FixedPatcher(48), FixedPatcher(compression_rate=48), ReinPatcher(48), FixedPatcher(16)),
        *(PeriodicPatcher(48), PeriodicPatcher("auto"), RecencyPatcher(48)),
        *(DynamicChunkingPatcher(48), HierarchicalPatcher(FixedPatcher(8), FixedPatcher(6))),
    ],
)
def test_one_patch_of_the_whole_look_back_is_legitimate(patcher):
    assert messages_of(patcher) == []


def test_a_wrong_parameter_is_refused_first():
    with pytest.raises(InvalidParameterError, match="'compression_rate' parameter of ReinPatcher"):
        ReinPatcher("500").warn_if_too_long(LOOKBACK)


@pytest.mark.parametrize(
    "fit",
    [
        lambda: Forecaster(4, 12, FixedPatcher(96), trainer=TRAINER).fit(daily_frame(60)),
        lambda: WindowRegressor(FixedPatcher(96), trainer=TRAINER).fit(
            np.random.default_rng(0).normal(size=(20, 12)), np.zeros((20, 4))
        ),
        lambda: compare(
            daily_frame(300),
            [FixedPatcher(4), FixedPatcher(96), RecencyPatcher(12)],
            horizon=4,
            context_length=12,
            seeds=1,
            trainer=TRAINER,
        ),
    ],
    ids=["Forecaster", "WindowRegressor", "compare"],
)
def test_fits_warn_once_at_the_line_of_the_user(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    found = [warning for warning in caught if "asks for patches of 96" in str(warning.message)]
    assert [warning.filename for warning in found] == [__file__]
    assert "but the look-back has only 12" in str(found[0].message)
