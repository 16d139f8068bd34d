"""Reference starts, and the sites around them at which a policy may start patches.

The module computes with Python numbers, not tensors: the layout depends on lengths and compression
rates, never on the values of a series.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple


def even_starts(num_steps: int, num_patches: int) -> list[int]:
    """Return the starts round(k T / K) of K even patches, with halves rounded up."""
    return [(2 * k * num_steps + num_patches) // (2 * num_patches) for k in range(num_patches)]


def recency_starts(num_steps: int, num_patches: int, shortest: int) -> list[int]:
    """Return the starts of K patches whose lengths grow by a constant factor into the past.

    Parameters
    ----------
    num_steps, num_patches : int
        Length T of the look-back and number K of patches.
    shortest : int
        Length of the newest patch, in time steps. If K patches of this length do not fit into T,
        even patches are returned.
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
    # q**(num_terms - 1) is a term of the sum, hence at most total. A larger bound on q would
    # overflow with many terms.
    low, high = 1.0, total ** (1 / max(1, num_terms - 1))
    for _ in range(200):
        middle = (low + high) / 2
        if sum(middle**k for k in range(num_terms)) < total:
            low = middle
        else:
            high = middle
    return high


class Sites(NamedTuple):
    """Steps after step 0 at which a patch may start.

    Parameters
    ----------
    positions : tuple of int
        Steps of the sites, increasing.
    blocks : tuple of int
        Block of each site: the number, from 0, of the reference start that the site belongs to.
    reference : tuple of int
        Indices of the sites that are reference starts.
    num_steps : int
        Length T of the look-back.
    """

    positions: tuple[int, ...]
    blocks: tuple[int, ...]
    reference: tuple[int, ...]
    num_steps: int

    @property
    def num_blocks(self) -> int:
        """Number K - 1 of reference starts after step 0."""
        return len(self.reference)


@lru_cache(maxsize=64)
def candidate_sites(starts: tuple[int, ...], num_steps: int, per_block: int | None) -> Sites:
    """Lay out sites around every reference start except step 0.

    Parameters
    ----------
    starts : tuple of int
        Reference starts, increasing from 0.
    num_steps : int
        Length T of the look-back.
    per_block : int, optional
        Largest number of sites per block, at least 1. None makes every step except 0 a site.

    Returns
    -------
    Sites

    Notes
    -----
    The block of a start extends half-way to the neighbouring starts, so that blocks are disjoint.
    The start is one of its sites. If a block has more than `per_block` steps, the sites are spread
    evenly on both sides of the start.

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
    """Split a number of sites over the steps left and right of a start, evenly if possible."""
    on_left = min(left, total // 2)
    on_right = min(right, total - on_left)
    return min(left, total - on_right), on_right
