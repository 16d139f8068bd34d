"""Exponential smoothing along a sequence, in a logarithmic number of steps.

Reference: S. Hwang, B. Wang, A. Gu, "Dynamic Chunking for End-to-End Hierarchical Sequence
Modeling", arXiv:2507.07955 (2025), equation of the dechunking layer.

Tensor suffixes: N rows, P elements of the sequence, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

EDGE = 1e-4
"""Smallest distance of a share from 0 and from 1."""


def smooth(values: Tensor, share: Tensor) -> Tensor:
    """Smooth a sequence exponentially, with a weight per element.

    Parameters
    ----------
    values : Tensor of shape (N, P, D)
        Elements v.
    share : Tensor of shape (N, P)
        Weight s of each element; clamped to [1e-4, 1 - 1e-4].

    Returns
    -------
    Tensor of shape (N, P, D)
        Sequence z with ``z_k = s_k v_k + (1 - s_k) z_{k-1}`` and ``z_{-1} = 0``, in at least
        float32.

    Notes
    -----
    The method is a prefix scan in ceil(log2 P) passes, which join neighbouring runs of 1, 2, 4, ...
    elements. It needs no logarithms, so the gradient is exact near s = 1.
    """
    exact = torch.promote_types(values.dtype, torch.float32)
    share = share.to(exact).clamp(EDGE, 1 - EDGE)[..., None]
    added, kept, reach = share * values.to(exact), 1 - share, 1
    while reach < values.shape[1]:
        before = F.pad(added[:, :-reach], (0, 0, reach, 0))
        added = torch.addcmul(added, kept, before)
        kept = kept * F.pad(kept[:, :-reach], (0, 0, reach, 0), value=1.0)
        reach *= 2
    return added
