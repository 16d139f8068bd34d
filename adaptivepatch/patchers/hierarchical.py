"""Patches of patches: a hierarchy in which every level has a patcher of its own.

`adaptivepatch.backbones.multi_level` holds the backbone that reads the levels.

Tensor suffixes: N rows, T steps, P fine patches, G rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

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
from adaptivepatch.patchers.base import (
    AskedLength,
    InstanceTag,
    Patcher,
    StaticPatcher,
    rate_capacity,
)
from adaptivepatch.segmentation import Segmentation


class _EvenPatches(StaticPatcher):
    """Default level: K even patches. It exists because no concrete patcher imports another."""

    def __init__(self, compression_rate: float) -> None:
        super().__init__()
        self.compression_rate = compression_rate

    def starts(self, num_steps: int) -> list[int]:
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        starts: list[int] = Segmentation.even(num_steps, num_patches).patch_starts[0].tolist()
        return starts


_DEFAULTS: dict[str, Patcher] = {"fine": _EvenPatches(8.0), "coarse": _EvenPatches(6.0)}


class HierarchicalPatcher(Patcher):
    """Cut in two levels: `fine` cuts the steps, `coarse` cuts the sequence of fine patches.

    Use it for long look-backs: a backbone can spend most of its layers on few coarse tokens and
    still forecast from fine ones. Any patcher can serve at either level, including learned ones; a
    coarse patcher that is itself hierarchical makes three levels.

    Parameters
    ----------
    fine : Patcher, optional
        Patcher that cuts the look-back. Default: even patches of 8 points.
    coarse : Patcher, optional
        Patcher that cuts the sequence of fine patches; its compression rate counts fine patches per
        coarse patch. Default: even patches of 6 fine patches. Nested parameters such as
        ``coarse__compression_rate`` can be set only if a patcher is passed.

    Attributes
    ----------
    levels : tuple of Patcher
        The patchers `fine` and `coarse`, with defaults in place of None.

    Raises
    ------
    InvalidParameterError
        If `fine` itself has several levels (pass a hierarchical patcher as `coarse` instead), or if
        a level needs a causal backbone. The levels are checked when the patcher is used.

    Notes
    -----
    This patcher is original to this package and has no published source.

    * The coarse patcher reads the means (N, P) of the fine patches over observed steps. Unused
      patch slots and patches without an observed step count as gaps. No coarse patch starts at an
      unused slot, whatever the coarse patcher proposes, so its budget holds.
    * A rollout draws the fine level once, then the coarse level given the fine level. Its
      ``log_prob`` is the sum over levels; its ``action`` holds the actions of the levels side by
      side, finest first.
    * ``boundary_prob``, ``features``, ``entropy`` and the halo are taken from the fine level. A
      coarse gate multiplies the tokens of all fine patches in its coarse patch.
    * In training, each level has its own `StepContext`, with its own distribution, rollout and
      series, and with shared losses. The series, distribution and group of a coarse level have one
      row for each row of each rollout, (G * N, P), because the input of this level differs between
      rollouts; losses and ``log_prob`` always have shape (G, N). The advantage of a rollout thus
      credits all levels.
    * Of a coarse patcher, only the boundaries, the gate and its own loss are used, not its `parts`.
      Parameters that affect only `parts`, such as `wiring` and `smoothing` of dynamic chunking,
      have no effect at the coarse level.
    * The plan is the maximum over the levels. A level that is neither stochastic nor trained asks
      for no samples. A frozen level asks for none either, and takes part in rollouts with its mode.
      If one level trains on the mode, all levels do.

    Examples
    --------
    >>> import torch
    >>> mode = HierarchicalPatcher()(torch.zeros(1, 336)).mode
    >>> mode.capacity, mode.parent.capacity, mode.coarse.patch_lengths[0, 0].item()
    (42, 7, 48)
    """

    name = "hierarchical"
    decides: ClassVar[str] = "two patchers, of which one cuts the patches of the other"
    rate_kept: ClassVar[str] = "as its two patchers keep it"
    cost: ClassVar[str] = "the sum over its two patchers"
    trained_by: ClassVar[str] = "the training of its two patchers"
    causality: ClassVar[str] = "not causal"
    stochastic = InstanceTag(lambda patcher: any(level.stochastic for level in patcher.levels))
    trainable = InstanceTag(lambda patcher: any(level.trainable for level in patcher.levels))

    def __init__(self, fine: Patcher | None = None, coarse: Patcher | None = None) -> None:
        super().__init__()
        self.fine = fine
        self.coarse = coarse

    @property
    def levels(self) -> tuple[Patcher, Patcher]:
        """The patchers `fine` and `coarse`, with defaults in place of None."""
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
        if patcher.needs_causal_backbone:  # its loss reads the hidden tokens of its own level
            raise InvalidParameterError(
                "A level of HierarchicalPatcher must not need a causal backbone, because a "
                f"backbone with several levels is not causal. Got {name}={patcher!r}. Use this "
                "patcher alone, or with another form.",
                parameter=name,
            )
        return patcher

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this patcher or of a level, such as ``coarse__compression_rate``."""
        for name in ("fine", "coarse"):
            nested = [key for key in params if key.startswith(f"{name}__")]
            if nested and getattr(self, name) is None and params.get(name) is None:
                raise InvalidParameterError(
                    f"set_params({', '.join(nested)}) needs a patcher at the level {name!r}, but "
                    f"{name} is None. Pass a patcher first, such as "
                    f"HierarchicalPatcher({name}=FixedPatcher(compression_rate=8)).",
                    parameter=name,
                )
        return super().set_params(**params)

    # ------------------------------------------------------------------ segmentation

    def propose(
        self, series: Tensor, observed: Tensor | None, group: Tensor | None
    ) -> SegmentationDistribution:
        """Return the fine distribution, with a coarse one for each segmentation drawn from it."""
        fine, coarse = self.levels

        def view(segmentation: Segmentation) -> _CoarseView:
            inputs = _means(segmentation, series, observed, group)
            return _CoarseView(*inputs, _drawn_from(coarse, coarse.propose(*inputs)))

        return _Levels(_drawn_from(fine, fine.propose(series, observed, group)), view)

    def capacity(self, num_steps: int) -> int:
        """Return the number of fine patch slots."""
        return self.levels[0].capacity(num_steps)

    def reference_patches(self, num_steps: int) -> Segmentation:
        """Return the fine reference patches, with the coarse reference as `parent`."""
        fine, coarse = self.levels
        reference = fine.reference_patches(num_steps)
        return _attach(reference, coarse.reference_patches(reference.capacity))

    def lengths_asked_for(self, num_steps: int) -> list[AskedLength]:
        """Return the lengths of both levels; coarse lengths count fine patches."""
        fine, coarse = self.levels
        num_fine = fine.reference_patches(num_steps).capacity
        own = {
            "fine": fine.lengths_asked_for(num_steps),
            "coarse": [
                asked._replace(unit="fine patches") for asked in coarse.lengths_asked_for(num_fine)
            ],
        }
        return [
            asked._replace(parameter=f"{name}__{asked.parameter}")
            for name, lengths in own.items()
            for asked in lengths
        ]

    def nominal_length(self, num_steps: int) -> int:
        """Return the nominal patch length of the fine level."""
        return self.levels[0].nominal_length(num_steps)

    def parts(
        self,
        num_steps: int,
        d_model: int,
        values_per_patch: int | None = None,
        embedding: str | None = None,
    ) -> NetworkParts:
        """Make the parts of the fine level."""
        return self.levels[0].parts(num_steps, d_model, values_per_patch, embedding)

    @property
    def halo(self) -> int:
        """Halo of the fine level."""
        return self.levels[0].halo

    # ------------------------------------------------------------------ training

    def prepare(self, series: Tensor, observed: Tensor | None, generator: torch.Generator) -> None:
        """Prepare the fine level, then the coarse level on the means of the fine patches."""
        fine, coarse = self.levels
        if not fine.is_frozen:
            fine.prepare(series, observed, generator)
        if not coarse.is_frozen:
            mode = fine.propose(series, observed, None).mode
            means, seen, _ = _means(mode, series, observed, None)
            coarse.prepare(means, seen, generator)

    def plan(self, progress: float) -> StepPlan:
        """Return the maximum of the levels' plans."""
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
        """Return the sum of the levels' losses, each computed from its own view of the step."""
        distribution, rollout = context.distribution, context.rollout
        assert isinstance(distribution, _Levels)
        if isinstance(rollout, LevelsRollout):
            fine, coarse, view = rollout.fine, rollout.coarse, rollout.view
        else:  # the plan asked for no samples, so this is the mode
            mode = rollout.segmentation
            assert mode.parent is not None
            fine, coarse = Rollout(replace(mode, parent=None)), Rollout(mode.parent)
            view = distribution.on_mode
        num_rows = context.forecast_loss.shape[1]
        views = (
            replace(context, distribution=distribution.fine, rollout=_by_row(fine, num_rows)),
            replace(
                context,
                series=view.series,
                observed=view.observed,
                group=view.group,
                distribution=view.distribution,
                rollout=_by_row(coarse, num_rows),
            ),
        )
        both = zip(self.levels, views, strict=True)
        return _total([level.auxiliary_loss(own) for level, own in both if not level.is_frozen])

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return the optimizer groups of all levels."""
        return [group for level in self.levels for group in level.parameter_groups(lr)]

    def take_metrics(self) -> dict[str, float]:
        """Return the metrics of both levels, named ``fine_...`` and ``coarse_...``."""
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


class _CoarseView(NamedTuple):
    """Input of a coarse patcher, (R, P) for R rows of fine patches, and its distribution."""

    series: Tensor
    observed: Tensor | None
    group: Tensor | None
    distribution: SegmentationDistribution


@dataclass(frozen=True, kw_only=True)
class LevelsRollout(Rollout):
    """A joint rollout of two levels, together with the rollout of each.

    Parameters
    ----------
    fine, coarse : Rollout
        Rollouts of the levels. The coarse rollout has one sample for every row of the fine rollout.
    view : _CoarseView
        Input and distribution of the coarse patcher.
    """

    fine: Rollout
    coarse: Rollout
    view: _CoarseView


class _Levels(SegmentationDistribution):
    """A fine distribution, with a coarse one for every segmentation drawn from it."""

    def __init__(
        self, fine: SegmentationDistribution, view: Callable[[Segmentation], _CoarseView]
    ) -> None:
        self.fine, self.view = fine, view

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
    def on_mode(self) -> _CoarseView:
        return self.view(self.fine_mode)

    @cached_property
    def mode(self) -> Segmentation:
        return _attach(self.fine_mode, self.on_mode.distribution.mode)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        fine = self.fine.sample(num_samples, generator)
        view = self.view(fine.segmentation)
        coarse = view.distribution.sample(1, generator)
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
            view=view,
        )

    def entropy(self) -> Tensor | None:
        return self.fine.entropy()


def _drawn_from(level: Patcher, distribution: SegmentationDistribution) -> SegmentationDistribution:
    """Return the distribution that rollouts of a level use: the mode if the level is frozen."""
    if not level.is_frozen:
        return distribution
    return Deterministic(
        distribution.mode,
        boundary_prob=distribution.boundary_prob,
        features=distribution.features,
    )


def _total(terms: list[Tensor | None]) -> Tensor | None:
    """Return the sum of the terms that are not None, or None if all terms are None."""
    known = [term for term in terms if term is not None]
    return sum(known[1:], known[0]) if known else None


def _by_row(rollout: Rollout, num_rows: int) -> Rollout:
    """Return a rollout whose log-probabilities have the shape (rollouts, `num_rows`)."""
    if rollout.log_prob is None:
        return rollout
    return replace(rollout, log_prob=rollout.log_prob.view(-1, num_rows))


def _side_by_side(fine: Rollout, coarse: Rollout) -> Tensor | None:
    """Return the actions of both levels, (G * N, T + P), or None if neither level has one."""
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
    """Return the input of a coarse patcher, (G * N, P), for G segmentations of N rows each."""
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
    """Attach a coarser level, without its boundaries at unused slots."""
    if segmentation.parent is not None:
        raise InvalidParameterError(
            "The 'fine' patcher of a HierarchicalPatcher must have only one level, but the given "
            "one has several. Pass the hierarchical patcher as 'coarse'.",
            parameter="fine",
        )
    if not segmentation.exact:
        parent = _at_slots(parent, segmentation.patch_mask)
    return replace(segmentation, parent=parent, validate=False)


def _at_slots(segmentation: Segmentation, used: Tensor) -> Segmentation:
    """Drop boundaries at slots (N, P) that are not used, in this and all coarser levels."""
    mask = segmentation.boundary_mask & used
    kept = replace(segmentation, boundary_mask=mask, parent=None, exact=False, validate=False)
    if segmentation.parent is None:
        return kept
    return replace(kept, parent=_at_slots(segmentation.parent, kept.patch_mask))
