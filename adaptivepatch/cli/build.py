"""From what was typed to a forecaster that is not trained yet."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.errors import InvalidParameterError, check_int

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster

_OWN_OPTIONS = {
    "horizon": "--horizon",
    "context_length": "--context-length",
    "patcher": "--patcher",
    "backbone": "--backbone",
    "quantiles": "--quantiles",
    "missing": "--missing",
    "random_state": "--seed",
    "trainer": "--set trainer__...",
    "trainer__max_steps": "--max-steps",
    "trainer__max_epochs": "--max-epochs",
    "trainer__device": "--device",
}


def load_initial(
    folder: Path, classes: list[type], context: typer.Context, parameters: dict[str, Any]
) -> Forecaster:
    """Load the model to fine-tune; parameters that are not given become those of the model."""
    from adaptivepatch.estimators.forecaster import Forecaster

    trained = Forecaster.load(folder, classes)
    for name in ("context_length", "patcher", "backbone", "quantiles"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "DEFAULT":
            parameters[name] = getattr(trained, name)
    return trained


def make_forecaster(
    parameters: dict[str, Any], training: dict[str, Any], settings: list[str]
) -> Forecaster:
    """Return an untrained forecaster.

    Parameters
    ----------
    parameters, training : dict
        Of `Forecaster` and `Trainer`; patcher and backbone may be names, the patcher that of a
        pretrained one, too, which is frozen.
    settings : list of str
        More parameters, as ``name=value``.
    """
    from adaptivepatch.components import make_patcher, resolve_backbone
    from adaptivepatch.estimators.forecaster import Forecaster
    from adaptivepatch.pretrained import is_pretrained
    from adaptivepatch.training.trainer import Trainer

    parameters, values = dict(parameters), dict(map(read_setting, settings))
    patcher = parameters["patcher"]
    if isinstance(patcher, str) and is_pretrained(patcher):
        own = {name: values.pop(name) for name in list(values) if name.startswith("patcher__")}
        changes = {name.removeprefix("patcher__"): value for name, value in own.items()}
        parameters["patcher"] = make_patcher(patcher, **changes)
    elif isinstance(patcher, str):
        parameters["patcher"] = options.patcher_class(patcher)()
    parameters["backbone"] = resolve_backbone(parameters["backbone"])
    try:
        forecaster = Forecaster(trainer=Trainer(**training), **parameters)
        forecaster.set_params(**values)
        check_int(forecaster, horizon=forecaster.horizon)
        check_int(forecaster, low=2, context_length=forecaster.context_length)
        forecaster.trainer.check()
        forecaster.make_network()  # a wrong parameter is said before a long file is read
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidParameterError):
            raise
        raise InvalidParameterError(f"{error}") from error
    return forecaster


def read_setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidParameterError(
            f"--set needs NAME=VALUE, such as patcher__patch_length=24. Got {text!r}."
        )
    if name in _OWN_OPTIONS:
        raise InvalidParameterError(
            f"{name!r} has an option of its own. Got --set {text!r}. Use {_OWN_OPTIONS[name]}."
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InvalidParameterError(
            f"The value of --set must be a number, a word or a list such as [1, 2]. Got {value!r}."
        ) from error
    if isinstance(parsed, str):  # YAML 1.1 takes 1e-3 for a word
        with suppress(ValueError):
            parsed = float(parsed)
    return name, None if parsed == "None" else parsed


def levels(text: str | None) -> list[float] | None:
    """Return the numbers of ``0.1,0.5,0.9``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidParameterError(
            f"--quantiles must be numbers with commas between, such as 0.1,0.5,0.9. Got {text!r}."
        ) from error
