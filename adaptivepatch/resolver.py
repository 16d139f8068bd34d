"""Patchers and backbones from names, instances or settings, ready for a network.

The estimators, `compare`, the suites of the benchmark and the command line use this module wherever
they accept a patcher by name. Saved models do not use it: ``model_folder.py`` builds only
registered classes and classes that the caller passes, so that a file can never import a module.
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
            f"The patcher {name!r} cannot be imported ({type(error).__name__}: {error}). Pass "
            f"{PATCHER_NAMES}. To use a module of your own, run from the folder that holds it, or "
            "install it.",
            parameter="patcher",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Patcher)):
        raise InvalidParameterError(
            f"{name!r} is {found!r}, which is not a subclass of Patcher. Name a subclass of "
            "Patcher as module:Class.",
            parameter="patcher",
        )
    return found


def make_patcher(name: str, **parameters: Any) -> Patcher:
    """Return a new patcher from its name.

    Parameters
    ----------
    name : str
        Registered name, pretrained patcher (a name in this package, or a folder), or
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
    """Return the given patcher, or the patcher that a name stands for.

    Raises
    ------
    TypeError
        If the value is neither a patcher nor a name.
    """
    return _instance(value, "patcher", Patcher, make_patcher)  # type: ignore[type-abstract]


def default_backbone() -> Backbone:
    """Return the backbone of a forecaster that is given none: docs/decisions/020-defaults.md."""
    made: Backbone = backbone_class("patchtst")(
        d_model=32, num_layers=2, num_heads=4, d_ff=64, dropout=0.1
    )
    return made


def backbone_instance(value: object) -> Backbone:
    """Return the given backbone, the backbone that a name stands for, or the default for None.

    Raises
    ------
    TypeError
        If the value is neither a backbone nor a name.
    """

    def make(name: str) -> Backbone:
        made: Backbone = backbone_class(name)()
        return made

    if value is None:
        return default_backbone()
    return _instance(value, "backbone", Backbone, make)  # type: ignore[type-abstract]


def resolve_patcher(value: object) -> Patcher:
    """Return a fresh patcher from an instance or a name.

    A frozen patcher, or one with frozen parts, is copied with its weights, so that the network can
    move the copy to another device and type without changing the original.

    Raises
    ------
    TypeError
        If the value is neither a patcher nor a name.
    """
    fresh: Patcher = _fresh(value, patcher_instance)
    return copy.deepcopy(fresh) if frozen_parts(fresh) else fresh


def resolve_backbone(value: object) -> Backbone:
    """Return a fresh backbone from an instance or a name, or the default backbone for None.

    Raises
    ------
    TypeError
        If the value is neither a backbone, a name nor None.
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
        Registered ``name`` of the patcher, and its arguments. An argument that is itself a patcher
        has the same form, and ``gradient`` holds the arguments of `GroupPolicyGradient`. The
        settings of a pretrained patcher are instead ``pretrained`` (the `path` of `load_patcher`),
        ``weights`` (the first digits of the SHA-256 of its weights, so that results with other
        weights are told apart) and the parameters to change.
    by_name : callable, optional
        Function that returns the class that a name stands for.

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
        Registered ``name`` of the backbone, and its arguments. An argument that is itself a
        backbone has the same form.

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
    """Load a frozen patcher and check that it has the weights that the suite names."""
    patcher: Patcher = load_patcher(pretrained, **parameters)
    digest = weights_digest(patcher)
    if len(weights) < 8 or not digest.startswith(weights):
        raise InvalidParameterError(
            f"The suite names the weights {weights!r} for {pretrained!r}, whose weights have the "
            f"SHA-256 {digest[:12]!r}... Set 'weights' in the suite to the first 8 or more digits, "
            "because other weights give other results.",
            parameter="weights",
        )
    return patcher


def _is_component(value: object) -> bool:
    return isinstance(value, Mapping) and ("name" in value or "pretrained" in value)
