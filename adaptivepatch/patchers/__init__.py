"""Patchers: one file, one strategy. This page is the table of contents and the registry."""

from __future__ import annotations

from adaptivepatch.errors import InvalidParameterError, suggest
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher

PATCHERS: dict[str, type[Patcher]] = {
    patcher.name: patcher
    for patcher in (
        FixedPatcher,
        RandomPatcher,
        RecencyPatcher,
        ReinPatcher,
        HierarchicalPatcher,
    )
}

__all__ = [
    "PATCHERS",
    "FixedPatcher",
    "HierarchicalPatcher",
    "Patcher",
    "RandomPatcher",
    "RecencyPatcher",
    "ReinPatcher",
    "patcher_class",
]


def patcher_class(name: str) -> type[Patcher]:
    """Return the patcher class registered under a name.

    Raises
    ------
    InvalidParameterError
        If no patcher has that name.
    """
    if name not in PATCHERS:
        raise InvalidParameterError(
            f"Unknown patcher {name!r}. Available: {sorted(PATCHERS)}.{suggest(name, PATCHERS)}"
        )
    return PATCHERS[name]
