"""Errors a user can meet, and the two helpers that phrase them.

Every message states the requirement, the observed value and the remedy. This module imports
nothing else of the package, so that every layer may raise its errors.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class AdaptivePatchError(Exception):
    """Base class of all errors this package raises on purpose."""


class InvalidParameterError(AdaptivePatchError, ValueError):
    """A constructor or method argument is outside its documented range."""


class InvalidFrameError(AdaptivePatchError, ValueError):
    """A DataFrame does not describe regular time series."""


class InvalidSegmentationError(AdaptivePatchError, ValueError):
    """A boundary mask does not describe a partition of the look-back."""


class InvalidModelError(AdaptivePatchError, ValueError):
    """A folder does not hold a model that this version can load."""


class DatasetError(AdaptivePatchError, LookupError):
    """A named data set is unknown, absent or not the file it claims to be."""


class MissingDependencyError(AdaptivePatchError, ImportError):
    """An optional package is needed and not installed."""


def suggest(name: str, available: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest available name, or an empty string."""
    by_lower = {option.lower(): option for option in available}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package or say which extra installs it.

    Parameters
    ----------
    module : str
        Name to import, such as ``"matplotlib.pyplot"``.
    extra : str
        Extra of this distribution that installs it.
    purpose : str
        What needs it, as the subject of the message: ``"Plotting"``.

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
