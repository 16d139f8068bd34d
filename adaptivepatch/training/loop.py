"""`TrainingLoop`: steps, validations and checkpoints of one training run, and `train_step`.

What a step trains on and how the result is validated is up to the subclass: the loop of a
forecaster is in ``trainer.py``, that of a pretrained patcher in ``pretraining/pretrain.py``. The
loss of a step is in ``step.py``.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from adaptivepatch.training.checkpoint import CheckpointFile, NoCheckpoint, TrainingState
from adaptivepatch.training.record import StepOutput, TrainingDivergedError
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.schedules import Schedule


class LoopRecord(Protocol):
    """The part of a record that a loop writes."""

    history: list[dict[str, float]]
    num_steps: int
    seconds: float


class NextStep(NamedTuple):
    """What the next step trains.

    Parameters
    ----------
    module : nn.Module
        A `TrainingStep`, or a distributed wrapper of one.
    batch : Batch
        N rows.
    generator : torch.Generator
        Draws rollouts.
    """

    module: nn.Module
    batch: Batch
    generator: torch.Generator


class TrainingLoop(ABC):
    """One training run.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Over everything that is trained.
    schedule : callable
        See `adaptivepatch.training.schedules`.
    record : LoopRecord
        Where the course of training is written.
    total_steps, steps_per_epoch : int
        Steps that the schedule is laid out for, and steps that visit every window once.
    last_step : int
        Step to stop at; at most `total_steps`.
    validate_every : int
        Steps between validations.
    gradient_clip : float, optional
        Largest norm of the gradient. None: not clipped.
    checkpoint : CheckpointFile or NoCheckpoint
        Where to write the state at every validation, and to go on from.
    device : torch.device
        Where losses are summed.

    Attributes
    ----------
    loss_dtype : torch.dtype
        Type that losses are summed in.
    """

    loss_dtype: ClassVar[torch.dtype] = torch.float32

    def __init__(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        record: LoopRecord,
        total_steps: int,
        steps_per_epoch: int,
        last_step: int,
        validate_every: int,
        gradient_clip: float | None,
        checkpoint: CheckpointFile | NoCheckpoint,
        device: torch.device,
    ) -> None:
        self.optimizer, self.schedule, self.record = optimizer, schedule, record
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.last_step, self.validate_every = last_step, validate_every
        self.gradient_clip, self.checkpoint = gradient_clip, checkpoint
        self.losses = torch.zeros(3, dtype=self.loss_dtype, device=device)
        self.started = time.perf_counter()

    def run(
        self,
        on_step: Callable[[int], None],
        on_validation: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Train to the last step, or until the subclass says that training is finished.

        Parameters
        ----------
        on_step, on_validation : callable
            Called with the number of steps done, and at validations with the metrics, too.
        """
        if not self._resume():
            self.begin()
            self.checkpoint.save(self.state)
        while self.record.num_steps < self.last_step and not self.is_finished():
            done = self.record.num_steps
            self._set_learning_rate(done)
            following = self.next_step(done)
            output = train_step(
                following.module,
                self.optimizer,
                following.batch,
                generator=following.generator,
                progress=done / self.total_steps,
                gradient_clip=self.gradient_clip,
            )
            self._add_losses(output)
            self.record.num_steps += 1
            on_step(self.record.num_steps)
            is_last = self.record.num_steps == self.last_step
            if is_last or self.record.num_steps % self.validate_every == 0:
                metrics = self.take_stock()
                self.checkpoint.save(self.state)
                on_validation(self.record.num_steps, metrics)

    # ------------------------------------------------------------------ what a subclass says

    def begin(self) -> None:  # noqa: B027, most loops have nothing to prepare
        """Prepare the first step of a run that is not resumed."""

    def is_finished(self) -> bool:
        """Tell whether training ends before the last step."""
        return False

    @abstractmethod
    def next_step(self, done: int) -> NextStep:
        """Return what the step after `done` steps trains."""

    @abstractmethod
    def take_stock(self) -> dict[str, float]:
        """Validate, add an entry to the history, and return it."""

    @abstractmethod
    def state(self) -> TrainingState:
        """Return all that the steps after this one depend on."""

    @abstractmethod
    def restore(self, state: TrainingState) -> None:
        """Go on from what `state` returned."""

    # ------------------------------------------------------------------ what subclasses share

    def seconds(self) -> float:
        """Return the wall time so far, of all sittings if the run was resumed."""
        return time.perf_counter() - self.started

    def take_losses(self) -> Tensor:
        """Return the mean forecast loss and the mean auxiliary loss since the last call."""
        means = self.losses[:2] / self.losses[2]
        self.losses.zero_()
        return means

    def check_finite(self, kind: str, loss: float, learning_rate: float) -> None:
        """Raise `TrainingDivergedError` unless a loss is finite.

        Parameters
        ----------
        kind : str
            Name of the loss in the message: "training" or "validation".
        loss : float
            Its value.
        learning_rate : float
            Base rate, for the message.
        """
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The {kind} loss must stay finite, but it is {loss!r} by step "
                f"{self.record.num_steps}. Lower learning_rate={learning_rate!r} or set "
                "gradient_clip=1.0."
            )

    def _resume(self) -> bool:
        state = self.checkpoint.read()
        if state is None:
            return False
        self.restore(state)
        self.started = time.perf_counter() - self.record.seconds
        return True

    def _set_learning_rate(self, done: int) -> None:
        factor = self.schedule(done / self.total_steps, done / self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def _add_losses(self, output: StepOutput) -> None:
        one = torch.ones_like(output.forecast_loss)
        step = torch.stack([output.forecast_loss, output.auxiliary_loss, one])
        self.losses += step.to(self.loss_dtype)


def train_step(
    step: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    generator: torch.Generator,
    progress: float = 0.0,
    gradient_clip: float | None = None,
) -> StepOutput:
    """Do one forward pass, one backward pass and one step of the optimizer.

    Parameters
    ----------
    step : TrainingStep
        Or a distributed wrapper of one.
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    batch : Batch
        N rows.
    generator : torch.Generator
        Draws rollouts.
    progress : float, default=0.0
        Share of the training done.
    gradient_clip : float, optional
        Largest gradient norm.
    """
    optimizer.zero_grad(set_to_none=True)
    output: StepOutput = step(batch, generator, progress)
    output.loss.backward()
    if gradient_clip is not None:
        nn.utils.clip_grad_norm_(step.parameters(), gradient_clip)
    optimizer.step()
    return output
