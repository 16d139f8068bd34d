"""One patch per cycle, such as a day or a week.

Reference: Y. Wang et al., "LightGTS: A Lightweight General Time Series Forecasting Model", ICML
2025, arXiv:2506.06005.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar

import torch
from torch import Tensor

from adaptivepatch.errors import InvalidParameterError, check_float, check_int, not_prepared
from adaptivepatch.patchers.base import AskedLength, StaticPatcher
from adaptivepatch.segmentation import Segmentation

_SHORTEST = 2  # steps of the shortest cycle that can be found
_LEAST_RISE = 0.05  # rise of the autocorrelation from a trough to the peak after it
_LEAST_SHARE = 1e-8  # share of a row's variance without its trend; a smaller share is rounding
_ROWS_AT_ONCE = 4096


class PeriodicPatcher(StaticPatcher):
    """Cut every look-back into patches of one cycle each, counted back from the forecast origin.

    Use it for data with a cycle: the same position in every token then stands, for example, for the
    same hour of the day.

    Parameters
    ----------
    period : int or "auto", default=24
        Length of a cycle, in time steps: 24 is a day of hourly data. "auto" finds it in the
        training windows.
    cycles : float, default=1.0
        Number of cycles in a patch; 0.5 makes two patches per cycle.
    nominal_period : int, default=24
        Period for which the embedding, the head's cells and the positions are built if `period` is
        "auto", because the network is built before the period is found. Any period that is found
        works; a period of about this length loses the least information.

    Attributes
    ----------
    found_period : Tensor
        Period found by `prepare`; 0 before that, and if the period is given.

    Raises
    ------
    InvalidParameterError
        If a value is out of range, or if "auto" finds no cycle. The parameters are checked when the
        patcher is used; the cycle is searched for in `prepare`.
    NotFittedError
        If the period is "auto", and `prepare` has not been called.

    Notes
    -----
    A patch has L = cycles * period steps, rounded. The newest patch ends at the forecast origin.
    The remainder at the oldest end is a patch of its own if it has at least L / 2 steps, and is
    added to the oldest patch otherwise. There are round(T / L) patches, but at least 1.

    "auto" computes one autocorrelation from the pairs of observed steps of all rows, after the
    linear trend of each row is removed. Candidates are the positive peaks at lags k from 2 to T / 2
    that rise by 0.05 above the lowest value since the last higher value. The candidate with the
    greatest ``(1 - k / T) * autocorrelation`` is chosen, so that a day wins over its multiples.
    Peaks near 2 k, 3 k, and so on up to 3 T / 4 then refine the lag: the period is the lag of the
    last of these peaks, divided by its multiple. A look-back must therefore hold two cycles, and
    should hold more. Many windows of noise have no such peak, but few windows of noise may have
    one. With "auto", `capacity` assumes cycles of 2 steps, the shortest that can be found.

    Deviations from LightGTS:

    * LightGTS resizes one projection to the length of a cycle by a pseudo-inverse; here, the
      embedding resamples a patch to a fixed number of values;
    * LightGTS is pretrained on many data sets, and its decoder forecasts cycle by cycle; neither is
      part of this patcher;
    * the search for the period, the remainder and `cycles` are constructions of this package.

    References
    ----------
    Y. Wang et al., "LightGTS: A Lightweight General Time Series Forecasting Model", ICML 2025,
    arXiv:2506.06005.

    Examples
    --------
    >>> import torch
    >>> PeriodicPatcher(period=24)(torch.zeros(1, 90)).mode.patch_lengths.tolist()
    [[18, 24, 24, 24]]
    """

    name = "periodic"
    decides: ClassVar[str] = (
        "the cycle, given or found in training windows, counted back from the forecast origin"
    )
    rate_kept: ClassVar[str] = "one patch per given number of cycles"
    cost: ClassVar[str] = "none"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = "static"
    found_period: Tensor

    def __init__(
        self, period: int | str = 24, cycles: float = 1.0, nominal_period: int = 24
    ) -> None:
        super().__init__()
        self.period = period
        self.cycles = cycles
        self.nominal_period = nominal_period
        self.register_buffer("found_period", torch.zeros((), dtype=torch.long))

    @property
    def _is_found(self) -> bool:
        """Whether the period is found in the data; checks the parameters first."""
        check_float(self, "(0, inf)", cycles=self.cycles)
        check_int(self, low=_SHORTEST, nominal_period=self.nominal_period)
        if self.period == "auto":
            return True
        if isinstance(self.period, str):
            raise InvalidParameterError(
                "The 'period' parameter of PeriodicPatcher must be an int of at least 1, or "
                f"'auto'. Got {self.period!r} instead.",
                parameter="period",
            )
        check_int(self, period=self.period)
        return False

    def _starts(self, num_steps: int, period: int) -> list[int]:
        length = max(1, math.floor(self.cycles * period + 0.5))
        count = max(1, (2 * num_steps + length) // (2 * length))
        return [0, *(num_steps - k * length for k in range(count - 1, 0, -1))]

    def _reference_starts(self, num_steps: int) -> list[int]:
        return self._starts(num_steps, self.nominal_period if self._is_found else int(self.period))

    def starts(self, num_steps: int) -> list[int]:
        """Return the steps that start a patch."""
        if not self._is_found:
            return self._reference_starts(num_steps)
        found = int(self.found_period)
        if not found:
            raise not_prepared(self)
        return self._starts(num_steps, found)

    def lengths_asked_for(self, num_steps: int) -> list[AskedLength]:
        """Return the length of the given or nominal period, times the number of cycles."""
        name = "nominal_period" if self._is_found else "period"
        return [AskedLength(name, self.cycles * getattr(self, name), num_steps)]

    def capacity(self, num_steps: int) -> int:
        """Return the number of patches; for "auto", the number for the shortest possible cycle."""
        if self._is_found:
            return len(self._starts(num_steps, _SHORTEST))
        return len(self.starts(num_steps))

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the patches; for "auto", those of the nominal period."""
        return Segmentation.shared(self._reference_starts(num_steps), num_steps)

    def nominal_length(self, num_steps: int) -> int:
        """Return the length of the newest reference patch."""
        return num_steps - self._reference_starts(num_steps)[-1]

    @torch.no_grad()
    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Find the period if `period` is "auto"."""
        if not self._is_found:
            return
        num_steps = series.shape[1]
        found = _find_period(*_autocorrelation(series, observed), num_steps)
        if found is None:
            raise InvalidParameterError(
                "period='auto' found no cycle in the training windows: their autocorrelation has "
                f"no clear peak from 2 to {num_steps // 2} steps, which is half a look-back. Pass "
                "the period as a number, such as period=24, or use a longer look-back.",
                parameter="period",
            )
        self.found_period.fill_(found)


def _autocorrelation(series: Tensor, observed: Tensor | None) -> tuple[list[int], list[float]]:
    """Return the lags, from 0, that have pairs of observed steps, and their correlations."""
    num_steps = series.shape[1]
    products = torch.zeros(num_steps, dtype=torch.float64, device=series.device)
    pairs = torch.zeros_like(products)
    seen = torch.ones_like(series, dtype=torch.bool) if observed is None else observed
    for part, mask in zip(series.split(_ROWS_AT_ONCE), seen.split(_ROWS_AT_ONCE), strict=True):
        weight = mask.double()
        for total, values in ((products, _without_trend(part, weight)), (pairs, weight)):
            spectrum = torch.fft.rfft(values, 2 * num_steps).abs().square().sum(0)
            total += torch.fft.irfft(spectrum, 2 * num_steps)[:num_steps]
    lags = [k for k in range(3 * num_steps // 4 + 1) if float(pairs[k]) > 0.5]
    covariance = (products / pairs.clamp(min=1)).tolist()
    if not lags or covariance[0] <= 0:
        return [], []
    return lags, [covariance[k] / covariance[0] for k in lags]


def _without_trend(series: Tensor, weight: Tensor) -> Tensor:
    """Return rows (N, T) minus the least-squares line of their observed steps; 0 at gaps."""
    count = weight.sum(1, keepdim=True).clamp(min=1)
    step = torch.arange(series.shape[1], dtype=torch.float64, device=series.device)
    time = (step - (step * weight).sum(1, keepdim=True) / count) * weight
    values = series.double()
    centred = (values - (values * weight).sum(1, keepdim=True) / count) * weight
    size = time.square().sum(1, keepdim=True).clamp(min=1)
    rest = centred - (centred * time).sum(1, keepdim=True) / size * time
    before, after = (x.square().sum(1, keepdim=True) for x in (centred, rest))
    return torch.where(after > _LEAST_SHARE * before, rest, 0.0)


def _find_period(lags: list[int], correlation: list[float], num_steps: int) -> int | None:
    """Return the period of the highest peak that stands out, or None if no peak does."""
    trios = list(itertools.pairwise(itertools.pairwise(range(len(lags)))))
    peaks = [
        here
        for (before, here), (_, after) in trios
        if correlation[before] < correlation[here] >= correlation[after]
    ]
    best, first = 0.0, 0
    for here in peaks:
        if not _SHORTEST <= lags[here] <= num_steps // 2:
            continue
        height = correlation[here]
        higher = max(k for k in range(here) if k == 0 or correlation[k] > height)
        weighted = height * (1 - lags[here] / num_steps)
        if height - min(correlation[higher:here]) >= _LEAST_RISE and weighted > best:
            best, first = weighted, lags[here]
    if not first:
        return None
    last, count = first, 1
    while True:  # slopes shift peaks; at a multiple, the shift of the period is smaller
        wanted, reach = last * (count + 1) / count, last / count / 4
        near = [lags[k] for k in peaks if abs(lags[k] - wanted) <= reach]
        if not near:
            return math.floor(last / count + 0.5)
        last, count = min(near, key=lambda lag: abs(lag - wanted)), count + 1
