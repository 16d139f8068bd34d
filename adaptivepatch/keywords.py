"""Errors for keyword arguments that a class or a function does not have.

Python's own message names only the argument. `unexpected` adds the remedy: the name of the argument
in this package, the call that takes it, or the parameter with the nearest spelling.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from adaptivepatch.errors import InvalidParameterError, suggest

P = ParamSpec("P")
R = TypeVar("R")

SYNONYMS = {
    "context_length": (
        *("input_size", "input_length", "input_chunk_length", "input_window", "lookback"),
        *("look_back", "lookback_window", "seq_len", "sequence_length", "max_encoder_length"),
        *("window", "window_size", "window_length", "lags", "n_lags"),
    ),
    "horizon": (
        *("h", "fh", "n", "steps", "n_steps", "pred_len", "prediction_length", "output_size"),
        *("output_chunk_length", "forecast_length", "forecast_horizon", "max_prediction_length"),
    ),
    "max_steps": ("steps", "n_steps", "num_steps", "max_iter", "iterations"),
    "max_epochs": ("epochs", "n_epochs", "num_epochs", "train_epochs"),
    "batch_size": ("windows_batch_size", "train_batch_size"),
    "learning_rate": ("lr", "learning_rate_init"),
    "weight_decay": ("wd", "l2"),
    "schedule": ("lr_scheduler", "scheduler", "lradj"),
    "gradient_clip": ("gradient_clip_val", "grad_clip", "max_grad_norm"),
    "validate_every": ("val_check_steps", "eval_every"),
    "patience": ("early_stop_patience_steps", "early_stopping_patience", "n_iter_no_change"),
    "device": ("accelerator", "gpu"),
    "precision": ("dtype",),
    "progress": ("verbose", "progress_bar", "enable_progress_bar"),
    "random_state": ("seed", "random_seed"),
    "seed": ("random_state", "random_seed"),
    "seeds": ("random_state", "random_seed", "seed", "n_seeds"),
    "patch_length": ("patch_len", "patch_size"),
    "stride": ("step", "step_size", "patch_stride"),
    "compression_rate": (
        *("rate", "ratio", "compression", "compression_ratio"),
        *("patch_length", "patch_len", "patch_size"),
    ),
    "d_model": ("hidden_size", "hidden_dim", "embed_dim"),
    "num_layers": ("n_layers", "e_layers", "encoder_layers", "depth"),
    "num_heads": ("n_heads", "nhead", "heads"),
    "d_ff": ("dim_feedforward", "linear_hidden_size"),
    "instance_norm": ("revin", "RevIN", "use_revin", "use_reversible_instance_norm"),
    "quantiles": ("quantile_levels", "level", "levels"),
    "loss": ("criterion", "loss_fn"),
    "validation_rows": ("val_size", "validation_size", "val_len", "validation_fraction"),
    "validation_fraction": ("val_size", "validation_size", "val_split", "validation_rows"),
    "item_id": ("id_col", "unique_id", "id_column", "group_ids"),
    "timestamp": ("time_col", "ds", "timestamp_column", "time_column", "time_idx"),
    "target": ("target_col", "target_column", "value_cols", "value_column", "targets"),
    "freq": ("frequency",),
    "refit_every": ("retrain",),
    "df": ("data", "series", "dataset", "train_data"),
}
"""Names that other libraries use, by the parameter of this package with the same meaning."""

COVARIATES = (
    *("covariates", "past_covariates", "future_covariates", "static_covariates"),
    *("known_covariates", "futr_df", "X_df", "static_df", "exog", "exogenous"),
    *("hist_exog_list", "futr_exog_list", "stat_exog_list", "feat_dynamic_real"),
)
"""Names of covariates, here and in other libraries."""

_TRAINER = (
    *("max_steps", "max_epochs", "batch_rows", "batch_size", "learning_rate", "weight_decay"),
    *(
        "schedule",
        "gradient_clip",
        "validate_every",
        "validation_share",
        "patience",
        "device",
        "precision",
        "progress",
    ),
)
_FIT = (
    *("item_id", "timestamp", "target", "freq", "short", "validation_rows", "refit"),
    *("callback", "init", "checkpoint", "resume"),
)
_FORECASTER = (
    *("patcher", "backbone", "values_per_patch", "embedding", "quantiles", "loss"),
    *("share_segmentation", "missing", "trainer", "random_state", "bounds", "transform"),
)
PLACES = {
    **dict.fromkeys(_FORECASTER, "Forecaster(..., {}=...)"),
    **dict.fromkeys(
        ("horizon", "context_length"),
        "Forecaster(..., {}=...); WindowRegressor reads it from the shapes of X and y",
    ),
    **dict.fromkeys(_FIT, "Forecaster.fit(df, {}=...)"),
    **dict.fromkeys(_TRAINER, "trainer=Trainer({}=...)"),
    **dict.fromkeys(("patch_length", "stride", "compression_rate"), "patcher=FixedPatcher({}=...)"),
    **dict.fromkeys(
        ("d_model", "num_layers", "num_heads", "d_ff"), "backbone=PatchTSTBackbone({}=...)"
    ),
    "validation_fraction": "WindowRegressor({}=...)",
    "instance_norm": "WindowRegressor({}=...)",
}
"""Call that takes a parameter, for users who pass the parameter elsewhere."""


class UnexpectedArgumentError(InvalidParameterError, TypeError):
    """A class or function was given a keyword argument that it does not have."""


def unexpected(owner: str, name: str, available: Iterable[str]) -> UnexpectedArgumentError:
    """Return the error for a keyword argument that a class or a function does not have.

    Parameters
    ----------
    owner : str
        Name of the class or function.
    name : str
        Name of the argument.
    available : iterable of str
        Names of the parameters that the class or function has.

    Examples
    --------
    >>> print(unexpected("Forecaster.predict", "fh", ["df", "horizon"]))
    Forecaster.predict has no parameter 'fh'. Use 'horizon'.
    """
    return UnexpectedArgumentError(
        f"{owner} has no parameter {name!r}.{_remedy(name, list(available))}",
        parameter=name,
        owner=owner,
    )


def _remedy(name: str, available: list[str]) -> str:
    """Return the second sentence of the message, with a space before it."""
    if name in COVARIATES:
        return " Covariates are not yet supported. Leave this argument out."
    words = [word for word, others in SYNONYMS.items() if name in others]
    here = [word for word in words if word in available]
    if here:
        return f" Use {here[0]!r}."
    elsewhere = [word for word in (name, *words) if word in PLACES]
    if elsewhere:
        return f" Use {PLACES[elsewhere[0]].format(elsewhere[0])}."
    known = ", ".join(map(repr, available))
    return suggest(name, available) or (f" Its parameters: {known}." if known else " Leave it out.")


@functools.cache
def keyword_names(function: Callable[..., object]) -> tuple[str, ...]:
    """Return the parameters of a function or method that can be passed by keyword."""
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind in named and parameter.name not in ("self", "cls")
    )


@functools.cache
def _takes_any_keyword(function: Callable[..., object]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def check_keywords(owner: str, function: Callable[..., object], given: Iterable[str]) -> None:
    """Raise `UnexpectedArgumentError` for a keyword argument that a function does not have.

    Parameters
    ----------
    owner : str
        Name of the function or class in the message.
    function : callable
        Function, method or constructor.
    given : iterable of str
        Names of the keyword arguments.
    """
    known = keyword_names(function)
    for name in given:
        if name not in known and not _takes_any_keyword(function):
            raise unexpected(owner, name, known)


def helpful(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise `UnexpectedArgumentError` for a keyword argument that it does not have.

    The signature of the function stays the same.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(function.__qualname__, function, kwargs)
        return function(*args, **kwargs)

    return call
