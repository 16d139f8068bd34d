"""Patchers, the rules that cut look-backs: one file each, listed by name in ``registry.py``."""

from __future__ import annotations

from typing import Any

from adaptivepatch.registry import PATCHERS


def __getattr__(name: str) -> Any:
    """Import the class of a patcher on first access (PEP 562)."""
    return PATCHERS.attribute(name)
