"""Fixed patching: the same boundaries for every series.

Reference: Y. Nie, N. H. Nguyen, P. Sinthong, J. Kalagnanam, "A Time Series is Worth 64 Words",
ICLR 2023, arXiv:2211.14730.
"""

from __future__ import annotations

from adaptivepatch.errors import InvalidParameterError, check_int
from adaptivepatch.patchers.base import StaticPatcher, rate_capacity
from adaptivepatch.segmentation import Segmentation


class FixedPatcher(StaticPatcher):
    """Patches of one length, in one of two kinds.

    Use the length kind to have PatchTST, the rate kind to compare patchers at equal token count.

    Parameters
    ----------
    patch_length : int, optional
        Points a token reads, in time steps. Default 16 unless `compression_rate` is given.
    stride : int, optional
        Distance between patch starts, in time steps; at most `patch_length`, the default.
        Patches overlap by ``patch_length - stride``, called the halo.
    compression_rate : float, optional
        Points per patch r. Gives exactly K = max(1, floor(T / r)) patches, starting at
        round(k T / K), without halo.

    Raises
    ------
    InvalidParameterError
        When used, if both kinds are asked for or a value is out of range.

    Notes
    -----
    The length kind is a partition every `stride` steps plus a halo read by the embedding. It
    equals PatchTST's unfolding (with end padding if there is a halo) whenever the stride divides
    T and ``patch_length`` is `stride` or twice that. Deviations elsewhere:

    * If the stride does not divide T, boundaries are counted back from the forecast origin, so
      that the *oldest* patch is the shorter one, and no point is lost. (Unfolding without padding
      drops the newest points; with padding it repeats the last value.)
    * A halo of more than one stride pads the end so that every start keeps its patch.

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
                f"{self.patch_length!r}, stride={self.stride!r}."
            )
        num_patches = rate_capacity(self, num_steps, self.compression_rate)
        return Segmentation.even(num_steps, num_patches).patch_starts[0].tolist()

    def nominal_length(self, num_steps: int) -> int:
        """Return the stride, or the mean length at a compression rate."""
        if self.compression_rate is None:
            return self._length_and_stride()[1]
        return super().nominal_length(num_steps)

    @property
    def halo(self) -> int:
        """``patch_length - stride``; 0 at a compression rate."""
        if self.compression_rate is not None:
            return 0
        length, stride = self._length_and_stride()
        return length - stride
