"""Windows of many univariate series, for pretraining a patcher: look-back and rate vary.

Tensor suffixes: B rows, T look-back, H horizon.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.datasets.corpora import Corpus
from adaptivepatch.errors import DatasetError, InvalidParameterError
from adaptivepatch.training.sampler import Batch

_HELD_OUT = 0.1  # last part of every series
_FEWEST_SEEN = 0.5  # share of observed steps, of the look-back and of the horizon
_LEAST_STD = 0.02  # of a look-back, in deviations of its series: flatter ones are not blown up
_LONGEST_HORIZON = 96
_SHORTEST_AVERAGED = 4000  # steps of an averaged copy
_DRAWS = 20


class Cell(NamedTuple):
    """A look-back T and a number of points per patch that are trained together."""

    context_length: int
    compression_rate: int

    @property
    def horizon(self) -> int:
        """A quarter of the look-back, at most 96 steps."""
        return max(1, min(self.context_length // 4, _LONGEST_HORIZON))

    def __str__(self) -> str:
        return f"{self.context_length}x{self.compression_rate}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read ``336x16``.

        Raises
        ------
        InvalidParameterError
            If it is not of this form, or leaves fewer than 2 patches.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        cell = cls(*map(int, match.groups())) if match else None
        if cell is None or cell.compression_rate < 1 or cell.context_length < 2 * cell[1]:
            raise InvalidParameterError(
                "A cell is a look-back and points per patch, at least 2 patches, such as 336x16. "
                f"Got {text!r}.",
                parameter="cells",
            )
        return cell


CELLS = tuple(
    Cell(*pair)
    for pair in (
        (96, 8), (96, 16), (192, 8), (192, 32), (336, 16), (336, 48),
        (512, 12), (512, 64), (1024, 24), (1024, 96), (2048, 48), (2048, 96),
    )
)  # fmt: skip
"""Look-backs from 96 to 2048 steps at 8 to 96 points per patch: 6 to 42 patches."""


class SeriesPool:
    """Series of several corpora, end to end, each in units of its own deviation.

    Parameters
    ----------
    corpora : sequence of Corpus
        What to draw from. A corpus is drawn with a weight of the square root of its size, a series
        of it with a weight of its number of windows.
    averages : tuple of int
        Numbers of steps; every long series takes part averaged over each of them, too.
    """

    def __init__(self, corpora: Sequence[Corpus], averages: tuple[int, ...] = ()) -> None:
        values: list[NDArray[np.float32]] = []
        corpus: list[int] = []
        for number, one in enumerate(corpora):
            for series in one.values:
                copies = [series, *(_averaged(series, width) for width in averages)]
                usable = [_standardised(copy) for copy in copies if copy is not None]
                kept = [copy for copy in usable if copy is not None]
                values += kept
                corpus += [number] * len(kept)
        if not values:
            raise DatasetError(
                "Pretraining needs series that vary. All of the corpora given are constant or "
                "empty. Name others."
            )
        self.lengths = np.array([len(series) for series in values])
        self.offset = np.cumsum(self.lengths) - self.lengths
        self.corpus = np.array(corpus)
        size = np.bincount(self.corpus, self.lengths, minlength=len(corpora))
        self.corpus_weight = np.sqrt(size)
        flat = np.concatenate(values)
        self.observed = torch.from_numpy(np.isfinite(flat))
        self.values = torch.from_numpy(np.nan_to_num(flat, nan=0.0))

    def fits(self, cell: Cell) -> bool:
        """Tell whether a series is long enough for a cell, to train and to validate."""
        return all(self._ranges(cell, part)[1].sum() > 0 for part in ("train", "validation"))

    def check(self, cell: Cell) -> None:
        """Raise `DatasetError` unless a series is long enough for a cell."""
        if not self.fits(cell):
            raise DatasetError(
                f"The cell {cell} needs a series of about {cell.context_length + cell.horizon} "
                f"points before its last tenth, which is held out. The longest has "
                f"{int(self.lengths.max())}. Name a shorter look-back, or add longer series."
            )

    def _ranges(
        self, cell: Cell, part: Literal["train", "validation"]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first start and the number of starts of each series."""
        split = np.floor(self.lengths * (1 - _HELD_OUT)).astype(np.int64)
        whole = cell.context_length + cell.horizon
        if part == "train":
            return np.zeros_like(split), np.maximum(0, split - whole + 1)
        first = np.maximum(0, split - cell.context_length)
        return first, np.maximum(0, self.lengths - whole - first + 1)

    def batch(
        self,
        cell: Cell,
        num_rows: int,
        random: np.random.Generator,
        part: Literal["train", "validation"] = "train",
    ) -> Batch:
        """Draw rows: look-backs and futures in units of the look-back's deviation.

        Parameters
        ----------
        cell : Cell
            T and H.
        num_rows : int
            B.
        random : numpy.random.Generator
            Decides everything.
        part : {"train", "validation"}
            Targets of the first nine tenths of each series, or of the rest.

        Raises
        ------
        DatasetError
            If hardly any window holds enough observed points that vary.
        """
        first, count = self._ranges(cell, part)
        of_corpus = np.bincount(self.corpus, count, minlength=len(self.corpus_weight))
        weight = self.corpus_weight[self.corpus] * count / np.maximum(1, of_corpus)[self.corpus]
        edges = weight.cumsum()
        found: list[Batch] = []
        for _ in range(_DRAWS):
            at = np.searchsorted(edges, random.random(num_rows) * edges[-1], side="right")
            series = np.minimum(at, len(edges) - 1)
            within = np.floor(random.random(num_rows) * count[series]).astype(np.int64)
            found.append(self._rows(cell, self.offset[series] + first[series] + within))
            if sum(len(batch.series) for batch in found) >= num_rows:
                return _joined(found, num_rows)
        raise DatasetError(
            "Pretraining needs windows of which half the steps are observed and that vary. Hardly "
            f"any of {_DRAWS * num_rows} windows of {cell} do. Name other corpora."
        )

    def _rows(self, cell: Cell, start: NDArray[np.int64]) -> Batch:
        """Return the rows at these starts that can be learned from."""
        whole = cell.context_length + cell.horizon
        step = torch.from_numpy(start)[:, None] + torch.arange(whole)
        rows, observed = self.values[step], self.observed[step]
        split = [cell.context_length, cell.horizon]
        seen, target_seen = observed.split(split, dim=1)
        weight = seen.to(rows.dtype)
        count = weight.sum(1, keepdim=True).clamp(min=1)
        past = rows[:, : cell.context_length]
        mean = (past * weight).sum(1, keepdim=True) / count
        std = (((past - mean) * weight).square().sum(1, keepdim=True) / count).sqrt()
        enough = (weight.mean(1) >= _FEWEST_SEEN) & (std[:, 0] > 1e-4)
        enough &= target_seen.to(rows.dtype).mean(1) >= _FEWEST_SEEN
        scaled = (rows - mean) / std.clamp(min=_LEAST_STD) * observed
        past, future = scaled[enough].split(split, dim=1)
        return Batch(past, seen[enough], future, target_seen[enough], None)


def _joined(parts: list[Batch], num_rows: int) -> Batch:
    """Return the first rows of several batches; masks only where something is missing."""
    series, observed, target, target_observed = (
        torch.cat([part[field] for part in parts])[:num_rows]  # type: ignore[misc]
        for field in range(4)
    )
    return Batch(series, _or_none(observed), target, _or_none(target_observed), None)


def _or_none(observed: Tensor) -> Tensor | None:
    return None if bool(observed.all()) else observed


def _averaged(values: NDArray[np.float64], width: int) -> NDArray[np.float64] | None:
    """Return means over so many steps, missing where one is; None where few would be left."""
    count = len(values) // width
    if count < _SHORTEST_AVERAGED:
        return None
    means: NDArray[np.float64] = values[: count * width].reshape(count, width).mean(1)
    return means


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return a series in units of its deviation; None where it does not vary."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() == known.max():
        return None
    size = np.abs(known - known.mean()).max()
    unit = (values - known.mean()) / size
    std = np.nanstd(np.where(np.isfinite(unit), unit, np.nan))
    scaled: NDArray[np.float32] = (unit / std).astype(np.float32)
    return scaled
