"""Small objects that several test files need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.network import build_network
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.registry import BACKBONES
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.sampler import SeriesSource


def small_backbone(name, dropout=0.0, d_model=8):
    """A backbone of a few parameters, whatever the defaults of its class."""
    sizes = {"d_model": d_model, "num_layers": 2, "num_heads": 2, "d_ff": 16, "dropout": dropout}
    return BACKBONES[name](**sizes)


def small_network(
    backbone="transformer",
    patcher=None,
    *,
    context_length=24,
    horizon=4,
    quantiles=None,
    dropout=0.0,
    dtype=torch.float64,
    seed=0,
    d_model=8,
    **options,
):
    """A network with seeded weights; positions and biases are away from their initial zeros."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            FixedPatcher(4) if patcher is None else patcher,
            small_backbone(backbone, dropout, d_model),
            context_length=context_length,
            horizon=horizon,
            quantiles=quantiles,
            **options,
        ).to(dtype)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        series = torch.randn(32, context_length, dtype=dtype).cumsum(1)
        network.patcher.prepare(series, None, torch.Generator().manual_seed(int(seed)))
    return network


def random_mask(num_rows, num_steps, share=0.3, seed=0):
    """Boundary masks with step 0 set."""
    mask = torch.rand(num_rows, num_steps, generator=torch.Generator().manual_seed(seed)) < share
    mask[:, 0] = True
    return mask


def series_source(
    num_steps=120,
    num_channels=1,
    gaps=0.0,
    *,
    context_length=24,
    horizon=4,
    seed=0,
    dtype=torch.float64,
    share_segmentation=False,
):
    """Noisy sines on the CPU, a share of their steps unobserved."""
    rng = np.random.default_rng(seed)
    step = np.arange(num_steps)[:, None]
    values = np.sin(step / 3 + np.arange(num_channels)) + 0.1 * rng.normal(
        size=(num_steps, num_channels)
    )
    values[rng.random(values.shape) < gaps] = np.nan
    source = SeriesSource(
        values,
        context_length,
        horizon,
        device=torch.device("cpu"),
        dtype=dtype,
        channel_groups=[0] * num_channels if share_segmentation else None,
    )
    return source, torch.arange(num_steps - context_length - horizon + 1)


@st.composite
def segmentations(draw, max_rows=4, max_steps=24):
    """Segmentations of random masks, shared ones and padded ones among them."""
    num_rows = draw(st.integers(1, max_rows))
    num_steps = draw(st.integers(1, max_steps))
    bits = st.lists(st.booleans(), min_size=num_steps, max_size=num_steps)
    if draw(st.booleans()):
        mask = torch.tensor([draw(bits)]).expand(num_rows, -1)
        mask = torch.cat([torch.ones_like(mask[:1, :1]), mask[:1, 1:]], 1).expand(num_rows, -1)
    else:
        mask = torch.tensor([draw(bits) for _ in range(num_rows)])
        mask[:, 0] = True
    extra = draw(st.integers(0, 2))
    largest = int(mask.sum(1).max())
    return Segmentation(mask, capacity=largest + extra)


__all__ = [
    "PatchTSTBackbone",
    "TransformerBackbone",
    "random_mask",
    "segmentations",
    "series_source",
    "small_backbone",
    "small_network",
]


def daily_frame(rows=260, channels=("a", "b"), seed=0, freq="h"):
    """A wide frame of noisy days; channels have phases and levels of their own."""
    generator = np.random.default_rng(seed)
    steps = np.arange(rows)
    columns = {
        name: 10 * (k + 1) + np.sin(steps * np.pi / 12 + k) + generator.normal(0, 0.1, rows)
        for k, name in enumerate(channels)
    }
    return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=rows, freq=freq))


def with_parent(segmentation, parent):
    """Attach the next coarser level."""
    return replace(segmentation, parent=parent)
