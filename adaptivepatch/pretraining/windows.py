"""Windows of many univariate series for pretraining a patcher, with several look-backs.

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

_HELD_OUT = 0.1  # share at the end of every series
_FEWEST_SEEN = 0.5  # smallest share of observed steps in the look-back and in the horizon
_LEAST_STD = 0.02  # smallest divisor of a look-back, in standard deviations of its series
_LONGEST_HORIZON = 96
_SHORTEST_AVERAGED = 4000  # fewest steps of an averaged copy
_DRAWS = 20  # attempts to fill a batch


class Cell(NamedTuple):
    """Look-back T and number of points per patch of one forecaster of pretraining."""

    context_length: int
    compression_rate: int

    @property
    def horizon(self) -> int:
        """Horizon H: a quarter of the look-back, at most 96 steps."""
        return max(1, min(self.context_length // 4, _LONGEST_HORIZON))

    def __str__(self) -> str:
        return f"{self.context_length}x{self.compression_rate}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Return the cell that a text such as ``336x16`` names.

        Raises
        ------
        InvalidParameterError
            If the text has another form, or the cell has fewer than 2 patches.
        """
        match = re.fullmatch(r"(\d+)x(\d+)", text)
        cell = cls(*map(int, match.groups())) if match else None
        if cell is None or cell.compression_rate < 1 or cell.context_length < 2 * cell[1]:
            raise InvalidParameterError(
                "A cell must name a look-back and a number of points per patch, such as 336x16, "
                "and have at least 2 patches. "
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
    """Series of several corpora, stored end to end, each scaled by its own standard deviation.

    Parameters
    ----------
    corpora : sequence of Corpus
        Corpora to draw from. The weight of a corpus is the square root of its size; the weight of a
        series in its corpus is its number of windows.
    averages : tuple of int
        Numbers of steps. For each number, a copy of every long series is added that is averaged
        over this number of steps.
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
                "All series of the given corpora are constant or empty, but pretraining needs "
                "series that vary. Choose other corpora."
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
        """Tell whether a series is long enough to train and to validate a cell."""
        return all(self._ranges(cell, part)[1].sum() > 0 for part in ("train", "validation"))

    def check(self, cell: Cell) -> None:
        """Raise `DatasetError` unless a series is long enough for a cell."""
        if not self.fits(cell):
            raise DatasetError(
                f"The cell {cell} needs a series of about {cell.context_length + cell.horizon} "
                "points, not counting its last tenth, which is held out. The longest series has "
                f"{int(self.lengths.max())} points in all. Choose a shorter look-back, or add "
                "longer series."
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
        """Draw look-backs and targets, standardised by the mean and deviation of the look-back.

        Parameters
        ----------
        cell : Cell
            Cell with look-back T and horizon H.
        num_rows : int
            Number of rows B.
        random : numpy.random.Generator
            Generator of all draws.
        part : {"train", "validation"}
            Part of each series that contains the targets: the first nine tenths, or the rest.

        Raises
        ------
        DatasetError
            If too few of the drawn windows vary and have enough observed points.
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
            "Pretraining needs windows that vary and have at least half of their steps observed. "
            f"For the cell {cell}, fewer than {num_rows} of {_DRAWS * num_rows} windows meet these "
            "conditions. Choose other corpora."
        )

    def _rows(self, cell: Cell, start: NDArray[np.int64]) -> Batch:
        """Return the rows at these starts that vary and have enough observed points."""
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
    """Return the first rows of several batches; masks are None if everything is observed."""
    series, observed, target, target_observed = (
        torch.cat([part[field] for part in parts])[:num_rows]  # type: ignore[misc]
        for field in range(4)
    )
    return Batch(series, _or_none(observed), target, _or_none(target_observed), None)


def _or_none(observed: Tensor) -> Tensor | None:
    return None if bool(observed.all()) else observed


def _averaged(values: NDArray[np.float64], width: int) -> NDArray[np.float64] | None:
    """Return means of `width` steps, NaN if a step is missing; None if there would be too few."""
    count = len(values) // width
    if count < _SHORTEST_AVERAGED:
        return None
    means: NDArray[np.float64] = values[: count * width].reshape(count, width).mean(1)
    return means


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return a series scaled to mean 0 and standard deviation 1, or None if it is constant."""
    known = values[np.isfinite(values)]
    if len(known) < 2 or known.min() == known.max():
        return None
    size = np.abs(known - known.mean()).max()
    unit = (values - known.mean()) / size
    std = np.nanstd(np.where(np.isfinite(unit), unit, np.nan))
    scaled: NDArray[np.float32] = (unit / std).astype(np.float32)
    return scaled
