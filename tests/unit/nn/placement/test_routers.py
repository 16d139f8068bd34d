import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from adaptivepatch.nn.placement.routers import CalibratedRouter, CosineRouter, EvenRouter
from adaptivepatch.nn.tokens.chunks import (
    Dechunk,
    PooledEmbedding,
    SelectEmbedding,
    confidence_gate,
)
from adaptivepatch.nn.tokens.patch_embedding import ResampleEmbedding
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask
from tests.unit.nn.layers.test_scan import loop

ROWS, STEPS, W, D = 4, 12, 3, 5


def vectors(num_steps=STEPS, width=W, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, num_steps, width, generator=generator, dtype=torch.float64)


def test_cosine_router_is_its_formula():
    router, points = CosineRouter(W).double(), vectors()
    with torch.no_grad():
        router.query.weight.add_(torch.randn(W, W, generator=torch.Generator().manual_seed(1)))
    prob = router.boundary_prob(router.distance(points))
    assert prob[:, 0].tolist() == [1.0] * ROWS
    for n in range(ROWS):
        for t in range(1, STEPS):
            left, right = router.query(points[n, t - 1]), router.key(points[n, t])
            cosine = float((left @ right / (left.norm() * right.norm())).detach())
            assert math.isclose(float(prob[n, t].detach()), (1 - cosine) / 2, rel_tol=1e-9)


def test_cosine_router_begins_as_the_identity_and_vanishes_on_smooth_rows():
    router = CosineRouter(W)
    largest = []
    for step in (1e-1, 1e-2, 1e-3):
        points = vectors()[:, :1].float() + step * vectors(seed=2).float().cumsum(1)
        prob = router.boundary_prob(router.distance(points))
        gradient = torch.autograd.grad(prob[:, 1:].sum(), router.key.weight)[0]
        largest.append((float(prob[:, 1:].detach().max()), float(gradient.abs().max())))
    for (before, slope_before), (after, slope_after) in itertools.pairwise(largest):
        assert after < before / 30  # of second order
        assert slope_after < slope_before / 8


def test_a_vector_without_direction_is_no_boundary():
    router, points = CosineRouter(W), torch.zeros(1, 4, W)
    assert (router.boundary_prob(router.distance(points))[:, 1:] <= 0.5).all()


@torch.no_grad()
def test_calibrated_router_is_its_formula():
    router, points = CalibratedRouter(W).double(), vectors()
    for number, weight in enumerate((router.query.weight, router.key.weight, router.threshold)):
        change = torch.Generator().manual_seed(number)
        weight.add_(torch.randn(weight.shape, generator=change))
    found = router.boundary_prob(router.distance(points))
    for n in range(ROWS):
        normed = []
        for t in range(STEPS):
            mixed = router.now(points[n, t]) + router.before(points[n, max(t - 1, 0)])
            centred = mixed - mixed.mean()
            normed.append(centred / (centred.square().mean() + 1e-5).sqrt())
        apart = []
        for left, right in itertools.pairwise(normed):
            left, right = router.query(left), router.key(right)
            apart.append(float((left / left.norm() - right / right.norm()).norm()))
        mean = sum(apart) / len(apart)
        deviation = sum(abs(value - mean) for value in apart) / len(apart)
        for t, value in enumerate(apart, start=1):
            score = (value - mean) / (deviation + 1e-5)
            aim = 1 / (1 + math.exp(-float(router.slope) * (score - float(router.threshold))))
            assert math.isclose(float(found[n, t]), aim, rel_tol=1e-8)


def test_equal_neighbours_have_no_distance_and_a_finite_gradient():
    router, points = CalibratedRouter(W).double(), vectors()
    points[:, 3:7] = points[:, 2:3]
    points[0] = 1.0
    distance = router.distance(points.requires_grad_())
    assert float(distance[:, 4].detach().abs().max()) == 0
    assert float(distance[0].detach().abs().max()) == 0
    prob = router.boundary_prob(distance)
    assert torch.equal(prob[0, 1:], prob[0, 1].expand(STEPS - 1))
    for gradient in torch.autograd.grad(prob.sum(), [points, router.key.weight]):
        assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_calibrated_router_starts_at_the_rate_however_smooth_the_rows_are(share, scale):
    router = CalibratedRouter(W).double()
    points = vectors(400, seed=3)[:, :1] + scale * vectors(400, seed=4).cumsum(1) / 10
    distance = router.distance(points)
    router.calibrate(distance, None, share)
    found = (router.boundary_prob(distance)[:, 1:] > 0.5).double().mean()
    assert float(found) == pytest.approx(share, abs=2 / distance.numel())
    weight = torch.randn(ROWS, 400, generator=torch.Generator().manual_seed(5)).double()
    value = (router.boundary_prob(distance) * weight).mean()
    gradient = torch.autograd.grad(value, router.key.weight)[0]
    assert float(gradient.abs().max()) > 1e-4


def test_calibrated_router_follows_by_the_weight():
    router, points = CalibratedRouter(W).double(), vectors(50)
    distance = router.distance(points)
    router.calibrate(distance, None, 0.1)
    aim = float(router.threshold)
    router.threshold.fill_(-1.0)
    router.calibrate(distance, None, 0.1, weight=0.25)
    assert float(router.threshold) == pytest.approx(-1 + 0.25 * (aim + 1))


@pytest.mark.parametrize("make", [CosineRouter, CalibratedRouter])
def test_padding_changes_nothing_and_starts_nothing(make):
    router, points = make(W).double(), vectors()
    length = torch.tensor([12, 7, 3, 1])
    counted = torch.arange(STEPS) < length[:, None]
    changed = torch.where(counted[..., None], points, 50 * vectors(seed=9))
    for wanted in (0.2, 0.5):
        router.calibrate(router.distance(points), counted, wanted)
        threshold = getattr(router, "threshold", torch.zeros(())).clone()
        router.calibrate(router.distance(changed), counted, wanted)
        assert torch.equal(threshold, getattr(router, "threshold", torch.zeros(())))
    prob = router.boundary_prob(router.distance(points), counted)
    again = router.boundary_prob(router.distance(changed), counted)
    torch.testing.assert_close(prob, again, rtol=0, atol=1e-12)
    assert (prob[~counted] == 0).all()


@pytest.mark.parametrize(
    ("num_steps", "chunks"), [(12, 3), (12, 12), (337, 7), (2048, 128), (5, 1)]
)
def test_even_router_starts_as_fixed_patches_do(num_steps, chunks):
    router, points = EvenRouter(W), vectors(num_steps).float()
    distance = router.distance(points)
    assert distance.shape == (ROWS, num_steps - 1)
    router.calibrate(distance, None, (chunks - 1) / (num_steps - 1))
    prob = router.to(torch.float32).boundary_prob(distance)
    even = Segmentation.even(num_steps, chunks, ROWS).boundary_mask
    assert torch.equal(prob, even.float())
    assert list(router.parameters()) == []


def test_a_slope_below_zero_turns_no_decision_round():
    router = CalibratedRouter(W).double()
    distance = router.distance(vectors(400))
    router.calibrate(distance, None, 0.1)
    prob = router.boundary_prob(distance)
    router.slope.data.neg_()
    assert torch.equal(router.boundary_prob(distance), prob)


@pytest.mark.parametrize("make", [CosineRouter, CalibratedRouter])
def test_distances_keep_their_digits_in_lower_precision(make):
    router = make(W)
    points = (1 + 1e-3 * vectors().cumsum(1)).float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = router.distance(points)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, router.distance(points).detach(), rtol=0, atol=0)


def test_where_no_chunk_may_start_the_first_still_does():
    counted = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    router = CalibratedRouter(W).double()
    prob = router.boundary_prob(router.distance(vectors()), counted, spacing=2)
    assert prob.tolist() == [[1.0] + [0.0] * (STEPS - 1)] * ROWS


@pytest.mark.parametrize("spacing", [1, 2, 5])
@pytest.mark.parametrize("gaps", [False, True])
def test_spaced_boundaries_keep_their_distance_and_the_rate(spacing, gaps):
    router = CalibratedRouter(W)
    points = vectors(400).float().cumsum(1)
    generator = torch.Generator().manual_seed(3)
    counted = torch.rand(ROWS, 400, generator=generator) < 0.8 if gaps else None
    distance = router.distance(points)
    router.calibrate(distance, counted, 0.05, spacing=spacing)
    prob = router.boundary_prob(distance, counted, spacing)
    starts = prob > 0.5
    for row in starts:
        found = row.nonzero()[:, 0].tolist()
        assert min(b - a for a, b in itertools.pairwise(found)) > spacing
    share = starts[:, 1:].sum() / (
        starts[:, 1:].numel() if counted is None else counted[:, 1:].sum()
    )
    assert math.isclose(float(share), 0.05, abs_tol=0.003)
    # Those too close to a larger one keep their order, and a thousandth of their probability.
    plain = router.boundary_prob(distance, counted)
    assert ((prob == plain) | torch.isclose(prob, 1e-3 * plain)).all()
    assert (prob < plain).any()


def test_constant_rows_have_no_boundary():
    router, points = CalibratedRouter(W), vectors(30).float()
    router.calibrate(router.distance(points), None, 0.1)
    constant = points[:, :1].expand(-1, 30, -1)
    assert (router.boundary_prob(router.distance(constant))[:, 1:] < 0.5).all()


def test_the_gate_is_one_and_its_gradient_is_of_the_confidence():
    prob = torch.tensor([[0.9, 0.3, 0.7]], requires_grad=True)
    gate = confidence_gate(prob, torch.tensor([[True, False, True]]))
    assert gate.tolist() == [[1.0, 1.0, 1.0]]
    weight = torch.tensor([[2.0, 3.0, 5.0]])
    (gradient,) = torch.autograd.grad((gate * weight).sum(), prob)
    assert gradient.tolist() == [[2.0, -3.0, 5.0]]


def test_selected_vectors_are_those_at_the_starts():
    segmentation, points = Segmentation(random_mask(ROWS, STEPS)), vectors()
    embedding = SelectEmbedding(W, D).double()
    with torch.no_grad():
        embedding.widening.fill_(7.0)
    tokens = embedding(None, segmentation, features=points)
    for n in range(ROWS):
        starts = segmentation.boundary_mask[n].nonzero()[:, 0]
        assert torch.equal(tokens[n, : len(starts), :W], points[n, starts])
    assert (tokens[..., W:] == 7).all()
    assert torch.equal(SelectEmbedding(W, W)(None, segmentation, features=points), tokens[..., :W])
    narrow = SelectEmbedding(W, 2).double()
    found = narrow(None, segmentation, features=points)
    torch.testing.assert_close(found, narrow.narrowing(tokens[..., :W]))


def test_pooled_tokens_are_points_and_vectors_of_the_patch():
    segmentation, points = Segmentation(random_mask(ROWS, STEPS)), vectors()
    series = vectors(width=1)[..., 0]
    plain = ResampleEmbedding(2, D, 4).double()
    embedding = PooledEmbedding(W, D, plain).double()
    gate = 1 + 0 * series + torch.arange(STEPS)
    tokens = embedding(series, segmentation, features=points, gate=gate)
    resampled = plain(series, segmentation)
    for n in range(ROWS):
        starts = [*segmentation.boundary_mask[n].nonzero()[:, 0].tolist(), STEPS]
        for k, (start, end) in enumerate(itertools.pairwise(starts)):
            vector = points[n, start:end].mean(0) + points[n, start]
            exact = (resampled[n, k] + vector @ embedding.vector_projection.weight.T) * gate[
                n, start
            ]
            torch.testing.assert_close(tokens[n, k], exact, rtol=1e-9, atol=1e-9)


def test_dechunking_is_smoothing_spread_over_the_elements():
    segmentation, elements = Segmentation(random_mask(ROWS, STEPS)), vectors()
    hidden = torch.randn(ROWS, segmentation.capacity, D, dtype=torch.float64)
    prob = torch.rand(ROWS, STEPS, dtype=torch.float64)
    dechunk = Dechunk(W, D).double()
    gate = 1 + torch.rand(ROWS, STEPS, dtype=torch.float64)
    found = dechunk(hidden, segmentation, prob, gate, elements)
    for n in range(ROWS):
        starts = segmentation.boundary_mask[n].nonzero()[:, 0]
        mixed = loop(hidden[n : n + 1, : len(starts), :W], prob[n, starts][None])[0]
        index = segmentation.patch_index[n]
        torch.testing.assert_close(found[n], mixed[index] * gate[n][:, None])  # residual is zero
    narrow = Dechunk(W, 2).double()
    spread = narrow(hidden[..., :2], segmentation, prob, gate, elements)
    wide = narrow.widening(hidden[..., :2])
    torch.testing.assert_close(spread, dechunk(wide, segmentation, prob, gate, elements))
    with torch.no_grad():
        dechunk.residual.weight.copy_(torch.eye(W))
    with_residual = dechunk(hidden, segmentation, prob, gate, elements)
    torch.testing.assert_close(with_residual, found + elements)


def test_dechunking_keeps_single_precision_inside_autocast():
    dechunk = Dechunk(W, W)
    elements = 1000 + vectors().float()
    hidden = torch.zeros(ROWS, 2, W)
    mask = random_mask(ROWS, STEPS, 0.0)
    mask[:, 5] = True
    with torch.no_grad():
        dechunk.residual.weight.copy_(torch.eye(W))
        with torch.autocast("cpu", torch.bfloat16):
            found = dechunk(hidden, Segmentation(mask), torch.ones(ROWS, STEPS), None, elements)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.linear(elements, torch.eye(W)))
