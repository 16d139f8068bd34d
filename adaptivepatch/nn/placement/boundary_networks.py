"""Networks that give every candidate site of a row a logit.

They know sites, not steps: the features of a site describe the cell up to the next site, so that
one set of weights serves every look-back and every compression rate.

Tensor suffixes: N rows, T steps, C sites, F features, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.normalization import Scale
from adaptivepatch.nn.layers.transformer import PreNormLayer
from adaptivepatch.nn.policies.candidates import Sites

NUM_FEATURES = 11
_SIGNED = [0, 1, 3, 4]  # value, step, mean and its change


def site_features(series: Tensor, observed: Tensor | None, sites: Sites) -> Tensor:
    """Describe every site, shape (N, C, F).

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised, gaps filled.
    observed : Tensor of bool, shape (N, T), or None
        False at filled gaps.
    sites : Sites
        C sites.

    Notes
    -----
    Value at the site; step from the point before, and its size; mean of the cell, its change, the
    size of that, and the mean distance of the cell's points from it; share of observed points; time
    to the origin (as a share of T); place within the block; whether the site is a reference start.

    Sizes are there although the network could form them: a policy is nearly linear when it starts
    to learn, and without them it would put starts at rises but some steps before falls, to which
    the forecaster then adapts (planted boundaries, task A: F1 0.48 after 1,400 steps, 0.89 after
    400 with sizes).
    """
    device, past = series.device, series.T  # steps first: sums over cells add whole rows
    position = torch.tensor(sites.positions, device=device)
    cell = torch.zeros(sites.num_steps, dtype=torch.long, device=device)
    cell = cell.index_fill_(0, position, 1).cumsum(0)
    length = cell.bincount().to(series.dtype)[:, None]

    def over_cells(values: Tensor) -> Tensor:
        return values.new_zeros(len(length), values.shape[1]).index_add_(0, cell, values) / length

    mean = over_cells(past)  # (C + 1, N)
    spread = over_cells((past - mean[cell]).abs())[1:]
    value, before = past[position], past[position - 1]
    seen = torch.ones_like(value)
    if observed is not None:
        seen = over_cells(observed.T.to(series.dtype))[1:]
    step, change = value - before, mean[1:] - mean[:-1]
    changing = [value, step, step.abs(), mean[1:], change, change.abs(), spread, seen]
    fixed = [place[:, None].expand_as(value) for place in _places(sites, series)]
    return torch.stack([*changing, *fixed], -1).transpose(0, 1)


def _places(sites: Sites, like: Tensor) -> list[Tensor]:
    """Return time to the origin, place within the block and the mark of reference starts."""
    position = torch.tensor(sites.positions, dtype=like.dtype, device=like.device)
    reference = torch.tensor(sites.reference, device=like.device)
    blocks = torch.tensor(sites.blocks, device=like.device)
    start = position[reference]
    length = F.pad(start, (1, 0)).diff()
    marks = torch.zeros_like(position)
    marks[reference] = 1
    return [1 - position / sites.num_steps, (position - start[blocks]) / length[blocks], marks]


class _Along(nn.Conv2d):
    """Convolution of five taps along the sites: (N, C, F) to (N, C, W).

    Two-dimensional with channels last, which on a CPU takes a third of the time of `nn.Conv1d`.
    """

    def __init__(self, num_features: int, width: int, dilation: int = 1) -> None:
        padding = (0, 2 * dilation)
        super().__init__(num_features, width, (1, 5), padding=padding, dilation=(1, dilation))

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, C, F) to (N, C, W)."""
        image = values.transpose(1, 2)[:, :, None]
        mixed = super().forward(image.contiguous(memory_format=torch.channels_last))
        return mixed[:, :, 0].transpose(1, 2)


class ConvolutionalBoundaryNetwork(nn.Module):
    """Two convolutions along the sites.

    Parameters
    ----------
    width : int
        Channels W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = _Along(NUM_FEATURES, width)
        self.far = _Along(width, width, dilation=4)
        self.logit = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=0.01)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, C, F) to hidden vectors (N, C, W)."""
        near = F.relu(self.near(features))
        return near + F.relu(self.far(near))


class NormedBoundaryNetwork(ConvolutionalBoundaryNetwork):
    """Two convolutions along the sites, alike for a series and its mirror image, and a LayerNorm.

    For series with spikes: a logit then depends on what a site looks like, not on how large it is,
    so that what is learnt of a spike says less about the changes that are smaller. The hidden
    vectors of the series and of its negative are added, so rises and falls are found alike.

    Parameters
    ----------
    width : int
        Channels W.
    """

    mirror: Tensor  # -1 for the features that change sign with the series, 1 for the others

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(width)
        mirror = torch.ones(NUM_FEATURES)
        mirror[_SIGNED] = -1
        self.register_buffer("mirror", mirror, persistent=False)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, C, F) to hidden vectors (N, C, W)."""
        both = torch.cat([features, features * self.mirror])
        as_is, mirrored = super().hidden(both).chunk(2)
        return self.norm(as_is + mirrored)


class TransformerBoundaryNetwork(nn.Module):
    """Two pre-norm encoder layers over the sites, behind one convolution.

    Parameters
    ----------
    width : int
        Width W; a multiple of 4, the number of heads.

    Raises
    ------
    InvalidParameterError
        If it is not.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise InvalidParameterError(
                f"The network 'transformer' of a policy has 4 heads, so its width must be a "
                f"multiple of 4. Got width={width}. Use {4 * (width // 4 + 1)}."
            )
        self.near = _Along(NUM_FEATURES, width)
        self.layers = nn.ModuleList(PreNormLayer(width, 4, 2 * width, 0.0) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.logit = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=0.01)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, C, F) to hidden vectors (N, C, W)."""
        tokens = F.relu(self.near(features))
        for layer in self.layers:
            tokens = layer(tokens, None)
        return self.norm(tokens)


class EarlyExit(nn.Module):
    """A linear forecaster that never sees patches: a baseline independent of the action."""

    _PAST, _FUTURE = 32, 16  # cells

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(self._PAST, self._FUTURE)

    def forward(self, series: Tensor, horizon: int) -> Tensor:
        """Map normalised look-backs (N, T) to piecewise constant forecasts (N, H)."""
        past = F.adaptive_avg_pool1d(series[:, None], self._PAST)
        future = self.projection(past)
        return F.interpolate(future, size=horizon, mode="nearest")[:, 0]

    def row_loss(
        self, series: Tensor, target: Tensor, target_observed: Tensor | None, scale: Scale | None
    ) -> Tensor:
        """Return the mean squared error (R,) over observed targets, in their units.

        Parameters
        ----------
        series : Tensor of shape (R, T)
            Normalised. R is N, or G * N where rollouts have series of their own.
        target : Tensor of shape (N, H)
            Not normalised.
        target_observed : Tensor of bool, shape (N, H), or None
            None: all are.
        scale : Scale or None
            What normalisation took out of `series`.
        """
        forecast, copies = self(series, target.shape[1]), len(series) // len(target)
        if copies > 1:
            target = target.repeat(copies, 1)
            scale = None if scale is None else scale.repeat(copies)
            if target_observed is not None:
                target_observed = target_observed.repeat(copies, 1)
        if scale is not None:
            forecast = forecast * scale.std + scale.mean
        if target_observed is None:
            return (forecast - target).square().mean(1)
        square = torch.where(target_observed, forecast - target, 0.0).square()
        return square.sum(1) / target_observed.sum(1).clamp(min=1)
