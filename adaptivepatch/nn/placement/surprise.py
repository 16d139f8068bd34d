"""Small causal forecaster of the next value, which measures how surprising each step is.

Tensor suffixes: N rows, T steps, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST_SCALE = 1e-3  # in standard deviations of a row
_DILATIONS = (1, 2, 4, 8)
_TAPS = 3


class NextPointPredictor(nn.Module):
    """Forecaster that predicts a normal distribution for every step from the steps before it.

    Parameters
    ----------
    width : int, default=16
        Number W of channels.

    Notes
    -----
    Four causal convolutions of three taps with dilations 1, 2, 4 and 8 on residual branches read
    the 31 steps before a step. The mean is predicted as an offset to the last value. Standard
    deviations are at least 1e-3, in the units of the normalised rows.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        # With channels last, these layers take a third of the time of `nn.Conv1d` on a CPU.
        self.lift = nn.Conv2d(2, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, (1, _TAPS), dilation=(1, dilation)) for dilation in _DILATIONS
        )
        self.head = nn.Conv2d(width, 2, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast every step of normalised rows (N, T) from the steps before it.

        Returns
        -------
        mean, log_scale : Tensor of shape (N, T)
            Parameters of the distribution. Entry t depends only on the steps before t, and entry 0
            on no step.
        """
        before = F.pad(series[:, :-1], (1, 0))  # entry t holds step t - 1
        change = F.pad(before.diff(dim=1), (1, 0))
        given = torch.stack([before, change], 1)[:, :, None]  # (N, 2, 1, T)
        hidden = self.lift(given.contiguous(memory_format=torch.channels_last))
        for layer, dilation in zip(self.layers, _DILATIONS, strict=True):
            past = F.pad(hidden, ((_TAPS - 1) * dilation, 0))
            hidden = hidden + F.gelu(layer(past))
        offset, raw = self.head(hidden)[:, :, 0].unbind(1)
        scale = F.softplus(raw + math.log(math.e - 1)) + _SMALLEST_SCALE  # about 1 at first
        return before + offset, scale.log()

    def entropy(self, series: Tensor) -> Tensor:
        """Return the differential entropy of the forecast of every step in nats, shape (N, T)."""
        return self(series)[1] + 0.5 * math.log(2 * math.pi * math.e)

    def surprisal(self, series: Tensor) -> Tensor:
        """Return -log p of every step, given the steps before it, in nats, shape (N, T)."""
        mean, log_scale = self(series)
        return _surprisal(series, mean, log_scale)

    def squared_error(self, series: Tensor) -> Tensor:
        """Return the squared error of the mean of every step, shape (N, T)."""
        return (series - self(series)[0]).square()

    def tail_probability(self, series: Tensor) -> Tensor:
        """Return the probability (N, T) of values farther from the mean than the actual value."""
        mean, log_scale = self(series)
        score = (series - mean).abs() * (-log_scale).exp()
        return torch.special.erfc(score / math.sqrt(2))

    def loss(self, series: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the mean surprisal of the observed steps after the first.

        Parameters
        ----------
        series : Tensor of shape (N, T)
            Normalised look-backs with filled gaps.
        observed : Tensor of bool, shape (N, T), optional
            True at observed steps. A step counts if the step itself and the previous step are
            observed. None: all steps are observed.
        """
        surprisal = self.surprisal(series)[:, 1:]
        if observed is None:
            return surprisal.mean() if surprisal.numel() else surprisal.sum()
        counted = (observed[:, 1:] & observed[:, :-1]).to(surprisal.dtype)
        return (surprisal * counted).sum() / counted.sum().clamp(min=1)


def _surprisal(series: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    score = (series - mean) * (-log_scale).exp()
    return log_scale + 0.5 * score.square() + 0.5 * math.log(2 * math.pi)


def fit_next_point(
    predictor: NextPointPredictor,
    series: Tensor,
    observed: Tensor | None,
    generator: torch.Generator,
    *,
    num_steps: int = 300,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
) -> list[float]:
    """Train a predictor in place, without using torch's global generator.

    Parameters
    ----------
    predictor : NextPointPredictor
        Predictor to train, from its current weights.
    series : Tensor of shape (N, T)
        Normalised look-backs with filled gaps.
    observed : Tensor of bool, shape (N, T), or None
        True at observed steps. None: all steps are observed.
    generator : torch.Generator
        Generator that draws the rows of each batch.
    num_steps, batch_size : int
        Number of AdamW steps, and number of rows per batch.
    learning_rate : float, default=3e-3
        Initial learning rate, which decays to zero along a cosine.

    Returns
    -------
    list of float
        Loss of every step.
    """
    losses = []
    with torch.enable_grad():
        weights = [weight.requires_grad_() for weight in predictor.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=learning_rate)
        for step in range(num_steps):
            share = 0.5 * (1 + math.cos(math.pi * step / num_steps))
            optimizer.param_groups[0]["lr"] = learning_rate * share
            rows = torch.randint(
                len(series), (batch_size,), generator=generator, device=generator.device
            ).to(series.device)
            loss = predictor.loss(series[rows], None if observed is None else observed[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses
