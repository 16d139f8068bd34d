"""Networks that compute a logit for every candidate site of a row.

Their inputs are sites, not steps: the features of a site describe the interval up to the next site,
so the same weights serve every length of look-back and every compression rate.

Tensor suffixes: N rows, T steps, C sites, F features, W width, H horizon, G rollouts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.layers.convolution import convolve
from adaptivepatch.nn.layers.normalization import Scale
from adaptivepatch.nn.layers.transformer import PreNormLayer
from adaptivepatch.nn.policies.candidates import Sites

NUM_FEATURES = 11
_SIGNED = [0, 1, 3, 4]  # features that change sign with the series: value, step, mean, change


def site_features(series: Tensor, observed: Tensor | None, sites: Sites) -> Tensor:
    """Return the features of every site, shape (N, C, F).

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised look-backs with filled gaps.
    observed : Tensor of bool, shape (N, T), or None
        False at filled gaps. None: all steps are observed.
    sites : Sites
        Candidate sites.

    Notes
    -----
    The features, in this order: value at the site; difference from the previous point, and absolute
    value of this difference; mean of the interval up to the next site; difference from the mean of
    the previous interval, and absolute value of this difference; mean absolute deviation within the
    interval; share of observed points; time to the end of the look-back as a share of T; distance
    from the reference start of the site's block, divided by the distance between this reference
    start and the previous one; whether the site is a reference start.

    The network could compute the absolute values itself, but a policy is nearly linear at first.
    Without these features, it would start patches at rises but some steps before falls, and the
    forecaster would adapt to that. On task A of the planted boundaries, F1 is 0.48 after 1,400
    steps without absolute values, and 0.89 after 400 steps with them.
    """
    device, past = series.device, series.T  # steps come first, so that sums over intervals add rows
    position = torch.tensor(sites.positions, device=device)
    interval = torch.zeros(sites.num_steps, dtype=torch.long, device=device)
    interval = interval.index_fill_(0, position, 1).cumsum(0)
    length = interval.bincount().to(series.dtype)[:, None]

    def interval_means(values: Tensor) -> Tensor:
        total = values.new_zeros(len(length), values.shape[1])
        return total.index_add_(0, interval, values) / length

    mean = interval_means(past)  # (C + 1, N)
    spread = interval_means((past - mean[interval]).abs())[1:]
    value, before = past[position], past[position - 1]
    seen = torch.ones_like(value)
    if observed is not None:
        seen = interval_means(observed.T.to(series.dtype))[1:]
    step, change = value - before, mean[1:] - mean[:-1]
    of_values = [value, step, step.abs(), mean[1:], change, change.abs(), spread, seen]
    of_sites = [feature[:, None].expand_as(value) for feature in _site_constants(sites, series)]
    return torch.stack([*of_values, *of_sites], -1).transpose(0, 1)


def _site_constants(sites: Sites, like: Tensor) -> list[Tensor]:
    """Return the three features that do not depend on the series, each of shape (C,)."""
    position = torch.tensor(sites.positions, dtype=like.dtype, device=like.device)
    reference = torch.tensor(sites.reference, device=like.device)
    blocks = torch.tensor(sites.blocks, device=like.device)
    start = position[reference]
    length = F.pad(start, (1, 0)).diff()
    marks = torch.zeros_like(position)
    marks[reference] = 1
    return [1 - position / sites.num_steps, (position - start[blocks]) / length[blocks], marks]


class _SiteConvolution(nn.Conv2d):
    """One-dimensional convolution (kernel size 5) along candidate sites."""

    def __init__(self, num_features: int, width: int, dilation: int = 1) -> None:
        padding = (0, 2 * dilation)
        super().__init__(num_features, width, (1, 5), padding=padding, dilation=(1, dilation))

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, C, F) to (N, C, W)."""
        return convolve(super().forward, values)


class ConvolutionalBoundaryNetwork(nn.Module):
    """Network of two convolutions along the sites.

    Parameters
    ----------
    width : int
        Number W of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = _SiteConvolution(NUM_FEATURES, width)
        self.far = _SiteConvolution(width, width, dilation=4)
        self.logit = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.logit.weight, std=0.01)

    def hidden(self, features: Tensor) -> Tensor:
        """Map features (N, C, F) to hidden vectors (N, C, W)."""
        near = F.relu(self.near(features))
        return near + F.relu(self.far(near))


class NormedBoundaryNetwork(ConvolutionalBoundaryNetwork):
    """`ConvolutionalBoundaryNetwork` with a LayerNorm and equal outputs for a series and -series.

    It is meant for series with spikes. With the LayerNorm, a logit depends on the pattern of a
    site's features and not on their size, so that training on spikes has less effect on smaller
    changes. The hidden vectors of the series and of its negative are added, which treats rises and
    falls alike.

    Parameters
    ----------
    width : int
        Number W of channels.
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
    """Network of one convolution and two pre-norm encoder layers over the sites.

    Parameters
    ----------
    width : int
        Width W, which must be a multiple of 4, the number of heads.

    Raises
    ------
    InvalidParameterError
        If the width is not a multiple of 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise InvalidParameterError(
                "The policy network 'transformer' has 4 heads, so its width must be a multiple of "
                f"4. Got width={width}. Use {4 * (width // 4 + 1)}.",
                parameter="width",
            )
        self.near = _SiteConvolution(NUM_FEATURES, width)
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
    """Linear forecaster that does not see patches: a baseline that is independent of the action."""

    _PAST, _FUTURE = (
        32,
        16,
    )  # numbers of means of the look-back and of constant pieces of the forecast

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
        """Return the mean squared error (R,) over observed targets, in squared units of `target`.

        Parameters
        ----------
        series : Tensor of shape (R, T)
            Normalised look-backs. R is N, or G * N if every rollout has its own series.
        target : Tensor of shape (N, H)
            Futures, not normalised.
        target_observed : Tensor of bool, shape (N, H), or None
            True at observed targets. None: all targets are observed.
        scale : Scale or None
            Mean and standard deviation by which `series` was normalised. None: `series` was not
            normalised.
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
