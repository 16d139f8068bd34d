import numpy as np
import pytest
import torch
from scipy import stats

from adaptivepatch.boundaries.measures import agreement, churn, enrichment, ranks
from adaptivepatch.nn.placement.losses import alignment_loss
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask

ROWS, STEPS = 6, 40


def surprise(seed=0):
    return torch.randn(ROWS, STEPS, generator=torch.Generator().manual_seed(seed)).square()


@pytest.mark.parametrize("num_steps", [2, 3, 17, 40])
def test_enrichment_and_its_null_are_those_of_all_rotations(num_steps):
    mask = random_mask(ROWS, num_steps, 0.3, seed=num_steps)
    mask[:, -1] = True
    h = surprise()[:, :num_steps]
    found = enrichment(Segmentation(mask), h)
    for n in range(ROWS):
        b, values = mask[n, 1:].numpy(), h[n, 1:].double().numpy()
        null = [values[np.roll(b, s)].mean() / values.mean() for s in range(num_steps - 1)]
        assert len(null) == num_steps - 1
        assert float(found.value[n]) == pytest.approx(null[0], abs=1e-12)
        assert float(found.null_mean[n]) == pytest.approx(np.mean(null), abs=1e-12)
        assert float(found.null_std[n]) == pytest.approx(np.std(null), abs=1e-9)
        assert np.mean(null) == pytest.approx(1)


def test_boundaries_at_surprises_are_enriched_and_others_are_not():
    generator = torch.Generator().manual_seed(1)
    h = torch.rand(200, 60, generator=generator) ** 4
    at_surprises = Segmentation.from_scores(h, 8)
    anywhere = Segmentation.from_scores(torch.rand(200, 60, generator=generator), 8)
    assert float(enrichment(at_surprises, h).value.min()) > 2
    assert enrichment(at_surprises, h).z_of_mean > 50
    assert abs(enrichment(anywhere, h).z_of_mean) < 3
    assert float(enrichment(anywhere, h).value.mean()) == pytest.approx(1, abs=0.1)


def test_a_row_without_boundaries_or_surprise_has_no_enrichment():
    mask = torch.zeros(2, 9, dtype=torch.bool)
    mask[:, 0] = mask[1, 4] = True
    h = torch.ones(2, 9)
    found = enrichment(Segmentation(mask), h)
    assert found.value[0].isnan()
    assert float(found.value[1]) == 1
    assert found.z.isnan().all()  # all rotations are equal
    assert np.isnan(found.z_of_mean)


def test_ranks_are_scipys():
    h = surprise()
    h[:, 5] = h[:, 9] = h[:, 20]
    found = ranks(h)
    for n in range(ROWS):
        exact = (stats.rankdata(h[n, 1:].numpy()) - 1) / (STEPS - 2)
        np.testing.assert_allclose(found[n, 1:], exact, atol=1e-12)
    spiky = h.clone()
    spiky[:, 7] = 1e6  # a huge surprise counts as one step
    mask = random_mask(ROWS, STEPS)
    mask[:, 7] = True
    assert float(enrichment(Segmentation(mask), spiky).value.min()) > 2.5
    assert float(enrichment(Segmentation(mask), ranks(spiky)).value.max()) < 2


@pytest.mark.parametrize("slide", [1, 3])
def test_churn_against_sets(slide):
    before, after = random_mask(ROWS, STEPS, seed=1), random_mask(ROWS, STEPS, seed=2)
    before[0] = after[0] = False
    before[:, 0] = after[:, 0] = True
    after[1, : STEPS - slide] = before[1, slide:]  # nothing changes
    after[1, 0] = True
    found = churn(Segmentation(before), Segmentation(after), slide)
    for n in range(ROWS):
        old = {t for t in range(slide + 1, STEPS) if before[n, t]}
        new = {t + slide for t in range(1, STEPS - slide) if after[n, t]}
        exact = 1 - len(old & new) / len(old | new) if old | new else 0
        assert float(found[n]) == pytest.approx(exact)
    assert found[:2].tolist() == [0, 0]


def test_gaps_and_what_follows_them_say_nothing_of_alignment():
    tail, prob = torch.rand(2, ROWS, STEPS, dtype=torch.float64)
    observed = random_mask(ROWS, STEPS, 0.7, seed=4)
    squares = [
        float((1 - tail[n, t] - prob[n, t]) ** 2)
        for n in range(ROWS)
        for t in range(1, STEPS)
        if observed[n, t] and observed[n, t - 1]
    ]
    found = alignment_loss(tail, prob, observed)
    assert float(found) == pytest.approx(np.mean(squares), rel=1e-5)
    assert float(alignment_loss(tail, prob, torch.zeros_like(observed))) == 0


def test_alignment_is_its_formula_and_trains_the_probability_alone():
    tail = torch.rand(ROWS, STEPS, dtype=torch.float64, requires_grad=True)
    prob = torch.rand(ROWS, STEPS, dtype=torch.float64, requires_grad=True)
    loss = alignment_loss(tail, prob)
    exact = np.mean((1 - tail.detach().numpy() - prob.detach().numpy())[:, 1:] ** 2)
    assert float(loss.detach()) == pytest.approx(exact, rel=1e-5)
    loss.backward()
    assert tail.grad is None
    assert (prob.grad[:, 0] == 0).all()
    assert torch.equal(prob.grad[:, 1:].sign(), (prob + tail - 1)[:, 1:].sign())


# ------------------------------------------------------------------------------------- agreement


def reaches(mask, step, tolerance):
    return any(0 < t < len(mask) and mask[t] for t in range(step - tolerance, step + tolerance + 1))


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_agreement_and_its_chance_are_counted_over_all_rotations(tolerance):
    one, other = random_mask(ROWS, STEPS, 0.1, seed=1), random_mask(ROWS, STEPS, 0.2, seed=2)
    found = agreement(Segmentation(one), Segmentation(other), tolerance)
    for n in range(ROWS):
        shares, chances = [], []
        for a, b in ((one[n].numpy(), other[n].numpy()), (other[n].numpy(), one[n].numpy())):
            met = []
            for turn in range(STEPS - 1):
                starts = 1 + np.flatnonzero(np.roll(a[1:], turn))
                met.append(np.mean([reaches(b, step, tolerance) for step in starts]))
            shares.append(met[0])
            chances.append(np.mean(met))
        assert float(found.value[n]) == pytest.approx(np.mean(shares))
        assert float(found.chance[n]) == pytest.approx(np.mean(chances))


def test_the_same_boundaries_agree_and_others_do_as_by_chance():
    one, other = (Segmentation(random_mask(500, 300, 0.1, seed=s)) for s in (1, 2))
    assert agreement(one, one).beyond_chance == pytest.approx(1)
    assert abs(agreement(one, other, 1).beyond_chance) < 0.02
    moved = one.boundary_mask.roll(1, 1)
    moved[:, 0] = True
    near = agreement(one, Segmentation(moved), 1).beyond_chance
    assert near > 0.95 > 0.1 > agreement(one, Segmentation(moved)).beyond_chance


def test_a_row_without_boundaries_says_nothing_of_agreement():
    one, other = random_mask(3, STEPS, 0.2, seed=1), random_mask(3, STEPS, 0.2, seed=2)
    one[1, 1:] = False
    found = agreement(Segmentation(one), Segmentation(other), 1)
    assert found.value.isnan().tolist() == [False, True, False]
    without = agreement(Segmentation(one[[0, 2]]), Segmentation(other[[0, 2]]), 1)
    assert found.beyond_chance == pytest.approx(without.beyond_chance)
    every = Segmentation(torch.ones(2, 5, dtype=torch.bool))
    assert np.isnan(agreement(every, every).beyond_chance)  # no room beyond chance
