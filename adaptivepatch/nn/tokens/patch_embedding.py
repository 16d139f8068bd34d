"""Embeddings that map the points of a patch to one token.

Tensor suffixes: N rows, T steps, P patches, V values of a token, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.linear import Linear
from adaptivepatch.nn.tokens.pooling import at_starts, pool_mean, pool_sum
from adaptivepatch.segmentation import Segmentation


def resample(series: Tensor, segmentation: Segmentation, num_values: int, halo: int = 0) -> Tensor:
    """Resample every patch, extended by `halo` steps, to means over `num_values` equal intervals.

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Values without gaps.
    segmentation : Segmentation
        Segmentation of N rows into P patches.
    num_values : int
        Number V of values per patch.
    halo : int, default=0
        Number of steps after the patch that are also read. Beyond the look-back, the last value is
        repeated.

    Returns
    -------
    Tensor of shape (N, P, V)
        Resampled values. They are the original values if patch length + halo equals V. Values of
        unused slots are finite and have no meaning.

    Notes
    -----
    The series is treated as piecewise constant: the value of an interval is the mean of the steps
    that it touches, where the first and the last step are weighted by the fraction covered. Prefix
    sums are avoided because they lose digits in float32. For V = 1 on a CPU, `pool_mean` is used,
    which takes a fifth of the time.
    """
    if num_values == 1 and halo == 0 and series.device.type == "cpu":
        return pool_mean(series[..., None], segmentation)
    rows = slice(0, 1) if segmentation.is_shared else slice(None)
    start = segmentation.patch_starts[rows][..., None]
    length = segmentation.patch_lengths[rows] + halo  # (n, P)
    longest = int(length.max())
    is_whole = bool((length % num_values == 0).all())
    touched = max(1, -(-longest // num_values) + (0 if is_whole else 1))
    # Intervals by patch length, in units of 1 / V of a step. They are integers, so nothing is
    # rounded.
    lengths = torch.arange(longest + 1, device=series.device)[:, None]  # (L, 1)
    left = lengths * torch.arange(num_values, device=series.device)  # (L, V)
    first = left // num_values
    index = start + nn.functional.embedding(length, first)  # (n, P, V)
    beyond = series[:, -1:].expand(-1, halo + touched)
    series = torch.cat([series, beyond], 1)
    if touched == 1:
        return _gather(series, index)
    # One touched step at a time: torch sums along a dimension in an order that depends on its
    # size, here the longest patch of the batch, so a row's rounding would depend on other rows.
    total = series.new_zeros(())
    for offset in range(touched):
        step = (first + offset) * num_values
        covered = torch.minimum(left + lengths, step + num_values) - torch.maximum(left, step)
        share = (covered.clamp(min=0) / lengths.clamp(min=1).double()).to(series.dtype)
        weight = nn.functional.embedding(length, share)
        total = total + _gather(series, index + offset) * weight
    return total


def gated(tokens: Tensor, segmentation: Segmentation, gate: Tensor | None) -> Tensor:
    """Multiply tokens (N, P, D) by the gate (N, T), if there is one, at the patch starts."""
    if gate is None:
        return tokens
    return tokens * at_starts(gate, segmentation)[..., None]


def _gather(series: Tensor, index: Tensor) -> Tensor:
    """Return the values of (N, T) at step indices (N or 1, P, V)."""
    if len(index) == 1:
        return series[:, index[0].flatten()].view(len(series), *index.shape[1:])
    return series.gather(1, index.flatten(1)).view(index.shape)


class ResampleEmbedding(nn.Module):
    """Embedding that resamples a patch to V values, projects them and adds its log length.

    Parameters
    ----------
    num_values : int
        Number V of values per patch: the input width of the projection.
    d_model : int
        Token width D.
    nominal_length : int
        Patch length, in time steps, at which the length embedding is zero.

    Notes
    -----
    ``token = W r + b + w log(length / nominal_length)``, where r is the result of `resample`. If
    all patches have the nominal length and V is that length plus the halo, this equals PatchTST's
    projection of the points. A patch without an observed step becomes a learned token.
    """

    def __init__(self, num_values: int, d_model: int, nominal_length: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.nominal_length = nominal_length
        self.projection = Linear(num_values, d_model)
        self.length_weight = nn.Parameter(torch.zeros(d_model))
        self.missing_token = nn.Parameter(torch.zeros(d_model))

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens of shape (N, P, D).

        Parameters
        ----------
        series : Tensor of shape (N, T)
            Normalised look-backs with filled gaps.
        segmentation : Segmentation
            Segmentation of N rows into P patches.
        halo : int
            Number of steps after a patch that are also read; see `resample`.
        observed : Tensor of bool, shape (N, T), optional
            False at filled gaps. None: all steps are observed.
        gate : Tensor of shape (N, T), optional
            Factor of value 1; its value at a patch's start multiplies the token.
        features : Tensor of shape (N, T, W), optional
            Point vectors of the patcher. This embedding does not read them.
        """
        tokens = self.projection(resample(series, segmentation, self.num_values, halo))
        length = segmentation.patch_lengths.clamp(min=1).to(series.dtype)
        log_ratio = (length / self.nominal_length).log()
        tokens = tokens + log_ratio[..., None] * self.length_weight
        if observed is not None:
            seen = pool_sum(observed[..., None].to(series.dtype), segmentation) > 0
            tokens = torch.where(seen, tokens, self.missing_token)
        return gated(tokens, segmentation, gate)


class AlignedEmbedding(nn.Module):
    """Embedding in which every time step of the look-back has its own vectors.

    Parameters
    ----------
    num_steps, d_model : int
        Length T of the look-back and token width D.
    nominal_length : int
        Patch length, in time steps, at which initial tokens are as large as PatchTST's tokens.

    Notes
    -----
    ``token = b + sum of (x_t w_t + e_t)`` over the observed steps t of the patch. A point therefore
    has the same effect wherever its patch starts, and the forecast can remain a linear function of
    the look-back under any segmentation. Resampling, in contrast, shifts and stretches points with
    their patch, which no linear map can undo. This embedding is original to this package; see
    docs/decisions/013-aligned-embedding.md.
    """

    def __init__(self, num_steps: int, d_model: int, nominal_length: int) -> None:
        super().__init__()
        limit = nominal_length**-0.5
        self.weight = nn.Parameter(torch.empty(num_steps, d_model).uniform_(-limit, limit))
        self.presence = nn.Parameter(torch.zeros(num_steps, d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (N, P, D); see `ResampleEmbedding`. The halo must be 0."""
        assert halo == 0
        num_rows, num_steps = series.shape
        row = torch.arange(num_rows, device=series.device)[:, None]
        # One bag of points per patch slot, with all rows joined in time order. Unused slots have
        # empty bags.
        first = (segmentation.patch_starts + num_steps * row).flatten()
        step = torch.arange(num_steps, device=series.device).repeat(num_rows)
        seen = torch.ones_like(series) if observed is None else observed.to(series.dtype)
        total = _sum(step, self.weight, first, series * seen)
        total = total + _sum(step, self.presence, first, seen)
        tokens = self.bias + total.view(num_rows, -1, total.shape[-1])
        return gated(tokens, segmentation, gate)


def _sum(index: Tensor, vectors: Tensor, first: Tensor, factor: Tensor) -> Tensor:
    """Sum vectors times factors over bags that begin at `first`, in the order of the bag."""
    factor = factor.flatten().to(vectors.dtype)
    return nn.functional.embedding_bag(index, vectors, first, mode="sum", per_sample_weights=factor)


class CombinedEmbedding(nn.Module):
    """Embedding whose tokens are the sums of those of two other embeddings.

    Parameters
    ----------
    resampled : ResampleEmbedding
        Embedding of the shape of a patch.
    aligned : AlignedEmbedding
        Embedding of the points of a patch by their time.

    Notes
    -----
    The resampled part makes patches of unlike length comparable; the aligned part keeps the
    forecast a linear function of the look-back under any segmentation. The halo is read by the
    resampled part only, so that the aligned part counts every point once. Own construction:
    docs/decisions/020-defaults.md.
    """

    def __init__(self, resampled: ResampleEmbedding, aligned: AlignedEmbedding) -> None:
        super().__init__()
        self.resampled, self.aligned = resampled, aligned

    def forward(
        self,
        series: Tensor,
        segmentation: Segmentation,
        *,
        halo: int = 0,
        observed: Tensor | None = None,
        gate: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Return tokens (N, P, D); see `ResampleEmbedding`."""
        tokens: Tensor = self.resampled(series, segmentation, halo=halo, observed=observed)
        tokens = tokens + self.aligned(series, segmentation, observed=observed)
        return gated(tokens, segmentation, gate)


EMBEDDINGS = ("aligned", "resampled", "both")
"""Kinds of embedding: `AlignedEmbedding`, `ResampleEmbedding` and `CombinedEmbedding`."""


def check_aligned(owner: object, values_per_patch: int | None, halo: int) -> None:
    """Raise `InvalidParameterError` if `AlignedEmbedding` cannot embed a patcher's patches."""
    if values_per_patch or halo:
        raise InvalidParameterError(
            "embedding='aligned' reads every point exactly once, without resampling. Got "
            f"values_per_patch={values_per_patch!r}, and patches of {owner!r} that overlap by "
            f"{halo} steps. Use patches without overlap and leave values_per_patch out, or use "
            "embedding='resampled'.",
            parameter="embedding",
        )
