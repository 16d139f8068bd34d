"""Patchers: one file for each strategy; ``registry.py`` lists them by name."""

from __future__ import annotations

from typing import Any

from adaptivepatch.registry import PATCHERS


def __getattr__(name: str) -> Any:
    """Import the class of a patcher when it is first asked for (PEP 562)."""
    return PATCHERS.attribute(name)
