"""Numbers of small float64 runs on the CPU: ``python -m tests.golden.regenerate``.

Regenerate only with a reason, written into the commit: a changed number means that the same
settings now compute something else.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.registry import BACKBONES
from adaptivepatch.training.inference import predict_windows
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import WindowSets
from adaptivepatch.training.trainer import Trainer
from tests.builders import series_source, small_network

FILE = Path(__file__).with_name("golden.json")

PATCHERS = {
    "fixed": lambda: FixedPatcher(6, 3),
    "recency": lambda: RecencyPatcher(4, 2),
    "random": lambda: RandomPatcher(4),
}


def run(backbone, patcher, gaps, quantiles=None):
    """Train a few steps; return history, a sum over weights and two forecasts."""
    source, windows = series_source(num_channels=2, gaps=gaps)
    windows = source.learnable(windows)
    network = small_network(backbone, PATCHERS[patcher](), quantiles=quantiles, dropout=0.1)
    trainer = Trainer(
        max_steps=8,
        batch_size=8,
        learning_rate=1e-3,
        validate_every=4,
        validation_share=None,
        device="cpu",
    )
    record = trainer.fit(
        network,
        source,
        WindowSets(windows[:30], windows[50:60]),
        make_loss("mse", quantiles),
        seed=0,
    )
    forecast = predict_windows(network, source.lookbacks, windows[60:61], 2)
    squares = sum(float(p.detach().square().sum()) for p in network.parameters())
    return {
        "train_loss": [row["train_loss"] for row in record.history],
        "validation_loss": [row["validation_loss"] for row in record.history],
        "squared_weights": squares,
        "forecast": forecast.flatten().tolist(),
    }


def compute():
    """All cases by name."""
    cases = {}
    for backbone in BACKBONES:
        for patcher in PATCHERS:
            for gaps in (0.0, 0.2):
                cases[f"{backbone}-{patcher}-gaps={gaps}"] = run(backbone, patcher, gaps)
    cases["transformer-fixed-quantiles"] = run("transformer", "fixed", 0.2, (0.1, 0.5, 0.9))
    return cases


def main():
    """Write the file."""
    torch.set_num_threads(1)
    FILE.write_text(
        json.dumps({"torch": torch.__version__, "cases": compute()}, indent=1) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
