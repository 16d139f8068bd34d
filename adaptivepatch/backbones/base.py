"""`Backbone`: base class of networks that map tokens to hidden tokens.

A backbone does not depend on the patcher or the horizon.

Tensor suffixes: N rows, P patches, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from adaptivepatch.errors import InvalidParameterError, check_float, check_int
from adaptivepatch.parameters import Configurable
from adaptivepatch.segmentation import Segmentation


class Backbone(nn.Module, Configurable, ABC):
    """Base class of all backbones: a torch module with scikit-learn parameters.

    A subclass stores its constructor arguments under their own names, builds its layers in
    `build` and maps tokens in `forward`. Padded tokens must not influence real ones.

    Attributes
    ----------
    name : str
        Registry name.
    d_model, num_layers, num_heads : int
        Token width D, number of layers, number of attention heads.
    dropout : float
        Probability of dropping a value in training.
    reads_levels : bool
        Whether `forward` uses its argument `parent`.
    causal : bool
        Whether a token reads only itself and earlier tokens.
    entry_rate_factor : float
        Learning rate, as a multiple of the trainer's rate, of the vector that widens tokens for
        this backbone; see `adaptivepatch.nn.tokens.chunks.SelectEmbedding`.
    """

    name: ClassVar[str]
    reads_levels: ClassVar[bool] = False
    causal: bool = False
    entry_rate_factor: float = 1.0
    d_model: int
    num_layers: int
    num_heads: int
    dropout: float

    __repr__ = BaseEstimator.__repr__

    @abstractmethod
    def build(self, reference: Segmentation) -> None:
        """Create the layers.

        Parameters
        ----------
        reference : Segmentation
            Reference segmentation of the patcher (one row), to which the positions of tokens refer.
        """

    @abstractmethod
    def forward(
        self,
        tokens: Tensor,
        patch_mask: Tensor | None,
        start_time: Tensor,
        parent: Segmentation | None = None,
    ) -> Tensor:
        """Map tokens to hidden tokens.

        Parameters
        ----------
        tokens : Tensor of shape (N, P, D)
            One token per patch.
        patch_mask : Tensor of bool, shape (N, P), or None
            False at padding. None: there is no padding.
        start_time : Tensor of int, shape (N or 1, P)
            First step of each patch.
        parent : Segmentation, optional
            Next coarser level, a partition of the P patches. Only backbones with several levels
            read it.

        Returns
        -------
        Tensor of shape (N, P, D)
        """

    def auxiliary_loss(self) -> Tensor | None:
        """Return this backbone's own term of the training loss, or None.

        The term belongs to the last `forward` in training mode and is returned only once.
        """
        return None

    def _check(self, d_ff: int) -> None:
        """Raise `InvalidParameterError` if a size is out of its range."""
        sizes = {name: getattr(self, name) for name in ("d_model", "num_layers", "num_heads")}
        check_int(self, **sizes, d_ff=d_ff)
        check_float(self, "[0, 1)", dropout=self.dropout)
        if self.d_model % self.num_heads:
            raise InvalidParameterError(
                f"The 'd_model' parameter of {type(self).__name__} must be a multiple of "
                f"num_heads={self.num_heads!r}. Got {self.d_model!r} instead.",
                parameter="d_model",
            )
