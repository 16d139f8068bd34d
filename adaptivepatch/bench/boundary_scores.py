"""F1 score of predicted boundaries, where the true boundaries are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 2
"""Distance in time steps up to which a predicted boundary matches a true boundary."""
MAX_SHIFT = 16
"""Largest constant shift of boundaries that `best_shift` tries, in time steps."""


def boundary_f1(
    predicted: NDArray[np.bool_],
    true: NDArray[np.bool_],
    tolerance: int = TOLERANCE,
    shift: int = 0,
) -> float:
    """Return the F1 score of the boundaries of all rows together, without step 0.

    Parameters
    ----------
    predicted, true : ndarray of bool, shape (W, T)
        Steps at which patches start.
    tolerance : int, default=2
        Distance, in time steps, up to which a predicted boundary matches a true boundary.
    shift : int, default=0
        Number of time steps that is first added to the predicted boundaries.

    Returns
    -------
    float
        2 pairs / (predicted + true), where pairs is the size of the largest one-to-one matching.
        1 if there are no boundaries at all.

    Notes
    -----
    True boundaries are matched in order, each with the earliest free predicted boundary within the
    tolerance. As all tolerances are equal, no other matching has more pairs.

    Examples
    --------
    >>> true = np.array([[True, False, False, False, True, False]])
    >>> boundary_f1(np.roll(true, 2, axis=1), true)
    1.0
    """
    found, wanted = _places(predicted), _places(true)
    is_free, pairs = found > 0, 0
    rows = np.arange(len(found))
    for k in range(wanted.shape[1]):
        place = wanted[:, k : k + 1]
        near = is_free & (np.abs(found + shift - place) <= tolerance) & (place > 0)
        has_one = near.any(1)
        pairs += int(has_one.sum())
        is_free[rows[has_one], near.argmax(1)[has_one]] = False
    total = int((found > 0).sum() + (wanted > 0).sum())
    return 2 * pairs / total if total else 1.0


def best_shift(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], tolerance: int = TOLERANCE
) -> tuple[float, int]:
    """Return the best F1 over constant shifts of the predicted boundaries, and the best shift.

    All boundaries of a policy may be late by the same few steps. The forecast can compensate for
    such a delay, but `boundary_f1` cannot. Shifts go up to 16 steps in both directions; of equally
    good shifts, the smallest is returned.

    Parameters
    ----------
    predicted, true, tolerance
        Arguments as in `boundary_f1`.

    Returns
    -------
    f1 : float
    shift : int
        Number of time steps that was added to the predicted boundaries.
    """
    shifts = sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs)
    scores = [boundary_f1(predicted, true, tolerance, shift) for shift in shifts]
    best = int(np.argmax(scores))
    return scores[best], shifts[best]


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the boundaries of each row in order, without step 0, padded with 0."""
    inner = mask.copy()
    inner[:, 0] = False
    most = int(inner.sum(1).max(initial=1))
    places = np.zeros((len(mask), most), dtype=np.int64)
    row, step = np.nonzero(inner)
    places[row, inner.cumsum(1)[row, step] - 1] = step
    return places
