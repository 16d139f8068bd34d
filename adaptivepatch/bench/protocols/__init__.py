"""The protocols of the benchmark by name.

A protocol is one file of this package with a `Protocol`: a function that does a run, and a class of
measures whose fields are columns. To add a measure, add a field to that class and compute its
value. To add a protocol, write a file and add a line to `PROTOCOLS`. Files are imported when their
protocol is first used, and do not import one another.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from adaptivepatch.bench.protocols.base import Protocol
from adaptivepatch.errors import InvalidParameterError, suggest

PROTOCOLS: Mapping[str, str] = {
    "ltsf": "ltsf.LTSF",
    "small": "ltsf.LTSF",  # small models, few steps: ranked only among themselves
    "planted": "planted.PLANTED",
    "family": "family.FAMILY",
    "family_planted": "family.FAMILY_PLANTED",
}
"""File of this package and name in the file, by the name that tasks use."""


def find_protocol(name: str) -> Protocol:
    """Return a protocol by its name.

    Parameters
    ----------
    name : str
        Name in `PROTOCOLS`.

    Raises
    ------
    InvalidParameterError
        If the protocol is unknown.
    """
    if name not in PROTOCOLS:
        raise InvalidParameterError(
            f"Unknown protocol {name!r} of a task. Available: {sorted(PROTOCOLS)}."
            f"{suggest(name, PROTOCOLS)}",
            parameter="protocol",
        )
    module, _, attribute = PROTOCOLS[name].partition(".")
    found: Protocol = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return found
