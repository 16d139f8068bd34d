"""`TrainingLoop`: steps, validations and checkpoints of one training run, and `train_step`.

Subclasses choose the batch of each step and the validation: the loop for forecasters is in
``trainer.py``, the loop for pretraining in ``pretraining/pretrain.py``. The loss of a step is in
``step.py``.
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
    """Attributes of a record that every loop writes."""

    history: list[dict[str, float]]
    num_steps: int
    seconds: float


class NextStep(NamedTuple):
    """Module, batch and random generator of the next step.

    Parameters
    ----------
    module : nn.Module
        `TrainingStep`, or a distributed wrapper of one.
    batch : Batch
        Batch of N rows.
    generator : torch.Generator
        Generator of the rollouts.
    """

    module: nn.Module
    batch: Batch
    generator: torch.Generator


class TrainingLoop(ABC):
    """Base class of a training run.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Optimizer of all trained parameters.
    schedule : callable
        Learning-rate schedule; see `adaptivepatch.training.schedules`.
    record : LoopRecord
        Record that the loop updates.
    total_steps, steps_per_epoch : int
        Length of the schedule and of an epoch, in steps.
    last_step : int
        Step at which to stop, at most `total_steps`.
    validate_every : int
        Number of steps between validations.
    gradient_clip : float, optional
        Largest norm of the gradient. Default: no clipping.
    checkpoint : CheckpointFile or NoCheckpoint
        File that the state is written to at every validation, and that a run resumes from.
    device : torch.device
        Device on which losses are summed.

    Attributes
    ----------
    loss_dtype : torch.dtype
        Floating-point type in which losses are summed.
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
        """Train to the last step, or until `is_finished` returns True.

        Parameters
        ----------
        on_step : callable
            Function that is called after every step with the number of steps done.
        on_validation : callable
            Function that is called after every validation with the number of steps done and the
            metrics.
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

    # ------------------------------------------------------------------ defined by subclasses

    def begin(self) -> None:  # noqa: B027, most loops have nothing to prepare
        """Prepare the first step of a run that is not resumed."""

    def is_finished(self) -> bool:
        """Tell whether training ends before the last step."""
        return False

    @abstractmethod
    def next_step(self, done: int) -> NextStep:
        """Return the module, batch and generator of the step that follows `done` steps."""

    @abstractmethod
    def take_stock(self) -> dict[str, float]:
        """Validate, and return the entry that was added to the history."""

    @abstractmethod
    def state(self) -> TrainingState:
        """Return everything that later steps depend on."""

    @abstractmethod
    def restore(self, state: TrainingState) -> None:
        """Restore what `state` returned."""

    # ------------------------------------------------------------------ shared by subclasses

    def seconds(self) -> float:
        """Return the wall time so far, including the time before the run was resumed."""
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
            Value of the loss.
        learning_rate : float
            Base learning rate, for the message.
        """
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The {kind} loss became {loss!r} by step {self.record.num_steps}. Lower "
                f"learning_rate={learning_rate!r} or set gradient_clip=1.0.",
                parameter="learning_rate",
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
        Training step, or a distributed wrapper of one.
    optimizer : torch.optim.Optimizer
        Optimizer of the network's parameters.
    batch : Batch
        Batch of N rows.
    generator : torch.Generator
        Generator of the rollouts.
    progress : float, default=0.0
        Share of the training that is done, from 0 to 1.
    gradient_clip : float, optional
        Largest norm of the gradient. Default: no clipping.
    """
    optimizer.zero_grad(set_to_none=True)
    output: StepOutput = step(batch, generator, progress)
    output.loss.backward()
    if gradient_clip is not None:
        nn.utils.clip_grad_norm_(step.parameters(), gradient_clip)
    optimizer.step()
    return output
