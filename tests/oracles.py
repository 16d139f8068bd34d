"""Slow loops that say the same as the fast code; tests compare the two.

Written from the definitions, element by element, in float64 numpy.
"""

from __future__ import annotations

import itertools

import numpy as np


def patches_of(mask_row):
    """First and one-past-last step of every patch of a boundary-mask row."""
    starts = [t for t, cut in enumerate(mask_row) if cut]
    return list(zip(starts, [*starts[1:], len(mask_row)], strict=True))


def area_mean(values, left, right):
    """Mean over [left, right) of the step function; beyond the end the last value is repeated."""
    total = 0.0
    for t in range(int(np.floor(left)), int(np.ceil(right))):
        covered = min(right, t + 1) - max(left, t)
        if covered > 0:
            total += covered * values[min(t, len(values) - 1)]
    return total / (right - left)


def resample(series, mask, num_values, halo):
    """List over rows of arrays (patches of the row, V)."""
    rows = []
    for values, mask_row in zip(series, mask, strict=True):
        row = []
        for start, end in patches_of(mask_row):
            width = (end - start + halo) / num_values
            row.append(
                [
                    area_mean(values, start + j * width, start + (j + 1) * width)
                    for j in range(num_values)
                ]
            )
        rows.append(np.array(row))
    return rows


def overlap_matrix(mask_row, reference_row):
    """Share of each reference cell (K) covered by each patch (P), step by step."""
    patches, cells = patches_of(mask_row), patches_of(reference_row)
    matrix = np.zeros((len(cells), len(patches)))
    for (k, cell), (p, patch) in itertools.product(enumerate(cells), enumerate(patches)):
        for t in range(*cell):
            if patch[0] <= t < patch[1]:
                matrix[k, p] += 1 / (cell[1] - cell[0])
    return matrix


def pool_sum(values, mask, capacity):
    """Sum (N, T, D) over patches to (N, P, D)."""
    pooled = np.zeros((len(values), capacity, values.shape[2]))
    for n, mask_row in enumerate(mask):
        for p, (start, end) in enumerate(patches_of(mask_row)):
            for t in range(start, end):
                pooled[n, p] += values[n, t]
    return pooled


def broadcast(patches, mask):
    """Every step gets its patch's value: (N, P, D) to (N, T, D)."""
    steps = np.zeros((len(mask), len(mask[0]), patches.shape[2]))
    for n, mask_row in enumerate(mask):
        for p, (start, end) in enumerate(patches_of(mask_row)):
            steps[n, start:end] = patches[n, p]
    return steps


def interpolate_gaps(series, observed):
    """numpy's interpolation, row by row; rows without an observed step are 0."""
    filled = np.zeros(series.shape)
    step = np.arange(series.shape[1])
    for n, seen in enumerate(observed):
        if seen.any():
            filled[n] = np.interp(step, step[seen], series[n, seen])
    return filled


def positions(table, reference_starts, start):
    """Table row of a start, linear between reference starts, held after the last."""
    for k in range(len(reference_starts) - 1):
        left, right = reference_starts[k], reference_starts[k + 1]
        if left <= start < right:
            share = (start - left) / (right - left)
            return (1 - share) * table[k] + share * table[k + 1]
    return table[len(reference_starts) - 1]


def from_scores(scores_row, capacity):
    """Step 0 and the capacity - 1 best other steps; ties to the earlier."""
    order = sorted(range(1, len(scores_row)), key=lambda t: (-scores_row[t], t))
    return sorted([0, *order[: capacity - 1]])


def learnable(observed, context_length, horizon, start):
    """Whether one channel of a window has two look-back points and one target point."""
    for channel in range(observed.shape[1]):
        past = observed[start : start + context_length, channel]
        future = observed[start + context_length : start + context_length + horizon, channel]
        if sum(past) >= 2 and sum(future) >= 1:
            return True
    return False


def row_loss(name, forecast, target, observed):
    """Mean point loss over the observed steps of every row."""
    losses = []
    for f, y, seen in zip(forecast, target, observed, strict=True):
        terms = []
        for value, truth, use in zip(f, y, seen, strict=True):
            error = abs(value - truth)
            point = {
                "mse": error**2,
                "mae": error,
                "huber": 0.5 * error**2 if error < 1 else error - 0.5,
            }[name]
            if use:
                terms.append(point)
        losses.append(sum(terms) / max(1, len(terms)))
    return np.array(losses)


def pinball(levels, forecast, target):
    """Quantile loss of one value at every level."""
    return np.array(
        [
            level * (target - f) if target >= f else (1 - level) * (f - target)
            for level, f in zip(levels, forecast, strict=True)
        ]
    )
