"""From a name or an instance to a patcher or a backbone that is ready to be built into a network.

Every place that takes a patcher by name uses this file: the estimators, `compare`, the suites of
the benchmark and the command line. Models on disk do not: ``model_folder.py`` builds registered and
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
        Such as "fixed" or "my_package.patchers:MyPatcher".

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
            f"A patcher is named by {PATCHER_NAMES}. {name!r} cannot be imported "
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
        A registered name, a pretrained patcher (name in this package or folder), which is then
        frozen, or ``module:Class``.
    **parameters
        Arguments of the constructor, or parameters of a pretrained patcher to change.
    """
    if is_pretrained(name):
        pretrained: Patcher = load_patcher(name, **parameters)
        return pretrained
    made: Any = patcher_class(name)
    patcher: Patcher = made(**parameters)
    return patcher


# ------------------------------------------------------------------------- by name or instance


def resolve_patcher(value: object) -> Patcher:
    """Return a fresh patcher from an instance or a name.

    A frozen patcher, or one with frozen parts, is copied with its weights: a network moves to its
    device and type, and what it was made from must not.

    Raises
    ------
    TypeError
        If the value is neither a patcher nor a name.
    """
    fresh: Patcher = _fresh(value, "patcher", Patcher, make_patcher)  # type: ignore[type-abstract]
    return copy.deepcopy(fresh) if frozen_parts(fresh) else fresh


def resolve_backbone(value: object) -> Backbone:
    """Return a fresh backbone from an instance or a name.

    Raises
    ------
    TypeError
        If the value is neither a backbone nor a name.
    """

    def make(name: str) -> Backbone:
        made: Backbone = backbone_class(name)()
        return made

    return _fresh(value, "backbone", Backbone, make)  # type: ignore[type-abstract]


def _fresh(
    value: object, parameter: str, base: type[Component], make: Callable[[str], Component]
) -> Component:
    """Make a component from a name, or clone an instance.

    A plain torch module is refused: it would carry its trained weights into every fold of a
    cross-validation.
    """
    if isinstance(value, str):
        return make(value)
    if isinstance(value, base):
        fresh: Component = clone(value)
        return fresh
    hint = f" Pass {value.__name__}() instead of the class." if isinstance(value, type) else ""
    raise TypeError(
        f"The {parameter!r} parameter must be a {base.__name__} instance or a registered name. Got "
        f"{value!r} instead.{hint}"
    )


# ------------------------------------------------------------------------------- by settings


def patcher_from_settings(
    settings: Mapping[str, Any], by_name: Callable[[str], type[Patcher]] = PATCHERS.find
) -> Patcher:
    """Return a patcher as a suite file writes it.

    Parameters
    ----------
    settings : mapping
        The registered ``name`` and arguments, patchers among them in the same form; ``gradient``,
        if any, is a mapping of the arguments of `GroupPolicyGradient`. Or ``pretrained``, as in
        `load_patcher`, with the parameters to change and ``weights``, the first digits of the
        SHA-256 of its weights: rows of other weights are other rows.
    by_name : callable, optional
        Finds the class.
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
    """Return a backbone as a suite file writes it.

    Parameters
    ----------
    settings : mapping
        The registered ``name`` and arguments, backbones among them in the same form.
    """
    arguments = {
        key: backbone_from_settings(value) if _is_component(value) else value
        for key, value in settings.items()
    }
    made: Backbone = backbone_class(arguments.pop("name"))(**arguments)
    return made


def _pretrained(pretrained: str, weights: str = "", **parameters: Any) -> Patcher:
    """Load a frozen patcher, after checking that its weights are the ones that a suite means."""
    patcher: Patcher = load_patcher(pretrained, **parameters)
    digest = weights_digest(patcher)
    if len(weights) < 8 or not digest.startswith(weights):
        raise InvalidParameterError(
            f"A suite names the weights of a pretrained patcher by 8 or more digits of their "
            f"SHA-256. Got {weights!r} for {pretrained!r}, whose weights are {digest[:12]!r}. "
            "Correct the suite, so that its new rows stand beside the old ones."
        )
    return patcher


def _is_component(value: object) -> bool:
    return isinstance(value, Mapping) and ("name" in value or "pretrained" in value)
