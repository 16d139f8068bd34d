"""The two trainings of `fit`, for both estimators.

`fit_and_refit` builds a network and trains it with some windows held out, whose loss selects the
number of steps. It then builds the network again and trains the new network on all windows. Each
training is one call of `Trainer.fit` (``training/trainer.py``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from adaptivepatch.estimators.resuming import Checkpoints, NoCheckpoints
from adaptivepatch.network import PatchNetwork
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.torch_state import plain_torch, seeded
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.record import Callback, TrainingRecord
from adaptivepatch.training.sampler import TrainingSet, WindowSource
from adaptivepatch.training.trainer import Trainer

_PREPARE_ROWS = 8192  # rows on which a patcher is prepared; a window has one row per channel
_PREPARE_WINDOWS = (64, 2048)  # fewest and most windows from which these rows are taken


@dataclass(frozen=True)
class FitJob:
    """Settings of a fit, without its data.

    Parameters
    ----------
    make_network : callable
        Function that returns an untrained network; it is called once for each training.
    row_loss : callable
        Loss of each row; see `adaptivepatch.training.losses.RowLoss`.
    trainer : Trainer
        Trainer with checked settings.
    seed : int
        Seed of weights, batch order and sampling.
    callback : callable, optional
        Function that is called as ``callback(step, metrics)`` after every validation. The refit has
        no validations.
    init : mapping, optional
        Initial weights, in place of random weights.
    checkpoints : Checkpoints or NoCheckpoints
        Files to which states are written, and from which a fit resumes.
    """

    make_network: Callable[[], PatchNetwork]
    row_loss: RowLoss
    trainer: Trainer
    seed: int
    callback: Callback | None = None
    init: Mapping[str, Tensor] | None = None
    checkpoints: Checkpoints | NoCheckpoints = field(default_factory=NoCheckpoints)


class TrainingData(Protocol):
    """Data of a fit, with and without held-out windows."""

    def selection(self) -> TrainingSet:
        """Return the windows to train on, and the windows that select the number of steps."""
        ...

    def everything(self) -> TrainingSet:
        """Return all windows as training windows."""
        ...


class Fit(NamedTuple):
    """Trained network, scaling of its forecasts if any, and record of the first training."""

    network: PatchNetwork
    scaling: Any
    record: TrainingRecord


@plain_torch(grad=True)
def fit_and_refit(job: FitJob, data: TrainingData, *, refit: bool) -> Fit:
    """Train with windows held out, then on all windows for the best number of steps.

    torch's global generator stays unchanged. A network with given initial weights is also validated
    before the first step, and keeps these weights if no step improves on them.

    Parameters
    ----------
    job : FitJob
        Settings of the fit.
    data : TrainingData
        Data of the fit.
    refit : bool
        Whether to do the second training.

    Returns
    -------
    Fit
        Result, with the network in eval mode. If Ctrl-C ended one of the trainings, the network is
        the best network of the first training, and ``record.interrupted`` is True.
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


def warn_if_still_falling(record: TrainingRecord, trainer: Trainer) -> None:
    """Warn if training ended at its last step while the validation loss was still falling.

    Parameters
    ----------
    record : TrainingRecord
        Record of the first training.
    trainer : Trainer
        Trainer of the fit, whose length the warning advises to double.
    """
    if not record.is_still_falling:
        return
    longer = f"max_steps={2 * record.total_steps}"
    if trainer.max_epochs is not None:
        longer = f"max_epochs={2 * trainer.max_epochs}"
    warnings.warn(
        f"The validation loss was still falling at the last training step ({record.total_steps}). "
        f"A longer training may forecast better: pass trainer=Trainer({longer}).",
        UserWarning,
        stacklevel=3,
    )


def _new_network(job: FitJob, training: TrainingSet) -> PatchNetwork:
    """Build a network, prepare its patcher on training windows, and load initial weights."""
    with seeded(job.seed):  # weights are drawn on the CPU
        network = job.make_network().to(**job.trainer.placement())
    prepare_patcher(network, training.source, training.windows.train, job.seed)
    if job.init is not None:
        network.load_state_dict(dict(job.init))
    return network


@torch.no_grad()
def prepare_patcher(
    network: PatchNetwork, source: WindowSource, windows: Tensor, seed: int
) -> None:
    """Prepare the patcher (`Patcher.prepare`) on rows of evenly spaced training windows.

    Parameters
    ----------
    network : PatchNetwork
        Untrained network.
    source : WindowSource
        Source of batches.
    windows : Tensor of int, shape (W,)
        Numbers of the training windows.
    seed : int
        Seed of everything that is drawn.
    """
    if type(network.patcher).prepare is Patcher.prepare or network.patcher.is_frozen:
        return
    num_channels = max(1, len(source.batch(windows[:1]).series))
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
    """Return the number of trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
