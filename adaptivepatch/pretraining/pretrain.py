"""`pretrain`: training of one patcher for any look-back and rate, on many univariate series.

Each cell (a look-back and a compression rate) has a small forecaster of its own. All forecasters
share the patcher and are discarded after training. Every step trains one cell, in random order.

The seed and the number of a step determine its cell, windows, rollouts and dropout. A checkpoint
therefore needs no state of a random generator, only weights, optimizer and record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor, nn

from adaptivepatch import schema
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.datasets.corpora import Corpus
from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError, check_float, check_int
from adaptivepatch.model_folder import describe, plain
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.pretrained import PatcherCard, TrainingData
from adaptivepatch.pretraining.windows import CELLS, Cell, SeriesPool
from adaptivepatch.torch_state import plain_torch, seeded
from adaptivepatch.training.checkpoint import (
    NO_CHECKPOINT,
    CheckpointFile,
    NoCheckpoint,
    TrainingState,
    check_facts,
    load_network,
    load_optimizer,
    optimizer_tensors,
)
from adaptivepatch.training.loop import NextStep, TrainingLoop
from adaptivepatch.training.losses import make_loss, weighted_sum
from adaptivepatch.training.record import HISTORY
from adaptivepatch.training.schedules import make_schedule
from adaptivepatch.training.step import TrainingStep

_PRIME = 1_000_003  # difference between the seeds of two steps
_FACTS = schema.fields(
    {
        "record": schema.fields(
            {
                "history": HISTORY,
                "num_steps": schema.integer(),
                "seconds": schema.number(finite=True),
            }
        )
    },
    others=True,
)


@dataclass(frozen=True)
class PretrainingSettings:
    """Settings of pretraining.

    Parameters
    ----------
    steps : int, default=10000
        Number of optimizer steps, for all cells together.
    batch_size : int, default=64
        Number of rows per step.
    cells : tuple of Cell
        Look-backs and compression rates to train.
    learning_rate : float, default=1e-3
        Base learning rate of the forecasters, with a cosine schedule. The patcher derives its
        learning rates from it.
    d_model, num_layers : int
        Width and depth of each forecaster.
    averages : tuple of int
        Numbers of steps over which copies of the series are averaged; see `SeriesPool`.
    validate_every : int, default=500
        Number of steps between validations. Each validation adds an entry to the history and writes
        a checkpoint.
    validation_rows : int, default=128
        Number of held-out rows of each cell.
    seed : int, default=0
        Seed of weights, cells, windows, rollouts and dropout.
    """

    steps: int = 10_000
    batch_size: int = 64
    cells: tuple[Cell, ...] = CELLS
    learning_rate: float = 1e-3
    d_model: int = 32
    num_layers: int = 2
    averages: tuple[int, ...] = (4, 16)
    validate_every: int = 500
    validation_rows: int = 128
    seed: int = 0

    def check(self) -> None:
        """Raise `InvalidParameterError` if a value is out of its range."""
        sizes = ("steps", "d_model", "num_layers", "validate_every", "validation_rows")
        check_int(self, **{name: getattr(self, name) for name in sizes})
        check_int(self, low=2, batch_size=self.batch_size)
        check_int(self, low=0, seed=self.seed)
        check_float(self, "(0, inf)", learning_rate=self.learning_rate)
        if not self.cells or len(set(self.cells)) < len(self.cells):
            raise InvalidParameterError(
                "Pretraining needs at least one cell, and no cell may be given twice. Got "
                f"{[str(cell) for cell in self.cells]}. Name each cell by its look-back and rate, "
                "such as 336x16.",
                parameter="cells",
            )


@dataclass
class PretrainingRecord:
    """Record of pretraining.

    Attributes
    ----------
    history : list of dict
        One entry per validation: step, train_loss, validation_loss (of the most probable patches,
        mean over cells), uniform_loss (of the same forecasters on the patcher's reference patches),
        gain (mean over cells of 1 - validation / uniform), seconds, and metrics of the patcher.
    num_steps : int
        Number of steps done.
    seconds : float
        Wall time, including the time before training was resumed.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    num_steps: int = 0
    seconds: float = 0.0


OnValidation = Callable[[int, Mapping[str, float]], None]


def pretrain(
    patcher: Patcher,
    corpora: Sequence[Corpus],
    settings: PretrainingSettings,
    *,
    checkpoint: CheckpointFile | NoCheckpoint = NO_CHECKPOINT,
    on_step: Callable[[int], None] | None = None,
    on_validation: OnValidation | None = None,
) -> PretrainingRecord:
    """Train a patcher in place.

    Parameters
    ----------
    patcher : Patcher
        Trainable patcher with a parameter `compression_rate`.
    corpora : sequence of Corpus
        Corpora of series; the last tenth of each series is held out.
    settings : PretrainingSettings
        Settings of pretraining.
    checkpoint : CheckpointFile, optional
        File that the state is written to at every validation. If it holds a state of the same run,
        training resumes from that state and ends with the same weights, bit for bit on the same
        machine.
    on_step : callable, optional
        Function that is called after every step with the number of steps done.
    on_validation : callable, optional
        Function that is called after every validation with the number of steps done and the
        metrics.

    Returns
    -------
    PretrainingRecord
        Record of the run.

    Raises
    ------
    InvalidParameterError
        If the patcher cannot be pretrained, or a setting is out of range.
    DatasetError
        If the series are too short for a cell.
    TrainingDivergedError
        If the loss becomes infinite or NaN.
    """
    settings.check()
    _check_patcher(patcher)
    rate = patcher.compression_rate
    with plain_torch(grad=True), seeded(settings.seed):
        try:
            pool = SeriesPool(corpora, settings.averages)
            for cell in settings.cells:
                pool.check(cell)
            for cell in settings.cells:  # an error is raised here, not after hours of training
                pool.batch(cell, 2, np.random.default_rng(0))
            loop = PretrainingLoop(patcher, pool, settings, checkpoint)
            loop.run(on_step or _ignore, on_validation or _ignore)
            loop.record.seconds = loop.seconds()
            return loop.record
        finally:
            _set_rate(patcher, rate)
            patcher.eval()


def initialised(patcher: Patcher, seed: int) -> Patcher:
    """Return an untrained copy of a patcher, with initial weights drawn from a seed."""
    with plain_torch(), seeded(seed):
        return clone(patcher)


def identity_of(
    patcher: Patcher, corpora: Sequence[Corpus], settings: PretrainingSettings
) -> dict[str, Any]:
    """Return everything that determines the result of pretraining, as JSON values."""
    identity: dict[str, Any] = plain(
        {
            "patcher": describe(patcher),
            "corpora": [[corpus.info.name, corpus.info.sha256] for corpus in corpora],
            **asdict(settings),
        }
    )
    return identity


def fitting_cells(corpora: Sequence[Corpus], settings: PretrainingSettings) -> tuple[Cell, ...]:
    """Return the cells of the settings for which at least one series is long enough.

    Raises
    ------
    DatasetError
        If there is no such cell.
    """
    pool = SeriesPool(corpora, settings.averages)
    fitting = tuple(cell for cell in settings.cells if pool.fits(cell))
    if not fitting:
        pool.check(min(settings.cells))
    return fitting


def make_card(
    corpora: Sequence[Corpus],
    settings: PretrainingSettings,
    record: PretrainingRecord,
    *,
    command: str | None = None,
    notes: Sequence[str] = (),
) -> PatcherCard:
    """Return the model card of a pretrained patcher.

    Parameters
    ----------
    corpora, settings
        Arguments of `pretrain`.
    record : PretrainingRecord
        Result of `pretrain`.
    command : str, optional
        Command that repeats the training.
    notes : sequence of str
        Further sentences for the card.
    """
    averages = ", ".join(map(str, settings.averages)) or "none"
    cells = ", ".join(map(str, settings.cells))
    sentences = [
        f"Trained for {record.num_steps} steps of {settings.batch_size} rows in "
        f"{record.seconds / 60:.0f} minutes, seed {settings.seed}.",
        f"Cells (look-back x points per patch): {cells}. Horizon: a quarter of the look-back, at "
        "most 96 steps. The shapes of the weights depend on neither.",
        f"Numbers of steps that series were also averaged over: {averages}. The last tenth of each "
        "series was held out.",
        *notes,
    ]
    shown = ("step", "train_loss", "validation_loss", "uniform_loss", "gain", "mode_agreement")
    every = max(1, -(-len(record.history) // 20))
    rows = record.history[::-1][::every][::-1]
    history = [{name: row[name] for name in shown if name in row} for row in rows]
    data = [
        TrainingData(
            corpus.info.name,
            corpus.info.license,
            corpus.info.origin,
            corpus.info.sha256,
            len(corpus),
            sum(map(len, corpus.values)),
        )
        for corpus in corpora
    ]
    return PatcherCard(data, command, sentences, history)


def _check_patcher(patcher: Patcher) -> None:
    if not patcher.trainable or not hasattr(patcher, "compression_rate"):
        raise InvalidParameterError(
            "Pretraining needs a trainable patcher with a parameter 'compression_rate', which "
            f"changes from step to step. Got {patcher!r}. Use ReinPatcher.",
            parameter="patcher",
        )
    if patcher.is_frozen:
        raise InvalidParameterError(
            "Pretraining needs a trainable patcher, but the given patcher is frozen. Load it with "
            "load_patcher(..., frozen=False).",
            parameter="frozen",
        )


def _set_rate(patcher: Any, rate: Any) -> None:
    """Change the rate in place, which is possible because the weights do not depend on it."""
    patcher.compression_rate = rate


def _ignore(*_: object) -> None:
    """Do nothing; used if there is no callback."""


class PretrainingLoop(TrainingLoop):
    """Training loop of one `pretrain`: every step trains one cell.

    Parameters
    ----------
    patcher, settings, checkpoint
        Arguments of `pretrain`.
    pool : SeriesPool
        Pool to draw windows from.
    """

    record: PretrainingRecord
    loss_dtype = torch.float64

    def __init__(
        self,
        patcher: Patcher,
        pool: SeriesPool,
        settings: PretrainingSettings,
        checkpoint: CheckpointFile | NoCheckpoint = NO_CHECKPOINT,
    ) -> None:
        self.patcher, self.pool, self.settings = patcher, pool, settings
        self.row_loss = make_loss("huber")
        self.networks = {cell: self._build(cell) for cell in settings.cells}
        rest = [
            parameter
            for network in self.networks.values()
            for name, parameter in network.named_parameters()
            if not name.startswith("patcher.")
        ]
        groups = [{"params": rest, "lr": settings.learning_rate}]
        groups += patcher.parameter_groups(settings.learning_rate)
        super().__init__(
            optimizer=torch.optim.AdamW(groups, weight_decay=0.0, fused=True),
            schedule=make_schedule("cosine"),
            record=PretrainingRecord(),
            total_steps=settings.steps,
            steps_per_epoch=settings.steps,
            last_step=settings.steps,
            validate_every=settings.validate_every,
            gradient_clip=1.0,
            checkpoint=checkpoint,
            device=torch.device("cpu"),
        )

    def _build(self, cell: Cell) -> PatchNetwork:
        _set_rate(self.patcher, float(cell.compression_rate))
        backbone = TransformerBackbone(self.settings.d_model, self.settings.num_layers)
        return build_network(
            self.patcher,
            backbone,
            context_length=cell.context_length,
            horizon=cell.horizon,
            embedding="resampled",  # as for the pretrained patcher of this package
        )

    # ------------------------------------------------------------------ steps

    def cell_of_step(self, done: int) -> Cell:
        """Return the cell of a step; every round visits all cells, each time in a new order."""
        cells = self.settings.cells
        turn, place = divmod(done, len(cells))
        order = np.random.default_rng((self.settings.seed, 1, turn)).permutation(len(cells))
        return cells[int(order[place])]

    def next_step(self, done: int) -> NextStep:
        """Return a batch of the step's cell; seed and step number determine all random numbers."""
        settings, cell = self.settings, self.cell_of_step(done)
        random = np.random.default_rng((settings.seed, 2, done))
        batch = self.pool.batch(cell, settings.batch_size, random)
        torch.default_generator.manual_seed(settings.seed + _PRIME * (done + 1))  # dropout
        rollouts = torch.Generator().manual_seed(settings.seed + _PRIME * (done + 1) + 1)
        _set_rate(self.patcher, float(cell.compression_rate))
        return NextStep(TrainingStep(self.networks[cell].train(), self.row_loss), batch, rollouts)

    # ------------------------------------------------------------------ validation

    def take_stock(self) -> dict[str, float]:
        """Return the losses since the last call and the losses on held-out rows."""
        forecast, auxiliary = self.take_losses().tolist()
        self.check_finite("training", forecast + auxiliary, self.settings.learning_rate)
        losses = [self._validate(number, cell) for number, cell in enumerate(self.settings.cells)]
        mode, uniform = (float(np.mean(column)) for column in zip(*losses, strict=True))
        metrics = {
            "step": float(self.record.num_steps),
            "train_loss": forecast,
            "validation_loss": mode,
            "uniform_loss": uniform,
            "gain": float(np.mean([1 - own / even for own, even in losses])),
            "seconds": self.seconds(),
            **self.patcher.take_metrics(),
        }
        self.record.history.append(metrics)
        return metrics

    @torch.no_grad()
    def _validate(self, number: int, cell: Cell) -> tuple[float, float]:
        """Return the losses of the most probable patches and of the reference patches."""
        random = np.random.default_rng((self.settings.seed, 3, number))
        batch = self.pool.batch(cell, self.settings.validation_rows, random, "validation")
        network = self.networks[cell].eval()
        _set_rate(self.patcher, float(cell.compression_rate))
        lookback, distribution = network.segment(batch.series, batch.observed)
        reference = self.patcher.reference_patches(cell.context_length).expand(len(batch.series))
        losses = []
        for patches in (distribution.mode, reference):
            forecast = network.forecast(lookback, distribution, Rollout(patches)).value
            rows = self.row_loss(forecast, batch.target, batch.target_observed)
            total, weight = weighted_sum(rows, batch.target_observed)
            losses.append(float(total / weight.clamp(min=1e-12)))
        return losses[0], losses[1]

    # ------------------------------------------------------------------ state

    def _modules(self) -> dict[str, nn.Module]:
        return {"patcher": self.patcher, **{str(c): net for c, net in self.networks.items()}}

    def state(self) -> TrainingState:
        """Return weights, optimizer and record; later steps depend on nothing else."""
        tensors: dict[str, Tensor] = {}
        for prefix, module in self._modules().items():
            tensors |= {
                f"{prefix}.{name}": value
                for name, value in module.state_dict().items()
                if not name.startswith("patcher.")
            }
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()}
        facts = asdict(self.record) | {"seconds": self.seconds()}
        return TrainingState(tensors, {"record": plain(facts)})

    def restore(self, state: TrainingState) -> None:
        """Restore what `state` returned.

        Raises
        ------
        InvalidModelError
            If the state does not belong to a run of this kind.
        """
        path = self.checkpoint.path
        check_facts(_FACTS, state.facts, path)
        for prefix, module in self._modules().items():
            stored = state.part(prefix)
            if module is not self.patcher:
                stored |= {f"patcher.{k}": v for k, v in state.part("patcher").items()}
            load_network(module, stored, path)
        load_optimizer(self.optimizer, state.part("optimizer"), path)
        self.record = PretrainingRecord(**state.facts["record"])
