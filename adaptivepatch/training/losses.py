"""Forecast losses, one number per row.

Tensor suffixes: N rows, H horizon, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError, suggest

RowLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Maps forecast (N, H) or (N, H, Q), target (N, H), observed (N, H) or None to (N,)."""

_POINT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda forecast, target: (forecast - target).square(),
    "mae": lambda forecast, target: (forecast - target).abs(),
    "huber": lambda forecast, target: F.huber_loss(forecast, target, reduction="none"),
}


def make_loss(name: str, quantiles: tuple[float, ...] | None = None) -> RowLoss:
    """Return the loss of a row, averaged over its observed target steps.

    Parameters
    ----------
    name : {"mse", "mae", "huber"}
        Point loss; Huber's threshold is 1 in the units of the scaled series.
    quantiles : tuple of float, optional
        Quantiles to train with the pinball loss, which then replaces the point loss.

    Returns
    -------
    callable
        Function described by `RowLoss`; it returns 0 for rows without an observed target.

    Raises
    ------
    InvalidParameterError
        If the name is unknown.
    """
    if not isinstance(name, str) or name not in _POINT:
        raise InvalidParameterError(
            f"Unknown loss {name!r}. Available: {sorted(_POINT)}.{suggest(name, _POINT)}",
            parameter="loss",
        )
    if quantiles is not None:
        wanted = torch.tensor(quantiles, dtype=torch.float64)
        return per_row(
            lambda forecast, target: pinball(forecast, target, wanted.to(forecast)).mean(-1)
        )
    return per_row(_POINT[name])


def per_row(loss: Callable[[Tensor, Tensor], Tensor]) -> RowLoss:
    """Return the loss of a row as the mean of an elementwise loss over its observed target steps.

    Parameters
    ----------
    loss : callable
        Function that maps forecast (N, H) or (N, H, Q) and target (N, H) to (N, H).
    """
    return lambda forecast, target, observed: _row_mean(
        loss(forecast, _known(target, observed)), observed
    )


def pinball(forecast: Tensor, target: Tensor, quantiles: Tensor) -> Tensor:
    """Return the quantile loss max(q e, (q - 1) e), (N, H, Q), with e = target - forecast."""
    error = target[..., None] - forecast
    return torch.maximum(quantiles * error, (quantiles - 1) * error)


def _known(target: Tensor, observed: Tensor | None) -> Tensor:
    """Set unobserved targets to 0, because even a masked NaN would reach the gradient."""
    return target if observed is None else torch.where(observed, target, torch.zeros_like(target))


def _row_mean(loss: Tensor, observed: Tensor | None) -> Tensor:
    if observed is None:
        return loss.mean(1)
    weight = observed.to(loss.dtype)
    return torch.where(observed, loss, torch.zeros_like(loss)).sum(1) / weight.sum(1).clamp(min=1)


def weighted_sum(row_loss: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sum of losses, weighted by shares of observed targets, and the sum of weights."""
    if observed is None:
        return row_loss.sum(), row_loss.new_tensor(float(len(row_loss)))
    weight = observed.to(row_loss.dtype).mean(1)
    return (row_loss * weight).sum(), weight.sum()
