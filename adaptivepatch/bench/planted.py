"""The planted benchmark: whether boundaries that are there are found, and what they are worth.

Every arm trains the same network on the same windows of a planted task
(``datasets/planted.py``): one mean a token plus its log length and start, a transformer, a head over the K patch slots. Arms
differ in their patcher and in what it is trained by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptivepatch.bench.ltsf import Seconds, curve_of, identity
from adaptivepatch.bench.planted_patchers import ChangePointPatcher, TruePatcher, TwoWindowPatcher
from adaptivepatch.bench.record import PlantedRecord, as_settings, provenance
from adaptivepatch.bench.task import Run
from adaptivepatch.components import backbone_from_settings, patcher_from_settings
from adaptivepatch.datasets.planted import (
    CONTEXT_LENGTH,
    HORIZON,
    NUM_REGIMES,
    PLANTED_TASKS,
    planted_windows,
)
from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.estimators.fitting import count_parameters
from adaptivepatch.network import PatchNetwork
from adaptivepatch.nn.tokens.heads import SlotHead
from adaptivepatch.nn.tokens.patch_embedding import ResampleEmbedding
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.registry import PATCHERS
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.devices import resolve_device
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import Callback, TrainingRecord, WindowSets
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.trainer import Trainer

WINDOWS_PER_DRAW = 64
NUM_VALIDATION, NUM_TEST = 2000, 5000
TOLERANCE = 2
"""Distance in time steps up to which a boundary counts as found."""
MAX_SHIFT = 16
NUM_EXAMPLES = 8
"""Test windows whose patches are kept, for pictures."""

_PATCHERS: dict[str, type[Patcher]] = {
    patcher.name: patcher for patcher in (TruePatcher, ChangePointPatcher, TwoWindowPatcher)
}
VALIDATION, TEST, _TRAINING = 1, 2, 3  # first numbers of the seeds


class PlantedSource:
    """Windows of a planted task; a number stands for 64 windows drawn together.

    Numbers from 0 are training draws, a function of the seed and the number, so that training can
    be resumed anywhere. Negative ones are slices of the validation windows, the same for all
    seeds.

    Parameters
    ----------
    task : str
        See `adaptivepatch.datasets.planted.planted_windows`.
    seed : int
        Of the training draws.
    device : torch.device
        Where to deliver batches.
    truth : TruePatcher, optional
        Is told the true boundaries of each batch.
    num_validation : int, default=2000
        Validation windows.
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
        """Return the numbers of `num_draws` training draws and of all validation windows."""
        slices = -(-len(self.held_out.series) // WINDOWS_PER_DRAW)
        return WindowSets(torch.arange(num_draws), torch.arange(-slices, 0))

    def batch(self, windows: Tensor) -> Batch:
        """Return the windows with these numbers."""
        parts = [self._draw(int(number)) for number in windows]
        joined = _Windows(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        return self.deliver(joined)

    def deliver(self, windows: _Windows) -> Batch:
        """Move windows to the device and tell the true boundaries to whom it may concern."""
        if self.truth is not None:
            self.truth.boundary_mask = windows.boundary_mask.to(self.device)
        series, target = windows.series.to(self.device), windows.target.to(self.device)
        return Batch(series, None, target, None, None)

    def _draw(self, number: int) -> _Windows:
        if number < 0:
            first = (-1 - number) * WINDOWS_PER_DRAW
            return self.held_out.part(first)
        return _as_tensors(self.task, WINDOWS_PER_DRAW, [_TRAINING, self.seed, number])


class _Windows(NamedTuple):
    series: Tensor
    target: Tensor
    boundary_mask: Tensor

    def part(self, first: int) -> _Windows:
        rows = slice(first, first + WINDOWS_PER_DRAW)
        return _Windows(*(tensor[rows] for tensor in self))


def held_out(task: str, kind: int, num_windows: int | None = None) -> _Windows:
    """Return the windows of a task that are `VALIDATION` or `TEST`."""
    number = num_windows or {VALIDATION: NUM_VALIDATION, TEST: NUM_TEST}[kind]
    return _as_tensors(task, number, [kind, PLANTED_TASKS.index(task)])


def _as_tensors(task: str, num_windows: int, seed: list[int]) -> _Windows:
    windows = planted_windows(task, num_windows, np.random.default_rng(seed))
    return _Windows(
        torch.as_tensor(windows.series, dtype=torch.float32),
        torch.as_tensor(windows.target, dtype=torch.float32),
        torch.as_tensor(windows.boundary_mask),
    )


# ------------------------------------------------------------------------------------ boundaries


def boundary_f1(
    predicted: NDArray[np.bool_],
    true: NDArray[np.bool_],
    tolerance: int = TOLERANCE,
    shift: int = 0,
) -> float:
    """Return the F1 score of boundaries, step 0 left out, over all rows together.

    Parameters
    ----------
    predicted, true : ndarray of bool, shape (W, T)
        Where patches start.
    tolerance : int, default=2
        Distance, in time steps, up to which a predicted boundary finds a true one.
    shift : int, default=0
        Time steps added to the predicted boundaries first.

    Returns
    -------
    float
        2 pairs / (predicted + true), with the largest number of pairs in which each boundary
        stands once. 1 if there is no boundary at all.

    Notes
    -----
    True boundaries in order, each paired with the earliest free one within the tolerance: since
    all tolerances are equal, no other pairing has more pairs.

    Examples
    --------
    >>> true = np.array([[True, False, False, False, True, False]])
    >>> boundary_f1(np.roll(true, 2, axis=1), true)
    1.0
    """
    found, wanted = _places(predicted), _places(true)
    is_free, pairs = found > 0, 0
    rows = np.arange(len(found))
    for k in range(wanted.shape[1]):
        place = wanted[:, k : k + 1]
        near = is_free & (np.abs(found + shift - place) <= tolerance) & (place > 0)
        has_one = near.any(1)
        pairs += int(has_one.sum())
        is_free[rows[has_one], near.argmax(1)[has_one]] = False
    total = int((found > 0).sum() + (wanted > 0).sum())
    return 2 * pairs / total if total else 1.0


def best_shift(
    predicted: NDArray[np.bool_], true: NDArray[np.bool_], tolerance: int = TOLERANCE
) -> tuple[float, int]:
    """Return the best F1 over constant shifts of the predicted boundaries, and that shift.

    A policy may settle on boundaries that are all late by the same few steps: the forecast makes
    up for it, `boundary_f1` does not. Shifts go up to 16 steps; of equal ones the smallest wins.

    Parameters
    ----------
    predicted, true, tolerance
        See `boundary_f1`.
    """
    shifts = sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs)
    scores = [boundary_f1(predicted, true, tolerance, shift) for shift in shifts]
    best = int(np.argmax(scores))
    return scores[best], shifts[best]


def _places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the boundaries of each row but step 0, increasing, filled up with 0."""
    inner = mask.copy()
    inner[:, 0] = False
    most = int(inner.sum(1).max(initial=1))
    places = np.zeros((len(mask), most), dtype=np.int64)
    row, step = np.nonzero(inner)
    places[row, inner.cumsum(1)[row, step] - 1] = step
    return places


# ------------------------------------------------------------------------------------------ runs


def _patcher_class(name: str) -> type[Patcher]:
    """Return a patcher of this benchmark or a registered one."""
    return _PATCHERS[name] if name in _PATCHERS else PATCHERS.find(name)


def build_planted_network(settings: Mapping[str, Any], seed: int) -> PatchNetwork:
    """Return an arm's untrained network.

    Parameters
    ----------
    settings : mapping
        ``patcher`` and ``backbone``, mappings that hold a ``name``.
    seed : int
        Of the initial weights.
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
            f"A patcher of the planted benchmark must have {NUM_REGIMES} patches. {patcher!r} has "
            f"{capacity}. Set its compression_rate to {CONTEXT_LENGTH // NUM_REGIMES}."
        )
    return PatchNetwork(patcher, embedding, backbone, head, instance_norm=False)


class PlantedFit(NamedTuple):
    """A trained network, where its windows come from, and what training it took."""

    network: PatchNetwork
    source: PlantedSource
    training: TrainingRecord
    fit: Seconds
    origin: dict[str, Any]


def fit_planted(run: Run, *, device: str = "auto", callback: Callback | None = None) -> PlantedFit:
    """Train an arm on fresh windows at every step.

    Parameters
    ----------
    run, device, callback
        See `run_planted`.
    """
    task, settings = run.task, run.arm.settings
    _check(run)
    trainer = Trainer(**{"device": device, **settings["trainer"]}, batch_size=1)
    where = resolve_device(trainer.device)
    origin = provenance(where)
    network = build_planted_network(settings, run.seed).to(where)
    truth = network.patcher if isinstance(network.patcher, TruePatcher) else None
    source = PlantedSource(task.dataset, run.seed, where, truth)
    sets = source.sets(trainer.lengths(1)[1])
    started = Seconds.now()
    prepare_planted(network, source, run.seed)
    training = trainer.fit(
        network, source, sets, make_loss("mse"), seed=run.seed, callback=callback
    )
    if training.interrupted:
        raise KeyboardInterrupt  # a run that was cut short is no result
    return PlantedFit(network, source, training, Seconds.now().since(started), origin)


@torch.no_grad()
def prepare_planted(network: PatchNetwork, source: PlantedSource, seed: int) -> None:
    """Let the patcher see 512 training windows before training, as a forecaster does."""
    batch = source.batch(torch.arange(512 // WINDOWS_PER_DRAW))
    generator = torch.Generator(batch.series.device).manual_seed(seed)
    network.patcher.prepare(batch.series, None, generator)


def run_planted(
    run: Run, *, device: str = "auto", callback: Callback | None = None
) -> tuple[PlantedRecord, list[dict[str, Any]]]:
    """Train an arm on fresh windows at every step, then forecast the test windows once.

    Parameters
    ----------
    run : Run
        Its arm's settings are ``patcher``, ``backbone``, ``trainer`` (without ``batch_size``: a
        batch is 64 windows) and ``reward``, the name of what the boundaries are trained by.
    device : str, default="auto"
        Where, unless the arm's trainer says.
    callback : callable, optional
        Called after every validation.

    Returns
    -------
    record : PlantedRecord
    curve : list of dict
        One row per validation.
    """
    network, source, training, fit, origin = fit_planted(run, device=device, callback=callback)
    test = held_out(run.task.dataset, TEST)
    mse, _, predicted = evaluate(network, source, test)
    shifted_f1, shift = best_shift(predicted, test.boundary_mask.numpy())
    record = PlantedRecord(
        **identity(run),
        reward=run.arm.settings["reward"],
        num_windows=len(test.series),
        test_mse=mse,
        validation_mse=training.best_loss,
        boundary_f1=boundary_f1(predicted, test.boundary_mask.numpy()),
        shifted_f1=shifted_f1,
        shift=shift,
        tokens=float(predicted.sum(1).mean()),
        example_starts=json.dumps(
            [np.flatnonzero(row).tolist() for row in predicted[:NUM_EXAMPLES]],
            separators=(",", ":"),
        ),
        best_step=training.best_step,
        num_steps=training.num_steps,
        num_parameters=count_parameters(network),
        fit_seconds=fit.wall,
        fit_cpu_seconds=fit.cpu,
        settings=as_settings(run.arm.settings),
        **origin,
    )
    return record, curve_of(record, training.history)


def _check(run: Run) -> None:
    task = run.task
    shape = (task.horizon, task.context_length)
    if task.dataset not in PLANTED_TASKS or shape != (HORIZON, CONTEXT_LENGTH):
        raise InvalidParameterError(
            f"A planted task is one of {list(PLANTED_TASKS)} with horizon {HORIZON} and "
            f"context_length {CONTEXT_LENGTH}. Got {task!r}."
        )
    allowed = {"reward", "patcher", "backbone", "trainer"}
    if set(run.arm.settings) != allowed:
        raise InvalidParameterError(
            f"An arm of the planted benchmark must have the settings {sorted(allowed)}. "
            f"{run.arm.name!r} has {sorted(run.arm.settings)}."
        )


@torch.no_grad()
def evaluate(
    network: PatchNetwork, source: PlantedSource, windows: _Windows
) -> tuple[float, float, NDArray[np.bool_]]:
    """Return mean squared and absolute error of windows, and the boundaries (W, T) behind them.

    Parameters
    ----------
    network : PatchNetwork
        Used in eval mode, with its most probable boundaries.
    source : PlantedSource
        Delivers the windows.
    windows : tuple of Tensor
        As `held_out` returns them.
    """
    network.eval()
    squared, absolute, masks = 0.0, 0.0, []
    for first in range(0, len(windows.series), WINDOWS_PER_DRAW):
        batch = source.deliver(windows.part(first))
        lookback, distribution = network.segment(batch.series)
        chosen = Rollout(distribution.mode)
        forecast = network.forecast(lookback, distribution, chosen).value
        error = (forecast - batch.target).double()
        squared, absolute = (
            squared + float(error.square().sum()),
            absolute + float(error.abs().sum()),
        )
        masks.append(chosen.segmentation.boundary_mask.cpu().numpy())
    count = windows.target.numel()
    return squared / count, absolute / count, np.concatenate(masks)
