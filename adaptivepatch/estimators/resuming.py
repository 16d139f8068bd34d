"""Fits that resume from a checkpoint, or that begin with the weights of a trained model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adaptivepatch.errors import (
    InvalidModelError,
    InvalidParameterError,
    OutputExistsError,
    shortened,
)
from adaptivepatch.estimators.settings import NetworkSettings
from adaptivepatch.files import as_path, make_folder, write_atomic
from adaptivepatch.model_folder import (
    REALS,
    content_of,
    describe,
    first_mismatch,
    plain,
    save_tensors,
)
from adaptivepatch.network import PatchNetwork
from adaptivepatch.pretrained import frozen_parts, weights_digest
from adaptivepatch.training.checkpoint import (
    NO_CHECKPOINT,
    CheckpointFile,
    check_tensors,
    read_identity,
    read_state,
    read_weights,
)

_FIRST, _SECOND, _INIT = "train.safetensors", "refit.safetensors", "init.safetensors"


class Checkpoints:
    """Checkpoint files of a fit in a folder: one for the first training, one for the refit.

    Parameters
    ----------
    folder : path
        Folder of the files; created if absent.
    identity : mapping
        Identity of the fit; see `identity_of`.
    init : mapping, optional
        Initial weights. They are kept in a third file, because the model that they come from may
        change.
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
        (self.folder / _INIT).unlink(missing_ok=True)  # from a run killed before its first state
        if init is not None:
            write_atomic(self.folder / _INIT, lambda target: save_tensors(init, target))

    @property
    def how_to_resume(self) -> str:
        """Sentence that says how to resume after an interruption."""
        return f"To resume, call fit with the same data and resume={str(self.folder)!r}."


class NoCheckpoints:
    """Stand-in for `Checkpoints` in a fit that writes no checkpoints.

    Parameters
    ----------
    seed : int
        Seed of the fit.
    init : mapping, optional
        Initial weights.
    """

    first = second = NO_CHECKPOINT
    how_to_resume = "Next time pass checkpoint=... to be able to resume."

    def __init__(self, seed: int = 0, init: Mapping[str, Tensor] | None = None) -> None:
        self.seed, self.init = seed, init


def has_progress(folder: str | Path) -> bool:
    """Tell whether a folder holds a checkpoint of a run that has done at least one step."""
    file = Path(folder) / _FIRST
    return file.is_file() and read_state(file, tensors=False).facts["record"]["num_steps"] > 0


def checkpoint_folder(checkpoint: Any, resume: Any) -> Path | None:
    """Return the folder to which a fit writes its state, or None if the fit writes no state.

    Parameters
    ----------
    checkpoint, resume : path, optional
        Arguments of `adaptivepatch.Forecaster.fit`; at most one is given.

    Raises
    ------
    InvalidParameterError
        If both are given.
    InvalidModelError
        If there is no run to resume.
    OutputExistsError
        If `checkpoint` holds a checkpoint already.
    """
    if checkpoint is not None and resume is not None:
        raise InvalidParameterError(
            "fit takes either 'checkpoint', to begin, or 'resume', to continue. Got checkpoint="
            f"{str(checkpoint)!r} and resume={str(resume)!r}. Leave one out: a resumed fit writes "
            "to the folder that it reads.",
            parameter="resume",
        )
    if checkpoint is None and resume is None:
        return None
    folder = as_path(checkpoint, "checkpoint") if resume is None else as_path(resume, "resume")
    if checkpoint is not None and any((folder / file).exists() for file in (_FIRST, _SECOND)):
        raise OutputExistsError(
            f"The folder {str(folder)!r} holds a checkpoint already. Pass resume=... to continue "
            "from it, or delete the folder.",
            parameter="resume",
        )
    if resume is not None and not (folder / _FIRST).is_file():
        raise InvalidModelError(
            "Resuming needs the folder that fit(checkpoint=...) wrote to, but there is no "
            f"{_FIRST!r} in {str(folder)!r}. Pass checkpoint=... to begin.",
            parameter="resume",
        )
    return folder


def open_checkpoints(
    folder: Path,
    identity: Mapping[str, Any],
    init: Mapping[str, Tensor] | None,
    network: PatchNetwork,
    *,
    seed_is_given: bool,
) -> Checkpoints:
    """Return the checkpoints of a fit, after checking that a run to resume is the same fit.

    Parameters
    ----------
    folder : Path
        Result of `checkpoint_folder`. If it holds a state, this is the state of the run to resume.
    identity : mapping
        Identity of the fit; see `identity_of`.
    init : mapping, optional
        Initial weights. A run to resume uses its own initial weights instead.
    network : PatchNetwork
        Untrained network, as the fit builds it.
    seed_is_given : bool
        Whether the user gave a seed. If False, the seed of the run to resume is used.

    Raises
    ------
    InvalidParameterError
        If the run to resume had different data or settings.
    InvalidModelError
        If a file of the run to resume is damaged or was changed.
    """
    identity = dict(identity)
    if (folder / _FIRST).is_file():
        stored = read_identity(folder / _FIRST)
        if (folder / _INIT).exists():
            init = read_weights(folder / _INIT)
            own = network.state_dict()
            reals = {name for name in init.keys() & own.keys() if init[name].dtype in REALS}
            converted = {name: init[name].to(own[name].dtype) for name in reals}
            check_tensors({**init, **converted}, own, "init", folder / _INIT)
        if not seed_is_given:
            identity["seed"] = stored.get("seed", identity["seed"])
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
    """Return everything that determines the result of a fit, as JSON values.

    Parameters
    ----------
    network : PatchNetwork
        Untrained network, as the fit builds it.
    data : str
        Digest of the data.
    seed : int
        Seed of weights, batch order and sampling.
    init : mapping, optional
        Initial weights, of which only the digest is kept.
    training : mapping
        Parameters of the trainer; `progress` and `device` are left out.
    **settings
        Parameters of the estimator and arguments of `fit` that shape training.
    """
    trainer = {k: v for k, v in training.items() if k not in ("progress", "device")}
    for name in ("batch_rows", "validation_share"):  # None: as before these parameters existed
        if trainer[name] is None:
            del trainer[name]
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
    """Return a digest of initial weights, or None for random weights."""
    if weights is None:
        return None
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(content_of(weights[name]))
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
        "A fit must be resumed with the data and settings that it began with. Since the checkpoint "
        f"in {str(folder)!r}, {shortened('; '.join(parts), 4000)}. Restore the data and settings, "
        "or begin a new fit in another folder.",
        parameter="resume",
    )


# --------------------------------------------------------------------------- initial weights


def weights_to_begin_with(
    trained: Any, settings: NetworkSettings, transform: str | None
) -> dict[str, Tensor]:
    """Return a copy of the weights of a trained model, for a fit to begin with.

    Parameters
    ----------
    trained : PanelModel
        Trained model.
    settings : NetworkSettings
        Settings of the network to train.
    transform : str, optional
        Transform of the values that the network is trained on.

    Raises
    ------
    InvalidParameterError
        If the model does not have the shape or the transform that the settings describe, or has
        different frozen weights.
    """
    network, theirs, power = settings.make(), trained.network, trained.scaling.power
    pairs = {
        "context_length": (trained.context_length, settings.context_length),
        "horizon": (trained.horizon, settings.horizon),
        "quantiles": (trained.quantiles, settings.quantiles),
        "transform": (None if power is None else power.name, transform),
        "patcher": (describe(theirs.patcher), describe(network.patcher)),
        "backbone": (describe(theirs.backbone), describe(network.backbone)),
    }
    for name, (of_init, own) in pairs.items():
        if of_init != own:
            raise InvalidParameterError(
                f"Fine-tuning needs a model of the same shape. The {name} of the model is "
                f"{of_init!r}, but the {name} of this forecaster is {own!r}. Set the same {name}, "
                "or fit the loaded model itself.",
                parameter="init",
            )
    if _frozen_weights(theirs) != _frozen_weights(network):
        raise InvalidParameterError(
            "Fine-tuning needs a model with the same frozen patcher, but the frozen weights of the "
            "model differ from the frozen weights of this forecaster. Pass the patcher of the "
            "model.",
            parameter="init",
        )
    weights = {name: value.detach().cpu().clone() for name, value in theirs.state_dict().items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidParameterError(
            "Fine-tuning needs a model of the same shape, but the weights of the model do not fit "
            f"({first_mismatch(error)}). Fit the loaded model itself.",
            parameter="init",
        ) from error
    return weights
