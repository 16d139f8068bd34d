"""Surprise of each step: the error of a small forecaster that is the same for all patchers.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adaptivepatch.nn.placement.surprise import NextPointPredictor, fit_next_point
from adaptivepatch.torch_state import seeded

WIDTH = 16  # channels of the reference forecaster


def reference_forecaster(
    series: Tensor,
    observed: Tensor | None = None,
    *,
    num_steps: int = 300,
    batch_size: int = 64,
) -> NextPointPredictor:
    """Train a forecaster of the next step with a fixed seed.

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised rows with filled gaps.
    observed : Tensor of bool, shape (N, T), optional
        False at gaps. None: every step is observed.
    num_steps, batch_size : int
        Number of training steps, and number of rows in each step.

    Returns
    -------
    NextPointPredictor
        The trained forecaster.
    """
    with seeded(0):
        forecaster = NextPointPredictor(WIDTH)
    generator = torch.Generator().manual_seed(0)
    fit_next_point(
        forecaster, series, observed, generator, num_steps=num_steps, batch_size=batch_size
    )
    return forecaster


@torch.no_grad()
def surprise(
    forecaster: NextPointPredictor, series: Tensor, observed: Tensor | None = None
) -> Tensor:
    """Return the squared error (N, T) of the one-step forecast of every step.

    An unobserved step, or a step after an unobserved one, gets the mean error of its row.

    Parameters
    ----------
    forecaster : NextPointPredictor
        Result of `reference_forecaster`.
    series : Tensor of shape (N, T)
        Normalised rows with filled gaps.
    observed : Tensor of bool, shape (N, T), optional
        False at gaps. None: every step is observed.
    """
    error = forecaster.squared_error(series)
    if observed is None:
        return error
    counted = observed.clone()
    counted[:, 1:] &= observed[:, :-1]
    mean = (error * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    return torch.where(counted, error, mean)
