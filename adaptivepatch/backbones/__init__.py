"""Backbones: one file for each network that reads tokens; ``registry.py`` lists them by name."""

from __future__ import annotations

from typing import Any

from adaptivepatch.registry import BACKBONES, COMBINATIONS


def __getattr__(name: str) -> Any:
    """Import the class of a backbone when it is first asked for (PEP 562)."""
    registry = COMBINATIONS if name in COMBINATIONS.modules() else BACKBONES
    return registry.attribute(name)
