"""Settings of the network of an estimator, and checks of the estimator's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sklearn.utils import check_random_state

from adaptivepatch.errors import InvalidParameterError, check_choice, check_int
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.nn.tokens.patch_embedding import EMBEDDINGS
from adaptivepatch.resolver import patcher_instance, resolve_backbone, resolve_patcher
from adaptivepatch.torch_state import plain_torch, seeded

_MOST_STEPS = 1 << 20  # longest look-back or horizon, in time steps

CONTEXT_LENGTH = 336
SHORTEST_CONTEXT_LENGTH = 24


@dataclass(frozen=True)
class NetworkSettings:
    """Settings from which a network is built.

    Parameters
    ----------
    patcher, backbone : object
        Instance or name; see `adaptivepatch.resolver`.
    context_length, horizon : int
        Look-back T and horizon H, in time steps.
    quantiles : tuple of float, optional
        Quantiles that the network forecasts.
    values_per_patch, embedding, instance_norm
        Arguments of `adaptivepatch.network.build_network`.
    """

    patcher: Any
    backbone: Any
    context_length: int
    horizon: int
    quantiles: tuple[float, ...] | None = None
    values_per_patch: int | None = None
    embedding: str | None = None
    instance_norm: bool = True

    def warn_if_patches_are_too_long(self) -> None:
        """Warn if the patcher's parameters ask for patches longer than the look-back.

        Raises
        ------
        InvalidParameterError
            If a parameter of the patcher is out of range.
        """
        patcher_instance(self.patcher).warn_if_too_long(self.context_length)

    def make(self) -> PatchNetwork:
        """Return an untrained network.

        Raises
        ------
        InvalidParameterError
            If a setting is out of range, or the weights do not fit into memory.
        """
        with plain_torch(), seeded(None):
            patcher, backbone = resolve_patcher(self.patcher), resolve_backbone(self.backbone)
            with _enough_memory():
                return build_network(
                    patcher,
                    backbone,
                    context_length=self.context_length,
                    horizon=self.horizon,
                    quantiles=self.quantiles,
                    values_per_patch=self.values_per_patch,
                    embedding=self.embedding,
                    instance_norm=self.instance_norm,
                )


def default_context_length(longest: int | None = None) -> int:
    """Return the look-back to use if none is given, in time steps.

    Parameters
    ----------
    longest : int, optional
        Number of rows of the longest series. Default: the series are not known yet.

    Returns
    -------
    int
        336, or a quarter of the longest series, but at least 24, if that series has fewer than 672
        rows.
    """
    if longest is None or longest >= 2 * CONTEXT_LENGTH:
        return CONTEXT_LENGTH
    return min(CONTEXT_LENGTH, max(SHORTEST_CONTEXT_LENGTH, longest // 4))


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Replace torch's error about memory by an error that names the sizes to reduce."""
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        found = re.sub(r"^\[enforce fail[^]]*\] err == 0\. ", "", found).rstrip(". ")
        raise InvalidParameterError(
            f"The weights of the network do not fit into memory ({found}). Reduce the horizon, the "
            "look-back or the sizes of the backbone."
        ) from error


# ---------------------------------------------------------------------------------------- checks


def check_steps(owner: object, low: int = 1, **values: int) -> None:
    """Raise `InvalidParameterError` unless numbers of time steps are from `low` to 2 ** 20.

    Parameters
    ----------
    owner : object
        Estimator that has the parameters.
    low : int, default=1
        Smallest allowed number.
    **values : int
        Values by parameter name.
    """
    check_int(owner, low=low, **values)
    for name, value in values.items():
        if value > _MOST_STEPS:
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(owner).__name__} must be at most "
                f"{_MOST_STEPS}. Got {value!r} instead.",
                parameter=name,
            )


def check_embedding(owner: object, values_per_patch: int | None, embedding: str | None) -> None:
    """Raise `InvalidParameterError` if a parameter of the embedding is out of its range.

    Parameters
    ----------
    owner : object
        Estimator that has the parameters.
    values_per_patch, embedding
        Parameters of `adaptivepatch.Forecaster`.
    """
    if values_per_patch is not None:
        check_int(owner, values_per_patch=values_per_patch)
    if embedding is not None:
        check_choice(owner, EMBEDDINGS, embedding=embedding)


def check_quantiles(owner: object, quantiles: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return quantiles as floats, after checking them.

    Parameters
    ----------
    owner : object
        Estimator that has the parameter.
    quantiles : sequence of float, optional
        Parameter of `adaptivepatch.Forecaster`.

    Raises
    ------
    InvalidParameterError
        If the quantiles do not increase inside (0, 1), or do not contain 0.5.
    """
    if quantiles is None:
        return None
    try:
        checked = tuple(float(quantile) for quantile in quantiles)
    except (TypeError, ValueError):
        checked = ()
    increasing = all(a < b for a, b in pairwise(checked))
    if not increasing or 0.5 not in checked or not 0 < checked[0] <= checked[-1] < 1:
        raise InvalidParameterError(
            f"The 'quantiles' parameter of {type(owner).__name__} must increase strictly inside "
            f"(0, 1) and hold 0.5, the point forecast. Got {quantiles!r} instead.",
            parameter="quantiles",
        )
    return checked


def draw_seed(random_state: Any) -> int:
    """Return a seed that is drawn from a `random_state`; an int always gives the same seed.

    Raises
    ------
    InvalidParameterError
        If scikit-learn does not accept the `random_state`.
    """
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InvalidParameterError(
            "The 'random_state' parameter must be an int from 0 to 2**32 - 1, a RandomState or "
            f"None. Got {random_state!r} instead.",
            parameter="random_state",
        ) from error
