"""The progress bar of training, on the error stream."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A progress bar that counts steps and shows the latest losses; a context manager.

    Parameters
    ----------
    total : int
        Number of steps of the whole run.
    enabled : bool
        Whether to show the bar.
    """

    def __init__(self, total: int, *, enabled: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=Console(stderr=True),
            disable=not enabled,
        )
        self._task = self._bar.add_task("training", total=total, status="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show_steps(self, done: int) -> None:
        """Show the number of steps done."""
        self._bar.update(self._task, completed=done)

    def show_losses(self, metrics: Mapping[str, float]) -> None:
        """Show the losses of a validation."""
        shown = {"train": "train_loss", "validation": "validation_loss"}
        status = "  ".join(f"{k} {metrics[v]:.4f}" for k, v in shown.items() if v in metrics)
        self._bar.update(self._task, status=status)
