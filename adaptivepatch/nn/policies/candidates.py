"""Reference starts, and the sites around them where a policy may put a patch start.

Plain numbers, no tensors: the layout depends on lengths and rates only, never on values.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple


def even_starts(num_steps: int, num_patches: int) -> list[int]:
    """Return the starts round(k T / K) of K even patches, halves rounded up."""
    return [(2 * k * num_steps + num_patches) // (2 * num_patches) for k in range(num_patches)]


def recency_starts(num_steps: int, num_patches: int, shortest: int) -> list[int]:
    """Return the starts of K patches whose lengths grow by a constant factor into the past.

    Parameters
    ----------
    num_steps, num_patches : int
        T and K.
    shortest : int
        Length of the newest patch, in time steps. Patches are even where K of this length do not
        fit into T.
    """
    if num_patches * shortest >= num_steps:
        return even_starts(num_steps, num_patches)
    growth = _growth(num_steps / shortest, num_patches)
    ends, total = [], 0.0
    for k in range(num_patches):
        total += shortest * growth**k
        ends.append(round(total))
    return [0, *(num_steps - end for end in reversed(ends[:-1]))]


def _growth(total: float, num_terms: int) -> float:
    """Solve 1 + q + ... + q**(num_terms - 1) = total for q >= 1 by bisection."""
    # q**(num_terms - 1) is a term of the sum: a larger bound would overflow with many terms.
    low, high = 1.0, total ** (1 / max(1, num_terms - 1))
    for _ in range(200):
        middle = (low + high) / 2
        if sum(middle**k for k in range(num_terms)) < total:
            low = middle
        else:
            high = middle
    return high


class Sites(NamedTuple):
    """Steps where a patch may start, beside step 0, in increasing order.

    ``positions`` are the steps, ``blocks`` the number (from 0) of the reference start that a site
    lies around, ``reference`` the sites that are reference starts themselves (as site numbers),
    ``num_steps`` is T.
    """

    positions: tuple[int, ...]
    blocks: tuple[int, ...]
    reference: tuple[int, ...]
    num_steps: int

    @property
    def num_blocks(self) -> int:
        """Reference starts after step 0, K - 1."""
        return len(self.reference)


@lru_cache(maxsize=64)
def candidate_sites(starts: tuple[int, ...], num_steps: int, per_block: int | None) -> Sites:
    """Lay out sites around every reference start but step 0.

    Parameters
    ----------
    starts : tuple of int
        Reference starts, increasing from 0.
    num_steps : int
        T.
    per_block : int, optional
        Sites of a block at most, at least 1; None takes every step of the look-back but 0.

    Returns
    -------
    Sites

    Notes
    -----
    The block of a start reaches half-way to its neighbours, so that blocks are disjoint and the
    reference start is one of its sites. Where a block has more steps than `per_block`, the sites
    are spread evenly on both sides of the start.

    Examples
    --------
    >>> candidate_sites((0, 8, 16), 24, 3).positions
    (5, 8, 12, 13, 16, 20)
    """
    if per_block is None:
        positions = tuple(range(1, num_steps)) if len(starts) > 1 else ()
        middles = [(a + b) // 2 for a, b in pairwise(starts[1:])]
        blocks = tuple(sum(step > middle for middle in middles) for step in positions)
        return Sites(positions, blocks, tuple(start - 1 for start in starts[1:]), num_steps)
    found: list[int] = []
    numbers: list[int] = []
    reference: list[int] = []
    for k, (before, start, after) in enumerate(
        zip(starts, starts[1:], (*starts[2:], num_steps), strict=False)
    ):
        low, high = (before + start) // 2 + 1, min((start + after) // 2, num_steps - 1)
        left, right = _shares(per_block - 1, start - low, high - start)
        block = [start - round(j * (start - low) / left) for j in range(left, 0, -1)]
        block += [start, *(start + round(j * (high - start) / right) for j in range(1, right + 1))]
        reference.append(len(found) + left)
        found += block
        numbers += [k] * len(block)
    return Sites(tuple(found), tuple(numbers), tuple(reference), num_steps)


def _shares(total: int, left: int, right: int) -> tuple[int, int]:
    """Split sites over the steps at hand on both sides of a start, evenly where possible."""
    on_left = min(left, total // 2)
    on_right = min(right, total - on_left)
    return min(left, total - on_right), on_right
