"""Fixed patches: the same boundaries for every series.

Reference: Y. Nie, N. H. Nguyen, P. Sinthong, J. Kalagnanam, "A Time Series is Worth 64 Words",
ICLR 2023, arXiv:2211.14730.
"""

from __future__ import annotations

from typing import ClassVar

from adaptivepatch.errors import InvalidParameterError, check_int
from adaptivepatch.patchers.base import AskedLength, StaticPatcher, rate_capacity
from adaptivepatch.segmentation import Segmentation


class FixedPatcher(StaticPatcher):
    """Cut every look-back at the same steps, into patches of one length.

    Pass `patch_length` and `stride` for the patches of PatchTST, or `compression_rate` to compare
    patchers at an equal number of tokens.

    Parameters
    ----------
    patch_length : int, optional
        Number of time steps that a token reads. Default: 16, unless `compression_rate` is given.
    stride : int, optional
        Distance between patch starts, in time steps, at most `patch_length`. Default:
        `patch_length`. Patches overlap by ``patch_length - stride`` steps, called the halo.
    compression_rate : float, optional
        Points per patch r; gives exactly K = max(1, floor(T / r)) patches, which start at
        round(k T / K) and have no halo.

    Raises
    ------
    InvalidParameterError
        If `compression_rate` is given together with a length or a stride, or if a value is out of
        range. The parameters are checked when the patcher is used.

    Notes
    -----
    Without `compression_rate`, a patch starts every `stride` steps, and the embedding also reads
    the halo. This equals PatchTST's unfolding (with end padding if there is a halo) whenever the
    stride divides T and `patch_length` is the stride or twice the stride. Deviations in other
    cases:

    * If the stride does not divide T, boundaries are counted back from the forecast origin, so
      that the *oldest* patch is shorter and no point is lost. (Unfolding without padding drops the
      newest points; with padding it repeats the last value.)
    * If the halo is longer than one stride, the end is padded so that every start keeps its patch.
    * Even patches at a compression rate are an addition of this package.

    References
    ----------
    Y. Nie et al., "A Time Series is Worth 64 Words", ICLR 2023, arXiv:2211.14730, section 3.1.

    Examples
    --------
    >>> import torch
    >>> FixedPatcher(4)(torch.zeros(1, 10)).mode.patch_lengths.tolist()
    [[2, 4, 4]]
    >>> FixedPatcher(compression_rate=4)(torch.zeros(1, 10)).mode.patch_lengths.tolist()
    [[5, 5]]
    """

    name = "fixed"
    decides: ClassVar[str] = "nothing in the data: even patches, or PatchTST's length and stride"
    rate_kept: ClassVar[str] = "exact"
    cost: ClassVar[str] = "none"
    trained_by: ClassVar[str] = "nothing"
    causality: ClassVar[str] = "static"

    def __init__(
        self,
        patch_length: int | None = None,
        stride: int | None = None,
        compression_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.stride = stride
        self.compression_rate = compression_rate

    def _length_and_stride(self) -> tuple[int, int]:
        length = 16 if self.patch_length is None else self.patch_length
        stride = length if self.stride is None else self.stride
        check_int(self, patch_length=length, stride=stride)
        if stride > length:
            raise InvalidParameterError(
                f"The 'stride' parameter of FixedPatcher must not exceed patch_length={length!r}, "
                f"or points between patches would be lost. Got {stride!r} instead.",
                parameter="stride",
            )
        return length, stride

    def starts(self, num_steps: int) -> list[int]:
        """Return the steps that start a patch."""
        if self.compression_rate is None:
            _, stride = self._length_and_stride()
            first = num_steps % stride
            return ([0] if first else []) + list(range(first, num_steps, stride))
        if self.patch_length is not None or self.stride is not None:
            raise InvalidParameterError(
                "FixedPatcher takes either 'compression_rate' or 'patch_length' and 'stride'. Got "
                f"compression_rate={self.compression_rate!r}, patch_length="
                f"{self.patch_length!r}, stride={self.stride!r}. Leave out compression_rate or the "
                "other two.",
                parameter="compression_rate",
            )
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        return Segmentation.even(num_steps, num_patches).patch_starts[0].tolist()

    def lengths_asked_for(self, num_steps: int) -> list[AskedLength]:
        """Return the patch length, or the compression rate."""
        if self.compression_rate is None:
            return [AskedLength("patch_length", self._length_and_stride()[0], num_steps)]
        return super().lengths_asked_for(num_steps)

    def nominal_length(self, num_steps: int) -> int:
        """Return the stride, or the mean patch length at a compression rate."""
        if self.compression_rate is None:
            return self._length_and_stride()[1]
        return super().nominal_length(num_steps)

    @property
    def halo(self) -> int:
        """Overlap of patches, ``patch_length - stride``; 0 at a compression rate."""
        if self.compression_rate is not None:
            return 0
        length, stride = self._length_and_stride()
        return length - stride
