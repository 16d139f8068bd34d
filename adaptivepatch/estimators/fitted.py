"""What a fitted `Forecaster` knows beside its parameters."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.network import PatchNetwork
from adaptivepatch.patchers import Patcher
from adaptivepatch.training.record import TrainingRecord


class FittedState:
    """The attributes that `Forecaster.fit` sets, in one place."""

    def remember(
        self,
        *,
        model: PanelModel,
        record: TrainingRecord,
        columns: dict[str, Any],
        settings: dict[str, Any],
        history: Panel,
        season: int,
        naive_scale: NDArray[np.float64],
        skipped: tuple[Hashable, ...],
    ) -> None:
        """Become fitted, all at once: a fit that fails leaves an earlier one as it was.

        Parameters
        ----------
        model : PanelModel
            Trained.
        record : TrainingRecord
            Its training.
        columns : dict
            Names of the key columns and the target.
        settings : dict
            Arguments of `fit` that shape training, to train in the same way again.
        history : Panel
            Last look-back of every item.
        season : int
            Of the naive forecast, in time steps.
        naive_scale : ndarray of shape (items, channels)
            Error of that forecast on training rows.
        skipped : tuple of hashable
            Items that were too short to train on.
        """
        self.model_ = model
        self.record_ = record
        self.columns_ = columns
        self.settings_ = settings
        self.history_ = history
        self.channels_ = history.channels
        self.freq_ = history.freq
        self.season_ = season
        self.naive_scale_ = naive_scale
        self.skipped_ = skipped

    @property
    def network_(self) -> PatchNetwork:
        """The trained network."""
        check_is_fitted(self, "model_")
        return self.model_.network

    @property
    def patcher_(self) -> Patcher:
        """The trained patcher."""
        return self.network_.patcher

    @property
    def scaling_(self) -> Scaling:
        """Mean and deviation of the training rows."""
        check_is_fitted(self, "model_")
        return self.model_.scaling
