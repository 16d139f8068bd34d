"""Models on disk: a folder of ``config.json`` and ``model.safetensors``, never a pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator
from torch import Tensor

from adaptivepatch import __version__
from adaptivepatch.backbones import Backbone, backbone_class
from adaptivepatch.errors import InvalidModelError, InvalidParameterError
from adaptivepatch.patchers import Patcher, patcher_class

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def describe(component: Patcher | Backbone) -> dict[str, Any]:
    """Return the name and the parameters of a component, as JSON can hold them.

    Raises
    ------
    InvalidParameterError
        If a parameter is neither a number, a string, a list of these nor a component.
    """
    parameters: dict[str, Any] = {}
    for key, value in BaseEstimator.get_params(component, deep=False).items():
        if isinstance(value, Patcher | Backbone):
            parameters[key] = {"component": describe(value)}
        elif value is None or isinstance(value, bool | int | float | str | list | tuple):
            parameters[key] = value
        else:
            raise InvalidParameterError(
                f"Parameters must be numbers, strings or components to be saved. "
                f"{type(component).__name__}({key}=...) holds {value!r}."
            )
    return {"name": component.name, "parameters": parameters}


def build_component(
    description: Mapping[str, Any], kind: str, classes: Mapping[str, type] | None = None
) -> Any:
    """Return an untrained component from `describe`'s result.

    Parameters
    ----------
    description : mapping
        Name and parameters.
    kind : {"patcher", "backbone"}
        What it describes.
    classes : mapping of str to type, optional
        Classes outside the registry, by name.
    """
    name = description["name"]
    by_name = patcher_class if kind == "patcher" else backbone_class
    try:
        component = (classes or {}).get(name) or by_name(name)
    except InvalidParameterError as error:
        raise InvalidModelError(
            f"The model uses a {kind} this installation does not know. {error} For a class of your "
            f"own pass classes=[YourClass] to load."
        ) from error
    parameters = {
        key: build_component(value["component"], kind, classes)
        if isinstance(value, dict)
        else value
        for key, value in description["parameters"].items()
    }
    return component(**parameters)


def save_folder(
    path: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool
) -> Path:
    """Write a model folder; each file appears complete or not at all.

    Raises
    ------
    FileExistsError
        If the folder holds a model and `overwrite` is False.
    """
    folder = Path(path)
    if (folder / CONFIG).exists() and not overwrite:
        raise FileExistsError(
            f"The folder {str(folder)!r} holds a model already. Pass overwrite=True to replace it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    config = {"format": FORMAT, "adaptivepatch": __version__, **config}
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    _replace(folder / WEIGHTS, lambda target: save_file(stored, target))
    _replace(folder / CONFIG, lambda target: target.write_text(text, encoding="utf-8"))
    return folder


def load_folder(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model folder written by `save_folder`.

    Parameters
    ----------
    path : str or Path
        The folder.
    kind : str
        What the config must say it holds, such as "forecaster".

    Raises
    ------
    InvalidModelError
        If the folder is absent, incomplete, damaged, of another kind or of a newer format.
    """
    folder = Path(path)
    config_file, weights_file = folder / CONFIG, folder / WEIGHTS
    for file in (config_file, weights_file):
        if not file.is_file():
            raise InvalidModelError(
                f"A saved model is a folder with {CONFIG} and {WEIGHTS}. {str(file)!r} does not "
                "exist. Pass the folder that save() wrote."
            )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        found = config.get("kind"), config.get("format")
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise InvalidModelError(
            f"{str(config_file)!r} is not the JSON that save() wrote ({error}). Save the model "
            "again."
        ) from error
    if found[0] != kind or not isinstance(found[1], int):
        raise InvalidModelError(
            f"{str(folder)!r} must hold a {kind!r}, but its {CONFIG} says kind={found[0]!r}, "
            f"format={found[1]!r}. Load it with the class that saved it."
        )
    if found[1] > FORMAT:
        raise InvalidModelError(
            f"{str(folder)!r} was saved in format {found[1]} by adaptivepatch "
            f"{config.get('adaptivepatch')}; this version, {__version__}, reads up to format "
            f"{FORMAT}. Update adaptivepatch-forecasting."
        )
    try:
        return config, load_file(weights_file)
    except (SafetensorError, OSError) as error:
        raise InvalidModelError(
            f"{str(weights_file)!r} is damaged or no safetensors file ({error}). Save the model "
            "again."
        ) from error


def load_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], path: object) -> None:
    """Put stored weights into a network of the same configuration."""
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InvalidModelError(
            f"The weights in {str(path)!r} do not fit its {CONFIG} ({error}). Save the model again."
        ) from error


def parameters_of(estimator: BaseEstimator) -> dict[str, Any]:
    """Return constructor parameters without nested components."""
    return {
        key: value
        for key, value in estimator.get_params(deep=False).items()
        if value is None or isinstance(value, bool | int | float | str | list | tuple)
    }


def _replace(target: Path, write: Any) -> None:
    """Write beside the target, then move into place."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        mode = 0o666 & ~_umask()
        temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
