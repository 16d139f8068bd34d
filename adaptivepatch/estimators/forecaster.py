"""`Forecaster`: the DataFrame face; ``fit(df)``, ``predict()``, ``backtest(df)``.

Frames become panels in ``data/frame.py``, panels become window batches here and in
``panel_source.py``, and from there on everything is torch: ``network.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from adaptivepatch.data.frame import Panel, read_frame
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_int
from adaptivepatch.estimators import frames, storage
from adaptivepatch.estimators.backtest import Backtest, run_backtest
from adaptivepatch.estimators.fitting import (
    check_quantiles,
    draw_seed,
    resolve_backbone,
    resolve_patcher,
    resolve_trainer,
)
from adaptivepatch.estimators.panel_fit import fit_panel
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.panel_source import complete_or_padded
from adaptivepatch.estimators.seasons import default_season
from adaptivepatch.estimators.selection import held_out_rows
from adaptivepatch.metrics import seasonal_naive_scale
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.patchers import Patcher
from adaptivepatch.training.trainer import Callback, Trainer, TrainingRecord


class Forecaster(BaseEstimator):
    """Forecast the series of a DataFrame.

    One network serves all items and channels; each channel of a window is forecast on its own
    from its own look-back (channel independence).

    Parameters
    ----------
    horizon : int
        Steps H to forecast.
    context_length : int, default=336
        Look-back T the network sees, in time steps. Items that are shorter are padded and masked.
    patcher : Patcher or str, default="fixed"
        Where patches begin; a name stands for the default-constructed patcher.
    backbone : Backbone or str, default="patchtst"
        What reads the patches.
    values_per_patch : int, optional
        Values a token is made from; default: patch length plus halo.
    quantiles : sequence of float, optional
        Levels to forecast beside the point, holding 0.5, which then is the point forecast.
    loss : {"mse", "mae", "huber"}, default="mse"
        Point loss, on series scaled to unit variance. With `quantiles` the pinball loss is used.
    share_segmentation : bool, default=False
        Give all channels of a window the same patches.
    missing : {"error", "mask"}, default="error"
        What NaN and absent stamps mean: refuse, or keep as unobserved steps.
    trainer : Trainer, optional
        Settings of training.
    random_state : int, RandomState or None, default=None
        Determines weights, batch order and sampling.

    Attributes
    ----------
    network_ : PatchNetwork
        The trained network; its ``patcher`` is ``patcher_``.
    record_ : TrainingRecord
        Course of training (before the refit).
    channels_ : tuple of str
        Channel names, sorted.
    freq_ : pandas offset or int
        One time step.
    scaling_ : Scaling
        Mean and deviation per item and channel of the training rows.
    season_ : int
        Season of the naive forecast that MASE compares with, in time steps.

    Notes
    -----
    Each channel of each item is standardised by its training rows; items first met in `predict`
    or `backtest` by their first look-back. A wide frame is always taken for the series of `fit`:
    pass other series, above all of another size, as items of a long frame. scikit-learn's checks
    of parameters, cloning and tags hold; those of array input do not apply (`WindowRegressor`).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from adaptivepatch import Forecaster, Trainer
    >>> index = pd.date_range("2024-01-01", periods=400, freq="h")
    >>> df = pd.DataFrame({"load": np.sin(np.arange(400) * np.pi / 12)}, index=index)
    >>> model = Forecaster(horizon=12, context_length=48, trainer=Trainer(max_steps=20))
    >>> model.fit(df).predict().columns.tolist()
    ['item_id', 'timestamp', 'target_name', 'prediction']
    """

    def __init__(
        self,
        horizon: int,
        context_length: int = 336,
        patcher: Any = "fixed",
        backbone: Any = "patchtst",
        values_per_patch: int | None = None,
        quantiles: Sequence[float] | None = None,
        loss: str = "mse",
        share_segmentation: bool = False,
        missing: Literal["error", "mask"] = "error",
        trainer: Any = None,
        random_state: Any = None,
    ) -> None:
        self.horizon = horizon
        self.context_length = context_length
        self.patcher = patcher
        self.backbone = backbone
        self.values_per_patch = values_per_patch
        self.quantiles = quantiles
        self.loss = loss
        self.share_segmentation = share_segmentation
        self.missing = missing
        self.trainer = trainer
        self.random_state = random_state

    # ------------------------------------------------------------------ fit

    def fit(
        self,
        df: pd.DataFrame,
        *,
        item_id: str = "item_id",
        timestamp: str = "timestamp",
        target: str | Sequence[str] | None = None,
        freq: Any = None,
        validation_rows: int | None = None,
        refit: bool = True,
        callback: Callback | None = None,
    ) -> Self:
        """Train on a frame.

        Parameters
        ----------
        df : pandas.DataFrame
            Wide (one column per channel, stamps in the index or a column) or long (with a column
            of item ids).
        item_id, timestamp : str
            Names of the key columns.
        target : str or sequence of str, optional
            Channels to forecast; default: every column that is not a key, which must be numeric.
        freq : str, pandas offset or int, optional
            One step, where it cannot be inferred.
        validation_rows : int, optional
            Rows at the end of each item whose windows select the number of steps. Default:
            max(horizon, 10 %) of each item that keeps at least one training window.
        refit : bool, default=True
            Train again on all rows for the best number of steps.
        callback : callable, optional
            Called as ``callback(step, metrics)`` after every validation, not in the refit.

        Returns
        -------
        Forecaster
            Itself.

        Raises
        ------
        InvalidFrameError
            If the frame does not describe regular series that are long enough.
        InvalidParameterError
            If a parameter is out of range.
        """
        trainer = self._check()
        columns: dict[str, Any] = {"item_id": item_id, "timestamp": timestamp, "target": target}
        panel = read_frame(df, **columns, missing=self.missing, freq=freq)
        if validation_rows is not None:
            check_int(self, validation_rows=validation_rows)
        held_out = held_out_rows(panel, self.horizon, validation_rows)
        seed = draw_seed(self.random_state)
        model, record = fit_panel(self, panel, trainer, held_out, seed=seed, callback=callback)
        if refit and not np.isnan(record.best_loss):
            model, _ = fit_panel(self, panel, trainer, 0, seed=seed, plan=record)
        season = default_season(panel.freq)
        self.remember(
            model=model,
            record=record,
            columns=columns,
            history=panel.tail(np.minimum(panel.lengths, self.context_length)),
            season=season,
            naive_scale=seasonal_naive_scale(panel.values, season, panel.row_offsets),
        )
        return self

    def _check(self) -> Trainer:
        check_int(self, horizon=self.horizon)
        check_int(self, low=2, context_length=self.context_length)
        if self.values_per_patch is not None:
            check_int(self, values_per_patch=self.values_per_patch)
        check_quantiles(self, self.quantiles)
        return resolve_trainer(self.trainer)

    def make_network(self) -> PatchNetwork:
        """Return an untrained network with this forecaster's parameters."""
        return build_network(
            resolve_patcher(self.patcher),
            resolve_backbone(self.backbone),
            context_length=self.context_length,
            horizon=self.horizon,
            quantiles=check_quantiles(self, self.quantiles),
            values_per_patch=self.values_per_patch,
        )

    def remember(
        self,
        *,
        model: PanelModel,
        record: TrainingRecord,
        columns: dict[str, Any],
        history: Panel,
        season: int,
        naive_scale: NDArray[np.float64],
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
        history : Panel
            Last look-back of every item.
        season : int
            Of the naive forecast, in time steps.
        naive_scale : ndarray of shape (items, channels)
            Error of that forecast on training rows.
        """
        self.model_ = model
        self.record_ = record
        self.columns_ = columns
        self.history_ = history
        self.channels_ = history.channels
        self.freq_ = history.freq
        self.season_ = season
        self.naive_scale_ = naive_scale

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

    # ------------------------------------------------------------------ predict

    def predict(
        self, df: pd.DataFrame | None = None, horizon: int | None = None, rollout: bool = False
    ) -> pd.DataFrame:
        """Forecast the steps after the end of each series.

        Parameters
        ----------
        df : pandas.DataFrame, optional
            Other series, or later values of the same, to forecast without training again.
            Default: the series of `fit`.
        horizon : int, optional
            Steps to forecast; default: the trained horizon. Fewer are the first of it.
        rollout : bool, default=False
            Allow more steps than the trained horizon, by feeding forecasts back as history.

        Returns
        -------
        pandas.DataFrame
            One row per item, channel and step: item_id, timestamp, target_name, prediction, and
            one column per quantile, named by its level.

        Raises
        ------
        InvalidFrameError
            If a series cannot be forecast.
        InvalidParameterError
            If `horizon` exceeds the trained one without `rollout`.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        horizon = model.horizon if horizon is None else horizon
        check_int(self, horizon=horizon)
        if horizon > model.horizon and not rollout:
            raise InvalidParameterError(
                f"The model was trained to forecast {model.horizon} steps. Got horizon={horizon!r}."
                " Pass rollout=True to feed forecasts back, or fit with the longer horizon."
            )
        if horizon > model.horizon and model.quantiles is not None:
            raise InvalidParameterError(
                "Feeding forecasts back gives no quantiles: the spread of later steps would be "
                f"that of the first {model.horizon}. Got horizon={horizon!r}. Fit with the longer "
                "horizon, or without quantiles."
            )
        panel = self.history_ if df is None else self._read(df)
        return frames.forecast_frame(panel, model.forecast(panel, horizon), model.quantiles)

    def _read(self, df: pd.DataFrame) -> Panel:
        """Read a frame that must look like the one of `fit`."""
        return frames.read_like_fitted(
            df, self.columns_, self.channels_, self.freq_, missing=self.missing
        )

    # ------------------------------------------------------------------ evaluate, look, keep

    def backtest(self, df: pd.DataFrame, stride: int = 1, start: Any = None) -> Backtest:
        """Forecast every window of a frame and keep what happened beside it.

        Parameters
        ----------
        df : pandas.DataFrame
            Series with the channels of `fit`; nothing is trained.
        stride : int, default=1
            Steps between cutoffs.
        start : timestamp or int, optional
            First stamp that may be a target. Earlier rows serve as look-back only.

        Returns
        -------
        Backtest

        Raises
        ------
        InvalidFrameError
            If there is no window to forecast.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        check_int(self, stride=stride)
        panel = self._read(df)
        windows = complete_or_padded(
            panel,
            model.context_length,
            model.horizon,
            stride=stride,
            targets_from=None if start is None else frames.rows_before(panel, start),
        )
        if len(windows) == 0:
            raise InvalidFrameError(
                f"A backtest needs a window of 2 look-back points and {model.horizon} targets"
                f"{'' if start is None else f' from {start!r} on'}. The longest series has "
                f"{int(panel.lengths.max())} rows. Pass more rows or an earlier start."
            )
        return run_backtest(model, windows, self.naive_scale_, self.season_)

    def score(self, df: pd.DataFrame, stride: int = 1) -> float:
        """Return minus the MASE over every window of a frame, so that larger is better.

        Parameters
        ----------
        df : pandas.DataFrame
            Items of `fit`, later in time or held out.
        stride : int, default=1
            Steps between cutoffs.

        Raises
        ------
        InvalidFrameError
            If no item was met in `fit`, which MASE needs.
        """
        return -self.backtest(df, stride).mase()

    def segment(self, df: pd.DataFrame | None = None) -> pd.DataFrame:
        """Show the patches of the last look-back of each series.

        Parameters
        ----------
        df : pandas.DataFrame, optional
            Default: the series of `fit`.

        Returns
        -------
        pandas.DataFrame
            One row per patch: item_id, target_name, patch (from 0, oldest), start and end (stamps
            of its first and last step), length in time steps. Padding before the start of a
            series is left out.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        panel = self.history_ if df is None else self._read(df)
        windows = model.lookbacks(panel)
        patches = model.segment(panel, windows)
        lengths = patches.patch_lengths.numpy().reshape(len(windows), panel.num_channels, -1)
        return frames.segmentation_frame(panel, lengths)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the fitted model into a folder (JSON and safetensors).

        Parameters
        ----------
        path : str or Path
            Folder to write to.
        overwrite : bool, default=False
            Replace a model that is there.

        Returns
        -------
        Path
            The folder.
        """
        check_is_fitted(self, "model_")
        return storage.save(self, path, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path, classes: Sequence[type] = ()) -> Forecaster:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The folder.
        classes : sequence of type, optional
            Patchers and backbones of your own that the model uses.

        Raises
        ------
        InvalidModelError
            If the folder does not hold a model that this version can read.
        """
        return storage.load(cls, path, classes)
