"""Checks of values that were read from files: types, ranges, lengths and required keys.

A schema is a function of a value and its name that raises `SchemaError`. A file is read, checked
against a schema, and only then used, so that a damaged file leads to a clear error instead of an
arbitrary one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from adaptivepatch.errors import shortened

Schema = Callable[[Any, str], None]
_LARGEST = 2**63 - 1
_LONGEST_KEY = 60  # characters of a key that a message shows


class SchemaError(ValueError):
    """A value that was read from a file does not have the expected form."""


def reason(error: Exception) -> str:
    """Return an error's text on one line, for a message that says why a file is not valid."""
    text = " ".join(str(error).split())
    return shortened(text if isinstance(error, SchemaError) else f"{type(error).__name__}: {text}")


def integer(low: int = 0, high: int = _LARGEST) -> Schema:
    """Return the schema of an integer from `low` to `high`."""

    def check(value: Any, name: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _mismatch(name, f"an integer from {low} to {high}", value)

    return check


def number(*, finite: bool = False) -> Schema:
    """Return the schema of a number, which may be infinite or NaN unless `finite` is True."""

    def check(value: Any, name: str) -> None:
        is_number = type(value) is float or (type(value) is int and abs(value) <= _LARGEST)
        if not is_number or (finite and not math.isfinite(value)):
            raise _mismatch(name, "a finite number" if finite else "a number", value)

    return check


def text(value: Any, name: str) -> None:
    """Check that a value is a string."""
    if not isinstance(value, str):
        raise _mismatch(name, "a string", value)


def boolean(value: Any, name: str) -> None:
    """Check that a value is True or False."""
    if not isinstance(value, bool):
        raise _mismatch(name, "true or false", value)


def scalar(value: Any, name: str) -> None:
    """Check that a value is a string, a number, True or False, such as an item id."""
    if type(value) is not int and not isinstance(value, str | float | bool):
        raise _mismatch(name, "a string or a number", value)
    if type(value) is int:
        integer(-_LARGEST - 1)(value, name)


def anything(value: Any, name: str) -> None:
    """Accept any value."""


def one_of(*choices: Any) -> Schema:
    """Return the schema of a value that equals one of the choices and has its type."""

    def check(value: Any, name: str) -> None:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise _mismatch(name, f"one of {list(choices)}", value)

    return check


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that is None or that `schema` accepts."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            schema(value, name)

    return check


def either(*schemas: Schema) -> Schema:
    """Return the schema of a value that one of the schemas accepts."""

    def check(value: Any, name: str) -> None:
        errors = []
        for schema in schemas:
            try:
                return schema(value, name)
            except SchemaError as error:
                errors.append(error)
        raise errors[-1]

    return check


def list_of(schema: Schema, *, unique: bool = False) -> Schema:
    """Return the schema of a list whose values `schema` accepts; if `unique`, no value repeats."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list):
            raise _mismatch(name, "a list", value)
        for place, one in enumerate(value):
            schema(one, f"{name}[{place}]")
        if unique and len({(type(one), one) for one in value}) < len(value):
            raise _mismatch(name, "a list without repeated values", value)

    return check


def mapping_of(schema: Schema) -> Schema:
    """Return the schema of a mapping from strings to values that `schema` accepts."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise _mismatch(name, "a mapping", value)
        for key, one in value.items():
            schema(one, f"{name}.{key[:_LONGEST_KEY]}")

    return check


def fields(
    required: Mapping[str, Schema],
    optional: Mapping[str, Schema] | None = None,
    *,
    others: bool = False,
) -> Schema:
    """Return the schema of a mapping with known keys.

    Parameters
    ----------
    required, optional : mapping of str to schema
        Schemas of the values by key.
    others : bool, default=False
        Accept other keys too, with any values.
    """
    known = {**required, **(optional or {})}

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise _mismatch(name, "a mapping", value)
        for key in required:
            if key not in value:
                raise SchemaError(f"{name} lacks {key!r}")
        for key, one in value.items():
            if key in known:
                known[key](one, f"{name}.{key}")
            elif not others:
                raise SchemaError(f"{name} has the unknown key {shortened(repr(key), 60)}")

    return check


def _mismatch(name: str, wanted: str, value: Any) -> SchemaError:
    found = repr(value) if isinstance(value, str | int | float | bool | None) else None
    shown = type(value).__name__ if found is None else shortened(found, 60)
    return SchemaError(f"{name} must be {wanted}, not {shown}")
