"""Policies over budgeted sets of starts against brute-force enumeration."""

from __future__ import annotations

from itertools import combinations, pairwise, product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.policies.conditional_bernoulli import ConditionalBernoulli
from adaptivepatch.nn.policies.segmental import Segmental
from adaptivepatch.nn.policies.subsets import CappedBernoulli, Stratified

ROWS = 3


def some_logits(sites: int, scale: float = 3.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(ROWS, sites, dtype=torch.float64, generator=generator)


def sets_of(sites: int, sizes: range | list[int]) -> list[tuple[int, ...]]:
    return [chosen for size in sizes for chosen in combinations(range(sites), size)]


def as_masks(sets: list[tuple[int, ...]], sites: int) -> Tensor:
    masks = torch.zeros(len(sets), sites, dtype=torch.bool)
    for mask, chosen in zip(masks, sets, strict=True):
        mask[list(chosen)] = True
    return masks


def paths(positions: list[int], num_steps: int, sizes: list[int], limits: tuple[int, int]):
    found = []
    for chosen in sets_of(len(positions), [size - 1 for size in sizes]):
        ends = [0, *(positions[i] for i in chosen), num_steps]
        lengths = [b - a for a, b in pairwise(ends)]
        if all(limits[0] <= length <= limits[1] for length in lengths):
            found.append(chosen)
    return found


class Case(NamedTuple):
    """A policy as a function of logits, its support, and how many sites there are."""

    make: object
    support: list[tuple[int, ...]]
    sites: int


EVERY = list(range(1, 10))  # each step of a look-back of 10
UNEVEN = [1, 2, 3, 5, 6, 8, 9]  # of a look-back of 11


def cases():
    for k in (0, 1, 3, 7):
        yield (
            f"conditional-{k}",
            Case(lambda x, k=k: ConditionalBernoulli(x, k), sets_of(7, [k]), 7),
        )
        yield (
            f"conditional-at-most-{k}",
            Case(lambda x, k=k: ConditionalBernoulli(x, k, True), sets_of(7, range(k + 1)), 7),
        )
    for positions, steps in ((EVERY, 10), (UNEVEN, 11)):
        for k, limits in product((1, 3, 4), ((1, 11), (2, 5), (3, 11), (1, 4))):
            for at_most in (False, True):
                sizes = list(range(1, k + 1)) if at_most else [k]
                support = paths(positions, steps, sizes, limits)
                if support:
                    yield (
                        f"segmental-{steps}-{k}-{limits[0]}to{limits[1]}-{at_most}",
                        Case(
                            lambda x, a=(positions, steps, k, limits, at_most): Segmental(x, *a),
                            support,
                            len(positions),
                        ),
                    )
    for blocks in ([[0, 1], [2, 3, 4], [5, 6]], [[0, 1], [2, 3], [4, 5]], [[0, 1, 2]]):
        sites = sum(map(len, blocks))
        number = torch.tensor([b for b, block in enumerate(blocks) for _ in block])
        for at_most in (False, True):
            options = [[(i,) for i in block] + ([()] if at_most else []) for block in blocks]
            support = [tuple(sorted(sum(choice, ()))) for choice in product(*options)]
            yield (
                f"stratified-{sites}-{at_most}",
                Case(lambda x, a=(number, at_most): Stratified(x, *a), support, sites),
            )


CASES = dict(cases())
every_case = pytest.mark.parametrize("name", list(CASES))


def log_probs(policy, masks: Tensor) -> Tensor:
    """Log-probabilities (M, N) of M sets, each scored for every row."""
    return policy.log_prob(masks[:, None, :].expand(-1, ROWS, -1))


@every_case
def test_everything_equals_enumeration(name):
    make, support, sites = CASES[name]
    logits = some_logits(sites).requires_grad_()
    policy, masks = make(logits), as_masks(support, sites)
    weight = (masks[:, None] * logits).sum(-1)  # (M, N)
    expected = weight.log_softmax(0)
    found = log_probs(policy, masks)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    prob = expected.detach().exp()
    marginal = (prob[..., None] * masks[:, None]).sum(0)
    torch.testing.assert_close(policy.boundary_prob, marginal, rtol=0, atol=1e-10)
    entropy = -(prob * expected.detach()).sum(0)
    torch.testing.assert_close(policy.entropy(), entropy, rtol=0, atol=1e-10)
    assert torch.equal(policy.mode, masks[weight.argmax(0)])
    coefficient = torch.linspace(-1, 2, len(masks), dtype=torch.float64)[:, None]
    gradients = [
        torch.autograd.grad((coefficient * value.exp()).sum(), logits, retain_graph=True)[0]
        for value in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)


def chi_square_excess(counts: Tensor, expected: Tensor) -> float:
    """How many standard deviations the statistic lies above its mean; rare sets are pooled."""
    rare = expected < 5
    if bool(rare.any()):
        counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
        expected = torch.cat([expected[~rare], expected[rare].sum()[None].clamp(min=1e-9)])
    if len(expected) < 2:
        return 0.0
    statistic = ((counts - expected) ** 2 / expected).sum()
    free = len(expected) - 1
    return float((statistic - free) / (2 * free) ** 0.5)


@every_case
def test_samples_have_the_stated_probabilities(name):
    make, support, sites = CASES[name]
    policy, masks, draws = make(some_logits(sites, 1.5)), as_masks(support, sites), 8000
    drawn = policy.sample(draws, torch.Generator().manual_seed(5))
    assert torch.equal(policy.project(drawn), drawn)
    power = 2 ** torch.arange(sites)
    code, known = (drawn * power).sum(-1), (masks * power).sum(-1)
    prob = log_probs(policy, masks).exp()
    for n in range(ROWS):
        counts = (code[:, n, None] == known).sum(0).double()
        assert int(counts.sum()) == draws, "a sample outside the support"
        assert chi_square_excess(counts, draws * prob[:, n]) < 5


# ------------------------------------------------------------------------------ capped Bernoulli


@pytest.mark.parametrize("cap", [0, 1, 3, 7])
def test_capped_bernoulli_equals_enumeration(cap):
    logits, masks = some_logits(7), as_masks(sets_of(7, range(8)), 7)
    policy = CappedBernoulli(logits, cap)
    prob = logits.sigmoid()
    expected = torch.where(masks[:, None], prob, 1 - prob).log().sum(-1)
    torch.testing.assert_close(log_probs(policy, masks), expected, rtol=0, atol=1e-10)
    entropy = -(expected.exp() * expected).sum(0)
    torch.testing.assert_close(policy.entropy(), entropy, rtol=0, atol=1e-10)
    torch.testing.assert_close(policy.boundary_prob, prob)
    drawn = policy.sample(20_000, torch.Generator().manual_seed(1))
    for n in range(ROWS):
        code = (drawn[:, n] * 2 ** torch.arange(7)).sum(-1)
        counts = torch.stack([(code == c).sum() for c in (masks * 2 ** torch.arange(7)).sum(-1)])
        assert chi_square_excess(counts.double(), 20_000 * expected[:, n].exp()) < 5


def test_the_environment_keeps_the_likeliest_starts():
    logits = torch.tensor([[0.3, 2.0, -1.0, 0.3, 1.0]], dtype=torch.float64)
    policy = CappedBernoulli(logits, 2)
    raw = torch.tensor([[[True, False, True, True, False]], [[True, True, True, True, True]]])
    assert policy.project(raw).int().tolist() == [[[1, 0, 0, 1, 0]], [[0, 1, 0, 0, 1]]]
    few = torch.tensor([[[False, False, True, False, False]]])
    assert torch.equal(policy.project(few), few)
    assert policy.mode.int().tolist() == [[0, 1, 0, 0, 1]]


def test_threshold_is_another_mode():
    logits = torch.tensor([[-2.0, -1.0, 1.0, -3.0], [3.0, 2.0, 1.0, 4.0]])
    assert CappedBernoulli(logits, 2).mode.int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]
    modes = CappedBernoulli(logits, 2, threshold=True).mode
    assert modes.int().tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]


# ------------------------------------------------------------------------------------- segmental


@pytest.mark.parametrize("at_most", [False, True])
def test_log_space_and_linear_space_agree(at_most):
    class InLogSpace(Segmental):
        def _linear(self, *, reverse=False):
            return self._logarithmic(reverse=reverse)

    logits = some_logits(60)
    settings = (list(range(1, 61)), 61, 9, (2, 20), at_most)
    fast, slow = Segmental(logits, *settings), InLogSpace(logits, *settings)
    torch.testing.assert_close(fast.boundary_prob, slow.boundary_prob, rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.entropy(), slow.entropy(), rtol=1e-12, atol=1e-10)


def test_underflow_is_noticed_and_overcome():
    """All weight far from the paths that can end: linear space loses them."""
    logits = torch.full((2, 400), -1000.0, dtype=torch.float64)
    logits[:, :30] = 1000.0
    settings = (list(range(1, 401)), 401, 40, (1, 40))
    policy = Segmental(logits, *settings)
    assert policy._underflows(policy._linear(), policy._linear(reverse=True))
    marginal = policy.boundary_prob
    torch.testing.assert_close(marginal.sum(1), torch.full((2,), 39.0, dtype=torch.float64))
    assert float(marginal[:, :28].min()) > 0.5  # nearly all of the 30 starts worth having
    drawn = policy.sample(50, torch.Generator().manual_seed(0))
    assert bool((drawn.sum(-1) == 39).all())
    assert bool(policy.log_prob(drawn).isfinite().all())


def test_viterbi_equals_the_best_of_all_paths_on_long_windows():
    """Doubling over runs of predecessors against one option after the other."""
    logits = some_logits(120, seed=3)
    positions, steps, patches, limits = list(range(1, 121)), 121, 10, (5, 29)
    best = torch.full((ROWS, steps + 1), -torch.inf, dtype=torch.float64)
    best[:, 0] = 0
    gain = torch.nn.functional.pad(logits, (1, 1))
    for _ in range(patches):
        after = torch.full_like(best, -torch.inf)
        for end in range(steps + 1):
            low, high = max(0, end - limits[1]), end - limits[0]
            if high >= low:
                after[:, end] = best[:, low : high + 1].amax(1) + gain[:, end]
        best = after
    mode = Segmental(logits, positions, steps, patches, limits).mode
    torch.testing.assert_close((mode * logits).sum(1), best[:, -1])


def test_impossible_limits_are_refused():
    logits = torch.zeros(2, 9, dtype=torch.float64)
    policy = Segmental(logits, EVERY, 10, 3, (4, 5))
    message = r"3 patches of 4 to 5 .* 9 candidate sites cannot .* 10 steps\. Lower min_length"
    with pytest.raises(InvalidParameterError, match=message):
        policy.mode  # noqa: B018
    with pytest.raises(InvalidParameterError, match=message):
        policy.sample(2)
