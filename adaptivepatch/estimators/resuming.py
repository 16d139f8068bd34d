"""Fits that go on: from a checkpoint to the same weights, or from a trained model to new data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from adaptivepatch.data.panel import Panel
from adaptivepatch.errors import InvalidModelError, InvalidParameterError
from adaptivepatch.estimators.fitting import check_quantiles
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.files import make_folder, write_atomic
from adaptivepatch.foundation import frozen_parts, weights_digest
from adaptivepatch.network import PatchNetwork
from adaptivepatch.pretrained import describe, first_mismatch, plain
from adaptivepatch.training.checkpoint import (
    CheckpointFile,
    read_identity,
    read_state,
    read_weights,
)

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster
    from adaptivepatch.training.trainer import Trainer

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


def has_progress(folder: str | Path) -> bool:
    """Tell whether a folder of checkpoints holds more than the beginning of a run."""
    file = Path(folder) / _FIRST
    return file.is_file() and read_state(file, tensors=False).facts["record"]["num_steps"] > 0


def open_checkpoints(
    forecaster: Forecaster,
    panel: Panel,
    trainer: Trainer,
    settings: Mapping[str, Any],
    *,
    seed: int,
    init: Mapping[str, Tensor] | None,
    checkpoint: str | Path | None,
    resume: str | Path | None,
) -> Checkpoints | None:
    """Return where to write checkpoints, after checking that a run to resume is the same one.

    Parameters
    ----------
    forecaster, panel, trainer, settings, seed, init
        See `identity_of`. Where the user left the seed open, that of the run to resume is taken;
        its initial weights always are.
    checkpoint, resume : path, optional
        See `Forecaster.fit`; at most one.

    Raises
    ------
    InvalidParameterError
        If both are given, or the run to resume is another one.
    InvalidModelError
        If there is no run to resume, or its file is damaged.
    FileExistsError
        If `checkpoint` holds a run already.
    """
    if checkpoint is not None and resume is not None:
        raise InvalidParameterError(
            "fit takes either 'checkpoint', to begin, or 'resume', to go on. Got checkpoint="
            f"{str(checkpoint)!r} and resume={str(resume)!r}. Leave one out; resume writes on to "
            "the folder it reads."
        )
    folder = checkpoint if resume is None else resume
    if folder is None:
        return None
    if not isinstance(folder, str | Path):
        raise TypeError(
            f"fit(checkpoint=...) and fit(resume=...) must be the path of a folder. Got {folder!r} "
            "instead."
        )
    file = Path(folder) / _FIRST
    if checkpoint is not None and any((Path(folder) / f).exists() for f in (_FIRST, _SECOND)):
        raise FileExistsError(
            f"A fit begins in a folder without a checkpoint, but {str(folder)!r} holds one. Pass "
            "resume=... to go on from it, or delete the folder."
        )
    if resume is not None and not file.is_file():
        raise InvalidModelError(
            f"Resuming needs the folder that fit(checkpoint=...) wrote to. There is no {_FIRST!r} "
            f"in {str(folder)!r}. Pass checkpoint=... to begin."
        )
    if resume is not None and (Path(folder) / _INIT).exists():
        init = read_weights(Path(folder) / _INIT)
    identity = identity_of(forecaster, panel, trainer, settings, seed=seed, init=init)
    if resume is not None:
        stored = read_identity(file)
        if not hasattr(forecaster.random_state, "__index__"):
            identity["seed"] = stored.get("seed")
        _raise_unless_same(stored, identity, folder)
    return Checkpoints(folder, identity, init)


def identity_of(
    forecaster: Forecaster,
    panel: Panel,
    trainer: Trainer,
    settings: Mapping[str, Any],
    *,
    seed: int,
    init: Mapping[str, Tensor] | None,
) -> dict[str, Any]:
    """Return all that decides what a fit computes, as JSON can hold it.

    Parameters
    ----------
    forecaster : Forecaster
        Its parameters.
    panel : Panel
        The data; only a digest is kept.
    trainer : Trainer
        Its parameters but for display and device.
    settings : mapping
        Arguments of `fit` that shape training.
    seed : int
        Of everything random.
    init : mapping, optional
        Weights to begin with; only a digest is kept.
    """
    network = forecaster.make_network()
    own = ("horizon", "context_length", "values_per_patch", "embedding", "quantiles", "loss")
    training = trainer.get_params()
    del training["progress"], training["device"]
    identity: dict[str, Any] = plain(
        {
            "seed": seed,
            "data": digest_of(panel),
            "init": None if init is None else _digest(*(init[key].numpy() for key in sorted(init))),
            "patcher": describe(network.patcher),
            **_frozen_weights(network),
            "backbone": describe(network.backbone),
            **{name: getattr(forecaster, name) for name in own},
            "share_segmentation": forecaster.share_segmentation,
            **{f"trainer.{name}": value for name, value in training.items()},
            **settings,
        }
    )
    return identity


def _frozen_weights(network: PatchNetwork) -> dict[str, list[str]]:
    """Return digests of the frozen patchers in a network, if there are any."""
    digests = [weights_digest(part) for part in frozen_parts(network.patcher)]
    return {"frozen weights": digests} if digests else {}


def digest_of(panel: Panel) -> str:
    """Return a fingerprint of the values, items, channels and stamps of a panel."""
    stamps = [f"{index[0]} {index[-1]}" for index in panel.index if len(index)]
    # stamps are regular: their ends and the step decide the others
    names = repr((panel.item_ids, panel.channels, panel.freq, stamps))
    return _digest(panel.values, panel.row_offsets, np.frombuffer(names.encode(), np.uint8))


def _digest(*arrays: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _raise_unless_same(stored: Mapping[str, Any], now: Mapping[str, Any], folder: object) -> None:
    changed = [name for name in {**stored, **now} if stored.get(name) != now.get(name)]
    if not changed:
        return
    parts = [
        f"the {name} are others"
        if name == "data"
        else f"{name} was {stored.get(name)!r} and is {now.get(name)!r}"
        for name in changed
    ]
    raise InvalidParameterError(
        f"A fit goes on with the data and settings it began with. Since the checkpoint in "
        f"{str(folder)!r}, {'; '.join(parts)}. Restore them, or begin anew in another folder."
    )


def initial_weights(forecaster: Forecaster, init: Any) -> dict[str, Tensor] | None:
    """Return the weights of a trained model that a fit begins with.

    Parameters
    ----------
    forecaster : Forecaster
        That will be trained.
    init : Forecaster, path or None
        Fitted or saved model with the same patcher, backbone and window.

    Raises
    ------
    InvalidParameterError
        If the model is another one than the forecaster would build.
    TypeError
        If it is no model.
    """
    if init is None:
        return None
    if isinstance(init, str | Path):
        init = type(forecaster).load(init)
    trained = getattr(init, "model_", None)
    if not isinstance(trained, PanelModel):
        state = "an unfitted one" if isinstance(init, type(forecaster)) else repr(init)
        raise TypeError(
            f"fit(init=...) must be a fitted Forecaster or the folder of a saved one. Got {state} "
            "instead."
        )
    network = forecaster.make_network()
    pairs = {
        "context_length": (trained.context_length, forecaster.context_length),
        "horizon": (trained.horizon, forecaster.horizon),
        "quantiles": (trained.quantiles, check_quantiles(forecaster, forecaster.quantiles)),
        "patcher": (describe(trained.network.patcher), describe(network.patcher)),
        "backbone": (describe(trained.network.backbone), describe(network.backbone)),
    }
    for name, (theirs, own) in pairs.items():
        if theirs != own:
            raise InvalidParameterError(
                f"fit(init=...) begins with the weights of a model of the same shape. Its {name} "
                f"is {theirs!r}, this forecaster's {own!r}. Set the same, or fit "
                "the loaded model itself."
            )
    if _frozen_weights(trained.network) != _frozen_weights(network):
        raise InvalidParameterError(
            "fit(init=...) begins with the weights of a model with the same frozen patcher. Its "
            "weights are others than this forecaster's. Pass the patcher of that model."
        )
    weights = {
        name: value.detach().cpu().clone() for name, value in trained.network.state_dict().items()
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InvalidParameterError(
            "fit(init=...) begins with the weights of a model of the same shape. Its weights do "
            f"not fit ({first_mismatch(error)}). Fit the loaded model itself."
        ) from error
    return weights
