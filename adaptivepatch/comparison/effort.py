"""How much a comparison trains and tests: by default for minutes, or thoroughly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adaptivepatch.comparison.statistics import MIN_BLOCKS, block_length
from adaptivepatch.training.trainer import Trainer

TRAINING_ROWS = 64
"""Number of training windows times channels in a step."""

FEWEST_CUTOFFS = 1000
"""Number of cutoffs down to which windows may be further apart than a horizon."""


@dataclass(frozen=True)
class Effort:
    """Settings that decide how long a comparison takes.

    Parameters
    ----------
    name : str
        Name in messages.
    max_steps : int
        Largest number of training steps of a fit.
    learning_rate : float
        Learning rate; higher for shorter training.
    num_validations : int
        Number of validations of a fit that is not stopped early.
    patience : int or None
        Number of validations without improvement that stop a fit; None means no early stopping,
        and so a time that is known in advance.
    validation_rows, test_rows : int or None
        Number of windows times channels that are aimed at for validation and test; None uses all
        windows.
    beyond_horizon : bool
        Whether windows may be further apart than a horizon while there are many of them.
    """

    name: str
    max_steps: int
    learning_rate: float
    num_validations: int
    patience: int | None
    validation_rows: int | None
    test_rows: int
    beyond_horizon: bool

    def trainer(self, num_channels: int, max_steps: int | None = None) -> Trainer:
        """Return the trainer of all models.

        Parameters
        ----------
        num_channels : int
            Number of channels; the number of rows of a step hardly depends on it.
        max_steps : int, optional
            Another number of training steps.
        """
        steps = self.max_steps if max_steps is None else max_steps
        return Trainer(  # all settings, so that results do not depend on the defaults of Trainer
            max_steps=steps,
            max_epochs=None,
            batch_rows=None,
            batch_size=max(1, TRAINING_ROWS // num_channels),
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            schedule="cosine",
            gradient_clip=None,
            validate_every=min(self.max_steps // self.num_validations, max(1, steps // 4)),
            validation_share=None,
            patience=self.patience,
            device="auto",
            precision="float32",
            progress=False,
        )

    def validation_stride(self, num_windows: int, num_channels: int, horizon: int) -> int:
        """Return the distance of validation windows that are evaluated.

        Parameters
        ----------
        num_windows, num_channels : int
            Number of windows one step apart, and of channels.
        horizon : int
            Horizon in time steps.
        """
        if self.validation_rows is None:
            return 1
        wanted = math.ceil(num_windows * num_channels / self.validation_rows)
        return max(1, min(wanted, self._longest(num_windows, horizon)))

    def test_stride(
        self, num_windows: int, num_channels: int, num_cutoffs: int, horizon: int
    ) -> int:
        """Return the distance of test windows, which leaves enough time blocks for intervals.

        Parameters
        ----------
        num_windows, num_channels : int
            Number of windows one step apart, of all items, and number of channels.
        num_cutoffs : int
            Number of different cutoffs of these windows.
        horizon : int
            Horizon in time steps.
        """
        wanted = math.ceil(num_windows * num_channels / self.test_rows)
        stride = max(1, min(wanted, self._longest(num_cutoffs, horizon)))
        while stride > 1 and not _enough_blocks(num_cutoffs, horizon, stride):
            stride -= 1
        return stride

    def _longest(self, num_cutoffs: int, horizon: int) -> int:
        return max(horizon, num_cutoffs // FEWEST_CUTOFFS) if self.beyond_horizon else horizon


def _enough_blocks(num_cutoffs: int, horizon: int, stride: int) -> bool:
    """Tell whether thinned cutoffs still have as many time blocks as an interval needs.

    Cutoffs that have too few blocks even without thinning do not matter: their intervals come from
    items.
    """
    if num_cutoffs < MIN_BLOCKS * horizon:
        return True
    left = num_cutoffs // stride
    return left / block_length(left, int(np.ceil(horizon / stride))) >= MIN_BLOCKS


QUICK = Effort(
    name="default",
    max_steps=200,
    learning_rate=5e-3,
    num_validations=8,
    patience=None,
    validation_rows=1200,
    test_rows=3000,
    beyond_horizon=True,
)
THOROUGH = Effort(
    name="thorough",
    max_steps=400,
    learning_rate=2e-3,
    num_validations=8,
    patience=3,
    validation_rows=None,
    test_rows=50_000,
    beyond_horizon=False,
)
