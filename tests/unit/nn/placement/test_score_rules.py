import pytest
import torch

from adaptivepatch.nn.placement.score_rules import row_scale, spaced_maxima


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


def test_row_scale_lies_halfway_between_mean_and_quantile():
    scores = torch.tensor([[0.0, 1.0, 2.0, 3.0, 14.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
    offset, scale = row_scale(scores, 0.2)
    assert offset.tolist() == [[(4 + 3) / 2], [5.0]]
    torch.testing.assert_close(scale[0, 0], scores[0].std(correction=0))
    assert 0 < float(scale[1]) < 1e-4  # finite where nothing differs
    assert [part.shape for part in row_scale(scores[:, :0], 0.2)] == [(2, 1), (2, 1)]
