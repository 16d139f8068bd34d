"""Patches that start where a small causal forecaster is uncertain of the next value.

References: A. Pagnoni et al., "Byte Latent Transformer", arXiv:2412.09871 (2024), and EntroPE,
arXiv:2509.26157 (2025).

Tensor suffixes: N rows, T steps, K patches.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.distributions import Deterministic, SegmentationDistribution
from adaptivepatch.errors import InvalidParameterError, check_choice, check_int, not_prepared
from adaptivepatch.nn.placement.groups import mean_of_known
from adaptivepatch.nn.placement.score_rules import (
    check_lengths,
    cut_by_scores,
    cut_exactly,
    threshold_for,
)
from adaptivepatch.nn.placement.surprise import NextPointPredictor, fit_next_point
from adaptivepatch.patchers.base import InstanceTag
from adaptivepatch.patchers.rate import RatePatcher, ThresholdParameters

SCORES = ("entropy", "surprisal")
RULES = ("level", "rise")

_TICK = 1e-5  # nats; scores are whole multiples of a tick, so that rounding errors break no ties
_LARGEST = 1e4  # nats
_UNKNOWN = -1e5  # nats; below every score and every difference of two scores
_ROWS = 32  # rows per pass, fixed because the rounding of a convolution depends on them
_VALUES_KEPT = 2**25
_STEP_POINTS = 6144  # points of a training step
_PASSES = 30
_LEARNING_RATE = 1e-2
_THRESHOLD_ROWS = 2048


class EntropyPatcher(RatePatcher):
    """Start patches at the steps where a small causal forecaster is least certain.

    Use it as the baseline that finds boundaries by predictability: many tokens where a series is
    hard to predict, few where it is easy. The forecaster is trained on the training windows before
    the network is trained, and is then frozen.

    Parameters
    ----------
    compression_rate : float, default=16.0
        Points per patch r; K = max(1, floor(T / r)) patches.
    budget : {"exact", "min", "target"}, default="exact"
        "exact": exactly K patches in every row. "min": at most K. "target": K on average over the
        training windows, without a limit for a single row.
    score : {"entropy", "surprisal"}, default="entropy"
        Uncertainty of a step's forecast, or improbability of the value that followed.
    rule : {"level", "rise"}, default="level"
        Quantity that is compared: the score itself, or its difference from the score of the
        previous step.
    width : int, default=16
        Number of channels of the forecaster, which must be even.
    train_steps : int, default=400
        Number of training steps of the forecaster, limited to 30 passes over the windows.
    min_length, max_length : int, optional
        Limits of the patch length, in time steps. They require the exact budget, and do not apply
        if K is 1.

    Attributes
    ----------
    causal : bool
        Whether the budget is "target". With the other budgets, a boundary depends on all steps of a
        look-back.
    threshold : Tensor
        Threshold in nats for the budgets "min" and "target", found by `prepare`.
    predictor : NextPointPredictor
        Forecaster whose uncertainty is compared.

    Raises
    ------
    InvalidParameterError
        If a value is out of range, if K patches within the limits cannot fill T steps, or if a
        threshold is needed but was found for another rate, score or rule. `width` is checked at
        construction, the other parameters when the patcher is used.
    NotFittedError
        If `prepare` has not been called.

    Notes
    -----
    The forecaster gives every step a normal distribution, with mean m_t and scale s_t computed from
    the steps before it. The entropy ``H_t = log s_t + log(2 pi e) / 2`` is known before x_t is. The
    surprisal is ``-log p(x_t) = log s_t + ((x_t - m_t) / s_t)**2 / 2 + log(2 pi) / 2``. A patch
    starts at the uncertain step itself. The rule "level" fills an uncertain stretch with patches of
    one step unless `min_length` forbids them; "rise" starts fewer of these.

    The exact budget takes the K - 1 highest scores, which equals a quantile per window, or, with
    limits, the K patches with the greatest total score. Ties (within 1e-5) go to the starts of even
    patches, then to the earlier step. "min" and "target" compare scores with a threshold that
    gives r points per patch on average over 2,048 rows of the training windows. The threshold is
    found from single rows, even if the rows of a group share their patches. Calmer windows then
    have fewer patches. Early steps have little past and therefore a higher entropy, so the rule
    "level" places more starts among them.

    If x_t or x_{t-1} is a filled gap, step t has no score and starts a patch only if an exact
    budget has no scored step left. The rows of a group share the mean score of those rows that have
    one.

    Scores depend only on the row. On a CPU, 2**25 scores are kept (128 MiB, about 100,000 rows of
    336 steps), and the least recently used scores are dropped first. Kept scores are not saved,
    copied or pickled with the patcher. Limits of length are applied to the kept scores.

    Deviations from BLT and EntroPE:

    * the forecaster predicts a normal density of the value, whose entropy is a log-scale; the
      published forecasters predict 256 classes. Values are neither quantised nor divided by the
      window's mean absolute value;
    * the forecaster is a causal convolution over 31 steps, not a transformer;
    * thresholds follow from a compression rate and are not chosen by hand. The exact budget
      corresponds to BLT's choice of the highest scores of a sequence, and EntroPE's quantile per
      window;
    * one of EntroPE's versions combines both rules;
    * BLT forces a start at step 1, and both papers split patches above a largest length. This
      patcher does neither; `max_length` moves starts and adds none;
    * one forecaster serves all series and channels, on normalised windows;
    * tokens are embedded patches; there is no local encoder or decoder with cross-attention.

    References
    ----------
    A. Pagnoni et al., "Byte Latent Transformer: Patches Scale Better Than Tokens",
    arXiv:2412.09871, 2024, section 2.

    EntroPE, arXiv:2509.26157, 2025.

    Examples
    --------
    >>> import torch
    >>> series = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    >>> patcher = EntropyPatcher(compression_rate=8)
    >>> patcher.prepare(series, None, torch.Generator().manual_seed(0))
    >>> patcher(series[:2]).mode.num_patches.tolist()
    [4, 4]
    """

    name = "entropy"
    decides: ClassVar[str] = "the uncertainty of a small causal forecaster of the next value"
    rate_kept: ClassVar[str] = "exact, min or target"
    cost: ClassVar[str] = "small convolutions, O(T)"
    trained_by: ClassVar[str] = "likelihood, before the network; then frozen"
    causality: ClassVar[str] = 'causal with `budget="target"`'
    causal = InstanceTag(lambda patcher: patcher.budget == "target")
    threshold_depends_on: ClassVar[ThresholdParameters] = {
        "compression_rate": None,
        "score": SCORES,
        "rule": RULES,
    }
    threshold: Tensor

    def __init__(
        self,
        compression_rate: float = 16.0,
        budget: str = "exact",
        score: str = "entropy",
        rule: str = "level",
        width: int = 16,
        train_steps: int = 400,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget
        self.score = score
        self.rule = rule
        self.width = width
        self.train_steps = train_steps
        self.min_length = min_length
        self.max_length = max_length
        check_int(self, width=width)
        if width % 2:  # in float64, rounding with an odd width depends on the place of a row
            raise InvalidParameterError(
                f"The 'width' parameter of EntropyPatcher must be even. Got {width!r} instead. Use "
                f"{width + 1}.",
                parameter="width",
            )
        self.predictor = NextPointPredictor(width).requires_grad_(requires_grad=False)
        self.register_buffer("threshold", torch.zeros(()))
        self._kept: _Kept = ((), OrderedDict())

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the kept scores, for copies and pickles."""
        return {**self.__dict__, "_kept": ((), OrderedDict())}

    def set_params(self, **params: Any) -> Self:
        """Set parameters; another `width` replaces the forecaster by an untrained one."""
        super().set_params(**params)
        if "width" in params:
            self._rebuild()
        return self

    # ------------------------------------------------------------------ budget

    def num_patches(self, num_steps: int) -> int:
        """Check all parameters and return K."""
        num_patches = super().num_patches(num_steps)
        check_choice(self, SCORES, score=self.score)
        check_choice(self, RULES, rule=self.rule)
        check_int(self, train_steps=self.train_steps)
        check_lengths(self, num_patches, num_steps)
        return num_patches

    # ------------------------------------------------------------------ training

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Train the forecaster from random weights, then find the threshold."""
        num_rows, num_steps = series.shape
        self.num_patches(num_steps)
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed))
            self.predictor.load_state_dict(NextPointPredictor(self.width).state_dict())
        if num_steps > 1:
            rows = max(1, min(_STEP_POINTS // num_steps, num_rows // 4))
            fit_next_point(
                self.predictor,
                series,
                observed,
                generator,
                num_steps=min(self.train_steps, -(-_PASSES * num_rows // rows)),
                batch_size=rows,
                learning_rate=_LEARNING_RATE,
            )
            self.predictor.requires_grad_(requires_grad=False)
            self.predictor.zero_grad(set_to_none=True)
        chosen = torch.randperm(num_rows, generator=generator, device=generator.device)
        chosen = chosen[:_THRESHOLD_ROWS].to(series.device)
        seen = None if observed is None else observed[chosen]
        scores, known = self._scores(series[chosen], seen)
        found = threshold_for(scores.float(), self.compression_rate, known)
        self.threshold.fill_(min(found, torch.finfo(torch.float32).max))
        self.mark_prepared()

    # ------------------------------------------------------------------ segmentation

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Start patches at the highest scores, or at scores above the threshold."""
        num_steps = series.shape[1]
        num_patches = self.num_patches(num_steps)
        if self.budget != "exact":
            self.check_prepared()
        elif not self.is_prepared:  # the forecaster is untrained
            raise not_prepared(self)
        scores = mean_of_known(*self._scores(series, observed), group, _UNKNOWN)
        if self.budget != "exact":
            # In float32 like the threshold, so that an equal score does not exceed it by rounding.
            cut = cut_by_scores(scores.float(), num_patches, self.budget, float(self.threshold))
            return Deterministic(cut)
        return Deterministic(cut_exactly(scores, num_patches, self.min_length, self.max_length))

    @torch.no_grad()
    def _scores(self, series: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the score of every step in nats, and whether the step has one; both (N, T)."""
        with torch.autocast(series.device.type, enabled=False):
            if series.device.type == "cpu":
                ticks = self._kept_ticks(series.detach()).long()
            else:
                ticks = self._ticks(series).long()
        known = torch.ones_like(series, dtype=torch.bool) if observed is None else observed
        known = known & F.pad(known[:, :-1], (1, 0))  # step 0 has no forecast
        if self.rule == "rise":
            ticks = F.pad(ticks.diff(dim=1), (1, 0))
            known = known & F.pad(known[:, :-1], (1, 0))
        return ticks.double() * _TICK, known

    def _ticks(self, series: Tensor) -> Tensor:
        """Return the scores of rows (N, T) as int32 multiples of `_TICK`."""
        tell = getattr(self.predictor, self.score)
        parts = [
            tell(F.pad(part, (0, 0, 0, _ROWS - len(part))))[: len(part)]
            for part in series.split(_ROWS)
        ]
        nats = torch.cat(parts).double().clamp(-_LARGEST, _LARGEST)
        return (nats / _TICK).round().int()

    def _kept_ticks(self, series: Tensor) -> Tensor:
        """Return the ticks of rows (N, T), computing only those that are not kept."""
        weights = [p.detach().numpy().tobytes() for p in self.predictor.parameters()]
        made_by = (self.score, *weights)
        if self._kept[0] != made_by:
            self._kept = (made_by, OrderedDict())
        kept = self._kept[1]
        rows = [row.tobytes() for row in series.numpy()]
        keys = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
        found: dict[bytes, bytes] = {}
        missing: dict[bytes, int] = {}
        for n, key in enumerate(keys):  # single operations, so threads can share a frozen patcher
            known = kept.pop(key, None)
            if known is None:
                missing[key] = n
            else:
                kept[key] = found[key] = known
        if missing:
            computed = self._ticks(series[list(missing.values())]).numpy()
            for key, row in zip(missing, computed, strict=True):
                kept[key] = found[key] = row.tobytes()
            while len(kept) * series.shape[1] > _VALUES_KEPT:
                kept.popitem(last=False)
        flat = bytearray().join(found[key] for key in keys)
        return torch.from_numpy(np.frombuffer(flat, dtype=np.int32).reshape(series.shape))


_Kept = tuple[tuple[object, ...], OrderedDict[bytes, bytes]]
