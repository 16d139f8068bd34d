"""Batches of windows without a data loader: series stay on the device and are sliced there.

Tensor suffixes: B windows, C channels, N = B * C rows, T look-back, H horizon, R stored steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.training.record import WindowSets


class Batch(NamedTuple):
    """Rows of a batch of windows.

    ``series`` (N, T), ``observed`` (N, T) or None, ``target`` (N, H), ``target_observed`` (N, H)
    or None, ``group`` (N,) or None. N is windows times channels, minus the rows that have too few
    observed points to train on.
    """

    series: Tensor
    observed: Tensor | None
    target: Tensor
    target_observed: Tensor | None
    group: Tensor | None


class WindowSource(Protocol):
    """Source of batches."""

    def batch(self, windows: Tensor) -> Batch:
        """Return look-backs and targets of the windows with these numbers."""
        ...


class TrainingSet(NamedTuple):
    """Data of one training.

    Parameters
    ----------
    source : WindowSource
        Source of batches.
    windows : WindowSets
        Numbers of the windows to train and validate on.
    scaling : object, optional
        Scaling that converts forecasts into the user's units. None if the estimator does so.
    """

    source: WindowSource
    windows: WindowSets
    scaling: Any = None


class SeriesSource:
    """Windows of series that are stored end to end on the device.

    Parameters
    ----------
    values : ndarray of shape (R, C)
        Steps of all items, item after item; NaN where unobserved.
    context_length, horizon : int
        Look-back T and horizon H, in time steps.
    device : torch.device
        Device to keep the series on.
    dtype : torch.dtype
        Floating-point type to keep the series in.
    channel_groups : sequence of int, optional
        Group of each channel, from 0. Channels of a group share their patches within a window.
        Default: every channel has its own patches.

    Notes
    -----
    The number of a window is the stored step at which its look-back starts. If look-backs of an
    item reach back before its first step, unobserved steps are stored in front of the item.
    """

    def __init__(
        self,
        values: NDArray[np.float64],
        context_length: int,
        horizon: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
        channel_groups: Sequence[int] | None = None,
    ) -> None:
        observed = ~np.isnan(values)
        self.context_length, self.horizon = context_length, horizon
        self.values = torch.as_tensor(np.nan_to_num(values, nan=0.0)).to(device, dtype)
        self.observed = None if observed.all() else torch.as_tensor(observed).to(device)
        self.channel_groups = None
        if channel_groups is not None:
            self.channel_groups = torch.tensor(channel_groups, device=device)

    def batch(self, windows: Tensor) -> Batch:
        """Return look-backs and targets, without rows that have too few observed points."""
        length = self.context_length + self.horizon
        rows, observed, group = self._gather(windows, length)
        series, target = rows.split([self.context_length, self.horizon], dim=1)
        if observed is None:
            return Batch(series, None, target, None, group)
        seen, target_seen = observed.split([self.context_length, self.horizon], dim=1)
        batch = Batch(series, seen, target, target_seen, group)
        return select_rows(batch, usable_rows(batch))

    def lookbacks(self, windows: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return series (N, T), observed and group of all rows."""
        return self._gather(windows, self.context_length)

    def learnable(self, windows: Tensor) -> Tensor:
        """Return the windows in which at least one row has enough observed points to train on."""
        if self.observed is None:
            return windows
        seen = torch.cat([torch.zeros_like(self.observed[:1]), self.observed]).long().cumsum(0)
        start = windows.to(self.observed.device)
        middle = start + self.context_length
        end = (middle + self.horizon).clamp(max=len(seen) - 1)
        enough = (seen[middle] - seen[start] >= 2) & (seen[end] - seen[middle] >= 1)
        return windows[enough.any(1).to(windows.device)]

    def _gather(self, windows: Tensor, length: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        start = windows.to(self.values.device)
        step = start[:, None] + torch.arange(length, device=start.device)  # (B, L)
        rows = self.values[step].transpose(1, 2).flatten(0, 1)  # (B, L, C) -> (N, L)
        observed = None
        if self.observed is not None:
            observed = self.observed[step].transpose(1, 2).flatten(0, 1)
        group = None
        if self.channel_groups is not None:
            window = torch.arange(len(windows), device=start.device)
            every = window[:, None] * (self.channel_groups.max() + 1) + self.channel_groups
            group = every.flatten()  # (B, C) -> (N,)
        return rows, observed, group


class ArraySource:
    """Windows given as arrays, one row each.

    Parameters
    ----------
    past : Tensor of shape (W, T)
        Look-backs; NaN where unobserved.
    future : Tensor of shape (W, H)
        Targets; NaN where unobserved.
    """

    def __init__(self, past: Tensor, future: Tensor) -> None:
        self.past, self.observed = split_gaps(past)
        self.future, self.target_observed = split_gaps(future)

    def batch(self, windows: Tensor) -> Batch:
        """Return the rows with these numbers."""
        index = windows.to(self.past.device)
        return Batch(
            self.past[index],
            None if self.observed is None else self.observed[index],
            self.future[index],
            None if self.target_observed is None else self.target_observed[index],
            None,
        )


def usable_rows(batch: Batch) -> Tensor:
    """Tell which rows have enough observed points to train on, as a bool tensor of shape (N,).

    They are 2 observed points of the look-back and an observed target.
    """
    seen = batch.series.new_ones(len(batch.series), dtype=torch.bool)
    if batch.observed is not None:
        seen = batch.observed.sum(1) >= 2
    return seen if batch.target_observed is None else seen & batch.target_observed.any(1)


def select_rows(batch: Batch, rows: Tensor) -> Batch:
    """Return some rows of a batch, given by a mask or by their numbers."""

    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[rows]

    return Batch(
        batch.series[rows],
        part(batch.observed),
        batch.target[rows],
        part(batch.target_observed),
        part(batch.group),
    )


def split_gaps(values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return values with 0 in place of NaN, and where they are observed: None if everywhere."""
    gaps = values.isnan()
    if not gaps.any():
        return values, None
    return values.masked_fill(gaps, 0.0), ~gaps


class ShuffledBatches:
    """Endless batches of windows in a new order each epoch; an epoch's last batch may be smaller.

    Parameters
    ----------
    windows : Tensor of int, shape (W,)
        Window numbers.
    batch_size : int
        Number of windows B per batch.
    generator : torch.Generator
        Generator of the orders.
    """

    def __init__(self, windows: Tensor, batch_size: int, generator: torch.Generator) -> None:
        self.windows, self.batch_size, self.generator = windows, batch_size, generator
        self._start_epoch()

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        if self._position >= len(self.windows):
            self._start_epoch()
        chosen = self._order[self._position : self._position + self.batch_size]
        self._position += self.batch_size
        return self.windows[chosen]

    def _start_epoch(self) -> None:
        self._epoch_state = self.generator.get_state()
        self._order = torch.randperm(len(self.windows), generator=self.generator)
        self._position = 0

    def state(self) -> tuple[Tensor, int]:
        """Return the generator's state at the start of the epoch, and the position in the epoch."""
        return self._epoch_state, self._position

    def restore(self, epoch_state: Tensor, position: int) -> None:
        """Restore what `state` returned."""
        self.generator.set_state(epoch_state)
        self._start_epoch()
        self._position = position
