"""`PanelModel`: a trained network and its scaling, which forecast panels in original units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptivepatch.boundaries.report import report_boundaries
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling, transformed
from adaptivepatch.data.result_frames import segmentation_frame, step_frame
from adaptivepatch.data.sharing import Sharing
from adaptivepatch.data.transforms import Bounds, clip
from adaptivepatch.data.windows import Windows, last_lookbacks
from adaptivepatch.errors import check_choice, outside_level
from adaptivepatch.estimators.training_windows import PanelSource
from adaptivepatch.network import PatchNetwork
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.torch_state import plain_torch
from adaptivepatch.training.inference import (
    predict_windows,
    segment_windows,
    window_boundary_prob,
)


@dataclass
class PanelModel:
    """A trained network with the scaling and settings that are needed to apply it to panels.

    Parameters
    ----------
    network : PatchNetwork
        Trained network.
    scaling : Scaling
        Scaling of the training items.
    item_ids : tuple of hashable
        Training items.
    context_length, horizon : int
        Look-back T and horizon H, in time steps.
    share_segmentation : bool or sequence of sequences of str
        Channels of a window that share patches: all (True), none (False), or the channels of each
        group.
    quantiles : tuple of float, optional
        Quantiles that the network forecasts.
    precision : torch.dtype, optional
        Lower precision of forward passes.
    bounds : pair of float or None, optional
        Bounds that forecasts are clipped to; None for an open side.
    """

    network: PatchNetwork
    scaling: Scaling
    item_ids: tuple[Hashable, ...]
    context_length: int
    horizon: int
    share_segmentation: Sharing
    quantiles: tuple[float, ...] | None = None
    precision: torch.dtype | None = None
    bounds: Bounds | None = None

    def lookbacks(self, panel: Panel) -> Windows:
        """Return the last look-back of every item.

        Raises
        ------
        InvalidFrameError
            If a channel has fewer than 2 observed points in the look-back.
        """
        return last_lookbacks(panel, self.context_length, self.horizon, "A forecast")

    def forecast(self, panel: Panel, horizon: int) -> NDArray[np.float64]:
        """Forecast the steps after the end of every item.

        Forecasts are fed back as history if `horizon` exceeds the trained horizon.

        Returns
        -------
        ndarray of shape (items, horizon, channels, 1 or quantiles)
            Forecasts in original units.
        """
        scaling = self.scaling_of(panel)
        parts: list[NDArray[np.float64]] = []
        for number in range(math.ceil(horizon / self.horizon)):
            if number:
                panel = panel.extended(parts[-1][..., 0])
            parts.append(self.predict(panel, self.lookbacks(panel), scaling))
        return np.concatenate(parts, axis=1)[:, :horizon]

    @plain_torch()
    def predict(
        self, panel: Panel, windows: Windows, scaling: Scaling | None = None
    ) -> NDArray[np.float64]:
        """Forecast windows.

        Returns
        -------
        ndarray of shape (windows, horizon, channels, 1 or quantiles)
            Forecasts in original units.
        """
        scaling = self.scaling_of(panel) if scaling is None else scaling
        source = self._source(panel, scaling, windows)
        channels = panel.num_channels
        rows = predict_windows(
            self.network, source.lookbacks, source.numbers(windows), channels, self.precision
        ).numpy()
        outputs = 1 if self.quantiles is None else len(self.quantiles)
        by_channel = rows.reshape(len(windows), channels, self.horizon, outputs)
        forecast = scaling.inverse(by_channel.transpose(0, 2, 1, 3), windows.item, channel_axis=-2)
        return clip(forecast, self.bounds)

    def segment_frame(self, panel: Panel, by: str = "patch") -> pd.DataFrame:
        """Return the patches of the last look-back of each item and channel.

        Parameters
        ----------
        panel : Panel
            Panel to segment.
        by : {"patch", "step", "series"}, default="patch"
            Kind of rows to return; see `adaptivepatch.Forecaster.segment`.
        """
        check_choice(None, ("patch", "step", "series"), by=by)
        if by == "series":
            patcher, sharing = self.network.patcher, self.share_segmentation
            panel = transformed(panel, self.scaling_of(panel).power)
            return report_boundaries(patcher, panel, self.context_length, sharing)
        windows = self.lookbacks(panel)
        shape = (len(windows), panel.num_channels, -1)
        lengths = self.segment(panel, windows).patch_lengths.numpy().reshape(shape)
        prob = self.boundary_prob(panel, windows)
        known = None if prob is None else prob.reshape(shape)
        return (segmentation_frame if by == "patch" else step_frame)(panel, lengths, known)

    @plain_torch()
    def segment(self, panel: Panel, windows: Windows) -> Segmentation:
        """Return the patches of windows, one row per window and channel."""
        source = self._source(panel, self.scaling_of(panel), windows)
        numbers = source.numbers(windows)
        return segment_windows(self.network, source.lookbacks, numbers, panel.num_channels)

    @plain_torch()
    def boundary_prob(self, panel: Panel, windows: Windows) -> NDArray[np.float64] | None:
        """Return the probability that a step starts a patch.

        Parameters
        ----------
        panel : Panel
            Panel of the windows.
        windows : Windows
            Windows to segment.

        Returns
        -------
        ndarray of shape (windows * channels, steps) or None
            Probabilities, or None if the patcher does not provide them.
        """
        source = self._source(panel, self.scaling_of(panel), windows)
        numbers = source.numbers(windows)
        found = window_boundary_prob(self.network, source.lookbacks, numbers, panel.num_channels)
        return None if found is None else found.numpy()

    def scaling_of(self, panel: Panel) -> Scaling:
        """Return the fitted scaling of training items; scale others by their first look-back."""
        if panel.item_ids == self.item_ids:
            return self.scaling
        known = {id_: position for position, id_ in enumerate(self.item_ids)}
        power = self.scaling.power
        if power is not None:
            power = power.of_items(panel.item_ids, self.item_ids)
        own = Scaling.of_first_rows(panel, self.context_length, power)
        for position, id_ in enumerate(panel.item_ids):
            if id_ in known:
                own.mean[position] = self.scaling.mean[known[id_]]
                own.std[position] = self.scaling.std[known[id_]]
        return own

    def _source(self, panel: Panel, scaling: Scaling, windows: Windows) -> PanelSource:
        weight = next(self.network.head.parameters())
        return PanelSource(
            scaling.apply(panel),
            [windows],
            share_segmentation=self.share_segmentation,
            device=weight.device,
            dtype=weight.dtype,
        )


def warn_if_far(panel: Panel, model: PanelModel) -> Panel:
    """Return the panel, and warn if a wide frame can hardly hold the series of `fit`.

    Parameters
    ----------
    panel : Panel
        Panel of the given frame. A panel of a long frame is not checked, because a long frame names
        its items.
    model : PanelModel
        Trained model, with whose scaling the last look-back of the panel is compared.

    Warns
    -----
    UserWarning
        If the mean of a channel in the look-back is more than 100 fitted standard deviations away
        from the fitted mean, or if the standard deviation of the channel is more than 1000 times
        the fitted one, or less than a thousandth of it but not 0. If a channel was constant in
        `fit`, its standard deviation is unknown, and the difference of the means is measured in
        units of the fitted mean, or of 1 if that is larger.
    """
    if panel.layout.was_long or panel.item_ids[0] not in model.item_ids:
        return panel
    lookback = panel.tail(model.context_length)
    power = model.scaling_of(lookback).power
    own = Scaling.of_first_rows(lookback, model.context_length, power)
    position = model.item_ids.index(panel.item_ids[0])
    mean, std = model.scaling.mean[position], model.scaling.std[position]
    constant = std == 1  # stored for constant channels
    unit = np.where(constant, np.maximum(1, np.abs(mean)), std)
    ratio = np.where(constant | (own.std[0] == 1), 1, own.std[0] / std)  # 1 if constant
    far = (np.abs(own.mean[0] - mean) > 100 * unit) | (ratio > 1000) | (ratio < 1e-3)
    far &= lookback.observed.any(axis=0)
    if not far.any():
        return panel
    channel = int(far.argmax())
    after = "" if power is None else f", after the transform {power.name!r}"
    warnings.warn(
        "A wide frame is treated as the series of fit, and is scaled by the values of fit. Channel "
        f"{panel.channels[channel]!r} had mean {mean[channel]:.4g} and deviation "
        f"{std[channel]:.4g} in fit, but has mean {own.mean[0, channel]:.4g} and deviation "
        f"{own.std[0, channel]:.4g} at the end of this frame{after}. If this is another series, "
        "pass it as an item of a long frame, so that it is scaled by its own values.",
        UserWarning,
        stacklevel=outside_level(),
    )
    return panel


def warn_if_extreme(
    panel: Panel, item: NDArray[np.intp], prediction: NDArray[np.float64], model: PanelModel
) -> None:
    """Warn if forecasts lie far outside the range of the data, as after diverged training.

    Parameters
    ----------
    panel : Panel
        Series that were forecast.
    item : ndarray of shape (forecasts,)
        Position of the item of each forecast in the panel.
    prediction : ndarray of shape (forecasts, horizon, channels, 1 or quantiles)
        Forecasts in original units.
    model : PanelModel
        Model that made the forecasts.

    Warns
    -----
    UserWarning
        If the distance of a forecast from the range of observed values of its series exceeds ten
        times this range, or ten times the fitted standard deviation if that is larger.
    """
    shape = (panel.num_items, panel.num_channels)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for position in range(panel.num_items):
        rows = panel.item(position)
        seen = ~np.isnan(rows)
        low[position] = rows.min(axis=0, initial=np.inf, where=seen)
        high[position] = rows.max(axis=0, initial=-np.inf, where=seen)
    margin = 10 * np.maximum(high - low, model.scaling_of(panel).deviation())
    with np.errstate(invalid="ignore"):  # channels without any observed value
        low, high = (low - margin)[item][:, None, :, None], (high + margin)[item][:, None, :, None]
        extreme = (prediction < low) | (prediction > high)
    if not extreme.any():
        return
    first = tuple(np.argwhere(extreme)[0])
    where, channel = item[first[0]], first[2]
    warnings.warn(
        f"Forecasts lie far outside the data: channel {panel.channels[channel]!r} of series "
        f"{panel.item_ids[where]!r} is forecast as {prediction[first]:.4g}, and its observed "
        f"values reach from {np.nanmin(panel.item(where)[:, channel]):.4g} to "
        f"{np.nanmax(panel.item(where)[:, channel]):.4g}. The training may have diverged: lower "
        "the learning rate of the trainer, or set its gradient_clip=1.0, and fit again.",
        UserWarning,
        stacklevel=3,
    )
