"""One of several processes that train a model together; launched by test_distributed.py.

Writes what the test compares: gradients, weights and history of several short fits.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import WindowSets
from adaptivepatch.training.trainer import Trainer
from tests.builders import series_source, small_network

# Name: backbone, share of gaps, training windows, batch size, steps. The last batch of "odd" has
# one window for two processes: too little to split.
CASES = {
    "plain": ("transformer", 0.0, 16, 8, 1),
    "masked": ("transformer", 0.3, 16, 8, 1),
    "odd": ("transformer", 0.3, 11, 5, 6),
    "quantiles": ("transformer", 0.3, 11, 5, 3),
    "batchnorm": ("patchtst", 0.3, 16, 8, 6),
}


def fit(case):
    """Gradients of the last step, final weights and history, through Trainer.fit."""
    backbone, gaps, count, batch_size, steps = CASES[case]
    levels = (0.1, 0.5, 0.9) if case == "quantiles" else None
    source, windows = series_source(num_channels=2, gaps=gaps)
    windows = source.learnable(windows)
    network = small_network(backbone, quantiles=levels, seed=os.environ.get("RANK", 0) == "1")
    trainer = Trainer(
        max_steps=steps,
        batch_size=batch_size,
        validate_every=2,
        patience=2,
        device="cpu",
        learning_rate=0.05 if case == "batchnorm" else 1e-3,
    )
    record = trainer.fit(
        network,
        source,
        WindowSets(windows[:count], windows[40:50]),
        make_loss("mse", levels),
        seed=3,
    )
    state = {k: v.clone() for k, v in network.state_dict().items()}
    gradients = {
        k: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for k, p in network.named_parameters()
    }
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in record.history]
    return {
        "gradients": gradients,
        "state": state,
        "history": history,
        "best_step": record.best_step,
        "num_steps": record.num_steps,
    }


def fit_random_patcher():
    """A patcher that samples: each process draws its own boundaries, all stay in step."""
    source, windows = series_source()
    network = small_network(patcher=RandomPatcher(4))
    Trainer(max_steps=3, batch_size=6, device="cpu").fit(
        network, source, WindowSets(windows[:20]), make_loss("mse"), seed=0
    )
    return {k: v.clone() for k, v in network.state_dict().items()}


def main(folder):
    """Fit every case and write the results of this rank."""
    torch.set_num_threads(1)
    before = torch.get_rng_state()
    results = {case: fit(case) for case in CASES}
    results["random"] = fit_random_patcher()
    results["generator_untouched"] = torch.equal(torch.get_rng_state(), before)
    results["accelerate"] = "accelerate" in sys.modules
    torch.save(results, Path(folder) / f"rank{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
