"""Training and testing of a small network on planted tasks, whose boundaries are known.

Every arm trains the same network on the same windows (``datasets/planted.py``): a token is computed
from the mean, the log length and the start of a patch; a transformer and a head over the K patch
slots follow. Arms differ in their patcher and in what trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.bench.planted_patchers import (
    LeastSquaresPatcher,
    TruePatcher,
    TwoWindowPatcher,
)
from adaptivepatch.bench.result_row import Seconds, provenance
from adaptivepatch.bench.task import Run
from adaptivepatch.datasets.planted import (
    CONTEXT_LENGTH,
    HORIZON,
    NUM_REGIMES,
    PLANTED_TASKS,
    planted_windows,
)
from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.network import PatchNetwork
from adaptivepatch.nn.tokens.heads import SlotHead
from adaptivepatch.nn.tokens.patch_embedding import ResampleEmbedding
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.registry import PATCHERS
from adaptivepatch.resolver import backbone_from_settings, patcher_from_settings
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.devices import resolve_device
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import Callback, TrainingRecord, WindowSets
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.trainer import Trainer

WINDOWS_PER_DRAW = 64
NUM_VALIDATION, NUM_TEST = 2000, 5000
VALIDATION, TEST, _TRAINING = 1, 2, 3
"""Kinds of windows: the first numbers of their random seeds."""

_PATCHERS: dict[str, type[Patcher]] = {
    patcher.name: patcher for patcher in (TruePatcher, LeastSquaresPatcher, TwoWindowPatcher)
}


# --------------------------------------------------------------------------------------- windows


class PlantedTensors(NamedTuple):
    """Windows of a planted task: look-backs (W, T), targets (W, H) and true boundaries (W, T)."""

    series: Tensor
    target: Tensor
    boundary_mask: Tensor

    def part(self, first: int) -> PlantedTensors:
        """Return up to 64 windows, beginning at a given number."""
        rows = slice(first, first + WINDOWS_PER_DRAW)
        return PlantedTensors(*(tensor[rows] for tensor in self))


def held_out(task: str, kind: int, num_windows: int | None = None) -> PlantedTensors:
    """Return windows of a task that no training draw contains, the same in every call.

    Parameters
    ----------
    task : str
        Name of a planted task.
    kind : int
        `VALIDATION` or `TEST`.
    num_windows : int, optional
        Number of windows; by default 2,000 for validation and 5,000 for tests.
    """
    number = num_windows or {VALIDATION: NUM_VALIDATION, TEST: NUM_TEST}[kind]
    return _draw_windows(task, number, [kind, PLANTED_TASKS.index(task)])


def _draw_windows(task: str, num_windows: int, seed: list[int]) -> PlantedTensors:
    windows = planted_windows(task, num_windows, np.random.default_rng(seed))
    return PlantedTensors(
        torch.as_tensor(windows.series, dtype=torch.float32),
        torch.as_tensor(windows.target, dtype=torch.float32),
        torch.as_tensor(windows.boundary_mask),
    )


class PlantedSource:
    """Windows of a planted task, in numbered draws of 64 windows each.

    Numbers from 0 on are training draws. The seed and the number determine a draw, so that training
    can be resumed anywhere. Negative numbers are slices of the validation windows, which are the
    same for all seeds.

    Parameters
    ----------
    task : str
        Name of a planted task; see `adaptivepatch.datasets.planted.planted_windows`.
    seed : int
        Seed of the training draws.
    device : torch.device
        Device of the batches.
    truth : TruePatcher, optional
        Patcher that receives the true boundaries of each batch.
    num_validation : int, default=2000
        Number of validation windows.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        device: torch.device,
        truth: TruePatcher | None = None,
        num_validation: int = NUM_VALIDATION,
    ) -> None:
        self.task, self.seed, self.device, self.truth = task, seed, device, truth
        self.held_out = held_out(task, VALIDATION, num_validation)

    def sets(self, num_draws: int) -> WindowSets:
        """Return the numbers of `num_draws` training draws and of all validation slices."""
        slices = -(-len(self.held_out.series) // WINDOWS_PER_DRAW)
        return WindowSets(torch.arange(num_draws), torch.arange(-slices, 0))

    def batch(self, windows: Tensor) -> Batch:
        """Return the windows of the draws with these numbers."""
        parts = [self._draw(int(number)) for number in windows]
        joined = PlantedTensors(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        return self.deliver(joined)

    def deliver(self, windows: PlantedTensors) -> Batch:
        """Move windows to the device, and give their true boundaries to ``truth``."""
        if self.truth is not None:
            self.truth.boundary_mask = windows.boundary_mask.to(self.device)
        series, target = windows.series.to(self.device), windows.target.to(self.device)
        return Batch(series, None, target, None, None)

    def _draw(self, number: int) -> PlantedTensors:
        if number < 0:
            first = (-1 - number) * WINDOWS_PER_DRAW
            return self.held_out.part(first)
        return _draw_windows(self.task, WINDOWS_PER_DRAW, [_TRAINING, self.seed, number])


# -------------------------------------------------------------------------------------- training


def build_planted_network(settings: Mapping[str, Any], seed: int) -> PatchNetwork:
    """Return the untrained network of an arm.

    Parameters
    ----------
    settings : mapping
        Settings of the arm, of which ``patcher`` and ``backbone`` are mappings that hold a
        ``name``. The patchers of `adaptivepatch.bench.planted_patchers` have names, too.
    seed : int
        Seed of the initial weights.

    Raises
    ------
    InvalidParameterError
        If the patcher does not have 8 patches.
    """
    reference = Segmentation.even(CONTEXT_LENGTH, NUM_REGIMES)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        backbone = backbone_from_settings(settings["backbone"])
        backbone.build(reference)
        width = backbone.d_model
        embedding = ResampleEmbedding(1, width, CONTEXT_LENGTH // NUM_REGIMES)
        head = SlotHead(NUM_REGIMES, width, HORIZON)
        patcher = patcher_from_settings(settings["patcher"], _patcher_class)
    capacity = patcher.capacity(CONTEXT_LENGTH)
    if capacity != NUM_REGIMES:
        raise InvalidParameterError(
            f"{patcher!r} has {capacity} patches, but a patcher of the planted benchmark must have "
            f"{NUM_REGIMES}. Set its compression_rate to {CONTEXT_LENGTH // NUM_REGIMES}.",
            parameter="compression_rate",
        )
    return PatchNetwork(patcher, embedding, backbone, head, instance_norm=False)


def _patcher_class(name: str) -> type[Patcher]:
    """Return a patcher class of this benchmark, or a registered patcher class."""
    return _PATCHERS[name] if name in _PATCHERS else PATCHERS.find(name)


class PlantedFit(NamedTuple):
    """Trained network, source of its windows, and record, duration and provenance of training."""

    network: PatchNetwork
    source: PlantedSource
    training: TrainingRecord
    fit: Seconds
    provenance: dict[str, Any]


def fit_planted(run: Run, *, device: str = "auto", callback: Callback | None = None) -> PlantedFit:
    """Train the network of an arm, on new windows at every step.

    Parameters
    ----------
    run : Run
        Run of a planted task. The settings of its arm are ``patcher``, ``backbone``, ``trainer``
        (without ``batch_size``: a batch is 64 windows) and ``reward``, a name for what trains the
        boundaries.
    device : str, default="auto"
        Device to train on, unless the trainer of the arm names one.
    callback : callable, optional
        Function called as ``callback(step, metrics)`` after every validation.

    Raises
    ------
    InvalidParameterError
        If the task is not a planted task, or the arm has other settings.
    KeyboardInterrupt
        If training was interrupted: a run that was cut short has no result.
    """
    task, settings = run.task, run.arm.settings
    _check(run)
    trainer = Trainer(
        **{"device": device, **settings["trainer"]}, batch_size=1, validation_share=None
    )
    where = resolve_device(trainer.device)
    origin = provenance(where)
    network = build_planted_network(settings, run.seed).to(where)
    truth = network.patcher if isinstance(network.patcher, TruePatcher) else None
    source = PlantedSource(task.dataset, run.seed, where, truth)
    sets = source.sets(trainer.lengths(1).total_steps)
    started = Seconds.now()
    prepare_planted(network, source, run.seed)
    training = trainer.fit(
        network, source, sets, make_loss("mse"), seed=run.seed, callback=callback
    )
    if training.interrupted:
        raise KeyboardInterrupt
    return PlantedFit(network, source, training, Seconds.now().since(started), origin)


def _check(run: Run) -> None:
    task = run.task
    shape = (task.horizon, task.context_length)
    if task.dataset not in PLANTED_TASKS or shape != (HORIZON, CONTEXT_LENGTH):
        raise InvalidParameterError(
            f"A planted task is one of {list(PLANTED_TASKS)} with horizon {HORIZON} and "
            f"context_length {CONTEXT_LENGTH}. Got {task!r}. Correct the suite."
        )
    allowed = {"reward", "patcher", "backbone", "trainer"}
    if set(run.arm.settings) != allowed:
        raise InvalidParameterError(
            f"The arm {run.arm.name!r} has the settings {sorted(run.arm.settings)}, but an arm of "
            f"the planted benchmark must have {sorted(allowed)}. Correct the suite."
        )


@torch.no_grad()
def prepare_planted(network: PatchNetwork, source: PlantedSource, seed: int) -> None:
    """Prepare the patcher on 512 training windows before training, as a forecaster does."""
    batch = source.batch(torch.arange(512 // WINDOWS_PER_DRAW))
    generator = torch.Generator(batch.series.device).manual_seed(seed)
    network.patcher.prepare(batch.series, None, generator)


@torch.no_grad()
def evaluate(
    network: PatchNetwork, source: PlantedSource, windows: PlantedTensors
) -> tuple[float, float, NDArray[np.bool_]]:
    """Forecast windows, and return the errors and the boundaries that were used.

    Parameters
    ----------
    network : PatchNetwork
        Trained network; it is set to eval mode and uses its most probable boundaries.
    source : PlantedSource
        Source that delivers the windows.
    windows : PlantedTensors
        Windows, from `held_out`.

    Returns
    -------
    mse, mae : float
        Mean squared and mean absolute error over windows and steps, in units of the series.
    boundaries : ndarray of bool, shape (W, T)
        Steps at which patches start.
    """
    network.eval()
    squared, absolute, masks = 0.0, 0.0, []
    for first in range(0, len(windows.series), WINDOWS_PER_DRAW):
        batch = source.deliver(windows.part(first))
        lookback, distribution = network.segment(batch.series)
        chosen = Rollout(distribution.mode)
        forecast = network.forecast(lookback, distribution, chosen).value
        error = (forecast - batch.target).double()
        squared += float(error.square().sum())
        absolute += float(error.abs().sum())
        masks.append(chosen.segmentation.boundary_mask.cpu().numpy())
    count = windows.target.numel()
    return squared / count, absolute / count, np.concatenate(masks)
