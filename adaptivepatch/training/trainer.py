"""`Trainer`: how long, how fast and where to train.

`fit` hands over to ``training/run.py``, the loop; ``training/step.py`` is what one step does.
"""

from __future__ import annotations

import math

import torch
from sklearn.base import BaseEstimator

from adaptivepatch.errors import InvalidParameterError, check_float, check_int
from adaptivepatch.network import PatchNetwork
from adaptivepatch.training.checkpoint import CheckpointFile
from adaptivepatch.training.devices import Processes, resolve_device, resolve_precision
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.record import Callback as Callback
from adaptivepatch.training.record import TrainingDivergedError as TrainingDivergedError
from adaptivepatch.training.record import TrainingRecord as TrainingRecord
from adaptivepatch.training.record import WindowSets as WindowSets
from adaptivepatch.training.run import Run
from adaptivepatch.training.sampler import WindowSource
from adaptivepatch.training.schedules import make_schedule

DEFAULT_MAX_STEPS = 1000


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
        checkpoint: CheckpointFile | None = None,
        validate_start: bool = False,
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
        checkpoint : CheckpointFile, optional
            Where to write the state at every validation. If it holds a state of the same run,
            training goes on from there, to the same weights bit for bit on the same machine.
        validate_start : bool, default=False
            Validate before the first step, too, so that training that only does harm is undone.

        Raises
        ------
        TrainingDivergedError
            If the training or validation loss becomes infinite or NaN.
        InvalidParameterError
            If there is no window to train on, no observed target to validate on, or a checkpoint
            that cannot be used: several processes, or written on another kind of device.
        KeyboardInterrupt
            On Ctrl-C before the first validation or while a plan is repeated. Later, Ctrl-C ends
            training with the best weights so far; the record says so.
        """
        if len(windows.train) == 0:
            raise InvalidParameterError(
                "Training needs at least one window, however: there is none. Shorten the "
                "look-back or the horizon, or pass longer series."
            )
        processes = Processes.current(resolve_device(self.device))
        if checkpoint is not None and processes.count > 1:
            raise InvalidParameterError(
                "Checkpoints are written by training in one process. Got "
                f"{processes.count} processes. Leave checkpoints out, or train in one process."
            )
        cuda = [processes.device] if processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            # torch.manual_seed would seed devices that are not forked, too.
            torch.default_generator.manual_seed(seed + 7919 * processes.rank)
            for device in cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed + 7919 * processes.rank)
            run = Run(self, network, source, windows, row_loss, processes, seed, plan, checkpoint)
            return run.run(callback, validate_start=validate_start)

    def lengths(self, num_windows: int) -> tuple[int, int, int]:
        """Return steps per epoch, total steps and steps between validations."""
        per_epoch = math.ceil(num_windows / self.batch_size)
        if self.max_epochs is not None:
            total = self.max_epochs * per_epoch
        else:
            total = self.max_steps or DEFAULT_MAX_STEPS
        every = self.validate_every or max(1, min(per_epoch, math.ceil(total / 10)))
        return per_epoch, total, every
