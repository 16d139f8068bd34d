"""The registry: every patcher and every backbone by name, one line each.

A component is imported when it is first used. A `Registry` holds only names, so that the command
line can list them without importing torch. The name of a component is the name of its file. To add
one, write the file and add the line; CONTRIBUTING.md lists the further steps.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from adaptivepatch.errors import InvalidParameterError, shortened, suggest


class Registry(MutableMapping[str, type[Any]]):
    """A mapping from names to classes.

    Parameters
    ----------
    kind : str
        Kind of the components in error messages, such as "patcher".
    package : str
        Package that holds one file per component.
    classes : mapping of str to str
        Names of the classes by component. The name of a component is the name of its file.

    Examples
    --------
    >>> classes = {"patchtst": "PatchTSTBackbone"}
    >>> backbones = Registry("backbone", "adaptivepatch.backbones", classes)
    >>> list(backbones), backbones["patchtst"].__name__
    (['patchtst'], 'PatchTSTBackbone')
    """

    def __init__(self, kind: str, package: str, classes: Mapping[str, str]) -> None:
        self.kind = kind
        self.package = package
        self._class_names = dict(classes)
        self._classes: dict[str, type[Any]] = {}

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._classes:
            class_name = self._class_names[name]
            module = importlib.import_module(f"{self.package}.{name}")
            self._classes[name] = getattr(module, class_name)
        return self._classes[name]

    def __setitem__(self, name: str, cls: type[Any]) -> None:
        self._class_names[name] = cls.__name__
        self._classes[name] = cls

    def __delitem__(self, name: str) -> None:
        del self._class_names[name]
        self._classes.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._class_names)

    def __len__(self) -> int:
        return len(self._class_names)

    def __contains__(self, name: object) -> bool:
        return name in self._class_names

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {list(self)})"

    def find(self, name: str) -> type[Any]:
        """Return the class that is registered under a name.

        Raises
        ------
        InvalidParameterError
            If no component has that name.
        """
        if name not in self:
            raise InvalidParameterError(
                f"Unknown {self.kind} {shortened(repr(name))}. Available: {sorted(self)}."
                f"{suggest(name, self)}",
                parameter=self.kind,
            )
        return self[name]

    def modules(self) -> dict[str, str]:
        """Return the module of every class, by the name of the class."""
        return {cls: f"{self.package}.{name}" for name, cls in self._class_names.items()}

    def attribute(self, name: str) -> type[Any]:
        """Return a class by its own name, for the ``__getattr__`` of the package.

        Raises
        ------
        AttributeError
            If no registered class has that name.
        """
        for key, cls in self._class_names.items():
            if cls == name:
                return self[key]
        raise AttributeError(f"module {self.package!r} has no attribute {name!r}")


PATCHERS = Registry(
    "patcher",
    "adaptivepatch.patchers",
    {
        "fixed": "FixedPatcher",
        "random": "RandomPatcher",
        "recency": "RecencyPatcher",
        "periodic": "PeriodicPatcher",
        "deviation": "DeviationPatcher",
        "entropy": "EntropyPatcher",
        "change_point": "ChangePointPatcher",
        "reinpatch": "ReinPatcher",
        "score_function": "ScoreFunctionPatcher",
        "dynamic_chunking": "DynamicChunkingPatcher",
        "dynamic_pooling": "DynamicPoolingPatcher",
        "hierarchical": "HierarchicalPatcher",
    },
)

BACKBONES = Registry(
    "backbone",
    "adaptivepatch.backbones",
    {
        "patchtst": "PatchTSTBackbone",
        "transformer": "TransformerBackbone",
    },
)

# Backbones that are combined from others, so that a name alone does not determine them.
COMBINATIONS = Registry(
    "backbone",
    "adaptivepatch.backbones",
    {
        "multi_level": "MultiLevelBackbone",
        "dynamic_chunking": "DynamicChunkingBackbone",
    },
)

# Classes of settings that components take as parameters.
SETTINGS = Registry(
    "class of settings",
    "adaptivepatch.nn.policies",
    {
        "group_policy_gradient": "GroupPolicyGradient",
    },
)


def backbone_class(name: str) -> type[Any]:
    """Return the class of a backbone or of a combination of backbones.

    Raises
    ------
    InvalidParameterError
        If no backbone has that name.
    """
    return COMBINATIONS[name] if name in COMBINATIONS else BACKBONES.find(name)
