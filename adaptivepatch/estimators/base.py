"""`Estimator`: base class of `Forecaster` and `WindowRegressor`."""

from __future__ import annotations

from typing import Any

from adaptivepatch.parameters import Configurable
from adaptivepatch.resolver import backbone_instance, patcher_instance
from adaptivepatch.training.trainer import Trainer


class Estimator(Configurable):
    """Base class of the estimators: what their components are if they are not given as instances.

    A patcher or a backbone may be a name, and a trainer None. `set_params` with a nested parameter
    such as ``patcher__patch_length`` makes the component first.
    """

    def _component(self, name: str, value: Any) -> Any:
        """Return the component that a name or None stands for; see `Configurable`."""
        if name == "patcher":
            return patcher_instance(value)
        if name == "backbone":
            return backbone_instance(value)
        return Trainer() if name == "trainer" and value is None else value
