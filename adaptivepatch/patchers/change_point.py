"""Patches between change points: K patches with the least squared error around their means.

Reference: C. Truong, L. Oudre, N. Vayatis, "Selective review of offline change point detection
methods", Signal Processing 167, 2020, and their package ``ruptures``.

Tensor suffixes: N rows, T steps, K patches, M rows of a group.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from adaptivepatch.distributions import Deterministic, SegmentationDistribution
from adaptivepatch.errors import InvalidParameterError, check_int, require
from adaptivepatch.patchers.base import Patcher, rate_capacity
from adaptivepatch.segmentation import Segmentation

_RESULTS_KEPT = 65_536
_RAMP = 1e-4  # standard deviation of the tie-breaking ramp, relative to the signal's


class ChangePointPatcher(Patcher):
    """Cut a row into the K patches with the least squared error around their means.

    Use it where the mean of a series jumps: it finds the best piecewise constant approximation with
    K pieces, without training. It needs the extra ``changepoint`` (the package ruptures).

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; gives exactly K = max(1, floor(T / r)) patches.
    min_length : int, default=1
        Smallest patch length, in observed time steps. It does not apply if K is 1.

    Raises
    ------
    InvalidParameterError
        If a value is out of range, or K patches of `min_length` do not fit into T. The parameters
        are checked when the patcher is used.
    MissingDependencyError
        If the patcher is used and ruptures is not installed.

    Notes
    -----
    ``ruptures.KernelCPD(kernel="linear")`` minimises the sum over patches of ``(x - mean)**2`` by
    dynamic programming in O(K T**2), in float64, on the CPU.

    Patches depend only on the values, so each look-back is searched only once: the last 65,536
    results are kept, with about 4 K + 250 bytes each. Kept results are not saved, copied or pickled
    with the patcher.

    Deviations from ruptures:

    * A slow ramp is added as a second, tiny signal (1e-8 of the variance). It breaks ties towards
      even patches, so a constant row is cut evenly.
    * The rows of a group share the patches with the least squared error over all rows of the group.
    * Filled gaps are left out: the search runs on observed steps only, and a patch starts at an
      observed step. In a group, a step counts as observed if any row is observed there; the other
      rows contribute their filled values. A row with fewer than ``K * min_length`` observed steps
      is cut evenly.

    References
    ----------
    A. Celisse, G. Marot, M. Pierre-Jean, G. Rigaill, "New efficient algorithms for multiple
    change-point detection with reproducing kernels", Computational Statistics and Data Analysis
    128, 2018.

    C. Truong, L. Oudre, N. Vayatis, "Selective review of offline change point detection methods",
    Signal Processing 167, 2020.

    Examples
    --------
    >>> import torch
    >>> series = torch.tensor([[0.0, 0.1, 0.0, 3.0, 3.1, 3.0, 3.1, 1.0, 1.1]])
    >>> ChangePointPatcher(compression_rate=3)(series).mode.patch_lengths.tolist()
    [[3, 4, 2]]
    """

    name = "change_point"
    decides: ClassVar[str] = "the least squared error around patch means (`ruptures`)"
    rate_kept: ClassVar[str] = "exact"
    cost: ClassVar[str] = "O(K T²), once per window"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = "not causal"

    def __init__(self, compression_rate: float = 16.0, min_length: int = 1) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.min_length = min_length
        self._results: OrderedDict[bytes, bytes] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the kept results, for copies and pickles."""
        return {**self.__dict__, "_results": OrderedDict()}

    def capacity(self, num_steps: int) -> int:
        """Return K, which is the same for every row."""
        check_int(self, min_length=self.min_length)
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        if num_patches > 1 and num_patches * self.min_length > num_steps:
            raise InvalidParameterError(
                f"{num_patches} patches of at least {self.min_length} steps do not fit into a "
                f"look-back of {num_steps} steps. Lower 'min_length', or raise 'compression_rate'.",
                parameter="min_length",
            )
        return num_patches

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Search for the patches of every row, or of every group of rows."""
        num_rows, num_steps = series.shape
        num_patches = self.capacity(num_steps)
        values = series.detach().double().cpu().numpy()
        seen = None if observed is None else observed.cpu().numpy()
        mask = np.zeros((num_rows, num_steps), dtype=bool)
        for members in _members(num_rows, group):
            signal = values[members].T  # (T, M)
            steps = np.arange(num_steps)
            if seen is not None:
                steps = steps[seen[members].any(0)]
            starts = self._starts(np.ascontiguousarray(signal[steps]), steps, num_steps)
            mask[np.ix_(members, starts)] = True
        cut = torch.from_numpy(mask).to(series.device)
        return Deterministic(Segmentation(cut, num_patches, exact=True, validate=False))

    def _starts(self, signal: np.ndarray, steps: np.ndarray, num_steps: int) -> np.ndarray:
        """Return the starts (K,), from the kept results if the signal was searched before."""
        num_patches, shortest = self.capacity(num_steps), int(self.min_length)
        if num_patches == 1:
            return np.zeros(1, dtype=np.int32)
        if len(steps) < num_patches * shortest:
            even = Segmentation.even(num_steps, num_patches).patch_starts[0]
            return even.numpy()
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.array([num_patches, shortest, num_steps, *signal.shape]).tobytes())
        digest.update(signal.tobytes())
        digest.update(steps.tobytes())
        key = digest.digest()
        # Each access is a single operation, so that threads can share a frozen patcher.
        known = self._results.pop(key, None)
        if known is None:
            found = steps[_change_points(signal, num_patches, shortest)]
            known = np.array([0, *found], dtype=np.int32).tobytes()
        self._results[key] = known
        if len(self._results) > _RESULTS_KEPT:
            self._results.popitem(last=False)
        return np.frombuffer(known, dtype=np.int32)


def _members(num_rows: int, group: Tensor | None) -> list[np.ndarray]:
    """Return the rows of each group."""
    if group is None:
        return list(np.arange(num_rows)[:, None])
    _, place = np.unique(group.cpu().numpy(), return_inverse=True)
    order = np.argsort(place, kind="stable")
    return np.split(order, np.bincount(place).cumsum()[:-1])


def _change_points(signal: np.ndarray, num_patches: int, min_length: int) -> list[int]:
    """Return the K - 1 breaks of values (T, M) with the least squared error."""
    ruptures = require("ruptures", extra="changepoint", purpose="ChangePointPatcher")
    centred = signal - signal[:1]  # exactly 0 where the signal is constant
    centred -= centred.mean(0)
    scale = float(np.sqrt(np.square(centred).sum(1).mean())) or 1.0
    ramp = np.linspace(-1.0, 1.0, len(signal))[:, None] * (3**0.5 * _RAMP * scale)
    search = ruptures.KernelCPD(kernel="linear", min_size=min_length)
    breaks = search.fit_predict(np.hstack([centred, ramp]), n_bkps=num_patches - 1)
    return [int(step) for step in breaks[:-1]]
