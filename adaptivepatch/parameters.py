"""`Configurable`: base class of everything with scikit-learn parameters."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.keywords import check_keywords, unexpected


class Configurable(BaseEstimator):
    """scikit-learn's base class, with errors that say which parameter was meant.

    Constructor arguments are stored unchanged. `set_params` accepts nested parameters such as
    ``trainer__max_steps`` also where the component is given by name or as None: it replaces it by
    the component that the name or None stands for, which a subclass makes in `_component`.
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
            Its value: a component, or what stands for one, such as a name or None.
        """
        del name
        return value

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this object or, as ``component__parameter``, of a component.

        Parameters
        ----------
        **params
            Values by name. A component that is given by name or as None is made first.

        Raises
        ------
        InvalidParameterError
            If there is no parameter of a name, or a nested name belongs to no component.
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
                        f"The parameter {key!r} of {type(self).__name__} needs a component with "
                        f"parameters. Got {name}={value!r}. Pass a component as {name!r} first.",
                        parameter=name,
                        owner=type(self).__name__,
                    )
                if component is not value:
                    made[name] = component
        return super().set_params(**made)
