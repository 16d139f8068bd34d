"""`Segmentation`: which step of a look-back starts a patch.

The single conversion point between the encodings found in the literature (boundary mask, start
times, lengths, *end* marks). Knows torch and nothing else of this package. Read
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
        True where a step *starts* a patch. Step 0 always does.
    capacity : int, optional
        Number of patch slots P the views are padded to; at least the largest number of patches of
        any row, which is the default (finding it waits for the device).
    parent : Segmentation, optional
        The next coarser level: a partition of this level's ``capacity`` patch slots, one row per
        row, no patch of which starts at an unused slot.
    exact : bool, default=False
        Every row is known to hold exactly `capacity` patches, so that no padding mask is needed.
        Never found out from the values: with and without a mask torch rounds differently, and a
        row's forecast would depend on the other rows of its batch.
    validate : bool, default=True
        Check the invariants. Constructors that guarantee them by arithmetic switch it off.

    Raises
    ------
    InvalidSegmentationError
        If the mask is not a two-dimensional bool tensor with at least one step, if step 0 of a row
        is not a boundary, if a row holds more patches than `capacity` (or fewer, where `exact`),
        or if `parent` does not partition this level's patches.

    Notes
    -----
    Since step 0 is a boundary, any mask is a partition: lengths are at least 1 and sum to T.
    Overlapping patches are a partition plus a *halo* read by the embedding.

    A mask whose rows are one expanded row (``mask.expand(N, -1)``) is *shared*: its views are
    computed once and expanded.

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
                f"step, however: dtype={mask.dtype}, shape={tuple(mask.shape)}."
            )
        if not self.capacity:
            largest = int(self._one_row(mask).sum(1).max()) if len(mask) else 1
            object.__setattr__(self, "capacity", largest)
        slots = (len(mask), self.capacity)
        if self.parent is not None and self.parent.boundary_mask.shape != slots:
            raise InvalidSegmentationError(
                f"parent must partition {self.capacity} patches of {len(mask)} rows, however: its "
                f"shape is {tuple(self.parent.boundary_mask.shape)}."
            )
        if self.validate:
            self._check()

    def _check(self) -> None:
        rows = self._one_row(self.boundary_mask)
        if not bool(rows[:, 0].all()):
            bad = int((~rows[:, 0]).nonzero()[0])
            raise InvalidSegmentationError(
                f"Step 0 must start a patch in every row, but row {bad} has no boundary there. "
                "Set boundary_mask[:, 0] = True, or use Segmentation.from_ends for end marks."
            )
        counts = rows.sum(1)
        largest = int(counts.max()) if len(rows) else 0
        if largest > self.capacity:
            raise InvalidSegmentationError(
                f"No row may hold more patches than the capacity {self.capacity}, but one holds "
                f"{largest}. Lower the number of boundaries or raise the compression budget."
            )
        if self.exact and bool((counts < self.capacity).any()):
            raise InvalidSegmentationError(
                f"exact=True promises {self.capacity} patches in every row, but one holds "
                f"{int(counts.min())}. Leave it False: unused slots are masked."
            )
        if self.parent is not None and bool((self.parent.boundary_mask & ~self.patch_mask).any()):
            raise InvalidSegmentationError(
                "No patch of parent may start at an unused patch slot, however: one does. Set "
                "parent's boundary_mask to False where this level's patch_mask is."
            )

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_starts(cls, starts: Tensor, num_steps: int) -> Segmentation:
        """Build from the start steps of the patches.

        Parameters
        ----------
        starts : Tensor of int, shape (N, P)
            Steps that start a patch, each row holding step 0; repeats are allowed (padding).
        num_steps : int
            Length T of the look-back.

        Returns
        -------
        Segmentation
            Its capacity is P.
        """
        if starts.numel() and (int(starts.min()) < 0 or int(starts.max()) >= num_steps):
            raise InvalidSegmentationError(
                f"starts must lie in [0, {num_steps}), however: they span "
                f"[{int(starts.min())}, {int(starts.max())}]."
            )
        mask = torch.zeros(len(starts), num_steps, dtype=torch.bool, device=starts.device)
        return cls(mask.scatter_(1, starts.long(), True), capacity=starts.shape[1])

    @classmethod
    def from_lengths(cls, lengths: Tensor) -> Segmentation:
        """Build from patch lengths; zeros at the end of a row are padding.

        Parameters
        ----------
        lengths : Tensor of int, shape (N, P)
            Patch lengths in time steps; every row has the same sum T.

        Returns
        -------
        Segmentation
            Its capacity is P.
        """
        totals = lengths.sum(1)
        if lengths.numel() == 0 or int(lengths.min()) < 0 or len(totals.unique()) != 1:
            raise InvalidSegmentationError(
                "lengths must be non-negative and have the same sum in every row, however: the "
                f"sums are {totals.unique().tolist()} and the smallest length is "
                f"{int(lengths.min()) if lengths.numel() else None}."
            )
        starts = (lengths.cumsum(1) - lengths).where(lengths > 0, torch.zeros_like(lengths))
        return cls.from_starts(starts, int(totals[0]))

    @classmethod
    def from_ends(cls, end_mask: Tensor, capacity: int = 0) -> Segmentation:
        """Build from marks on the *last* step of each patch, as several papers write them.

        Parameters
        ----------
        end_mask : Tensor of bool, shape (N, T)
            True where a patch ends. The last step ends one whether marked or not.
        capacity : int, optional
            See `Segmentation`.
        """
        mask = end_mask.roll(1, dims=1)
        mask[:, 0] = True
        return cls(mask, capacity=capacity)

    @classmethod
    def from_scores(
        cls, scores: Tensor, capacity: int, threshold: float | None = None
    ) -> Segmentation:
        """Keep step 0 and the ``capacity - 1`` other steps of highest score.

        Parameters
        ----------
        scores : Tensor, shape (N, T)
            Larger means a likelier boundary; ties go to the earlier step.
        capacity : int
            Number of patches K, from 1 to T. Every row gets exactly K.
        threshold : float, optional
            Keep of those steps only the ones that score higher: at most K patches.
        """
        num_steps = scores.shape[1]
        if not 1 <= capacity <= num_steps:
            raise InvalidSegmentationError(
                f"capacity must lie in [1, {num_steps}], however: {capacity!r}."
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
        """Give all rows the same patches, stored once.

        Parameters
        ----------
        starts : list of int
            Strictly increasing start steps, the first of them 0.
        num_steps, num_rows : int
            T and N.
        device : torch.device, optional
            Where the mask lives.
        """
        valid = starts[:1] == [0] and all(a < b for a, b in itertools.pairwise(starts))
        if not valid or starts[-1] >= num_steps:
            raise InvalidSegmentationError(
                f"starts must increase strictly from 0 to below {num_steps}, however: {starts!r}."
            )
        mask = torch.zeros(1, num_steps, dtype=torch.bool, device=device)
        mask[0, starts] = True
        return cls(mask.expand(num_rows, -1), capacity=len(starts), exact=True, validate=False)

    @classmethod
    def even(
        cls, num_steps: int, num_patches: int, num_rows: int = 1, device: torch.device | None = None
    ) -> Segmentation:
        """Cut into `num_patches` patches starting at round(k T / K), halves rounded up.

        Parameters
        ----------
        num_steps, num_patches, num_rows : int
            T, K (from 1 to T) and N.
        device : torch.device, optional
            Where the mask lives.
        """
        if not 1 <= num_patches <= num_steps:
            raise InvalidSegmentationError(
                f"num_patches must lie in [1, {num_steps}], however: {num_patches!r}."
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
            Where to take `first`.
        first, second : Segmentation
            N rows each. A coarser level is kept if both have one.
        """
        capacity = max(first.capacity, second.capacity)
        parent = None
        if first.parent is not None and second.parent is not None:
            parent = cls.where(
                condition, first.parent._widened(capacity), second.parent._widened(capacity)
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
        """Put the rows of several segmentations one after the other.

        Parameters
        ----------
        parts : sequence of Segmentation
            At least one, of the same number of steps. Coarser levels are kept if all have them.
        """
        capacity = max(part.capacity for part in parts)
        parents = [part.parent._widened(capacity) for part in parts if part.parent is not None]
        return cls(
            torch.cat([part.boundary_mask for part in parts]),
            capacity=capacity,
            parent=cls.cat(parents) if len(parents) == len(parts) else None,
            exact=all(part.exact and part.capacity == capacity for part in parts),
            validate=False,
        )

    def _widened(self, num_steps: int) -> Segmentation:
        """Lengthen the last patch of every row up to `num_steps`."""
        missing = num_steps - self.num_steps
        return replace(self, boundary_mask=F.pad(self.boundary_mask, (0, missing)), validate=False)

    # ------------------------------------------------------------------ views

    @staticmethod
    def _one_row(tensor: Tensor) -> Tensor:
        """Return one row in place of many when they are an expansion of it."""
        return tensor[:1] if tensor.shape[0] > 1 and tensor.stride(0) == 0 else tensor

    def _view(self, one_row_or_all: Tensor) -> Tensor:
        return one_row_or_all.expand(self.num_rows, -1)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.boundary_mask)

    @property
    def num_steps(self) -> int:
        """T, in time steps."""
        return self.boundary_mask.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the mask lives."""
        return self.boundary_mask.device

    @property
    def is_shared(self) -> bool:
        """Whether all rows are one stored row."""
        return len(self._one_row(self.boundary_mask)) == 1

    @cached_property
    def patch_index(self) -> Tensor:
        """Patch of each step, counted from 0, shape (N, T)."""
        return self._view(self._one_row(self.boundary_mask).long().cumsum(1) - 1)

    @cached_property
    def num_patches(self) -> Tensor:
        """Patches of each row, shape (N,)."""
        return self._one_row(self.boundary_mask).sum(1).expand(self.num_rows)

    @cached_property
    def patch_lengths(self) -> Tensor:
        """Steps of each patch, 0 in unused slots, shape (N, P)."""
        index = self._one_row(self.patch_index)
        lengths = torch.zeros(len(index), self.capacity, dtype=torch.long, device=self.device)
        return self._view(lengths.scatter_add_(1, index, torch.ones_like(index)))

    @cached_property
    def patch_starts(self) -> Tensor:
        """First step of each patch, T in unused slots, shape (N, P)."""
        lengths = self._one_row(self.patch_lengths)
        return self._view(lengths.cumsum(1) - lengths)

    @cached_property
    def patch_mask(self) -> Tensor:
        """Whether a slot holds a patch, shape (N, P)."""
        return self._view(self._one_row(self.patch_lengths) > 0)

    @property
    def compression_rate(self) -> Tensor:
        """Points per patch of each row, T / number of patches, shape (N,)."""
        return self.num_steps / self.num_patches

    @cached_property
    def coarse(self) -> Segmentation:
        """The coarser level, `parent`, as a partition of the steps."""
        if self.parent is None:
            raise InvalidSegmentationError(
                "A coarser level must exist to be read, however: parent is None."
            )
        starts_coarse = self.parent.boundary_mask.gather(1, self.patch_index)
        mask = self.boundary_mask & starts_coarse
        if self.is_shared and self.parent.is_shared:
            mask = mask[:1].expand(self.num_rows, -1)
        return replace(self.parent, boundary_mask=mask, validate=False)

    # ------------------------------------------------------------------ rows

    def expand(self, num_rows: int) -> Segmentation:
        """Give a one-row or shared segmentation to `num_rows` rows, without copying."""
        row = self._one_row(self.boundary_mask)
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
        """Repeat all rows one after the other, as rollouts are laid out."""
        if num_samples == 1:
            return self
        return self.select(torch.arange(self.num_rows, device=self.device).repeat(num_samples))

    def to(self, device: torch.device | str) -> Segmentation:
        """Move to a device."""
        parent = None if self.parent is None else self.parent.to(device)
        mask = self._one_row(self.boundary_mask).to(device).expand(self.num_rows, -1)
        return replace(self, boundary_mask=mask, parent=parent, validate=False)
