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

from adaptivepatch import model_folder
from adaptivepatch.data.panel import FrameLayout, Panel, row_offsets
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.data.steps import parse_step, step_name
from adaptivepatch.data.zones import read_zone, zone_name
from adaptivepatch.errors import InvalidModelError, InvalidParameterError
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.estimators.settings import NetworkSettings
from adaptivepatch.pretrained import frozen_parts
from adaptivepatch.torch_state import plain_torch, seeded
from adaptivepatch.training.record import TrainingRecord
from adaptivepatch.training.trainer import Trainer

_KIND = "forecaster"
_NETWORK = "network."


@dataclass(frozen=True)
class FittedState:
    """State of a fitted `Forecaster`, in addition to its parameters.

    Parameters
    ----------
    model : PanelModel
        Trained model.
    record : TrainingRecord
        Record of its training.
    columns : dict
        Names of the key columns and the target.
    settings : dict
        Arguments of `fit` that shape training; refits of a backtest use them.
    history : Panel
        Last look-back of every item.
    season : int
        Season of the naive forecast, in time steps.
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
        Constructor arguments of the forecaster. Those that the trained model has too are taken from
        the model.
    state : FittedState
        Result of its fit.
    overwrite : bool
        Replace a model that the folder holds.

    Raises
    ------
    OutputExistsError
        If the folder holds a model and `overwrite` is False.
    InvalidParameterError
        If JSON cannot hold a parameter, an item id or the time step.
    """
    fitted, seed, trainer = state.model, parameters["random_state"], parameters["trainer"]
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
        },
        "columns": state.columns,
        "settings": state.settings,
        "skipped": [_plain(id_) for id_ in state.skipped],
        "season": state.season,
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
    return model_folder.save_folder(path, config, tensors, overwrite=overwrite)


@plain_torch()
@seeded(None)
def load(
    path: str | Path,
    classes: Sequence[type],
    make: Callable[[dict[str, Any]], NetworkSettings],
) -> tuple[dict[str, Any], FittedState]:
    """Read what `save` wrote. Only given and registered classes are constructed.

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
        parameters = dict(config["parameters"])
        parameters.setdefault("embedding", "resampled")  # the only one before there was a choice
        for kind in ("patcher", "backbone"):
            parameters[kind] = model_folder.build_component(parameters[kind], kind, known)
        if parameters["trainer"] is not None:
            parameters["trainer"] = Trainer(**parameters["trainer"])
        settings = make(parameters)
        values, stamps = (tensors.pop(name).numpy() for name in ("history", "stamps"))
        history = _panel(config["history"], values, stamps)
        _check_columns(config["columns"])
        scaling = Scaling(*(tensors.pop(f"scaling.{name}").numpy() for name in ("mean", "std")))
        naive_scale = tensors.pop("naive_scale").numpy()
        _check_sizes(history, scaling, naive_scale, len(stamps))
        # A model that was saved on a GPU can be loaded without one.
        trainer = parameters["trainer"] or Trainer()
        network = settings.make().to(**trainer.placement(fallback="cpu"))
        stored = config["record"]
        if stored["best_loss"] is None:
            stored["best_loss"] = math.nan
        state = FittedState(
            model=PanelModel(
                network,
                scaling,
                history.item_ids,
                settings.context_length,
                settings.horizon,
                parameters["share_segmentation"],
                settings.quantiles,
                trainer.autocast,
            ),
            record=TrainingRecord(**stored),
            columns=config["columns"],
            settings=config["settings"],
            history=history,
            season=config["season"],
            naive_scale=naive_scale,
            skipped=tuple(config["skipped"]),
        )
    except InvalidModelError:  # its message is specific already
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InvalidModelError(
            f"The {model_folder.CONFIG} in {str(path)!r} is not that of a saved model "
            f"({type(error).__name__}: {' '.join(str(error).split())}). "
            "Save the model again."
        ) from error
    weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items()}
    model_folder.load_weights(network, weights, path)
    if frozen_parts(network.patcher):  # fits copy the frozen weights from the parameter
        parameters["patcher"].load_state_dict(network.patcher.state_dict())
    network.eval()
    return parameters, state


def _check_columns(columns: dict[str, Any]) -> None:
    if set(columns) != {"item_id", "timestamp", "target"}:
        raise KeyError("columns")


def _check_sizes(
    history: Panel, scaling: Scaling, naive_scale: np.ndarray[Any, Any], num_stamps: int
) -> None:
    """Raise ValueError unless the parts of a stored panel belong together."""
    items, channels, rows = history.num_items, history.num_channels, history.row_offsets[-1]
    shapes = [scaling.mean.shape, scaling.std.shape, naive_scale.shape]
    fits = shapes == [(items, channels)] * 3 and history.values.shape == (rows, channels)
    if not (fits and num_stamps == rows and len(history.index) == items > 0):
        raise ValueError("items, channels, stamps and values are of different sizes")
    factors = np.concatenate([scaling.mean, scaling.std])
    if not (np.isfinite(factors).all() and (scaling.std > 0).all()):
        raise ValueError("scaling must be finite")


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
    """Return the name of the time zone of stamps, None if they have none."""
    if not isinstance(stamps, pd.DatetimeIndex) or stamps.tz is None:
        return None
    return zone_name(stamps.tz)


def _freq_name(history: Panel) -> str | int:
    """Return the time step as JSON stores it, after checking that it can be read back."""
    name = step_name(history.freq)
    if parse_step(name, history.index[0]) != history.freq:
        raise InvalidParameterError(
            f"A saved model keeps its time step by name. The name {name!r} does not determine "
            f"{history.freq!r}, which may have a calendar of holidays. Number the rows instead: "
            "df.reset_index(drop=True).",
            parameter="freq",
        )
    return name


def _panel(
    stored: dict[str, Any], values: np.ndarray[Any, Any], ticks: np.ndarray[Any, Any]
) -> Panel:
    """Return the panel that `_describe` described, with its values and its stamps as integers."""
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
