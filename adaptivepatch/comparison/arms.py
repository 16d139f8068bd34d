"""The arms of a comparison: names, roles, the seeds of their fits, and what the fits left."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from adaptivepatch.errors import InvalidParameterError, suggest
from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.pretrained import is_pretrained
from adaptivepatch.resolver import make_patcher, patcher_class

Role = Literal["baseline candidate", "challenger", "control"]

PATCH_LENGTHS = (8, 16, 24, 48)
CHALLENGERS = ("recency", "reinpatch", "dynamic_chunking")
CONTROLS = {"reinpatch": "frozen", "dynamic_chunking": "even_chunks"}
"""Controls of learned challengers: the same patcher without learned boundaries."""
LEARNED_LENGTHS = 2
"""Number of patch lengths of a learned challenger; the longest ones, which are cheap to fit."""


@dataclass(frozen=True)
class Candidate:
    """A patcher under a name that is unique in its comparison."""

    name: str
    patcher: Patcher
    role: Role


class ArmRuns(NamedTuple):
    """All fits of one arm; arrays have one entry per seed."""

    name: str
    role: Role
    kind: str  # registered name of the patcher
    patcher: str
    is_trainable: bool
    total: NDArray[np.float64]  # (seeds, windows): sums of losses
    tokens: float
    parameters: int
    validation_error: NDArray[np.float64]
    best_step: NDArray[np.int64]
    still_falling: NDArray[np.bool_]  # at the last training step
    fit_seconds: NDArray[np.float64]
    predict_seconds: NDArray[np.float64]

    def test_error(self, count: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean loss of each seed.

        Parameters
        ----------
        count : ndarray of shape (windows,)
            Number of observed targets of each window.
        """
        return self.total.sum(axis=1) / count.sum()


def default_patchers(
    context_length: int,
    challengers: Sequence[str | type[Patcher]] = CHALLENGERS,
    *,
    thorough: bool = False,
) -> dict[str, Patcher]:
    """Return the default arms of a comparison.

    The arms are fixed patches of 8, 16, 24 and 48 steps, if two fit into the look-back, and each
    challenger and random boundaries with as many patches as fixed ones of 24 steps or, if
    `thorough`, of all lengths but the shortest. The newest patches of "recency" are half as long as
    the fixed ones. Learned challengers, whose fits cost more, have the two longest lengths at most.
    Two of them have a control
    without learned boundaries: "reinpatch" has "frozen", the same policy, which samples but never
    learns, and "dynamic_chunking" has "even_chunks", the same network with even patches.

    Parameters
    ----------
    context_length : int
        Look-back in time steps.
    challengers : sequence of str or type, default=("recency", "reinpatch", "dynamic_chunking")
        Patchers with a compression rate: registered names, classes, which are named by their
        `name`, and pretrained patchers (names in this package or folders), which are frozen. All
        have exactly as many patches as the fixed ones.
    thorough : bool, default=False
        Whether challengers and controls have several lengths instead of one in the middle.

    Returns
    -------
    dict of str to Patcher
        Patchers by name, such as "recency 16".

    Raises
    ------
    InvalidParameterError
        If a challenger is unknown, has no compression rate, or has the name of another arm.
    """
    lengths = [n for n in PATCH_LENGTHS if 2 * n <= context_length]
    if len(lengths) < 2:
        lengths = sorted({max(1, context_length // 4), max(1, context_length // 2)})
    arms: dict[str, Patcher] = {f"fixed {n}": FixedPatcher(compression_rate=n) for n in lengths}
    others = lengths[1:] or lengths
    if not thorough:
        others = [others[len(others) // 2]]
    kinds = _by_name(challengers)
    controls = [CONTROLS[name] for name in kinds if name in CONTROLS]
    for name, kind in {**kinds, **{name: name for name in (*controls, "random")}}.items():
        is_learned = name in controls or _is_trainable(kind)
        for n in others[-LEARNED_LENGTHS:] if is_learned else others:
            arms[f"{name} {n}"] = _at_rate(kind, n)
    return arms


def _by_name(challengers: Sequence[str | type[Patcher]]) -> dict[str, str | type[Patcher]]:
    """Return the challengers by the names of their arms."""
    kinds: dict[str, str | type[Patcher]] = {}
    for kind in challengers:
        name = kind if isinstance(kind, str) else kind.name
        taken = not isinstance(kind, str) and name in {"fixed", "random", *CONTROLS.values()}
        if taken or kinds.setdefault(name, kind) != kind:
            raise InvalidParameterError(
                f"Names of challengers must be unique. {kind!r} has the name {name!r}, which "
                "another arm has. Give the class another 'name'.",
                parameter="challengers",
            )
    return kinds


def _is_trainable(kind: str | type[Patcher]) -> bool:
    if isinstance(kind, str):
        return not is_pretrained(kind) and patcher_class(kind).trainable
    return kind.trainable


def _at_rate(kind: str | type[Patcher], rate: int) -> Patcher:
    if isinstance(kind, str):
        return _named_at_rate(kind, rate)
    made: Any = kind
    if "compression_rate" not in made._get_param_names():
        raise InvalidParameterError(
            "A challenger given by name must have a compression rate. "
            f"{kind.__name__} has none. Pass an instance to adaptivepatch.compare in Python.",
            parameter="challengers",
        )
    if kind is RecencyPatcher:
        return RecencyPatcher(compression_rate=rate, shortest=max(1, rate // 2))
    patcher: Patcher = made(compression_rate=rate)
    if getattr(patcher, "budget", "exact") != "exact":  # all arms have equal numbers of patches
        BaseEstimator.set_params(patcher, budget="exact")
    return patcher


def _named_at_rate(name: str, rate: int) -> Patcher:
    if is_pretrained(name):
        return make_patcher(name, compression_rate=rate)
    if name in ("reinpatch", "frozen"):  # learning at every other step halves the cost
        gradient = GroupPolicyGradient(every=2)
        if name == "frozen":
            gradient.set_params(learning_rate=0.0)
        return ReinPatcher(rate, gradient=gradient)
    if name in ("dynamic_chunking", "even_chunks"):  # narrow, to save cost
        router = "even" if name == "even_chunks" else "calibrated"
        return DynamicChunkingPatcher(rate, budget="exact", router=router, width=8, num_layers=1)
    return _at_rate(patcher_class(name), rate)


def fit_seed(seed: int, name: str) -> int:
    """Return the random state of a fit, which depends on the seed and the name of the arm.

    Examples
    --------
    >>> fit_seed(0, "fixed 16") == fit_seed(0, "fixed 24")
    False
    """
    key = [seed, zlib.crc32(name.encode("utf-8"))]
    return int(np.random.SeedSequence(key).generate_state(1)[0] >> 1)


def make_arms(
    patchers: Sequence[Any] | Mapping[str, Any] | None,
    context_length: int,
    baseline: str | Sequence[str] | None = None,
) -> list[Candidate]:
    """Return the arms with their names and roles.

    Parameters
    ----------
    patchers : sequence or mapping, optional
        Patchers or registered names, as in `compare`.
    context_length : int
        Look-back in time steps.
    baseline : str or sequence of str, optional
        Names of the candidates for the baseline, as in `compare`.

    Raises
    ------
    InvalidParameterError
        If an arm is given twice, a name is unknown, or there is no baseline or no challenger.
    TypeError
        If an arm is neither a patcher nor a name.
    """
    if patchers is None:
        named: Mapping[str, Any] = default_patchers(context_length)
    elif isinstance(patchers, Mapping):
        named = patchers
    else:
        items = [patchers] if isinstance(patchers, str | Patcher) else list(patchers)
        names = [item if isinstance(item, str) else repr(item) for item in items]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidParameterError(
                f"Every arm must be given once. {twice[0]} is given {names.count(twice[0])} times. "
                "To compare a patcher with itself, pass a mapping of names to patchers.",
                parameter="patchers",
            )
        named = dict(zip(names, items, strict=True))
    wanted = None if baseline is None else ([baseline] if isinstance(baseline, str) else baseline)
    for name in wanted or ():
        if name not in named:
            raise InvalidParameterError(
                f"The baseline must be one of the arms. Got {name!r}. Available: {list(named)}."
                f"{suggest(name, named)}",
                parameter="baseline",
            )
    arms = [_arm(name, value, wanted) for name, value in named.items()]
    for arm in arms:
        arm.patcher.capacity(context_length)  # raises for a wrong parameter before any fit
        arm.patcher.warn_if_too_long(context_length)
    _check_roles(arms)
    return arms


def _arm(name: str, value: Any, baseline: Sequence[str] | None) -> Candidate:
    patcher = make_patcher(value) if isinstance(value, str) else value
    if not isinstance(patcher, Patcher):
        raise TypeError(
            "The 'patchers' parameter must hold Patcher instances or registered names. Got "
            f"{value!r} instead."
        )
    role: Role
    if (type(patcher) is FixedPatcher) if baseline is None else (name in baseline):
        role = "baseline candidate"
    else:
        role = "control" if _is_control(patcher) else "challenger"
    return Candidate(str(name), patcher, role)


def _is_control(patcher: Patcher) -> bool:
    """Tell whether a patcher places boundaries at random, or evenly where it could learn them."""
    if isinstance(patcher, DynamicChunkingPatcher):
        return patcher.router == "even"
    if isinstance(patcher, ReinPatcher):
        settings = patcher.gradient
        return isinstance(settings, GroupPolicyGradient) and settings.learning_rate == 0
    return isinstance(patcher, RandomPatcher)


def _check_roles(arms: list[Candidate]) -> None:
    roles, names = {arm.role for arm in arms}, [arm.name for arm in arms]
    if "baseline candidate" not in roles:
        raise InvalidParameterError(
            f"A comparison needs a baseline. None of {names} is one. Add FixedPatcher(16), or "
            "name one of the arms with baseline=...",
            parameter="baseline",
        )
    if "challenger" not in roles:
        raise InvalidParameterError(
            "A comparison needs a challenger besides baselines and controls. Got "
            f"{names}. Add a patcher such as RecencyPatcher(), or name the baseline with "
            "baseline=...",
            parameter="patchers",
        )
