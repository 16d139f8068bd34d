"""Intervals of relative differences of errors, from resampled seeds, time blocks and items.

These are functions of arrays of losses, without forecasters or frames.

An error measured on one test period with a few seeds differs from the error on the next period
with other seeds for two reasons, and ignoring either makes intervals too narrow [1]_:

* the *seed*: weights, batch order and dropout differ from fit to fit, independently in each arm;
* the *time*: another test period has other windows, which are the same for both arms.

The statistic is ``log(challenger / baseline)``, each being the mean loss over seeds and windows.
To first order its error is the sum of independent parts, and each part is resampled separately:

1. Seeds: n seed means are drawn with replacement, separately for each arm. The variance of their
   mean is ``(n - 1) / n`` times the right one, so deviations are multiplied by
   ``sqrt(n / (n - 1))``.
2. Time: circular blocks of consecutive cutoffs are drawn [2]_ [3]_ from losses averaged over
   seeds. The blocks are the same for both arms, and hold all items and channels of a cutoff. The
   same correction applies to B blocks. As the targets of windows less than H steps apart overlap,
   the loss of a window is a moving average over H steps. If the losses of single steps are
   uncorrelated, blocks of length l show ``1 - H / (3 l)`` of the variance of the mean (the sum of
   ``(1 - k/l) (1 - k/H)`` over lags k below H), which is two thirds at l = H. Deviations are
   divided by its square root; blocks are up to 3 H long if there are enough cutoffs.
3. Items, if there are at least 10, are drawn with replacement, as future items would differ.

Drawing the parts separately and adding their deviations counts the seed-by-time interaction twice.
Drawing blocks within drawn seeds would count it three times; counting it once is correct, hence the
separate draws.

The quantiles of the sum, or the normal quantiles for its variance if they are further out
(resamples of five seeds have light tails), are stretched about the estimate by the ratio of
Student's to the normal quantile, because an *estimated* spread is itself uncertain. Degrees of
freedom are Welch's, ``(sum v)^2 / sum(v^2 / df)`` over the variances v of the parts, where the
seeds of each arm are one part with n - 1. For m comparisons every interval has the confidence
level ``1 - (1 - confidence) / m`` (Bonferroni).

Measurements: ``benchmarks/compare_calibration.py`` and ``docs/compare.md``.

References
----------
.. [1] X. Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021,
   arXiv:2103.03098.
.. [2] H. R. Kuensch, "The Jackknife and the Bootstrap for General Stationary Observations",
   Annals of Statistics 17(3), 1989.
.. [3] D. N. Politis, J. P. Romano, "A Circular Block-Resampling Procedure for Stationary Data",
   in: Exploring the Limits of Bootstrap, Wiley, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidParameterError, check_float, check_int

MIN_BLOCKS = 5
"""Smallest number of time blocks from which intervals include other test periods."""

MIN_ITEMS = 10
"""Smallest number of items from which items are resampled too."""

LONGEST_BLOCK = 3
"""Length of a block in horizons, if there are enough cutoffs."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A relative difference of errors, ``challenger / baseline - 1``, and its interval.

    Parameters
    ----------
    difference : float
        Relative difference; negative if the error of the challenger is smaller.
    low, high : float
        Bounds of the interval; NaN for a single seed.
    degrees_of_freedom : float
        Degrees of freedom of Student's quantile.
    seed_error, time_error, item_error : float
        Standard errors of the difference by origin; 0 for an origin that is not resampled.
    num_blocks : float
        Number of cutoffs divided by the block length.
    block_length : int
        Length of a time block in cutoffs.
    """

    difference: float
    low: float
    high: float
    degrees_of_freedom: float
    seed_error: float
    time_error: float
    item_error: float
    num_blocks: float
    block_length: int

    @property
    def verdict(self) -> Literal["helps", "hurts", "no evidence"]:
        """The side of 0 that the whole interval is on: "helps" below, "hurts" above."""
        if self.high < 0:
            return "helps"
        return "hurts" if self.low > 0 else "no evidence"


class Part(NamedTuple):
    """Resampled deviations of one origin, their variances and the degrees of freedom of each."""

    deviations: Array
    variances: tuple[float, ...]
    degrees_of_freedom: float


def relative_difference(
    challenger: Array,
    baseline: Array,
    count: Array,
    *,
    horizon: int,
    time: ArrayLike | None = None,
    item: ArrayLike | None = None,
    confidence: float = 0.95,
    num_comparisons: int = 1,
    num_replicates: int = 4000,
    seed: int = 0,
) -> Interval:
    """Compare two arms on the same test windows.

    Parameters
    ----------
    challenger, baseline : ndarray of shape (seeds, windows)
        Sums of the losses over the observed steps and channels of each window.
    count : ndarray of shape (windows,)
        Number of losses in each sum.
    horizon : int
        Horizon in cutoffs: windows that are closer have overlapping targets.
    time : array of int, shape (windows,), optional
        Position in time of each window's cutoff. Default: the order of the windows.
    item : array of int, shape (windows,), optional
        Item of each window. Default: one item.
    confidence : float, default=0.95
        Confidence level of all intervals together.
    num_comparisons : int, default=1
        Number of these intervals.
    num_replicates : int, default=4000
        Number of draws of the bootstrap.
    seed : int, default=0
        Seed of the bootstrap.

    Returns
    -------
    Interval
        Relative difference with its interval.

    Raises
    ------
    InvalidParameterError
        If there are fewer than `MIN_BLOCKS` blocks and fewer than `MIN_ITEMS` items.
    """
    check_float(None, "(0, 1)", confidence=confidence)
    check_int(None, num_comparisons=num_comparisons, num_replicates=num_replicates)
    totals = np.asarray(count, dtype=np.float64)
    when = np.arange(len(totals)) if time is None else np.asarray(time)
    what = np.zeros(len(totals), dtype=np.intp) if item is None else np.asarray(item)
    pair = [_by_group(arm, when) for arm in (challenger, baseline)]
    counts = _by_group(totals[None], when)[0]
    num_times, num_items = len(counts), len(np.unique(what))
    length = block_length(num_times, horizon)
    num_blocks = num_times / length
    if num_blocks < MIN_BLOCKS and num_items < MIN_ITEMS:
        raise InvalidParameterError(
            f"An interval needs {MIN_BLOCKS} blocks of {horizon} cutoffs, or {MIN_ITEMS} items. "
            f"There are {num_times} cutoffs and {num_items} item(s). Test on more rows, or with a "
            "shorter horizon.",
            parameter="horizon",
        )
    rng = np.random.default_rng(seed)
    estimate = float(np.log(_mean(challenger, totals) / _mean(baseline, totals)))
    parts = [_seeds(arm, totals, num_replicates, rng) for arm in (challenger, baseline)]
    parts[1] = parts[1]._replace(deviations=-parts[1].deviations)
    if num_blocks >= MIN_BLOCKS:
        parts.append(_blocks(pair, counts, length, horizon, num_replicates, rng))
    if num_items >= MIN_ITEMS:
        grouped = [_by_group(arm, what) for arm in (challenger, baseline)]
        parts.append(_items(grouped, _by_group(totals[None], what)[0], num_replicates, rng))
    low, high, freedom = _bounds(parts, 1 - (1 - confidence) / num_comparisons)
    variances = [sum(part.variances) for part in parts]
    has_blocks = num_blocks >= MIN_BLOCKS
    return Interval(
        difference=float(np.expm1(estimate)),
        low=float(np.expm1(estimate + low)),
        high=float(np.expm1(estimate + high)),
        degrees_of_freedom=freedom,
        seed_error=float(np.sqrt(variances[0] + variances[1])),
        time_error=float(np.sqrt(variances[2])) if has_blocks else 0.0,
        item_error=float(np.sqrt(variances[-1])) if num_items >= MIN_ITEMS else 0.0,
        num_blocks=num_blocks,
        block_length=length,
    )


def block_length(num_times: int, horizon: int) -> int:
    """Return the length of time blocks: a fifth of the cutoffs, but between H and 3 H.

    Examples
    --------
    >>> block_length(2785, 96), block_length(109, 12), block_length(40, 12)
    (288, 21, 12)
    """
    return int(np.clip(num_times // MIN_BLOCKS, horizon, LONGEST_BLOCK * horizon))


def student_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return the quantile of Student's t distribution at a probability above one half.

    With ``t = sqrt(df) tan(a)`` the density is proportional to ``cos(a) ** (df - 1)``, which is
    integrated by the Gauss-Legendre rule and inverted by bisection.

    Examples
    --------
    >>> round(student_quantile(0.975, 4), 3), round(student_quantile(0.975, 1e6), 3)
    (2.776, 1.96)
    """
    if degrees_of_freedom > 1e4:
        return NormalDist().inv_cdf(probability)
    nodes, weights = _integration_rule()

    def area(angle: float) -> float:
        at = np.cos(angle * (nodes + 1) / 2)
        return float(angle / 2 * (weights * at ** (degrees_of_freedom - 1)).sum())

    wanted = (2 * probability - 1) * area(np.pi / 2)
    low, high = 0.0, np.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if area(middle) < wanted:
            low = middle
        else:
            high = middle
    return float(np.sqrt(degrees_of_freedom) * np.tan(low))


@cache
def _integration_rule() -> tuple[Array, Array]:
    """Return nodes and weights on [-1, 1], cached because computing them is slow."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return nodes, weights


# ----------------------------------------------------------------------------- parts of the error


def _seeds(total: Array, count: Array, num_replicates: int, rng: np.random.Generator) -> Part:
    """Resample the seeds of one arm."""
    by_seed = total.sum(axis=1) / count.sum()
    num_seeds, mean = len(by_seed), by_seed.mean()
    if num_seeds < 2:
        return Part(np.full(num_replicates, np.nan), (np.nan,), 1.0)
    drawn = by_seed[rng.integers(num_seeds, size=(num_replicates, num_seeds))].mean(axis=1)
    deviations = np.log(drawn / mean) * np.sqrt(num_seeds / (num_seeds - 1))
    return Part(deviations, (by_seed.var(ddof=1) / num_seeds / mean**2,), num_seeds - 1.0)


def _blocks(
    pair: list[Array],
    count: Array,
    length: int,
    horizon: int,
    num_replicates: int,
    rng: np.random.Generator,
) -> Part:
    """Resample blocks of consecutive cutoffs, the same for both arms."""
    num_times, num_blocks = len(count), len(count) / length
    drawn_blocks = int(np.ceil(num_blocks))
    starts = rng.integers(num_times, size=(num_replicates, drawn_blocks))
    size = _circular_sums(count, length)[starts].sum(axis=1)
    ratios = []
    for arm in pair:
        by_time = arm.mean(axis=0)
        drawn = _circular_sums(by_time, length)[starts].sum(axis=1) / size
        ratios.append(drawn / (by_time.sum() / count.sum()))
    seen = (1 - horizon / (3 * length)) * (num_blocks - 1) / num_blocks
    scale = np.sqrt(drawn_blocks / num_blocks / seen)  # the drawn blocks hold more cutoffs
    deviations = np.log(ratios[0] / ratios[1]) * scale
    return Part(deviations, (float(deviations.var()),), num_blocks - 1)


def _items(pair: list[Array], count: Array, num_replicates: int, rng: np.random.Generator) -> Part:
    """Resample items, the same for both arms."""
    num_items = len(count)
    drawn = rng.multinomial(num_items, np.full(num_items, 1 / num_items), size=num_replicates)
    size = drawn @ count
    ratios = []
    for arm in pair:
        by_item = arm.mean(axis=0)
        ratios.append(drawn @ by_item / size / (by_item.sum() / count.sum()))
    deviations = np.log(ratios[0] / ratios[1]) * np.sqrt(num_items / (num_items - 1))
    return Part(deviations, (float(deviations.var()),), num_items - 1.0)


def _bounds(parts: list[Part], confidence: float) -> tuple[float, float, float]:
    """Return the lower and upper bound as deviations, and the degrees of freedom."""
    deviations = np.sum([part.deviations for part in parts], axis=0)
    if np.isnan(deviations).any():
        return float("nan"), float("nan"), float("nan")
    variance = sum(sum(part.variances) for part in parts)
    if variance == 0:
        return 0.0, 0.0, float("inf")
    shares = sum(v**2 / part.degrees_of_freedom for part in parts for v in part.variances)
    freedom = float(variance**2 / shares)
    tail = (1 - confidence) / 2
    normal = NormalDist().inv_cdf(1 - tail)
    stretch = student_quantile(1 - tail, freedom) / normal
    low, high = np.quantile(deviations, [tail, 1 - tail])
    symmetric = normal * variance**0.5  # resamples of five seeds are few and have light tails
    return min(low, -symmetric) * stretch, max(high, symmetric) * stretch, freedom


def _mean(total: Array, count: Array) -> float:
    return float(total.sum() / len(total) / count.sum())


def _by_group(total: Array, group: NDArray[np.generic]) -> Array:
    """Return sums of the columns of each group, in sorted order of the groups."""
    names, place = np.unique(group, return_inverse=True)
    return np.stack([np.bincount(place, row, minlength=len(names)) for row in total])


def _circular_sums(values: Array, length: int) -> Array:
    """Return the sum of `length` values from each position on, continued at the start."""
    running = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[:length]]))])
    return running[length : length + len(values)] - running[: len(values)]
