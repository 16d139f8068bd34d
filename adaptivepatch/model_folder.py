"""Models on disk: a folder of ``config.json`` and ``model.safetensors``, never a pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sklearn.base import BaseEstimator
from torch import Tensor

from adaptivepatch import __version__
from adaptivepatch.errors import InvalidModelError, InvalidParameterError, OutputExistsError
from adaptivepatch.files import make_folder, write_atomic
from adaptivepatch.registry import PATCHERS, SETTINGS, backbone_class

FORMAT = 1
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"


def describe(component: Any) -> dict[str, Any]:
    """Return name, parameters and frozen flag of a component, and of the components inside it."""
    parameters = {
        key: {"component": describe(value)} if _is_component(value) else value
        for key, value in BaseEstimator.get_params(component, deep=False).items()
    }
    description = {"name": component.name, "parameters": parameters}
    if getattr(component, "is_frozen", False):
        description["frozen"] = True
    return description


def _is_component(value: object) -> bool:
    """Tell whether a parameter is itself a patcher, a backbone or a class of settings."""
    return isinstance(value, BaseEstimator) and hasattr(value, "name")


def build_component(
    description: Mapping[str, Any], kind: str, classes: Mapping[str, type] | None = None
) -> Any:
    """Return an untrained component from `describe`'s result.

    Parameters
    ----------
    description : mapping
        Result of `describe`.
    kind : {"patcher", "backbone"}
        Kind of the component.
    classes : mapping of str to type, optional
        Classes outside the registry, by name.

    Raises
    ------
    InvalidModelError
        If the class is neither registered nor given.
    """
    name = description["name"]
    by_name = PATCHERS.find if kind == "patcher" else backbone_class
    try:
        component = (classes or {}).get(name) or SETTINGS.get(name) or by_name(name)
    except InvalidParameterError as error:
        raise InvalidModelError(
            f"The model uses a {kind} that is not registered. {error} For a class of your own pass "
            "classes=[YourClass] to load.",
            parameter="classes",
        ) from error
    parameters = {
        key: build_component(value["component"], kind, classes)
        if isinstance(value, dict)
        else value
        for key, value in description["parameters"].items()
    }
    built = component(**parameters)
    return built.freeze() if description.get("frozen") is True else built


def save_folder(
    path: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, overwrite: bool
) -> Path:
    """Write a model folder; each file appears complete or not at all.

    Parameters
    ----------
    path : str or Path
        Folder; created if absent.
    config : mapping
        Content of the config.
    tensors : mapping of str to Tensor
        Weights and other tensors, by name.
    overwrite : bool
        Replace a model that the folder holds.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExistsError
        If the folder holds a model and `overwrite` is False.
    OutputError
        If a file cannot be written.
    """
    folder = make_folder(_folder(path))
    if (folder / CONFIG).exists() and not overwrite:
        raise OutputExistsError(
            f"The folder {str(folder)!r} holds a model already. Pass overwrite=True to replace it.",
            parameter="overwrite",
        )
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    config = plain({"format": FORMAT, "adaptivepatch": __version__, **config})
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    write_atomic(folder / WEIGHTS, lambda target: _save_tensors(stored, target))
    write_atomic(folder / CONFIG, lambda target: target.write_text(text, encoding="utf-8"))
    return folder


def _save_tensors(tensors: dict[str, Tensor], target: Path) -> None:
    try:
        save_file(tensors, target)
    except SafetensorError as error:  # raised by safetensors when the disk is full
        raise OSError(str(error)) from error


def _folder(path: object) -> Path:
    if not isinstance(path, str | Path):
        raise TypeError(f"The path of a model must be a str or Path. Got {path!r} instead.")
    return Path(path)


def load_folder(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model folder written by `save_folder`.

    Parameters
    ----------
    path : str or Path
        The folder.
    kind : str
        Kind that the config must have, such as "forecaster".

    Returns
    -------
    config : dict
        Content of the config.
    tensors : dict of str to Tensor
        Weights and other tensors, by name.

    Raises
    ------
    InvalidModelError
        If the folder is absent, incomplete, damaged, of another kind or of a newer format.
    """
    folder = _folder(path)
    config_file, weights_file = folder / CONFIG, folder / WEIGHTS
    for file in (config_file, weights_file):
        if not _is_file(file):
            raise InvalidModelError(
                f"A saved model is a folder with {CONFIG} and {WEIGHTS}. {str(file)!r} does not "
                "exist. Pass the folder of a saved model."
            )
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        found = config.get("kind"), config.get("format")
    except (ValueError, AttributeError, OSError, RecursionError) as error:
        raise InvalidModelError(
            f"{str(config_file)!r} is not the JSON of a saved model ({error}). Save the model "
            "again."
        ) from error
    if found[0] != kind or type(found[1]) is not int or found[1] < 1:
        raise InvalidModelError(
            f"{str(folder)!r} must hold a {kind!r}. Its {CONFIG} has kind={found[0]!r} and "
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
            f"{str(weights_file)!r} is damaged or not a safetensors file ({error}). Save the model "
            "again."
        ) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example if the name is too long
        return False


def first_mismatch(error: RuntimeError) -> str:
    """Return the first reason for which torch refuses a state dict, and the number of others."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    more = len(lines) - 2
    return lines[min(1, len(lines) - 1)].rstrip(".") + (f", and {more} more" if more > 0 else "")


def load_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], path: object) -> None:
    """Load stored weights into a network of the same configuration.

    Raises
    ------
    InvalidModelError
        If names or shapes differ, or a weight is not finite.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InvalidModelError(
            f"The weights in {str(path)!r} do not fit its {CONFIG} ({first_mismatch(error)}). Save "
            "the model again."
        ) from error
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InvalidModelError(
            f"Weights must be finite. Those of {broken[0]!r} in {str(path)!r} are not. Save the "
            "model again."
        )


def plain(value: Any, name: str = "config") -> Any:
    """Return a value as JSON values; NaN and infinity become None.

    Parameters
    ----------
    value : object
        Numbers, strings, lists, arrays and mappings of them, or None.
    name : str
        Name of the value in the error message.

    Raises
    ------
    InvalidParameterError
        If the value contains anything else.
    """
    if isinstance(value, dict):
        return {str(key): plain(inner, f"{name}.{key}") for key, inner in value.items()}
    if not isinstance(value, np.generic) and hasattr(value, "tolist"):  # arrays and indexes
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(inner, name) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InvalidParameterError(
        f"A saved model is made of numbers, strings and lists. {name!r} is {value!r}. Set it to "
        "one of these before saving."
    )
