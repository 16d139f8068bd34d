"""`Segmentation`: the steps of a look-back at which patches start.

This module makes all conversions between the encodings in the literature: boundary mask, start
steps, lengths and *end* marks. It imports nothing from this package except the errors. Read
``patchers/fixed.py`` next.

Tensor suffixes: N rows, T steps, P patches.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import InvalidSegmentationError


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Partition of every row's steps into consecutive patches.

    Parameters
    ----------
    boundary_mask : Tensor of bool, shape (N, T)
        True where a step *starts* a patch. Step 0 must be True in every row.
    capacity : int, optional
        Number of patch slots P to which the views are padded. It must be at least the largest
        number of patches in any row, which is the default. Computing the default synchronises with
        the device.
    parent : Segmentation, optional
        Next coarser level: a partition of the ``capacity`` patch slots of this level, with the same
        number of rows. No patch of the parent may start at an unused slot.
    exact : bool, default=False
        Declares that every row holds exactly `capacity` patches, so that no padding mask is needed.
        The flag is never inferred from the mask: torch rounds differently with and without a
        padding mask, so the forecast of a row would depend on the other rows of its batch.
    validate : bool, default=True
        Whether to check the invariants. Constructors that guarantee them pass False.

    Raises
    ------
    InvalidSegmentationError
        If the mask is not a two-dimensional bool tensor with at least one step, if step 0 of a row
        is not a boundary, if a row holds more patches than `capacity` (or fewer, if `exact` is
        True), or if `parent` does not partition this level's patches. The other constructors also
        raise this error for arguments outside their documented range.

    Notes
    -----
    Since step 0 is a boundary, every mask is a partition: lengths are at least 1 and sum to T.
    Overlapping patches are a partition plus a *halo*, extra steps that the embedding reads.

    A segmentation is *shared* if its mask is one expanded row (``mask.expand(N, -1)``). Its views
    are then computed for that row only, and expanded.

    Examples
    --------
    >>> import torch
    >>> Segmentation(torch.tensor([[True, False, False, True, False]])).patch_lengths.tolist()
    [[3, 2]]
    """

    boundary_mask: Tensor
    capacity: int = 0
    parent: Segmentation | None = None
    exact: bool = False
    validate: bool = True

    def __post_init__(self) -> None:
        mask = self.boundary_mask
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape[1] < 1:
            raise InvalidSegmentationError(
                "boundary_mask must be a bool tensor of shape (rows, steps) with at least one "
                f"step. Got dtype={mask.dtype}, shape={tuple(mask.shape)}. Convert other types "
                "with mask.bool(), and a single row with mask[None].",
                parameter="boundary_mask",
            )
        if not self.capacity:
            largest = int(self._stored_rows(mask).sum(1).max()) if len(mask) else 1
            object.__setattr__(self, "capacity", largest)
        slots = (len(mask), self.capacity)
        if self.parent is not None and self.parent.boundary_mask.shape != slots:
            raise InvalidSegmentationError(
                f"parent must partition {self.capacity} patches of {len(mask)} rows. Got a mask "
                f"of shape {tuple(self.parent.boundary_mask.shape)}. Build it with shape {slots}.",
                parameter="parent",
            )
        if self.validate:
            self._check()

    def _check(self) -> None:
        rows = self._stored_rows(self.boundary_mask)
        if not bool(rows[:, 0].all()):
            bad = int((~rows[:, 0]).nonzero()[0])
            raise InvalidSegmentationError(
                f"Step 0 must start a patch in every row, but row {bad} has no boundary there. "
                "Set boundary_mask[:, 0] = True, or use Segmentation.from_ends for end marks.",
                parameter="boundary_mask",
            )
        counts = rows.sum(1)
        largest = int(counts.max()) if len(rows) else 0
        if largest > self.capacity:
            raise InvalidSegmentationError(
                f"A row holds {largest} patches, which is more than the capacity {self.capacity}. "
                "Raise capacity, or remove boundaries.",
                parameter="capacity",
            )
        if self.exact and bool((counts < self.capacity).any()):
            raise InvalidSegmentationError(
                f"exact=True promises {self.capacity} patches in every row, but one row holds "
                f"{int(counts.min())}. Use exact=False, which masks unused slots.",
                parameter="exact",
            )
        if self.parent is not None and bool((self.parent.boundary_mask & ~self.patch_mask).any()):
            raise InvalidSegmentationError(
                "A patch of parent starts at an unused patch slot. Set the boundary_mask of parent "
                "to False where patch_mask of this level is False.",
                parameter="parent",
            )

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_starts(cls, starts: Tensor, num_steps: int) -> Segmentation:
        """Build from the start steps of the patches.

        Parameters
        ----------
        starts : Tensor of int, shape (N, P)
            Steps that start a patch. Every row must contain step 0. Repeated steps are allowed and
            serve as padding.
        num_steps : int
            Length T of the look-back.

        Returns
        -------
        Segmentation
            N rows, of capacity P.
        """
        if starts.numel() and (int(starts.min()) < 0 or int(starts.max()) >= num_steps):
            raise InvalidSegmentationError(
                f"starts must lie in [0, {num_steps}), but they span "
                f"[{int(starts.min())}, {int(starts.max())}]. Remove starts outside the "
                "range, or raise num_steps.",
                parameter="starts",
            )
        mask = torch.zeros(len(starts), num_steps, dtype=torch.bool, device=starts.device)
        return cls(mask.scatter_(1, starts.long(), True), capacity=starts.shape[1])

    @classmethod
    def from_lengths(cls, lengths: Tensor) -> Segmentation:
        """Build from patch lengths; zeros at the end of a row are padding.

        Parameters
        ----------
        lengths : Tensor of int, shape (N, P)
            Patch lengths in time steps. All rows must have the same sum T.

        Returns
        -------
        Segmentation
            N rows, of capacity P.
        """
        totals = lengths.sum(1)
        if lengths.numel() == 0 or int(lengths.min()) < 0 or len(totals.unique()) != 1:
            raise InvalidSegmentationError(
                "lengths must be non-negative and have the same sum in every row, but the sums are "
                f"{totals.unique().tolist()} and the smallest length is "
                f"{int(lengths.min()) if lengths.numel() else None}. Make every row sum to the "
                "number of steps.",
                parameter="lengths",
            )
        starts = (lengths.cumsum(1) - lengths).where(lengths > 0, torch.zeros_like(lengths))
        return cls.from_starts(starts, int(totals[0]))

    @classmethod
    def from_ends(cls, end_mask: Tensor, capacity: int = 0) -> Segmentation:
        """Build from marks on the *last* step of each patch, an encoding that several papers use.

        Parameters
        ----------
        end_mask : Tensor of bool, shape (N, T)
            True where a patch ends. The last step ends a patch even if it is not marked.
        capacity : int, optional
            Number of patch slots, as in `Segmentation`.
        """
        mask = end_mask.roll(1, dims=1)
        mask[:, 0] = True
        return cls(mask, capacity=capacity)

    @classmethod
    def from_scores(
        cls, scores: Tensor, capacity: int, threshold: float | None = None
    ) -> Segmentation:
        """Start patches at step 0 and at the ``capacity - 1`` other steps with the highest scores.

        Parameters
        ----------
        scores : Tensor, shape (N, T)
            Score of each step; a step with a higher score is a likelier boundary. Ties go to the
            earlier step.
        capacity : int
            Number of patches K, from 1 to T. Every row gets exactly K patches unless `threshold` is
            given.
        threshold : float, optional
            Score that a step other than step 0 must exceed to start a patch. With a threshold, a
            row may have fewer than K patches.
        """
        num_steps = scores.shape[1]
        if not 1 <= capacity <= num_steps:
            raise InvalidSegmentationError(
                f"capacity must lie in [1, {num_steps}]. Got {capacity!r}. Use at least 1 patch, "
                "and at most 1 per step.",
                parameter="capacity",
            )
        order = scores[:, 1:].argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[:, 0] = True
        mask.scatter_(1, order[:, : capacity - 1] + 1, True)
        if threshold is not None:
            mask[:, 1:] &= scores[:, 1:] > threshold
        return cls(mask, capacity=capacity, exact=threshold is None, validate=False)

    @classmethod
    def shared(
        cls,
        starts: list[int],
        num_steps: int,
        num_rows: int = 1,
        device: torch.device | None = None,
    ) -> Segmentation:
        """Give all rows the same patches, which are stored once.

        Parameters
        ----------
        starts : list of int
            Start steps, strictly increasing from 0.
        num_steps, num_rows : int
            Steps T and rows N.
        device : torch.device, optional
            Device of the mask.
        """
        valid = starts[:1] == [0] and all(a < b for a, b in itertools.pairwise(starts))
        if not valid or starts[-1] >= num_steps:
            raise InvalidSegmentationError(
                f"starts must increase strictly from 0 to below {num_steps}. Got {starts!r}. "
                "Sort them, drop repeats and steps beyond the end, and begin with 0.",
                parameter="starts",
            )
        mask = torch.zeros(1, num_steps, dtype=torch.bool, device=device)
        mask[0, starts] = True
        return cls(mask.expand(num_rows, -1), capacity=len(starts), exact=True, validate=False)

    @classmethod
    def even(
        cls, num_steps: int, num_patches: int, num_rows: int = 1, device: torch.device | None = None
    ) -> Segmentation:
        """Cut into K patches that start at round(k T / K), halves rounded up.

        Parameters
        ----------
        num_steps, num_patches, num_rows : int
            Steps T, patches K (from 1 to T) and rows N.
        device : torch.device, optional
            Device of the mask.
        """
        if not 1 <= num_patches <= num_steps:
            raise InvalidSegmentationError(
                f"num_patches must lie in [1, {num_steps}]. Got {num_patches!r}. Use at least 1 "
                "patch, and at most 1 per step.",
                parameter="num_patches",
            )
        starts = [
            (2 * k * num_steps + num_patches) // (2 * num_patches) for k in range(num_patches)
        ]
        return cls.shared(starts, num_steps, num_rows, device)

    @classmethod
    def where(cls, condition: Tensor, first: Segmentation, second: Segmentation) -> Segmentation:
        """Choose between two segmentations row by row.

        Parameters
        ----------
        condition : Tensor of bool, shape (N,)
            True for rows of `first`, False for rows of `second`.
        first, second : Segmentation
            Segmentations of N rows each. A coarser level is kept if both segmentations have one.
        """
        capacity = max(first.capacity, second.capacity)
        parent = None
        if first.parent is not None and second.parent is not None:
            parent = cls.where(
                condition, first.parent._lengthened(capacity), second.parent._lengthened(capacity)
            )
        return cls(
            torch.where(condition[:, None], first.boundary_mask, second.boundary_mask),
            capacity=capacity,
            parent=parent,
            exact=first.exact and second.exact and first.capacity == second.capacity,
            validate=False,
        )

    @classmethod
    def cat(cls, parts: Sequence[Segmentation]) -> Segmentation:
        """Concatenate the rows of several segmentations.

        Parameters
        ----------
        parts : sequence of Segmentation
            One or more segmentations with the same number of steps. Coarser levels are kept if all
            segmentations have them.
        """
        capacity = max(part.capacity for part in parts)
        parents = [part.parent._lengthened(capacity) for part in parts if part.parent is not None]
        return cls(
            torch.cat([part.boundary_mask for part in parts]),
            capacity=capacity,
            parent=cls.cat(parents) if len(parents) == len(parts) else None,
            exact=all(part.exact and part.capacity == capacity for part in parts),
            validate=False,
        )

    def _lengthened(self, num_steps: int) -> Segmentation:
        """Lengthen the last patch of every row up to `num_steps`."""
        missing = num_steps - self.num_steps
        return replace(self, boundary_mask=F.pad(self.boundary_mask, (0, missing)), validate=False)

    # ------------------------------------------------------------------ views

    @staticmethod
    def _stored_rows(tensor: Tensor) -> Tensor:
        """Return all rows, or only the first row if the others are an expansion of it."""
        return tensor[:1] if tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor

    def _expanded(self, stored_rows: Tensor) -> Tensor:
        return stored_rows.expand(self.num_rows, -1)

    @property
    def num_rows(self) -> int:
        """Number of rows N."""
        return len(self.boundary_mask)

    @property
    def num_steps(self) -> int:
        """Number of time steps T."""
        return self.boundary_mask.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the mask."""
        return self.boundary_mask.device

    @property
    def is_shared(self) -> bool:
        """Whether all rows are an expansion of one stored row."""
        return len(self._stored_rows(self.boundary_mask)) == 1

    @cached_property
    def patch_index(self) -> Tensor:
        """Index of the patch that holds each step, from 0, shape (N, T)."""
        return self._expanded(self._stored_rows(self.boundary_mask).long().cumsum(1) - 1)

    @cached_property
    def num_patches(self) -> Tensor:
        """Number of patches of each row, shape (N,)."""
        return self._stored_rows(self.boundary_mask).sum(1).expand(self.num_rows)

    @cached_property
    def patch_lengths(self) -> Tensor:
        """Number of steps of each patch, 0 in unused slots, shape (N, P)."""
        index = self._stored_rows(self.patch_index)
        lengths = torch.zeros(len(index), self.capacity, dtype=torch.long, device=self.device)
        return self._expanded(lengths.scatter_add_(1, index, torch.ones_like(index)))

    @cached_property
    def patch_starts(self) -> Tensor:
        """First step of each patch, T in unused slots, shape (N, P)."""
        lengths = self._stored_rows(self.patch_lengths)
        return self._expanded(lengths.cumsum(1) - lengths)

    @cached_property
    def patch_mask(self) -> Tensor:
        """Whether a slot holds a patch, shape (N, P)."""
        return self._expanded(self._stored_rows(self.patch_lengths) > 0)

    @property
    def compression_rate(self) -> Tensor:
        """Points per patch of each row, T / number of patches, shape (N,)."""
        return self.num_steps / self.num_patches

    @cached_property
    def coarse(self) -> Segmentation:
        """The coarser level `parent`, converted to a partition of the steps."""
        if self.parent is None:
            raise InvalidSegmentationError(
                "coarse needs a coarser level, but parent is None. Build the segmentation with a "
                "parent, or do not read coarse.",
                parameter="parent",
            )
        starts_coarse = self.parent.boundary_mask.gather(1, self.patch_index)
        mask = self.boundary_mask & starts_coarse
        if self.is_shared and self.parent.is_shared:
            mask = mask[:1].expand(self.num_rows, -1)
        return replace(self.parent, boundary_mask=mask, validate=False)

    # ------------------------------------------------------------------ rows

    def expand(self, num_rows: int) -> Segmentation:
        """Expand a one-row or shared segmentation to `num_rows` rows, without copying."""
        row = self._stored_rows(self.boundary_mask)
        parent = None if self.parent is None else self.parent.expand(num_rows)
        return replace(self, boundary_mask=row.expand(num_rows, -1), parent=parent, validate=False)

    def select(self, rows: Tensor | slice) -> Segmentation:
        """Take some rows (index tensor, bool mask or slice), keeping the capacity."""
        parent = None if self.parent is None else self.parent.select(rows)
        if self.is_shared:
            count = len(self.boundary_mask[:, 0][rows])
            mask = self.boundary_mask[:1].expand(count, -1)
        else:
            mask = self.boundary_mask[rows]
        return replace(self, boundary_mask=mask, parent=parent, validate=False)

    def repeat(self, num_samples: int) -> Segmentation:
        """Repeat the block of all rows `num_samples` times, which is the layout of rollouts."""
        if num_samples == 1:
            return self
        return self.select(torch.arange(self.num_rows, device=self.device).repeat(num_samples))

    def to(self, device: torch.device | str) -> Segmentation:
        """Move to a device."""
        parent = None if self.parent is None else self.parent.to(device)
        mask = self._stored_rows(self.boundary_mask).to(device).expand(self.num_rows, -1)
        return replace(self, boundary_mask=mask, parent=parent, validate=False)
