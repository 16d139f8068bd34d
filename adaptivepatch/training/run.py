"""`Run`: the loop of one `Trainer.fit`: steps, validations, checkpoints, the best weights."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.network import PatchNetwork
from adaptivepatch.training.checkpoint import (
    CheckpointFile,
    TrainingState,
    load_network,
    load_optimizer,
    optimizer_tensors,
)
from adaptivepatch.training.devices import Processes, autocast, resolve_precision
from adaptivepatch.training.losses import RowLoss, weighted_sum
from adaptivepatch.training.record import (
    Callback,
    TrainingDivergedError,
    TrainingRecord,
    WindowSets,
)
from adaptivepatch.training.sampler import ShuffledBatches, WindowSource
from adaptivepatch.training.schedules import make_schedule
from adaptivepatch.training.step import TrainingStep, train_step

if TYPE_CHECKING:
    from adaptivepatch.training.trainer import Trainer


class Run:
    """One call of `Trainer.fit`.

    Parameters
    ----------
    trainer, network, source, windows, row_loss, seed, plan, checkpoint
        See `Trainer.fit`.
    processes : Processes
        That train together.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: PatchNetwork,
        source: WindowSource,
        windows: WindowSets,
        row_loss: RowLoss,
        processes: Processes,
        seed: int,
        plan: TrainingRecord | None = None,
        checkpoint: CheckpointFile | None = None,
    ) -> None:
        self.trainer, self.network, self.source = trainer, network, source
        self.row_loss, self.processes, self.checkpoint = row_loss, processes, checkpoint
        self.is_repeat = plan is not None
        self.validation = None if self.is_repeat else windows.validation
        per_epoch, total, self.every = trainer.lengths(len(windows.train))
        self.last = total
        if plan is not None:
            per_epoch, total, self.last = plan.steps_per_epoch, plan.total_steps, plan.best_step
        self.record = TrainingRecord(total_steps=total, steps_per_epoch=per_epoch)
        order = torch.Generator().manual_seed(seed)
        self.batches = ShuffledBatches(windows.train, trainer.batch_size, order)
        self.rollouts = torch.Generator(processes.device).manual_seed(seed + processes.rank)
        self.autocast = resolve_precision(trainer.precision)[1]
        self.schedule = make_schedule(trainer.schedule)
        step = TrainingStep(network, row_loss, total_weight=processes.mean, precision=self.autocast)
        self.step = processes.wrap(step)
        self.optimizer = _optimizer(trainer, network)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.stale = 0  # validations since the best one
        self.kept: dict[str, Tensor] | None = None  # weights of the best validation
        self.sums = torch.zeros(3, device=processes.device)
        self.started = time.perf_counter()

    def run(self, callback: Callback | None, *, validate_start: bool) -> TrainingRecord:
        """Train to the last step or until patience ends.

        Parameters
        ----------
        callback, validate_start
            See `Trainer.fit`.
        """
        self.network.train()
        resumed = self._go_on()
        record = self.record
        if not resumed:
            if validate_start and self.validation is not None:
                self._take_stock({})
            self._write()
        with _progress_bar(self.trainer.progress and self.processes.rank == 0) as bar:
            task = bar.add_task("training", total=self.last, completed=record.num_steps, status="")
            try:
                while record.num_steps < self.last and not self._is_out_of_patience():
                    self.sums += self._one_step(next(self.batches), record.num_steps)
                    record.num_steps += 1
                    bar.advance(task)
                    if record.num_steps % self.every and record.num_steps != self.last:
                        continue
                    metrics = self._take_stock(self._training_metrics())
                    self._write()
                    bar.update(task, status=_status(metrics))
                    if callback is not None:
                        callback(record.num_steps, metrics)
            except KeyboardInterrupt:
                if self.kept is None or self.is_repeat:
                    raise
                record.interrupted = True
        if self.kept is not None:
            self.network.load_state_dict(self.kept)
        self.network.eval()
        record.seconds = self._seconds()
        return record

    def _take_stock(self, metrics: dict[str, float]) -> dict[str, float]:
        """Validate, add to the history, and keep the weights if they are the best so far."""
        record, loss = self.record, math.nan
        if self.validation is not None:
            loss = metrics["validation_loss"] = self._validation_loss(self.validation)
        metrics["seconds"] = self._seconds()
        record.history.append({"step": float(record.num_steps), **metrics})
        if self.validation is None or not loss >= record.best_loss:
            weights = copy.deepcopy(self.network.state_dict())
            self.kept, self.stale = weights, 0
            record.best_step, record.best_loss = record.num_steps, loss
        else:
            self.stale += 1
        return metrics

    def _is_out_of_patience(self) -> bool:
        return self.trainer.patience is not None and self.stale >= self.trainer.patience

    def _seconds(self) -> float:
        return time.perf_counter() - self.started

    # ------------------------------------------------------------------ checkpoints

    def _write(self) -> None:
        """Write the state between two steps, right after a validation."""
        if self.checkpoint is None:
            return
        device, record = self.processes.device, self.record
        epoch, position = self.batches.state()
        tensors = {
            "random.torch": torch.default_generator.get_state(),
            "random.rollouts": self.rollouts.get_state(),
            "random.epoch": epoch,
        }
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        tensors |= {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()}
        if self.kept is not None and record.best_step < record.num_steps:
            tensors |= {f"kept.{k}": v for k, v in self.kept.items()}
        facts = {
            "record": asdict(record) | {"seconds": self._seconds()},
            "stale": self.stale,
            "position": position,
            "keeps": self.kept is not None,
            "device": device.type,
        }
        self.checkpoint.write(TrainingState(tensors, facts))

    def _go_on(self) -> bool:
        """Restore the state in the checkpoint, if there is one."""
        state = None if self.checkpoint is None else self.checkpoint.read()
        if state is None or self.checkpoint is None:
            return False
        device, facts, random = self.processes.device, state.facts, state.part("random")
        if facts["device"] != device.type:
            raise InvalidParameterError(
                f"A run goes on on the kind of device it began on, {facts['device']!r}. Got "
                f"device={self.trainer.device!r}, which is {device.type!r} here. Resume it there, "
                "or train from the start."
            )
        load_network(self.network, state.part("network"), self.checkpoint.path)
        load_optimizer(self.optimizer, state.part("optimizer"))
        self.record = TrainingRecord(**facts["record"])
        self.stale = facts["stale"]
        if facts["keeps"]:
            self.kept = copy.deepcopy(self.network.state_dict())
            self.kept |= {
                name: value.to(self.kept[name].device) for name, value in state.part("kept").items()
            }
        self.batches.restore(random["epoch"], facts["position"])
        self.rollouts.set_state(random["rollouts"])
        torch.default_generator.set_state(random["torch"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"], device)
        self.started = time.perf_counter() - self.record.seconds
        return True

    # ------------------------------------------------------------------ steps and validations

    def _one_step(self, windows: Tensor, done: int) -> Tensor:
        """Do one step; return its forecast loss, auxiliary loss and 1, without gradient."""
        total, per_epoch = self.record.total_steps, self.record.steps_per_epoch
        factor = self.schedule(done / total, done / per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        batch = self.source.batch(self.processes.share(windows))
        output = train_step(
            self.step,
            self.optimizer,
            batch,
            generator=self.rollouts,
            progress=done / total,
            gradient_clip=self.trainer.gradient_clip,
        )
        one = torch.ones_like(output.forecast_loss)
        return torch.stack([output.forecast_loss, output.auxiliary_loss, one]).float()

    def _training_metrics(self) -> dict[str, float]:
        """Return the mean losses since the last call."""
        # The mean over processes, so that all of them see the same and stop together.
        forecast, auxiliary = self.processes.mean(self.sums[:2] / self.sums[2]).tolist()
        self.sums.zero_()
        self._check_finite("training", forecast + auxiliary)
        return {
            "train_loss": forecast,
            "auxiliary_loss": auxiliary,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **self.network.patcher.take_metrics(),
        }

    def _check_finite(self, kind: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The {kind} loss must stay finite, but it is {loss!r} by step "
                f"{self.record.num_steps}. Lower "
                f"learning_rate={self.trainer.learning_rate!r} or set gradient_clip=1.0."
            )

    def _validation_loss(self, windows: Tensor) -> float:
        loss = self.validate(windows)
        if self.processes.count > 1:  # BatchNorm statistics differ there; decisions must not
            own = torch.tensor(loss, dtype=torch.float64, device=self.processes.device)
            loss = float(self.processes.mean(own))
        self._check_finite("validation", loss)
        return loss

    @torch.no_grad()
    def validate(self, windows: Tensor) -> float:
        """Return the mean loss over windows, in eval mode with the most probable patches."""
        self.network.eval()
        total = weight = 0.0
        for chunk in windows.split(self.trainer.batch_size):
            batch = self.source.batch(chunk)
            if len(batch.series) == 0:
                continue
            with autocast(self.processes.device, self.autocast):
                forecast = self.network(batch.series, batch.observed, batch.group)
            row_loss = self.row_loss(forecast, batch.target, batch.target_observed)
            part = weighted_sum(row_loss.double(), batch.target_observed)
            total, weight = total + float(part[0]), weight + float(part[1])
        self.network.train()
        if weight == 0:
            raise InvalidParameterError(
                f"Validation needs an observed target, however: {len(windows)} windows hold none. "
                "Leave such windows out."
            )
        return total / weight


def _optimizer(trainer: Trainer, network: PatchNetwork) -> torch.optim.Optimizer:
    """Return AdamW over the patcher's own parameter groups and all other parameters.

    A module may ask for a multiple of the learning rate by an attribute `rate_factor`, which then
    holds for all of it but parts that ask for another one.
    """
    rate = trainer.learning_rate
    groups: list[dict[str, Any]] = network.patcher.parameter_groups(rate)
    taken = {id(parameter) for parameter in network.patcher.parameters()}
    by_factor: dict[float, list[nn.Parameter]] = {1.0: []}
    _by_factor(network, 1.0, taken, by_factor)
    rest = [{"params": own, "lr": factor * rate} for factor, own in by_factor.items() if own]
    return torch.optim.AdamW([*rest, *groups], weight_decay=trainer.weight_decay, fused=True)


def _by_factor(
    module: nn.Module, factor: float, taken: set[int], found: dict[float, list[nn.Parameter]]
) -> None:
    """Add a module's trained parameters to those found, by their factor, each once."""
    factor = getattr(module, "rate_factor", factor)
    for parameter in module.parameters(recurse=False):
        if parameter.requires_grad and id(parameter) not in taken:
            taken.add(id(parameter))
            found.setdefault(factor, []).append(parameter)
    for child in module.children():
        _by_factor(child, factor, taken, found)


def _progress_bar(enabled: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=Console(stderr=True),
        disable=not enabled,
    )


def _status(metrics: dict[str, float]) -> str:
    shown = {"train": "train_loss", "validation": "validation_loss"}
    return "  ".join(f"{k} {metrics[v]:.4f}" for k, v in shown.items() if v in metrics)
