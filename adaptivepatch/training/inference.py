"""Prediction in micro-batches of one fixed size.

Tensor suffixes: W windows, C channels, N rows, T steps, H horizon, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adaptivepatch.network import PatchNetwork
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.torch_state import plain_torch
from adaptivepatch.training.devices import autocast

Lookbacks = Callable[[Tensor], tuple[Tensor, Tensor | None, Tensor | None]]
"""Maps window numbers (w,) to series (n, T), observed (n, T) or None, group (n,) or None."""


@plain_torch()
def predict_windows(
    network: PatchNetwork,
    lookbacks: Lookbacks,
    windows: Tensor,
    rows_per_window: int = 1,
    precision: torch.dtype | None = None,
) -> Tensor:
    """Forecast windows; a window's forecast has the same bits whatever the other windows are.

    Parameters
    ----------
    network : PatchNetwork
        Trained network; it is set to eval mode.
    lookbacks : callable
        Function that returns look-backs; see `Lookbacks`.
    windows : Tensor of int, shape (W,)
        Numbers of the windows to forecast.
    rows_per_window : int, default=1
        Number of rows per window, which is the number of channels C.
    precision : torch.dtype, optional
        Lower precision to compute in.

    Returns
    -------
    Tensor of shape (W * C, H) or (W * C, H, Q)
        Forecasts on the CPU, in the units of the look-backs.

    Notes
    -----
    The rounding of a matrix product depends on its number of rows. All micro-batches therefore have
    the same size: the last micro-batch is filled with repeats of its first window. Rows are added
    up to a multiple of 8, because rows beyond a multiple of 8 are computed by other kernels (see
    also `nn.layers.linear`). Forecasts are equal bit for bit on one CPU thread, if the head's width
    is a multiple of 4.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for chunk, size in _micro_batches(windows, rows_per_window, device):
        rows = _whole_rows(*lookbacks(chunk))
        with autocast(device, precision):
            forecast = network(*rows)
        parts.append(forecast[: size * rows_per_window].to("cpu", torch.float64))
    return torch.cat(parts)


@plain_torch()
def segment_windows(
    network: PatchNetwork, lookbacks: Lookbacks, windows: Tensor, rows_per_window: int = 1
) -> Segmentation:
    """Return the segmentation that `predict_windows` uses: W * C rows of all levels, on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for chunk, size in _micro_batches(windows, rows_per_window, device):
        mode = network.segment(*_whole_rows(*lookbacks(chunk)))[1].mode
        parts.append(mode.select(slice(0, size * rows_per_window)).to("cpu"))
    return Segmentation.cat(parts)


@plain_torch()
def window_boundary_prob(
    network: PatchNetwork, lookbacks: Lookbacks, windows: Tensor, rows_per_window: int = 1
) -> Tensor | None:
    """Return the probability that a step starts a patch, shape (W * C, T), on the CPU.

    Return None if the patcher does not provide probabilities.
    """
    network.eval()
    device = next(network.parameters()).device
    parts = []
    for chunk, size in _micro_batches(windows, rows_per_window, device):
        prob = network.segment(*_whole_rows(*lookbacks(chunk)))[1].boundary_prob
        if prob is None:
            return None
        parts.append(prob[: size * rows_per_window].to("cpu", torch.float64))
    return torch.cat(parts)


def _micro_batches(
    windows: Tensor, rows_per_window: int, device: torch.device
) -> list[tuple[Tensor, int]]:
    rows = 64 if device.type == "cpu" else 4096
    size = max(1, rows // rows_per_window)
    chunks = []
    for chunk in windows.split(size):
        filled = torch.cat([chunk, chunk[:1].expand(size - len(chunk))])
        chunks.append((filled, len(chunk)))
    return chunks


def _whole_rows(
    series: Tensor, observed: Tensor | None, group: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Append repeats of the first row, as a new group, up to a multiple of 8 rows."""
    missing = -len(series) % 8
    if not missing:
        return series, observed, group
    series = torch.cat([series, series[:1].expand(missing, -1)])
    if observed is not None:
        observed = torch.cat([observed, observed[:1].expand(missing, -1)])
    if group is not None:
        group = torch.cat([group, (group.max() + 1).expand(missing)])
    return series, observed, group
