"""Effect of each part of variance reduction on the score-function gradient, at fixed weights.

    ADAPTIVEPATCH_DATA=... OMP_NUM_THREADS=1 python benchmarks/score_function_noise.py

A small network is trained for some steps on ETTh1 (look-back 192, horizon 96, 12 patches), once for
each form and window of `ScoreFunctionPatcher`. Then its weights are fixed, and it draws one action
per row for the same training windows many times. With g the gradient of the gate's weights from one
draw, ``signal_to_noise`` is ``|E g|^2 / trace(cov g)`` of one step. The estimate is unbiased, so
that it can be below zero, and has a jackknife standard error. Its inverse is the number of steps
whose mean gradient is half signal. All settings of a form and window have the same draws. Without
discount the signal differs as well: it is that of all later rewards.
Appends to ``results/score_function_noise.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from adaptivepatch import TransformerBackbone
from adaptivepatch.bench.ltsf_data import load_ltsf
from adaptivepatch.bench.result_row import provenance
from adaptivepatch.bench.results import append_rows
from adaptivepatch.distributions import StepContext
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch, SeriesSource
from adaptivepatch.training.step import TrainingStep

RESULTS = Path(__file__).parent / "results" / "score_function_noise.csv"
CONTEXT, HORIZON, RATE = 192, 96, 16
BATCH, WINDOWS = 8, 12  # windows of seven rows: of a training step, and of the measurement
BLOCKS = 20  # number of jackknife blocks
ALL = {"early_exit": True, "centred": True}
SETTINGS = {
    "direct": {
        "all": ALL,
        "no early exit": {**ALL, "early_exit": False},
        "not centred": {**ALL, "centred": False},
        "none": {"early_exit": False, "centred": False},
    },
    "next_patch": {
        "all": {**ALL, "discount": 0.97},
        "no early exit": {**ALL, "discount": 0.97, "early_exit": False},
        "not centred": {**ALL, "discount": 0.97, "centred": False},
        "no discount": {**ALL, "discount": None},
        "none": {"discount": None, "early_exit": False, "centred": False},
    },
}


def source_of_training_windows() -> tuple[SeriesSource, int]:
    """Return the scaled training rows of ETTh1, and their number of windows."""
    frame, borders = load_ltsf("ETTh1")
    values = frame.iloc[: borders.train_end].to_numpy(float)
    values = (values - values.mean(0)) / values.std(0)
    source = SeriesSource(values, CONTEXT, HORIZON, device=torch.device("cpu"), dtype=torch.float32)
    return source, len(values) - CONTEXT - HORIZON + 1


def trained(
    form: str, window: int, source: SeriesSource, count: int, steps: int, seed: int
) -> PatchNetwork:
    """Return a network after some training steps, in eval mode."""
    torch.default_generator.manual_seed(seed)
    network = build_network(
        ScoreFunctionPatcher(RATE, form=form, window=window),
        TransformerBackbone(32, 2, dropout=0.0, causal=form == "next_patch"),
        context_length=CONTEXT,
        horizon=HORIZON,
    )
    order = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        first = source.batch(torch.randint(count, (64,), generator=order))
        network.patcher.prepare(network.norm(first.series)[0], None, order)
    groups = [
        {
            "params": [
                p for name, p in network.named_parameters() if not name.startswith("patcher.")
            ]
        },
        *network.patcher.parameter_groups(1e-3),
    ]
    optimizer = torch.optim.AdamW(groups, 1e-3, weight_decay=0.0)
    step = TrainingStep(network.train(), make_loss("mse"))
    for k in range(steps):
        batch = source.batch(torch.randint(count, (BATCH,), generator=order))
        train_step(step, optimizer, batch, generator=order, progress=k / steps)
    return network.eval()


@torch.no_grad()
def contexts(network: PatchNetwork, batch: Batch, draws: int, seed: int) -> Iterator[StepContext]:
    """Yield draws of an action for every row, with the forecast that follows from it."""
    generator, row_loss = torch.Generator().manual_seed(seed), make_loss("mse")
    lookback, distribution = network.segment(batch.series)
    for _ in range(draws):
        rollout = distribution.sample(1, generator)
        forecast = network.forecast(lookback, distribution, rollout)
        yield StepContext(
            series=lookback.series,
            observed=None,
            target=batch.target,
            distribution=distribution,
            rollout=rollout,
            forecast_loss=row_loss(forecast.value, batch.target, None)[None],
            hidden=forecast.hidden,
            group=None,
            progress=0.5,
            scale=lookback.scale,
        )


def signal_to_noise(gradients: Tensor) -> tuple[float, float, float]:
    """Return unbiased signal |E g|^2 and noise trace(cov g) of draws (M, D), and their ratio."""
    noise = float(gradients.var(0).sum())
    signal = float(gradients.mean(0).square().sum()) - noise / len(gradients)
    return signal, noise, signal / noise


def standard_error(gradients: Tensor) -> float:
    """Return the jackknife standard error of the ratio, over blocks of draws."""
    block = torch.arange(len(gradients)) % BLOCKS
    left = torch.tensor([signal_to_noise(gradients[block != k])[2] for k in range(BLOCKS)])
    return float(((BLOCKS - 1) * left.var(correction=0)).sqrt())


def measure(form: str, window: int, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all settings of a form and window, and return their rows."""
    source, count = source_of_training_windows()
    network = trained(form, window, source, count, options.steps, options.seed)
    batch = source.batch(torch.linspace(0, count - 1, WINDOWS).long())
    patcher, found = network.patcher, {name: [] for name in SETTINGS[form]}
    for context in contexts(network, batch, options.draws, options.seed):
        for name, setting in SETTINGS[form].items():
            for key, value in setting.items():
                setattr(patcher, key, value)
            gradients = patcher.policy_gradients(context)
            found[name].append(gradients.mean(0))
    rows = []
    for name, gradients in found.items():
        signal, noise, ratio = signal_to_noise(torch.stack(gradients))
        rows.append(
            {
                "dataset": "ETTh1",
                "protocol": "draws at fixed weights, gradient of the gate, mean of rows",
                "form": form,
                "window": window,
                "setting": name,
                "seed": options.seed,
                "look_back": CONTEXT,
                "horizon": HORIZON,
                "compression_rate": RATE,
                "rows": len(batch.series),
                "training_steps": options.steps,
                "draws": options.draws,
                "signal": f"{signal:.4g}",
                "noise": f"{noise:.4g}",
                "signal_to_noise": f"{ratio:.4g}",
                "standard_error": f"{standard_error(torch.stack(gradients)):.2g}",
                **provenance(torch.device("cpu")),
            }
        )
    return rows


def main() -> None:
    """Measure all forms and windows, and print and append the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--steps", type=int, default=120, help="training steps before the measurement"
    )
    parser.add_argument("--draws", type=int, default=640)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    provenance(torch.device("cpu"))  # reads the commit before it can change
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        for form in SETTINGS:
            for window in (1, 8):
                rows = measure(form, window, options)
                append_rows(options.out, rows)
                shown = ("form", "window", "setting", "signal_to_noise", "standard_error")
                for row in rows:
                    print(*(row[key] for key in shown))


if __name__ == "__main__":
    main()
