import pytest
import torch

from adaptivepatch.nn.score_rules import spaced_maxima


@pytest.mark.parametrize("spacing", [1, 2, 5, 40])
@pytest.mark.parametrize("gaps", [False, True])
def test_spaced_maxima_are_those_of_a_greedy_loop(spacing, gaps):
    generator = torch.Generator().manual_seed(spacing)
    scores = torch.randn(6, 60, generator=generator).round(decimals=1)  # many are equal
    counted = torch.rand(6, 61, generator=generator) < 0.8 if gaps else None
    found = spaced_maxima(scores, counted, spacing)
    for n in range(6):
        left = {t for t in range(1, 61) if t > spacing and (counted is None or counted[n, t])}
        expected = set()
        while left:
            best = max(left, key=lambda t: (float(scores[n, t - 1]), -t))
            expected.add(best)
            left = {t for t in left if abs(t - best) > spacing}
        assert {t + 1 for t in found[n].nonzero()[:, 0].tolist()} == expected


def test_spaced_maxima_of_constant_rows_are_even():
    found = spaced_maxima(torch.zeros(2, 11), None, 3)
    assert found.nonzero()[:, 1].tolist() == [3, 7] * 2
