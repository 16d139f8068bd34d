"""The same settings compute the same numbers as when the file was written."""

from __future__ import annotations

import json

import pytest
import torch

from tests.golden.regenerate import FILE, compute

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def computed():
    return compute()


def test_no_case_was_added_without_regenerating(computed):
    assert list(computed) == list(GOLDEN["cases"])


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_numbers_are_those_on_file(computed, case):
    hint = f"written with torch {GOLDEN['torch']}, this is {torch.__version__}"
    for key, expected in GOLDEN["cases"][case].items():
        # The training loss is summed in float32.
        tolerance = 2e-6 if key == "train_loss" else 1e-6
        assert computed[case][key] == pytest.approx(expected, rel=tolerance, abs=1e-9), hint
