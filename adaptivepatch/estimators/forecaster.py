"""`Forecaster`: the estimator for data frames: ``fit(df)``, ``predict()``, ``backtest(df)``.

``data/frame.py`` reads a frame into a panel, ``training_windows.py`` turns the panel into batches
on the device, and ``fitting.py`` trains the network of ``network.py`` on them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from adaptivepatch.data.frame import (
    check_id_types,
    read_frame,
    read_frame_like_fitted,
    refuse_covariates,
)
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling, check_values
from adaptivepatch.data.result_frames import forecast_frame
from adaptivepatch.data.seasons import default_season, naive_seasons
from adaptivepatch.data.sharing import check_sharing
from adaptivepatch.data.splitting import (
    held_out_rows,
    refit_borders,
    rows_to_train_on,
    without_short,
)
from adaptivepatch.data.transforms import check_bounds, check_transform
from adaptivepatch.data.windows import Windows, complete_or_padded
from adaptivepatch.errors import InvalidFrameError, InvalidParameterError, check_bool, check_int
from adaptivepatch.estimators import storage
from adaptivepatch.estimators.backtest import Backtest, join_backtests, run_backtest
from adaptivepatch.estimators.base import Estimator
from adaptivepatch.estimators.fitting import Fit, FitJob, fit_and_refit, warn_if_still_falling
from adaptivepatch.estimators.panel_model import PanelModel, warn_if_extreme, warn_if_far
from adaptivepatch.estimators.resuming import (
    Checkpoints,
    NoCheckpoints,
    checkpoint_folder,
    identity_of,
    open_checkpoints,
    weights_to_begin_with,
)
from adaptivepatch.estimators.settings import (
    NetworkSettings,
    check_embedding,
    check_quantiles,
    check_steps,
    default_context_length,
    draw_seed,
)
from adaptivepatch.estimators.storage import FittedState
from adaptivepatch.estimators.training_windows import PanelTrainingData
from adaptivepatch.keywords import helpful, keyword_names
from adaptivepatch.metrics import seasonal_naive_scale
from adaptivepatch.network import PatchNetwork
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import Callback, TrainingRecord
from adaptivepatch.training.trainer import Trainer, resolve_trainer


class Forecaster(Estimator):
    """Forecast the series of a DataFrame.

    One network forecasts all items and channels. Each channel of a window is forecast from its own
    look-back only (channel independence).

    Parameters
    ----------
    horizon : int
        Number of steps H to forecast.
    context_length : int, optional
        Look-back T, in time steps. Shorter items are padded and masked. Default: 336, or a quarter
        of the longest series (at least 24) if that series has fewer than 672 rows.
    patcher : Patcher or str, default="fixed"
        Patcher that decides where patches begin. A name means a patcher with default parameters.
    backbone : Backbone or str, optional
        Backbone that reads the patches. A name means a backbone with default parameters. Default:
        a `PatchTSTBackbone` of width 32 with 2 layers, a feed-forward width of 64 and dropout 0.1.
    values_per_patch : int, optional
        Number of values that a patch is resampled to. Default: patch length plus halo.
    embedding : {"aligned", "resampled", "both"}, optional
        Embedding of a patch: its points by their time ("aligned"), the patch resampled from border
        to border ("resampled", as in PatchTST), or the sum of the two. Default: "resampled" for
        patches that do not move or with `values_per_patch`, "aligned" for patches that move.
    quantiles : sequence of float, optional
        Quantiles to forecast, increasing; they contain 0.5, which is the point forecast.
    loss : {"mae", "mse", "huber"}, default="mae"
        Point loss, on series scaled to unit variance, after `transform` if one is given. With
        `quantiles` the pinball loss is used.
    share_segmentation : bool or lists of str, default=False
        Give all channels of a window the same patches, or the channels of each list.
    missing : {"error", "mask"}, default="error"
        Treatment of NaN and absent stamps: raise an error, or keep them as unobserved steps.
    trainer : Trainer, optional
        Settings of training. Default: ``Trainer()``.
    random_state : int, RandomState or None, default=None
        Seed of weights, batch order and sampling.
    season : int, optional
        Season of the naive forecast that MASE compares with, in time steps. Default: a day, a week
        or a year, depending on the step. A backtest also shows the naive forecast of this season.
    bounds : "nonnegative" or pair (low, high), optional
        Lowest and highest possible value, None for an open side; "nonnegative" means (0, None).
        All forecasts and their quantiles are clipped to them.
    transform : {"log1p", "box_cox", "yeo_johnson"}, optional
        Transform of the values before they are scaled, undone in all forecasts: log(1 + x), for
        values above -1; a power that is fitted to each item and channel, for positive values; or
        such a power for values of any sign.

    Attributes
    ----------
    network_ : PatchNetwork
        The trained network; its ``patcher`` is ``patcher_``.
    record_ : TrainingRecord
        Record of training (before the refit).
    context_length_ : int
        Look-back of the trained network, in time steps.
    channels_ : tuple of str
        Channel names, sorted.
    freq_ : pandas offset or int
        One time step.
    scaling_ : Scaling
        Mean and deviation of the training rows, per item and channel, after `transform`.
    season_ : int
        Season of the naive forecast that MASE compares with, in time steps.
    naive_seasons_ : tuple of int
        Seasons of the naive forecasts that a backtest shows beside the model, in time steps: 1,
        which is the last value, `season_`, and the day, the week and the year where they are
        whole numbers of steps. For integer stamps, seasons are found on the training rows.
    skipped_ : tuple of hashable
        Items that were too short to train on (see `fit`).

    Notes
    -----
    Each channel of each item is standardised by its training rows. Items that were not in `fit` are
    standardised by their first look-back. A wide frame is always taken for the series of `fit`:
    pass other series, in particular of another scale, as items of a long frame. scikit-learn's
    checks of parameters, cloning and tags pass; its checks of array input apply to
    `WindowRegressor` only.

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
        context_length: int | None = None,
        patcher: Any = "fixed",
        backbone: Any = None,
        values_per_patch: int | None = None,
        embedding: str | None = None,
        quantiles: Sequence[float] | None = None,
        loss: str = "mae",
        share_segmentation: bool | Sequence[Sequence[str]] = False,
        missing: Literal["error", "mask"] = "error",
        trainer: Any = None,
        random_state: Any = None,
        season: int | None = None,
        bounds: str | Sequence[float | None] | None = None,
        transform: str | None = None,
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
        self.season = season
        self.bounds = bounds
        self.transform = transform

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
            Channels to forecast. Default: every column that is not a key; all must be numeric.
        freq : str, pandas offset or int, optional
            One time step, if it cannot be inferred.
        short : {"error", "skip"}, default="error"
            Treatment of items with fewer rows than 2 plus the horizon: raise an error, or leave
            them out with a warning.
        validation_rows : int, optional
            Number of rows at the end of each item whose windows select the number of steps.
            Default: 10 % of the rows of each item, but at least the horizon. Items that would keep
            no training window hold out no rows.
        refit : bool, default=True
            Train again on all rows for the best number of steps.
        callback : callable, optional
            Function that is called as ``callback(step, metrics)`` after every validation; the
            refit has none.
        init : Forecaster or path, optional
            Fitted or saved model to fine-tune, with the same patcher, backbone, look-back and
            horizon. ``model.fit(df, init=model)`` continues training on new data. The initial
            weights are kept if no step improves on them on the validation rows.
        checkpoint : path, optional
            Folder to write the state of training to, at the start and at every validation.
        resume : path, optional
            Folder of a checkpoint to resume from, with the same data and settings. The result has
            the weights of an uninterrupted fit, bit for bit on the same machine.
        **covariates
            Reserved names such as ``past_covariates``, not yet supported.

        Returns
        -------
        Forecaster
            This forecaster. Ctrl-C after the first validation ends training with the best model so
            far and a warning; ``record_.interrupted`` is then True.

        Raises
        ------
        InvalidFrameError
            If the frame does not describe regular series that are long enough, or a value
            contradicts `bounds` or `transform`.
        InvalidParameterError
            If a parameter is out of range, or the run to resume had different data or settings.
        UnexpectedArgumentError
            If there is no parameter of a name.
        OutputExistsError
            If the folder `checkpoint` holds a checkpoint already.
        """
        settings, trainer = self._settings(), resolve_trainer(self.trainer)
        refuse_covariates(covariates, keyword_names(type(self).fit))
        columns: dict[str, Any] = {"item_id": item_id, "timestamp": timestamp, "target": target}
        panel = read_frame(df, **columns, missing=self.missing, freq=freq, keys_must_exist=True)
        check_values(panel, self.transform, check_bounds(self, self.bounds))
        panel, skipped = without_short(panel, self.horizon, short)
        data_digest = panel.digest()
        _check_arguments(self, validation_rows, refit, callback)
        settings = self._with_look_back(settings, int(panel.lengths.max()), init)
        settings.warn_if_patches_are_too_long()
        arguments = {"validation_rows": validation_rows, "refit": refit}
        held_out = held_out_rows(panel, self.horizon, validation_rows)
        season = default_season(panel.freq) if self.season is None else self.season
        naive_scale = seasonal_naive_scale(panel.values, season, panel.row_offsets)
        checkpoints = self._checkpoints(settings, data_digest, arguments, init, checkpoint, resume)
        job = FitJob(
            make_network=settings.make,
            row_loss=make_loss(self.loss, settings.quantiles),
            trainer=trainer,
            seed=checkpoints.seed,
            callback=callback,
            init=checkpoints.init,
            checkpoints=checkpoints,
        )
        data = PanelTrainingData(
            panel,
            held_out,
            settings.context_length,
            settings.horizon,
            self.share_segmentation,
            trainer.placement(),
            self.transform,
        )
        fit = fit_and_refit(job, data, refit=refit)
        if fit.record.interrupted:
            _warn_interrupted(fit.record, checkpoints.how_to_resume)
        warn_if_still_falling(fit.record, trainer)
        self._remember(
            FittedState(
                model=self._model(fit, panel.item_ids, settings, trainer),
                record=fit.record,
                columns=columns,
                settings=arguments,
                history=panel.tail(np.minimum(panel.lengths, settings.context_length)),
                season=season,
                naive_seasons=naive_seasons(panel, season),
                naive_scale=naive_scale,
                skipped=skipped,
            )
        )
        return self

    def _model(
        self,
        fit: Fit,
        item_ids: tuple[Hashable, ...],
        settings: NetworkSettings,
        trainer: Trainer,
    ) -> PanelModel:
        """Return the trained network with its scaling and settings."""
        return PanelModel(
            fit.network,
            fit.scaling,
            item_ids,
            settings.context_length,
            settings.horizon,
            self.share_segmentation,
            settings.quantiles,
            trainer.autocast,
            check_bounds(self, self.bounds),
        )

    @classmethod
    def _trained_model(cls, init: Any) -> PanelModel:
        """Return the trained model behind the argument `init` of `fit`."""
        forecaster = cls.load(init) if isinstance(init, str | Path) else init
        model = getattr(forecaster, "model_", None)
        if not isinstance(model, PanelModel):
            state = "an unfitted one" if isinstance(forecaster, cls) else repr(forecaster)
            raise TypeError(
                "fit(init=...) must be a fitted Forecaster or the folder of a saved one. Got "
                f"{state} instead."
            )
        return model

    def _settings(self) -> NetworkSettings:
        """Return the parameters that shape the network, after checking them."""
        check_steps(self, horizon=self.horizon)
        if self.context_length is not None:
            check_steps(self, low=2, context_length=self.context_length)
        check_sharing(self, self.share_segmentation)
        check_embedding(self, self.values_per_patch, self.embedding)
        if self.season is not None:
            check_int(self, season=self.season)
        check_bounds(self, self.bounds)
        check_transform(self, self.transform)
        return NetworkSettings(
            patcher=self.patcher,
            backbone=self.backbone,
            context_length=self.context_length or default_context_length(),
            horizon=self.horizon,
            quantiles=check_quantiles(self, self.quantiles),
            values_per_patch=self.values_per_patch,
            embedding=self.embedding,
        )

    def _with_look_back(
        self, settings: NetworkSettings, longest: int, init: Any = None
    ) -> NetworkSettings:
        """Return settings whose look-back, if none was given, follows from the longest series."""
        if self.context_length is not None:
            return settings
        if init is not None:
            return replace(settings, context_length=self._trained_model(init).context_length)
        return replace(settings, context_length=default_context_length(longest))

    def _checkpoints(
        self,
        settings: NetworkSettings,
        data_digest: str,
        arguments: dict[str, Any],
        init: Any,
        checkpoint: Any,
        resume: Any,
    ) -> Checkpoints | NoCheckpoints:
        """Return the checkpoints of a fit, together with its seed and its initial weights."""
        seed, weights = draw_seed(self.random_state), None
        if init is not None:
            weights = weights_to_begin_with(self._trained_model(init), settings, self.transform)
        folder = checkpoint_folder(checkpoint, resume)
        if folder is None:
            return NoCheckpoints(seed, weights)
        names = ("horizon", "values_per_patch", "embedding", "quantiles", "loss")
        own = {name: getattr(self, name) for name in (*names, "share_segmentation")}
        if self.transform is not None:  # checkpoints of earlier versions do not state it
            own["transform"] = self.transform
        network = settings.make()
        identity = identity_of(
            network,
            data_digest,
            seed,
            weights,
            resolve_trainer(self.trainer).get_params(),
            **own,
            context_length=settings.context_length,
            **arguments,
        )
        is_given = hasattr(self.random_state, "__index__")
        return open_checkpoints(folder, identity, weights, network, seed_is_given=is_given)

    def _remember(self, state: FittedState) -> None:
        """Set all fitted attributes at once, so that a failed fit leaves them unchanged."""
        self.model_ = state.model
        self.record_ = state.record
        self.columns_ = state.columns
        self.settings_ = state.settings
        self.history_ = state.history
        self.channels_ = state.history.channels
        self.freq_ = state.history.freq
        self.season_ = state.season
        self.naive_seasons_ = state.naive_seasons
        self.naive_scale_ = state.naive_scale
        self.skipped_ = state.skipped

    def make_network(self) -> PatchNetwork:
        """Return an untrained network with this forecaster's parameters."""
        return self._settings().make()

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
    def context_length_(self) -> int:
        """Look-back of the trained network, in time steps."""
        check_is_fitted(self, "model_")
        return self.model_.context_length

    @property
    def scaling_(self) -> Scaling:
        """Mean and deviation of the training rows, per item and channel, after `transform`."""
        check_is_fitted(self, "model_")
        return self.model_.scaling

    # ------------------------------------------------------------------ predict

    @helpful
    def predict(
        self, df: pd.DataFrame | None = None, horizon: int | None = None, recursive: bool = False
    ) -> pd.DataFrame:
        """Forecast the steps after the end of each series.

        Parameters
        ----------
        df : pandas.DataFrame, optional
            Other series, or later values of the same series, to forecast without training again.
            Default: the series of `fit`.
        horizon : int, optional
            Number of steps to forecast. Default: the trained horizon.
        recursive : bool, default=False
            Allow more steps than the trained horizon, by feeding forecasts back as history.

        Returns
        -------
        pandas.DataFrame
            One row per item, channel and step: item_id, timestamp, target_name, prediction, and
            one column per quantile, named by the quantile.

        Raises
        ------
        InvalidFrameError
            If the frame differs from that of `fit`, a series has too few observed points, or a
            value contradicts `bounds` or `transform`.
        InvalidParameterError
            If `horizon` exceeds the trained one without `recursive`.
        """
        check_is_fitted(self, "model_")
        model = self.model_
        horizon = model.horizon if horizon is None else horizon
        check_steps(self, horizon=horizon)
        _check_reach(model, horizon, recursive)
        panel = self.history_ if df is None else self._read(df)
        prediction = model.forecast(panel, horizon)
        warn_if_extreme(panel, np.arange(panel.num_items), prediction, model)
        return forecast_frame(panel, prediction, model.quantiles)

    def _read(self, df: pd.DataFrame) -> Panel:
        """Read a frame with the columns, channels and time step of `fit`."""
        panel = read_frame_like_fitted(
            df, self.columns_, self.channels_, self.freq_, missing=self.missing
        )
        if panel.layout.was_long:
            check_id_types(panel.item_ids, self.history_.item_ids)
        power = self.model_.scaling.power
        check_values(panel, None if power is None else power.name, self.model_.bounds)
        return warn_if_far(panel, self.model_)

    # ------------------------------------------------------------------ evaluate, segment, save

    @helpful
    def backtest(
        self,
        df: pd.DataFrame,
        stride: int = 1,
        start: Any = None,
        refit_every: int | None = None,
    ) -> Backtest:
        """Forecast every window of a frame and return the forecasts with the observed values.

        Parameters
        ----------
        df : pandas.DataFrame
            Series with the channels of `fit`.
        stride : int, default=1
            Number of steps between cutoffs.
        start : timestamp or int, optional
            First stamp that may be a target. Earlier rows serve as look-back only.
        refit_every : int, optional
            Number of steps between trainings. A new model is trained at `start` and every
            `refit_every` steps after it, with the settings of `fit`, on all earlier rows of `df`;
            the fitted model is neither used nor changed. Default: the fitted model forecasts all
            windows, and nothing is trained.

        Returns
        -------
        Backtest
            Forecasts and observed values of all windows.

        Raises
        ------
        InvalidFrameError
            If there is no window to forecast, nothing to train on before `start`, or a value
            contradicts `bounds` or `transform`.
        InvalidParameterError
            If `refit_every` is given without `start`.
        """
        check_is_fitted(self, "model_")
        check_int(self, stride=stride)
        panel = self._read(df)
        horizon = self.model_.horizon if refit_every is None else self.horizon
        windows = complete_or_padded(
            panel,
            self.model_.context_length,
            horizon,
            stride=stride,
            targets_from=None if start is None else panel.rows_before(start),
        )
        if len(windows) == 0:
            raise InvalidFrameError(
                f"A backtest needs a window of 2 look-back points and {horizon} targets"
                f"{'' if start is None else f' from {start!r} on'}. The longest series has "
                f"{int(panel.lengths.max())} rows. Pass more rows or an earlier start.",
                parameter="start",
            )
        if refit_every is not None:
            check_int(self, refit_every=refit_every)
            return self._backtest_with_refits(windows, start, refit_every)
        return run_backtest(
            self.model_, windows, self.naive_scale_, self.season_, self.naive_seasons_
        )

    def _backtest_with_refits(self, windows: Windows, start: Any, refit_every: int) -> Backtest:
        """Forecast blocks of time, each with a model trained on all rows before it.

        Every training begins with random weights, even if `fit` was called with `init`.
        """
        if start is None:
            raise InvalidParameterError(
                "A backtest with refit_every needs the stamp of the first forecast, because it "
                "trains on the rows before it. Got start=None. Pass start=...",
                parameter="start",
            )
        settings = replace(self._settings(), context_length=windows.context_length)
        trainer = resolve_trainer(self.trainer)
        row_loss = make_loss(self.loss, settings.quantiles)
        job = FitJob(settings.make, row_loss, trainer, draw_seed(self.random_state))
        panel, season = windows.panel, self.season_
        parts: list[tuple[NDArray[np.bool_], Backtest]] = []
        check_values(panel, self.transform, check_bounds(self, self.bounds))
        borders = [*refit_borders(panel, panel.rows_before(start), refit_every), panel.lengths]
        first_target = windows.cutoff_row + 1
        for begin, end in pairwise(borders):
            inside = (first_target >= begin[windows.item]) & (first_target < end[windows.item])
            if not inside.any():
                continue
            known = rows_to_train_on(panel, begin, self.horizon, start)
            held_out = held_out_rows(known, self.horizon, self.settings_["validation_rows"])
            data = PanelTrainingData(
                known,
                held_out,
                settings.context_length,
                settings.horizon,
                self.share_segmentation,
                trainer.placement(),
                self.transform,
            )
            fit = fit_and_refit(job, data, refit=self.settings_["refit"])
            if fit.record.interrupted:
                raise KeyboardInterrupt
            model = self._model(fit, known.item_ids, settings, trainer)
            scale = seasonal_naive_scale(known.values, season, known.row_offsets)
            block = windows.select(inside)
            seasons = parts[0][1].naive_seasons if parts else naive_seasons(known, season)
            parts.append((inside, run_backtest(model, block, scale, season, seasons)))
        return join_backtests(windows, parts)

    @helpful
    def score(self, df: pd.DataFrame, stride: int = 1) -> float:
        """Return minus the MASE over every window of a frame, so that larger is better.

        Parameters
        ----------
        df : pandas.DataFrame
            Items of `fit`, with later or held-out rows.
        stride : int, default=1
            Number of steps between cutoffs.

        Raises
        ------
        InvalidFrameError
            If the naive error on training rows, the unit of MASE, is unknown or 0 for all items.

        Warns
        -----
        UserWarning
            If the model is worse than a naive forecast of the same windows, by MSE or by MAE.
        """
        return -self.backtest(df, stride).mase()

    @helpful
    def segment(
        self, df: pd.DataFrame | None = None, by: Literal["patch", "step", "series"] = "patch"
    ) -> pd.DataFrame:
        """Return the patches of the last look-back of each series.

        Parameters
        ----------
        df : pandas.DataFrame, optional
            Series to segment. Default: the series of `fit`.
        by : {"patch", "step", "series"}, default="patch"
            Kind of rows to return; `adaptivepatch.segment` describes those of "series".

        Returns
        -------
        pandas.DataFrame
            By patch: item_id, target_name, patch (from 0, oldest), start and end (stamps of its
            first and last step), and length in time steps. By step: item_id, target_name,
            timestamp and patch. If the patcher provides probabilities, boundary_prob is the
            probability that a patch starts at the step, or at the first step of the patch. Padding
            before the start of a series is left out.
        """
        check_is_fitted(self, "model_")
        panel = self.history_ if df is None else self._read(df)
        return self.model_.segment_frame(panel, by)

    @helpful
    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the fitted model into a folder (JSON and safetensors).

        Parameters
        ----------
        path : str or Path
            Folder to write to.
        overwrite : bool, default=False
            Replace a model that the folder holds.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        OutputExistsError
            If the folder holds a model and `overwrite` is False.
        OutputError
            If the folder cannot be written to.
        """
        check_is_fitted(self, "model_")
        state = FittedState(
            model=self.model_,
            record=self.record_,
            columns=self.columns_,
            settings=self.settings_,
            history=self.history_,
            season=self.season_,
            naive_seasons=self.naive_seasons_,
            naive_scale=self.naive_scale_,
            skipped=self.skipped_,
        )
        parameters = self.get_params(deep=False)
        return storage.save(path, parameters, state, overwrite=overwrite)

    @classmethod
    def _to_load(cls, parameters: dict[str, Any]) -> NetworkSettings:
        """Return the settings of the network of a saved model."""
        return cls(**parameters)._settings()

    @classmethod
    @helpful
    def load(cls, path: str | Path, classes: Sequence[type] = ()) -> Forecaster:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The folder.
        classes : sequence of type, optional
            Your own classes of patchers and backbones that the model uses.

        Returns
        -------
        Forecaster
            The fitted model.

        Raises
        ------
        InvalidModelError
            If the folder does not hold a model that this version can read.
        """
        parameters, state = storage.load(path, classes, make=cls._to_load)
        model = cls(**parameters)
        model._remember(state)
        return model


def _check_arguments(
    owner: object, validation_rows: object, refit: object, callback: object
) -> None:
    """Check the arguments of `Forecaster.fit` that concern training."""
    if validation_rows is not None:
        check_int(owner, validation_rows=validation_rows)
    check_bool(owner, refit=refit)
    if callback is not None and not callable(callback):
        raise TypeError(
            "fit(callback=...) must be a function of the step and a mapping of metrics. Got "
            f"{callback!r} instead."
        )


def _check_reach(model: PanelModel, horizon: int, recursive: bool) -> None:
    """Raise if more steps are requested than were trained and forecasts cannot be fed back."""
    if horizon > model.horizon and not recursive:
        raise InvalidParameterError(
            f"The model was trained to forecast {model.horizon} steps. Got horizon={horizon!r}."
            " Pass recursive=True to feed forecasts back, or fit with the longer horizon.",
            parameter="recursive",
        )
    if horizon > model.horizon and model.quantiles is not None:
        raise InvalidParameterError(
            "Feeding forecasts back gives no quantiles: the spread of later steps would be "
            f"that of the first {model.horizon}. Got horizon={horizon!r}. Fit with the longer "
            "horizon, or without quantiles.",
            parameter="horizon",
        )


def _warn_interrupted(record: TrainingRecord, how_to_resume: str) -> None:
    """Warn which weights are kept by a fit that Ctrl-C ended, and how to resume it."""
    best = "" if math.isnan(record.best_loss) else f", validation loss {record.best_loss:.4g}"
    state = (
        "Training again on all rows was interrupted."
        if record.refit_interrupted
        else f"Training was interrupted at step {record.num_steps} of {record.total_steps}."
    )
    warnings.warn(
        f"{state} The model has the weights of step {record.best_step}{best}, and was not trained "
        f"on the validation rows. {how_to_resume}",
        UserWarning,
        stacklevel=3,
    )
