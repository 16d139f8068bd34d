"""What both estimators do in `fit`: resolve components, build a network, train, train again."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from torch import Tensor, nn

from adaptivepatch.backbones import Backbone, backbone_class
from adaptivepatch.errors import InvalidParameterError, check_bool, check_choice, check_int
from adaptivepatch.estimators.sharing import check_sharing
from adaptivepatch.foundation import frozen_parts
from adaptivepatch.network import PatchNetwork
from adaptivepatch.nn.patch_embedding import EMBEDDINGS
from adaptivepatch.patchers import Patcher, patcher_class
from adaptivepatch.training.checkpoint import CheckpointFile
from adaptivepatch.training.devices import resolve_device, resolve_precision
from adaptivepatch.training.losses import RowLoss
from adaptivepatch.training.sampler import WindowSource
from adaptivepatch.training.trainer import Callback, Trainer, TrainingRecord, WindowSets

Component = TypeVar("Component", bound=BaseEstimator)

_PREPARE_ROWS = 8192  # a window has one for every channel
_PREPARE_WINDOWS = (64, 2048)  # how many these are of, fewest and most
_MOST_STEPS = 1 << 20  # of a look-back or a horizon


def resolve(
    value: object, parameter: str, base: type[Component], by_name: Callable[[str], type[Component]]
) -> Component:
    """Return a fresh, untrained component from an instance or a registered name.

    Raises
    ------
    TypeError
        For anything else. A plain torch module would carry its trained weights into every fold
        of a cross-validation.
    """
    if isinstance(value, str):
        return by_name(value)()
    if isinstance(value, base):
        fresh: Component = clone(value)
        return fresh
    hint = f" Pass {value.__name__}() instead of the class." if isinstance(value, type) else ""
    raise TypeError(
        f"The {parameter!r} parameter must be a {base.__name__} instance or a registered name. Got "
        f"{value!r} instead.{hint}"
    )


def resolve_patcher(value: object) -> Patcher:
    """Return a fresh patcher, frozen ones and frozen parts with their weights.

    These are copied: a network moves to its device and type, and what it was made from must not.
    """
    fresh = resolve(value, "patcher", Patcher, patcher_class)  # type: ignore[type-abstract]
    return copy.deepcopy(fresh) if frozen_parts(fresh) else fresh


def resolve_backbone(value: object) -> Backbone:
    """Return a fresh backbone."""
    return resolve(value, "backbone", Backbone, backbone_class)  # type: ignore[type-abstract]


def resolve_trainer(value: object) -> Trainer:
    """Return the trainer, or one with default settings for None, after checking its settings."""
    trainer = Trainer() if value is None else value
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"The 'trainer' parameter must be a Trainer instance or None. Got {value!r} instead."
        )
    trainer.check()
    return trainer


def check_quantiles(owner: object, quantiles: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return quantile levels as floats; they must increase inside (0, 1) and hold the median."""
    if quantiles is None:
        return None
    try:
        levels = tuple(float(level) for level in quantiles)
    except (TypeError, ValueError):
        levels = ()
    increasing = all(a < b for a, b in pairwise(levels))
    if not increasing or 0.5 not in levels or not 0 < levels[0] <= levels[-1] < 1:
        raise InvalidParameterError(
            f"The 'quantiles' parameter of {type(owner).__name__} must increase strictly inside "
            f"(0, 1) and hold 0.5, the point forecast. Got {quantiles!r} instead."
        )
    return levels


def check_size(owner: object, **values: int) -> None:
    """Raise `InvalidParameterError` for numbers of time steps that no memory could hold."""
    for name, value in values.items():
        if value > _MOST_STEPS:
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(owner).__name__} must be at most "
                f"{_MOST_STEPS}. Got {value!r} instead."
            )


def check_reach(model: Any, horizon: int, rollout: bool) -> None:
    """Refuse more steps than were trained, unless forecasts may be fed back.

    Parameters
    ----------
    model : PanelModel
        Trained.
    horizon : int
        Steps that are asked for.
    rollout : bool
        Whether forecasts may be fed back.
    """
    if horizon > model.horizon and not rollout:
        raise InvalidParameterError(
            f"The model was trained to forecast {model.horizon} steps. Got horizon={horizon!r}."
            " Pass rollout=True to feed forecasts back, or fit with the longer horizon."
        )
    if horizon > model.horizon and model.quantiles is not None:
        raise InvalidParameterError(
            "Feeding forecasts back gives no quantiles: the spread of later steps would be "
            f"that of the first {model.horizon}. Got horizon={horizon!r}. Fit with the longer "
            "horizon, or without quantiles."
        )


def check_shape(forecaster: Any) -> None:
    """Check the parameters of a `Forecaster` that shape its network."""
    check_int(forecaster, horizon=forecaster.horizon)
    check_int(forecaster, low=2, context_length=forecaster.context_length)
    check_size(forecaster, horizon=forecaster.horizon, context_length=forecaster.context_length)
    check_sharing(forecaster, forecaster.share_segmentation)
    if forecaster.values_per_patch is not None:
        check_int(forecaster, values_per_patch=forecaster.values_per_patch)
    if forecaster.embedding is not None:
        check_choice(forecaster, EMBEDDINGS, embedding=forecaster.embedding)
    check_quantiles(forecaster, forecaster.quantiles)


def check_training(owner: object, validation_rows: object, refit: object, callback: object) -> None:
    """Check arguments of `Forecaster.fit` that are about training."""
    if validation_rows is not None:
        check_int(owner, validation_rows=validation_rows)
    check_bool(owner, refit=refit)
    if callback is not None and not callable(callback):
        raise TypeError(
            "fit(callback=...) must be a function of the step and a mapping of metrics. Got "
            f"{callback!r} instead."
        )


@contextmanager
def enough_memory() -> Iterator[None]:
    """Phrase the error of a network that is too large to be created."""
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        found = re.sub(r"^\[enforce fail[^]]*\] err == 0\. ", "", found).rstrip(". ")
        raise InvalidParameterError(
            f"The network must fit into memory. Creating its weights failed ({found}). Reduce the "
            "horizon, the look-back or the sizes of the backbone."
        ) from error


def placement(trainer: Trainer, fallback: str | None = None) -> dict[str, Any]:
    """Return where a network and its series live: keyword arguments of `Tensor.to`.

    Parameters
    ----------
    trainer : Trainer
        Names device and precision.
    fallback : str, optional
        Device to use where this machine lacks the named one.
    """
    try:
        device = resolve_device(trainer.device)
    except InvalidParameterError:
        if fallback is None:
            raise
        device = resolve_device(fallback)
    return {"device": device, "dtype": resolve_precision(trainer.precision)[0]}


def draw_seed(random_state: Any) -> int:
    """Return a seed from a random_state: an int stands for itself, None draws one."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InvalidParameterError(
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            f"None. Got {random_state!r} instead."
        ) from error


def train(
    make_network: Callable[[], PatchNetwork],
    source: WindowSource,
    windows: WindowSets,
    row_loss: RowLoss,
    trainer: Trainer,
    *,
    seed: int,
    callback: Callback | None = None,
    plan: TrainingRecord | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoint: CheckpointFile | None = None,
) -> tuple[PatchNetwork, TrainingRecord]:
    """Build a network from `seed` and train it.

    Parameters
    ----------
    make_network : callable
        Returns a freshly initialised network.
    source, windows, row_loss, callback, plan, checkpoint
        See `adaptivepatch.training.trainer.Trainer.fit`.
    trainer : Trainer
        Settings.
    seed : int
        Determines everything random; torch's global generator is left as it was.
    init : mapping, optional
        Weights to begin with, in place of random ones. The network then is validated before the
        first step, too: if no step improves it, it stays as it was.

    Returns
    -------
    network : PatchNetwork
        In eval mode, with the weights of the best validation.
    record : TrainingRecord
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's only: weights are drawn there
        network = make_network().to(**placement(trainer))
    _prepare(network, source, windows.train, seed)
    if init is not None:
        network.load_state_dict(dict(init))
    record = trainer.fit(
        network,
        source,
        windows,
        row_loss,
        seed=seed,
        callback=callback,
        plan=plan,
        checkpoint=checkpoint,
        validate_start=init is not None,
    )
    return network, record


@torch.no_grad()
def _prepare(network: PatchNetwork, source: WindowSource, windows: Tensor, seed: int) -> None:
    """Let the patcher fit what is not trained by gradient, on rows of spaced training windows."""
    if type(network.patcher).prepare is Patcher.prepare or network.patcher.is_frozen:
        return
    num_channels = len(source.batch(windows[:1]).series)
    fewest, most = _PREPARE_WINDOWS
    wanted = min(max(_PREPARE_ROWS // num_channels, fewest), most)
    batch = source.batch(windows[:: max(1, len(windows) // wanted)])
    normalised, _ = network.norm(batch.series, batch.observed)
    observed = batch.observed
    generator = torch.Generator(normalised.device).manual_seed(seed)
    if len(normalised) > _PREPARE_ROWS:
        order = torch.randperm(len(normalised), generator=generator, device=normalised.device)
        rows = order[:_PREPARE_ROWS].sort().values
        normalised = normalised[rows]
        observed = None if observed is None else observed[rows]
    network.patcher.prepare(normalised, observed, generator)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
