"""Backbones, the networks that read tokens: one file each, listed by name in ``registry.py``."""

from __future__ import annotations

from typing import Any

from adaptivepatch.registry import BACKBONES, COMBINATIONS


def __getattr__(name: str) -> Any:
    """Import the class of a backbone on first access (PEP 562)."""
    registry = COMBINATIONS if name in COMBINATIONS.modules() else BACKBONES
    return registry.attribute(name)
