"""Table of boundary measures of each series: number of patches, enrichment, churn, agreement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.boundaries.cutting import cut_rows
from adaptivepatch.boundaries.measures import Agreement, agreement, churn, enrichment, ranks
from adaptivepatch.boundaries.surprise import reference_forecaster, surprise
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.result_frames import series_frame
from adaptivepatch.data.sharing import Sharing, channel_groups
from adaptivepatch.errors import InvalidFrameError
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.segmentation import Segmentation

_WINDOWS = 32  # look-backs of each series, evenly spaced
_TOLERANCE = 1  # largest distance between boundaries that agree, in time steps


def report_boundaries(
    patcher: Patcher,
    panel: Panel,
    context_length: int,
    share_segmentation: Sharing = False,
    others: Sequence[Patcher] = (),
) -> pd.DataFrame:
    """Measure the boundaries of up to 32 look-backs of each series.

    Parameters
    ----------
    patcher : Patcher
        Patcher to measure. It is used in eval mode.
    panel : Panel
        Series of at least `context_length` + 1 steps.
    context_length : int
        Look-back T, in time steps.
    share_segmentation : bool or lists of str, default=False
        Channels of an item that share patches: all (True), none (False), or the channels of each
        list.
    others : sequence of Patcher, default=()
        Patchers whose boundaries are compared with those of `patcher`.

    Returns
    -------
    pandas.DataFrame
        Table that `adaptivepatch.segment` describes for ``by="series"``.

    Notes
    -----
    Surprise is the squared error of a `NextPointPredictor`, trained with a fixed seed on these
    look-backs. The columns whose names end in ``_z`` treat look-backs as independent although
    neighbouring look-backs overlap, so these columns give only orders of magnitude.
    """
    rows = _rows(panel, context_length)  # (items, windows, channels, T + 1)
    items, windows, channels, _ = rows.shape
    numbers, group = channel_groups(share_segmentation, panel.channels), None
    if numbers is not None:
        look = torch.arange(items * windows)[:, None]
        group = (look * channels + torch.tensor(numbers)).flatten()
    flat = torch.from_numpy(rows.reshape(-1, rows.shape[-1]))
    cut = cut_rows(patcher, flat[:, :-1], group)
    before, after = cut.patches, cut_rows(patcher, flat[:, 1:], group).patches
    series = cut.series.float()
    errors = surprise(reference_forecaster(series, cut.observed), series, cut.observed)
    found, ranked = enrichment(before, errors), enrichment(before, ranks(errors))

    def by_series(values: Tensor) -> NDArray[np.float64]:
        return values.double().numpy().reshape(items, windows, channels)

    patches, moved = by_series(before.num_patches), by_series(churn(before, after))
    columns: dict[str, NDArray[np.float64]] = {
        "windows": np.full((items, channels), windows),
        "patches": patches.mean(1),
        "compression_rate": context_length / patches.mean(1),
        "churn": moved.mean(1),
    }
    for name, measured in (("enrichment", found), ("rank_enrichment", ranked)):
        value, mean, std = (by_series(part) for part in measured)
        known = np.isfinite(value) & (std > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.where(known, value - mean, 0.0).sum(1)
            deviation = np.sqrt(np.where(known, std**2, 0.0).sum(1))
            columns[name] = np.where(known, value, 0.0).sum(1) / known.sum(1)
            columns[f"{name}_z"] = excess / deviation
    if others:
        columns["agreement"] = _agreement(before, others, flat[:, :-1], group, (items, channels))
    return series_frame(panel, columns)


def _rows(panel: Panel, context_length: int) -> NDArray[np.float64]:
    """Return look-backs with one more step, shape (items, windows, channels, T + 1)."""
    short = [n for n, rows in enumerate(panel.lengths) if rows <= context_length]
    if short:
        raise InvalidFrameError(
            f"Boundaries are measured in sliding look-backs, which need {context_length + 1} "
            f"steps, but series {panel.item_ids[short[0]]!r} has {int(panel.lengths[short[0]])} (a "
            "forecaster keeps only one look-back of each training series). Pass more of the "
            "series, use a shorter context_length, or leave the series out.",
            parameter="context_length",
        )
    parts = []
    for start, rows in zip(panel.row_offsets, panel.lengths, strict=False):
        last = rows - context_length - 1
        first = np.unique(np.linspace(0, last, _WINDOWS).round().astype(int))
        taken = first[np.linspace(0, len(first) - 1, _WINDOWS).round().astype(int)]
        index = start + taken[:, None] + np.arange(context_length + 1)
        parts.append(panel.values[index].transpose(0, 2, 1))
    rows = np.stack(parts)
    count = np.isfinite(rows[..., 1:-1]).sum(-1)
    if (count < 2).any():
        item, _, channel = np.argwhere(count < 2)[0]
        raise InvalidFrameError(
            "Every look-back must hold at least 2 observed steps, but a look-back of channel "
            f"{panel.channels[channel]!r} of series {panel.item_ids[item]!r} holds "
            f"{int(count.min())}. Leave the series out, or use a longer context_length.",
            parameter="context_length",
        )
    centred = rows - np.nanmean(rows, axis=-1, keepdims=True)  # float32 cannot hold large offsets
    size = np.nanmax(np.abs(centred), axis=-1, keepdims=True)
    return centred / np.where(size > 0, size, 1)


def _agreement(
    own: Segmentation,
    others: Sequence[Patcher],
    rows: Tensor,
    group: Tensor | None,
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """Return the agreement beyond chance, averaged over others, shape (items, channels)."""
    items, channels = shape
    found = np.empty((len(others), items, channels))
    for number, other in enumerate(others):
        theirs = cut_rows(other, rows, group).patches
        parts = [part.view(items, -1, channels) for part in agreement(own, theirs, _TOLERANCE)]
        for item, channel in np.ndindex(items, channels):
            of_series = Agreement(*(part[item, :, channel] for part in parts))
            found[number, item, channel] = of_series.beyond_chance
    return found.mean(0)
