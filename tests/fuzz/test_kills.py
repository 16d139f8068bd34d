"""A process that is killed while it saves leaves the old thing, the new one, or a refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


MANY = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("fit", 2),
        pytest.param("fit", 20, marks=MANY),
        pytest.param("forecaster", 20, marks=MANY),
        pytest.param("patcher", 20, marks=MANY),
    ],
)
def test_a_killed_save_is_never_a_mixture(kind, kills, tmp_path):
    root = str(WORKER.parents[2])
    done = subprocess.run(
        [sys.executable, str(WORKER), kind, str(kills), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert len(outcomes) == kills
    assert set(outcomes) <= {"old", "new", "refused"}
