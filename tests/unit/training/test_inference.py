"""A window's forecast is the same bits however the windows are batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.training.inference import predict_windows, segment_windows
from tests.builders import series_source, small_network

CONTEXT, HORIZON = 96, 5
COUNTS = (1, 7, 64, 65, 200)
LEVELS = (0.1, 0.5, 0.9)

every_backbone = pytest.mark.parametrize("backbone", ["patchtst", "transformer"])
every_patcher = pytest.mark.parametrize(
    "patcher",
    [
        lambda: FixedPatcher(16, 8),
        lambda: FixedPatcher(7),
        lambda: RecencyPatcher(16, 4),
        lambda: RandomPatcher(12),
        lambda: HierarchicalPatcher(FixedPatcher(8), FixedPatcher(5)),
        lambda: HierarchicalPatcher(
            RandomPatcher(5), HierarchicalPatcher(RandomPatcher(3), FixedPatcher(2))
        ),
    ],
    ids=["fixed-16-8", "fixed-7", "recency", "random", "two-levels", "three-levels"],
)


def parts(backbone, patcher, channels=1, gaps=0.0, dtype=torch.float32, quantiles=None):
    network = small_network(
        backbone,
        patcher(),
        context_length=CONTEXT,
        horizon=HORIZON,
        dtype=dtype,
        quantiles=quantiles,
    )
    source, windows = series_source(
        300, channels, gaps, context_length=CONTEXT, horizon=HORIZON, dtype=dtype
    )
    return network, source, windows[:200]


@every_backbone
@every_patcher
@pytest.mark.parametrize("channels", [1, 3])
def test_forecasts_do_not_depend_on_the_batch(backbone, patcher, channels):
    network, source, windows = parts(backbone, patcher, channels)
    full = predict_windows(network, source.lookbacks, windows, channels)
    assert full.shape == (200 * channels, HORIZON)
    assert full.dtype == torch.float64
    for count in COUNTS:
        for first in {0, 37, 200 - count} if count < 200 else {0}:
            some = predict_windows(
                network, source.lookbacks, windows[first : first + count], channels
            )
            expected = full[first * channels : (first + count) * channels]
            assert torch.equal(some, expected[: len(some)]), (count, first)
    backwards = predict_windows(network, source.lookbacks, windows.flip(0), channels)
    assert torch.equal(backwards.view(200, channels, -1).flip(0), full.view(200, channels, -1))


@every_backbone
@every_patcher
@pytest.mark.parametrize("quantiles", [None, LEVELS])
def test_gaps_of_other_rows_change_no_bit(backbone, patcher, quantiles):
    network, source, windows = parts(backbone, patcher, 1, quantiles=quantiles)
    complete = predict_windows(network, source.lookbacks, windows)
    generator = torch.Generator().manual_seed(0)

    def with_gaps(chunk):
        """Every second window misses 40 % of its steps; the others are complete."""
        series, _, group = source.lookbacks(chunk)
        observed = torch.rand(series.shape, generator=generator) < 0.6
        observed[chunk % 2 == 0] = True
        return series.masked_fill(~observed, float("nan")), observed, group

    mixed = predict_windows(network, with_gaps, windows)
    whole = windows % 2 == 0
    assert torch.equal(mixed[whole], complete[whole])
    assert bool(mixed.isfinite().all())
    assert not torch.equal(mixed[~whole], complete[~whole])


@every_backbone
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_with_gaps_do_not_depend_on_the_batch(backbone, channels):
    network, source, windows = parts(backbone, lambda: FixedPatcher(16, 8), channels, gaps=0.3)
    full = predict_windows(network, source.lookbacks, windows, channels)
    for first in (0, 3, 77, 199):
        one = predict_windows(network, source.lookbacks, windows[first : first + 1], channels)
        assert torch.equal(one, full[first * channels : (first + 1) * channels])


@every_backbone
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("horizon", "channels", "quantiles"), [(1, 1, None), (3, 5, LEVELS)])
def test_few_outputs_and_odd_row_counts(backbone, dtype, horizon, channels, quantiles):
    network = small_network(
        backbone,
        FixedPatcher(7),
        context_length=70,
        horizon=horizon,
        dtype=dtype,
        quantiles=quantiles,
    )
    source, windows = series_source(
        300, channels, 0.1, context_length=70, horizon=horizon, dtype=dtype, share_segmentation=True
    )
    full = predict_windows(network, source.lookbacks, windows[:100], channels)
    for first in (0, 1, 13, 50, 99):
        one = predict_windows(network, source.lookbacks, windows[first : first + 1], channels)
        assert torch.equal(one, full[first * channels : (first + 1) * channels])


@every_backbone
@pytest.mark.parametrize("precision", [torch.bfloat16, None])
def test_float64_and_bfloat16(backbone, precision):
    dtype = torch.float32 if precision else torch.float64
    network, source, windows = parts(backbone, lambda: FixedPatcher(16, 8), dtype=dtype)
    full = predict_windows(network, source.lookbacks, windows, precision=precision)
    some = predict_windows(network, source.lookbacks, windows[70:75], precision=precision)
    assert torch.equal(some, full[70:75])
    plain = network(*source.lookbacks(windows)).detach().double()
    np.testing.assert_allclose(full, plain, atol=0.1 if precision else 1e-12)


def test_prediction_is_in_eval_mode_without_gradient():
    network, source, windows = parts("patchtst", lambda: RandomPatcher(8))
    network.train()
    forecast = predict_windows(network, source.lookbacks, windows[:3])
    assert not network.training
    assert not forecast.requires_grad
    assert torch.equal(forecast, predict_windows(network, source.lookbacks, windows[:3]))


@every_patcher
@pytest.mark.parametrize("channels", [1, 3])
def test_segmentations_are_those_of_the_network(patcher, channels):
    network, source, windows = parts("transformer", patcher, channels)
    found = segment_windows(network, source.lookbacks, windows[:70], channels)
    assert found.num_rows == 70 * channels
    mode = network.segment(*source.lookbacks(windows[:70]))[1].mode
    assert torch.equal(found.boundary_mask, mode.boundary_mask)
    assert found.capacity == network.patcher.capacity(CONTEXT)
    while mode.parent is not None:
        found, mode = found.parent, mode.parent
        assert torch.equal(found.boundary_mask, mode.boundary_mask)
    assert found.parent is None
