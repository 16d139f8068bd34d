"""`AdaptivePatchModel`: a network with a patcher as a torch model of Darts.

Darts trains it in its own loop, with Lightning. `_Module` computes the loss of a step with
`TrainingStep`, exactly as `Forecaster` does, and forecasts with `predict_windows`. `_Model` holds
the parameters, and converts a fitted `Forecaster` to a Darts model and back.

Darts is an optional dependency, and its classes are the bases of ours. The public classes
`AdaptivePatchModel` and `AdaptivePatchModule` are therefore created when one of them is first
imported from this module.

Tensor suffixes: B windows, C components, N = B * C rows, T look-back, H horizon, Q quantiles.
"""

from __future__ import annotations

import copy
import math
import time
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.data.seasons import default_season, naive_seasons
from adaptivepatch.data.transforms import check_bounds
from adaptivepatch.errors import (
    InvalidModelError,
    InvalidParameterError,
    check_bool,
    check_choice,
    require,
)
from adaptivepatch.estimators.fitting import prepare_patcher
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.settings import NetworkSettings, check_embedding, check_steps
from adaptivepatch.estimators.storage import FittedState
from adaptivepatch.metrics import seasonal_naive_scale
from adaptivepatch.model_folder import build_component, describe
from adaptivepatch.network import PatchNetwork
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.pretrained import frozen_parts
from adaptivepatch.resolver import backbone_instance, patcher_instance
from adaptivepatch.training.inference import predict_windows
from adaptivepatch.training.losses import per_row, pinball, weighted_sum
from adaptivepatch.training.optimizer import parameter_groups
from adaptivepatch.training.record import TrainingDivergedError, TrainingRecord
from adaptivepatch.training.sampler import Batch, select_rows, split_gaps, usable_rows
from adaptivepatch.training.step import TrainingStep
from adaptivepatch.training.trainer import Trainer

if TYPE_CHECKING:
    from darts import TimeSeries
    from darts.models.forecasting.pl_forecasting_module import PLForecastingModule
    from darts.models.forecasting.torch_forecasting_model import TorchForecastingModel
else:  # the classes that `_create_classes` makes have these bases
    PLForecastingModule = TorchForecastingModel = object

_PARAMETERS = (
    *("patcher", "backbone", "values_per_patch", "embedding", "share_segmentation"),
    *("missing", "instance_norm", "bounds", "scaling"),
)
_COMPONENTS = ("patcher", "backbone")
_MIN_OBSERVED = 2  # look-back points below which a component of a window cannot be forecast
_LOSSES = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}


# ---------------------------------------------------------------------------------------- module


class _Module(PLForecastingModule):
    """Lightning module of `AdaptivePatchModel`.

    Parameters
    ----------
    patcher, backbone : dict
        Results of `_packed`.
    values_per_patch, embedding, share_segmentation, missing, instance_norm, bounds, scaling
        Parameters of `AdaptivePatchModel`.
    **kwargs
        Parameters of Darts' `PLForecastingModule`.

    Attributes
    ----------
    network : PatchNetwork
        Network that is trained.
    history : list of dict
        One entry per epoch; see `AdaptivePatchModel.history_`.
    """

    is_prepared: Tensor
    optimizer_cls: Any

    def __init__(
        self,
        patcher: dict[str, Any],
        backbone: dict[str, Any],
        values_per_patch: int | None = None,
        embedding: str | None = "both",
        share_segmentation: bool = False,
        missing: str = "error",
        instance_norm: bool = True,
        bounds: Any = None,
        scaling: Sequence[Sequence[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.quantiles = None if self.likelihood is None else tuple(self.likelihood.quantiles)
        self.share_segmentation, self.missing = share_segmentation, missing
        self.bounds, self.scaling = check_bounds(self, bounds), scaling
        if scaling is not None and len(scaling) != self.n_targets:
            raise InvalidParameterError(
                "'scaling' holds a mean and a standard deviation for each component. Got "
                f"{len(scaling)} pairs for series of {self.n_targets} components. Pass one pair "
                "per component.",
                parameter="scaling",
            )
        self.network: PatchNetwork = NetworkSettings(
            patcher=_unpacked(patcher, "patcher"),
            backbone=_unpacked(backbone, "backbone"),
            context_length=self.input_chunk_length,
            horizon=self.output_chunk_length,
            quantiles=self.quantiles,
            values_per_patch=values_per_patch,
            embedding=embedding,
            instance_norm=instance_norm,
        ).make()
        self.register_buffer("is_prepared", torch.tensor(False))
        self.history: list[dict[str, float]] = []
        self._weight: Tensor | None = None  # sample weights of the current batch, (N, H)
        self._rollouts: torch.Generator | None = None

    # ------------------------------------------------------------------ rows

    @property
    def _placement(self) -> dict[str, Any]:
        """Device and type of the network, as arguments of `Tensor.to`."""
        weight = next(self.network.head.parameters())
        return {"device": weight.device, "dtype": weight.dtype}

    def _scales(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the components, each of shape (C,)."""
        mean, std = torch.tensor(self.scaling, dtype=torch.float64, device=device).T
        return mean, std

    def _rows(self, values: Tensor) -> Tensor:
        """Return scaled values (B, L, C) as one row per window and component, (N, L)."""
        if self.missing == "error" and bool(values.isnan().any()):
            raise InvalidParameterError(
                f"Series must have no gaps with missing='error'. Got {int(values.isnan().sum())} "
                "NaN among the values of a batch. Fill them with "
                "darts.utils.missing_values.fill_missing_values, or pass missing='mask', which "
                "keeps them as unobserved steps.",
                parameter="missing",
            )
        if self.scaling is not None:
            mean, std = self._scales(values.device)
            values = (values.double() - mean) / std  # float32 rounds large means
        return _by_row(values).to(**self._placement)

    def _groups(self, num_windows: int, num_components: int) -> Tensor | None:
        """Return the group of each row whose components share their patches, shape (N,)."""
        if not self.share_segmentation:
            return None
        window = torch.arange(num_windows, device=self._placement["device"])
        return window.repeat_interleave(num_components)

    def _batch(self, given: Any) -> Batch:
        """Return the rows of a batch of Darts that have enough observed points."""
        series, observed = split_gaps(self._rows(given.past_target))
        target, target_observed = split_gaps(self._rows(given.future_target))
        num_windows, _, num_components = given.past_target.shape
        group = self._groups(num_windows, num_components)
        batch = Batch(series, observed, target, target_observed, group)
        keep = usable_rows(batch)
        self._weight = None
        if given.sample_weight is not None:
            weight = given.sample_weight.expand_as(given.future_target)
            self._weight = _by_row(weight).to(**self._placement)[keep]
        return select_rows(batch, keep)

    # ------------------------------------------------------------------ forecast

    def forward(self, x_in: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Forecast a batch of Darts with the most probable patches.

        Parameters
        ----------
        x_in : PLModuleInput
            Batch whose ``past_target`` has the shape (B, T, C).

        Returns
        -------
        PLModuleOutput
            Forecast of shape (B, H, C, 1 or Q). It is NaN where a component of a window has fewer
            than 2 observed points.
        """
        past = x_in.past_target
        num_windows, _, num_components = past.shape
        series, observed = split_gaps(self._rows(past))
        if x_in.stage == "pred":  # ModuleStage.PREDICT
            rows = self._predict(series, observed, num_components)
        else:
            rows = self.network(series, observed, self._groups(num_windows, num_components))
        if observed is not None:
            impossible = observed.sum(1) < _MIN_OBSERVED
            rows[impossible] = math.nan
        shape = (num_windows, num_components, self.output_chunk_length, -1)
        forecast = rows.view(shape).transpose(1, 2)
        if self.scaling is not None:
            mean, std = self._scales(past.device)
            forecast = forecast * std[:, None] + mean[:, None]
        if self.bounds is not None:
            forecast = forecast.clamp(*self.bounds)
        output = require("darts.utils.data.torch_datasets.utils", **_EXTRA).PLModuleOutput
        return output(prediction=forecast.to(past.dtype))

    def _predict(self, series: Tensor, observed: Tensor | None, num_components: int) -> Tensor:
        """Return forecasts (N, H) or (N, H, Q), with the bits of a `Forecaster`'s forecasts."""
        windows = torch.arange(len(series) // num_components)
        number = torch.arange(len(series), device=series.device).view(-1, num_components)

        def lookbacks(chunk: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
            rows = number[chunk.to(number.device)].flatten()
            seen = None if observed is None else observed[rows]
            return series[rows], seen, self._groups(len(chunk), num_components)

        kind, precision = series.device.type, None
        if torch.is_autocast_enabled(kind):
            precision = torch.get_autocast_dtype(kind)
        found = predict_windows(self.network, lookbacks, windows, num_components, precision)
        return found.to(series.device)

    # ------------------------------------------------------------------ training

    def on_fit_start(self) -> None:
        """Begin a training."""
        super().on_fit_start()
        self._begin()

    def on_train_start(self) -> None:
        """Find the length of the training, which the plans of patchers are relative to."""
        super().on_train_start()
        if self._rollouts is None:  # a search for the learning rate comes before `on_fit_start`
            self._begin()
        self._total_steps = float(self.trainer.estimated_stepping_batches)

    def _begin(self) -> None:
        """Seed the rollouts, and prepare the patcher unless its state was trained or loaded."""
        seed = int(torch.randint(2**31 - 1, ()))  # Darts has seeded torch with `random_state`
        device = self._placement["device"]
        self._rollouts = torch.Generator(device).manual_seed(seed + self.global_rank)
        self._started, self._total_steps = time.perf_counter(), 0.0
        self._criterion = _elementwise(self.criterion)
        # Sums of forecast loss, auxiliary loss and steps, and of validation loss and its weight.
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._validation = torch.zeros(2, dtype=torch.float64, device=device)
        if not self.is_prepared:
            samples = _Samples(self, self.trainer.datamodule)
            prepare_patcher(self.network, samples, torch.arange(len(samples)), seed)
            self.is_prepared.fill_(True)

    @property
    def _progress(self) -> float:
        """Share of the training that is done; 0 if the number of steps is not known."""
        if not math.isfinite(self._total_steps) or self._total_steps <= 0:
            return 0.0
        return min(1.0, self.global_step / self._total_steps)

    @property
    def _unit(self) -> int:
        """Factor from our losses to those of Darts, which sums the losses of the quantiles."""
        return 1 if self.quantiles is None else len(self.quantiles)

    def training_step(self, train_batch: Any, batch_idx: int) -> Tensor | None:
        """Return the loss of a step, with the patcher's own loss.

        Parameters
        ----------
        train_batch : TorchTrainingBatch
            Batch of Darts.
        batch_idx : int
            Number of the batch.
        """
        batch = self._batch(train_batch)
        if len(batch.series) == 0:
            return None
        assert self._rollouts is not None  # set by `_begin`
        step = TrainingStep(self.network, self._row_loss)
        output = step(batch, self._rollouts, self._progress)
        losses = torch.stack([output.forecast_loss, output.auxiliary_loss]).double()
        self._sums[:2] += losses
        self._sums[2] += 1
        forecast, auxiliary = self._unit * losses
        options = {"batch_size": len(train_batch.past_target), "sync_dist": True}
        self.log("train_loss", forecast, prog_bar=True, **options)
        self.log("train_auxiliary_loss", auxiliary, **options)
        if len(self.train_metrics):
            self.network.eval()
            self._measure(train_batch, self.train_metrics)
            self.network.train()
        return output.loss

    def validation_step(self, val_batch: Any, batch_idx: int) -> Tensor | None:
        """Return the loss of a validation batch, forecast with the most probable patches.

        Parameters
        ----------
        val_batch : TorchTrainingBatch
            Batch of Darts.
        batch_idx : int
            Number of the batch.
        """
        batch = self._batch(val_batch)
        if len(batch.series) == 0:
            return None
        forecast = self.network(batch.series, batch.observed, batch.group)
        row_loss = self._row_loss(forecast, batch.target, batch.target_observed)
        total, weight = weighted_sum(row_loss.double(), batch.target_observed)
        if not self.trainer.sanity_checking:
            self._validation += torch.stack([total, weight])
        loss = self._unit * total / weight
        options = {"batch_size": len(val_batch.past_target), "sync_dist": True}
        self.log("val_loss", loss, prog_bar=True, **options)
        if len(self.val_metrics):
            self._measure(val_batch, self.val_metrics)
        return loss

    @torch.no_grad()
    def _measure(self, batch: Any, metrics: Any) -> None:
        """Update metrics of torchmetrics with the forecasts of a batch of Darts."""
        self._update_metrics(self(batch.to_module_input(stage="val")), batch.future_target, metrics)

    def _row_loss(self, forecast: Tensor, target: Tensor, observed: Tensor | None) -> Tensor:
        """Return the loss of each row; see `adaptivepatch.training.losses.RowLoss`."""
        return per_row(self._step_loss)(forecast, target, observed)

    def _step_loss(self, forecast: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of each target step, shape (N, H)."""
        if self.quantiles is None:
            loss: Tensor = self._criterion(forecast, target)
        else:
            loss = pinball(forecast, target, forecast.new_tensor(self.quantiles)).mean(-1)
        if self._weight is None:
            return loss
        return loss * self._weight.repeat(len(loss) // len(self._weight), 1)

    def on_train_epoch_end(self) -> None:
        """Add an entry to the history."""
        super().on_train_epoch_end()
        forecast, auxiliary = (self._unit * self._sums[:2] / self._sums[2]).tolist()
        if not math.isfinite(forecast + auxiliary):
            raise TrainingDivergedError(
                f"The training loss became {forecast + auxiliary!r} by step {self.global_step}. "
                "Lower the learning rate with optimizer_kwargs={'lr': ...}, or clip gradients with "
                "pl_trainer_kwargs={'gradient_clip_val': 1.0}.",
                parameter="optimizer_kwargs",
            )
        entry = {
            "step": float(self.global_step),
            "epoch": float(self.current_epoch),
            "train_loss": forecast,
            "auxiliary_loss": auxiliary,
            "learning_rate": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            **self.network.patcher.take_metrics(),
            "seconds": time.perf_counter() - self._started,
        }
        if self._validation[1] > 0:
            entry["validation_loss"] = self._unit * float(self._validation[0] / self._validation[1])
        self.history.append(entry)
        self._sums.zero_()
        self._validation.zero_()

    def on_validation_model_zero_grad(self) -> None:
        """Keep the gradients of the last step, which metrics of patchers measure."""

    def configure_optimizers(self) -> Any:
        """Create optimizer and scheduler as Darts does, with the patcher's parameter groups."""
        chosen = self.optimizer_cls

        def grouped(params: Iterator[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
            every = list(params)
            rate = chosen(every, **settings).defaults["lr"]
            groups = parameter_groups(self.network, rate)
            taken = {id(parameter) for group in groups for parameter in group["params"]}
            others = [p for p in every if id(p) not in taken]
            return chosen([*groups, {"params": others}] if others else groups, **settings)

        self.optimizer_cls = grouped
        try:
            return super().configure_optimizers()
        finally:
            self.optimizer_cls = chosen

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history to a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            Checkpoint of Lightning.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint["adaptivepatch_history"] = [dict(entry) for entry in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read the history of a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            Checkpoint of Lightning.
        """
        super().on_load_checkpoint(checkpoint)
        self.history = list(checkpoint["adaptivepatch_history"])


class _Samples:
    """Windows of a training dataset of Darts, as a `WindowSource`.

    Parameters
    ----------
    module : _Module
        Module that converts batches.
    data : TorchDataModule
        Data of a training.
    """

    def __init__(self, module: _Module, data: Any) -> None:
        self.module, self.data = module, data

    def __len__(self) -> int:
        return len(self.data.train_dataset)

    def batch(self, windows: Tensor) -> Batch:
        """Return look-backs and targets of the windows with these numbers."""
        samples = [self.data.train_dataset[number] for number in windows.tolist()]
        return self.module._batch(self.data.dataloader_kwargs["collate_fn"](samples))


def _by_row(values: Tensor) -> Tensor:
    """Return values (B, L, C) as rows (B * C, L)."""
    return values.transpose(1, 2).flatten(0, 1)


def _elementwise(loss_fn: nn.Module) -> nn.Module:
    """Return a copy of a loss that does not average, so that every row has a loss of its own.

    Parameters
    ----------
    loss_fn : nn.Module
        Loss of torch with the attribute `reduction`.

    Raises
    ------
    InvalidParameterError
        If the loss cannot be computed for each target step.
    """
    copied: Any = copy.deepcopy(loss_fn)
    if hasattr(copied, "reduction"):
        copied.reduction = "none"
        if copied(torch.ones(2, 3), torch.zeros(2, 3)).shape == (2, 3):
            return copied
    raise InvalidParameterError(
        "The loss must be defined for each target step, because a patcher can learn from the "
        f"losses of single rows. Got loss_fn={loss_fn!r}, which has no reduction='none'. Pass a "
        "loss such as torch.nn.MSELoss(), torch.nn.L1Loss() or torch.nn.HuberLoss().",
        parameter="loss_fn",
    )


# ----------------------------------------------------------------------------- components in files


def _packed(component: Any) -> dict[str, Any]:
    """Return plain values that describe a patcher or a backbone, with frozen weights if any.

    Files hold these values and no objects, so that Darts' safe loading can read them. Classes that
    this package does not register are registered with Darts for this process.
    """
    _register(_own_classes(component))
    packed: dict[str, Any] = {"component": describe(component)}
    if isinstance(component, Patcher) and frozen_parts(component):
        packed["weights"] = component.state_dict()
    return packed


def _unpacked(packed: Mapping[str, Any], kind: str) -> Any:
    """Return the component that `_packed` described.

    Raises
    ------
    InvalidModelError
        If its class is neither registered in this package nor with Darts.
    """
    known = [entry for entry in _serialization().get_safe_globals() if isinstance(entry, type)]
    classes = {
        getattr(known_class, "name", known_class.__name__): known_class for known_class in known
    }
    try:
        component = build_component(packed["component"], kind, classes)
    except InvalidModelError as error:
        raise InvalidModelError(
            f"The file holds a {kind} of a class that is not known here, "
            f"{packed['component']['name']!r}. Import the class and register it with "
            "darts.utils.serialization.add_safe_globals([YourClass]) before loading."
        ) from error
    if "weights" in packed:
        component.load_state_dict(packed["weights"])
    return component


def _own_classes(component: Any) -> Iterator[type]:
    """Yield the classes of a component, and of those inside it, that this package does not have."""
    if not type(component).__module__.startswith("adaptivepatch."):
        yield type(component)
    for value in BaseEstimator.get_params(component, deep=False).values():
        if isinstance(value, BaseEstimator):
            yield from _own_classes(value)


def _register(classes: Iterator[type]) -> None:
    """Let Darts' safe loading create objects of these classes."""
    known = _serialization().get_safe_globals()
    _serialization().add_safe_globals([each for each in classes if each not in known])


# ----------------------------------------------------------------------------------------- model


class _Model(TorchForecastingModel):
    """Network with a patcher, as a torch model of Darts.

    All components of a series are forecast by one network, each from its own look-back (channel
    independence). The patcher and its own losses are trained in Darts' loop as `Forecaster` trains
    them. As with other models of Darts, scale the series first.

    Parameters
    ----------
    input_chunk_length, output_chunk_length : int
        Look-back T and number of steps H that are forecast at once.
    output_chunk_shift : int, default=0
        Number of steps between the look-back and the forecast.
    patcher, backbone, values_per_patch, embedding
        Parameters of `adaptivepatch.Forecaster`.
    share_segmentation : bool, default=False
        Whether all components of a window have the same patches.
    missing : {"error", "mask"}, default="error"
        Treatment of NaN: raise an error, or keep them as unobserved steps. With "mask", the
        forecast of a component with fewer than 2 observed points in its look-back is NaN.
    instance_norm : bool, default=True
        Whether the network normalises each look-back (RevIN).
    bounds : "nonnegative" or pair (low, high), optional
        Lowest and highest possible value, to which forecasts are clipped.
    scaling : sequence of pairs (mean, deviation), optional
        Scaling of each component inside the model, undone in forecasts; losses are those of scaled
        values. Default: none. `from_forecaster` sets it.
    **kwargs
        Parameters of Darts' torch models, such as `loss_fn`, `likelihood`, `optimizer_kwargs`,
        `lr_scheduler_cls`, `batch_size`, `n_epochs`, `random_state` and `pl_trainer_kwargs`. The
        only `likelihood` is Darts' `QuantileRegression`.

    Raises
    ------
    InvalidParameterError
        If a parameter is out of range or not supported.
    MissingDependencyError
        When the class is imported, if Darts or Lightning is not installed.
    """

    def __init__(
        self,
        input_chunk_length: int,
        output_chunk_length: int,
        output_chunk_shift: int = 0,
        patcher: Any = "fixed",
        backbone: Any = "patchtst",
        values_per_patch: int | None = None,
        embedding: str | None = "both",
        share_segmentation: bool = False,
        missing: str = "error",
        instance_norm: bool = True,
        bounds: Any = None,
        scaling: Sequence[Sequence[float]] | None = None,
        **kwargs: Any,
    ) -> None:
        check_steps(self, low=2, input_chunk_length=input_chunk_length)
        check_steps(self, output_chunk_length=output_chunk_length)
        check_embedding(self, values_per_patch, embedding)
        check_bool(self, share_segmentation=share_segmentation, instance_norm=instance_norm)
        check_choice(self, ("error", "mask"), missing=missing)
        check_bounds(self, bounds)
        _check_host_parameters(kwargs)
        settings = NetworkSettings(patcher, backbone, input_chunk_length, output_chunk_length)
        settings.warn_if_patches_are_too_long()
        super().__init__(**self._extract_torch_model_params(**self.model_params))
        self.pl_module_params = self._extract_pl_module_params(**self.model_params)

    def _create_model(self, train_sample: Any) -> Any:
        own = {name: self.model_params[name] for name in _PARAMETERS}
        own |= _packed_components(own)
        return _public("AdaptivePatchModule")(**own, **self.pl_module_params)

    @property
    def _trained(self) -> Any:
        """The Lightning module.

        Raises
        ------
        InvalidParameterError
            Before `fit`.
        """
        if self.model is None:
            raise InvalidParameterError(
                f"This {type(self).__name__} has no network yet. Call fit(series) first."
            )
        return self.model

    @property
    def network_(self) -> PatchNetwork:
        """The trained network."""
        return self._trained.network

    @property
    def patcher_(self) -> Patcher:
        """The trained patcher."""
        return self._trained.network.patcher

    @property
    def history_(self) -> list[dict[str, float]]:
        """One entry per epoch: losses, learning rate, and the metrics of the patcher.

        The metrics of a `ReinPatcher` are those of its policy, such as its signal-to-noise ratio,
        entropy and agreement of the mode with the reference (see `ReinPatcher.take_metrics`).
        Losses have the units of Darts' ``train_loss`` and ``val_loss``.
        """
        return self._trained.history

    @property
    def extreme_lags(self) -> tuple[int | None, ...]:
        """First and last step of a window, relative to the first forecast step; see Darts."""
        last = self.output_chunk_length - 1 + self.output_chunk_shift
        return -self.input_chunk_length, last, None, None, None, None, self.output_chunk_shift

    # ------------------------------------------------------------------ covariates

    def _verify_past_future_covariates(self, past_covariates: Any, future_covariates: Any) -> None:
        _refuse_covariates(past_covariates=past_covariates, future_covariates=future_covariates)

    def _setup_for_fit_from_dataset(self, series: Any, **kwargs: Any) -> Any:
        _refuse_covariates(**{k: v for k, v in kwargs.items() if k.endswith("_covariates")})
        return super()._setup_for_fit_from_dataset(series, **kwargs)

    def historical_forecasts(self, series: Any, *args: Any, **kwargs: Any) -> Any:
        """Forecast windows of the past; see Darts.

        Parameters
        ----------
        series : TimeSeries or sequence of TimeSeries
            Series to forecast.
        *args, **kwargs
            Parameters of Darts' method.
        """
        _refuse_covariates(**{k: v for k, v in kwargs.items() if k.endswith("_covariates")})
        return super().historical_forecasts(series, *args, **kwargs)

    def _build_train_dataset(self, series: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_static_covariates(series)
        return super()._build_train_dataset(series, *args, **kwargs)

    def _build_inference_dataset(self, n: int, series: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_static_covariates(series)
        return super()._build_inference_dataset(n, series, *args, **kwargs)

    def to_onnx(self, path: str | None = None, **kwargs: Any) -> None:
        """Refuse to export: the number of patches depends on the data, which ONNX cannot follow.

        Parameters
        ----------
        path : str, optional
            Not used.
        **kwargs
            Not used.
        """
        raise InvalidParameterError(
            f"{type(self).__name__} cannot be exported to ONNX, because its patches depend on the "
            "data. Use save() and load()."
        )

    # ------------------------------------------------------------------ files

    def save(self, path: str | None = None, clean: bool = False) -> None:
        """Save the model with its weights; see Darts.

        Parameters
        ----------
        path : str, optional
            File to write; the weights are written to ``path + ".ckpt"``.
        clean : bool, default=False
            Whether to leave out training series and settings of Lightning.
        """
        if self.model is not None and self.trainer is None:  # Darts would lose the weights
            self._connect()
        super().save(path, clean)

    def _connect(self) -> None:
        """Connect a trainer of Lightning, which writes the weights when the model is saved."""
        self.trainer = self._setup_trainer(None, self.model, verbose=False, epochs=self.n_epochs)
        self.trainer.strategy.connect(self.model)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        parameters = state["_model_params"]
        return {**state, "_model_params": {**parameters, **_packed_components(parameters)}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state["_model_params"]
        components = {name: _unpacked(stored[name], name) for name in _COMPONENTS}
        super().__setstate__({**state, "_model_params": {**stored, **components}})

    @property
    def _ckpt_skipped_params(self) -> list[str]:
        return [*super()._ckpt_skipped_params, *_COMPONENTS, "missing", "bounds"]

    def _check_ckpt_parameters(self, tfm_save: Any) -> None:
        """Compare the parameters with those of the file that weights are loaded from."""
        super()._check_ckpt_parameters(tfm_save)
        for name in _COMPONENTS:
            own, stored = (
                _packed_components(model.model_params)[name]["component"]
                for model in (self, tfm_save)
            )
            if own != stored:
                raise InvalidParameterError(
                    f"Weights can only be loaded into a model with the same {name}. The file has "
                    f"{tfm_save.model_params[name]!r}, and this model has "
                    f"{self.model_params[name]!r}. Create this model with the {name} of the file.",
                    parameter=name,
                )

    # ------------------------------------------------------------------ from and to a Forecaster

    @classmethod
    def from_forecaster(
        cls, forecaster: Forecaster, item_id: Hashable = None, **kwargs: Any
    ) -> Self:
        """Return a fitted model of Darts with the weights and the scaling of a `Forecaster`.

        Parameters
        ----------
        forecaster : Forecaster
            Fitted forecaster.
        item_id : hashable, optional
            Item of `fit` whose scaling is used. Needed if there is more than one.
        **kwargs
            Further parameters of this class, for example for fine-tuning. Components of series are
            in the order of the columns of the frame of `fit`.

        Returns
        -------
        AdaptivePatchModel
            Model that makes the same forecasts. ``predict(n)`` without a series continues the
            series of `fit`, if that has at least T rows.

        Raises
        ------
        InvalidParameterError
            If the forecaster has a `transform`, shares patches among some channels only, or has
            several items and `item_id` names none of them.
        NotFittedError
            If the forecaster is not fitted.
        """
        check_is_fitted(forecaster, "model_")
        fitted: PanelModel = forecaster.model_
        item = _item_to_convert(fitted, item_id)
        history: Panel = forecaster.history_
        scaling = fitted.scaling
        order = [history.channels.index(name) for name in history.layout.channel_order]
        pairs = zip(scaling.mean[item, order], scaling.std[item, order], strict=True)
        weight = next(fitted.network.head.parameters())
        trainer = forecaster.trainer or Trainer()
        precision = "64-true" if weight.dtype == torch.float64 else "32-true"
        lightning = {"precision": precision, "accelerator": _accelerator(weight.device)}
        if fitted.precision is not None:
            lightning["precision"] = "bf16-mixed"
        parameters = {
            "input_chunk_length": fitted.context_length,
            "output_chunk_length": fitted.horizon,
            "patcher": forecaster.patcher,
            "backbone": forecaster.backbone,
            "values_per_patch": forecaster.values_per_patch,
            "embedding": forecaster.embedding,
            "share_segmentation": bool(fitted.share_segmentation),
            "missing": forecaster.missing,
            "bounds": fitted.bounds,
            "scaling": [(float(mean), float(std)) for mean, std in pairs],
            "loss_fn": _LOSSES[forecaster.loss](),
            "likelihood": _quantile_regression(fitted.quantiles),
            "optimizer_kwargs": {"lr": trainer.learning_rate},
            **kwargs,
            "pl_trainer_kwargs": {**lightning, **(kwargs.get("pl_trainer_kwargs") or {})},
        }
        model = cls(**parameters)
        model._adopt(fitted.network, len(order))
        model.model.history = [dict(entry) for entry in forecaster.record_.history]
        if history.num_items == 1 and history.lengths[0] >= fitted.context_length:
            model.training_series = _series_of(history, order)
        return model

    def _adopt(self, network: PatchNetwork, num_components: int) -> None:
        """Become a fitted model with the weights of a network."""
        samples = require("darts.utils.data.torch_datasets.utils", **_EXTRA)
        self.train_sample = samples.TorchTrainingSample(
            past_target=np.zeros((self.input_chunk_length, num_components)),
            future_target=np.zeros((self.output_chunk_length, num_components)),
        )
        self.output_dim = num_components
        self.model = self._init_model()
        self.model.to_dtype(next(network.head.parameters()).dtype)
        self.model.network.load_state_dict(network.state_dict())
        self.model.is_prepared.fill_(True)
        self.model.eval()
        self._fit_called = True
        self._update_covariates_use()
        self._connect()

    def to_forecaster(self, series: TimeSeries | Sequence[TimeSeries] | None = None) -> Forecaster:
        """Return a fitted `Forecaster` with the weights of this model.

        Parameters
        ----------
        series : TimeSeries or sequence of TimeSeries, optional
            Series that the forecaster continues, and whose naive errors are the unit of MASE. A
            single series becomes a wide frame, several become the items 0, 1, ... of a long frame.
            Default: the series of `fit`, if that was a single one.

        Returns
        -------
        Forecaster
            Forecaster that makes the same forecasts. Its `trainer` has the number of epochs, batch
            size and learning rate of this model. Other optimizers, schedulers, callbacks and
            settings of Lightning are not converted; they would matter only for training again.

        Raises
        ------
        InvalidParameterError
            If this model has an `output_chunk_shift`, no instance norm or a loss that `Forecaster`
            lacks, or if there is no series.
        """
        module, parameters = self._trained, self.model_params
        loss = _forecaster_loss(self, module)
        series = self.training_series if series is None else series
        if series is None:
            raise InvalidParameterError(
                "A Forecaster continues the series that it was fitted to, and this model was not "
                "fitted to a single one. Pass to_forecaster(series=...).",
                parameter="series",
            )
        panel, columns = _panel_of(series, module.missing)
        scaling = _scaling_of(module, panel, series)
        forecaster = Forecaster(
            horizon=self.output_chunk_length,
            context_length=self.input_chunk_length,
            loss=loss,
            quantiles=module.quantiles,
            trainer=_trainer_of(self),
            **{name: parameters[name] for name in _PARAMETERS if name in _SHARED},
        )
        season = default_season(panel.freq)
        network = copy.deepcopy(module.network).eval()
        forecaster._remember(
            FittedState(
                model=PanelModel(
                    network,
                    scaling,
                    panel.item_ids,
                    self.input_chunk_length,
                    self.output_chunk_length,
                    module.share_segmentation,
                    module.quantiles,
                    None,
                    module.bounds,
                ),
                record=_record_of(module),
                columns=columns,
                settings={"validation_rows": None, "refit": False},
                history=panel.tail(np.minimum(panel.lengths, self.input_chunk_length)),
                season=season,
                naive_seasons=naive_seasons(panel, season),
                naive_scale=seasonal_naive_scale(panel.values, season, panel.row_offsets),
                skipped=(),
            )
        )
        return forecaster


_SHARED = {*_PARAMETERS} - {"instance_norm", "scaling"}  # also parameters of Forecaster


def _packed_components(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the packed patcher and backbone of a model's parameters."""
    return {
        "patcher": _packed(patcher_instance(parameters["patcher"])),
        "backbone": _packed(backbone_instance(parameters["backbone"])),
    }


def _check_host_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters of Darts' models that a network with a patcher does not support."""
    if parameters.get("loss_fn") is not None:
        _elementwise(parameters["loss_fn"])
    likelihood = parameters.get("likelihood")
    if likelihood is not None and not hasattr(likelihood, "quantiles"):
        raise InvalidParameterError(
            "AdaptivePatchModel forecasts values or quantiles. Got likelihood="
            f"{type(likelihood).__name__}. Pass QuantileRegression(quantiles=[0.1, 0.5, 0.9]) of "
            "darts.utils.likelihood_models.",
            parameter="likelihood",
        )
    if parameters.get("use_reversible_instance_norm"):
        raise InvalidParameterError(
            "AdaptivePatchModel normalises each look-back itself (instance_norm=True). Got "
            f"use_reversible_instance_norm={parameters['use_reversible_instance_norm']!r}. Leave "
            "it out.",
            parameter="use_reversible_instance_norm",
        )
    _refuse_covariates(add_encoders=parameters.get("add_encoders"))


def _refuse_covariates(**given: Any) -> None:
    """Refuse covariates of any kind.

    Parameters
    ----------
    **given : object
        Covariates by the name of their parameter, None if absent.
    """
    for name, value in given.items():
        if value is not None:
            raise InvalidParameterError(
                "AdaptivePatchModel forecasts each component from its own look-back and takes no "
                f"covariates. Got {name} of type {type(value).__name__}. Leave it out.",
                parameter=name,
            )


def _refuse_static_covariates(series: Sequence[Any]) -> None:
    """Refuse series that carry static covariates."""
    for position, one in enumerate(series):
        if one.static_covariates is not None:
            raise InvalidParameterError(
                "AdaptivePatchModel takes no covariates. Series "
                f"{position} has the static covariates {list(one.static_covariates.columns)}. Use "
                "series.with_static_covariates(None).",
                parameter="series",
            )


# ----------------------------------------------------------------------------------- conversions


def _item_to_convert(fitted: PanelModel, item_id: Hashable) -> int:
    """Return the position of the item whose scaling a Darts model uses."""
    power, sharing = fitted.scaling.power, fitted.share_segmentation
    if power is not None:
        raise InvalidParameterError(
            f"A Darts model cannot contain transform={power.name!r}. Fit without it, and transform "
            "the series with darts.dataprocessing.transformers.BoxCox or InvertibleMapper.",
            parameter="transform",
        )
    if not isinstance(sharing, bool):
        raise InvalidParameterError(
            "A Darts model shares patches among all components or none. Got "
            f"share_segmentation={sharing!r}. Fit with True or False.",
            parameter="share_segmentation",
        )
    if item_id is None and len(fitted.item_ids) == 1:
        return 0
    if item_id not in fitted.item_ids:
        raise InvalidParameterError(
            "Series of Darts have no item ids, so a model has the scaling of only one item. Got "
            f"item_id={item_id!r}, and the forecaster has {len(fitted.item_ids)} items, such as "
            f"{fitted.item_ids[0]!r}. Pass the item_id of one of them.",
            parameter="item_id",
        )
    return fitted.item_ids.index(item_id)


def _accelerator(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "gpu"


def _quantile_regression(quantiles: tuple[float, ...] | None) -> Any:
    """Return the likelihood of Darts with these quantiles."""
    if quantiles is None:
        return None
    likelihoods = require("darts.utils.likelihood_models", **_EXTRA)
    try:
        return likelihoods.QuantileRegression(quantiles=list(quantiles))
    except ValueError as error:  # not symmetric
        raise InvalidParameterError(
            f"Darts accepts only quantiles that lie symmetrically around 0.5. Got {quantiles!r}. "
            "Fit with symmetric quantiles.",
            parameter="quantiles",
        ) from error


def _series_of(history: Panel, order: Sequence[int]) -> Any:
    """Return the only item of a panel as a series of Darts."""
    stamps: Any = history.index[0]
    step: Any = history.freq
    if not isinstance(stamps, pd.DatetimeIndex):
        stamps = pd.RangeIndex(int(stamps[0]), int(stamps[-1]) + 1, step)
    elif stamps.tz is not None:
        stamps = stamps.tz_localize(None)  # Darts has no time zones
    return require("darts", **_EXTRA).TimeSeries.from_times_and_values(
        stamps,
        history.values[:, order],
        freq=None if isinstance(step, int) else step,
        columns=[history.channels[position] for position in order],
    )


def _forecaster_loss(model: Any, module: _Module) -> str:
    """Return the name of the loss, after checking that a `Forecaster` can make the forecasts."""
    if model.output_chunk_shift:
        raise InvalidParameterError(
            "A Forecaster forecasts the steps that follow the look-back. Got "
            f"output_chunk_shift={model.output_chunk_shift!r}. Use a model without it.",
            parameter="output_chunk_shift",
        )
    if not model.model_params["instance_norm"]:
        raise InvalidParameterError(
            "A Forecaster normalises each look-back. Got instance_norm=False. Use a model with "
            "instance_norm=True.",
            parameter="instance_norm",
        )
    for name, kind in _LOSSES.items():
        criterion = module.criterion
        if type(criterion) is kind and getattr(criterion, "delta", 1.0) == 1.0:
            return name
    if module.quantiles is not None:  # trained by the pinball loss
        return "mse"
    raise InvalidParameterError(
        f"A Forecaster has the losses {sorted(_LOSSES)}. Got loss_fn={module.criterion!r}. Train "
        "with MSELoss, L1Loss or HuberLoss(delta=1.0) of torch.nn.",
        parameter="loss_fn",
    )


def _panel_of(series: Any, missing: Any) -> tuple[Panel, dict[str, Any]]:
    """Return series of Darts as a panel, and the names of the columns of its frame."""
    columns = {"item_id": "item_id", "timestamp": "timestamp", "target": None}
    if not isinstance(series, Sequence):
        frame, freq = series.to_dataframe(), series.freq
    else:
        frames = [one.to_dataframe().rename_axis("timestamp").reset_index() for one in series]
        parts = [frame.assign(item_id=number) for number, frame in enumerate(frames)]
        frame, freq = pd.concat(parts, ignore_index=True), series[0].freq
    return read_frame(frame, missing=missing, freq=freq, require_observed=False), columns


def _scaling_of(module: _Module, panel: Panel, series: Any) -> Scaling:
    """Return the scaling inside a module, for every item and channel of a panel."""
    first = series[0] if isinstance(series, Sequence) else series
    position = [list(first.components).index(name) for name in panel.channels]
    pairs = np.array(module.scaling or [(0.0, 1.0)] * len(position), dtype=np.float64)[position]
    mean, std = (np.tile(column, (panel.num_items, 1)) for column in pairs.T)
    return Scaling(mean, std)


def _trainer_of(model: Any) -> Trainer:
    """Return a trainer with the settings of a model that a `Trainer` has, too."""
    settings = model.pl_module_params.get("optimizer_kwargs") or {}
    return Trainer(
        max_epochs=model.n_epochs,
        batch_size=model.batch_size,
        learning_rate=settings.get("lr", 1e-3),
        schedule="constant",
        device="cpu" if model.trainer_params.get("accelerator") == "cpu" else "auto",
        precision="float64" if model.model.dtype == torch.float64 else "float32",
    )


def _record_of(module: _Module) -> TrainingRecord:
    """Return the history of a module as the record of a `Forecaster`."""
    history = [dict(entry) for entry in module.history]
    last = history[-1] if history else {}
    steps = int(last.get("step", 0))
    return TrainingRecord(
        history=history,
        best_step=steps,
        best_loss=last.get("validation_loss", math.nan),
        num_steps=steps,
        total_steps=steps,
        steps_per_epoch=max(1, steps // max(1, len(history))),
        seconds=last.get("seconds", 0.0),
    )


# ------------------------------------------------------------------------------- public classes

_EXTRA: dict[str, Any] = {"extra": "darts", "purpose": "The Darts model"}
_PUBLIC = {
    "AdaptivePatchModule": (_Module, "pl_forecasting_module", "PLForecastingModule"),
    "AdaptivePatchModel": (_Model, "torch_forecasting_model", "TorchForecastingModel"),
}


def __getattr__(name: str) -> Any:
    """Create the public classes when one of them is first asked for (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _create_classes()
    return globals()[name]


def _public(name: str) -> Any:
    """Return a public class of this module."""
    return globals().get(name) or __getattr__(name)


def _create_classes() -> None:
    """Create the public classes on Darts' bases, and register them for Darts' safe loading."""
    require("darts", **_EXTRA)
    require("pytorch_lightning", **_EXTRA)
    made = {}
    for name, (own, module, base_name) in _PUBLIC.items():
        base = getattr(require(f"darts.models.forecasting.{module}", **_EXTRA), base_name)
        made[name] = types.new_class(name, (own, base))
        made[name].__doc__, made[name].__module__ = own.__doc__, __name__
    globals().update(made)
    _register(iter(made.values()))


def _serialization() -> Any:
    """Return the module of Darts that registers classes for safe loading."""
    return require("darts.utils.serialization", **_EXTRA)
