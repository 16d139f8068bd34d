"""Fixtures that tests of every layer share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def ltsf_data() -> Path:
    """Folder of the public data sets; skips where this machine has none."""
    folder = os.environ.get("ADAPTIVEPATCH_DATA")
    if not folder:
        pytest.skip("ADAPTIVEPATCH_DATA is not set: it names the folder of the public data sets")
    return Path(folder)
