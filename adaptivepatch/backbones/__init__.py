"""Backbones: one file each. This page is the table of contents and the registry."""

from __future__ import annotations

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.backbones.dynamic_chunking import DynamicChunkingBackbone
from adaptivepatch.backbones.multi_level import MultiLevelBackbone
from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.errors import InvalidParameterError, suggest

BACKBONES: dict[str, type[Backbone]] = {
    backbone.name: backbone for backbone in (PatchTSTBackbone, TransformerBackbone)
}
# Made of other backbones, so that the name alone says little.
COMBINATIONS: dict[str, type[Backbone]] = {
    backbone.name: backbone for backbone in (MultiLevelBackbone, DynamicChunkingBackbone)
}

__all__ = [
    "BACKBONES",
    "COMBINATIONS",
    "Backbone",
    "DynamicChunkingBackbone",
    "MultiLevelBackbone",
    "PatchTSTBackbone",
    "TransformerBackbone",
    "backbone_class",
]


def backbone_class(name: str) -> type[Backbone]:
    """Return the backbone class registered under a name.

    Raises
    ------
    InvalidParameterError
        If no backbone has that name.
    """
    if name in COMBINATIONS:
        return COMBINATIONS[name]
    if name not in BACKBONES:
        raise InvalidParameterError(
            f"Unknown backbone {name!r}. Available: {sorted(BACKBONES)}.{suggest(name, BACKBONES)}"
        )
    return BACKBONES[name]
