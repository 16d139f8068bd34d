from __future__ import annotations

import itertools
import math

import pytest

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.training.schedules import SCHEDULES, make_schedule


@pytest.mark.parametrize(
    ("name", "progress", "epochs", "expected"),
    [
        ("constant", 0, 0, 1),
        ("constant", 0.3, 9, 1),
        ("constant", 1, 99, 1),
        ("cosine", 0, 0, 1),
        ("cosine", 0.3, 3, (1 + math.cos(0.3 * math.pi)) / 2),
        ("cosine", 0.5, 5, 0.5),
        ("cosine", 1, 9, 0),
        ("one_cycle", 0, 0, 0.04),
        ("one_cycle", 0.15, 0, 0.52),
        ("one_cycle", 0.3, 0, 1),
        ("one_cycle", 0.65, 0, 0.50005),
        ("one_cycle", 1, 9, 1e-4),
        ("patchtst", 0, 0, 1),
        ("patchtst", 0.3, 3.99, 1),
        ("patchtst", 0.3, 4, 0.9),
        ("patchtst", 0.3, 5.5, 0.81),
        ("patchtst", 1, 13, 0.9**10),
    ],
)
def test_values(name, progress, epochs, expected):
    assert make_schedule(name)(progress, epochs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_stay_in_range_and_move_smoothly(name):
    schedule = make_schedule(name)
    values = [schedule(k / 1000, k / 50) for k in range(1001)]
    assert all(0 <= v <= 1 for v in values)
    jumps = max(abs(a - b) for a, b in itertools.pairwise(values))
    assert jumps < (0.11 if name == "patchtst" else 0.006)
    assert max(values) == pytest.approx(1)


def test_unknown_names_are_refused():
    with pytest.raises(InvalidParameterError, match="Unknown schedule 'cosin'.*mean 'cosine'"):
        make_schedule("cosin")
