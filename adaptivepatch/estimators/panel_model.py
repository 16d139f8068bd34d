"""`PanelModel`: a trained network and its scaling, from panels to forecasts in original units."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.data.windows import Windows, forecast_windows
from adaptivepatch.errors import InvalidFrameError
from adaptivepatch.estimators.frames import append_rows, scaling_of_first_rows
from adaptivepatch.estimators.panel_source import PanelSource
from adaptivepatch.estimators.sharing import Sharing
from adaptivepatch.network import PatchNetwork
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.inference import (
    predict_windows,
    segment_windows,
    window_boundary_prob,
)


@dataclass
class PanelModel:
    """A trained network with what it takes to apply it to panels.

    Parameters
    ----------
    network : PatchNetwork
        Trained.
    scaling : Scaling
        Of the items of training.
    item_ids : tuple of hashable
        Those items.
    context_length, horizon : int
        T and H.
    share_segmentation : bool or sequence of sequences of str
        Channels of a window that share their patches.
    quantiles : tuple of float, optional
        Levels the network forecasts.
    precision : torch.dtype, optional
        Autocast type.
    """

    network: PatchNetwork
    scaling: Scaling
    item_ids: tuple[Hashable, ...]
    context_length: int
    horizon: int
    share_segmentation: Sharing
    quantiles: tuple[float, ...] | None = None
    precision: torch.dtype | None = None

    def lookbacks(self, panel: Panel) -> Windows:
        """Return the last look-back of every item.

        Raises
        ------
        InvalidFrameError
            If a channel has fewer than 2 observed points there.
        """
        return last_lookbacks(panel, self.context_length, self.horizon, "A forecast")

    def forecast(self, panel: Panel, horizon: int) -> NDArray[np.float64]:
        """Forecast the steps after the end of every item, feeding forecasts back if needed.

        Returns
        -------
        ndarray of shape (items, horizon, channels, 1 or quantiles)
            In original units.
        """
        scaling = self.scaling_of(panel)
        parts: list[NDArray[np.float64]] = []
        for number in range(math.ceil(horizon / self.horizon)):
            if number:
                panel = append_rows(panel, parts[-1][..., 0])
            parts.append(self.predict(panel, self.lookbacks(panel), scaling))
        return np.concatenate(parts, axis=1)[:, :horizon]

    def predict(
        self, panel: Panel, windows: Windows, scaling: Scaling | None = None
    ) -> NDArray[np.float64]:
        """Forecast windows.

        Returns
        -------
        ndarray of shape (windows, horizon, channels, 1 or quantiles)
            In original units.
        """
        scaling = self.scaling_of(panel) if scaling is None else scaling
        source = self._source(panel, scaling, windows)
        channels = panel.num_channels
        rows = predict_windows(
            self.network, source.lookbacks, source.numbers(windows), channels, self.precision
        ).numpy()
        levels = 1 if self.quantiles is None else len(self.quantiles)
        by_channel = rows.reshape(len(windows), channels, self.horizon, levels)
        return scaling.inverse(by_channel.transpose(0, 2, 1, 3), windows.item, channel_axis=-2)

    def segment(self, panel: Panel, windows: Windows) -> Segmentation:
        """Return the patches of windows, one row per window and channel."""
        source = self._source(panel, self.scaling_of(panel), windows)
        numbers = source.numbers(windows)
        return segment_windows(self.network, source.lookbacks, numbers, panel.num_channels)

    def boundary_prob(self, panel: Panel, windows: Windows) -> NDArray[np.float64] | None:
        """Return the probability that a step starts a patch, where the patcher states it.

        Parameters
        ----------
        panel : Panel
            Where the windows are.
        windows : Windows
            What to segment.

        Returns
        -------
        ndarray of shape (windows * channels, steps) or None
        """
        source = self._source(panel, self.scaling_of(panel), windows)
        numbers = source.numbers(windows)
        found = window_boundary_prob(self.network, source.lookbacks, numbers, panel.num_channels)
        return None if found is None else found.numpy()

    def scaling_of(self, panel: Panel) -> Scaling:
        """Return the fitted scaling of known items, that of the first look-back for others."""
        if panel.item_ids == self.item_ids:
            return self.scaling
        known = {id_: position for position, id_ in enumerate(self.item_ids)}
        own = scaling_of_first_rows(panel, self.context_length)
        for position, id_ in enumerate(panel.item_ids):
            if id_ in known:
                own.mean[position] = self.scaling.mean[known[id_]]
                own.std[position] = self.scaling.std[known[id_]]
        return own

    def _source(self, panel: Panel, scaling: Scaling, windows: Windows) -> PanelSource:
        weight = next(self.network.head.parameters())
        return PanelSource(
            panel,
            scaling,
            [windows],
            share_segmentation=self.share_segmentation,
            device=weight.device,
            dtype=weight.dtype,
        )


def last_lookbacks(panel: Panel, context_length: int, horizon: int, what: str) -> Windows:
    """Return the last look-back of every item, which `what` is asked for.

    Raises
    ------
    InvalidFrameError
        If a channel has fewer than 2 observed points there.
    """
    windows = forecast_windows(panel, context_length, horizon)
    if windows.skipped:
        item = windows.skipped[0]
        raise InvalidFrameError(
            f"{what} needs 2 look-back points. Series {item!r} has "
            f"{int(panel.lengths[panel.position[item]])}. Leave it out, or pass more of "
            "its history."
        )
    observed = windows.num_observed_past()
    if (observed < 2).any():
        window, channel = np.argwhere(observed < 2)[0]
        raise InvalidFrameError(
            f"{what} needs 2 observed look-back points. Channel "
            f"{panel.channels[channel]!r} of series {windows.item_id[window]!r} has "
            f"{int(observed[window, channel])} in the last {context_length} steps. Leave "
            "the series out, fill it, or use a longer context_length."
        )
    return windows
