"""Excerpts of series that can be compared whatever their scale, offset, sign and time step.

They are the basis of ``overlap.py``. Series lie end to end in a `Flat`; a `View` is a flat at
another time step, subsampled or averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_HASH_REACH, _BINS = 12, 8.0
HASH_HALF = 8
_OFF_GRID = 0.3183098861837907  # keeps simple fractions off the borders of bins
_FEWEST_CODES = 6  # fewest different codes of a hashed excerpt
_NEAR_REACH, _ROUGH = 128, 0.8
NEAR_HALF, LAG = 32, 4
_SHIFTS, _STRETCHES = np.arange(-2, 2.5, 0.5), np.array([0.98, 0.99, 1.0, 1.01, 1.02])
_CHUNK = 1 << 21
_GRID = float(1 << 30)  # rounding grid, in parts of a standard deviation


class Flat(NamedTuple):
    """Pieces of series end to end with NaN in between: values, first positions, names, offsets."""

    values: Floats
    start: NDArray[np.int64]
    names: tuple[str, ...]
    offset: NDArray[np.int64]  # first step of each piece in its series

    def place(self, position: int) -> tuple[str, int]:
        """Return the name of the series at a position, and the step in the series."""
        piece = int(np.searchsorted(self.start, position, side="right")) - 1
        return self.names[piece], int(position - self.start[piece] + self.offset[piece])


def flatten(pieces: Sequence[tuple[str, int, Floats]], gap: int) -> Flat:
    """Join pieces (name, offset in its series, values), with `gap` NaN values after each piece."""
    parts, starts, position = [], [], 0
    for _, _, values in pieces:
        starts.append(position)
        parts += [_standardised(values), np.full(gap, np.nan)]
        position += len(values) + gap
    return Flat(
        np.concatenate(parts),
        np.array(starts),
        tuple(name for name, _, _ in pieces),
        np.array([offset for _, offset, _ in pieces]),
    )


def _standardised(values: Floats) -> Floats:
    """Centre values and divide them by their standard deviation, free of rounding errors."""
    known = values[np.isfinite(values)]
    if not len(known):
        return np.full(len(values), np.nan)
    size = np.abs(known - known.mean()).max()
    if size <= 1e-13 * np.abs(known).max():
        return np.where(np.isfinite(values), 0.0, np.nan)
    unit = (values - known.mean()) / size
    unit = unit / np.nanstd(np.where(np.isfinite(unit), unit, np.nan))
    rounded: Floats = np.round(np.where(np.isfinite(unit), unit, np.nan) * _GRID) / _GRID
    return rounded


def chunks(series: Iterable[tuple[str, Floats]], steps: Sequence[int]) -> Iterator[Flat]:
    """Join series in flats of bounded size; long series are split into overlapping pieces."""
    gap, size = max(steps), 0
    overlap = 2 * _NEAR_REACH * gap
    pieces: list[tuple[str, int, Floats]] = []
    for name, raw in series:
        values = np.asarray(raw, dtype=np.float64)
        for begin in range(0, max(1, len(values) - overlap), _CHUNK):
            held = values[begin : begin + _CHUNK + overlap]
            pieces.append((name, begin, held))
            size += len(held) + gap
            if size >= _CHUNK:
                yield flatten(pieces, gap)
                pieces, size = [], 0
    if pieces:
        yield flatten(pieces, gap)


class View(NamedTuple):
    """A flat at another time step: ``values[t], values[t + step], ...`` for every phase t."""

    values: Floats
    step: int


def views_of(flat: Flat, steps: Sequence[int]) -> Iterator[View]:
    """Yield a flat at every step: subsampled and, at steps above 1, also averaged."""
    for step in steps:
        yield View(flat.values, step)
        if step > 1:
            yield View(_moving_mean(flat.values, step), step)


def _moving_mean(values: Floats, width: int) -> Floats:
    if len(values) < width:
        return values[:0]
    last = len(values) - width + 1
    total = values[:last].copy()
    for shift in range(1, width):
        total += values[shift : shift + last]
    return total / width


def _by_phase(view: View) -> Floats:
    """Return the values as an array of shape (rows, phases)."""
    rows = len(view.values) // view.step
    return view.values[: rows * view.step].reshape(rows, view.step)


def excerpts(view: View, position: NDArray[np.int64], offsets: Floats | range) -> Floats:
    """Return values at offsets from positions, interpolated linearly; NaN beyond the ends."""
    offset = np.asarray(offsets, dtype=np.float64)
    whole = np.floor(offset)
    left = _gather(view, position[:, None] + whole.astype(np.int64) * view.step)
    share = offset - whole
    if not share.any():
        return left
    right = _gather(view, position[:, None] + np.ceil(offset).astype(np.int64) * view.step)
    return left + (right - left) * share


def _gather(view: View, at: NDArray[np.int64]) -> Floats:
    """Return values at positions, NaN outside."""
    inside = (at >= 0) & (at < len(view.values))
    if inside.all():
        return view.values[at]
    return np.where(inside, view.values[np.where(inside, at, 0)], np.nan)


def _window_max(values: Floats, width: int) -> Floats:
    """Return the maximum over `width` rows from each row on, along the first axis."""
    reached = 1
    while reached < width:
        shift = min(reached, width - reached)
        values = np.maximum(values[:-shift], values[shift:])
        reached += shift
    return values


def _anchors(size: Floats, reach: int) -> NDArray[np.bool_]:
    """Return a mask of the rows with the largest finite positive size within `reach` rows.

    These rows are the anchors of a column. Rows of equal size all count, so that a copy of the
    series has the same anchors.
    """
    if len(size) < 2 * reach + 1:
        return np.zeros(size.shape, dtype=bool)
    known = np.where(np.isnan(size), np.inf, size)
    found = np.zeros(size.shape, dtype=bool)
    inner = known[reach:-reach]
    found[reach:-reach] = (inner == _window_max(known, 2 * reach + 1)) & (inner > 0)
    return found & np.isfinite(size)


def correlation(left: Floats, right: Floats, lag: int = 1) -> Floats:
    """Return the correlation of the differences in each row.

    Differences are clipped, so that a single jump does not dominate. A row has correlation 0 if
    less than 70 % of its differences are known.
    """
    pair = [np.asarray(rows[:, lag:] - rows[:, :-lag]) for rows in (left, right)]
    known = np.isfinite(pair[0]) & np.isfinite(pair[1])
    enough = known.mean(1, keepdims=True) >= 0.7
    clipped = []
    for rows in pair:
        part = np.where(known, rows, 0.0)
        middle = part.shape[1] // 2
        limit = 1.5 * np.partition(np.abs(part), middle, axis=1)[:, middle, None]  # the median
        part = np.clip(part, -limit, limit)
        part -= part.sum(1, keepdims=True) / np.maximum(1, known.sum(1))[:, None]
        clipped.append(np.where(known & enough, part, 0.0))
    norm = np.sqrt((clipped[0] ** 2).sum(1) * (clipped[1] ** 2).sum(1))
    return np.asarray((clipped[0] * clipped[1]).sum(1) / np.where(norm > 0, norm, np.inf))


def hashes(view: View) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the hash of the excerpt around every anchor, and the anchor's position in the view."""
    change = np.diff(_by_phase(view), axis=0)
    row, phase = np.nonzero(_anchors(np.abs(change), _HASH_REACH))
    around = row[:, None] + np.arange(-HASH_HALF, HASH_HALF + 1)
    excerpt = change[around, phase[:, None]] / change[row, phase][:, None]
    code = np.floor(excerpt * _BINS + _OFF_GRID).astype(np.int64)
    different = (np.diff(np.sort(code, axis=1), axis=1) > 0).sum(1) + 1
    keep = different >= _FEWEST_CODES
    factor = np.random.default_rng(0).integers(1, 2**63, code.shape[1], dtype=np.uint64) | 1
    mixed = (code[keep].view(np.uint64) * factor).sum(1, dtype=np.uint64)
    return mixed, (row * view.step + phase)[keep]


def normalised(view: View, phase: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the excerpt around every large change, and the position of the change.

    Excerpts are centred, have the norm 1, and the sign that makes the change positive.
    """
    values = view.values[phase :: view.step]
    change = np.full(len(values), np.nan)
    change[2:-2] = values[4:] - values[:-4]
    size = np.abs(change)
    at = np.flatnonzero(_anchors(size[:, None], _NEAR_REACH)[:, 0])
    at = at[(at >= _NEAR_REACH) & (at < len(size) - _NEAR_REACH)]
    apart = [np.arange(-_NEAR_REACH, -LAG), np.arange(LAG + 1, _NEAR_REACH + 1)]
    others = size[at[:, None] + np.concatenate(apart)]
    at = at[others.max(1, initial=0) < size[at] * (1 - 1e-6)]  # periodic series have equal changes
    excerpt = values[at[:, None] + np.arange(-NEAR_HALF, NEAR_HALF)]
    excerpt = excerpt - excerpt.mean(1, keepdims=True)
    norm = np.sqrt((excerpt**2).sum(1)) * np.sign(change[at])
    keep = np.isfinite(norm) & (norm != 0)
    unit = excerpt[keep] / norm[keep, None]
    return unit.astype(np.float32), at[keep] * view.step + phase


def smooth_views(views: Sequence[View]) -> Iterator[tuple[View, int]]:
    """Yield the views and phases for correlations: the data, and averages at two phases each."""
    for number, view in enumerate(views):
        if view.step == 1:
            yield view, 0
        elif number % 2 == 0:  # subsampled and averaged views alternate after the first view
            yield view, 0
            yield view, view.step // 2


def warped(view: View, own: NDArray[np.int64], reference: View, ref: NDArray[np.int64]) -> Floats:
    """Return the largest correlation of differences over small shifts and stretches."""
    best: Floats = np.zeros(len(own))
    offsets = np.arange(-2 * NEAR_HALF, 2 * NEAR_HALF, dtype=np.float64)
    for begin in range(0, len(own), 4096):
        part = slice(begin, begin + 4096)
        target = excerpts(reference, ref[part], offsets)
        rough: Floats = np.zeros(len(target))
        for shift in (-1, 0, 1):
            found = correlation(excerpts(view, own[part], offsets + shift), target, LAG)
            rough = np.maximum(rough, np.abs(found))
        worth: NDArray[np.intp] = np.flatnonzero(rough >= _ROUGH)
        for stretch in _STRETCHES if len(worth) else ():
            for moved in _SHIFTS:
                excerpt = excerpts(view, own[part][worth], offsets * stretch + moved)
                found = np.abs(correlation(excerpt, target[worth], LAG))
                best[begin + worth] = np.maximum(best[begin + worth], found)
    return best
