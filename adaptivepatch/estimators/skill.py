"""Skill of a model: its errors compared with those of naive forecasts on the same targets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptivepatch import metrics

SKILLS = {"MSE": "skill_MSE", "MAE": "skill_MAE"}
_LOSSES = {"MSE": metrics.mse, "MAE": metrics.mae}
_LEAST_SHARE = 0.5  # share of the targets that a naive forecast needs to be called the best


@dataclass(frozen=True)
class PairedErrors:
    """Errors of a model and of a naive forecast on the targets that both forecast.

    Parameters
    ----------
    name : str
        Name of the naive forecast, such as "week before".
    share : float
        Share of the model's targets that the naive forecast exists for.
    model, naive : mapping of str to float
        MSE and MAE of the model and of the naive forecast.
    """

    name: str
    share: float
    model: Mapping[str, float]
    naive: Mapping[str, float]

    def skill(self, metric: str) -> float:
        """Return 1 minus the model's error divided by the naive error; negative if it is larger."""
        return metrics.skill(self.model[metric], self.naive[metric])


def paired_errors(
    name: str,
    actual: NDArray[np.float64],
    common: NDArray[np.float64],
    prediction: NDArray[np.float64],
    naive: NDArray[np.float64],
) -> list[PairedErrors]:
    """Compare a model with a naive forecast; return an empty list if they share no target.

    Parameters
    ----------
    name : str
        Name of the naive forecast.
    actual, common : ndarray of shape (windows, horizon, channels)
        Observed values of the model's targets, and of those that the naive forecast has too; NaN
        elsewhere.
    prediction, naive : ndarray of shape (windows, horizon, channels)
        Forecasts of the model and naive forecasts.
    """
    num_targets, num_common = (int(np.isfinite(values).sum()) for values in (actual, common))
    if num_common == 0:
        return []
    errors = [
        {metric: float(loss(common, forecast)) for metric, loss in _LOSSES.items()}
        for forecast in (prediction, naive)
    ]
    return [PairedErrors(name, num_common / num_targets, *errors)]


def best_naive(pairs: Sequence[PairedErrors], metric: str) -> PairedErrors | None:
    """Return the naive forecast against which the skill of the model is lowest.

    Parameters
    ----------
    pairs : sequence of PairedErrors
        Errors with each naive forecast. Those that exist for less than half of the targets do not
        count.
    metric : {"MSE", "MAE"}
        Metric of the skill.
    """
    known = [pair for pair in pairs if pair.share >= _LEAST_SHARE]
    return min(known, key=lambda pair: pair.skill(metric), default=None)


def skill_of(pairs: Sequence[PairedErrors], metric: str) -> float:
    """Return the skill against the best naive forecast; NaN if there is none."""
    best = best_naive(pairs, metric)
    return np.nan if best is None else best.skill(metric)


def say_if_worse(pairs: Sequence[PairedErrors], subject: str = "The model") -> str:
    """Return a sentence on the naive forecasts that are better than the model, or "".

    Parameters
    ----------
    pairs : sequence of PairedErrors
        Errors with each naive forecast.
    subject : str, default="The model"
        Subject of the sentence.
    """
    best = {metric: best_naive(pairs, metric) for metric in SKILLS}
    lost = [
        f"its {metric} is {_compared(pair, metric)}"
        for metric, pair in best.items()
        if pair is not None and pair.skill(metric) < 0
    ]
    return f"{subject} is worse than a naive forecast: {', and '.join(lost)}." if lost else ""


def warn_if_worse(pairs: Sequence[PairedErrors]) -> None:
    """Warn the caller of the calling function if the model is worse than a naive forecast.

    Parameters
    ----------
    pairs : sequence of PairedErrors
        Errors with each naive forecast.

    Warns
    -----
    UserWarning
        If the skill by MSE or by MAE is negative. The warning names the naive forecast.
    """
    sentence = say_if_worse(pairs)
    if sentence:
        warnings.warn(sentence, UserWarning, stacklevel=3)


def _compared(pair: PairedErrors, metric: str) -> str:
    skill, naive = pair.skill(metric), f"{_digits(pair.naive[metric])} of {pair.name!r}"
    percent = f"{-100 * skill:.1f}" if skill > -1 else f"{-100 * skill:,.0f}"
    above = f"{percent} % above" if np.isfinite(skill) else "above"
    where = "" if pair.share == 1 else f" (on {100 * pair.share:.0f} % of the targets)"
    return f"{_digits(pair.model[metric])}, {above} the {naive}{where}"


def _digits(error: float) -> str:
    return f"{error:.4g}" if error < 10_000 else f"{error:,.0f}"
