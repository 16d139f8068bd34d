"""Standard scaling of a panel, with a mean and a standard deviation per item and channel.

Each look-back is normalised again in `nn/layers/normalization.py`; `WindowRegressor` scales arrays
itself. A power transform (``transforms.py``) may come before the scaling.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.transforms import DOMAINS, NEEDS, Bounds, PowerTransform, at_items, clip
from adaptivepatch.errors import InvalidFrameError

_SQUARES_UNDERFLOW = 1e-140  # standard deviation below which squares lose digits


@dataclass(frozen=True, eq=False)
class Scaling:
    """An affine map per item and channel: subtract the mean, divide by the standard deviation.

    Parameters
    ----------
    mean, std : ndarray of shape (num_items, num_channels)
        Mean and population standard deviation (``ddof=0``) of the transformed values; `std` is 1
        where a channel is constant.
    power : PowerTransform, optional
        Transform that is applied first. Without it values are scaled in target units.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    power: PowerTransform | None = None

    @classmethod
    def fit(
        cls, panel: Panel, rows_end: ArrayLike | None = None, transform: str | None = None
    ) -> Scaling:
        """Measure mean and standard deviation of the observed values of the training rows.

        Parameters
        ----------
        panel : Panel
            Regular series.
        rows_end : int or array of shape (num_items,), optional
            Number of training rows at the start of each item; default: all rows.
        transform : {"log1p", "box_cox", "yeo_johnson"}, optional
            Power transform to fit and apply first.

        Raises
        ------
        InvalidFrameError
            If a channel has no observed value in the training rows, or values whose squares
            overflow.
        """
        ends = panel.lengths if rows_end is None else np.asarray(rows_end)
        ends = np.broadcast_to(ends, panel.lengths.shape)
        power = None
        if transform is not None:
            training_rows = [panel.item(i)[:end] for i, end in enumerate(ends)]
            power = PowerTransform.fit(transform, training_rows)
        panel = transformed(panel, power)
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
        return cls(mean=mean, std=std, power=power)

    @classmethod
    def of_first_rows(
        cls, panel: Panel, num_rows: int, power: PowerTransform | None = None
    ) -> Scaling:
        """Measure the first `num_rows` rows of each item, after a power transform if one is given.

        A channel without an observed value in these rows has mean 0 and standard deviation 1.
        """
        panel = transformed(panel, power)
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
        return cls(mean, std, power)

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
        if self.power is not None:
            values = self.power.forward(values, item, channel_axis=channel_axis)
        mean = at_items(self.mean, values, item, channel_axis)
        return (values - mean) / at_items(self.std, values, item, channel_axis)

    def inverse(
        self, values: NDArray[np.float64], item: ArrayLike, *, channel_axis: int = -1
    ) -> NDArray[np.float64]:
        """Convert scaled values back to target units; the parameters are those of `transform`."""
        mean = at_items(self.mean, values, item, channel_axis)
        values = values * at_items(self.std, values, item, channel_axis) + mean
        if self.power is None:
            return values
        return self.power.inverse(values, item, channel_axis=channel_axis)

    def deviation(self) -> NDArray[np.float64]:
        """Return the standard deviation in target units, of shape (num_items, num_channels).

        With a power transform it is half the distance between the values that are one standard
        deviation of transformed values below and above their mean.
        """
        if self.power is None:
            return self.std
        item = np.arange(len(self.std))
        below, above = (self.inverse(side * np.ones_like(self.std), item) for side in (-1, 1))
        return (above - below) / 2

    def apply(self, panel: Panel) -> Panel:
        """Return the scaled panel."""
        item = np.repeat(np.arange(panel.num_items), panel.lengths)
        return replace(panel, values=self.transform(panel.values, item))


def transformed(panel: Panel, power: PowerTransform | None) -> Panel:
    """Return a panel after a power transform, if one is given."""
    if power is None:
        return panel
    item = np.repeat(np.arange(panel.num_items), panel.lengths)
    return replace(panel, values=power.forward(panel.values, item))


def check_values(panel: Panel, transform: str | None, bounds: Bounds | None) -> None:
    """Raise if an observed value contradicts a parameter of the forecaster.

    Parameters
    ----------
    panel : Panel
        Series to train on or to forecast.
    transform : {"log1p", "box_cox", "yeo_johnson"}, optional
        Power transform of the values.
    bounds : pair of float or None, optional
        Lowest and highest value; None for an open side.

    Raises
    ------
    InvalidFrameError
        If a value is outside the domain of the transform or outside the bounds.
    """
    outside = None if transform is None else _first_outside(panel, DOMAINS[transform])
    if transform is not None and outside is not None:
        channel, item_id, value, stamp = outside
        raise InvalidFrameError(
            f"transform={transform!r} needs {NEEDS[transform]}. Channel {channel!r} of series "
            f"{item_id!r} has {value!r} at {stamp!r}. Correct the value, or use 'log1p' for values "
            "above -1, or 'yeo_johnson' for values of any sign.",
            parameter="transform",
        )
    outside = None if bounds is None else _first_outside(panel, bounds)
    if outside is not None:
        channel, item_id, value, stamp = outside
        raise InvalidFrameError(
            f"All values must be within bounds={bounds!r}. Channel {channel!r} of series "
            f"{item_id!r} has {value!r} at {stamp!r}. Correct the value, or fit with wider bounds.",
            parameter="bounds",
        )


def _first_outside(panel: Panel, bounds: Bounds) -> tuple[str, Hashable, float, str] | None:
    """Return channel, item, value and stamp of the first value outside the bounds, if any."""
    outside = panel.observed & (clip(panel.values, bounds) != panel.values)
    if not outside.any():
        return None
    row, channel = np.argwhere(outside)[0].tolist()
    item = int(np.searchsorted(panel.row_offsets, row, side="right")) - 1
    value, stamp = float(panel.values[row, channel]), str(panel.stamps[row])
    return panel.channels[channel], panel.item_ids[item], value, stamp
