"""Training and testing of a forecaster on the standard long-horizon data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.bench.ltsf_data import load_ltsf, num_test_windows
from adaptivepatch.bench.result_row import Seconds, provenance
from adaptivepatch.bench.task import Run
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError
from adaptivepatch.resolver import backbone_from_settings, patcher_from_settings
from adaptivepatch.training.devices import resolve_device
from adaptivepatch.training.record import Callback
from adaptivepatch.training.trainer import Trainer

Model = TypeVar("Model")


def make_forecaster(forecaster: Callable[..., Model], run: Run) -> Model:
    """Return the untrained forecaster of a run.

    Parameters
    ----------
    forecaster : type
        The class `Forecaster`. The caller imports it, so that this module does not depend on the
        estimators.
    run : Run
        Run to make a forecaster for. The settings of its arm are arguments of `Forecaster`, of
        which ``patcher``, ``backbone`` and ``trainer`` are mappings. A patcher or backbone is given
        by its registered ``name`` and its arguments, and so are the components inside it.

    Raises
    ------
    InvalidParameterError
        If a setting is not an argument of its class.
    """
    settings = dict(run.arm.settings)
    try:
        if "patcher" in settings:
            settings["patcher"] = patcher_from_settings(settings["patcher"])
        if "backbone" in settings:
            settings["backbone"] = backbone_from_settings(settings["backbone"])
        # Results are compared across versions, so they do not follow the defaults of the package.
        trainer = {
            **{"max_steps": None if "max_epochs" in settings.get("trainer", {}) else 1000},
            **{"batch_size": 32, "learning_rate": 1e-3, "validation_share": None},
            **settings.get("trainer", {}),
        }
        settings = {
            "backbone": "patchtst",
            "loss": "mse",
            **settings,
            "trainer": Trainer(**trainer),
        }
        task = run.task
        return forecaster(task.horizon, task.context_length, random_state=run.seed, **settings)
    except TypeError as error:  # from a constructor that does not know an argument
        raise InvalidParameterError(
            f"The arm {run.arm.name!r} has a setting that its class does not accept ({error}). "
            "Correct the suite."
        ) from error


class Tested(NamedTuple):
    """Errors of a trained forecaster in the test windows, its times and its provenance.

    ``error`` has the shape (windows, steps, channels), in standard deviations of the training rows.
    """

    error: NDArray[np.float64]
    fit: Seconds
    predict: Seconds
    provenance: dict[str, Any]


def fit_ltsf(
    model: Any, run: Run, *, device: str = "auto", callback: Callback | None = None
) -> Tested:
    """Train on the rows up to the validation border, then forecast every test window once.

    Parameters
    ----------
    model : Forecaster
        Untrained forecaster of the run, from `make_forecaster`; it is trained in place.
    run : Run
        Run that names the data set, the horizon and the look-back.
    device : str, default="auto"
        Device to train on, unless the trainer of the model names one.
    callback : callable, optional
        Function called as ``callback(step, metrics)`` after every validation.

    Raises
    ------
    KeyboardInterrupt
        If training was interrupted: a run that was cut short has no result.
    """
    frame, borders = load_ltsf(run.task.dataset)
    if model.trainer.device == "auto":
        model.trainer.set_params(device=device)
    origin = provenance(resolve_device(model.trainer.device))
    started = Seconds.now()
    model.fit(
        frame[: borders.val_end],
        validation_rows=borders.val_end - borders.train_end,
        refit=False,
        callback=callback,
    )
    if model.record_.interrupted:
        raise KeyboardInterrupt
    fitted = Seconds.now()
    test = model.backtest(frame.iloc[borders.val_end - run.task.context_length :])
    predicted = Seconds.now()
    expected = num_test_windows(borders, run.task.horizon)
    if len(test) != expected:
        raise AdaptivePatchError(
            f"The backtest holds {len(test)} windows, but there are {expected} test windows. "
            "Report this as a bug."
        )
    error = (test.prediction - test.actual) / model.scaling_.std[0]
    return Tested(error, fitted.since(started), predicted.since(fitted), origin)
