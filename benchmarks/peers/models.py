"""PatchTST of four libraries with the same shape, and functions that do one bare training step.

A bare step is zero_grad, forward pass, mean squared error, backward pass and AdamW on one fixed
batch of 128 windows x 7 channels = 896 rows.

Places of dropout, all active in training (in every encoder layer, except for tokens and head):

* ours, PatchTST: tokens 0.3; attention branch once with 0.51, which equals the two times 0.3 of the
  publication; middle of the feed-forward block 0.3; its end 0.3. Rates are multiples of 1/256.
* ours, Transformer: tokens, attention branch, middle and end of the feed-forward block, 0.3 each.
* transformers: ``positional_dropout`` (tokens), ``path_dropout`` (attention branch and end of the
  feed-forward block) and ``ff_dropout`` (its middle), 0.3 each; attention weights and head 0.
* NeuralForecast: ``dropout``: tokens, attention branch twice, middle and end of the feed-forward
  block, 0.3 each; ``attn_dropout``, ``fc_dropout`` and ``head_dropout`` 0.
* GluonTS: 0.3 on attention weights, attention branch, middle and end of the feed-forward block;
  none on tokens. It has one setting for all of them, so that attention weights cannot be excluded.

Differences that remain: transformers has no padding at the end (41 tokens instead of 42, 63 instead
of 64) and no residual attention, and projects queries, keys and values separately; GluonTS has
LayerNorm, a head of 16 times the width and a Student t likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.network import build_network
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from adaptivepatch.training.trainer import Trainer

HORIZON, WINDOWS, CHANNELS = 96, 128, 7
SHAPE = {"d_model": 16, "num_layers": 3, "num_heads": 4, "d_ff": 128, "dropout": 0.3}
PATCH = {"patch_length": 16, "stride": 8}
BACKBONES = {"ours": PatchTSTBackbone, "ours_transformer": TransformerBackbone}


@dataclass
class Subject:
    """A bare step to time, and the columns that describe its model."""

    step: Callable[[], object]
    parameters: int
    tokens: int
    version: str


def bare(library: str, look_back: int) -> Subject:
    """Build the model of a library and return its bare training step."""
    torch.default_generator.manual_seed(0)
    past = torch.randn(WINDOWS, look_back, CHANNELS).cumsum(1)
    future = torch.randn(WINDOWS, HORIZON, CHANNELS)
    if library in BACKBONES:
        return _ours(BACKBONES[library](**SHAPE), past, future)
    build = {"transformers": _transformers, "neuralforecast": _neuralforecast, "gluonts": _gluonts}
    model, loss, tokens = build[library](past, future)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return Subject(step, _size(model), tokens, version(library))


def rows(windows: Tensor) -> Tensor:
    """Return windows (B, T, C) as rows (B * C, T)."""
    return windows.transpose(1, 2).flatten(0, 1)


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _ours(backbone: nn.Module, past: Tensor, future: Tensor) -> Subject:
    patcher, look_back = FixedPatcher(**PATCH), past.shape[1]
    network = build_network(patcher, backbone, context_length=look_back, horizon=HORIZON).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
    training, generator = TrainingStep(network, make_loss("mse")), torch.Generator().manual_seed(0)
    batch = Batch(rows(past), None, rows(future), None, None)
    return Subject(
        lambda: train_step(training, optimizer, batch, generator=generator),
        _size(network),
        patcher.capacity(look_back),
        version("adaptivepatch-forecasting"),
    )


Built = tuple[nn.Module, Callable[[], Tensor], int]


def _transformers(past: Tensor, future: Tensor) -> Built:
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    p, look_back = SHAPE["dropout"], past.shape[1]
    model = PatchTSTForPrediction(
        PatchTSTConfig(
            num_input_channels=CHANNELS,
            context_length=look_back,
            prediction_length=HORIZON,
            patch_length=PATCH["patch_length"],
            patch_stride=PATCH["stride"],
            d_model=SHAPE["d_model"],
            num_hidden_layers=SHAPE["num_layers"],
            num_attention_heads=SHAPE["num_heads"],
            ffn_dim=SHAPE["d_ff"],
            norm_type="batchnorm",
            positional_dropout=p,
            path_dropout=p,
            ff_dropout=p,
            attention_dropout=0.0,
            head_dropout=0.0,
            pooling_type=None,
            scaling="std",
            loss="mse",
        )
    )
    tokens = (look_back - PATCH["patch_length"]) // PATCH["stride"] + 1
    return model, lambda: model(past_values=past, future_values=future).loss, tokens


def _neuralforecast(past: Tensor, future: Tensor) -> Built:
    model = _neuralforecast_model(past.shape[1], max_steps=1)
    series, target = rows(past)[..., None], rows(future)[..., None]
    tokens = (past.shape[1] - PATCH["patch_length"]) // PATCH["stride"] + 2

    def loss() -> Tensor:
        return (model({"insample_y": series}) - target).square().mean()

    return model, loss, tokens


def _neuralforecast_model(look_back: int, max_steps: int) -> nn.Module:
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import PatchTST

    return PatchTST(
        h=HORIZON,
        input_size=look_back,
        encoder_layers=SHAPE["num_layers"],
        n_heads=SHAPE["num_heads"],
        hidden_size=SHAPE["d_model"],
        linear_hidden_size=SHAPE["d_ff"],
        dropout=SHAPE["dropout"],
        fc_dropout=0.0,
        attn_dropout=0.0,
        head_dropout=0.0,
        patch_len=PATCH["patch_length"],
        stride=PATCH["stride"],
        revin=True,
        revin_affine=False,
        loss=MSE(),
        max_steps=max_steps,
        learning_rate=1e-4,
        batch_size=CHANNELS,
        windows_batch_size=WINDOWS * CHANNELS,
        early_stop_patience_steps=-1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
        accelerator="cpu",
    )


def _gluonts(past: Tensor, future: Tensor) -> Built:
    from gluonts.torch.model.patch_tst.module import PatchTSTModel

    look_back = past.shape[1]
    model = PatchTSTModel(
        prediction_length=HORIZON,
        context_length=look_back,
        patch_len=PATCH["patch_length"],
        stride=PATCH["stride"],
        padding_patch="end",
        d_model=SHAPE["d_model"],
        nhead=SHAPE["num_heads"],
        dim_feedforward=SHAPE["d_ff"],
        num_feat_dynamic_real=0,
        dropout=SHAPE["dropout"],
        activation="gelu",
        norm_first=False,
        num_encoder_layers=SHAPE["num_layers"],
        scaling="std",
    )
    series, target = rows(past), rows(future)
    observed = torch.ones_like(series)

    def loss() -> Tensor:
        arguments, loc, scale = model(series, observed)
        distribution = model.distr_output.distribution(arguments, loc=loc, scale=scale)
        return -distribution.log_prob(target).mean()

    return model, loss, model.patch_num


def public_fit(library: str, look_back: int, max_steps: int) -> Callable[[], object]:
    """Return a function that calls a library's own training with 896 rows per step.

    There is no validation and no refit.
    """
    frame = synthetic_frame()
    if library in BACKBONES:
        forecaster = Forecaster(
            horizon=HORIZON,
            context_length=look_back,
            patcher=FixedPatcher(**PATCH),
            backbone=BACKBONES[library](**SHAPE),
            trainer=Trainer(
                max_steps=max_steps, batch_size=WINDOWS, validate_every=10**6, device="cpu"
            ),
            random_state=0,
        )
        return lambda: forecaster.fit(frame, refit=False)
    from neuralforecast import NeuralForecast

    long = frame.melt(ignore_index=False, var_name="unique_id", value_name="y")
    long = long.rename_axis("ds").reset_index()
    model = _neuralforecast_model(look_back, max_steps)
    return lambda: NeuralForecast(models=[model], freq=1).fit(long, val_size=0)


def synthetic_frame(num_rows: int = 6000) -> pd.DataFrame:
    """Return seven channels with a daily season of 24 rows, the same in every call."""
    generator = np.random.default_rng(0)
    daily = np.sin(2 * np.pi * np.arange(num_rows) / 24)[:, None]
    noise = generator.normal(size=(num_rows, CHANNELS)).cumsum(0) / 10
    return pd.DataFrame(daily + noise, columns=[f"c{i}" for i in range(CHANNELS)])


@contextmanager
def single_thread() -> Iterator[None]:
    """Use one thread inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
