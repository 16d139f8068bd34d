"""Untrained `Forecaster` objects from the options of ``fit``, and the values of ``--set``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.parameters import option_of_parameter
from adaptivepatch.errors import InvalidParameterError, check_int

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster


def load_initial(
    folder: Path, classes: list[type], context: typer.Context, parameters: dict[str, Any]
) -> Forecaster:
    """Load the model to fine-tune, and take parameters that were not given from it.

    Parameters
    ----------
    folder : path
        Folder of the model.
    classes : list of type
        Patcher classes of the user.
    context : typer.Context
        Context of the command, which knows the options that were given.
    parameters : dict
        Parameters of `Forecaster`, changed in place.
    """
    from adaptivepatch.estimators.forecaster import Forecaster

    trained = Forecaster.load(folder, classes)
    for name in ("context_length", "patcher", "backbone", "quantiles", "bounds", "transform"):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "DEFAULT":
            parameters[name] = getattr(trained, name)
    for name in ("values_per_patch", "embedding"):  # they have no option of their own
        parameters[name] = getattr(trained, name)
    return trained


def make_forecaster(
    parameters: dict[str, Any], training: dict[str, Any], settings: dict[str, Any]
) -> Forecaster:
    """Return an untrained forecaster.

    Parameters
    ----------
    parameters : dict
        Parameters of `Forecaster`. Patcher and backbone may be names; a pretrained patcher is
        frozen.
    training : dict
        Parameters of `Trainer`.
    settings : dict
        Values of ``--set`` by name.
    """
    from adaptivepatch.estimators.forecaster import Forecaster
    from adaptivepatch.pretrained import is_pretrained
    from adaptivepatch.resolver import make_patcher, resolve_backbone
    from adaptivepatch.training.trainer import Trainer

    parameters, values = dict(parameters), dict(settings)
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
        if forecaster.context_length is not None:
            check_int(forecaster, low=2, context_length=forecaster.context_length)
        forecaster.trainer.check()
        forecaster.make_network()  # refuses a wrong parameter before a long file is read
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidParameterError):
            raise
        raise InvalidParameterError(f"{error}") from error
    return forecaster


def refuse_own_options(settings: Iterable[str], command: Any) -> None:
    """Raise if ``--set`` names a parameter that has an option of its own.

    Parameters
    ----------
    settings : iterable of str
        Names given to ``--set``.
    command : click.Command
        Command that is run.

    Raises
    ------
    InvalidParameterError
        If there is an option for a parameter, or the whole trainer is set.
    """
    for name in settings:
        if name == "trainer":
            raise InvalidParameterError(
                "--set changes one parameter of the trainer at a time. Got 'trainer'. Use "
                "--set trainer__NAME=VALUE."
            )
        option = option_of_parameter(name.removeprefix("trainer__"), command)
        if option is not None:
            raise InvalidParameterError(
                f"--set is for parameters without an option. Got {name!r}. Use {option}."
            )


def read_setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``NAME=VALUE``."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidParameterError(
            f"--set needs NAME=VALUE, such as patcher__patch_length=24. Got {text!r}."
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InvalidParameterError(
            f"The value of --set must be a number, a word or a list such as [1, 2]. Got {value!r}."
        ) from error
    if isinstance(parsed, str):  # YAML 1.1 reads 1e-3 as a word
        with suppress(ValueError):
            parsed = float(parsed)
    return name, None if parsed == "None" else parsed


def parse_quantiles(text: str | None) -> list[float] | None:
    """Return the numbers in a text such as ``0.1,0.5,0.9``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidParameterError(
            f"--quantiles must be numbers separated by commas, such as 0.1,0.5,0.9. Got {text!r}."
        ) from error


def parse_bounds(text: str | None) -> str | tuple[float | None, float | None] | None:
    """Return the bounds in a text such as ``nonnegative``, ``0,`` or ``0,100``."""
    if text is None or text == "nonnegative":
        return text
    try:
        low, high = (float(part) if part.strip() else None for part in text.split(","))
    except ValueError as error:
        raise InvalidParameterError(
            "--bounds must be nonnegative, or a low and a high number with a comma between them, "
            f"of which one may be left out, such as '0,100' or '0,' or ',100'. Got {text!r}."
        ) from error
    return low, high
