"""`Trainer`: settings of training, and the training loop of a forecaster.

`Trainer.fit` runs a `ForecastLoop`. Its base class in ``training/loop.py`` does the steps; the loss
of a step is in ``training/step.py``.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adaptivepatch import schema
from adaptivepatch.errors import InvalidParameterError, check_float, check_int
from adaptivepatch.network import PatchNetwork
from adaptivepatch.parameters import Configurable
from adaptivepatch.torch_state import seeded
from adaptivepatch.training.checkpoint import (
    NO_CHECKPOINT,
    CheckpointFile,
    NoCheckpoint,
    TrainingState,
    check_facts,
    check_tensors,
    load_network,
    load_optimizer,
    optimizer_tensors,
)
from adaptivepatch.training.devices import Processes, autocast, resolve_device, resolve_precision
from adaptivepatch.training.loop import NextStep, TrainingLoop
from adaptivepatch.training.losses import RowLoss, weighted_sum
from adaptivepatch.training.optimizer import make_optimizer
from adaptivepatch.training.progress import TrainingProgress
from adaptivepatch.training.record import Callback, TrainingRecord, WindowSets, record_schema
from adaptivepatch.training.sampler import ShuffledBatches, WindowSource
from adaptivepatch.training.schedules import first_beta, make_schedule
from adaptivepatch.training.step import TrainingStep

DEFAULT_BATCH_ROWS = 256
EPOCHS, FEWEST_STEPS, MOST_STEPS = 20, 300, 1000  # of a training whose length is not given
_FACTS = schema.fields(
    {
        "record": record_schema(schema.number()),
        "stale": schema.integer(),
        "position": schema.integer(),
        "keeps": schema.boolean,
        "device": schema.text,
    },
    others=True,
)


class Lengths(NamedTuple):
    """Length of a training.

    Parameters
    ----------
    batch_size : int
        Number of windows per step.
    steps_per_epoch : int
        Number of steps that visit every training window once.
    total_steps : int
        Number of steps of the training, and length of its learning-rate schedule.
    validate_every : int
        Number of steps between validations.
    """

    batch_size: int
    steps_per_epoch: int
    total_steps: int
    validate_every: int


def default_steps(num_rows: int) -> int:
    """Return the number of steps of a training whose length is not given.

    Parameters
    ----------
    num_rows : int
        Number of training rows: windows times channels.
    """
    return min(max(EPOCHS * num_rows // DEFAULT_BATCH_ROWS, FEWEST_STEPS), MOST_STEPS)


class Trainer(Configurable):
    """Settings of training; `fit` trains a network with them.

    Parameters
    ----------
    max_steps : int, optional
        Largest number of optimizer steps. Default: the number that follows from the data (see
        Notes), unless `max_epochs` is given.
    max_epochs : int, optional
        Largest number of epochs, instead of `max_steps`.
    batch_rows : int, optional
        Number of rows per step; every channel of a window is a row. A step takes the nearest whole
        number of windows, and at least one. Default: 256, unless `batch_size` is given.
    batch_size : int, optional
        Number of windows per step, instead of `batch_rows`.
    learning_rate : float, default=3e-3
        Base learning rate of AdamW.
    weight_decay : float, default=0.0
        Weight decay of AdamW. With 0, AdamW equals Adam.
    schedule : str, default="cosine"
        Schedule of the learning rate over all steps: "cosine", "constant", "one_cycle", "patchtst"
        (as PatchTST's settings state it) or "patchtst_as_run" (as PatchTST's code runs it: the
        first epoch at 1/25 of the rate, and a first beta of 0.95).
    gradient_clip : float, optional
        Largest norm of the gradient. Default: no clipping.
    validate_every : int, optional
        Number of steps between validations. Default: an epoch, but at most a tenth of all steps.
    validation_share : float or None, default=0.2
        Largest cost of all validations, as a share of the cost of all training steps. If there are
        more validation windows than that allows, an evenly spaced part of them is used, and
        ``record_`` of the estimator holds both numbers. None validates on all windows.
    patience : int, optional
        Number of validations without improvement after which training stops. Default: no limit.
    device : str, default="auto"
        Device to train on: "cpu", "cuda", "cuda:1" or "auto", which is CUDA if available.
    precision : {"float32", "float64", "bfloat16"}, default="float32"
        Floating-point type; "bfloat16" keeps weights in float32 and computes under autocast.
    progress : bool, default=False
        Whether to show a progress bar.

    Notes
    -----
    The weights of the best validation are kept. Training whose length is not given takes 20 epochs,
    but at least 300 and at most 1000 steps. If several processes are launched (``accelerate
    launch`` or ``torchrun``), each of them takes a part of every batch, and accelerate averages the
    gradients; each process keeps its own BatchNorm statistics.

    Examples
    --------
    >>> Trainer(max_epochs=10, patience=3)
    Trainer(max_epochs=10, patience=3)
    """

    def __init__(
        self,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        batch_rows: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        gradient_clip: float | None = None,
        validate_every: int | None = None,
        validation_share: float | None = 0.2,
        patience: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        progress: bool = False,
    ) -> None:
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.batch_rows = batch_rows
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.gradient_clip = gradient_clip
        self.validate_every = validate_every
        self.validation_share = validation_share
        self.patience = patience
        self.device = device
        self.precision = precision
        self.progress = progress

    def check(self) -> None:
        """Raise `InvalidParameterError` if a parameter is out of its range."""
        counts = ("max_steps", "max_epochs", "batch_rows", "batch_size", "validate_every")
        for name in (*counts, "patience"):
            if getattr(self, name) is not None:
                check_int(self, **{name: getattr(self, name)})
        for one, other in (("max_steps", "max_epochs"), ("batch_rows", "batch_size")):
            given, instead = getattr(self, one), getattr(self, other)
            if given is not None and instead is not None:
                raise InvalidParameterError(
                    f"Trainer takes either {one!r} or {other!r}. Got {one}={given!r} and "
                    f"{other}={instead!r}. Leave one out.",
                    parameter=other,
                )
        if self.validation_share is not None:
            check_float(self, "(0, inf)", validation_share=self.validation_share)
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
        checkpoint: CheckpointFile | NoCheckpoint = NO_CHECKPOINT,
        validate_start: bool = False,
    ) -> TrainingRecord:
        """Train a network in place and leave the best weights in it.

        Parameters
        ----------
        network : PatchNetwork
            Network on the device and with the floating-point type of the batches of `source`.
        source : WindowSource
            Source of batches.
        windows : WindowSets
            Numbers of the windows to train and validate on.
        row_loss : callable
            Loss of each row; see `adaptivepatch.training.losses.RowLoss`.
        seed : int
            Seed of batch order, rollouts and dropout. torch's global generator stays unchanged.
        callback : callable, optional
            Function that is called as ``callback(step, metrics)`` after every validation.
        plan : TrainingRecord, optional
            Record of a run to repeat on other windows. The repetition uses the schedule of that
            run, ends at its best step and has no validation.
        checkpoint : CheckpointFile, optional
            File that the state is written to at every validation. If it holds a state of the same
            run, training resumes from that state and ends with the same weights, bit for bit on the
            same machine.
        validate_start : bool, default=False
            Whether to validate before the first step, too, so that the initial weights are kept if
            no step improves on them.

        Returns
        -------
        TrainingRecord
            Record of the run.

        Raises
        ------
        TrainingDivergedError
            If the training or validation loss becomes infinite or NaN.
        InvalidParameterError
            If there is no window to train on or no observed target to validate on, or if a
            checkpoint is used by several processes or was written on another kind of device.
        KeyboardInterrupt
            On Ctrl-C before the first validation or while a plan is repeated. Later, Ctrl-C ends
            training with the best weights so far and sets ``interrupted`` of the record.
        """
        if len(windows.train) == 0:
            raise InvalidParameterError(
                "Training needs at least one window, but there is none. Shorten the look-back or "
                "the horizon, or pass longer series."
            )
        processes = Processes.current(resolve_device(self.device))
        if processes.count > 1 and not isinstance(checkpoint, NoCheckpoint):
            raise InvalidParameterError(
                f"Only a single process can write checkpoints. Got {processes.count} processes. "
                "Leave checkpoints out, or train in one process.",
                parameter="checkpoint",
            )
        cuda = [processes.device] if processes.device.type == "cuda" else []
        with seeded(seed + 7919 * processes.rank, cuda):
            loop = ForecastLoop(
                self, network, source, windows, row_loss, processes, seed, plan, checkpoint
            )
            loop.validate_start = validate_start
            enabled = self.progress and processes.rank == 0
            with TrainingProgress(loop.last_step, enabled=enabled) as progress:

                def report(step: int, metrics: dict[str, float]) -> None:
                    progress.show_losses(metrics)
                    if callback is not None:
                        callback(step, metrics)

                try:
                    loop.run(progress.show_steps, report)
                except KeyboardInterrupt:
                    if loop.kept is None or loop.is_repeat:
                        raise
                    loop.record.interrupted = True
            return loop.finish()

    @property
    def autocast(self) -> torch.dtype | None:
        """Lower precision of forward passes, or None."""
        return resolve_precision(self.precision)[1]

    def placement(self, fallback: str | None = None) -> dict[str, Any]:
        """Return device and type of a network and its series, as arguments of `Tensor.to`.

        Parameters
        ----------
        fallback : str, optional
            Device to use if this machine lacks the named device.
        """
        try:
            device = resolve_device(self.device)
        except InvalidParameterError:
            if fallback is None:
                raise
            device = resolve_device(fallback)
        return {"device": device, "dtype": resolve_precision(self.precision)[0]}

    def lengths(self, num_windows: int, rows_per_window: int = 1) -> Lengths:
        """Return the length of a training on windows.

        Parameters
        ----------
        num_windows : int
            Number of windows to train on.
        rows_per_window : int, default=1
            Number of rows of a window, one per channel.
        """
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = max(1, round((self.batch_rows or DEFAULT_BATCH_ROWS) / rows_per_window))
        per_epoch = math.ceil(num_windows / batch_size)
        if self.max_epochs is not None:
            total = self.max_epochs * per_epoch
        else:
            total = self.max_steps or default_steps(num_windows * rows_per_window)
        every = self.validate_every or max(1, min(per_epoch, math.ceil(total / 10)))
        return Lengths(batch_size, per_epoch, total, every)

    def thinned(self, validation: Tensor, lengths: Lengths) -> Tensor:
        """Return the validation windows, or evenly spaced ones of them; see `validation_share`.

        A training step is taken to cost as much as three forecasts of its rows.
        """
        if self.validation_share is None:
            return validation
        times = math.ceil(lengths.total_steps / lengths.validate_every)
        steps = self.validation_share * lengths.total_steps / times
        most = max(1, math.ceil(3 * steps)) * lengths.batch_size
        if len(validation) <= most:
            return validation
        return validation[torch.linspace(0, len(validation) - 1, most).round().long()]


def resolve_trainer(value: object) -> Trainer:
    """Return the trainer after checking its settings; None means a trainer with default settings.

    Raises
    ------
    TypeError
        If the value is neither a trainer nor None.
    InvalidParameterError
        If a setting is out of range.
    """
    trainer = Trainer() if value is None else value
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"The 'trainer' parameter must be a Trainer instance or None. Got {value!r} instead."
        )
    trainer.check()
    return trainer


class ForecastLoop(TrainingLoop):
    """Training loop of one `Trainer.fit`; keeps the weights of the best validation.

    Parameters
    ----------
    trainer, network, source, windows, row_loss, seed, plan, checkpoint
        Trainer, and arguments of `Trainer.fit`.
    processes : Processes
        Processes that train together.
    """

    record: TrainingRecord
    validate_start = False

    def __init__(
        self,
        trainer: Trainer,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        processes: Processes,
        seed: int,
        plan: TrainingRecord | None = None,
        checkpoint: CheckpointFile | NoCheckpoint = NO_CHECKPOINT,
    ) -> None:
        self.trainer, self.network, self.source = trainer, network, source
        self.row_loss, self.processes = row_loss, processes
        self.is_repeat = plan is not None
        lengths = trainer.lengths(len(windows.train), windows.rows_per_window)
        batch_size, per_epoch, total, every = lengths
        self.validation, held_out = None, 0
        if windows.validation is not None and not self.is_repeat:
            self.validation = trainer.thinned(windows.validation, lengths)
            held_out = len(windows.validation)
        last = total
        if plan is not None:
            per_epoch, total, last = plan.steps_per_epoch, plan.total_steps, plan.best_step
        super().__init__(
            optimizer=make_optimizer(
                network, trainer.learning_rate, trainer.weight_decay, first_beta(trainer.schedule)
            ),
            schedule=make_schedule(trainer.schedule),
            record=TrainingRecord(
                total_steps=total,
                steps_per_epoch=per_epoch,
                num_validation_windows=0 if self.validation is None else len(self.validation),
                num_held_out_windows=held_out,
            ),
            total_steps=total,
            steps_per_epoch=per_epoch,
            last_step=last,
            validate_every=every,
            gradient_clip=trainer.gradient_clip,
            checkpoint=checkpoint,
            device=processes.device,
        )
        order = torch.Generator().manual_seed(seed)
        self.batches = ShuffledBatches(windows.train, batch_size, order)
        self.validation_batch = batch_size
        self.rollouts = torch.Generator(processes.device).manual_seed(seed + processes.rank)
        self.autocast = resolve_precision(trainer.precision)[1]
        step = TrainingStep(network, row_loss, total_weight=processes.mean, precision=self.autocast)
        self.step = processes.wrap(step)
        self.stale = 0  # validations since the best validation
        self.kept: dict[str, Tensor] | None = None  # weights of the best validation
        network.train()

    def begin(self) -> None:
        """Validate before the first step if `validate_start` is set."""
        if self.validate_start and self.validation is not None:
            self._add_to_history({})

    def is_finished(self) -> bool:
        """Tell whether the last `patience` validations brought no improvement."""
        return self.trainer.patience is not None and self.stale >= self.trainer.patience

    def next_step(self, done: int) -> NextStep:
        """Return the next batch of windows, or the part of it that this process trains on."""
        del done  # the batches keep their own position
        batch = self.source.batch(self.processes.share(next(self.batches)))
        return NextStep(self.step, batch, self.rollouts)

    def take_stock(self) -> dict[str, float]:
        """Validate, add an entry to the history, and keep the weights if they are the best."""
        # Averaged over processes, so that all of them stop at the same step.
        forecast, auxiliary = self.processes.mean(self.take_losses()).tolist()
        self.check_finite("training", forecast + auxiliary, self.trainer.learning_rate)
        return self._add_to_history(
            {
                "train_loss": forecast,
                "auxiliary_loss": auxiliary,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                **self.network.patcher.take_metrics(),
            }
        )

    def finish(self) -> TrainingRecord:
        """Put the best weights into the network and return the record."""
        if self.kept is not None:
            self.network.load_state_dict(self.kept)
        self.network.eval()
        self.record.seconds = self.seconds()
        return self.record

    # ------------------------------------------------------------------ validation

    def _add_to_history(self, metrics: dict[str, float]) -> dict[str, float]:
        record, loss = self.record, math.nan
        if self.validation is not None:
            loss = metrics["validation_loss"] = self._validation_loss(self.validation)
        metrics["seconds"] = self.seconds()
        record.history.append({"step": float(record.num_steps), **metrics})
        if self.validation is None or not loss >= record.best_loss:
            self.kept, self.stale = copy.deepcopy(self.network.state_dict()), 0
            record.best_step, record.best_loss = record.num_steps, loss
        else:
            self.stale += 1
        return metrics

    def _validation_loss(self, windows: Tensor) -> float:
        loss = self.validate(windows)
        if self.processes.count > 1:  # BatchNorm differs between processes, decisions must not
            own = torch.tensor(loss, dtype=torch.float64, device=self.processes.device)
            loss = float(self.processes.mean(own))
        self.check_finite("validation", loss, self.trainer.learning_rate)
        return loss

    @torch.no_grad()
    def validate(self, windows: Tensor) -> float:
        """Return the mean loss over windows, in eval mode with the most probable patches."""
        self.network.eval()
        total = weight = 0.0
        for chunk in windows.split(self.validation_batch):
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
                f"None of the {len(windows)} validation windows has an observed target. Leave such "
                "windows out."
            )
        return total / weight

    # ------------------------------------------------------------------ state

    def state(self) -> TrainingState:
        """Return weights, optimizer, random generators and record."""
        device, record = self.processes.device, self.record
        epoch, position = self.batches.state()
        tensors = {
            "random.torch": torch.default_generator.get_state(),
            "random.rollouts": self.rollouts.get_state(),
            "random.epoch": epoch,
        }
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        tensors |= {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()}
        if self.kept is not None and record.best_step < record.num_steps:
            tensors |= {f"kept.{k}": v for k, v in self.kept.items()}
        facts: dict[str, Any] = {
            "record": asdict(record) | {"seconds": self.seconds()},
            "stale": self.stale,
            "position": position,
            "keeps": self.kept is not None,
            "device": device.type,
        }
        return TrainingState(tensors, facts)

    def restore(self, state: TrainingState) -> None:
        """Restore what `state` returned.

        Raises
        ------
        InvalidParameterError
            If the state was written on another kind of device.
        InvalidModelError
            If the state does not belong to a run of this kind.
        """
        device, facts, random = self.processes.device, state.facts, state.part("random")
        path = self.checkpoint.path
        check_facts(_FACTS, facts, path)
        if facts["device"] != device.type:
            raise InvalidParameterError(
                f"The run began on a device of kind {facts['device']!r} and must be resumed on "
                f"one. Got device={self.trainer.device!r}, which is of kind {device.type!r} here. "
                "Resume on such a device, or train from the start.",
                parameter="device",
            )
        generators = {
            "torch": torch.default_generator.get_state(),
            "rollouts": self.rollouts.get_state(),
            "epoch": self.batches.state()[0],
        }
        if device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(device)
        check_tensors(random, generators, "random", path)
        load_network(self.network, state.part("network"), path)
        load_optimizer(self.optimizer, state.part("optimizer"), path)
        self.record = record = TrainingRecord(**facts["record"])
        self.stale = facts["stale"]
        if facts["keeps"]:
            self.kept = copy.deepcopy(self.network.state_dict())
            kept, differs = state.part("kept"), record.best_step < record.num_steps
            check_tensors(kept, self.kept if differs else {}, "kept", path)
            self.kept |= {name: value.to(self.kept[name].device) for name, value in kept.items()}
        self.batches.restore(random["epoch"], facts["position"])
        self.rollouts.set_state(random["rollouts"])
        torch.default_generator.set_state(random["torch"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], device)
