"""`WindowRegressor`: a scikit-learn regressor from arrays of look-backs to arrays of targets."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptivepatch.errors import (
    InvalidParameterError,
    check_bool,
    check_float,
    outside_level,
)
from adaptivepatch.estimators.base import Estimator
from adaptivepatch.estimators.fitting import FitJob, fit_and_refit, warn_if_still_falling
from adaptivepatch.estimators.settings import (
    NetworkSettings,
    check_embedding,
    draw_seed,
)
from adaptivepatch.keywords import helpful
from adaptivepatch.torch_state import plain_torch
from adaptivepatch.training.inference import predict_windows
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import Callback, WindowSets
from adaptivepatch.training.sampler import ArraySource, TrainingSet
from adaptivepatch.training.trainer import Trainer, resolve_trainer


class WindowRegressor(MultiOutputMixin, RegressorMixin, Estimator):
    """Forecast windows given as arrays, with the full scikit-learn contract.

    Use it inside pipelines and searches, or for windows that are cut already (see
    `sliding_windows`); use `Forecaster` for DataFrames.

    Parameters
    ----------
    patcher : Patcher or str, default="fixed"
        Patcher that decides where patches begin. A name means a patcher with default parameters.
    backbone : Backbone or str, default="patchtst"
        Backbone that reads the patches. A name means a backbone with default parameters.
    values_per_patch : int, optional
        Number of values that a patch is resampled to. Default: patch length plus halo.
    embedding : {"both", "aligned", "resampled"} or None, default="both"
        Embedding of a patch; see `Forecaster`.
    loss : {"mse", "mae", "huber"}, default="mse"
        Point loss.
    instance_norm : bool, default=True
        Normalise each window by its own mean and standard deviation (RevIN).
    validation_fraction : float, default=0.1
        Share of the windows, at the end, whose loss selects the number of steps; 0 switches
        validation off. Windows whose targets overlap with theirs are not trained on.
    refit : bool, default=True
        Train again on all windows for the best number of steps.
    trainer : Trainer, optional
        Settings of training. Default: ``Trainer()``.
    random_state : int, RandomState or None, default=None
        Seed of weights, batch order and sampling.

    Attributes
    ----------
    network_ : PatchNetwork
        The trained network.
    patcher_ : Patcher
        The trained patcher.
    center_, scale_ : float
        Mean and deviation of all look-back values, by which windows are standardised.
    record_ : TrainingRecord
        Record of training (before the refit).
    n_features_in_ : int
        Look-back length, in time steps.
    n_iter_ : int
        Number of steps of the final training.

    Notes
    -----
    Windows must be in time order, so that validation uses the latest. `predict` computes in
    micro-batches of one size, so a window's forecast does not depend on the others, bit for bit.

    Torch pickles tensors with their address. If the patcher is an instance with weights,
    `joblib.hash` of the estimator therefore differs between copies: caches of `joblib.Memory` miss,
    and the one of scikit-learn's estimator checks that compares hashes fails.

    Examples
    --------
    >>> import numpy as np
    >>> from adaptivepatch import Trainer, WindowRegressor, sliding_windows
    >>> X, y = sliding_windows(np.sin(np.arange(200) / 4), context_length=32, horizon=4)
    >>> model = WindowRegressor(trainer=Trainer(max_steps=30), random_state=0)
    >>> model.fit(X, y).predict(X[:2]).shape
    (2, 4)
    """

    def __init__(
        self,
        patcher: Any = "fixed",
        backbone: Any = "patchtst",
        values_per_patch: int | None = None,
        embedding: str | None = "both",
        loss: str = "mse",
        instance_norm: bool = True,
        validation_fraction: float = 0.1,
        refit: bool = True,
        trainer: Any = None,
        random_state: Any = None,
    ) -> None:
        self.patcher = patcher
        self.backbone = backbone
        self.values_per_patch = values_per_patch
        self.embedding = embedding
        self.loss = loss
        self.instance_norm = instance_norm
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.trainer = trainer
        self.random_state = random_state

    @helpful
    def fit(self, X: ArrayLike, y: ArrayLike, callback: Callback | None = None) -> Self:
        """Train on windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs, in time order.
        y : array-like of shape (n_windows, horizon) or (n_windows,)
            Targets.
        callback : callable, optional
            Function that is called as ``callback(step, metrics)`` after every validation.

        Returns
        -------
        WindowRegressor
            This regressor.

        Raises
        ------
        ValueError
            If an array or a parameter is invalid.
        TypeError
            If a component is neither an instance nor a name.
        """
        trainer = resolve_trainer(self.trainer)
        row_loss = make_loss(self.loss)
        check_float(self, "[0, 1)", validation_fraction=self.validation_fraction)
        check_bool(self, instance_norm=self.instance_norm, refit=self.refit)
        check_embedding(self, self.values_per_patch, self.embedding)
        _refuse_channels(X=X, y=y)
        past, future = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2
        )
        targets = future.reshape(len(future), -1)
        self._one_output = future.ndim == 1
        with np.errstate(over="ignore", invalid="ignore"):
            self.center_, self.scale_ = float(past.mean()), float(past.std()) or 1.0
        if not math.isfinite(self.scale_):
            raise InvalidParameterError(
                "Values are too large: their variance overflows. The values of X reach "
                f"{float(np.abs(past).max())!r}. Divide X and y by a constant."
            )
        network = NetworkSettings(
            patcher=self.patcher,
            backbone=self.backbone,
            context_length=past.shape[1],
            horizon=targets.shape[1],
            values_per_patch=self.values_per_patch,
            embedding=self.embedding,
            instance_norm=self.instance_norm,
        )
        network.warn_if_patches_are_too_long()
        held_out = self._held_out(len(past), targets.shape[1])
        past, targets = (past - self.center_) / self.scale_, (targets - self.center_) / self.scale_
        data = ArrayTrainingData(past, targets, held_out, trainer)
        seed = draw_seed(self.random_state)
        job = FitJob(network.make, row_loss, trainer, seed, callback)
        fit = fit_and_refit(job, data, refit=self.refit)
        if fit.record.interrupted:  # scikit-learn's searches must stop, too
            raise KeyboardInterrupt
        warn_if_still_falling(fit.record, trainer)
        self.n_iter_ = fit.record.best_step
        self.network_, self.record_ = fit.network, fit.record
        return self

    def _held_out(self, num_windows: int, horizon: int) -> int:
        """Return the number of windows at the end that select the number of steps."""
        held_out = math.ceil(self.validation_fraction * num_windows)
        if held_out and num_windows - held_out - (horizon - 1) < 1:
            warnings.warn(
                f"{num_windows} windows are too few to hold out {held_out} for validation and "
                f"leave a gap of {horizon - 1}: training runs its fixed number of steps. Pass "
                "more windows, or validation_fraction=0 to switch validation off.",
                UserWarning,
                stacklevel=outside_level(),
            )
            return 0
        return held_out

    @property
    def patcher_(self) -> Any:
        """The trained patcher."""
        check_is_fitted(self, "network_")
        return self.network_.patcher

    @helpful
    @plain_torch()
    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Forecast windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs.

        Returns
        -------
        ndarray of shape (n_windows, horizon) or (n_windows,)
            Forecasts, in the shape of `y` in `fit`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "network_")
        _refuse_channels(X=X)
        checked = validate_data(self, X, reset=False, dtype=np.float64)
        weight = next(self.network_.head.parameters())
        scaled = (checked - self.center_) / self.scale_  # float32 rounds large offsets
        past = torch.tensor(scaled, dtype=weight.dtype, device=weight.device)
        forecast = predict_windows(
            self.network_,
            lambda windows: (past[windows], None, None),
            torch.arange(len(past)),
            precision=resolve_trainer(self.trainer).autocast,
        ).numpy()
        forecast = forecast * self.scale_ + self.center_
        return forecast[:, 0] if self._one_output else forecast


def _refuse_channels(**arrays: ArrayLike) -> None:
    """Refuse windows of several channels, as `sliding_windows` makes of a series with channels."""
    for name, array in arrays.items():
        shape: tuple[int, ...] = getattr(array, "shape", ())
        if len(shape) == 3:
            raise InvalidParameterError(
                f"WindowRegressor takes windows of one channel, (windows, steps). Got {name} of "
                f"shape {shape!r}, (windows, steps, channels). Use {name}[:, :, 0] for one "
                f"channel; {name}.transpose(0, 2, 1).reshape(-1, {shape[1]}) and "
                "validation_fraction=0 for one row per channel; or Forecaster for a frame of "
                "channels.",
                parameter=name,
            )


class ArrayTrainingData:
    """The training windows of arrays, with and without those that are held out.

    Parameters
    ----------
    past : ndarray of shape (windows, context_length)
        Scaled look-backs, in time order.
    future : ndarray of shape (windows, horizon)
        Scaled targets.
    held_out : int
        Number of windows at the end that validate; 0: training runs its fixed number of steps.
        Windows whose targets would overlap with those of the validation are not trained on.
    trainer : Trainer
        Names device and precision.
    """

    def __init__(
        self,
        past: NDArray[np.float64],
        future: NDArray[np.float64],
        held_out: int,
        trainer: Trainer,
    ) -> None:
        self.past, self.future = past, future
        self.held_out, self.placement = held_out, trainer.placement()

    def selection(self) -> TrainingSet:
        """Return the windows to train on, and those that select the number of steps."""
        if self.held_out == 0:
            return self.everything()
        numbers, gap = torch.arange(len(self.past)), self.future.shape[1] - 1
        border = len(numbers) - self.held_out
        windows = WindowSets(numbers[: border - gap], numbers[border:])
        return TrainingSet(self._source(), windows)

    def everything(self) -> TrainingSet:
        """Return all windows as training windows."""
        return TrainingSet(self._source(), WindowSets(torch.arange(len(self.past))))

    def _source(self) -> ArraySource:
        parts = (torch.tensor(values, **self.placement) for values in (self.past, self.future))
        return ArraySource(*parts)
