"""`segment`: the patches of a patcher without a forecaster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from adaptivepatch.boundaries.cutting import cut_rows
from adaptivepatch.boundaries.report import report_boundaries
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.panel import Panel
from adaptivepatch.data.result_frames import segmentation_frame
from adaptivepatch.data.sharing import Sharing, channel_groups, check_sharing
from adaptivepatch.data.windows import last_lookbacks
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidParameterError,
    check_choice,
    check_int,
)
from adaptivepatch.keywords import helpful
from adaptivepatch.patchers.base import Patcher


@helpful
def segment(
    patcher: Patcher,
    data: pd.DataFrame | pd.Series[Any] | ArrayLike,
    context_length: int = 336,
    *,
    item_id: str = "item_id",
    timestamp: str = "timestamp",
    target: Any = None,
    freq: Any = None,
    share_segmentation: Sharing = False,
    by: Literal["patch", "series"] = "patch",
    others: Sequence[Patcher] = (),
) -> pd.DataFrame:
    """Return the patches of a patcher in the last look-back of each series.

    Parameters
    ----------
    patcher : Patcher
        Patcher, for example a result of `load_patcher`.
    data : pandas.DataFrame or array
        Wide or long frame, as for `Forecaster.fit`, or array of shape (steps,) or (series, steps).
        Gaps and NaN count as unobserved steps.
    context_length : int, default=336
        Look-back T, in time steps. Shorter series are padded and masked.
    item_id, timestamp : str
        Names of the key columns.
    target : str or sequence of str, optional
        Channels. Default: every column that is not a key.
    freq : str, pandas offset or int, optional
        Length of one time step, if it cannot be inferred.
    share_segmentation : bool or lists of str, default=False
        Channels of an item that share patches: all (True), none (False), or the channels of each
        list.
    by : {"patch", "series"}, default="patch"
        Kind of rows to return.
    others : sequence of Patcher, default=()
        Patchers whose boundaries are compared with those of `patcher` if ``by="series"``, for
        example patchers trained with other seeds.

    Returns
    -------
    pandas.DataFrame
        By patch, as in `Forecaster.segment`: item_id, target_name, patch (0 for the oldest one),
        start and end (timestamps of the first and last step of the patch), length in time steps,
        and boundary_prob (probability that the patch starts there) if the patcher provides it.

        By series, with means over up to 32 look-backs: patches (number of patches),
        compression_rate, churn (share of boundaries that change when the look-back slides by one
        step), enrichment (mean squared error of a one-step forecast at boundaries, divided by the
        mean over all steps; 1 if boundaries and errors are unrelated), enrichment_z (excess of the
        enrichment over that of circularly shifted boundaries, in standard deviations),
        rank_enrichment and rank_enrichment_z (the same for the ranks of the errors) and, with
        `others`, agreement (share of boundaries that match within one step, corrected for chance: 1
        for equal boundaries, 0 as by chance). See `adaptivepatch.boundaries.measures`.

    Raises
    ------
    InvalidFrameError
        If the data do not describe regular series with at least 2 observed points, or, by series,
        with more than `context_length` steps.
    InvalidParameterError
        If a parameter is out of range, or `others` is given without ``by="series"``.

    Examples
    --------
    >>> import numpy as np
    >>> from adaptivepatch import FixedPatcher, segment
    >>> segment(FixedPatcher(4), np.arange(20.0), context_length=12)["length"].tolist()
    [4, 4, 4]
    """
    for given in (patcher, *others):
        if not isinstance(given, Patcher):
            raise TypeError(f"segment needs a Patcher instance. Got {given!r} instead.")
    check_int(None, low=2, context_length=context_length)
    check_sharing(None, share_segmentation)
    frame = data if isinstance(data, pd.DataFrame | pd.Series) else _as_frame(data, item_id)
    columns: dict[str, Any] = {"item_id": item_id, "timestamp": timestamp, "target": target}
    panel = read_frame(frame, **columns, missing="mask", freq=freq, require_observed=False)
    check_choice(None, ("patch", "series"), by=by)
    if others and by != "series":
        raise InvalidParameterError(
            f"The argument others needs by='series'. Got by={by!r}. Use by='series', or leave "
            "others out.",
            parameter="by",
        )
    if by == "series":
        return report_boundaries(patcher, panel, context_length, share_segmentation, others)
    rows = _rows(panel, context_length)
    group, numbers = None, channel_groups(share_segmentation, panel.channels)
    if numbers is not None:
        item = torch.arange(panel.num_items)[:, None]
        group = (item * panel.num_channels + torch.tensor(numbers)).flatten()
    cut = cut_rows(patcher, rows, group)
    shape = (panel.num_items, panel.num_channels, -1)
    prob = None if cut.boundary_prob is None else cut.boundary_prob.numpy().reshape(shape)
    return segmentation_frame(panel, cut.patches.patch_lengths.numpy().reshape(shape), prob)


def _as_frame(data: ArrayLike, item_id: str) -> pd.DataFrame:
    """Return arrays of shape (steps,) or (series, steps) as a long frame."""
    values = np.asarray(data)
    if values.ndim not in (1, 2) or values.size == 0:
        raise InvalidFrameError(
            "An array must have shape (steps,) or (series, steps). Its shape is "
            f"{values.shape!r}. Pass several channels as a DataFrame."
        )
    values = np.atleast_2d(values)
    count, steps = values.shape
    columns = {
        item_id: np.arange(count).repeat(steps),
        "timestamp": np.tile(np.arange(steps), count),
        "target": values.ravel(),
    }
    return pd.DataFrame(columns)


def _rows(panel: Panel, context_length: int) -> torch.Tensor:
    """Return the last look-backs, shape (rows, T), each in units of its own standard deviation."""
    windows = last_lookbacks(panel, context_length, 1, "A segmentation")
    past = windows.past().transpose(0, 2, 1)  # (items, T, C) -> (items, C, T)
    past = past.reshape(-1, past.shape[-1])
    centred = past - np.nanmean(past, axis=1, keepdims=True)
    size = np.nanmax(np.abs(centred), axis=1, keepdims=True)  # squares of tiny numbers underflow
    centred = centred / np.where(size > 0, size, 1)
    std = np.nanstd(centred, axis=1, keepdims=True)
    return torch.from_numpy(centred / np.where(std > 0, std, 1))
