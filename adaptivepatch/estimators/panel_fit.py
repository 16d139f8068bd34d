"""Train a forecaster's network on a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.data.panel import Panel
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.estimators.fitting import check_quantiles, placement, train
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.panel_source import PanelSource
from adaptivepatch.estimators.selection import split_windows
from adaptivepatch.training.devices import resolve_precision
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.trainer import Trainer, TrainingRecord

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster


def fit_panel(
    forecaster: Forecaster,
    panel: Panel,
    trainer: Trainer,
    held_out: NDArray[np.int64] | int,
    **settings: Any,
) -> tuple[PanelModel, TrainingRecord]:
    """Train on all rows but those held out, which select the best step.

    Parameters
    ----------
    forecaster : Forecaster
        Whose settings to use; it is not changed.
    panel : Panel
        All rows.
    trainer : Trainer
        Checked.
    held_out : ndarray of shape (items,), or 0
        Rows at the end of each item.
    **settings
        Passed to `adaptivepatch.estimators.fitting.train`.
    """
    context_length, horizon = forecaster.context_length, forecaster.horizon
    split = split_windows(panel, context_length, horizon, held_out)
    scaling = Scaling.fit(panel, panel.lengths - held_out)
    source = PanelSource(
        panel,
        scaling,
        split.windows,
        share_segmentation=forecaster.share_segmentation,
        **placement(trainer),
    )
    quantiles = check_quantiles(forecaster, forecaster.quantiles)
    network, record = train(
        forecaster.make_network,
        source,
        split.numbers(source),
        make_loss(forecaster.loss, quantiles),
        trainer,
        **settings,
    )
    model = PanelModel(
        network,
        scaling,
        panel.item_ids,
        context_length,
        horizon,
        forecaster.share_segmentation,
        quantiles,
        resolve_precision(trainer.precision)[1],
    )
    return model, record
