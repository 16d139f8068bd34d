from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptivepatch.nn.placement.boundary_networks import (
    NUM_FEATURES,
    ConvolutionalBoundaryNetwork,
    NormedBoundaryNetwork,
    site_features,
)
from adaptivepatch.nn.policies.candidates import candidate_sites


@pytest.mark.parametrize("per_block", [3, None])
@pytest.mark.parametrize("with_gaps", [False, True])
def test_features_equal_a_loop_over_cells(per_block, with_gaps):
    starts, num_steps = (0, 8, 16, 21), 30
    sites = candidate_sites(starts, num_steps, per_block)
    generator = torch.Generator().manual_seed(0)
    series = torch.randn(3, num_steps, dtype=torch.float64, generator=generator)
    observed = torch.rand(3, num_steps, generator=generator) < 0.7 if with_gaps else None
    found = site_features(series, observed, sites)
    assert found.shape == (3, len(sites.positions), NUM_FEATURES)
    edges = [0, *sites.positions, num_steps]
    for n, row in enumerate(series.numpy()):
        for c, position in enumerate(sites.positions):
            last, cell = row[edges[c] : position], row[position : edges[c + 2]]
            step, change = row[position] - row[position - 1], cell.mean() - last.mean()
            seen = (
                1.0
                if observed is None
                else float(observed[n, position : edges[c + 2]].double().mean())
            )
            block = sites.blocks[c]
            start, before = starts[block + 1], starts[block]
            expected = [
                *(row[position], step, abs(step), cell.mean(), change, abs(change)),
                *(np.abs(cell - cell.mean()).mean(), seen, 1 - position / num_steps),
                *((position - start) / (start - before), float(position in starts)),
            ]
            np.testing.assert_allclose(found[n, c], expected, atol=1e-12)


def test_sizes_of_changes_are_the_same_for_rises_and_falls():
    sites = candidate_sites((0, 8, 16), 24, None)
    series = torch.zeros(1, 24)
    series[:, 11:] = 1.5
    rising, falling = site_features(series, None, sites), site_features(-series, None, sites)
    same = [2, 5]
    assert torch.equal(rising[..., same], falling[..., same])
    assert rising[0, :, 2].argmax() == 10
    assert rising[0, 10, 2] == 1.5
    assert torch.equal(rising[..., [1, 4]], -falling[..., [1, 4]])


def test_normed_network_does_not_see_how_large_everything_is():
    features = torch.randn(2, 30, NUM_FEATURES, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    normed, plain = NormedBoundaryNetwork(8), ConvolutionalBoundaryNetwork(8)
    for network in (normed, plain):
        torch.nn.init.zeros_(network.near.bias)
        torch.nn.init.zeros_(network.far.bias)
    hidden = normed.hidden(features)
    assert hidden.shape == (2, 30, 8)
    torch.testing.assert_close(normed.hidden(10 * features), hidden, rtol=0, atol=5e-3)
    assert not torch.allclose(plain.hidden(10 * features), plain.hidden(features), atol=1e-3)
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(2, 30), rtol=0, atol=1e-5)


def test_normed_network_treats_rises_and_falls_alike():
    torch.manual_seed(0)
    series, sites = torch.randn(3, 64).cumsum(1), candidate_sites((0, 16, 32, 48), 64, None)
    network = NormedBoundaryNetwork(8)
    hidden = network.hidden(site_features(series, None, sites))
    mirrored = network.hidden(site_features(-series, None, sites))
    torch.testing.assert_close(mirrored, hidden, rtol=0, atol=1e-5)
    plain = ConvolutionalBoundaryNetwork(8)
    hidden, mirrored = (plain.hidden(site_features(s, None, sites)) for s in (series, -series))
    assert (mirrored - hidden).abs().max() > 0.1
