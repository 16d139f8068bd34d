"""Patchers and backbones from names, instances or settings, ready for a network.

The estimators, `compare`, the suites of the benchmark and the command line use this module wherever
they accept a patcher by name. Saved models do not use it: ``model_folder.py`` builds registered and
given classes only, so that a file can never import a module.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sklearn.base import BaseEstimator, clone

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.pretrained import frozen_parts, is_pretrained, load_patcher, weights_digest
from adaptivepatch.registry import PATCHERS, backbone_class

Component = TypeVar("Component", bound=BaseEstimator)

PATCHER_NAMES = "a registered name, a pretrained patcher, or module:Class"


# ------------------------------------------------------------------------------- by name


def patcher_class(name: str) -> type[Patcher]:
    """Return a registered patcher class, or import one that is named ``module:Class``.

    Parameters
    ----------
    name : str
        Name, for example "fixed" or "my_package.patchers:MyPatcher".

    Raises
    ------
    InvalidParameterError
        If there is no such class, or it is not a patcher.
    """
    if ":" not in name:
        return PATCHERS.find(name)
    module, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), class_name)
    except Exception as error:  # the user's module may raise anything
        raise InvalidParameterError(
            f"The name of a patcher must be {PATCHER_NAMES}. {name!r} cannot be imported "
            f"({type(error).__name__}: {error}). Check the name, and run from the folder that "
            "holds the module, or install it.",
            parameter="patcher",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Patcher)):
        raise InvalidParameterError(
            f"module:Class must name a subclass of Patcher. {name!r} is {found!r}. Name the class.",
            parameter="patcher",
        )
    return found


def make_patcher(name: str, **parameters: Any) -> Patcher:
    """Return a new patcher from its name.

    Parameters
    ----------
    name : str
        Registered name, pretrained patcher (name in this package, or folder), or
        ``module:Class``. A pretrained patcher is frozen.
    **parameters
        Arguments of the constructor, or parameters of a pretrained patcher to change.

    Returns
    -------
    Patcher
        The new patcher.
    """
    if is_pretrained(name):
        pretrained: Patcher = load_patcher(name, **parameters)
        return pretrained
    made: Any = patcher_class(name)
    patcher: Patcher = made(**parameters)
    return patcher


# ------------------------------------------------------------------------- by name or instance


def patcher_instance(value: object) -> Patcher:
    """Return the given patcher, or the one that a name stands for.

    Raises
    ------
    TypeError
        If the value is neither a patcher nor a name.
    """
    return _instance(value, "patcher", Patcher, make_patcher)  # type: ignore[type-abstract]


def backbone_instance(value: object) -> Backbone:
    """Return the given backbone, or the one that a name stands for.

    Raises
    ------
    TypeError
        If the value is neither a backbone nor a name.
    """

    def make(name: str) -> Backbone:
        made: Backbone = backbone_class(name)()
        return made

    return _instance(value, "backbone", Backbone, make)  # type: ignore[type-abstract]


def resolve_patcher(value: object) -> Patcher:
    """Return a fresh patcher from an instance or a name.

    A frozen patcher, or one with frozen parts, is copied with its weights: the network will move
    the copy to its device and type, and the original must stay unchanged.

    Raises
    ------
    TypeError
        If the value is neither a patcher nor a name.
    """
    fresh: Patcher = _fresh(value, patcher_instance)
    return copy.deepcopy(fresh) if frozen_parts(fresh) else fresh


def resolve_backbone(value: object) -> Backbone:
    """Return a fresh backbone from an instance or a name.

    Raises
    ------
    TypeError
        If the value is neither a backbone nor a name.
    """
    return _fresh(value, backbone_instance)


def _fresh(value: object, instance: Callable[[object], Component]) -> Component:
    """Make a component from a name, or clone an instance."""
    found = instance(value)
    fresh: Component = clone(found) if found is value else found
    return fresh


def _instance(
    value: object, parameter: str, base: type[Component], make: Callable[[str], Component]
) -> Component:
    """Make a component from a name, or return an instance.

    A plain torch module is refused: it would carry its trained weights into every fold of a
    cross-validation.
    """
    if isinstance(value, str):
        return make(value)
    if isinstance(value, base):
        return value
    hint = f" Pass {value.__name__}() instead of the class." if isinstance(value, type) else ""
    raise TypeError(
        f"The {parameter!r} parameter must be a {base.__name__} instance or a registered name. Got "
        f"{value!r} instead.{hint}"
    )


# ------------------------------------------------------------------------------- by settings


def patcher_from_settings(
    settings: Mapping[str, Any], by_name: Callable[[str], type[Patcher]] = PATCHERS.find
) -> Patcher:
    """Return a patcher from its settings in a suite file.

    Parameters
    ----------
    settings : mapping
        Registered ``name`` and arguments. An argument that is a patcher has the same form;
        ``gradient`` is a mapping of arguments of `GroupPolicyGradient`. A pretrained patcher has
        ``pretrained``, its path in `load_patcher`, ``weights``, the first digits of the SHA-256 of
        its weights, and the parameters to change. The digits distinguish results of other weights.
    by_name : callable, optional
        Function that returns the class of a name.

    Returns
    -------
    Patcher
        The new patcher.
    """
    if "pretrained" in settings:
        return _pretrained(**settings)
    arguments = {
        key: patcher_from_settings(value, by_name) if _is_component(value) else value
        for key, value in settings.items()
    }
    if isinstance(arguments.get("gradient"), Mapping):
        arguments["gradient"] = GroupPolicyGradient(**arguments["gradient"])
    return by_name(arguments.pop("name"))(**arguments)


def backbone_from_settings(settings: Mapping[str, Any]) -> Backbone:
    """Return a backbone from its settings in a suite file.

    Parameters
    ----------
    settings : mapping
        Registered ``name`` and arguments. An argument that is a backbone has the same form.

    Returns
    -------
    Backbone
        The new backbone.
    """
    arguments = {
        key: backbone_from_settings(value) if _is_component(value) else value
        for key, value in settings.items()
    }
    made: Backbone = backbone_class(arguments.pop("name"))(**arguments)
    return made


def _pretrained(pretrained: str, weights: str = "", **parameters: Any) -> Patcher:
    """Load a frozen patcher and check that its weights are those that the suite names."""
    patcher: Patcher = load_patcher(pretrained, **parameters)
    digest = weights_digest(patcher)
    if len(weights) < 8 or not digest.startswith(weights):
        raise InvalidParameterError(
            "A suite must name the weights of a pretrained patcher by the first 8 or more digits "
            f"of their SHA-256. Got {weights!r} for {pretrained!r}, whose weights have "
            f"{digest[:12]!r}. Correct 'weights' in the suite: results of other weights differ.",
            parameter="weights",
        )
    return patcher


def _is_component(value: object) -> bool:
    return isinstance(value, Mapping) and ("name" in value or "pretrained" in value)
