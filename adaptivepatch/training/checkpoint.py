"""`CheckpointFile`: the state from which a training run is resumed, in one file.

A single file can be replaced atomically: a process killed at any moment leaves either the old state
or the new state. The file has the safetensors format, with the JSON part in its header and no
pickle. The header also has a digest of the whole state, so that a changed file is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from adaptivepatch import schema
from adaptivepatch.errors import InvalidModelError, shortened
from adaptivepatch.files import write_atomic
from adaptivepatch.model_folder import content_of, read_json, save_tensors

FORMAT = 1
_HEADER, _DIGEST = "adaptivepatch", "sha256"
_COMMON = schema.fields(
    {
        "identity": schema.fields({}, {"seed": schema.integer()}, others=True),
        "record": schema.fields({"num_steps": schema.integer()}, others=True),
    },
    others=True,
)


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
        """Return the tensors whose names begin with a prefix and a dot, which are cut off."""
        start = prefix + "."
        return {
            name.removeprefix(start): value
            for name, value in self.tensors.items()
            if name.startswith(start)
        }


@dataclass(frozen=True)
class CheckpointFile:
    """File to which a training run writes its state, and from which the run can be resumed.

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
        """Replace the file atomically by a file with a new state.

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
        facts = {_HEADER: header, _DIGEST: _digest(header, tensors)}
        write_atomic(self.path, lambda target: save_tensors(tensors, target, facts))

    def save(self, state: Callable[[], TrainingState]) -> None:
        """Write the state that a function returns; see `write`."""
        self.write(state())

    def read(self) -> TrainingState | None:
        """Return the state in the file, or None if there is no file.

        Raises
        ------
        InvalidModelError
            If the file is damaged, was changed, has a newer format or belongs to another run.
        """
        if not self.path.exists():
            return None
        state = read_state(self.path)
        if state.facts["identity"] != self.identity:
            raise InvalidModelError(
                f"{str(self.path)!r} holds the state of a run with different data or settings, so "
                f"this run cannot resume from it. Delete the folder {str(self.path.parent)!r} and "
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


NO_CHECKPOINT: NoCheckpoint = NoCheckpoint()


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a header and of the names, types, shapes and values of tensors."""
    digest = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(content_of(value))
    return digest.hexdigest()


def read_identity(path: Path) -> dict[str, Any]:
    """Return the identity of the run that wrote a checkpoint.

    Raises
    ------
    InvalidModelError
        If the file is damaged, was changed, or has a newer format.
    """
    identity: dict[str, Any] = read_state(path).facts["identity"]
    return identity


def read_state(path: Path, *, tensors: bool = True) -> TrainingState:
    """Return the state in a checkpoint, without comparing its identity.

    Parameters
    ----------
    path : Path
        File to read.
    tensors : bool, default=True
        Whether to read the tensors. If False, the returned state has no tensors.

    Raises
    ------
    InvalidModelError
        If the file is damaged, was changed, or has a newer format.
    """
    try:
        stored, metadata = _read_file(path, tensors=tensors)
        header = metadata.get(_HEADER, "{}")
        facts = read_json(header, allow_nan=True)
    except ValueError as error:
        raise _damaged(path, error) from error
    facts = facts if isinstance(facts, dict) else {}
    found = facts.get("format")
    if type(found) is not int or not isinstance(facts.get("identity"), dict):
        raise InvalidModelError(
            f"{str(path)!r} is not a checkpoint: its header lacks a format or an identity. Pass "
            "the folder that fit(checkpoint=...) wrote to."
        )
    if found > FORMAT:
        raise InvalidModelError(
            f"{str(path)!r} is a checkpoint of format {shortened(str(found))}, but this version "
            f"reads only formats up to {FORMAT}. Resume with the version that wrote it, or train "
            "from the start."
        )
    check_facts(_COMMON, facts, path)
    digest = metadata.get(_DIGEST)  # absent from checkpoints of earlier versions
    if tensors and digest is not None and digest != _digest(header, stored):
        raise InvalidModelError(
            f"{str(path)!r} was changed since it was written: its content does not have the "
            f"digest that its header states. Delete the folder {str(path.parent)!r} and train from "
            "the start."
        )
    return TrainingState(stored, facts)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    InvalidModelError
        If the file is damaged.
    """
    return _read_file(path)[0]


def _read_file(path: Path, *, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, if they are wanted, and its metadata."""
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys() if tensors else ()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, AttributeError) as error:
        raise _damaged(path, error) from error  # AttributeError: a type that torch lacks


def _damaged(path: Path, error: Exception) -> InvalidModelError:
    return InvalidModelError(
        f"{str(path)!r} is damaged or not a checkpoint ({shortened(str(error))}). Delete the "
        f"folder {str(path.parent)!r} and train from the start."
    )


# ------------------------------------------------------------------------ checks before restoring


def check_facts(facts_schema: schema.Schema, facts: Mapping[str, Any], path: object) -> None:
    """Raise `InvalidModelError` unless the facts of a checkpoint have the form of a schema."""
    try:
        facts_schema(facts, "header")
    except schema.SchemaError as error:
        raise _misfit(path, str(error)) from error


def check_tensors(
    stored: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str, path: object
) -> None:
    """Raise `InvalidModelError` unless stored tensors have the wanted names, types and shapes.

    Parameters
    ----------
    stored : mapping of str to Tensor
        Tensors that were read.
    wanted : mapping of str to Tensor
        Tensors that they will replace.
    name : str
        Name of the part, for the message.
    path : path
        File that was read, for the message.
    """
    for key in sorted(stored.keys() ^ wanted.keys()):
        state = "lacks" if key in wanted else "has the unknown tensor"
        raise _misfit(path, f"{name} {state} {shortened(repr(key), 60)}")
    for key, value in stored.items():
        found, needed = ((t.dtype, tuple(t.shape)) for t in (value, wanted[key]))
        if found != needed:
            raise _misfit(path, f"{name} has {key!r} of {found}, not {needed}")


def _misfit(path: object, found: str) -> InvalidModelError:
    return InvalidModelError(
        f"{str(path)!r} does not fit this run: {found}. The file is damaged or was changed. Train "
        "from the start."
    )


# -------------------------------------------------------------------------- optimizer and network


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimizer's state by ``index.name``, with the parameter's index."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in state.items() for name, value in values.items()}


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Load stored tensors into AdamW with the same parameters; its groups stay unchanged.

    Raises
    ------
    InvalidModelError
        If names, types or shapes differ from those of the optimizer's state.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        if not (number.isdecimal() and len(number) < 10 and int(number) < len(parameters)):
            raise _misfit(origin, f"optimizer has the unknown tensor {shortened(repr(key), 60)}")
        state.setdefault(int(number), {})[name] = value
    for index, values in state.items():
        moment, step = parameters[index], torch.zeros((), dtype=torch.float32)
        wanted = {"step": step, "exp_avg": moment, "exp_avg_sq": moment}
        check_tensors(values, wanted, f"optimizer.{index}", origin)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Load stored weights into a network of the same configuration.

    Raises
    ------
    InvalidModelError
        If names, types or shapes differ.
    """
    check_tensors(tensors, network.state_dict(), "network", origin)
    network.load_state_dict(dict(tensors))
