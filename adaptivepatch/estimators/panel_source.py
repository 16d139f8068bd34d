"""From a panel (numpy) to window batches on the device (torch)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.data.windows import Windows, make_windows
from adaptivepatch.training.sampler import Batch, SeriesSource


def complete_or_padded(
    panel: Panel,
    context_length: int,
    horizon: int,
    *,
    stride: int = 1,
    targets_from: ArrayLike | None = None,
    targets_to: ArrayLike | None = None,
) -> Windows:
    """Cut windows with complete look-backs, and padded ones for items that have no other.

    Parameters are those of `adaptivepatch.data.windows.make_windows`. An item needs 2 look-back
    rows plus the horizon.
    """
    windows = make_windows(
        panel,
        context_length,
        horizon,
        stride=stride,
        allow_short=True,
        targets_from=targets_from,
        targets_to=targets_to,
    )
    complete = windows.cutoff_row >= context_length - 1
    has_complete = np.zeros(panel.num_items, dtype=bool)
    has_complete[windows.item[complete]] = True
    return windows.select(complete | ~has_complete[windows.item])


class PanelSource:
    """Windows of a scaled panel, delivered as batches.

    Parameters
    ----------
    panel : Panel
        In original units.
    scaling : Scaling
        Applied before the series move to the device.
    context_length, horizon : int
        T and H.
    share_segmentation : bool
        See `SeriesSource`.
    **placement
        Device and dtype.

    Notes
    -----
    Items shorter than T + H are stored behind T unobserved rows, so that padded look-backs are
    ordinary slices.
    """

    def __init__(
        self,
        panel: Panel,
        scaling: Scaling,
        context_length: int,
        horizon: int,
        *,
        share_segmentation: bool = False,
        **placement: Any,
    ) -> None:
        scaled = scaling.apply(panel)
        self._padding = np.where(panel.lengths < context_length + horizon, context_length, 0)
        gap = np.full((context_length, panel.num_channels), np.nan)
        pieces = []
        for position, padding in enumerate(self._padding):
            pieces += [gap[:padding], scaled.item(position)]
        self._first_row = np.cumsum(panel.lengths + self._padding) - panel.lengths
        self._context_length = context_length
        self._series = SeriesSource(
            np.concatenate(pieces),
            context_length,
            horizon,
            share_segmentation=share_segmentation,
            **placement,
        )

    def numbers(self, windows: Windows) -> Tensor:
        """Return the numbers under which `SeriesSource` knows windows of the panel."""
        start = self._first_row[windows.item] + windows.cutoff_row + 1 - self._context_length
        return torch.as_tensor(start)

    def learnable(self, windows: Windows) -> Tensor:
        """Return the numbers of the windows that can be learned from."""
        return self._series.learnable(self.numbers(windows))

    def batch(self, windows: Tensor) -> Batch:
        """See `SeriesSource.batch`."""
        return self._series.batch(windows)

    def lookbacks(self, windows: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `SeriesSource.lookbacks`."""
        return self._series.lookbacks(windows)
