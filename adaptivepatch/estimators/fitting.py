"""The course of `fit`, the same for both estimators.

`fit_and_refit` builds a network and trains it with some windows held out, which select the number
of steps; then it builds the network again and trains it on everything. Each training is a
`Trainer.fit` (``training/trainer.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from adaptivepatch.estimators.resuming import Checkpoints, NoCheckpoints
from adaptivepatch.network import PatchNetwork
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.record import Callback, TrainingRecord
from adaptivepatch.training.sampler import TrainingSet, WindowSource
from adaptivepatch.training.trainer import Trainer

_PREPARE_ROWS = 8192  # rows that a patcher is prepared on; a window has one for every channel
_PREPARE_WINDOWS = (64, 2048)  # fewest and most windows that these rows are taken from


@dataclass(frozen=True)
class FitJob:
    """What a fit trains and how, apart from the data.

    Parameters
    ----------
    make_network : callable
        Returns an untrained network; it is called once for each training.
    row_loss : callable
        See `adaptivepatch.training.losses.RowLoss`.
    trainer : Trainer
        Checked.
    seed : int
        Seed of weights, batch order and sampling.
    callback : callable, optional
        Called as ``callback(step, metrics)`` after every validation, not in the refit.
    init : mapping, optional
        Weights to begin with, in place of random ones.
    checkpoints : Checkpoints or NoCheckpoints
        Where to write states, and to go on from.
    """

    make_network: Callable[[], PatchNetwork]
    row_loss: RowLoss
    trainer: Trainer
    seed: int
    callback: Callback | None = None
    init: Mapping[str, Tensor] | None = None
    checkpoints: Checkpoints | NoCheckpoints = field(default_factory=NoCheckpoints)


class TrainingData(Protocol):
    """The data of a fit, with and without the windows that are held out."""

    def selection(self) -> TrainingSet:
        """Return the windows to train on, and those that select the number of steps."""
        ...

    def everything(self) -> TrainingSet:
        """Return all windows to train on."""
        ...


class Fit(NamedTuple):
    """A trained network, the units it forecasts in, and the record of the first training."""

    network: PatchNetwork
    scaling: Any
    record: TrainingRecord


def fit_and_refit(job: FitJob, data: TrainingData, *, refit: bool) -> Fit:
    """Train with windows held out, then on all of them for the best number of steps.

    torch's global generator is left as it was. A network that begins with given weights is
    validated before the first step, too: if no step improves it, it stays as it was.

    Parameters
    ----------
    job : FitJob
        What to train and how.
    data : TrainingData
        What to train on.
    refit : bool
        False leaves out the second training.

    Returns
    -------
    Fit
        Its network is in eval mode. If Ctrl-C ended either training, the network is the best one
        of the first, and ``record.interrupted`` is True.
    """
    training = data.selection()
    network = _new_network(job, training)
    record = job.trainer.fit(
        network,
        training.source,
        training.windows,
        job.row_loss,
        seed=job.seed,
        callback=job.callback,
        checkpoint=job.checkpoints.first,
        validate_start=job.init is not None,
    )
    selected = Fit(network, training.scaling, record)
    if record.interrupted or not refit or math.isnan(record.best_loss):
        return selected
    training = data.everything()
    network = _new_network(job, training)
    try:
        job.trainer.fit(
            network,
            training.source,
            training.windows,
            job.row_loss,
            seed=job.seed,
            plan=record,
            checkpoint=job.checkpoints.second,
        )
    except KeyboardInterrupt:
        record.interrupted = record.refit_interrupted = True
        return selected
    return Fit(network, training.scaling, record)


def _new_network(job: FitJob, training: TrainingSet) -> PatchNetwork:
    """Build a network, let its patcher see training windows, and give it its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(job.seed)  # the CPU's only: weights are drawn there
        network = job.make_network().to(**job.trainer.placement())
    _prepare(network, training.source, training.windows.train, job.seed)
    if job.init is not None:
        network.load_state_dict(dict(job.init))
    return network


@torch.no_grad()
def _prepare(network: PatchNetwork, source: WindowSource, windows: Tensor, seed: int) -> None:
    """Let the patcher fit what is not trained by gradient, on rows of spaced training windows."""
    if type(network.patcher).prepare is Patcher.prepare or network.patcher.is_frozen:
        return
    num_channels = len(source.batch(windows[:1]).series)
    fewest, most = _PREPARE_WINDOWS
    wanted = min(max(_PREPARE_ROWS // num_channels, fewest), most)
    batch = source.batch(windows[:: max(1, len(windows) // wanted)])
    normalised, _ = network.norm(batch.series, batch.observed)
    observed = batch.observed
    generator = torch.Generator(normalised.device).manual_seed(seed)
    if len(normalised) > _PREPARE_ROWS:
        order = torch.randperm(len(normalised), generator=generator, device=normalised.device)
        rows = order[:_PREPARE_ROWS].sort().values
        normalised = normalised[rows]
        observed = None if observed is None else observed[rows]
    network.patcher.prepare(normalised, observed, generator)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
