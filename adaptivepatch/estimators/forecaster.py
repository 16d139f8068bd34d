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
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from adaptivepatch.data.frame import Panel, read_frame, refuse_covariates
from adaptivepatch.data.keys import check_named_keys
from adaptivepatch.errors import InvalidFrameError, check_int
from adaptivepatch.estimators import frames, storage
from adaptivepatch.estimators.backtest import Backtest, run_backtest
from adaptivepatch.estimators.course import backtest_with_refits, train_and_refit, warn_interrupted
from adaptivepatch.estimators.fitted import FittedState
from adaptivepatch.estimators.fitting import (
    check_quantiles,
    check_reach,
    check_shape,
    check_size,
    check_training,
    draw_seed,
    enough_memory,
    resolve_backbone,
    resolve_patcher,
    resolve_trainer,
)
from adaptivepatch.estimators.panel_source import complete_or_padded
from adaptivepatch.estimators.resuming import initial_weights, open_checkpoints
from adaptivepatch.estimators.seasons import default_season
from adaptivepatch.estimators.selection import without_short
from adaptivepatch.metrics import seasonal_naive_scale
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.training.trainer import Callback, Trainer


class Forecaster(FittedState, BaseEstimator):
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
        Values that a patch is resampled to; default: patch length plus halo.
    embedding : {"aligned", "resampled"}, optional
        Whether a token knows its points by their time, or as a patch resampled from border to
        border. Default: "resampled", which is PatchTST's, for patches that stand still or with
        `values_per_patch`; "aligned" for patches that move.
    quantiles : sequence of float, optional
        Levels to forecast beside the point, holding 0.5, which then is the point forecast.
    loss : {"mse", "mae", "huber"}, default="mse"
        Point loss, on series scaled to unit variance. With `quantiles` the pinball loss is used.
    share_segmentation : bool or lists of str, default=False
        Give all channels of a window the same patches, or those of each list of channels.
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
    skipped_ : tuple of hashable
        Items that were too short to train on (see `fit`).

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
        embedding: str | None = None,
        quantiles: Sequence[float] | None = None,
        loss: str = "mse",
        share_segmentation: bool | Sequence[Sequence[str]] = False,
        missing: Literal["error", "mask"] = "error",
        trainer: Any = None,
        random_state: Any = None,
    ) -> None:
        self.horizon = horizon
        self.context_length = context_length
        self.patcher = patcher
        self.backbone = backbone
        self.values_per_patch = values_per_patch
        self.embedding = embedding
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
        short: Literal["error", "skip"] = "error",
        validation_rows: int | None = None,
        refit: bool = True,
        callback: Callback | None = None,
        init: Forecaster | str | Path | None = None,
        checkpoint: str | Path | None = None,
        resume: str | Path | None = None,
        **covariates: Any,
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
        short : {"error", "skip"}, default="error"
            Refuse items of fewer than 2 rows and the horizon, or leave them out with a warning.
        validation_rows : int, optional
            Rows at the end of each item whose windows select the number of steps. Default:
            max(horizon, 10 %) of each item that keeps at least one training window.
        refit : bool, default=True
            Train again on all rows for the best number of steps.
        callback : callable, optional
            Called as ``callback(step, metrics)`` after every validation, not in the refit.
        init : Forecaster or path, optional
            Fine-tune: begin with the weights of this fitted or saved model, of the same patcher,
            backbone and window. ``model.fit(df, init=model)`` goes on with new data; weights that
            no step improves on the validation rows stay as they were.
        checkpoint : path, optional
            Folder to write the state of training to, at the start and at every validation.
        resume : path, optional
            Go on from the checkpoint in this folder, with the same data and settings, to the same
            weights as an uninterrupted fit, bit for bit on the same machine.
        **covariates
            ``past_covariates`` and the like: reserved names, not yet supported.

        Returns
        -------
        Forecaster
            Itself. Ctrl-C after the first validation ends training with the best model so far and
            a warning; ``record_.interrupted`` then is True.

        Raises
        ------
        InvalidFrameError
            If the frame does not describe regular series that are long enough.
        InvalidParameterError
            If a parameter is out of range.
        """
        trainer = self._check()
        refuse_covariates(covariates)
        check_named_keys(df, item_id, timestamp)
        columns: dict[str, Any] = {"item_id": item_id, "timestamp": timestamp, "target": target}
        panel = read_frame(df, **columns, missing=self.missing, freq=freq)
        panel, skipped = without_short(panel, self.horizon, short)
        check_training(self, validation_rows, refit, callback)
        settings = {"validation_rows": validation_rows, "refit": refit}
        seed, weights = draw_seed(self.random_state), initial_weights(self, init)
        checkpoints = open_checkpoints(
            self,
            panel,
            trainer,
            settings,
            seed=seed,
            init=weights,
            checkpoint=checkpoint,
            resume=resume,
        )
        model, record = train_and_refit(
            self,
            panel,
            trainer,
            settings,
            seed=seed if checkpoints is None else checkpoints.seed,
            callback=callback,
            init=weights if checkpoints is None else checkpoints.init,
            checkpoints=checkpoints,
        )
        if record.interrupted:
            warn_interrupted(record, None if checkpoints is None else checkpoints.folder)
        season = default_season(panel.freq)
        self.remember(
            model=model,
            record=record,
            columns=columns,
            settings=settings,
            history=panel.tail(np.minimum(panel.lengths, self.context_length)),
            season=season,
            naive_scale=seasonal_naive_scale(panel.values, season, panel.row_offsets),
            skipped=skipped,
        )
        return self

    def _check(self) -> Trainer:
        check_shape(self)
        return resolve_trainer(self.trainer)

    def make_network(self) -> PatchNetwork:
        """Return an untrained network with this forecaster's parameters."""
        check_shape(self)
        with enough_memory():
            return build_network(
                resolve_patcher(self.patcher),
                resolve_backbone(self.backbone),
                context_length=self.context_length,
                horizon=self.horizon,
                quantiles=check_quantiles(self, self.quantiles),
                values_per_patch=self.values_per_patch,
                embedding=self.embedding,
            )

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
        check_size(self, horizon=horizon)
        check_reach(model, horizon, rollout)
        panel = self.history_ if df is None else self._read(df)
        return frames.forecast_frame(panel, model.forecast(panel, horizon), model.quantiles)

    def _read(self, df: pd.DataFrame) -> Panel:
        """Read a frame that must look like the one of `fit`."""
        panel = frames.read_like_fitted(
            df, self.columns_, self.channels_, self.freq_, missing=self.missing
        )
        return frames.warn_if_far(panel, self.model_)

    # ------------------------------------------------------------------ evaluate, look, keep

    def backtest(
        self,
        df: pd.DataFrame,
        stride: int = 1,
        start: Any = None,
        refit_every: int | None = None,
    ) -> Backtest:
        """Forecast every window of a frame and keep what happened beside it.

        Parameters
        ----------
        df : pandas.DataFrame
            Series with the channels of `fit`.
        stride : int, default=1
            Steps between cutoffs.
        start : timestamp or int, optional
            First stamp that may be a target. Earlier rows serve as look-back only.
        refit_every : int, optional
            Train anew, with the settings of `fit`, at `start` and every so many steps after it, on
            all earlier rows of `df`. The fitted model is neither used nor changed. Default: it
            forecasts everything, and nothing is trained.

        Returns
        -------
        Backtest

        Raises
        ------
        InvalidFrameError
            If there is no window to forecast, or nothing to train on before `start`.
        InvalidParameterError
            If `refit_every` is given without `start`.
        """
        check_is_fitted(self, "model_")
        shape = self.model_ if refit_every is None else self
        check_int(self, stride=stride)
        panel = self._read(df)
        windows = complete_or_padded(
            panel,
            shape.context_length,
            shape.horizon,
            stride=stride,
            targets_from=None if start is None else frames.rows_before(panel, start),
        )
        if len(windows) == 0:
            raise InvalidFrameError(
                f"A backtest needs a window of 2 look-back points and {shape.horizon} targets"
                f"{'' if start is None else f' from {start!r} on'}. The longest series has "
                f"{int(panel.lengths.max())} rows. Pass more rows or an earlier start."
            )
        if refit_every is not None:
            return backtest_with_refits(self, self._check(), windows, start, refit_every)
        return run_backtest(self.model_, windows, self.naive_scale_, self.season_)

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

    def segment(
        self, df: pd.DataFrame | None = None, by: Literal["patch", "step", "series"] = "patch"
    ) -> pd.DataFrame:
        """Show the patches of the last look-back of each series.

        Parameters
        ----------
        df : pandas.DataFrame, optional
            Default: the series of `fit`.
        by : {"patch", "step", "series"}, default="patch"
            What has a row; for "series" see `adaptivepatch.segment`.

        Returns
        -------
        pandas.DataFrame
            One row per patch: item_id, target_name, patch (from 0, oldest), start and end (stamps
            of its first and last step), length in time steps. Or one per step: item_id,
            target_name, timestamp, patch. Where the patcher states it, the column boundary_prob is
            the probability that a patch starts there (at the patch's start). Padding before the
            start of a series is left out.
        """
        check_is_fitted(self, "model_")
        panel = self.history_ if df is None else self._read(df)
        return frames.segment_panel(self.model_, panel, by)

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
