"""Training and validation windows of a panel, and their batches on the device.

`PanelTrainingData` measures the scaling of the series on training rows and applies it to all rows.
`PanelSource` then moves the scaled series to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.data.sharing import Sharing, channel_groups
from adaptivepatch.data.windows import Windows, complete_or_padded
from adaptivepatch.errors import InvalidFrameError
from adaptivepatch.training.record import WindowSets
from adaptivepatch.training.sampler import Batch, SeriesSource, TrainingSet


class PanelTrainingData:
    """Training windows of a panel, with and without held-out rows.

    Parameters
    ----------
    panel : Panel
        Panel with all rows.
    held_out : ndarray of shape (items,)
        Number of rows at the end of each item that are held out for validation; see
        `adaptivepatch.data.splitting.held_out_rows`.
    context_length, horizon : int
        Look-back T and horizon H.
    share_segmentation : bool or sequence of sequences of str
        Channels that share patches: all (True), none (False), or the channels of each group.
    placement : dict
        Device and dtype of the series; see `adaptivepatch.Trainer.placement`.
    transform : {"log1p", "box_cox", "yeo_johnson"}, optional
        Power transform that is applied before the scaling.
    """

    def __init__(
        self,
        panel: Panel,
        held_out: NDArray[np.int64],
        context_length: int,
        horizon: int,
        share_segmentation: Sharing,
        placement: dict[str, Any],
        transform: str | None = None,
    ) -> None:
        self.panel, self.held_out = panel, held_out
        self.context_length, self.horizon = context_length, horizon
        self.share_segmentation = share_segmentation
        self.placement = placement
        self.transform = transform

    def selection(self) -> TrainingSet:
        """Return the windows to train on, and the windows that select the number of steps."""
        return self._training_set(self.held_out)

    def everything(self) -> TrainingSet:
        """Return all windows as training windows."""
        return self._training_set(np.zeros_like(self.held_out))

    def windows(self, held_out: NDArray[np.int64]) -> list[Windows]:
        """Return the windows to train on and, if rows are held out, the windows to validate on.

        Parameters
        ----------
        held_out : ndarray of shape (items,)
            Number of rows at the end of each item that are held out for validation.
        """
        shape = (self.panel, self.context_length, self.horizon)
        border = self.panel.lengths - held_out
        train = complete_or_padded(*shape, targets_to=border)
        train.raise_if_skipped()
        if not held_out.any():
            return [train]
        # Items without held-out rows have no validation windows.
        starts = np.where(held_out > 0, border, self.panel.lengths)
        return [train, complete_or_padded(*shape, targets_from=starts)]

    def _training_set(self, held_out: NDArray[np.int64]) -> TrainingSet:
        parts = self.windows(held_out)
        scaling = Scaling.fit(self.panel, self.panel.lengths - held_out, self.transform)
        scaled = scaling.apply(self.panel)
        source = PanelSource(
            scaled, parts, share_segmentation=self.share_segmentation, **self.placement
        )
        return TrainingSet(source, source.window_sets(*parts), scaling)


class PanelSource:
    """Windows of a scaled panel, delivered as batches.

    Parameters
    ----------
    panel : Panel
        Scaled panel.
    windows : sequence of Windows
        All windows of the panel that will be requested.
    share_segmentation : bool or sequence of sequences of str
        Channels that share patches: all (True), none (False), or the channels of each group.
    **placement
        Arguments `device` and `dtype` of `SeriesSource`.

    Notes
    -----
    If a window reaches back before the start of its item, T unobserved rows are stored in front of
    the item, so that padded look-backs are ordinary slices.
    """

    def __init__(
        self,
        panel: Panel,
        windows: Sequence[Windows],
        *,
        share_segmentation: Sharing = False,
        **placement: Any,
    ) -> None:
        context_length = windows[0].context_length
        padding = np.zeros(panel.num_items, dtype=np.int64)
        for some in windows:
            padding[some.item[some.cutoff_row < context_length - 1]] = context_length
        gap = np.full((context_length, panel.num_channels), np.nan)
        pieces = []
        for position, rows in enumerate(padding):
            pieces += [gap[:rows], panel.item(position)]
        self._first_row = np.cumsum(panel.lengths + padding) - panel.lengths
        self._padding = padding
        self._context_length, self._num_channels = context_length, panel.num_channels
        self._series = SeriesSource(
            np.concatenate(pieces),
            context_length,
            windows[0].horizon,
            channel_groups=channel_groups(share_segmentation, panel.channels),
            **placement,
        )

    def numbers(self, windows: Windows) -> Tensor:
        """Return the numbers that windows of the panel have in `SeriesSource`."""
        start = windows.cutoff_row + 1 - self._context_length  # within the item
        assert (start + self._padding[windows.item] >= 0).all(), "a look-back leaves its item"
        return torch.as_tensor(self._first_row[windows.item] + start)

    def window_sets(self, train: Windows, validation: Windows | None = None) -> WindowSets:
        """Return the numbers of the windows that have enough observed points.

        Raises
        ------
        InvalidFrameError
            If no training window has enough observed points.
        """
        numbers = self._series.learnable(self.numbers(train))
        if len(numbers) == 0:
            raise InvalidFrameError(
                "Training needs a window with 2 observed look-back points and an observed target, "
                f"but no window of {train.context_length} + {train.horizon} steps has both. Fill "
                "gaps, or reduce the horizon.",
                parameter="horizon",
            )
        if validation is None:
            return WindowSets(numbers, rows_per_window=self._num_channels)
        held_out = self._series.learnable(self.numbers(validation))
        return WindowSets(numbers, held_out if len(held_out) else None, self._num_channels)

    def batch(self, windows: Tensor) -> Batch:
        """See `SeriesSource.batch`."""
        return self._series.batch(windows)

    def lookbacks(self, windows: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `SeriesSource.lookbacks`."""
        return self._series.lookbacks(windows)
