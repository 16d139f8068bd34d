"""`Trainer`: how long, how fast and where to train; `fit` runs `train_step` until done.

Read ``training/step.py`` for what one step does.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.base import BaseEstimator
from torch import Tensor

from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError, check_float, check_int
from adaptivepatch.network import PatchNetwork
from adaptivepatch.training.devices import Processes, autocast, resolve_device, resolve_precision
from adaptivepatch.training.losses import RowLoss, weighted_sum
from adaptivepatch.training.sampler import WindowSource, shuffled_batches
from adaptivepatch.training.schedules import make_schedule
from adaptivepatch.training.step import TrainingStep, train_step

Callback = Callable[[int, dict[str, float]], None]
"""Called as ``callback(step, metrics)`` after every validation; may raise to stop."""

DEFAULT_MAX_STEPS = 1000


class TrainingDivergedError(AdaptivePatchError, ArithmeticError):
    """The training or the validation loss became infinite or NaN."""


class WindowSets(NamedTuple):
    """Window numbers to train on, and those to validate on, if any."""

    train: Tensor
    validation: Tensor | None = None


@dataclass
class TrainingRecord:
    """What a training run did.

    Attributes
    ----------
    history : list of dict
        One entry per validation: step, train_loss and auxiliary_loss (means since the last
        entry), learning_rate, seconds, and validation_loss if there are validation windows.
    best_step : int
        Step of the weights that were kept.
    best_loss : float
        Validation loss there; NaN without validation.
    num_steps : int
        Steps done.
    total_steps : int
        Steps the learning-rate schedule was laid out for.
    steps_per_epoch : int
        Steps that visit every training window once.
    seconds : float
        Wall time.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.nan
    num_steps: int = 0
    total_steps: int = 0
    steps_per_epoch: int = 0
    seconds: float = 0.0


class Trainer(BaseEstimator):
    """Settings of training, and the loop.

    Parameters
    ----------
    max_steps : int, optional
        Optimizer steps at most. Default 1000, unless `max_epochs` is given.
    max_epochs : int, optional
        The same in passes over the training windows.
    batch_size : int, default=32
        Windows per step; every channel of a window is a row of the batch.
    learning_rate : float, default=1e-3
        Base rate of AdamW.
    weight_decay : float, default=0.0
        Of AdamW; 0 makes it Adam.
    schedule : {"cosine", "constant", "one_cycle", "patchtst"}, default="cosine"
        Course of the learning rate over `max_steps`.
    gradient_clip : float, optional
        Largest norm of the gradient. Default: not clipped.
    validate_every : int, optional
        Steps between validations. Default: an epoch, but at most a tenth of all steps.
    patience : int, optional
        Stop after this many validations without improvement. Default: never.
    device : str, default="auto"
        "auto", "cpu", "cuda", "cuda:1", ...
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        "bfloat16" keeps weights in float32 and computes under autocast.
    progress : bool, default=False
        Show a progress bar.

    Notes
    -----
    The weights of the best validation are kept. With several launched processes (``accelerate
    launch`` or ``torchrun``) each takes a part of every batch and gradients are averaged by
    accelerate; BatchNorm statistics stay those of each process.

    Examples
    --------
    >>> Trainer(max_epochs=10, patience=3)
    Trainer(max_epochs=10, patience=3)
    """

    def __init__(
        self,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        gradient_clip: float | None = None,
        validate_every: int | None = None,
        patience: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        progress: bool = False,
    ) -> None:
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.gradient_clip = gradient_clip
        self.validate_every = validate_every
        self.patience = patience
        self.device = device
        self.precision = precision
        self.progress = progress

    def check(self) -> None:
        """Raise `InvalidParameterError` unless every parameter is in its range."""
        check_int(self, batch_size=self.batch_size)
        for name in ("max_steps", "max_epochs", "validate_every", "patience"):
            if getattr(self, name) is not None:
                check_int(self, **{name: getattr(self, name)})
        if self.max_steps is not None and self.max_epochs is not None:
            raise InvalidParameterError(
                "Trainer takes either 'max_steps' or 'max_epochs'. Got "
                f"max_steps={self.max_steps!r} and max_epochs={self.max_epochs!r}."
            )
        check_float(self, "(0, inf)", learning_rate=self.learning_rate)
        check_float(self, "[0, inf)", weight_decay=self.weight_decay)
        if self.gradient_clip is not None:
            check_float(self, "(0, inf)", gradient_clip=self.gradient_clip)
        make_schedule(self.schedule)
        resolve_device(self.device)
        resolve_precision(self.precision)

    def fit(
        self,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        *,
        seed: int,
        callback: Callback | None = None,
        plan: TrainingRecord | None = None,
    ) -> TrainingRecord:
        """Train a network in place and leave the best weights in it.

        Parameters
        ----------
        network : PatchNetwork
            On the device and in the type that `source` delivers.
        source : WindowSource
            Delivers batches.
        windows : WindowSets
            What to train and validate on.
        row_loss : callable
            See `adaptivepatch.training.losses.RowLoss`.
        seed : int
            Seed of batch order, rollouts and dropout. torch's global generator is left as it was.
        callback : callable, optional
            Called as ``callback(step, metrics)`` after every validation.
        plan : TrainingRecord, optional
            An earlier run to repeat on other windows: its schedule, up to its best step, without
            validation.

        Raises
        ------
        TrainingDivergedError
            If the training or validation loss becomes infinite or NaN.
        InvalidParameterError
            If there is no window to train on, or no observed target to validate on.
        """
        if len(windows.train) == 0:
            raise InvalidParameterError(
                "Training needs at least one window, however: there is none. Shorten the "
                "look-back or the horizon, or pass longer series."
            )
        processes = Processes.current(resolve_device(self.device))
        cuda = [processes.device] if processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            # torch.manual_seed would seed devices that are not forked, too.
            torch.default_generator.manual_seed(seed + 7919 * processes.rank)
            for device in cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed + 7919 * processes.rank)
            return _Run(self, network, source, windows, row_loss, processes, seed).run(
                callback, plan
            )

    def _lengths(self, num_windows: int) -> tuple[int, int, int]:
        """Return steps per epoch, total steps and steps between validations."""
        per_epoch = math.ceil(num_windows / self.batch_size)
        if self.max_epochs is not None:
            total = self.max_epochs * per_epoch
        else:
            total = self.max_steps or DEFAULT_MAX_STEPS
        every = self.validate_every or max(1, min(per_epoch, math.ceil(total / 10)))
        return per_epoch, total, every


class _Run:
    """One call of `Trainer.fit`."""

    def __init__(
        self,
        trainer: Trainer,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        processes: Processes,
        seed: int,
    ) -> None:
        self.trainer, self.network, self.source = trainer, network, source
        self.windows, self.row_loss, self.processes = windows, row_loss, processes
        self.order = torch.Generator().manual_seed(seed)
        self.rollouts = torch.Generator(processes.device).manual_seed(seed + processes.rank)
        self.autocast = resolve_precision(trainer.precision)[1]
        self.schedule = make_schedule(trainer.schedule)
        step = TrainingStep(network, row_loss, total_weight=processes.mean, precision=self.autocast)
        self.step = processes.wrap(step)
        self.optimizer = _optimizer(trainer, network)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]

    def run(self, callback: Callback | None, plan: TrainingRecord | None) -> TrainingRecord:
        """Train to the last step or until patience ends."""
        per_epoch, total, every = self.trainer._lengths(len(self.windows.train))
        last = total
        validation = self.windows.validation
        if plan is not None:
            per_epoch, total, last = plan.steps_per_epoch, plan.total_steps, plan.best_step
            validation = None
        record = TrainingRecord(total_steps=total, steps_per_epoch=per_epoch)
        started, stale, best_state = time.perf_counter(), 0, None
        sums = torch.zeros(3, device=self.processes.device)
        batches = shuffled_batches(self.windows.train, self.trainer.batch_size, self.order)
        self.network.train()
        with _progress_bar(self.trainer.progress and self.processes.rank == 0) as bar:
            task = bar.add_task("training", total=last, status="")
            for number in range(1, last + 1):
                sums += self._one_step(next(batches), number - 1, total, per_epoch)
                record.num_steps = number
                bar.advance(task)
                if number % every and number != last:
                    continue
                metrics = self._metrics(sums, number)
                sums.zero_()
                if validation is not None:
                    metrics["validation_loss"] = self._validation_loss(validation, number)
                metrics["seconds"] = time.perf_counter() - started
                record.history.append({"step": float(number), **metrics})
                loss = metrics.get("validation_loss", math.nan)
                bar.update(task, status=_status(metrics))
                if validation is None or not loss >= record.best_loss:
                    record.best_step, record.best_loss, stale = number, loss, 0
                    if validation is not None:
                        best_state = copy.deepcopy(self.network.state_dict())
                else:
                    stale += 1
                if callback is not None:
                    callback(number, metrics)
                if self.trainer.patience is not None and stale >= self.trainer.patience:
                    break
        if best_state is not None:
            self.network.load_state_dict(best_state)
        self.network.eval()
        record.seconds = time.perf_counter() - started
        return record

    def _one_step(self, windows: Tensor, done: int, total: int, per_epoch: int) -> Tensor:
        """Do one step; return its forecast loss, auxiliary loss and 1, without gradient."""
        factor = self.schedule(done / total, done / per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        batch = self.source.batch(self.processes.share(windows))
        output = train_step(
            self.step,
            self.optimizer,
            batch,
            generator=self.rollouts,
            progress=done / total,
            gradient_clip=self.trainer.gradient_clip,
        )
        one = torch.ones_like(output.forecast_loss)
        return torch.stack([output.forecast_loss, output.auxiliary_loss, one]).float()

    def _metrics(self, sums: Tensor, number: int) -> dict[str, float]:
        # The mean over processes, so that all of them see the same and stop together.
        forecast, auxiliary = self.processes.mean(sums[:2] / sums[2]).tolist()
        self._check_finite("training", forecast + auxiliary, number)
        return {
            "train_loss": forecast,
            "auxiliary_loss": auxiliary,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _check_finite(self, kind: str, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The {kind} loss must stay finite, but it is {loss!r} by step {number}. Lower "
                f"learning_rate={self.trainer.learning_rate!r} or set gradient_clip=1.0."
            )

    def _validation_loss(self, windows: Tensor, number: int) -> float:
        loss = self.validate(windows)
        if self.processes.count > 1:  # BatchNorm statistics differ there; decisions must not
            own = torch.tensor(loss, dtype=torch.float64, device=self.processes.device)
            loss = float(self.processes.mean(own))
        self._check_finite("validation", loss, number)
        return loss

    @torch.no_grad()
    def validate(self, windows: Tensor) -> float:
        """Return the mean loss over windows, in eval mode with the most probable patches."""
        self.network.eval()
        total = weight = 0.0
        for chunk in windows.split(self.trainer.batch_size):
            batch = self.source.batch(chunk)
            if len(batch.series) == 0:
                continue
            with autocast(self.processes.device, self.autocast):
                forecast = self.network(batch.series, batch.observed, batch.group)
            row_loss = self.row_loss(forecast, batch.target, batch.target_observed)
            part = weighted_sum(row_loss.double(), batch.target_observed)
            total, weight = total + float(part[0]), weight + float(part[1])
        self.network.train()
        if weight == 0:
            raise InvalidParameterError(
                f"Validation needs an observed target, however: {len(windows)} windows hold none. "
                "Leave such windows out."
            )
        return total / weight


def _optimizer(trainer: Trainer, network: PatchNetwork) -> torch.optim.Optimizer:
    """Return AdamW over the patcher's own parameter groups and all other parameters."""
    groups: list[dict[str, Any]] = network.patcher.parameter_groups(trainer.learning_rate)
    taken = {id(parameter) for parameter in network.patcher.parameters()}
    rest = [p for p in network.parameters() if id(p) not in taken and p.requires_grad]
    groups = [{"params": rest, "lr": trainer.learning_rate}, *groups]
    return torch.optim.AdamW(groups, weight_decay=trainer.weight_decay)


def _progress_bar(enabled: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        disable=not enabled,
    )


def _status(metrics: dict[str, float]) -> str:
    shown = {"train": "train_loss", "validation": "validation_loss"}
    return "  ".join(f"{k} {metrics[v]:.4f}" for k, v in shown.items() if v in metrics)
