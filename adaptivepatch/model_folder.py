"""Models on disk: a folder of ``config.json`` and ``model.safetensors``, never a pickle.

The config states the SHA-256 of the weights, so that files of two saves are never mixed. Everything
that is read is validated before it is used, and no config can cause much more memory to be
allocated than the stored weights need.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.overrides import TorchFunctionMode

from adaptivepatch import __version__, schema
from adaptivepatch.errors import (
    InvalidModelError,
    InvalidParameterError,
    OutputExistsError,
    shortened,
)
from adaptivepatch.files import Replacement, as_path, digest_of, is_file, make_folder
from adaptivepatch.keywords import UnexpectedArgumentError
from adaptivepatch.registry import PATCHERS, SETTINGS, backbone_class

FORMAT = 1
CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
DIGEST: Final = "weights_sha256"  # key of the config
REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEEPEST = 16  # levels of components inside components
_DEEPEST_JSON = 64  # levels of lists and mappings


def describe(component: Any) -> dict[str, Any]:
    """Return name, parameters and frozen flag of a component and of the components inside it."""
    parameters = {
        key: {"component": describe(value)} if _is_component(value) else value
        for key, value in BaseEstimator.get_params(component, deep=False).items()
    }
    description = {"name": component.name, "parameters": parameters}
    if getattr(component, "is_frozen", False):
        description["frozen"] = True
    return description


def _is_component(value: object) -> bool:
    """Tell whether a parameter is itself a patcher, a backbone or an object with settings."""
    return isinstance(value, BaseEstimator) and hasattr(value, "name")


def description(value: Any, name: str, depth: int = 0) -> None:
    """Check that a value has the form of `describe`'s result; see `adaptivepatch.schema`."""
    if depth > _DEEPEST:
        raise schema.SchemaError(f"{shortened(name)} is nested too deeply")

    def parameter(value: Any, name: str) -> None:
        if isinstance(value, dict):
            inner = {"component": lambda v, n: description(v, n, depth + 1)}
            schema.fields(inner)(value, name)

    parameters = schema.mapping_of(parameter)
    required = {"name": schema.text, "parameters": parameters}
    schema.fields(required, {"frozen": schema.boolean})(value, name)


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
    TypeError
        If the description names a parameter that the class does not have.
    """
    name = description["name"]
    by_name = PATCHERS.find if kind == "patcher" else backbone_class
    try:
        component = (classes or {}).get(name) or SETTINGS.get(name) or by_name(name)
    except InvalidParameterError as error:
        raise InvalidModelError(
            f"The model uses a {kind} that is not registered. {error} To load a class of your own, "
            "pass classes=[YourClass].",
            parameter="classes",
        ) from error
    parameters = {
        key: build_component(value["component"], kind, classes)
        if isinstance(value, dict)
        else value
        for key, value in description["parameters"].items()
    }
    try:
        built = component(**parameters)
    except UnexpectedArgumentError as error:  # the fault lies in the description, not in a call
        raise TypeError(str(error)) from error
    return built.freeze() if description.get("frozen") is True else built


def save_folder(
    path: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    overwrite: bool,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Write the files of a model into a folder, where they replace earlier ones together.

    The config is replaced last. If the process is killed before that, the earlier config does not
    state the digest of the new weights, and `load_folder` refuses the folder.

    Parameters
    ----------
    path : str or Path
        Folder; created if absent.
    config : mapping
        Content of the config.
    tensors : mapping of str to Tensor
        Weights and other tensors, by name.
    overwrite : bool
        Whether to replace a model that the folder holds.
    texts : mapping of str to str, optional
        Contents of further text files, by name.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExistsError
        If the folder holds a model and `overwrite` is False.
    OutputError
        If a file cannot be written. An earlier model remains.
    """
    folder = make_folder(as_path(path))
    if (folder / CONFIG).exists() and not overwrite:
        raise OutputExistsError(
            f"The folder {str(folder)!r} holds a model already. Pass overwrite=True to replace it.",
            parameter="overwrite",
        )
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    written = plain({"format": FORMAT, "adaptivepatch": __version__, **config})
    with Replacement() as files:
        weights = files.write(folder / WEIGHTS, lambda target: save_tensors(stored, target))
        written[DIGEST] = digest_of(weights)
        content = json.dumps(written, indent=2, allow_nan=False) + "\n"
        for name, text in {**(texts or {}), CONFIG: content}.items():
            files.write(folder / name, _writer(text))
    return folder


def _writer(text: str) -> Callable[[Path], object]:
    """Return a function that writes a text into a file."""
    return lambda target: target.write_text(text, encoding="utf-8")


def save_tensors(
    tensors: Mapping[str, Tensor], target: Path, facts: Mapping[str, str] | None = None
) -> None:
    """Write tensors into a safetensors file.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        Contiguous tensors on the CPU that do not share memory.
    target : Path
        File to write.
    facts : mapping of str to str, optional
        Texts for the header of the file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        save_file(dict(tensors), target, None if facts is None else dict(facts))
    except SafetensorError as error:  # raised by safetensors when the disk is full
        raise OSError(str(error)) from error


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
        If the folder is absent, incomplete, damaged, of another kind or of a newer format, or if
        its files come from different saves.
    """
    folder = as_path(path)
    config_file, weights_file = folder / CONFIG, folder / WEIGHTS
    for file in (config_file, weights_file):
        if not is_file(file):
            raise InvalidModelError(
                f"{shortened(repr(str(file)))} does not exist. Pass the folder of a saved model, "
                f"which holds {CONFIG} and {WEIGHTS}."
            )
    try:
        config = read_json(config_file.read_bytes())
        found = config.get("kind"), config.get("format")
    except (ValueError, AttributeError, OSError) as error:
        raise InvalidModelError(
            f"{str(config_file)!r} is not the JSON of a saved model "
            f"({shortened(str(error))}). Save the model again."
        ) from error
    if found[0] != kind or type(found[1]) is not int or found[1] < 1:
        raise InvalidModelError(
            f"{str(folder)!r} does not hold a saved {kind!r}: its {CONFIG} has "
            f"kind={shortened(repr(found[0]))} and format={shortened(repr(found[1]))}. Load the "
            "folder with the class that saved it."
        )
    if found[1] > FORMAT:
        raise InvalidModelError(
            f"{str(folder)!r} was saved in format {shortened(str(found[1]))} by adaptivepatch "
            f"{shortened(str(config.get('adaptivepatch')))}, but this version, {__version__}, "
            f"reads only formats up to {FORMAT}. Update adaptivepatch-forecasting."
        )
    return config, _read_weights(weights_file, config.get(DIGEST))


def read_json(content: bytes | str, *, allow_nan: bool = False) -> Any:
    """Return the value of a JSON text.

    Parameters
    ----------
    content : bytes or str
        The text.
    allow_nan : bool, default=False
        Whether to accept NaN and infinity.

    Raises
    ------
    ValueError
        If the text is not JSON in UTF-8, is nested too deeply, or has NaN or infinity although
        `allow_nan` is False.
    """

    def constant(name: str) -> float:
        if not allow_nan:
            raise ValueError(f"{name} is not JSON")
        return float(name)

    try:
        value = json.loads(content, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    level = [value]
    for _ in range(_DEEPEST_JSON):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError("it is nested too deeply")
    return value


def _inside(value: object) -> Iterable[object]:
    """Return the values inside a list or a mapping of JSON."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _read_weights(file: Path, digest: object) -> dict[str, Tensor]:
    """Return the tensors of a file after comparing the digest in the config, if any."""
    try:
        content = file.read_bytes()  # once, as another process may replace the file
        if digest is None or digest == hashlib.sha256(content).hexdigest():
            return load(content)
        load(content)  # raises if the file is damaged, which is a different fault
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a type that torch lacks
        raise InvalidModelError(
            f"{str(file)!r} is damaged or not a safetensors file ({shortened(str(error))}). Save "
            "the model again."
        ) from error
    raise InvalidModelError(
        f"The {WEIGHTS} in {str(file.parent)!r} does not have the digest that {CONFIG} states: a "
        "save was interrupted, or one of the two files was changed or copied without the other. "
        "Save the model again, or copy the whole folder."
    )


def first_mismatch(error: RuntimeError) -> str:
    """Return torch's first reason for refusing a state dict, and the number of further reasons."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    more = len(lines) - 2
    first = shortened(lines[min(1, len(lines) - 1)].rstrip("."))
    return first + (f", and {more} more" if more > 0 else "")


def load_weights(network: torch.nn.Module, weights: Mapping[str, Tensor], path: object) -> None:
    """Load stored weights into a network with the same configuration.

    Raises
    ------
    InvalidModelError
        If names, shapes or types differ, or a weight is not finite.
    """
    own = network.state_dict()
    try:
        for name, value in weights.items():
            if name in own and not _fits(value, own[name]):
                raise RuntimeError(f"{name!r} holds {value.dtype}, not {own[name].dtype}")
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InvalidModelError(
            f"The weights in {str(path)!r} do not fit its {CONFIG} ({first_mismatch(error)}). Save "
            "the model again."
        ) from error
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InvalidModelError(
            f"The weights of {broken[0]!r} in {str(path)!r} are not all finite. Save the model "
            "again."
        )


def _fits(stored: Tensor, own: Tensor) -> bool:
    """Tell whether a stored tensor has the type of a weight, or both types are floating-point."""
    return stored.dtype == own.dtype or (stored.dtype in REALS and own.dtype in REALS)


def content_of(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor of any type, in the order of its elements."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


class WithinWeights(TorchFunctionMode):
    """Context that refuses to create a network much larger than its stored weights.

    Sizes in a config, such as ``d_model`` or ``num_layers``, cannot be trusted, so a network is
    built in this context before its weights are compared with the stored ones. The bounds leave
    room for copies and for tensors that are not saved.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Stored weights.
    path : path
        Folder of the model, for the message.

    Raises
    ------
    InvalidModelError
        If too many tensors, or too large ones, are created.
    """

    CREATORS = frozenset(
        (
            *(torch.empty, torch.zeros, torch.ones, torch.full, torch.eye),
            *(torch.rand, torch.randn, torch.arange, torch.linspace),
        )
    )

    def __init__(self, weights: Mapping[str, Tensor], path: object) -> None:
        super().__init__()
        self.path = path
        self.calls_left = 10_000 + 32 * len(weights)
        self.values_left = 2**26 + 32 * sum(value.numel() for value in weights.values())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the tensors and values that a function creates, then call it."""
        kwargs = kwargs or {}
        if func in self.CREATORS and "out" not in kwargs:  # `out` exists already
            others = {name: v for name, v in kwargs.items() if name not in ("device", "generator")}
            self.calls_left -= 1
            try:
                self.values_left -= func(*args, **others, device="meta").numel()
            except (RuntimeError, OverflowError) as error:  # sizes beyond 64 bits
                raise self._too_large() from error
            if self.calls_left < 0 or self.values_left < 0:
                raise self._too_large()
        return func(*args, **kwargs)

    def _too_large(self) -> InvalidModelError:
        return InvalidModelError(
            f"The weights in {str(self.path)!r} do not fit its {CONFIG}, which describes a much "
            "larger network. Save the model again."
        )


def plain(value: Any, name: str = "config") -> Any:
    """Convert a value for a JSON file; NaN and infinity become None.

    Parameters
    ----------
    value : object
        Number, string, None, or a list, array or mapping of such values.
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
        f"{name!r} is {value!r}, which cannot be saved. Set it to a number, a string or a list "
        "before saving."
    )
