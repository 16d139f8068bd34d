"""Standard scaling of a panel, with a mean and a standard deviation per item and channel.

Each look-back is normalised again in `nn/layers/normalization.py`; `WindowRegressor` scales arrays
itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.errors import InvalidFrameError

_SQUARES_UNDERFLOW = 1e-140  # standard deviation below which squares lose digits


@dataclass(frozen=True, eq=False)
class Scaling:
    """An affine map per item and channel: subtract the mean, divide by the standard deviation.

    Parameters
    ----------
    mean, std : ndarray of shape (num_items, num_channels)
        Mean and population standard deviation (``ddof=0``) in target units; `std` is 1 where a
        channel is constant.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def fit(cls, panel: Panel, rows_end: ArrayLike | None = None) -> Scaling:
        """Measure mean and standard deviation of the observed values of the training rows.

        Parameters
        ----------
        panel : Panel
            Regular series.
        rows_end : int or array of shape (num_items,), optional
            Number of training rows at the start of each item; default: all rows.

        Raises
        ------
        InvalidFrameError
            If a channel has no observed value in the training rows, or values whose squares
            overflow.
        """
        ends = panel.lengths if rows_end is None else np.asarray(rows_end)
        ends = np.broadcast_to(ends, panel.lengths.shape)
        mean, std = np.empty((2, panel.num_items, panel.num_channels))
        for position, end in enumerate(ends):
            rows = panel.item(position)[:end]
            observed = ~np.isnan(rows)
            if not observed.any(axis=0).all():
                channel = panel.channels[int(observed.any(axis=0).argmin())]
                raise InvalidFrameError(
                    f"Scaling needs an observed value in every channel, but channel {channel!r} of "
                    f"series {panel.item_ids[position]!r} has none in its first {end} rows. Drop "
                    "the channel or the series, or train on more rows."
                )
            low = rows.min(axis=0, initial=np.inf, where=observed)
            high = rows.max(axis=0, initial=-np.inf, where=observed)
            with np.errstate(over="ignore", invalid="ignore"):
                mean[position] = rows.mean(axis=0, where=observed)
                std[position] = rows.std(axis=0, where=observed)
            if not np.isfinite(std[position]).all():
                column = int(np.isfinite(std[position]).argmin())
                raise InvalidFrameError(
                    "Values are too large, because their variance overflows: channel "
                    f"{panel.channels[column]!r} of series {panel.item_ids[position]!r} reaches "
                    f"{float(np.abs(rows[observed[:, column], column]).max())!r}. Divide the "
                    "channel by a constant."
                )
            tiny = (std[position] < _SQUARES_UNDERFLOW) & (low < high)
            if tiny.any():
                spread = np.where(tiny, high - low, 1)
                std[position, tiny] = ((rows - low) / spread).std(axis=0, where=observed)[tiny]
                std[position, tiny] *= spread[tiny]
            mean[position] = np.where(low == high, low, mean[position])  # free of rounding errors
            std[position] = np.where((low == high) | (std[position] == 0), 1, std[position])
        return cls(mean=mean, std=std)

    @classmethod
    def of_first_rows(cls, panel: Panel, num_rows: int) -> Scaling:
        """Measure mean and standard deviation of the first `num_rows` rows of each item.

        A channel without an observed value in these rows has mean 0 and standard deviation 1.
        """
        mean = np.zeros((panel.num_items, panel.num_channels))
        std = np.ones_like(mean)
        for i in range(panel.num_items):
            rows = panel.item(i)[:num_rows]
            observed = ~np.isnan(rows)
            count = np.maximum(1, observed.sum(0))
            mean[i] = np.where(observed, rows, 0).sum(0) / count
            centred = np.where(observed, rows - mean[i], 0)
            size = np.abs(centred).max(0, initial=0)  # the squares of tiny numbers would underflow
            unit = np.where((size > 0) & (size < 1e-140), size, 1)
            variance = ((centred / unit) ** 2).sum(0) / count
            std[i] = np.where(variance > 0, np.sqrt(variance) * unit, 1)
        return cls(mean, std)

    def transform(
        self, values: NDArray[np.float64], item: ArrayLike, *, channel_axis: int = -1
    ) -> NDArray[np.float64]:
        """Scale values in target units.

        Parameters
        ----------
        values : ndarray of shape (n, ..., num_channels)
            Rows or windows.
        item : int or array of shape (n,)
            Position of the item of each row or window, or one position for all.
        channel_axis : int, default=-1
            Axis of the channels, such as -2 for ``(windows, horizon, channels, quantiles)``.
        """
        mean, std = self._factors(values, item, channel_axis)
        return (values - mean) / std

    def inverse(
        self, values: NDArray[np.float64], item: ArrayLike, *, channel_axis: int = -1
    ) -> NDArray[np.float64]:
        """Convert scaled values back to target units; the parameters are those of `transform`."""
        mean, std = self._factors(values, item, channel_axis)
        return values * std + mean

    def apply(self, panel: Panel) -> Panel:
        """Return the scaled panel."""
        item = np.repeat(np.arange(panel.num_items), panel.lengths)
        return replace(panel, values=self.transform(panel.values, item))

    def _factors(
        self, values: NDArray[np.float64], item: ArrayLike, channel_axis: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation in a shape that broadcasts with `values`."""
        position = np.broadcast_to(np.asarray(item), values.shape[:1])
        shape = [1] * values.ndim
        shape[0], shape[channel_axis] = values.shape[0], self.mean.shape[1]
        return self.mean[position].reshape(shape), self.std[position].reshape(shape)
