"""Input and results of a training run: window sets, losses and a record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from adaptivepatch import schema
from adaptivepatch.errors import AdaptivePatchError

Callback = Callable[[int, dict[str, float]], None]
"""Called as ``callback(step, metrics)`` after every validation; may raise to stop training."""


class TrainingDivergedError(AdaptivePatchError, ArithmeticError):
    """The training or the validation loss became infinite or NaN."""


class StepOutput(NamedTuple):
    """Total loss with its gradient, and its two parts without gradient."""

    loss: Tensor
    forecast_loss: Tensor
    auxiliary_loss: Tensor


class WindowSets(NamedTuple):
    """Windows of one training.

    Parameters
    ----------
    train : Tensor of int, shape (W,)
        Numbers of the windows to train on.
    validation : Tensor of int, optional
        Numbers of the windows to validate on, in time order within each series.
    rows_per_window : int, default=1
        Number of rows that a window adds to a batch, one per channel.
    """

    train: Tensor
    validation: Tensor | None = None
    rows_per_window: int = 1


@dataclass
class TrainingRecord:
    """Record of a training run.

    Attributes
    ----------
    history : list of dict
        One entry per validation: step, train_loss and auxiliary_loss (means since the last
        entry), learning_rate, seconds, and validation_loss if there are validation windows.
        Fine-tuning adds an entry at step 0, without training losses.
    best_step : int
        Step of the weights that were kept.
    best_loss : float
        Validation loss at `best_step`; NaN without validation.
    num_steps : int
        Number of steps done.
    total_steps : int
        Length of the learning-rate schedule, in steps.
    steps_per_epoch : int
        Number of steps that visit every training window once.
    num_validation_windows : int
        Number of windows whose loss was measured at every validation.
    num_held_out_windows : int
        Number of windows that were held out; `num_validation_windows` of them, evenly spaced, are
        validated on.
    seconds : float
        Wall time, including the time before training was resumed.
    interrupted : bool
        Whether Ctrl-C ended training early.
    refit_interrupted : bool
        Whether Ctrl-C ended the refit on all rows. The model from before the refit is then kept.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best_loss: float = math.nan
    num_steps: int = 0
    total_steps: int = 0
    steps_per_epoch: int = 0
    num_validation_windows: int = 0
    num_held_out_windows: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    refit_interrupted: bool = False

    @property
    def is_still_falling(self) -> bool:
        """Whether the validation loss was lowest at the last step and had just fallen clearly.

        Clearly means by more than 1 % during the last fifth of the steps. The learning rate of the
        default schedule ends at 0, and the loss always falls a little while it does.
        """
        losses = {entry["step"]: entry.get("validation_loss", math.nan) for entry in self.history}
        earlier = [losses[step] for step in losses if step <= 0.8 * self.total_steps]
        if not earlier or self.interrupted or not 0 < self.best_step == self.total_steps:
            return False
        return min(earlier) - self.best_loss > STILL_FALLING * abs(self.best_loss)


STILL_FALLING = 0.01
"""Share of the loss that it must fall by in the last fifth of training to be still falling."""

HISTORY = schema.list_of(schema.mapping_of(schema.maybe(schema.number())))


def record_schema(best_loss: schema.Schema) -> schema.Schema:
    """Return the schema of a `TrainingRecord` in a file; metrics that are NaN may be None."""
    return schema.fields(
        {
            "history": HISTORY,
            "best_step": schema.integer(),
            "best_loss": best_loss,
            "num_steps": schema.integer(),
            "total_steps": schema.integer(),
            "steps_per_epoch": schema.integer(),
            "seconds": schema.number(finite=True),
            "interrupted": schema.boolean,
        },
        {
            "refit_interrupted": schema.boolean,
            "num_validation_windows": schema.integer(),
            "num_held_out_windows": schema.integer(),
        },
    )
