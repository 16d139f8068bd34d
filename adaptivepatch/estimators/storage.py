"""A fitted `Forecaster` as config and tensors, and back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from adaptivepatch import pretrained
from adaptivepatch.data.frequency import parse_step
from adaptivepatch.data.panel import FrameLayout, Panel, row_offsets
from adaptivepatch.data.scaling import Scaling
from adaptivepatch.errors import InvalidModelError, InvalidParameterError, check_int
from adaptivepatch.estimators import frames
from adaptivepatch.estimators.fitting import check_quantiles, placement
from adaptivepatch.estimators.panel_model import PanelModel
from adaptivepatch.foundation import frozen_parts
from adaptivepatch.training.devices import resolve_precision
from adaptivepatch.training.trainer import Trainer, TrainingRecord

if TYPE_CHECKING:
    from adaptivepatch.estimators.forecaster import Forecaster

_KIND = "forecaster"
_NETWORK = "network."


def save(model: Forecaster, path: str | Path, *, overwrite: bool) -> Path:
    """Write a fitted forecaster into a folder."""
    fitted, seed = model.model_, model.random_state
    config = {
        "kind": _KIND,
        "parameters": {
            "horizon": fitted.horizon,
            "context_length": fitted.context_length,
            "patcher": pretrained.describe(fitted.network.patcher),
            "backbone": pretrained.describe(fitted.network.backbone),
            "values_per_patch": model.values_per_patch,
            "embedding": model.embedding,
            "quantiles": fitted.quantiles,
            "loss": model.loss,
            "share_segmentation": fitted.share_segmentation,
            "missing": model.missing,
            "trainer": None if model.trainer is None else model.trainer.get_params(),
            "random_state": int(seed) if hasattr(seed, "__index__") else None,
        },
        "columns": model.columns_,
        "settings": model.settings_,
        "skipped": [_plain(id_) for id_ in model.skipped_],
        "season": model.season_,
        "record": asdict(model.record_),
        "history": _describe(model.history_),
    }
    tensors = {_NETWORK + name: value for name, value in model.network_.state_dict().items()}
    tensors |= {
        "scaling.mean": torch.as_tensor(model.scaling_.mean),
        "scaling.std": torch.as_tensor(model.scaling_.std),
        "naive_scale": torch.as_tensor(model.naive_scale_),
        "history": torch.as_tensor(model.history_.values),
        "stamps": torch.as_tensor(model.history_.stamps.to_numpy("int64", copy=True)),
    }
    return pretrained.save_folder(path, config, tensors, overwrite=overwrite)


def load(cls: type[Forecaster], path: str | Path, classes: Sequence[type]) -> Forecaster:
    """Read what `save` wrote; nothing but listed and registered classes is ever constructed."""
    config, tensors = pretrained.load_folder(path, _KIND)
    known = {getattr(component, "name", component.__name__): component for component in classes}
    try:
        parameters = dict(config["parameters"])
        parameters.setdefault("embedding", "resampled")  # as all were before there was a choice
        for kind in ("patcher", "backbone"):
            parameters[kind] = pretrained.build_component(parameters[kind], kind, known)
        if parameters["trainer"] is not None:
            parameters["trainer"] = Trainer(**parameters["trainer"])
        model = cls(**parameters)
        values, stamps = (tensors.pop(name).numpy() for name in ("history", "stamps"))
        check_int(model, horizon=model.horizon, context_length=model.context_length)
        history = _panel(config["history"], values, stamps)
        _check_columns(config["columns"])
        scaling = Scaling(*(tensors.pop(f"scaling.{name}").numpy() for name in ("mean", "std")))
        naive_scale = tensors.pop("naive_scale").numpy()
        _check_sizes(history, scaling, naive_scale, len(stamps))
        # A model saved on a GPU loads where there is none.
        trainer = model.trainer or Trainer()
        network = model.make_network().to(**placement(trainer, fallback="cpu"))
        record = config["record"]
        if record["best_loss"] is None:
            record["best_loss"] = math.nan
        fitted = PanelModel(
            network,
            scaling,
            history.item_ids,
            model.context_length,
            model.horizon,
            model.share_segmentation,
            check_quantiles(model, model.quantiles),
            resolve_precision(trainer.precision)[1],
        )
        model.remember(
            model=fitted,
            record=TrainingRecord(**record),
            columns=config["columns"],
            settings=config["settings"],
            history=history,
            season=config["season"],
            naive_scale=naive_scale,
            skipped=tuple(config["skipped"]),
        )
    except InvalidModelError:  # says already what is wrong
        raise
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InvalidModelError(
            f"The {pretrained.CONFIG} in {str(path)!r} is not one that save() wrote "
            f"({type(error).__name__}: {' '.join(str(error).split())}). "
            "Save the model again."
        ) from error
    weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items()}
    pretrained.load_weights(network, weights, path)
    if frozen_parts(network.patcher):  # the parameter keeps its weights, too: fits begin with it
        model.patcher.load_state_dict(network.patcher.state_dict())
    network.eval()
    return model


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
    """Return everything of a panel but its values, as JSON can hold it."""
    first = history.index[0]
    layout = asdict(history.layout)
    return {
        "item_ids": [_plain(id_) for id_ in history.item_ids],
        "channels": list(history.channels),
        "lengths": history.lengths.tolist(),
        "freq": _freq_name(history),
        "timezone": str(first.tz) if isinstance(first, pd.DatetimeIndex) and first.tz else None,
        "unit": first.unit if isinstance(first, pd.DatetimeIndex) else None,
        "layout": {**layout, "item_order": [_plain(id_) for id_ in layout["item_order"]]},
    }


def _freq_name(history: Panel) -> str | int:
    """Return the step as JSON keeps it, after checking that it can be read back."""
    name = frames.step_name(history.freq)
    if parse_step(name, history.index[0]) != history.freq:
        raise InvalidParameterError(
            f"A saved model keeps its time step by name. {history.freq!r} is more than its name "
            f"{name!r} says, such as a calendar of holidays. Number the rows instead: "
            "df.reset_index(drop=True)."
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
            stamps = stamps.tz_localize("UTC").tz_convert(stored["timezone"])
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
    """Return an item id as JSON keeps it."""
    value = id_.item() if isinstance(id_, np.generic) else id_
    if not isinstance(value, str | int | float | bool):
        raise InvalidParameterError(
            "Item ids must be strings or numbers to be saved. Got "
            f"{id_!r} of type {type(id_).__name__}. Convert the column with astype(str)."
        )
    return value
