"""Patchers: one file, one strategy. This page is the table of contents and the registry."""

from __future__ import annotations

from adaptivepatch.errors import InvalidParameterError, suggest
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.change_point import ChangePointPatcher
from adaptivepatch.patchers.deviation import DeviationPatcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.dynamic_pooling import DynamicPoolingPatcher
from adaptivepatch.patchers.entropy import EntropyPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.periodic import PeriodicPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher

PATCHERS: dict[str, type[Patcher]] = {
    patcher.name: patcher
    for patcher in (
        FixedPatcher,
        RandomPatcher,
        RecencyPatcher,
        PeriodicPatcher,
        DeviationPatcher,
        EntropyPatcher,
        ChangePointPatcher,
        ReinPatcher,
        ScoreFunctionPatcher,
        DynamicChunkingPatcher,
        DynamicPoolingPatcher,
        HierarchicalPatcher,
    )
}

__all__ = [
    "PATCHERS",
    "ChangePointPatcher",
    "DeviationPatcher",
    "DynamicChunkingPatcher",
    "DynamicPoolingPatcher",
    "EntropyPatcher",
    "FixedPatcher",
    "HierarchicalPatcher",
    "Patcher",
    "PeriodicPatcher",
    "RandomPatcher",
    "RecencyPatcher",
    "ReinPatcher",
    "ScoreFunctionPatcher",
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
