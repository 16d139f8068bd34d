"""`CheckpointFile`: everything a training run needs to go on, in one file.

One file, because one file can be replaced atomically: a kill at any moment leaves either the old
state or the new one. It is a safetensors file whose header holds the JSON part; no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from adaptivepatch.errors import InvalidModelError
from adaptivepatch.files import write_atomic

FORMAT = 1
_HEADER = "adaptivepatch"


class TrainingState(NamedTuple):
    """State between two steps: tensors by dotted name, and what JSON can hold."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below a prefix, named without it."""
        start = prefix + "."
        return {
            name.removeprefix(start): value
            for name, value in self.tensors.items()
            if name.startswith(start)
        }


@dataclass(frozen=True)
class CheckpointFile:
    """Where a training run writes its state at every validation, and reads it from.

    Parameters
    ----------
    path : Path
        The file; its folder exists.
    identity : mapping
        What the run is: settings, data, seed. Written beside the state, so that whoever resumes
        can compare.
    """

    path: Path
    identity: Mapping[str, Any]

    def write(self, state: TrainingState) -> None:
        """Replace the file by a new state, atomically.

        Raises
        ------
        OutputError
            If it cannot be written; the earlier state is untouched.
        """
        header = json.dumps({"format": FORMAT, "identity": self.identity, **state.facts})
        tensors = {
            # clones: safetensors refuses tensors that share memory
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.tensors.items()
        }
        write_atomic(self.path, lambda target: _save(tensors, target, header))

    def save(self, state: Callable[[], TrainingState]) -> None:
        """Write the state that a function returns; see `write`."""
        self.write(state())

    def read(self) -> TrainingState | None:
        """Return the state in the file; None where there is no file.

        Raises
        ------
        InvalidModelError
            If the file is damaged, of a newer format or of another run.
        """
        if not self.path.exists():
            return None
        state = read_state(self.path)
        if state.facts["identity"] != self.identity:
            raise InvalidModelError(
                f"A run goes on from its own state. {str(self.path)!r} is that of a run with other "
                f"data or settings. Delete the folder {str(self.path.parent)!r} and train from the "
                "start."
            )
        return state


class NoCheckpoint:
    """Stands for the checkpoint of a run that keeps none."""

    path = None

    def save(self, state: Callable[[], TrainingState]) -> None:
        """Write nothing; the state is not even made."""

    def read(self) -> None:
        """Return None: there is no state to go on from."""


NO_CHECKPOINT = NoCheckpoint()


def _save(tensors: dict[str, Tensor], target: Path, header: str) -> None:
    try:
        save_file(tensors, target, {_HEADER: header})
    except SafetensorError as error:  # how it says that the disk is full
        raise OSError(str(error)) from error


def read_identity(path: Path) -> dict[str, Any]:
    """Return what run a checkpoint belongs to.

    Raises
    ------
    InvalidModelError
        If the file is damaged or of a newer format.
    """
    identity: dict[str, Any] = read_state(path, tensors=False).facts["identity"]
    return identity


def read_state(path: Path, *, tensors: bool = True) -> TrainingState:
    """Return what a checkpoint holds, whatever run it is of.

    Parameters
    ----------
    path : Path
        The file.
    tensors : bool, default=True
        Read the tensors, too.

    Raises
    ------
    InvalidModelError
        If the file is damaged or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            facts = json.loads(header) if header is not None else {}
            stored = {name: file.get_tensor(name) for name in file.keys() if tensors}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidModelError(
            f"{str(path)!r} is damaged or no checkpoint ({error}). Delete the folder "
            f"{str(path.parent)!r} and train from the start."
        ) from error
    facts = facts if isinstance(facts, dict) else {}
    found = facts.get("format")
    if not isinstance(found, int) or not isinstance(facts.get("identity"), dict):
        raise InvalidModelError(
            f"{str(path)!r} must be a checkpoint, but its header names none. Pass the folder that "
            "fit(checkpoint=...) wrote to."
        )
    if found > FORMAT:
        raise InvalidModelError(
            f"{str(path)!r} is a checkpoint of format {found}; this version reads up to format "
            f"{FORMAT}. Go on with the version that wrote it, or train from the start."
        )
    return TrainingState(stored, facts)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    InvalidModelError
        If the file is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(
            f"{str(path)!r} is damaged ({error}). Delete the folder {str(path.parent)!r} and train "
            "from the start."
        ) from error


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimizer's state as ``index.name``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put stored tensors into an optimizer over the same parameters; its groups stay."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Put stored weights into a network of the same configuration."""
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InvalidModelError(
            f"The weights in {str(origin)!r} do not fit the network "
            f"({' '.join(str(error).split())}). Train from the start."
        ) from error
