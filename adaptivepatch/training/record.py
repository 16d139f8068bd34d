"""What goes into a training run and what comes out of it: window sets, losses, the record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from adaptivepatch.errors import AdaptivePatchError

Callback = Callable[[int, dict[str, float]], None]
"""Called as ``callback(step, metrics)`` after every validation; may raise to stop."""


class TrainingDivergedError(AdaptivePatchError, ArithmeticError):
    """The training or the validation loss became infinite or NaN."""


class StepOutput(NamedTuple):
    """Total loss with gradient, and its two parts without."""

    loss: Tensor
    forecast_loss: Tensor
    auxiliary_loss: Tensor


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
        entry), learning_rate, seconds, and validation_loss if there are validation windows. A
        fine-tuned network has one more at step 0, without losses of training.
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
        Wall time, of all sittings if training was resumed.
    interrupted : bool
        Whether Ctrl-C ended training early.
    refit_interrupted : bool
        Whether it ended training again on all rows, so that the model is the one before it.
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
