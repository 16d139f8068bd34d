"""From a panel (numpy) to window batches on the device (torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.data.windows import Windows, make_windows
from adaptivepatch.estimators.sharing import Sharing, channel_groups
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
    limits: dict[str, Any] = {
        "stride": stride,
        "targets_from": targets_from,
        "targets_to": targets_to,
    }
    complete = make_windows(panel, context_length, horizon, **limits)
    if not complete.skipped:
        return complete
    padded = make_windows(panel, context_length, horizon, allow_short=True, **limits)
    needs_padding = ~np.isin(padded.item, complete.item)
    item = np.concatenate([complete.item, padded.item[needs_padding]])
    cutoff_row = np.concatenate([complete.cutoff_row, padded.cutoff_row[needs_padding]])
    order = np.argsort(item, kind="stable")
    return replace(padded, item=item[order], cutoff_row=cutoff_row[order])


class PanelSource:
    """Windows of a scaled panel, delivered as batches.

    Parameters
    ----------
    panel : Panel
        In original units.
    scaling : Scaling
        Applied before the series move to the device.
    windows : sequence of Windows
        All windows of the panel that will be asked for.
    share_segmentation : bool or sequence of sequences of str
        Which channels share patches.
    **placement
        Device and dtype.

    Notes
    -----
    Items with a window that reaches before their start are stored behind T unobserved rows, so
    that padded look-backs are ordinary slices.
    """

    def __init__(
        self,
        panel: Panel,
        scaling: Scaling,
        windows: Sequence[Windows],
        *,
        share_segmentation: Sharing = False,
        **placement: Any,
    ) -> None:
        scaled = scaling.apply(panel)
        context_length = windows[0].context_length
        padding = np.zeros(panel.num_items, dtype=np.int64)
        for some in windows:
            padding[some.item[some.cutoff_row < context_length - 1]] = context_length
        gap = np.full((context_length, panel.num_channels), np.nan)
        pieces = []
        for position, rows in enumerate(padding):
            pieces += [gap[:rows], scaled.item(position)]
        self._first_row = np.cumsum(panel.lengths + padding) - panel.lengths
        self._padding = padding
        self._context_length = context_length
        self._series = SeriesSource(
            np.concatenate(pieces),
            context_length,
            windows[0].horizon,
            channel_groups=channel_groups(share_segmentation, panel.channels),
            **placement,
        )

    def numbers(self, windows: Windows) -> Tensor:
        """Return the numbers under which `SeriesSource` knows windows of the panel."""
        start = windows.cutoff_row + 1 - self._context_length  # within the item
        assert (start + self._padding[windows.item] >= 0).all(), "a look-back leaves its item"
        return torch.as_tensor(self._first_row[windows.item] + start)

    def learnable(self, windows: Windows) -> Tensor:
        """Return the numbers of the windows that can be learned from."""
        return self._series.learnable(self.numbers(windows))

    def batch(self, windows: Tensor) -> Batch:
        """See `SeriesSource.batch`."""
        return self._series.batch(windows)

    def lookbacks(self, windows: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `SeriesSource.lookbacks`."""
        return self._series.lookbacks(windows)
