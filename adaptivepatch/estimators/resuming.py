"""Fits that go on: from a checkpoint to the same weights, or from a trained model to new data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from adaptivepatch.errors import InvalidModelError, InvalidParameterError
from adaptivepatch.estimators.settings import NetworkSettings
from adaptivepatch.files import make_folder, write_atomic
from adaptivepatch.model_folder import describe, first_mismatch, plain
from adaptivepatch.network import PatchNetwork
from adaptivepatch.pretrained import frozen_parts, weights_digest
from adaptivepatch.training.checkpoint import (
    NO_CHECKPOINT,
    CheckpointFile,
    read_identity,
    read_state,
    read_weights,
)

_FIRST, _SECOND, _INIT = "train.safetensors", "refit.safetensors", "init.safetensors"


class Checkpoints:
    """The two files of a fit in a folder: training with validation, then again on all rows.

    Parameters
    ----------
    folder : path
        Created if absent.
    identity : mapping
        See `identity_of`.
    init : mapping, optional
        Weights to begin with; kept in a third file, as the model they are of may change.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: Mapping[str, Any],
        init: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.folder, self.seed, self.init = Path(folder), int(identity["seed"]), init
        make_folder(self.folder)
        self.first = CheckpointFile(self.folder / _FIRST, identity)
        self.second = CheckpointFile(self.folder / _SECOND, identity)
        if (self.folder / _FIRST).exists():
            return
        (self.folder / _INIT).unlink(missing_ok=True)  # of a run killed before its first state
        if init is not None:
            write_atomic(self.folder / _INIT, lambda target: save_file(dict(init), target))

    @property
    def how_to_go_on(self) -> str:
        """What to do after an interruption, as a sentence."""
        return f"To go on, call fit with the same data and resume={str(self.folder)!r}."


class NoCheckpoints:
    """Stands for the checkpoints of a fit that keeps none.

    Parameters
    ----------
    seed : int
        Seed of the fit.
    init : mapping, optional
        Weights to begin with.
    """

    first = second = NO_CHECKPOINT
    how_to_go_on = "Next time pass checkpoint=... to be able to go on."

    def __init__(self, seed: int = 0, init: Mapping[str, Tensor] | None = None) -> None:
        self.seed, self.init = seed, init


def has_progress(folder: str | Path) -> bool:
    """Tell whether a folder of checkpoints holds more than the beginning of a run."""
    file = Path(folder) / _FIRST
    return file.is_file() and read_state(file, tensors=False).facts["record"]["num_steps"] > 0


def checkpoint_folder(checkpoint: Any, resume: Any) -> Path | None:
    """Return the folder that a fit writes its state to, if it writes any.

    Parameters
    ----------
    checkpoint, resume : path, optional
        See `adaptivepatch.Forecaster.fit`; at most one.

    Raises
    ------
    InvalidParameterError
        If both are given.
    InvalidModelError
        If there is no run to resume.
    FileExistsError
        If `checkpoint` holds a run already.
    """
    if checkpoint is not None and resume is not None:
        raise InvalidParameterError(
            "fit takes either 'checkpoint', to begin, or 'resume', to go on. Got checkpoint="
            f"{str(checkpoint)!r} and resume={str(resume)!r}. Leave one out; resume writes on to "
            "the folder it reads.",
            parameter="resume",
        )
    folder = checkpoint if resume is None else resume
    if folder is None:
        return None
    if not isinstance(folder, str | Path):
        raise TypeError(
            f"fit(checkpoint=...) and fit(resume=...) must be the path of a folder. Got {folder!r} "
            "instead."
        )
    folder = Path(folder)
    if checkpoint is not None and any((folder / file).exists() for file in (_FIRST, _SECOND)):
        raise FileExistsError(
            f"A fit begins in a folder without a checkpoint, but {str(folder)!r} holds one. Pass "
            "resume=... to go on from it, or delete the folder."
        )
    if resume is not None and not (folder / _FIRST).is_file():
        raise InvalidModelError(
            f"Resuming needs the folder that fit(checkpoint=...) wrote to. There is no {_FIRST!r} "
            f"in {str(folder)!r}. Pass checkpoint=... to begin.",
            parameter="resume",
        )
    return folder


def open_checkpoints(
    folder: Path,
    identity: Mapping[str, Any],
    init: Mapping[str, Tensor] | None,
    *,
    seed_is_given: bool,
) -> Checkpoints:
    """Return where a fit writes its states, after checking that a run to resume is the same one.

    Parameters
    ----------
    folder : Path
        See `checkpoint_folder`. A state that is there is of the run to resume.
    identity : mapping
        See `identity_of`.
    init : mapping, optional
        Weights to begin with; those of a run to resume are taken instead.
    seed_is_given : bool
        False takes the seed of the run to resume.

    Raises
    ------
    InvalidParameterError
        If the run to resume is another one.
    InvalidModelError
        If its file is damaged.
    """
    identity = dict(identity)
    if (folder / _FIRST).is_file():
        stored = read_identity(folder / _FIRST)
        if (folder / _INIT).exists():
            init = read_weights(folder / _INIT)
        if not seed_is_given:
            identity["seed"] = stored.get("seed")
        identity["init"] = digest_of_weights(init)
        _raise_unless_same(stored, identity, folder)
    return Checkpoints(folder, identity, init)


def identity_of(
    network: PatchNetwork,
    data: str,
    seed: int,
    init: Mapping[str, Tensor] | None,
    training: Mapping[str, Any],
    **settings: Any,
) -> dict[str, Any]:
    """Return all that decides what a fit computes, as JSON can hold it.

    Parameters
    ----------
    network : PatchNetwork
        Untrained, as the fit builds it.
    data : str
        Digest of the data.
    seed : int
        Seed of everything random.
    init : mapping, optional
        Weights to begin with; only a digest is kept.
    training : mapping
        Parameters of the trainer; display and device do not matter.
    **settings
        Parameters of the estimator and arguments of `fit` that shape training.
    """
    trainer = {k: v for k, v in training.items() if k not in ("progress", "device")}
    identity: dict[str, Any] = plain(
        {
            "seed": seed,
            "init": digest_of_weights(init),
            "patcher": describe(network.patcher),
            **_frozen_weights(network),
            "backbone": describe(network.backbone),
            **{f"trainer.{name}": value for name, value in trainer.items()},
            **settings,
        }
    )
    return {**identity, "data": data}


def digest_of_weights(weights: Mapping[str, Tensor] | None) -> str | None:
    """Return a fingerprint of weights to begin with, or None for random ones."""
    if weights is None:
        return None
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(np.ascontiguousarray(weights[name].numpy()).tobytes())
    return digest.hexdigest()[:16]


def _frozen_weights(network: PatchNetwork) -> dict[str, list[str]]:
    """Return digests of the frozen patchers in a network, if there are any."""
    digests = [weights_digest(part) for part in frozen_parts(network.patcher)]
    return {"frozen weights": digests} if digests else {}


def _raise_unless_same(stored: Mapping[str, Any], now: Mapping[str, Any], folder: object) -> None:
    changed = [name for name in {**stored, **now} if stored.get(name) != now.get(name)]
    if not changed:
        return
    parts = [
        "the data have changed"
        if name == "data"
        else f"{name} was {stored.get(name)!r} and is {now.get(name)!r}"
        for name in changed
    ]
    raise InvalidParameterError(
        f"A fit goes on with the data and settings it began with. Since the checkpoint in "
        f"{str(folder)!r}, {'; '.join(parts)}. Restore them, or begin anew in another folder.",
        parameter="resume",
    )


# --------------------------------------------------------------------------- a model to begin with


def weights_to_begin_with(trained: Any, settings: NetworkSettings) -> dict[str, Tensor]:
    """Return a copy of the weights of a trained model that a fit begins with.

    Parameters
    ----------
    trained : PanelModel
        The trained model.
    settings : NetworkSettings
        Of the network that will be trained.

    Raises
    ------
    InvalidParameterError
        If the model is another one than the settings describe.
    """
    network, theirs = settings.make(), trained.network
    pairs = {
        "context_length": (trained.context_length, settings.context_length),
        "horizon": (trained.horizon, settings.horizon),
        "quantiles": (trained.quantiles, settings.quantiles),
        "patcher": (describe(theirs.patcher), describe(network.patcher)),
        "backbone": (describe(theirs.backbone), describe(network.backbone)),
    }
    for name, (of_init, own) in pairs.items():
        if of_init != own:
            raise InvalidParameterError(
                f"fit(init=...) begins with the weights of a model of the same shape. Its {name} "
                f"is {of_init!r}, this forecaster's {own!r}. Set the same, or fit the loaded model "
                "itself.",
                parameter="init",
            )
    if _frozen_weights(theirs) != _frozen_weights(network):
        raise InvalidParameterError(
            "fit(init=...) begins with the weights of a model with the same frozen patcher. The "
            "weights of its frozen patcher differ from this forecaster's. Pass the patcher of that "
            "model.",
            parameter="init",
        )
    weights = {name: value.detach().cpu().clone() for name, value in theirs.state_dict().items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidParameterError(
            "fit(init=...) begins with the weights of a model of the same shape. Its weights do "
            f"not fit ({first_mismatch(error)}). Fit the loaded model itself.",
            parameter="init",
        ) from error
    return weights
