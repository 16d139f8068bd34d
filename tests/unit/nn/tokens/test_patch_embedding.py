from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.tokens.patch_embedding import (
    AlignedEmbedding,
    CombinedEmbedding,
    ResampleEmbedding,
    resample,
)
from adaptivepatch.segmentation import Segmentation
from tests import oracles
from tests.builders import random_mask, segmentations


@settings(max_examples=150, deadline=None)
@given(segmentations(), st.integers(1, 9), st.integers(0, 7), st.integers(0, 2**31))
def test_resample_equals_a_loop_of_area_means(segmentation, num_values, halo, seed):
    s = segmentation
    generator = torch.Generator().manual_seed(seed)
    series = 100 * torch.randn(s.num_rows, s.num_steps, generator=generator).double()
    found = resample(series, s, num_values, halo)
    assert found.shape == (s.num_rows, s.capacity, num_values)
    assert bool(found.isfinite().all())
    expected = oracles.resample(series.numpy(), s.boundary_mask.numpy(), num_values, halo)
    for n, row in enumerate(expected):
        np.testing.assert_allclose(found[n, : len(row)], row, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_resample_in_float32_is_close_on_long_rows(share):
    mask = random_mask(2, 2048, share)
    series = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0)) + 1000
    found = resample(series, Segmentation(mask), 16, 3)
    expected = oracles.resample(series.double().numpy(), mask.numpy(), 16, 3)
    for n, row in enumerate(expected):  # relative to the level: rounding of float32 only
        np.testing.assert_allclose(found[n, : len(row)], row, rtol=3e-7)


@pytest.mark.parametrize(("length", "halo"), [(8, 0), (8, 8), (5, 3)])
def test_resample_is_a_plain_gather_at_nominal_length(length, halo):
    segmentation = Segmentation.shared(list(range(0, 40, length)), 40, 3)
    series = torch.randn(3, 40)
    found = resample(series, segmentation, length + halo, halo)
    padded = torch.cat([series, series[:, -1:].expand(-1, halo)], 1)
    assert torch.equal(found, padded.unfold(1, length + halo, length))


@pytest.mark.parametrize(("num_values", "halo"), [(5, 2), (1, 0), (1, 3)])
def test_resample_of_shared_equals_unshared(num_values, halo):
    mask = random_mask(1, 30)
    series = torch.randn(4, 30, dtype=torch.float64)
    shared = resample(series, Segmentation(mask.expand(4, -1)), num_values, halo)
    alone = resample(series, Segmentation(mask.repeat(4, 1)), num_values, halo)
    assert torch.equal(shared, alone)


@pytest.mark.parametrize("num_values", [1, 5])
def test_resample_of_a_row_does_not_depend_on_its_neighbours(num_values):
    masks = torch.cat([random_mask(5, 200, share, seed=3) for share in (0.01, 0.1, 0.5)])
    series = torch.randn(15, 200, generator=torch.Generator().manual_seed(0))
    capacity = int(masks.sum(1).max())
    together = resample(series, Segmentation(masks, capacity=capacity), num_values)
    for row in range(15):
        alone = Segmentation(masks[row : row + 1], capacity=capacity)
        found = resample(series[row : row + 1], alone, num_values)
        assert torch.equal(found[0], together[row])


@settings(max_examples=60, deadline=None)
@given(segmentations(), st.integers(1, 6))
def test_resample_keeps_the_area(segmentation, num_values):
    s = segmentation
    series = torch.randn(s.num_rows, s.num_steps, dtype=torch.float64)
    area = resample(series, s, num_values).mean(2) * s.patch_lengths
    np.testing.assert_allclose(area.sum(1), series.sum(1), atol=1e-11)


def test_resample_has_exact_gradients():
    segmentation = Segmentation(random_mask(2, 11), capacity=11)
    series = torch.randn(2, 11, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, segmentation, 3, 2), series)


def embedding(num_values=4, nominal=4, width=6):
    torch.manual_seed(0)
    module = ResampleEmbedding(num_values, width, nominal).double()
    with torch.no_grad():
        module.length_weight.normal_()
        module.missing_token.normal_()
    return module


def test_embedding_is_the_projection_at_nominal_length():
    module, series = embedding(), torch.randn(3, 12, dtype=torch.float64)
    tokens = module(series, Segmentation.even(12, 3, 3))
    assert torch.equal(tokens, module.projection(series.view(3, 3, 4)))


def test_embedding_adds_the_log_length():
    module, series = embedding(), torch.randn(1, 12, dtype=torch.float64)
    segmentation = Segmentation.from_lengths(torch.tensor([[1, 8, 3]]))
    tokens = module(series, segmentation)
    plain = module.projection(resample(series, segmentation, 4))
    for p, length in enumerate((1, 8, 3)):
        expected = plain[0, p] + np.log(length / 4) * module.length_weight
        np.testing.assert_allclose(tokens[0, p].detach(), expected.detach(), atol=1e-14)


def test_embedding_marks_patches_without_an_observed_step():
    module, series = embedding(), torch.randn(2, 12, dtype=torch.float64)
    segmentation = Segmentation.even(12, 3, 2)
    observed = torch.ones(2, 12, dtype=torch.bool)
    observed[0, 4:8] = False  # all of patch 1
    observed[1, 5:8] = False  # all but one step of patch 1
    tokens = module(series, segmentation, observed=observed)
    full = module(series, segmentation)
    assert torch.equal(tokens[0, 1], module.missing_token)
    assert torch.equal(tokens[0, ::2], full[0, ::2])
    assert torch.equal(tokens[1], full[1])


@pytest.mark.parametrize("make", [lambda: embedding(), lambda: aligned(), lambda: combined()])
def test_embedding_multiplies_by_the_gate_at_the_start(make):
    module, series = make(), torch.randn(2, 12, dtype=torch.float64)
    segmentation = Segmentation(random_mask(2, 12), capacity=12)
    gate = torch.rand(2, 12, dtype=torch.float64, requires_grad=True)
    tokens = module(series, segmentation, gate=gate)
    plain = module(series, segmentation)
    for n, p in segmentation.patch_mask.nonzero().tolist():
        start = int(segmentation.patch_starts[n, p])
        assert torch.equal(tokens[n, p], plain[n, p] * gate[n, start])
    (tokens * segmentation.patch_mask[..., None]).sum().backward()
    used = segmentation.boundary_mask
    assert bool((gate.grad[used] != 0).all())
    assert bool((gate.grad[~used] == 0).all())


# ------------------------------------------------------------------------------------- by the time


def aligned(num_steps=12, d_model=5):
    module = AlignedEmbedding(num_steps, d_model, 4).double()
    with torch.no_grad():
        module.presence.normal_()
        module.bias.normal_()
    return module


@settings(max_examples=60, deadline=None)
@given(segmentations(), st.integers(0, 2**31), st.booleans())
def test_aligned_tokens_are_sums_of_what_each_observed_step_adds(segmentation, seed, gaps):
    s, module = segmentation, aligned(segmentation.num_steps)
    generator = torch.Generator().manual_seed(seed)
    series = torch.randn(s.num_rows, s.num_steps, generator=generator).double()
    observed = torch.rand(s.num_rows, s.num_steps, generator=generator) < (0.6 if gaps else 2.0)
    tokens = module(series, s, observed=observed if gaps else None)
    assert tokens.shape == (s.num_rows, s.capacity, 5)
    for n in range(s.num_rows):
        expected = module.bias.detach().repeat(s.capacity, 1)
        for t, k in enumerate(s.patch_index[n].tolist()):
            if observed[n, t]:
                expected[k] += (series[n, t] * module.weight[t] + module.presence[t]).detach()
        torch.testing.assert_close(tokens[n].detach(), expected, rtol=1e-12, atol=1e-12)


def test_aligned_values_in_a_gap_have_no_influence():
    module, series = aligned(), torch.randn(2, 12, dtype=torch.float64)
    segmentation = Segmentation(random_mask(2, 12))
    observed = torch.rand(2, 12, generator=torch.Generator().manual_seed(1)) < 0.5
    other = torch.where(observed, series, 1e6)
    tokens = module(series, segmentation, observed=observed)
    assert torch.equal(module(other, segmentation, observed=observed), tokens)


def test_aligned_sum_of_tokens_does_not_depend_on_where_patches_begin():
    """What a head that adds tokens sees is a linear map of the look-back, however it is cut."""
    module, series = aligned(), torch.randn(1, 12, dtype=torch.float64)
    sums = [
        (module(series, Segmentation(mask)) - module.bias).sum(1)
        for mask in (random_mask(1, 12, share, seed=2) for share in (0.0, 0.2, 0.8))
    ]
    torch.testing.assert_close(sums[0], sums[1])
    torch.testing.assert_close(sums[0], sums[2])


def test_aligned_gradients_are_exact():
    module = aligned()
    series = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    segmentation = Segmentation(random_mask(2, 12), capacity=12)

    def tokens(series, weight, presence, bias):
        parameters = {"weight": weight, "presence": presence, "bias": bias}
        return torch.func.functional_call(module, parameters, (series, segmentation))

    assert torch.autograd.gradcheck(tokens, (series, *module.parameters()))


def test_aligned_rows_do_not_depend_on_their_neighbours():
    masks = torch.cat([random_mask(5, 200, share, seed=3) for share in (0.01, 0.1, 0.5)])
    series = torch.randn(15, 200, generator=torch.Generator().manual_seed(0))
    module = AlignedEmbedding(200, 16, 10)
    whole = module(series, Segmentation(masks))
    for n in range(15):
        alone = module(series[n : n + 1], Segmentation(masks[n : n + 1]))[0]
        assert torch.equal(whole[n, : len(alone)], alone)
    shared = Segmentation(masks[:1].expand(15, -1))
    assert torch.equal(
        module(series, shared), module(series, Segmentation(masks[:1].repeat(15, 1)))
    )


# ----------------------------------------------------------------------------------------- both


def combined(num_steps=12):
    return CombinedEmbedding(embedding(), aligned(num_steps, d_model=6))


@pytest.mark.parametrize("halo", [0, 3])
def test_combined_tokens_are_the_sum_of_both(halo):
    module, series = combined(), torch.randn(3, 12, dtype=torch.float64)
    segmentation = Segmentation(random_mask(3, 12), capacity=12)
    observed = torch.rand(3, 12, generator=torch.Generator().manual_seed(1)) < 0.7
    tokens = module(series, segmentation, halo=halo, observed=observed)
    resampled = module.resampled(series, segmentation, halo=halo, observed=observed)
    by_time = module.aligned(series, segmentation, observed=observed)
    assert torch.equal(tokens, resampled + by_time)
    assert not torch.equal(tokens, resampled)
