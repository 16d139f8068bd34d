"""Levels: patches of patches, each level cut by a patcher of its own.

What uses the levels is `adaptivepatch.backbones.multi_level`.

Tensor suffixes: N rows, T steps, P fine patches, G rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from adaptivepatch.distributions import (
    Deterministic,
    NetworkParts,
    Rollout,
    SegmentationDistribution,
    StepContext,
    StepPlan,
)
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.tokens.pooling import pool_mean, pool_sum
from adaptivepatch.patchers.base import InstanceTag, Patcher, StaticPatcher, rate_capacity
from adaptivepatch.segmentation import Segmentation


class _EvenPatches(StaticPatcher):
    """What stands for None: K even patches. No concrete patcher knows another."""

    def __init__(self, compression_rate: float) -> None:
        super().__init__()
        self.compression_rate = compression_rate

    def starts(self, num_steps: int) -> list[int]:
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        starts: list[int] = Segmentation.even(num_steps, num_patches).patch_starts[0].tolist()
        return starts


_DEFAULTS: dict[str, Patcher] = {"fine": _EvenPatches(8.0), "coarse": _EvenPatches(6.0)}


class HierarchicalPatcher(Patcher):
    """Patches of patches: `fine` cuts the steps, `coarse` cuts the sequence of fine patches.

    Use it for long look-backs: a backbone can spend most of its layers on few coarse tokens and
    still forecast from fine ones. Any patcher serves at any level, learned ones too; a coarse
    patcher that is hierarchical itself makes three levels.

    Parameters
    ----------
    fine : Patcher, optional
        Cuts the look-back. Default: even patches at 8 points per patch.
    coarse : Patcher, optional
        Cuts the sequence of fine patches; its compression rate counts fine patches per coarse
        patch. Default: even, at 6. Nested parameters such as ``coarse__compression_rate`` need
        the object.

    Attributes
    ----------
    levels : tuple of Patcher
        `fine` and `coarse`, their defaults in place of None.

    Raises
    ------
    InvalidParameterError
        When used, if `fine` has several levels itself: nest the coarse one; or if a level needs a
        causal backbone.

    Notes
    -----
    * The coarse patcher is given the means (N, P) of the fine patches over observed steps. Unused
      patch slots and patches without an observed step are not observed. Whatever it proposes
      there, no coarse patch starts at an unused slot, so its budget holds.
    * A rollout draws the fine level, then the coarse one given the fine one, once. Its
      ``log_prob`` is the sum over levels, its ``action`` the actions side by side, finest first.
    * ``boundary_prob``, ``features``, ``entropy`` and the halo are those of the fine level. A
      coarse gate multiplies the tokens of all fine patches of its patch.
    * In training each level has its own `StepContext`: its own distribution, rollout and series,
      and the losses of all. The series, distribution and group of a coarse level have a row for
      every row of every rollout, (G * N, P), as its look-back differs between them; losses and
      ``log_prob`` are (G, N) everywhere. The advantage of a rollout then credits all levels.
    * Of a coarse patcher its boundaries, its gate and its own loss are used, not its `parts`:
      what is only about its way to tokens and back, such as `wiring` and `smoothing` of dynamic
      chunking, has no effect.
    * The plan is the largest of what the levels ask for. A level that is neither stochastic nor
      trained asks for nothing, nor does a frozen one, which takes part in rollouts with its mode.
      Where another level trains on the mode, all of them do.

    Examples
    --------
    >>> import torch
    >>> mode = HierarchicalPatcher()(torch.zeros(1, 336)).mode
    >>> mode.capacity, mode.parent.capacity, mode.coarse.patch_lengths[0, 0].item()
    (42, 7, 48)
    """

    name = "hierarchical"
    stochastic = InstanceTag(lambda patcher: any(level.stochastic for level in patcher.levels))
    trainable = InstanceTag(lambda patcher: any(level.trainable for level in patcher.levels))

    def __init__(self, fine: Patcher | None = None, coarse: Patcher | None = None) -> None:
        super().__init__()
        self.fine = fine
        self.coarse = coarse

    @property
    def levels(self) -> tuple[Patcher, Patcher]:
        """`fine` and `coarse`, their defaults in place of None."""
        return self._level("fine"), self._level("coarse")

    def _level(self, name: str) -> Patcher:
        patcher = getattr(self, name)
        if patcher is None:
            return _DEFAULTS[name]
        if not isinstance(patcher, Patcher):
            raise TypeError(
                f"The {name!r} parameter of HierarchicalPatcher must be a Patcher instance or "
                f"None. Got {patcher!r} instead."
            )
        if patcher.needs_causal_backbone:  # its own loss reads tokens that a backbone made
            raise InvalidParameterError(
                "A level of HierarchicalPatcher must not need a causal backbone: one of levels is "
                f"none. Got {name}={patcher!r}. Use it alone, or another form of it."
            )
        return patcher

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this patcher or of its levels, as ``coarse__compression_rate``."""
        for name in ("fine", "coarse"):
            nested = [key for key in params if key.startswith(f"{name}__")]
            if nested and getattr(self, name) is None and params.get(name) is None:
                raise InvalidParameterError(
                    f"Parameters of a level need its patcher. {name} is None in "
                    f"set_params({', '.join(nested)}). Set it first, such as "
                    f"HierarchicalPatcher({name}=FixedPatcher(compression_rate=8))."
                )
        return super().set_params(**params)

    # ------------------------------------------------------------------ segmentation

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the fine distribution, and what the coarse one is given each fine draw."""
        fine, coarse = self.levels

        def look(segmentation: Segmentation) -> _CoarseLook:
            given = _means(segmentation, series, observed, group)
            return _CoarseLook(*given, _drawn_from(coarse, coarse.propose(*given)))

        return _Levels(_drawn_from(fine, fine.propose(series, observed, group)), look)

    def capacity(self, num_steps: int) -> int:
        """Return the number of fine patch slots."""
        return self.levels[0].capacity(num_steps)

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the fine reference with that of its patches as `parent`."""
        fine, coarse = self.levels
        reference = fine.reference_patches(num_steps)
        return _attach(reference, coarse.reference_patches(reference.capacity))

    def nominal_length(self, num_steps: int) -> int:
        """Return the fine level's."""
        return self.levels[0].nominal_length(num_steps)

    def parts(
        self,
        num_steps: int,
        d_model: int,
        values_per_patch: int | None = None,
        embedding: str | None = None,
    ) -> NetworkParts:
        """Make the fine level's."""
        return self.levels[0].parts(num_steps, d_model, values_per_patch, embedding)

    @property
    def halo(self) -> int:
        """The fine level's."""
        return self.levels[0].halo

    # ------------------------------------------------------------------ training

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Prepare the fine level, then the coarse one on the means of the fine patches."""
        fine, coarse = self.levels
        if not fine.is_frozen:
            fine.prepare(series, observed, generator)
        if not coarse.is_frozen:
            mode = fine.propose(series, observed, None).mode
            means, seen, _ = _means(mode, series, observed, None)
            coarse.prepare(means, seen, generator)

    def plan(self, progress: float) -> StepPlan:
        """Return the largest of what the levels ask for."""
        asking = [level for level in self.levels if level.stochastic or level.trainable]
        plans = [level.plan(progress) for level in asking if not level.is_frozen]
        if not plans:
            return StepPlan(num_samples=0 if asking else 1)
        num_samples = max(plan.num_samples for plan in plans)
        on_mode = [plan.mode_share if plan.num_samples else 1.0 for plan in plans]
        return StepPlan(
            num_samples=num_samples,
            is_scored=any(plan.is_scored for plan in plans),
            is_mode_scored=any(plan.is_mode_scored for plan in plans),
            grad_samples=max(plan.grad_samples for plan in plans),
            mode_share=max(on_mode) if num_samples else 0.0,
        )

    def auxiliary_loss(self, context: StepContext) -> Tensor | None:
        """Return the sum of the levels' own terms, each of its own view of the step."""
        distribution, rollout = context.distribution, context.rollout
        assert isinstance(distribution, _Levels)
        if isinstance(rollout, LevelsRollout):
            fine, coarse, look = rollout.fine, rollout.coarse, rollout.look
        else:  # the mode, as the plan asked for no samples
            mode = rollout.segmentation
            assert mode.parent is not None
            fine, coarse = Rollout(replace(mode, parent=None)), Rollout(mode.parent)
            look = distribution.on_mode
        num_rows = context.forecast_loss.shape[1]
        views = (
            replace(context, distribution=distribution.fine, rollout=_by_row(fine, num_rows)),
            replace(
                context,
                series=look.series,
                observed=look.observed,
                group=look.group,
                distribution=look.distribution,
                rollout=_by_row(coarse, num_rows),
            ),
        )
        both = zip(self.levels, views, strict=True)
        return _total([level.auxiliary_loss(view) for level, view in both if not level.is_frozen])

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the levels' optimizer groups."""
        return [group for level in self.levels for group in level.parameter_groups(lr)]

    def take_metrics(self) -> dict[str, float]:
        """Return the levels' metrics, named ``fine_...`` and ``coarse_...``."""
        return {
            f"{name}_{key}": value
            for name, level in zip(("fine", "coarse"), self.levels, strict=True)
            for key, value in level.take_metrics().items()
        }

    def freeze(self) -> Self:
        """Freeze all levels; see `Patcher.freeze`."""
        for level in (self.fine, self.coarse):
            if level is not None:
                level.freeze()
        super().freeze()
        return self


# ------------------------------------------------------------------------------- distribution


class _CoarseLook(NamedTuple):
    """What a coarse patcher was given, (R, P) for R rows of fine patches, and its answer."""

    series: Tensor
    observed: Tensor | None
    group: Tensor | None
    distribution: SegmentationDistribution


@dataclass(frozen=True, kw_only=True)
class LevelsRollout(Rollout):
    """A rollout of two levels, and of each of them.

    Parameters
    ----------
    fine, coarse : Rollout
        The coarse one has one sample for every row of the fine one.
    look : _CoarseLook
        What the coarse patcher was given.
    """

    fine: Rollout
    coarse: Rollout
    look: _CoarseLook


class _Levels(SegmentationDistribution):
    """A fine distribution, and a coarse one for every segmentation drawn from it."""

    def __init__(
        self, fine: SegmentationDistribution, look: Callable[[Segmentation], _CoarseLook]
    ) -> None:
        self.fine, self.look = fine, look

    @property
    def boundary_prob(self) -> Tensor | None:  # type: ignore[override]
        return self.fine.boundary_prob

    @property
    def features(self) -> Tensor | None:  # type: ignore[override]
        return self.fine.features

    @cached_property
    def fine_mode(self) -> Segmentation:
        return self.fine.mode

    @cached_property
    def on_mode(self) -> _CoarseLook:
        return self.look(self.fine_mode)

    @cached_property
    def mode(self) -> Segmentation:
        return _attach(self.fine_mode, self.on_mode.distribution.mode)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        fine = self.fine.sample(num_samples, generator)
        look = self.look(fine.segmentation)
        coarse = look.distribution.sample(1, generator)
        gate = fine.gate
        if coarse.gate is not None:  # (G * N, P) -> (G * N, T)
            spread = coarse.gate.gather(1, fine.segmentation.patch_index)
            gate = spread if gate is None else gate * spread
        log_prob = coarse.log_prob
        if log_prob is not None:
            log_prob = log_prob.view(num_samples, -1)
        return LevelsRollout(
            segmentation=_attach(fine.segmentation, coarse.segmentation),
            action=_side_by_side(fine, coarse),
            log_prob=_total([fine.log_prob, log_prob]),
            gate=gate,
            fine=fine,
            coarse=coarse,
            look=look,
        )

    def entropy(self) -> Tensor | None:
        return self.fine.entropy()


def _drawn_from(level: Patcher, distribution: SegmentationDistribution) -> SegmentationDistribution:
    """Return what rollouts draw a level from."""
    if not level.is_frozen:
        return distribution
    return Deterministic(
        distribution.mode,
        boundary_prob=distribution.boundary_prob,
        features=distribution.features,
    )


def _total(terms: list[Tensor | None]) -> Tensor | None:
    """Add what is not None; None if nothing is left."""
    known = [term for term in terms if term is not None]
    return sum(known[1:], known[0]) if known else None


def _by_row(rollout: Rollout, num_rows: int) -> Rollout:
    """Arrange log-probabilities as (rollouts, `num_rows`)."""
    if rollout.log_prob is None:
        return rollout
    return replace(rollout, log_prob=rollout.log_prob.view(-1, num_rows))


def _side_by_side(fine: Rollout, coarse: Rollout) -> Tensor | None:
    """Return the actions of both levels, (G * N, T + P); None if neither has one."""
    if fine.action is None and coarse.action is None:
        return None
    actions = [
        rollout.segmentation.boundary_mask if rollout.action is None else rollout.action
        for rollout in (fine, coarse)
    ]
    return torch.cat(actions, dim=1)


def _means(
    segmentation: Segmentation, series: Tensor, observed: Tensor | None, group: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return what a coarse patcher sees of N rows in G segmentations each: (G * N, P)."""
    copies = segmentation.num_rows // len(series)
    if copies > 1:
        series = series.repeat(copies, 1)
        observed = None if observed is None else observed.repeat(copies, 1)
        if group is not None:  # the rows of a group share a segmentation in each rollout
            rollout = torch.arange(copies, device=group.device)[:, None]
            group = (group + (group.max() + 1) * rollout).flatten()
    means = pool_mean(series[..., None], segmentation, observed)[..., 0]
    if observed is not None:
        seen = pool_sum(observed[..., None].to(series.dtype), segmentation)[..., 0] > 0
        return means, seen, group
    return means, None if segmentation.exact else segmentation.patch_mask, group


def _attach(segmentation: Segmentation, parent: Segmentation) -> Segmentation:
    """Attach a coarser level, without what it has at unused slots."""
    if segmentation.parent is not None:
        raise InvalidParameterError(
            "The fine level of a HierarchicalPatcher must have one level, however: it has "
            "several. Pass the hierarchical patcher as `coarse`."
        )
    if not segmentation.exact:
        parent = _at_slots(parent, segmentation.patch_mask)
    return replace(segmentation, parent=parent, validate=False)


def _at_slots(segmentation: Segmentation, used: Tensor) -> Segmentation:
    """Drop boundaries at slots (N, P) that are not used, in all coarser levels, too."""
    mask = segmentation.boundary_mask & used
    kept = replace(segmentation, boundary_mask=mask, parent=None, exact=False, validate=False)
    if segmentation.parent is None:
        return kept
    return replace(kept, parent=_at_slots(segmentation.parent, kept.patch_mask))
