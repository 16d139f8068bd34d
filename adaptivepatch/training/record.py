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
    """Numbers of the windows to train on, and of the windows to validate on, if any."""

    train: Tensor
    validation: Tensor | None = None


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
    seconds: float = 0.0
    interrupted: bool = False
    refit_interrupted: bool = False


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
        {"refit_interrupted": schema.boolean},
    )
