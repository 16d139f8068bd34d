"""Saving and loading a fitted `Forecaster`, as a config and tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adaptivepatch import model_folder, schema
from adaptivepatch.data.panel import FrameLayout, Panel, row_offsets
from adaptivepatch.data.panel_scaling import Scaling
from adaptivepatch.data.seasons import naive_seasons
from adaptivepatch.data.steps import parse_step, step_name
from adaptivepatch.data.transforms import (
    LARGEST_EXPONENT,
    TRANSFORMS,
    PowerTransform,
    check_bounds,
)
from adaptivepatch.data.zones import read_zone, zone_name
from adaptivepatch.errors import InvalidModelError, InvalidParameterError
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.settings import NetworkSettings
from adaptivepatch.network import PatchNetwork
from adaptivepatch.pretrained import frozen_parts
from adaptivepatch.torch_state import plain_torch, seeded
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import TrainingRecord, record_schema
from adaptivepatch.training.trainer import Trainer

_KIND = "forecaster"
_NETWORK = "network."

_NAMES = schema.list_of(schema.text, unique=True)
_IDS = schema.list_of(schema.scalar, unique=True)
_CONFIG = schema.fields(
    {
        "kind": schema.text,
        "format": schema.integer(1),
        "adaptivepatch": schema.text,
        "parameters": schema.fields(
            {
                "horizon": schema.anything,  # checked by the constructor, like all parameters
                "context_length": schema.anything,
                "patcher": model_folder.description,
                "backbone": model_folder.description,
                "values_per_patch": schema.anything,
                "quantiles": schema.anything,
                "loss": schema.text,
                "share_segmentation": schema.anything,
                "missing": schema.one_of("error", "mask"),
                "trainer": schema.maybe(schema.mapping_of(schema.anything)),
                "random_state": schema.maybe(schema.integer()),
            },
            {
                "embedding": schema.anything,
                "season": schema.anything,
                "bounds": schema.anything,
                "transform": schema.one_of(None, *TRANSFORMS),
            },
        ),
        "columns": schema.fields(
            {
                "item_id": schema.text,
                "timestamp": schema.text,
                "target": schema.maybe(schema.either(_NAMES, schema.text)),
            }
        ),
        "settings": schema.fields(
            {"validation_rows": schema.maybe(schema.integer(1)), "refit": schema.boolean}
        ),
        "skipped": schema.list_of(schema.scalar),
        "season": schema.integer(1),
        "record": record_schema(schema.maybe(schema.number())),
        "history": schema.fields(
            {
                "item_ids": _IDS,
                "channels": _NAMES,
                "lengths": schema.list_of(schema.integer()),
                "freq": schema.either(schema.text, schema.integer(1)),
                "timezone": schema.maybe(schema.text),
                "unit": schema.one_of(None, "s", "ms", "us", "ns"),
                "layout": schema.fields(
                    {
                        "item_id": schema.text,
                        "timestamp": schema.text,
                        "channel_order": _NAMES,
                        "item_order": _IDS,
                        "was_long": schema.boolean,
                        "stamps_in_index": schema.boolean,
                    }
                ),
            }
        ),
    },
    {
        "naive_seasons": schema.list_of(schema.integer(1), unique=True),
        model_folder.DIGEST: schema.text,
    },
)
_TYPES = {
    "history": torch.float64,
    "stamps": torch.int64,
    "scaling.mean": torch.float64,
    "scaling.std": torch.float64,
    "naive_scale": torch.float64,
}
_EXPONENT = "scaling.exponent"  # of models with a transform


@dataclass(frozen=True)
class FittedState:
    """State of a fitted `Forecaster`, in addition to its parameters.

    Parameters
    ----------
    model : PanelModel
        Trained model.
    record : TrainingRecord
        Record of the training.
    columns : dict
        Names of the key columns and the target.
    settings : dict
        Arguments of `fit` that shape training; refits of a backtest use them.
    history : Panel
        Last look-back of every item.
    season : int
        Season of the naive forecast that MASE compares with, in time steps.
    naive_seasons : tuple of int
        Seasons of the naive forecasts that a backtest shows, in time steps.
    naive_scale : ndarray of shape (items, channels)
        Mean absolute error of the naive forecast on training rows.
    skipped : tuple of hashable
        Items that were too short to train on.
    """

    model: PanelModel
    record: TrainingRecord
    columns: dict[str, Any]
    settings: dict[str, Any]
    history: Panel
    season: int
    naive_seasons: tuple[int, ...]
    naive_scale: NDArray[np.float64]
    skipped: tuple[Hashable, ...]


def save(
    path: str | Path, parameters: Mapping[str, Any], state: FittedState, *, overwrite: bool
) -> Path:
    """Write a fitted forecaster into a folder.

    Parameters
    ----------
    path : path
        The folder.
    parameters : mapping
        Constructor arguments of the forecaster. Arguments that the trained model also has are taken
        from the model.
    state : FittedState
        Result of its fit.
    overwrite : bool
        Whether to replace a model that the folder holds.

    Raises
    ------
    OutputExistsError
        If the folder holds a model and `overwrite` is False.
    InvalidParameterError
        If JSON cannot hold a parameter, an item id or the time step.
    """
    fitted, seed, trainer = state.model, parameters["random_state"], parameters["trainer"]
    power = fitted.scaling.power
    config = {
        "kind": _KIND,
        "parameters": {
            "horizon": fitted.horizon,
            "context_length": fitted.context_length,
            "patcher": model_folder.describe(fitted.network.patcher),
            "backbone": model_folder.describe(fitted.network.backbone),
            "values_per_patch": parameters["values_per_patch"],
            "embedding": parameters["embedding"],
            "quantiles": fitted.quantiles,
            "loss": parameters["loss"],
            "share_segmentation": fitted.share_segmentation,
            "missing": parameters["missing"],
            "trainer": None if trainer is None else trainer.get_params(),
            "random_state": int(seed) if hasattr(seed, "__index__") else None,
            "season": parameters["season"],
            "bounds": fitted.bounds,
            "transform": None if power is None else power.name,
        },
        "columns": state.columns,
        "settings": state.settings,
        "skipped": [_plain(id_) for id_ in state.skipped],
        "season": state.season,
        "naive_seasons": list(state.naive_seasons),
        "record": asdict(state.record),
        "history": _describe(state.history),
    }
    network = fitted.network.state_dict()
    tensors = {_NETWORK + name: value for name, value in network.items()}
    tensors |= {
        "scaling.mean": torch.as_tensor(fitted.scaling.mean),
        "scaling.std": torch.as_tensor(fitted.scaling.std),
        "naive_scale": torch.as_tensor(state.naive_scale),
        "history": torch.as_tensor(state.history.values),
        "stamps": torch.as_tensor(state.history.stamps.to_numpy("int64", copy=True)),
    }
    if power is not None:
        tensors[_EXPONENT] = torch.as_tensor(power.exponent)
    return model_folder.save_folder(path, config, tensors, overwrite=overwrite)


@plain_torch()
@seeded(None)
def load(
    path: str | Path,
    classes: Sequence[type],
    make: Callable[[dict[str, Any]], NetworkSettings],
) -> tuple[dict[str, Any], FittedState]:
    """Read what `save` wrote; only given and registered classes are constructed.

    Parameters
    ----------
    path : path
        The folder.
    classes : sequence of type
        Classes of patchers and backbones that are not registered.
    make : callable
        Function that checks constructor arguments and returns the settings of the network.

    Returns
    -------
    parameters : dict
        Constructor arguments of the forecaster.
    state : FittedState
        Result of its fit.

    Raises
    ------
    InvalidModelError
        If the folder does not hold a model that this version can read.
    """
    config, tensors = model_folder.load_folder(path, _KIND)
    known = {getattr(component, "name", component.__name__): component for component in classes}
    try:
        _CONFIG(config, "config")
        arrays = _arrays(config, tensors)
        with model_folder.WithinWeights(tensors, path):
            parameters = _build_parameters(config["parameters"], known)
            settings = make(parameters)
            network = settings.make()
        make_loss(parameters["loss"], settings.quantiles)  # raises if it is unknown
        state = _fitted_state(config, parameters, arrays, settings, network)
    except InvalidModelError:  # its message is specific already
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, OSError) as error:
        raise InvalidModelError(
            f"The {model_folder.CONFIG} in {str(path)!r} does not describe a saved model "
            f"({schema.reason(error)}). Save the model again."
        ) from error
    weights = {
        name.removeprefix(_NETWORK): value for name, value in tensors.items() if name not in arrays
    }
    model_folder.load_weights(network, weights, path)
    if frozen_parts(network.patcher):  # fits copy the frozen weights from the parameter
        parameters["patcher"].load_state_dict(network.patcher.state_dict())
    network.eval()
    return parameters, state


def _build_parameters(stored: Mapping[str, Any], classes: Mapping[str, type]) -> dict[str, Any]:
    """Return constructor arguments of a forecaster: untrained components, and a trainer."""
    parameters = dict(stored)
    parameters.setdefault("embedding", "resampled")  # the only kind in earlier versions
    for kind in ("patcher", "backbone"):
        parameters[kind] = model_folder.build_component(parameters[kind], kind, classes)
    if parameters["trainer"] is not None:
        parameters["trainer"] = Trainer(**parameters["trainer"])
    return parameters


def _fitted_state(
    config: Mapping[str, Any],
    parameters: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    settings: NetworkSettings,
    network: PatchNetwork,
) -> FittedState:
    """Return the fitted state of a model whose network does not have its weights yet."""
    # A model that was saved on a GPU can be loaded without one.
    trainer = parameters["trainer"] or Trainer()
    history = _panel(config["history"], arrays["history"], arrays["stamps"])
    power = None
    if _EXPONENT in arrays:
        power = PowerTransform(parameters["transform"], arrays[_EXPONENT])
    record = dict(config["record"])
    if record["best_loss"] is None:
        record["best_loss"] = math.nan
    # Models of earlier versions name no seasons.
    seasons = config.get("naive_seasons") or naive_seasons(history, config["season"])
    return FittedState(
        model=PanelModel(
            network.to(**trainer.placement(fallback="cpu")),
            Scaling(arrays["scaling.mean"], arrays["scaling.std"], power),
            history.item_ids,
            settings.context_length,
            settings.horizon,
            parameters["share_segmentation"],
            settings.quantiles,
            trainer.autocast,
            check_bounds(None, parameters.get("bounds")),
        ),
        record=TrainingRecord(**record),
        columns=config["columns"],
        settings=config["settings"],
        history=history,
        season=config["season"],
        naive_seasons=tuple(seasons),
        naive_scale=arrays["naive_scale"],
        skipped=tuple(config["skipped"]),
    )


def _arrays(
    config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the stored arrays of scaling and history, if they belong to the config."""
    types = dict(_TYPES)
    if config["parameters"].get("transform") is not None:
        types[_EXPONENT] = torch.float64
    for name, dtype in types.items():
        if name not in tensors:
            raise schema.SchemaError(f"{model_folder.WEIGHTS} lacks {name!r}")
        if tensors[name].dtype != dtype:
            raise schema.SchemaError(f"{name} holds {tensors[name].dtype}, not {dtype}")
    arrays = {name: tensors[name].numpy() for name in types}
    stored = config["history"]
    items, channels = len(stored["item_ids"]), len(stored["channels"])
    rows, lengths = sum(stored["lengths"]), stored["lengths"]  # of any size, hence no numpy yet
    per_item = arrays.keys() - {"history", "stamps"}
    shapes = {
        **dict.fromkeys(per_item, (items, channels)),
        "history": (rows, channels),
        "stamps": (rows,),
    }
    fits = all(arrays[name].shape == shape for name, shape in shapes.items())
    if not (fits and len(lengths) == items > 0 and channels > 0):
        raise schema.SchemaError("items, channels, stamps and values are of different sizes")
    factors = np.concatenate([arrays["scaling.mean"], arrays["scaling.std"]])
    if not (np.isfinite(factors).all() and (arrays["scaling.std"] > 0).all()):
        raise schema.SchemaError("scaling must be finite")
    exponent = arrays.get(_EXPONENT, np.zeros(1))
    if not ((exponent >= 0) & (exponent <= LARGEST_EXPONENT)).all():
        raise schema.SchemaError(f"{_EXPONENT} must be between 0 and {LARGEST_EXPONENT:g}")
    layout = stored["layout"]
    orders = ((layout["channel_order"], "channels"), (layout["item_order"], "item_ids"))
    for order, names in orders:
        if len(order) != len(stored[names]) or set(order) != set(stored[names]):
            raise schema.SchemaError(f"history.layout must order the {names} of the history")
    is_dated, is_counted = stored["unit"] is not None, isinstance(stored["freq"], int)
    if is_dated == is_counted or (stored["timezone"] is not None and not is_dated):
        raise schema.SchemaError("freq, unit and timezone of the history contradict each other")
    return arrays


def _describe(history: Panel) -> dict[str, Any]:
    """Return everything of a panel except its values and stamps, as JSON values."""
    first = history.index[0]
    layout = asdict(history.layout)
    return {
        "item_ids": [_plain(id_) for id_ in history.item_ids],
        "channels": list(history.channels),
        "lengths": history.lengths.tolist(),
        "freq": _freq_name(history),
        "timezone": _zone_of(first),
        "unit": first.unit if isinstance(first, pd.DatetimeIndex) else None,
        "layout": {**layout, "item_order": [_plain(id_) for id_ in layout["item_order"]]},
    }


def _zone_of(stamps: pd.Index[Any]) -> str | None:
    """Return the name of the time zone of stamps, or None if they have no time zone."""
    if not isinstance(stamps, pd.DatetimeIndex) or stamps.tz is None:
        return None
    return zone_name(stamps.tz)


def _freq_name(history: Panel) -> str | int:
    """Return the time step as JSON stores it, after checking that it can be read back."""
    name = step_name(history.freq)
    if parse_step(name, history.index[0]) != history.freq:
        raise InvalidParameterError(
            f"The time step {history.freq!r} cannot be saved, because its name {name!r} does not "
            "determine it; it may have a calendar of holidays. Number the rows instead: "
            "df.reset_index(drop=True).",
            parameter="freq",
        )
    return name


def _panel(
    stored: dict[str, Any], values: np.ndarray[Any, Any], ticks: np.ndarray[Any, Any]
) -> Panel:
    """Rebuild a panel from the result of `_describe`, its values, and its stamps as integers."""
    layout: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in stored["layout"].items()
    }
    freq, offsets = stored["freq"], row_offsets(stored["lengths"])
    stamps: pd.Index[Any] = pd.Index(ticks)
    if stored["unit"] is not None:
        stamps = pd.DatetimeIndex(ticks.view(f"M8[{stored['unit']}]"))
        if stored["timezone"] is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(read_zone(stored["timezone"]))
    index = [stamps[start:stop] for start, stop in pairwise(offsets)]
    return Panel(
        item_ids=tuple(stored["item_ids"]),
        channels=tuple(stored["channels"]),
        row_offsets=offsets,
        values=values,
        index=tuple(index),
        freq=freq if isinstance(freq, int) else parse_step(freq, index[0]),
        layout=FrameLayout(**layout),
    )


def _plain(id_: Hashable) -> str | int | float | bool:
    """Return an item id as JSON stores it."""
    value = id_.item() if isinstance(id_, np.generic) else id_
    if not isinstance(value, str | int | float | bool):
        raise InvalidParameterError(
            "Item ids must be strings or numbers to be saved. Got "
            f"{id_!r} of type {type(id_).__name__}. Convert the column with astype(str).",
            parameter="item_id",
        )
    return value
