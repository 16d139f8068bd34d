"""`CheckpointFile`: the state from which a training run is resumed, in one file.

A single file can be replaced atomically: a process killed at any moment leaves either the old state
or the new one. The file has the safetensors format, with the JSON part in its header and no pickle.
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
    """State of a training run between two steps.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors by dotted name.
    facts : dict
        All other parts of the state, as JSON values.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix and a dot, named without them."""
        start = prefix + "."
        return {
            name.removeprefix(start): value
            for name, value in self.tensors.items()
            if name.startswith(start)
        }


@dataclass(frozen=True)
class CheckpointFile:
    """File that a training run writes its state to at every validation, and resumes from.

    Parameters
    ----------
    path : Path
        Path of the file; its folder must exist.
    identity : mapping
        Settings, data and seed of the run. They are stored with the state and must be equal when
        the run is resumed.
    """

    path: Path
    identity: Mapping[str, Any]

    def write(self, state: TrainingState) -> None:
        """Replace the file atomically by one with a new state.

        Raises
        ------
        OutputError
            If the file cannot be written; the earlier state then remains.
        """
        header = json.dumps({"format": FORMAT, "identity": self.identity, **state.facts})
        tensors = {
            # Cloned, because safetensors refuses tensors that share memory.
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in state.tensors.items()
        }
        write_atomic(self.path, lambda target: _save(tensors, target, header))

    def save(self, state: Callable[[], TrainingState]) -> None:
        """Write the state that a function returns; see `write`."""
        self.write(state())

    def read(self) -> TrainingState | None:
        """Return the state in the file, or None if there is no file.

        Raises
        ------
        InvalidModelError
            If the file is damaged, has a newer format or belongs to another run.
        """
        if not self.path.exists():
            return None
        state = read_state(self.path)
        if state.facts["identity"] != self.identity:
            raise InvalidModelError(
                f"A run resumes from its own state only. {str(self.path)!r} holds that of a run "
                f"with different data or settings. Delete the folder {str(self.path.parent)!r} and "
                "train from the start."
            )
        return state


class NoCheckpoint:
    """Stand-in for `CheckpointFile` in a run that writes no checkpoint."""

    path = None

    def save(self, state: Callable[[], TrainingState]) -> None:
        """Do nothing; the state is not computed."""

    def read(self) -> None:
        """Return None: there is no state to resume from."""


NO_CHECKPOINT = NoCheckpoint()


def _save(tensors: dict[str, Tensor], target: Path, header: str) -> None:
    try:
        save_file(tensors, target, {_HEADER: header})
    except SafetensorError as error:  # raised by safetensors when the disk is full
        raise OSError(str(error)) from error


def read_identity(path: Path) -> dict[str, Any]:
    """Return the identity of the run that wrote a checkpoint.

    Raises
    ------
    InvalidModelError
        If the file is damaged or has a newer format.
    """
    identity: dict[str, Any] = read_state(path, tensors=False).facts["identity"]
    return identity


def read_state(path: Path, *, tensors: bool = True) -> TrainingState:
    """Return the state in a checkpoint, without comparing its identity.

    Parameters
    ----------
    path : Path
        File to read.
    tensors : bool, default=True
        Read the tensors too; otherwise the state has none.

    Raises
    ------
    InvalidModelError
        If the file is damaged or has a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            facts = json.loads(header) if header is not None else {}
            stored = {name: file.get_tensor(name) for name in file.keys() if tensors}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidModelError(
            f"{str(path)!r} is damaged or not a checkpoint ({error}). Delete the folder "
            f"{str(path.parent)!r} and train from the start."
        ) from error
    facts = facts if isinstance(facts, dict) else {}
    found = facts.get("format")
    if not isinstance(found, int) or not isinstance(facts.get("identity"), dict):
        raise InvalidModelError(
            f"{str(path)!r} is not a checkpoint: its header lacks a format or an identity. Pass "
            "the folder that fit(checkpoint=...) wrote to."
        )
    if found > FORMAT:
        raise InvalidModelError(
            f"{str(path)!r} is a checkpoint of format {found}; this version reads up to format "
            f"{FORMAT}. Resume with the version that wrote it, or train from the start."
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
    """Return the tensors of an optimizer's state by ``index.name``, with the parameter's index."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load stored tensors into an optimizer of the same parameters; its groups stay unchanged."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Load stored weights into a network of the same configuration.

    Raises
    ------
    InvalidModelError
        If names or shapes differ.
    """
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise InvalidModelError(
            f"The weights in {str(origin)!r} do not fit the network "
            f"({' '.join(str(error).split())}). Train from the start."
        ) from error
