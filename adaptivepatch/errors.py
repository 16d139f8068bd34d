"""Errors of this package, and helpers that check parameters and raise them.

Every message states the requirement, the observed value and the remedy. This module imports
nothing else from the package, so that every layer can raise its errors.
"""

from __future__ import annotations

import difflib
import importlib
import numbers
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

_PACKAGE = str(Path(__file__).parent)
_LONGEST_NAME = 200  # comparing longer names takes too long


class AdaptivePatchError(Exception):
    """Base class of all errors this package raises on purpose.

    Parameters
    ----------
    message : str
        Requirement, observed value and remedy.
    parameter : str, optional
        Name of the Python parameter that the error is about or that the remedy changes. The
        command line derives the name of its option from it.
    owner : str, optional
        Name of the class that has the parameter, if the parameter belongs to one.
    """

    def __init__(
        self, message: str = "", *, parameter: str | None = None, owner: str | None = None
    ) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.owner = owner


class InvalidParameterError(AdaptivePatchError, ValueError):
    """A constructor or method argument is outside its documented range."""


class InvalidFrameError(AdaptivePatchError, ValueError):
    """A DataFrame does not describe regular time series."""


class InvalidSegmentationError(AdaptivePatchError, ValueError):
    """A boundary mask does not describe a partition of the look-back."""


class InvalidModelError(AdaptivePatchError, ValueError):
    """A folder does not hold a model that this version can load."""


class OutputError(AdaptivePatchError, OSError):
    """A file or folder cannot be written."""


class OutputExistsError(OutputError, FileExistsError):
    """A file or folder exists already and is not replaced."""


class DatasetError(AdaptivePatchError, LookupError):
    """A named data set is unknown or absent, or its file is not the original one."""


class MissingDependencyError(AdaptivePatchError, ImportError):
    """An optional package is needed but not installed."""


def shortened(text: str, longest: int = 500) -> str:
    """Return a text for a message, cut if it is longer than `longest` characters.

    Messages quote values of users and of files, which may have any size.
    """
    if len(text) <= longest:
        return text
    return f"{text[:longest]}... ({len(text)} characters)"


def suggest(name: str, available: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest available name, or an empty string."""
    if len(str(name)) > _LONGEST_NAME:
        return ""
    by_lower = {option.lower(): option for option in available}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def outside_level() -> int:
    """Return the `stacklevel` that makes a warning name the first line outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def check_int(owner: object, low: int = 1, **values: object) -> None:
    """Raise `InvalidParameterError` unless every value is an integer of at least `low`.

    Parameters
    ----------
    owner : object
        Object that has the parameters, or None for parameters of a function.
    low : int, default=1
        Smallest allowed value.
    **values : object
        Values by parameter name.
    """
    for name, value in values.items():
        index = None if isinstance(value, bool) else getattr(value, "__index__", None)
        if index is None or index() < low:
            raise InvalidParameterError(
                _range_message(owner, name, "an int", f"[{low}, inf)", value),
                parameter=name,
                owner=_class_name(owner),
            )


def check_bool(owner: object, **values: object) -> None:
    """Raise `InvalidParameterError` unless every value is True or False.

    Parameters
    ----------
    owner : object
        Object that has the parameters, or None for parameters of a function.
    **values : object
        Values by parameter name.
    """
    for name, value in values.items():
        if type(value).__name__ not in ("bool", "bool_"):  # Python's and numpy's
            raise InvalidParameterError(
                f"The {name!r} parameter{_of_owner(owner)} must be True or False. Got "
                f"{shortened(repr(value))} instead.",
                parameter=name,
                owner=_class_name(owner),
            )


def check_choice(owner: object, choices: Iterable[str], **values: object) -> None:
    """Raise `InvalidParameterError` unless every value is one of the choices.

    Parameters
    ----------
    owner : object
        Object that has the parameters, or None for parameters of a function.
    choices : iterable of str
        Allowed values.
    **values : object
        Values by parameter name.
    """
    choices = list(choices)
    for name, value in values.items():
        if value not in choices:
            raise InvalidParameterError(
                f"The {name!r} parameter{_of_owner(owner)} must be one of {choices}. Got "
                f"{shortened(repr(value))} instead.{suggest(str(value), choices)}",
                parameter=name,
                owner=_class_name(owner),
            )


def check_float(owner: object, interval: str, **values: object) -> None:
    """Raise `InvalidParameterError` unless every value is a number inside an interval.

    Parameters
    ----------
    owner : object
        Object that has the parameters, or None for parameters of a function.
    interval : str
        Allowed interval, for example ``"[0, 1)"`` or ``"(0, inf)"``.
    **values : object
        Values by parameter name.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    for name, value in values.items():
        valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if valid:
            number = float(value)  # type: ignore[arg-type]
            above = number >= low if interval[0] == "[" else number > low
            valid = above and (number <= high if interval[-1] == "]" else number < high)
        if not valid:
            raise InvalidParameterError(
                _range_message(owner, name, "a float", interval, value),
                parameter=name,
                owner=_class_name(owner),
            )


def _range_message(owner: object, name: str, kind: str, interval: str, value: object) -> str:
    return (
        f"The {name!r} parameter{_of_owner(owner)} must be {kind} in the range {interval}. "
        f"Got {shortened(repr(value))} instead."
    )


def _of_owner(owner: object) -> str:
    return "" if owner is None else f" of {_class_name(owner)}"


def _class_name(owner: object) -> str | None:
    return None if owner is None else type(owner).__name__


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or raise an error that names the extra to install.

    Parameters
    ----------
    module : str
        Name to import, such as ``"matplotlib.pyplot"``.
    extra : str
        Extra of this distribution that installs the package.
    purpose : str
        Feature that needs the package; the subject of the message, such as ``"Plotting"``.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"{purpose} needs the {package!r} package, which is not installed. "
            f'Install it with: pip install "adaptivepatch-forecasting[{extra}]".'
        ) from error


def not_prepared(patcher: object) -> ValueError:
    """Return scikit-learn's `NotFittedError` for a patcher that has not seen training data."""
    from sklearn.exceptions import NotFittedError

    name = type(patcher).__name__
    return NotFittedError(
        f"A {name} cannot place patches before it has seen training windows, and {patcher!r} has "
        "seen none. Fit a forecaster with this patcher, or call prepare(series, None, "
        "torch.Generator())."
    )
