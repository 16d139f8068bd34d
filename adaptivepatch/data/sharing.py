"""Groups of channels that share their patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptivepatch.errors import InvalidParameterError, check_bool, suggest

Sharing = bool | Sequence[Sequence[str]]
"""Channels that share patches: all (True), none (False), or groups of channel names.

A channel in no group has its own patches.
"""


def check_sharing(owner: object, share: Any) -> None:
    """Raise `InvalidParameterError` unless `share` is a valid `Sharing`.

    Parameters
    ----------
    owner : object
        Object that has the parameter ``share_segmentation``, or None for a parameter of a function.
    share : Any
        Value to check.
    """
    if not isinstance(share, list | tuple):
        check_bool(owner, share_segmentation=share)
        return
    of_owner = "" if owner is None else f" of {type(owner).__name__}"
    for group in share:
        names = list(group) if isinstance(group, list | tuple) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise InvalidParameterError(
                f"The 'share_segmentation' parameter{of_owner} must be True, False or lists of "
                f"channel names, such as [['load', 'price'], ['wind']]. Got {share!r} instead.",
                parameter="share_segmentation",
            )
    every = [name for group in share for name in group]
    twice = sorted({name for name in every if every.count(name) > 1})
    if twice:
        raise InvalidParameterError(
            f"Each channel may be in only one group of 'share_segmentation', but {twice[0]!r} is "
            f"named {every.count(twice[0])} times. Name it once.",
            parameter="share_segmentation",
        )


def channel_groups(share: Any, channels: Sequence[str]) -> tuple[int, ...] | None:
    """Return the group number of each channel, or None if every channel has its own patches.

    Parameters
    ----------
    share : bool or sequence of sequences of str
        Valid `Sharing`.
    channels : sequence of str
        Names of all channels.

    Raises
    ------
    InvalidParameterError
        If a group names an unknown channel.

    Examples
    --------
    >>> channel_groups([["a", "c"]], ["a", "b", "c", "d"])
    (0, 1, 0, 2)
    """
    if not isinstance(share, list | tuple):
        return (0,) * len(channels) if share else None
    number = {name: k for k, group in enumerate(share) for name in group}
    for name in number:
        if name not in channels:
            raise InvalidParameterError(
                f"The groups of 'share_segmentation' must hold channels of the frame. Got "
                f"{name!r}. Available: {list(channels)}.{suggest(name, channels)}",
                parameter="share_segmentation",
            )
    found: dict[object, int] = {}
    return tuple(
        found.setdefault(("group", number[name]) if name in number else name, len(found))
        for name in channels
    )
