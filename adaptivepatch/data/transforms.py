"""Power transforms of values before the scaling, and bounds of values and forecasts."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptivepatch.errors import InvalidParameterError, check_choice, shortened

Bounds = tuple[float | None, float | None]
"""Lowest and highest value; None for an open side."""

_LARGEST = 1e70  # the squares of transformed values stay finite
DOMAINS = {
    "log1p": (float(np.nextafter(-1, 0)), _LARGEST),
    "box_cox": (1 / _LARGEST, _LARGEST),
    "yeo_johnson": (-_LARGEST, _LARGEST),
}
"""Lowest and highest value that each transform accepts."""
NEEDS = {
    "log1p": "values above -1, at most 1e70",
    "box_cox": "positive values, from 1e-70 to 1e70",
    "yeo_johnson": "values from -1e70 to 1e70",
}
TRANSFORMS = tuple(DOMAINS)
LARGEST_EXPONENT = 2.0
_SMALLEST_EXPONENT = 0.01  # of Box-Cox; a smaller one counts as 0, as powers near 1 lose digits


@dataclass(frozen=True, eq=False)
class PowerTransform:
    """An increasing map of values, with an exponent per item and channel.

    Parameters
    ----------
    name : {"log1p", "box_cox", "yeo_johnson"}
        Kind of the transform.
    exponent : ndarray of shape (num_items, num_channels)
        Exponent λ from 0 (logarithm) over 1 (a straight line) to 2 (square); 0 for "log1p".

    Notes
    -----
    "log1p" is log(1 + x). "box_cox" is x ** λ, or log x if λ is 0. This differs from the definition
    of Box and Cox by a factor and a constant, which the scaling removes, and tiny values keep their
    digits in this form. "yeo_johnson" is ((1 + x) ** λ - 1) / λ for x >= 0 and
    -((1 - x) ** (2 - λ) - 1) / (2 - λ) for x < 0, or a logarithm where the exponent is 0.
    """

    name: str
    exponent: NDArray[np.float64]

    @classmethod
    def fit(cls, name: str, rows: Sequence[NDArray[np.float64]]) -> PowerTransform:
        """Estimate the exponents by maximum likelihood, with scikit-learn.

        Parameters
        ----------
        name : {"log1p", "box_cox", "yeo_johnson"}
            Kind of the transform.
        rows : sequence of ndarray of shape (rows, num_channels)
            Training rows of each item in the domain of the transform, NaN where unobserved.

        Notes
        -----
        Exponents are limited to the range from 0 to 2, in which the inverse is finite. A channel of
        equal values has the exponent 1.
        """
        exponent = np.zeros((len(rows), rows[0].shape[1]))
        if name == "log1p":
            return cls(name, exponent)
        from sklearn.preprocessing import PowerTransformer  # imports scipy.stats, which is slow

        estimator = PowerTransformer(method=name.replace("_", "-"), standardize=False)
        for position, own in enumerate(rows):
            observed = ~np.isnan(own)
            low = own.min(axis=0, initial=np.inf, where=observed)
            varies = low < own.max(axis=0, initial=-np.inf, where=observed)
            exponent[position] = 1
            if varies.any():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about optima outside of the limits
                    exponent[position, varies] = estimator.fit(own[:, varies]).lambdas_
        exponent = exponent.clip(0, LARGEST_EXPONENT)
        if name == "box_cox":
            exponent[exponent < _SMALLEST_EXPONENT] = 0
        return cls(name, exponent)

    def of_items(self, wanted: Sequence[Hashable], known: Sequence[Hashable]) -> PowerTransform:
        """Return the transform of other items.

        Parameters
        ----------
        wanted : sequence of hashable
            Ids of the other items. An item that is not known gets the median exponent of each
            channel.
        known : sequence of hashable
            Ids of the items of this transform.
        """
        rows = dict(zip(known, self.exponent, strict=True))
        median = np.median(self.exponent, axis=0)
        return replace(self, exponent=np.stack([rows.get(id_, median) for id_ in wanted]))

    def forward(
        self, values: NDArray[np.float64], item: ArrayLike, *, channel_axis: int = -1
    ) -> NDArray[np.float64]:
        """Transform values in the domain of the transform.

        Parameters
        ----------
        values, item, channel_axis
            Parameters of `adaptivepatch.data.panel_scaling.Scaling.transform`.
        """
        if self.name == "log1p":
            return np.log1p(values)
        power = at_items(self.exponent, values, item, channel_axis)
        if self.name == "box_cox":
            return np.where(power == 0, np.log(values), values**power)
        from scipy.special import boxcox1p

        above, below = np.maximum(values, 0), np.maximum(-values, 0)
        return boxcox1p(above, power) - boxcox1p(below, 2 - power)

    def inverse(
        self, values: NDArray[np.float64], item: ArrayLike, *, channel_axis: int = -1
    ) -> NDArray[np.float64]:
        """Convert transformed values back to target units.

        The results are finite and can be transformed again. A value below the range of the
        transform becomes the end of its domain, which is -1 for "log1p" and 0 for "box_cox", up to
        rounding. No result is larger than 1e70.

        Parameters
        ----------
        values, item, channel_axis
            Parameters of `adaptivepatch.data.panel_scaling.Scaling.transform`.
        """
        power = at_items(self.exponent, values, item, channel_axis)
        with np.errstate(over="ignore", divide="ignore"):
            if self.name == "log1p":
                found = np.expm1(values)
            elif self.name == "box_cox":
                root = np.maximum(values, 0) ** (1 / power)
                found = np.where(power == 0, np.exp(values), root)
            else:
                from scipy.special import inv_boxcox1p

                above, below = np.maximum(values, 0), np.maximum(-values, 0)
                found = inv_boxcox1p(above, power) - inv_boxcox1p(below, 2 - power)
        low, high = DOMAINS[self.name]
        return found.clip(low, high)


def at_items(
    table: NDArray[np.float64], values: NDArray[np.float64], item: ArrayLike, channel_axis: int
) -> NDArray[np.float64]:
    """Return the entries of a table that belong to values, in a shape that broadcasts with them.

    Parameters
    ----------
    table : ndarray of shape (num_items, num_channels)
        One number per item and channel.
    values, item, channel_axis
        Parameters of `adaptivepatch.data.panel_scaling.Scaling.transform`.
    """
    position = np.broadcast_to(np.asarray(item), values.shape[:1])
    shape = [1] * values.ndim
    shape[0], shape[channel_axis] = values.shape[0], table.shape[1]
    return table[position].reshape(shape)


def clip(values: NDArray[np.float64], bounds: Bounds | None) -> NDArray[np.float64]:
    """Return values in which those outside the bounds are replaced by the nearest bound."""
    low, high = (None, None) if bounds is None else bounds
    if low is not None:
        values = np.maximum(values, low)
    return values if high is None else np.minimum(values, high)


def check_transform(owner: object, transform: object) -> None:
    """Raise `InvalidParameterError` unless the parameter `transform` is None or a known name."""
    if transform is not None:
        check_choice(owner, TRANSFORMS, transform=transform)


def check_bounds(owner: object, bounds: object) -> Bounds | None:
    """Return the parameter `bounds` as a pair of floats, after checking it.

    Parameters
    ----------
    owner : object
        Estimator that has the parameter.
    bounds : "nonnegative", pair of float or None, or None
        Parameter of `adaptivepatch.Forecaster`.

    Raises
    ------
    InvalidParameterError
        If the parameter has another form, or the first bound is not below the second.
    """
    if bounds is None:
        return None
    if isinstance(bounds, str) and bounds == "nonnegative":
        return 0.0, None
    if isinstance(bounds, list | tuple) and len(bounds) == 2 and all(map(_is_bound, bounds)):
        low, high = (None if bound is None else float(bound) for bound in bounds)
        if low is None or high is None or low < high:
            return low, high
    raise InvalidParameterError(
        f"The 'bounds' parameter of {type(owner).__name__} must be 'nonnegative' or a pair of "
        "finite numbers (low, high) with low < high, where None leaves a side open. Got "
        f"{shortened(repr(bounds))} instead.",
        parameter="bounds",
        owner=type(owner).__name__,
    )


def _is_bound(bound: Any) -> bool:
    """Tell whether a bound is None or a finite number."""
    if bound is None:
        return True
    if not isinstance(bound, numbers.Real) or isinstance(bound, bool):
        return False
    try:
        return math.isfinite(bound)
    except OverflowError:  # an int above the largest float
        return False
