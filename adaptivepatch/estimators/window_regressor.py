"""`WindowRegressor`: a scikit-learn regressor from arrays of look-backs to arrays of targets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from adaptivepatch.data.windows import MIN_LOOKBACK
from adaptivepatch.errors import (
    InvalidParameterError,
    check_bool,
    check_choice,
    check_float,
    outside_level,
)
from adaptivepatch.estimators.base import Estimator
from adaptivepatch.estimators.fitting import FitJob, fit_and_refit, warn_if_still_falling
from adaptivepatch.estimators.settings import (
    NetworkSettings,
    check_embedding,
    check_quantiles,
    draw_seed,
)
from adaptivepatch.keywords import helpful
from adaptivepatch.nn.tokens.heads import TimeAlignedHead
from adaptivepatch.torch_state import plain_torch
from adaptivepatch.training.inference import predict_windows
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import Callback, WindowSets
from adaptivepatch.training.sampler import ArraySource, TrainingSet, split_gaps
from adaptivepatch.training.trainer import Trainer, resolve_trainer


class WindowRegressor(MultiOutputMixin, RegressorMixin, Estimator):
    """Forecast windows given as arrays, with the full scikit-learn contract.

    Use it inside pipelines and searches, or for windows that are cut already (see
    `sliding_windows`); use `Forecaster` for DataFrames.

    Parameters
    ----------
    patcher : Patcher or str, default="fixed"
        Patcher that decides where patches begin. A name means a patcher with default parameters.
    backbone : Backbone or str, optional
        Backbone that reads the patches. A name means a backbone with default parameters. Default:
        a `PatchTSTBackbone` of width 32 with 2 layers, a feed-forward width of 64 and dropout 0.1.
    values_per_patch : int, optional
        Number of values that a patch is resampled to. Default: patch length plus halo.
    embedding : {"aligned", "resampled", "both"}, optional
        Embedding of a patch; see `Forecaster`.
    loss : {"mse", "mae", "huber"}, default="mse"
        Point loss. With `quantiles` the pinball loss is used.
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
    quantiles : sequence of float, optional
        Quantiles to forecast, increasing; they contain 0.5, which is the point forecast.
    missing : {"error", "mask"}, default="error"
        Treatment of NaN in `X` and `y`: raise an error, or keep them as unobserved steps.

    Attributes
    ----------
    network_ : PatchNetwork
        The trained network.
    patcher_ : Patcher
        The trained patcher.
    center_, scale_ : float
        Mean and deviation of all observed look-back values, by which windows are standardised.
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

    With ``missing="mask"``, unobserved steps have no influence on a forecast and unobserved targets
    have no weight in the loss, as in `Forecaster`. A window needs 2 observed look-back steps (1 if
    the look-back has 1 step), and an observed target to be trained on; `fit` leaves out other
    windows. Infinite values are refused in any case.

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
        backbone: Any = None,
        values_per_patch: int | None = None,
        embedding: str | None = None,
        loss: str = "mse",
        instance_norm: bool = True,
        validation_fraction: float = 0.1,
        refit: bool = True,
        trainer: Any = None,
        random_state: Any = None,
        quantiles: Sequence[float] | None = None,
        missing: Literal["error", "mask"] = "error",
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
        self.quantiles = quantiles
        self.missing = missing

    def __sklearn_tags__(self) -> Tags:
        """Return scikit-learn's description of this regressor."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "mask"
        return tags

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled regressor; an earlier version had neither quantiles nor a mask."""
        super().__setstate__({"quantiles": None, "missing": "error"} | state)

    @helpful
    def fit(self, X: ArrayLike, y: ArrayLike, callback: Callback | None = None) -> Self:
        """Train on windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs, in time order. With ``missing="mask"``, NaN is an unobserved step.
        y : array-like of shape (n_windows, horizon) or (n_windows,)
            Targets. With ``missing="mask"``, NaN is an unobserved target.
        callback : callable, optional
            Function that is called as ``callback(step, metrics)`` after every validation.

        Returns
        -------
        WindowRegressor
            This regressor.

        Raises
        ------
        ValueError
            If an array or a parameter is invalid, or no window can be trained on.
        TypeError
            If a component is neither an instance nor a name.
        """
        trainer = resolve_trainer(self.trainer)
        quantiles = check_quantiles(self, self.quantiles)
        row_loss = make_loss(self.loss, quantiles)
        check_choice(self, ("error", "mask"), missing=self.missing)
        check_float(self, "[0, 1)", validation_fraction=self.validation_fraction)
        check_bool(self, instance_norm=self.instance_norm, refit=self.refit)
        check_embedding(self, self.values_per_patch, self.embedding)
        _refuse_channels(X=X, y=y)
        past, future = self._read_windows(X, y)
        targets = future.reshape(len(future), -1)
        usable = _can_forecast(past) & ~np.isnan(targets).all(axis=1)
        if not usable.any():
            raise InvalidParameterError(
                f"Training needs a window with {MIN_LOOKBACK} observed look-back steps and an "
                f"observed target. None of the {len(past)} windows has them. Fill gaps in X and y.",
                parameter="X",
            )
        self._one_output = future.ndim == 1
        gaps = np.isnan(past)
        known = past[~gaps] if gaps.any() else past
        with np.errstate(over="ignore", invalid="ignore"):
            self.center_, self.scale_ = float(known.mean()), float(known.std()) or 1.0
        if not math.isfinite(self.scale_):
            raise InvalidParameterError(
                "Values are too large: their variance overflows. The values of X reach "
                f"{float(np.abs(known).max())!r}. Divide X and y by a constant."
            )
        network = NetworkSettings(
            patcher=self.patcher,
            backbone=self.backbone,
            context_length=past.shape[1],
            horizon=targets.shape[1],
            quantiles=quantiles,
            values_per_patch=self.values_per_patch,
            embedding=self.embedding,
            instance_norm=self.instance_norm,
        )
        network.warn_if_patches_are_too_long()
        held_out = self._held_out(usable, targets.shape[1])
        past, targets = (past - self.center_) / self.scale_, (targets - self.center_) / self.scale_
        data = ArrayTrainingData(past, targets, usable, held_out, trainer)
        seed = draw_seed(self.random_state)
        job = FitJob(network.make, row_loss, trainer, seed, callback)
        fit = fit_and_refit(job, data, refit=self.refit)
        if fit.record.interrupted:  # scikit-learn's searches must stop, too
            raise KeyboardInterrupt
        warn_if_still_falling(fit.record, trainer)
        self.n_iter_ = fit.record.best_step
        self.network_, self.record_ = fit.network, fit.record
        return self

    def _read_windows(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return checked look-backs and targets; scikit-learn allows NaN in y only separately."""
        if self.missing == "error":
            checks = {"dtype": np.float64, "ensure_min_samples": 2}
            past, future = validate_data(self, X, y, multi_output=True, y_numeric=True, **checks)
            return past, future
        of_past = {"dtype": np.float64, "ensure_min_samples": 2, "ensure_all_finite": "allow-nan"}
        of_future = {"ensure_2d": False, "ensure_all_finite": "allow-nan"}
        past, future = validate_data(self, X, y, validate_separately=(of_past, of_future))
        check_consistent_length(past, future)
        return past, future

    def _held_out(self, usable: NDArray[np.bool_], horizon: int) -> int:
        """Return the number of windows at the end that select the number of steps.

        Parameters
        ----------
        usable : ndarray of bool, shape (windows,)
            True for windows that can be trained on.
        horizon : int
            Number of steps to forecast.
        """
        num_windows = len(usable)
        held_out = math.ceil(self.validation_fraction * num_windows)
        border = num_windows - held_out
        trained, validated = usable[: max(0, border - (horizon - 1))], usable[border:]
        if held_out and not (trained.any() and validated.any()):
            num_usable = int(usable.sum())
            warnings.warn(
                f"{num_usable} windows are too few to hold out {held_out} for validation and "
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

    @property
    def _head(self) -> TimeAlignedHead:
        """The trained head, which knows the horizon and the quantiles of `fit`."""
        check_is_fitted(self, "network_")
        return cast("TimeAlignedHead", self.network_.head)

    @helpful
    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Forecast windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs. With ``missing="mask"``, NaN is an unobserved step.

        Returns
        -------
        ndarray of shape (n_windows, horizon) or (n_windows,)
            Forecasts, in the shape of `y` in `fit`; the median if there are `quantiles`. NaN for
            windows with too few observed steps.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If the array is invalid.

        Warns
        -----
        UserWarning
            If a window has fewer than 2 observed steps.
        """
        forecast = self._forecast(X)
        quantiles = self._head.quantiles
        if quantiles is not None:
            forecast = forecast[..., quantiles.index(0.5)]
        return forecast[:, 0] if self._one_output else forecast

    @helpful
    def predict_quantiles(self, X: ArrayLike) -> NDArray[np.float64]:
        """Forecast the quantiles of windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs. With ``missing="mask"``, NaN is an unobserved step.

        Returns
        -------
        ndarray of shape (n_windows, horizon, n_quantiles) or (n_windows, n_quantiles)
            Forecasts of the quantiles of `fit`, in their order; the second shape if `y` of `fit`
            had one dimension. They do not decrease along the last axis. NaN for windows with too
            few observed steps.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidParameterError
            If the regressor was fitted without quantiles.
        ValueError
            If the array is invalid.

        Warns
        -----
        UserWarning
            If a window has fewer than 2 observed steps.
        """
        if self._head.quantiles is None:
            raise InvalidParameterError(
                "Forecasts of quantiles need a regressor that was fitted with quantiles. This one "
                "was fitted with quantiles=None. Fit it again with quantiles such as "
                "(0.1, 0.5, 0.9).",
                parameter="quantiles",
            )
        forecast = self._forecast(X)
        return forecast[:, 0] if self._one_output else forecast

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the R2 of the point forecasts, as the mean over the steps of the horizon.

        Parameters
        ----------
        X : array-like of shape (n_windows, context_length)
            Look-backs.
        y : array-like of shape (n_windows, horizon) or (n_windows,)
            Targets. With ``missing="mask"``, unobserved targets do not count, and neither do
            windows without a forecast.
        sample_weight : array-like of shape (n_windows,), optional
            Weights of the windows.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If an array is invalid, or no target counts.
        """
        if self.missing == "error":
            return float(super().score(X, y, sample_weight))
        forecast = self.predict(X).reshape(-1, self._head.horizon)
        targets = check_array(
            y, dtype=np.float64, ensure_2d=False, ensure_all_finite="allow-nan", input_name="y"
        )
        targets = targets.reshape(len(targets), -1)
        weight = np.ones(len(targets)) if sample_weight is None else np.asarray(sample_weight)
        check_consistent_length(forecast, targets, weight)
        counts = ~(np.isnan(forecast) | np.isnan(targets))
        if not counts.any():
            raise InvalidParameterError(
                "A score needs an observed target of a window that has a forecast. None of the "
                f"{len(targets)} windows has one. Pass other windows.",
                parameter="y",
            )
        steps = np.flatnonzero(counts.any(axis=0))
        scores = [
            r2_score(targets[rows, step], forecast[rows, step], sample_weight=weight[rows])
            for step, rows in zip(steps, counts.T[steps], strict=True)
        ]
        return float(np.mean(scores))

    def _forecast(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return forecasts (windows, horizon[, quantiles]) in original units."""
        head = self._head
        _refuse_channels(X=X)
        finite = "allow-nan" if self.missing == "mask" else True
        checked = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite=finite)
        possible = _can_forecast(checked)
        if not possible.all():
            warnings.warn(
                f"A forecast needs {MIN_LOOKBACK} observed look-back steps. "
                f"{int((~possible).sum())} of {len(checked)} windows have fewer, the first is "
                f"window {int(possible.argmin())}. Their forecasts are NaN. Fill their gaps, or "
                "leave them out.",
                UserWarning,
                stacklevel=outside_level(),
            )
        quantiles = () if head.quantiles is None else (len(head.quantiles),)
        forecast = np.full((len(checked), head.horizon, *quantiles), np.nan)
        if possible.any():
            scaled = (
                checked[possible] - self.center_
            ) / self.scale_  # float32 rounds large offsets
            forecast[possible] = self._forecast_scaled(scaled) * self.scale_ + self.center_
        return forecast

    @plain_torch()
    def _forecast_scaled(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return forecasts of scaled look-backs, in the same units."""
        weight = next(self._head.parameters())
        past, observed = split_gaps(torch.tensor(scaled, dtype=weight.dtype, device=weight.device))
        return predict_windows(
            self.network_,
            lambda windows: (past[windows], None if observed is None else observed[windows], None),
            torch.arange(len(past)),
            precision=resolve_trainer(self.trainer).autocast,
        ).numpy()


def _can_forecast(past: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which look-backs (windows, steps) have enough observed steps to be forecast."""
    needed = min(MIN_LOOKBACK, past.shape[1])
    enough: NDArray[np.bool_] = (~np.isnan(past)).sum(axis=1) >= needed
    return enough


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
        Scaled look-backs, in time order; NaN where unobserved.
    future : ndarray of shape (windows, horizon)
        Scaled targets; NaN where unobserved.
    usable : ndarray of bool, shape (windows,)
        True for windows with enough observed steps; others are left out.
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
        usable: NDArray[np.bool_],
        held_out: int,
        trainer: Trainer,
    ) -> None:
        self.past, self.future = past, future
        self.numbers = np.flatnonzero(usable)
        self.held_out, self.placement = held_out, trainer.placement()

    def selection(self) -> TrainingSet:
        """Return the windows to train on, and those that select the number of steps."""
        if self.held_out == 0:
            return self.everything()
        numbers, gap = self.numbers, self.future.shape[1] - 1
        border = len(self.past) - self.held_out
        before = torch.as_tensor(numbers[numbers < border - gap])
        after = torch.as_tensor(numbers[numbers >= border])
        return TrainingSet(self._source(), WindowSets(before, after))

    def everything(self) -> TrainingSet:
        """Return all windows as training windows."""
        return TrainingSet(self._source(), WindowSets(torch.as_tensor(self.numbers)))

    def _source(self) -> ArraySource:
        parts = (torch.tensor(values, **self.placement) for values in (self.past, self.future))
        return ArraySource(*parts)
