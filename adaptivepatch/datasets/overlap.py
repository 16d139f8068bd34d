"""Search for benchmark series in corpora, by content instead of by name.

Two searches compare series at several time steps, whatever their scale, offset and sign:

* `OverlapIndex.by_hash` compares hashes of quantised differences around anchors. An anchor is the
  largest difference within 12 steps, so that a copy has the same anchors, even if it was subsampled
  or averaged, and series need not be compared at every shift.
* `OverlapIndex.by_correlation` compares normalised excerpts around the largest change within 128
  steps, and then differences along slightly shifted and stretched excerpts. It finds copies that
  were smoothed, interpolated, rounded or disturbed, if they are longer than about 1,000 steps.

A stretch that recurs in its own series, because the series is constant or periodic there, is no
evidence and is left out. The search needs only numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.datasets.catalog import DATASETS
from adaptivepatch.datasets.loading import load_dataset
from adaptivepatch.datasets.overlap_excerpts import (
    HASH_HALF,
    LAG,
    NEAR_HALF,
    Flat,
    Floats,
    View,
    chunks,
    correlation,
    excerpts,
    flatten,
    hashes,
    normalised,
    smooth_views,
    views_of,
    warped,
)
from adaptivepatch.errors import DatasetError

STEPS = (1, 2, 3, 4, 6, 12)
BENCHMARKS = (
    "ETTh1",
    "ETTh2",
    "ETTm1",
    "ETTm2",
    "weather",
    "electricity",
    "electricity_6of321",
    "traffic",
    "traffic_6of862",
    "exchange",
    "ili",
    "solar",
)
"""Data sets that must not be in the training data of a patcher that is evaluated on them."""

_MOST_PLACES = 50  # places of one hash; a hash at more places is no evidence
_CHECK_HALF, _EXACT = 32, 0.999
_CANDIDATE, _NEAR = 0.95, 0.95
_MOST_CANDIDATES, _TRIED = 20, 3
_ROUNDING = 1e-6  # rounding error of correlations
# Fewest places of a near copy, and by how much the leads of neighbouring places may differ.
_FEWEST_PLACES, _DRIFT = 3, 16.0


@dataclass(frozen=True)
class Match:
    """A pair of series with common content.

    Parameters
    ----------
    series, reference : str
        Names of the two series.
    kind : {"hash", "correlation"}
        Search that found the best place.
    step, reference_step : int
        Time steps at which the two series agree, in steps of each series.
    position, reference_position : int
        Best place, in steps of each series.
    correlation : float
        Correlation of clipped differences at the best place.
    count : int
        Number of places found.
    """

    series: str
    reference: str
    kind: Literal["hash", "correlation"]
    step: int
    reference_step: int
    position: int
    reference_position: int
    correlation: float
    count: int = 1

    def __str__(self) -> str:
        same = self.step == self.reference_step == 1
        steps = "" if same else f", at steps {self.step} and {self.reference_step}"
        return (
            f"{self.series} from {self.position} is {self.reference} from "
            f"{self.reference_position}{steps} (found by {self.kind}, correlation "
            f"{self.correlation:.3f}, {self.count} places)"
        )


def find_overlap(
    series: Iterable[tuple[str, Floats]],
    references: Mapping[str, Floats],
    steps: Sequence[int] = STEPS,
) -> list[Match]:
    """Return the pairs of a series and a reference that have content in common.

    Parameters
    ----------
    series : iterable of (str, ndarray of shape (n,))
        Names and values of the series to search; NaN where missing.
    references : mapping of str to ndarray of shape (n,)
        Series to search for, by name.
    steps : sequence of int
        Time steps to compare, each with each, in steps of the data.

    Returns
    -------
    list of Match
        Best place of every pair, sorted by name.
    """
    index = OverlapIndex(references, steps)
    return index.search(series)


def benchmark_series(folder: str | None = None) -> dict[str, Floats]:
    """Return every channel of the available benchmark sets, by ``set/channel``.

    Parameters
    ----------
    folder : str, optional
        Folder to search, with its direct subfolders; default: ``ADAPTIVEPATCH_DATA``.

    Raises
    ------
    DatasetError
        If no benchmark set is available.
    """
    found: dict[str, Floats] = {}
    for name in BENCHMARKS:
        whole = name.partition("_")[0]
        if whole != name and any(key.startswith(f"{whole}/") for key in found):
            continue  # a subset of a set already found
        try:
            frame = load_dataset(name, folder) if DATASETS[name].is_verified else None
        except DatasetError:
            continue
        if frame is not None:
            found |= {f"{name}/{column}": frame[column].to_numpy() for column in frame}
    if not found:
        raise DatasetError(
            f"The search for benchmark series needs at least one of {list(BENCHMARKS)}, but none "
            "was found. Set ADAPTIVEPATCH_DATA to the folder that holds them."
        )
    return found


class OverlapIndex:
    """Index of reference series, to search many series for them.

    Parameters
    ----------
    references : mapping of str to ndarray of shape (n,)
        Series to search for, by name.
    steps : sequence of int
        Time steps to compare, each with each, in steps of the data.
    """

    def __init__(self, references: Mapping[str, Floats], steps: Sequence[int] = STEPS) -> None:
        self.steps = tuple(steps)
        pieces = [(name, 0, np.asarray(v, dtype=np.float64)) for name, v in references.items()]
        self.flat = flatten(pieces, max(steps))
        self.views = list(views_of(self.flat, steps))

    @cached_property
    def _hashed(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Sorted hashes that do not recur in their series, with view numbers and positions."""
        parts = [hashes(view) for view in self.views]
        code = np.concatenate([part[0] for part in parts])
        place = np.concatenate([part[1] for part in parts])
        view = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        series = np.searchsorted(self.flat.start, place, side="right")
        order = np.lexsort((place, series, view, code))
        code, place, view, series = code[order], place[order], view[order], series[order]
        same = (code[1:] == code[:-1]) & (view[1:] == view[:-1]) & (series[1:] == series[:-1])
        step = np.array([view.step for view in self.views])[view]
        far = same & (np.diff(place) > (2 * HASH_HALF + 1) * step[1:])
        repeated = np.concatenate([far, [False]]) | np.concatenate([[False], far])
        keep = ~np.isin(code, code[repeated])
        return code[keep], view[keep], place[keep]

    @cached_property
    def _excerpts(self) -> list[tuple[View, NDArray[np.float32], NDArray[np.int64]]]:
        """Views with their normalised excerpts and the positions of the excerpts."""
        return [(view, *normalised(view, p)) for view, p in smooth_views(self.views)]

    def search(self, series: Iterable[tuple[str, Floats]]) -> list[Match]:
        """Return the best place of every pair with common content; see `find_overlap`."""
        best: dict[tuple[str, str], Match] = {}
        for flat in chunks(series, self.steps):
            views = list(views_of(flat, self.steps))
            for match in (*self.by_hash(flat, views), *self.by_correlation(flat, views)):
                key = (match.series, match.reference)
                other = best.get(key)
                count = match.count + (0 if other is None else other.count)
                if other is None or match.correlation > other.correlation:
                    other = match
                best[key] = replace(other, count=count)
        return [best[key] for key in sorted(best)]

    def by_hash(self, flat: Flat, views: Sequence[View]) -> Iterator[Match]:
        """Yield places with equal hashes whose differences also agree over a wider excerpt."""
        known, number, place = self._hashed
        offsets = range(-_CHECK_HALF, _CHECK_HALF + 1)
        for view in views:
            code, position = hashes(view)
            first = np.searchsorted(known, code, side="left")
            count = np.searchsorted(known, code, side="right") - first
            count = np.where(count > _MOST_PLACES, 0, count)
            mine = np.repeat(np.arange(len(code)), count)
            nth = np.arange(len(mine)) - np.repeat(count.cumsum() - count, count)
            theirs = first[mine] + nth
            for other in np.unique(number[theirs]):
                pair = number[theirs] == other
                own, ref = position[mine[pair]], place[theirs[pair]]
                reference = self.views[other]
                found = np.abs(
                    correlation(excerpts(view, own, offsets), excerpts(reference, ref, offsets))
                )
                hit = found >= _EXACT
                places = _Places("hash", view, reference, own[hit], ref[hit], found[hit])
                yield from self._matches(flat, places, lag=1)

    def by_correlation(self, flat: Flat, views: Sequence[View]) -> Iterator[Match]:
        """Yield places whose excerpts correlate, as do differences over a wider excerpt."""
        for view, phase in smooth_views(views):
            if phase:
                continue  # one phase suffices: the references have both
            unit, position = normalised(view, phase)
            for reference, ref_unit, place in self._excerpts:
                if not (len(unit) and len(ref_unit)):
                    continue
                mine, theirs = _closest(unit @ ref_unit.T)
                own, ref = position[mine], place[theirs]
                steps = (view.step, reference.step)
                keep = self._in_line(flat, steps, own, ref)
                own, ref = own[keep], ref[keep]
                found = warped(view, own, reference, ref)
                hit = np.flatnonzero(found >= _NEAR)
                hit = hit[self._in_line(flat, steps, own[hit], ref[hit])]
                places = _Places("correlation", view, reference, own[hit], ref[hit], found[hit])
                yield from self._matches(flat, places, lag=LAG)

    def _in_line(
        self,
        flat: Flat,
        steps: tuple[int, int],
        own: NDArray[np.int64],
        ref: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Return a mask of places whose lead (own minus reference position) others share."""
        pair = np.searchsorted(flat.start, own, side="right") * len(self.flat.start)
        pair += np.searchsorted(self.flat.start, ref, side="right") - 1
        lead = own / steps[0] - ref / steps[1]
        order = np.lexsort((lead, pair))
        pair, lead = pair[order], lead[order]
        more = _FEWEST_PLACES - 1
        near = (pair[more:] == pair[:-more]) & (lead[more:] - lead[:-more] <= _DRIFT * more)
        keep = np.zeros(len(own), dtype=bool)
        for shift in range(_FEWEST_PLACES):
            keep[order[shift : shift + len(near)][near]] = True
        return keep

    def _matches(self, flat: Flat, places: _Places, lag: int) -> Iterator[Match]:
        """Yield the best place of each pair, unless the reference is similar to itself there."""
        order = np.argsort(-places.found)
        pairs: dict[tuple[str, str], list[int]] = {}
        for i in order.tolist():
            names = (flat.place(places.own[i])[0], self.flat.place(places.ref[i])[0])
            pairs.setdefault(names, []).append(i)
        for (name, reference), members in pairs.items():
            for i in members[:_TRIED]:
                found = float(places.found[i])
                own, ref = int(places.own[i]), int(places.ref[i])
                elsewhere = self._own_agreement(places.reference, ref, lag)
                if 1 - found + _ROUNDING < 0.5 * (1 - elsewhere):
                    yield Match(
                        series=name,
                        reference=reference,
                        kind=places.kind,
                        step=places.view.step,
                        reference_step=places.reference.step,
                        position=flat.place(own)[1],
                        reference_position=self.flat.place(ref)[1],
                        correlation=found,
                        count=len(members),
                    )
                    break

    def _own_agreement(self, view: View, position: int, lag: int) -> float:
        """Return how similar a reference is at a place to itself elsewhere.

        The result is the largest correlation of the differences around the place with differences
        elsewhere in the same series.
        """
        piece = int(np.searchsorted(self.flat.start, position, side="right")) - 1
        ends = (*self.flat.start.tolist(), len(self.flat.values))
        own = view.values[ends[piece] : ends[piece + 1]]
        own = own[(position - ends[piece]) % view.step :: view.step]
        change = np.nan_to_num(own[lag:] - own[:-lag])
        at = (position - ends[piece]) // view.step
        begin, stop = max(0, at - 2 * NEAR_HALF), at + 2 * NEAR_HALF - lag
        excerpt = change[begin:stop] - change[begin:stop].mean()
        width = len(excerpt)
        if width < NEAR_HALF or len(change) < 2 * width:
            return 0.0
        size = 1 << (len(change) + width).bit_length()
        product = np.fft.irfft(np.fft.rfft(change, size) * np.fft.rfft(excerpt, size).conj(), size)
        total = np.concatenate([[0.0], change.cumsum()])
        squares = np.concatenate([[0.0], (change**2).cumsum()])
        mean = (total[width:] - total[:-width]) / width
        spread = np.maximum(0, (squares[width:] - squares[:-width]) / width - mean**2)
        scale = np.sqrt((excerpt**2).mean())
        norm = np.sqrt(spread) * scale * width
        agree = product[: len(mean)] / np.where(np.sqrt(spread) > 1e-6 * scale, norm, np.inf)
        agree[max(0, begin - width // 2) : begin + width // 2] = 0
        return float(np.abs(agree).max())


class _Places(NamedTuple):
    """Places of common content between two views."""

    kind: Literal["hash", "correlation"]
    view: View
    reference: View
    own: NDArray[np.int64]
    ref: NDArray[np.int64]
    found: Floats


def _closest(agreement: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and columns of the pairs that agree, at most the best few of every row."""
    if agreement.shape[1] > _MOST_CANDIDATES:
        edge = agreement.shape[1] - _MOST_CANDIDATES
        many = (agreement >= _CANDIDATE).sum(1) > _MOST_CANDIDATES
        if many.any():
            limit = np.partition(agreement[many], edge, axis=1)[:, edge, None]
            agreement[many] = np.where(agreement[many] >= limit, agreement[many], 0)
    mine, theirs = np.nonzero(agreement >= _CANDIDATE)
    return mine, theirs
