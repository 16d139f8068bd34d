"""The options of the command line and the Python parameters that they stand for.

Errors name Python parameters. With this table the command line adds the option to such an error,
and refuses ``--set`` for a parameter that has an option.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptivepatch.errors import AdaptivePatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--arm": ("arms",),
    "--backbone": ("backbone",),
    "--batch-size": ("batch_size",),
    "--bounds": ("bounds",),
    "--by": ("by",),
    "--cell": ("cells",),
    "--context-length": ("context_length",),
    "--cutoff": ("cutoffs",),
    "--dataset": ("datasets",),
    "--device": ("device",),
    "--force": ("overwrite",),
    "--freq": ("freq",),
    "--history": ("history",),
    "--history-steps": ("history_steps",),
    "--horizon": ("horizon",),
    "--init": ("init",),
    "--item": ("items",),
    "--item-id": ("item_id",),
    "--jobs": ("n_jobs",),
    "--learning-rate": ("learning_rate",),
    "--max-epochs": ("max_epochs",),
    "--max-series": ("max_series",),
    "--max-steps": ("max_steps",),
    "--metric": ("metric",),
    "--missing": ("missing",),
    "--no-refit": ("refit",),
    "--patcher": ("patcher", "patchers", "challengers"),
    "--quantiles": ("quantiles",),
    "--recursive": ("recursive",),
    "--refit-every": ("refit_every",),
    "--resume": ("resume", "checkpoint"),
    "--seed": ("random_state", "seed", "seeds"),
    "--seeds": ("seeds",),
    "--short": ("short",),
    "--start": ("start",),
    "--steps": ("steps",),
    "--stride": ("stride",),
    "--target": ("target", "channels"),
    "--test-share": ("test_share",),
    "--thorough": ("thorough",),
    "--timestamp": ("timestamp",),
    "--transform": ("transform",),
    "--title": ("title",),
    "--validate-every": ("validate_every",),
    "--validation-rows": ("validation_rows",),
    "--ylabel": ("ylabel",),
}
"""Parameters by option; a command that has the option uses it for these parameters."""

SETTINGS: Mapping[str, str] = {
    "embedding": "embedding",
    "loss": "loss",
    "season": "season",
    "share_segmentation": "share_segmentation",
    "values_per_patch": "values_per_patch",
    **{
        name: f"trainer__{name}"
        for name in (
            *("batch_rows", "batch_size", "gradient_clip", "learning_rate", "patience"),
            *("precision", "progress", "schedule", "validate_every", "validation_share"),
            "weight_decay",
        )
    },
}
"""Parameters of `Forecaster` and `Trainer` without an option, as ``fit --set`` spells them."""

OWNERS = (None, "Forecaster", "Trainer", "PretrainingSettings")
"""Classes whose parameters the tables hold; a patcher may have a parameter of the same name."""


def option_of_parameter(name: str, command: Any) -> str | None:
    """Return the option of a command that stands for a Python parameter, if there is one.

    Parameters
    ----------
    name : str
        Name of the parameter.
    command : click.Command
        Command that is run.
    """
    given = _names_of_options(command)
    return next((key for key, names in OPTIONS.items() if key in given and name in names), None)


def option_of_error(error: BaseException, command: Any) -> str | None:
    """Return the option, or the ``--set`` of the parameter, that an error is about.

    Parameters
    ----------
    error : BaseException
        Error of any class; only those of this package state a parameter.
    command : click.Command
        Command that is run.
    """
    if not isinstance(error, AdaptivePatchError) or error.owner not in OWNERS:
        return None
    name = error.parameter
    if name is None:
        return None
    option = option_of_parameter(name, command)
    if option is None and name in SETTINGS and "--set" in _names_of_options(command):
        return f"--set {SETTINGS[name]}"
    return option


def _names_of_options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}
