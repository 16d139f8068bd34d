"""Planted tasks: series with known boundaries that determine the best forecast.

Each look-back holds K regimes of constant mean; the future repeats the means in order. A model
that finds the boundaries can average out the noise of a regime and needs one value per patch.
Any change of the generator invalidates the committed results.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.errors import InvalidParameterError, check_int, suggest

PLANTED_TASKS = ("planted_a", "planted_b")
CONTEXT_LENGTH, HORIZON = 192, 24
NUM_REGIMES, MIN_LENGTH = 8, 8
MIN_MEAN_CHANGE = 1.0
NOISE = 0.3
NUM_DOUBLETS, DOUBLET_LENGTH, DOUBLET_HEIGHT = 2, 5, 4.0


class PlantedWindows(NamedTuple):
    """Windows of a planted task: series (W, 192), target (W, 24), boundary_mask (W, 192)."""

    series: NDArray[np.float64]
    target: NDArray[np.float64]
    boundary_mask: NDArray[np.bool_]


def planted_windows(task: str, num_windows: int, rng: np.random.Generator) -> PlantedWindows:
    """Draw windows of a planted task.

    Parameters
    ----------
    task : {"planted_a", "planted_b"}
        Only regimes, or regimes and doublets: pairs of high spikes in the look-back that look like
        regimes but do not affect the future.
    num_windows : int
        Number of windows W.
    rng : numpy.random.Generator
        Source of randomness; its state determines the windows.

    Returns
    -------
    PlantedWindows
        Look-backs, futures, and a mask that is True where a regime starts (step 0 always).

    Raises
    ------
    InvalidParameterError
        If the task is unknown or `num_windows` is not a positive int.

    Notes
    -----
    A look-back has T = 192 steps and K = 8 regimes. K unit exponential draws, divided by their sum,
    are the shares of the regimes; a regime lasts ``8 + floor(128 share)`` steps, and the last
    regime takes the rest. Means are standard normal; each mean is redrawn until it differs by at
    least 1.0 from the previous mean. A step is the mean of its regime plus normal noise of standard
    deviation 0.3. The target repeats the K means in order, 3 steps each, plus the same noise.
    ``planted_b`` adds two doublets at uniform positions of the look-back: +4 for 5 steps and -4 for
    the next 5 steps, or the reverse with probability 1/2. They may overlap.

    Examples
    --------
    >>> windows = planted_windows("planted_a", 2, np.random.default_rng(0))
    >>> windows.series.shape, windows.target.shape, windows.boundary_mask.sum(1).tolist()
    ((2, 192), (2, 24), [8, 8])
    """
    if task not in PLANTED_TASKS:
        raise InvalidParameterError(
            f"Unknown planted task {task!r}. Available: {list(PLANTED_TASKS)}."
            f"{suggest(task, PLANTED_TASKS)}",
            parameter="task",
        )
    check_int(None, num_windows=num_windows)
    lengths = _lengths(num_windows, rng)
    means = _means(num_windows, rng)
    starts = lengths.cumsum(1) - lengths
    mask = np.zeros((num_windows, CONTEXT_LENGTH), dtype=np.bool_)
    np.put_along_axis(mask, starts, values=True, axis=1)
    series = np.take_along_axis(means, mask.cumsum(1) - 1, axis=1)
    series += rng.normal(scale=NOISE, size=series.shape)
    target = means.repeat(HORIZON // NUM_REGIMES, axis=1)
    target += rng.normal(scale=NOISE, size=target.shape)
    if task == "planted_b":
        for _ in range(NUM_DOUBLETS):
            _add_doublet(series, rng)
    return PlantedWindows(series, target, mask)


def _lengths(num_windows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    shares = rng.exponential(size=(num_windows, NUM_REGIMES))
    shares /= shares.sum(1, keepdims=True)
    free = CONTEXT_LENGTH - NUM_REGIMES * MIN_LENGTH
    lengths = MIN_LENGTH + np.floor(shares * free).astype(np.int64)
    lengths[:, -1] += CONTEXT_LENGTH - lengths.sum(1)
    return lengths


def _means(num_windows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    means = rng.normal(size=(num_windows, NUM_REGIMES))
    for k in range(1, NUM_REGIMES):
        close = np.abs(means[:, k] - means[:, k - 1]) < MIN_MEAN_CHANGE
        while close.any():
            means[close, k] = rng.normal(size=int(close.sum()))
            close = np.abs(means[:, k] - means[:, k - 1]) < MIN_MEAN_CHANGE
    return means


def _add_doublet(series: NDArray[np.float64], rng: np.random.Generator) -> None:
    num_windows, num_steps = series.shape
    start = rng.integers(num_steps - 2 * DOUBLET_LENGTH + 1, size=num_windows)
    sign = rng.choice([-1.0, 1.0], size=num_windows)
    shape = np.repeat([DOUBLET_HEIGHT, -DOUBLET_HEIGHT], DOUBLET_LENGTH)
    place = start[:, None] + np.arange(2 * DOUBLET_LENGTH)
    added = np.take_along_axis(series, place, axis=1) + sign[:, None] * shape
    np.put_along_axis(series, place, added, axis=1)
