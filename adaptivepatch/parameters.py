"""`Configurable`: base class of all objects with scikit-learn parameters."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.keywords import check_keywords, unexpected


class Configurable(BaseEstimator):
    """scikit-learn's base class, with errors that suggest the right parameter.

    Constructor arguments are stored unchanged. `set_params` accepts nested parameters such as
    ``trainer__max_steps`` even if the component was given by name or as None. It then replaces the
    name or None by the component that the subclass returns from `_component`.
    """

    def __new__(cls, *_args: Any, **kwargs: Any) -> Self:
        """Refuse keyword arguments that the constructor does not have."""
        check_keywords(cls.__name__, cls.__init__, kwargs)
        return super().__new__(cls)

    def _component(self, name: str, value: Any) -> Any:
        """Return the component that a parameter stands for.

        Parameters
        ----------
        name : str
            Name of the parameter.
        value : object
            Value of the parameter: a component, or a name or None that stands for one.
        """
        del name
        return value

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this object or, as ``component__parameter``, of a component.

        Parameters
        ----------
        **params
            Values by parameter name. A component that was given by name or as None is created
            before its own parameters are set.

        Raises
        ------
        InvalidParameterError
            If an unknown parameter is passed, or a nested name does not belong to a component.
        """
        names, made = self._get_param_names(), dict(params)
        for key in params:
            name, is_nested, _ = key.partition("__")
            if name not in names:
                raise unexpected(type(self).__name__, name, names)
            if is_nested:
                value = made.get(name, getattr(self, name))
                component = self._component(name, value)
                if isinstance(component, type) or not hasattr(component, "set_params"):
                    raise InvalidParameterError(
                        f"{key!r} sets a parameter of a component of {type(self).__name__}, but "
                        f"{name}={value!r} has no parameters. Pass a component as {name!r} first.",
                        parameter=name,
                        owner=type(self).__name__,
                    )
                if component is not value:
                    made[name] = component
        return super().set_params(**made)
