"""The key columns of a frame: which names they may have, and whether those are there."""

from __future__ import annotations

import pandas as pd

from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, suggest


def check_keys(item_id: object, timestamp: object) -> None:
    """Raise unless both are names, of two columns.

    Parameters
    ----------
    item_id, timestamp : object
        What the user names.

    Raises
    ------
    InvalidParameterError
        If they are no names, or the same one.
    """
    for name, value in (("item_id", item_id), ("timestamp", timestamp)):
        if not isinstance(value, str):
            raise InvalidParameterError(
                f"The {name!r} parameter must be the name of one column. Got {value!r} instead. "
                "Leave it out if there is no such column."
            )
    if item_id == timestamp:
        raise InvalidParameterError(
            "One column cannot hold both items and stamps. Got item_id and timestamp="
            f"{timestamp!r}. Name two columns, or leave out the key that is not there."
        )


def check_named_keys(df: object, item_id: str, timestamp: str) -> None:
    """Refuse keys that the user names and the frame lacks; the default names may be absent.

    Parameters
    ----------
    df : object
        What was passed for a frame; anything else is refused later.
    item_id, timestamp : str
        Names of the key columns; the stamps may be the index of that name.

    Raises
    ------
    InvalidFrameError
        If there is no such column.
    """
    check_keys(item_id, timestamp)
    if not isinstance(df, pd.DataFrame) or df.empty:
        return
    present = [*df.columns, *df.index.names]
    for key, name in (("item_id", item_id), ("timestamp", timestamp)):
        if name != key and name not in present:
            columns = [column for column in df.columns if isinstance(column, str)]
            raise InvalidFrameError(
                f"The frame must have the column that {key} names. {name!r} is not among "
                f"{list(df.columns)!r}. Correct {key}=..., or leave it out if there is no such "
                f"column.{suggest(name, columns)}"
            )
