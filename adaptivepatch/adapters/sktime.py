"""`AdaptivePatchForecaster`: a forecaster for sktime that delegates to `Forecaster`.

The class derives from sktime's ``BaseForecaster``, and sktime is optional. The methods are
therefore in `_Adapter`, and `__getattr__` at the end of this file derives the class from both when
it is first asked for. sktime checks and converts the data before it calls a method whose name
begins with an underscore, such as ``_fit``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidParameterError,
    check_choice,
    require,
)
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.training.trainer import Trainer

if TYPE_CHECKING:
    from sktime.forecasting.base import BaseForecaster
else:
    BaseForecaster = object

_QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
_ROUNDING = 1e-9  # sktime computes (1 - coverage) / 2
_COMPONENTS = ("patcher", "backbone", "trainer")
_FIT_ARGUMENTS = ("short", "validation_rows", "refit")


class _Adapter(BaseForecaster):
    """Forecaster for sktime whose patches are fixed, random or learned.

    One network forecasts all series of a panel and all their variables. The parameters are those of
    `adaptivepatch.Forecaster`, of its method `fit`, and `exogenous`.

    Parameters
    ----------
    horizon : int, optional
        Number of steps to train for. With a horizon, ``predict`` accepts any ``fh`` up to it.
        Default: the last step of the ``fh`` of ``fit``.
    context_length : int, optional
        Look-back in time steps. Default: 336, or less for short series.
    patcher : Patcher or str, default="fixed"
        Patcher that decides where patches begin.
    backbone : Backbone or str, optional
        Backbone that reads the patches. Default: that of `adaptivepatch.Forecaster`.
    values_per_patch : int, optional
        Number of values that a patch is resampled to.
    embedding : {"aligned", "resampled", "both"}, optional
        Embedding of a patch. Default: "resampled" for patches that do not move or with
        `values_per_patch`, "aligned" for patches that move.
    quantiles : sequence of float, optional
        Quantiles to train for, increasing; they contain 0.5, which is the point forecast. Quantiles
        between them are interpolated linearly. None trains a point forecast with `loss`, without
        quantiles and intervals.
    loss : {"mae", "mse", "huber"}, default="mae"
        Loss of a point forecast. With `quantiles` the pinball loss is used.
    share_segmentation : bool or lists of str, default=False
        Give all variables of a window the same patches, or the variables of each list.
    missing : {"mask", "error"}, default="mask"
        Treatment of NaN and absent stamps: keep them as unobserved steps, or raise an error.
    trainer : Trainer, optional
        Settings of training. Default: ``Trainer()``.
    random_state : int, RandomState or None, default=None
        Seed of weights, batch order and sampling.
    season : int, optional
        Season of the naive forecast that MASE compares with, in time steps.
    bounds : "nonnegative" or pair (low, high), optional
        Lowest and highest possible value.
    transform : {"log1p", "box_cox", "yeo_johnson"}, optional
        Transform of the values before they are scaled, undone in all forecasts.
    short : {"error", "skip"}, default="error"
        Treatment of series that are too short to train on.
    validation_rows : int, optional
        Number of rows at the end of each series whose windows select the number of steps.
    refit : bool, default=True
        Train again on all rows for the best number of steps.
    exogenous : {"error", "ignore"}, default="error"
        Treatment of exogenous data X, which the network cannot use: raise an error, or ignore X, as
        sktime does for all forecasters with the tag ``capability:exogenous`` false.

    Attributes
    ----------
    forecaster_ : Forecaster
        The fitted forecaster.
    pretrained_ : Forecaster
        Forecaster that ``pretrain`` trained.

    Notes
    -----
    ``update`` appends rows, and the next forecasts start at the last of them. With
    ``update_params=True``, training continues on all rows, from the current weights.

    ``pretrain`` trains a network on a panel. A later ``fit`` starts with the weights of this
    network, keeps its patcher frozen and trains the rest.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from adaptivepatch import Trainer
    >>> from adaptivepatch.adapters.sktime import AdaptivePatchForecaster
    >>> index = pd.date_range("2024-01-01", periods=200, freq="h")
    >>> y = pd.Series(np.sin(np.arange(200) * np.pi / 12), index=index)
    >>> forecaster = AdaptivePatchForecaster(context_length=48, trainer=Trainer(max_steps=5))
    >>> forecaster.fit(y, fh=[1, 2, 3]).predict().index[0]
    Timestamp('2024-01-09 08:00:00')
    >>> forecaster.predict_interval(coverage=0.8).shape
    (3, 2)
    """

    _tags = {  # noqa: RUF012 (sktime reads a plain dictionary)
        "authors": ["The adaptivepatch authors"],
        "maintainers": ["The adaptivepatch authors"],
        "python_dependencies": ["torch"],
        "y_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "X_inner_mtype": ["pd.DataFrame", "pd-multiindex", "pd_multiindex_hier"],
        "capability:multivariate": True,
        "capability:exogenous": False,
        "capability:insample": False,
        "capability:pred_int": True,
        "capability:pred_int:insample": False,
        "capability:missing_values": True,
        "capability:unequal_length": True,
        "capability:update": True,
        "capability:pretrain": True,
        "pretrain:fitted_params": ["pretrained_"],
        "capability:random_state": True,
        "property:randomness": "derandomized",
        "requires-fh-in-fit": True,
    }
    # The rows that `update` needs are in `_cur_y`; sktime need not keep them a second time.
    _config = {"remember_data": False}  # noqa: RUF012
    _y = _X = None
    _cur_y: Any = None

    def __init__(
        self,
        horizon: int | None = None,
        context_length: int | None = None,
        patcher: Any = "fixed",
        backbone: Any = None,
        values_per_patch: int | None = None,
        embedding: str | None = None,
        quantiles: Sequence[float] | None = _QUANTILES,
        loss: str = "mae",
        share_segmentation: Any = False,
        missing: str = "mask",
        trainer: Any = None,
        random_state: Any = None,
        season: int | None = None,
        bounds: Any = None,
        transform: str | None = None,
        short: str = "error",
        validation_rows: int | None = None,
        refit: bool = True,
        exogenous: str = "error",
    ) -> None:
        self.horizon = horizon
        self.context_length = context_length
        self.patcher = patcher
        self.backbone = backbone
        self.values_per_patch = values_per_patch
        self.embedding = embedding
        self.quantiles = quantiles
        self.loss = loss
        self.share_segmentation = share_segmentation
        self.missing = missing
        self.trainer = trainer
        self.random_state = random_state
        self.season = season
        self.bounds = bounds
        self.transform = transform
        self.short = short
        self.validation_rows = validation_rows
        self.refit = refit
        self.exogenous = exogenous
        super().__init__()
        self.set_tags(
            **{
                "requires-fh-in-fit": horizon is None,
                "capability:pred_int": quantiles is not None,
                "capability:missing_values": missing == "mask",
            }
        )

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this forecaster or, as ``component__parameter``, of a component.

        Parameters
        ----------
        **params
            Values by parameter name. A component that was given by name or as None is created
            before its own parameters are set.
        """
        made = dict(params)
        for key in params:
            name, is_nested, _ = key.partition("__")
            if is_nested and name in _COMPONENTS:
                made[name] = Forecaster(1)._component(name, made.get(name, getattr(self, name)))
        super().set_params(**made)
        return self

    # ------------------------------------------------------------------------ conversion

    @classmethod
    def from_forecaster(cls, fitted: Forecaster) -> Self:
        """Return a fitted sktime forecaster that uses a fitted `Forecaster`, without training.

        Parameters
        ----------
        fitted : Forecaster
            Fitted forecaster; it is copied. It has kept only the last look-back of its series, so
            an ``update`` that trains sees this look-back and the new rows.

        Returns
        -------
        AdaptivePatchForecaster
            Forecaster that forecasts the series of ``fitted.fit``.

        Raises
        ------
        NotFittedError
            If the forecaster is not fitted.
        """
        check_is_fitted(fitted, "model_")
        parameters = fitted.get_params(deep=False) | fitted.settings_
        adapter = cls(**parameters | {"horizon": fitted.model_.horizon})
        panel = fitted.history_
        rows = panel.to_frame()[list(panel.layout.channel_order)]
        items = np.repeat(np.arange(panel.num_items), panel.lengths)
        rows.index = panel.stamps
        if panel.layout.was_long:
            ids = pd.Series(list(panel.item_ids)).take(items)
            names = [panel.layout.item_id, panel.layout.timestamp]
            rows.index = pd.MultiIndex.from_arrays([ids, panel.stamps], names=names)
        _, rows = adapter._check_X_y(y=rows)  # what sktime's `fit` does around `_fit`
        adapter._update_y_X(rows)
        adapter._is_vectorized = False
        adapter.forecaster_, adapter._cur_y = copy.deepcopy(fitted), rows
        adapter._state = "fitted"
        return adapter

    def to_forecaster(self) -> Forecaster:
        """Return a fitted `Forecaster` that forecasts the same steps, for example to save it.

        Returns
        -------
        Forecaster
            Copy of the fitted forecaster, with the rows that ``update`` appended.
        """
        self.check_is_fitted()
        fitted = copy.deepcopy(self.forecaster_)
        panel = fitted._read(self._frame(self._cur_y))
        fitted.history_ = panel.tail(np.minimum(panel.lengths, fitted.context_length_))
        return fitted

    # --------------------------------------------------------- methods that sktime calls

    def _check_X_y(self, X: Any = None, y: Any = None, **kwargs: Any) -> tuple[Any, Any]:
        """Check the data as sktime does, and refuse exogenous data."""
        checked: tuple[Any, Any] = super()._check_X_y(X=X, y=y, **kwargs)
        check_choice(self, ("error", "ignore"), exogenous=self.exogenous)
        if X is not None and self.exogenous == "error":
            raise InvalidParameterError(
                "Exogenous data are not yet supported. Got X of type "
                f"{type(X).__name__}. Leave X out, or set exogenous='ignore' to forecast from the "
                "past of y alone.",
                parameter="exogenous",
                owner=type(self).__name__,
            )
        return checked

    def _fit(self, y: pd.DataFrame, X: None, fh: Any) -> Self:
        """Train on one series, a panel or a hierarchy; after `pretrain`, from its weights."""
        start, patcher = None, self.patcher
        if hasattr(self, "pretrained_"):
            start = copy.deepcopy(self.pretrained_)
            patcher = start.patcher_.freeze()
        self.forecaster_ = self._trained(y, fh, start, patcher)
        self._cur_y = y
        return self

    def _pretrain(self, y: pd.DataFrame, X: None = None, fh: Any = None) -> Self:
        """Train on a panel."""
        self.pretrained_ = self._trained(y, fh, None, self.patcher)
        return self

    def _pretrain_update(self, y: pd.DataFrame, X: None = None, fh: Any = None) -> Self:
        """Train on another panel, from the weights of the first if there was one."""
        self.pretrained_ = self._trained(y, fh, getattr(self, "pretrained_", None), self.patcher)
        return self

    def _update(self, y: pd.DataFrame, X: None = None, update_params: bool = True) -> Self:
        """Append rows; continue training on all rows if `update_params`."""
        if y.index.nlevels != self._cur_y.index.nlevels or list(y.columns) != list(
            self._cur_y.columns
        ):
            raise InvalidFrameError(
                "update needs rows with the index levels and variables of fit, "
                f"{self._cur_y.index.nlevels} level(s) and {list(self._cur_y.columns)}. Got "
                f"{y.index.nlevels} level(s) and {list(y.columns)}. Pass the same variables."
            )
        rows = _appended(self._cur_y, y)
        if update_params:
            fitted = self.forecaster_
            arguments = {name: getattr(self, name) for name in _FIT_ARGUMENTS}
            if rows.index.nlevels > 1:
                arguments |= self._keys()
            frame, step = self._frame(rows), fitted.freq_
            self.forecaster_ = clone(fitted).fit(frame, init=fitted, freq=step, **arguments)
        self._cur_y = rows
        return self

    def _predict(self, fh: Any, X: None = None) -> pd.DataFrame:
        """Return the point forecasts."""
        index, values = self._forecast(fh)
        middle = 0 if self.quantiles is None else list(self.quantiles).index(0.5)
        return pd.DataFrame(values[middle], index=index, columns=self._cur_y.columns)

    def _predict_quantiles(self, fh: Any, X: None, alpha: list[float]) -> pd.DataFrame:
        """Return quantiles, interpolated linearly between those that were trained."""
        index, values = self._forecast(fh)
        trained = np.array(self.quantiles, dtype=float)
        low, high = trained[0] - _ROUNDING, trained[-1] + _ROUNDING
        outside = [level for level in alpha if not low <= level <= high]
        if outside:
            raise InvalidParameterError(
                f"Quantiles are forecast from {trained[0]:g} to {trained[-1]:g}, the outermost "
                f"values of the 'quantiles' parameter. Got {outside[0]:g}. Fit with quantiles that "
                "include it.",
                parameter="quantiles",
                owner=type(self).__name__,
            )
        position = np.interp(alpha, trained, np.arange(len(trained)))
        below = np.floor(position).astype(int)
        above = np.ceil(position).astype(int)
        share = (position - below)[:, None, None]
        chosen = values[below] * (1 - share) + values[above] * share  # (alpha, rows, variables)
        columns = self._get_columns(method="predict_quantiles", alpha=alpha)
        table = chosen.transpose(1, 2, 0).reshape(len(index), -1)
        return pd.DataFrame(table, index=index, columns=columns)

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters of small and fast forecasters, for the tests of sktime.

        Parameters
        ----------
        parameter_set : str, default="default"
            Name of a set; all sets are the same.

        Returns
        -------
        list of dict
            Arguments of the constructor.
        """
        del parameter_set
        small: dict[str, Any] = {
            "context_length": 8,
            "backbone": TransformerBackbone(d_model=4, num_layers=1, num_heads=1, d_ff=4),
            "trainer": Trainer(max_steps=1, progress=False),
            "exogenous": "ignore",  # the tests of sktime pass X to every forecaster
        }
        return [
            {**small, "patcher": FixedPatcher(patch_length=4, stride=4)},
            {
                **small,
                "horizon": 5,
                "patcher": RandomPatcher(compression_rate=4.0),
                "quantiles": (0.02, 0.5, 0.98),
            },
        ]

    # ------------------------------------------------------------------------- delegation

    def _trained(
        self, y: pd.DataFrame, fh: Any, start: Forecaster | None, patcher: Any
    ) -> Forecaster:
        """Return a forecaster that is trained on rows, from the weights of `start` if given."""
        names = Forecaster._get_param_names()
        parameters = {name: getattr(self, name) for name in names}
        parameters |= {"horizon": self._horizon(y, fh, start), "patcher": patcher}
        core = Forecaster(**parameters)
        stamps = y.index.get_level_values(-1)
        freq = 1 if pd.api.types.is_integer_dtype(stamps.dtype) else None  # as sktime counts
        arguments = {name: getattr(self, name) for name in _FIT_ARGUMENTS}
        return core.fit(self._frame(y), init=start, freq=freq, **arguments)

    def _horizon(self, y: pd.DataFrame, fh: Any, start: Forecaster | None) -> int:
        """Return the number of steps to train for, and check that it includes `fh`."""
        given = self.horizon if start is None else start.horizon
        if fh is None and given is not None:
            return int(given)
        if fh is None:
            raise InvalidParameterError(
                "pretrain needs a number of steps to train for. Got horizon=None and fh=None. Pass "
                "fh=... or set the horizon.",
                parameter="horizon",
                owner=type(self).__name__,
            )
        # Stamps in fh are the most steps away from the series that ends first.
        ends = pd.Series(y.index.get_level_values(-1)).groupby(_item_codes(y.index)[0]).last()
        cutoff: pd.Index[Any] = pd.Index([ends.min()])
        freq = getattr(self._cutoff, "freq", None)
        if isinstance(cutoff, pd.DatetimeIndex) and freq is not None:
            cutoff = pd.DatetimeIndex(cutoff, freq=freq)
        last = int(np.max(fh.to_relative(cutoff).to_numpy()))
        if given is not None and last > given:
            raise InvalidParameterError(
                f"fh must not reach beyond the horizon of {given} steps. Its last step is {last}. "
                f"Use horizon={last}, in `pretrain` too.",
                parameter="horizon",
                owner=type(self).__name__,
            )
        return last if given is None else int(given)

    def _frame(self, y: pd.DataFrame) -> pd.DataFrame:
        """Return rows as a frame for `Forecaster`: wide for one series, else long."""
        keys = self._keys()
        frame = y.set_axis([str(name) for name in y.columns], axis="columns")
        clash = [name for name in frame.columns if name in keys.values()]
        if clash:
            raise InvalidFrameError(
                f"Variables must not have the names {list(keys.values())}, which stand for the "
                f"series and the stamps. Got {clash}. Rename the variable."
            )
        if y.index.nlevels == 1:
            return frame
        of_rows = {
            keys["item_id"]: pd.Series(list(_items(y.index))),
            keys["timestamp"]: y.index.get_level_values(-1),
        }
        return pd.concat([pd.DataFrame(of_rows), frame.reset_index(drop=True)], axis="columns")

    def _keys(self) -> dict[str, str]:
        """Return the names of the key columns in the frames of the forecaster."""
        fitted = getattr(self, "forecaster_", None)
        if fitted is None:
            return {"item_id": "item_id", "timestamp": "timestamp"}
        return {name: fitted.columns_[name] for name in ("item_id", "timestamp")}

    def _forecast(self, fh: Any) -> tuple[pd.Index[Any], NDArray[np.float64]]:
        """Return the index of `fh` and forecasts of shape (quantiles, rows, variables)."""
        y = self._cur_y
        tidy = self.forecaster_.predict(self._frame(y))
        horizon, num_channels = self.forecaster_.model_.horizon, y.shape[1]
        first_value = 3 if self.quantiles is None else 4  # "prediction" repeats the quantile 0.5
        table = tidy.iloc[:, first_value:].to_numpy()
        values = table.reshape(-1, num_channels, horizon, table.shape[1])
        stamps = y.index.get_level_values(-1)
        codes, items = _item_codes(y.index)
        kept_stamps, kept_values, kept_items = [], [], []
        for k in range(len(items)):
            first = k * num_channels * horizon
            future = pd.Index(tidy["timestamp"].iloc[first : first + horizon])
            if isinstance(stamps, pd.PeriodIndex):
                future = future.to_period(stamps.freq)
            steps = self._steps(fh, future, stamps[codes == k][-1:])
            kept_stamps.append(future.take(steps))
            kept_values.append(values[k][:, steps])
            kept_items.append(np.full(len(steps), k))
        index = kept_stamps[0].append(kept_stamps[1:]).rename(y.index.names[-1])
        if y.index.nlevels > 1:
            levels = items.take(np.concatenate(kept_items))
            arrays = [levels.get_level_values(k) for k in range(levels.nlevels)]
            index = pd.MultiIndex.from_arrays([*arrays, index], names=y.index.names)
        return index, np.concatenate(kept_values, axis=1).transpose(2, 1, 0)

    def _steps(self, fh: Any, future: pd.Index[Any], cutoff: pd.Index[Any]) -> NDArray[np.intp]:
        """Return the positions of `fh` among the stamps that are forecast for a series."""
        wanted = fh.to_pandas()
        if fh.is_relative and pd.api.types.is_integer_dtype(wanted.dtype):
            steps = wanted.to_numpy() - 1
        else:
            steps = future.get_indexer(fh.to_absolute_index(cutoff))
        if (steps < 0).any() or (steps >= len(future)).any():
            raise InvalidParameterError(
                f"fh must lie from {future[0]} to {future[-1]}, the {len(future)} steps that the "
                f"forecaster was trained for. Got {list(wanted)}. Fit with a longer horizon.",
                parameter="horizon",
                owner=type(self).__name__,
            )
        return steps


def _item_codes(index: pd.Index[Any]) -> tuple[NDArray[np.intp], pd.Index[Any]]:
    """Return the number of each row's series, and the keys of the series as first seen."""
    keys = _items(index)
    unique = keys.unique()
    return unique.get_indexer(keys), unique


def _items(index: pd.Index[Any]) -> pd.Index[Any]:
    """Return the key of each row's series: an index, of several levels for a hierarchy."""
    if not isinstance(index, pd.MultiIndex):
        return pd.Index(["series"]).repeat(len(index))
    return index.droplevel(-1)


def _appended(rows: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Return rows with new ones, which replace old ones and end their series.

    sktime may go back in time, as ``update_predict`` does. Rows after the last new row of a series
    are then in its future, so they are dropped.
    """
    rows = pd.concat([rows, new])
    rows = rows[~rows.index.duplicated(keep="last")].sort_index()
    codes, items = _item_codes(new.index)
    end = pd.Series(new.index.get_level_values(-1)).groupby(codes).max()
    number = items.get_indexer(_items(rows.index))
    last = pd.Index(end).take(np.maximum(number, 0))
    return rows[(number < 0) | (rows.index.get_level_values(-1) <= last)]


def __getattr__(name: str) -> Any:
    """Derive `AdaptivePatchForecaster` from sktime's base class, and keep it here (PEP 562)."""
    if name != "AdaptivePatchForecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    base = require("sktime.forecasting.base", extra="sktime", purpose="The sktime adapter")
    members = {"__module__": __name__, "__doc__": _Adapter.__doc__}
    globals()[name] = type(name, (_Adapter, base.BaseForecaster), members)
    return globals()[name]
