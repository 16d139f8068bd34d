"""Segmentation of rows by a patcher outside a network.

Rows are normalised in the same way as in `adaptivepatch.network.PatchNetwork.segment`.

Tensor suffixes: N rows, T steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adaptivepatch.nn.layers.normalization import InstanceNorm
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.torch_state import plain_torch

ROWS_AT_ONCE = 256


class Cut(NamedTuple):
    """Result of `cut_rows`, on the CPU.

    Parameters
    ----------
    patches : Segmentation
        Most probable segmentation of each row.
    boundary_prob : Tensor of shape (N, T) or None
        Probability that a step starts a patch, in float64. None if the patcher does not provide it.
    series : Tensor of shape (N, T)
        Rows that the patcher was given: normalised, with filled gaps.
    observed : Tensor of bool, shape (N, T), or None
        False at gaps. None if every step is observed.
    """

    patches: Segmentation
    boundary_prob: Tensor | None
    series: Tensor
    observed: Tensor | None


@plain_torch()
def cut_rows(
    patcher: Patcher,
    rows: Tensor,
    group: Tensor | None = None,
    *,
    normalise: bool = True,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Cut:
    """Return the most probable patches of rows.

    Parameters
    ----------
    patcher : Patcher
        Patcher to apply. It is used in eval mode, and its previous mode is restored afterwards.
    rows : Tensor of shape (N, T)
        Look-backs with NaN at gaps.
    group : Tensor of int, shape (N,), optional
        Group of each row. Rows of a group share one segmentation, so the patcher is called once for
        all rows. Default: every row has its own segmentation.
    normalise : bool, default=True
        Whether to normalise every row by its own mean and standard deviation, as a network does.
    rows_at_once : int, default=256
        Number of rows in one call of the patcher.

    Returns
    -------
    Cut
        Patches and normalised rows.
    """
    rows = rows.to(next(patcher.parameters(), torch.zeros(())))
    norm = InstanceNorm(normalise)
    parts: list[Cut] = []
    was_training = patcher.training
    patcher.eval()
    for part in rows.split(rows_at_once if group is None else len(rows)):
        observed = torch.isfinite(part)
        known = None if bool(observed.all()) else observed
        series, _ = norm(part.nan_to_num(), known)
        distribution = patcher(series, known, None if group is None else group.to(part.device))
        prob = distribution.boundary_prob
        parts.append(
            Cut(
                distribution.mode.to("cpu"),
                None if prob is None else prob.to("cpu", torch.float64),
                series.cpu(),
                observed.cpu(),
            )
        )
    patcher.train(was_training)
    patches = [part.patches for part in parts]
    probs = [part.boundary_prob for part in parts if part.boundary_prob is not None]
    seen = torch.cat([part.observed for part in parts if part.observed is not None])
    return Cut(
        patches[0] if len(patches) == 1 else Segmentation.cat(patches),
        torch.cat(probs) if probs else None,
        torch.cat([part.series for part in parts]),
        None if bool(seen.all()) else seen,
    )
