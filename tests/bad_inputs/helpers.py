"""What every table of mistakes needs: a case, what it must say, and that it is ours to say it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import adaptivepatch
from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from tests.builders import daily_frame

PACKAGE = Path(adaptivepatch.__file__).parent
ANY = "…"  # in an expected text: anything, such as the path of a temporary folder


class Case(NamedTuple):
    """A mistake: what is called, the class of the error, and the whole text of it."""

    name: str
    call: Callable[..., object]
    error: type[Exception]
    text: str


def parametrized(cases):
    """Run a test once for each case, under its name."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def says(text: str, expected: str) -> bool:
    """Whether a text is the expected one, ANY standing for anything."""
    return (
        re.fullmatch(".*?".join(map(re.escape, expected.split(ANY))), text, re.DOTALL) is not None
    )


def assert_refused(case: Case, *arguments: object) -> Exception:
    """Run a case; its error must be of the class and text that it names, and raised by us."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(Exception) as caught:
            case.call(*arguments)
    error = caught.value
    assert type(error) is case.error, f"{type(error).__name__}: {error}"
    assert says(str(error), case.text), str(error)
    assert_one_line(error)
    assert_ours(error)
    return error


def assert_one_line(error: BaseException) -> None:
    """Assert that an error says something, without line breaks."""
    assert str(error)
    assert "\n" not in str(error)


def assert_ours(error: BaseException) -> None:
    """Assert that the package raised an error, not something that it calls."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = Path(trace.tb_frame.f_code.co_filename)
    ours = file.is_relative_to(PACKAGE)
    assert ours or (isinstance(error, NotFittedError) and "sklearn" in file.parts), (
        f"{type(error).__name__} comes from {file}:{trace.tb_lineno}"
    )


# ------------------------------------------------------------------------------- what is right


def tiny(horizon: Any = 4, **parameters: Any) -> Forecaster:
    """A forecaster that is trained in a moment."""
    parameters = {
        "context_length": 12,
        "patcher": FixedPatcher(4),
        "backbone": TransformerBackbone(d_model=8, num_layers=1, num_heads=2),
        "trainer": Trainer(max_steps=1, batch_size=16, device="cpu"),
        "random_state": 0,
    } | parameters
    return Forecaster(horizon, **parameters)


def wide(rows=30, **changes: Any) -> pd.DataFrame:
    """Two channels, hourly; columns replaced or added."""
    return daily_frame(rows).assign(**changes)


def stamped(stamps: Any, **changes: Any) -> pd.DataFrame:
    """A wide frame with other stamps in its index."""
    return wide(len(stamps), **changes).set_axis(stamps, axis=0)


def long(rows=30, items=("x", "y"), key="item_id", stamp="timestamp") -> pd.DataFrame:
    """Items of one channel, hourly."""
    parts = [
        daily_frame(rows, channels=("a",), seed=seed).rename_axis(stamp).reset_index()
        for seed in range(len(items))
    ]
    ids = pd.Series([item for item in items for _ in range(rows)], name=key)
    return pd.concat([ids, pd.concat(parts, ignore_index=True)], axis=1)


def spoiled(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    """A copy of a frame with one other value."""
    frame = frame.copy()
    if value is None or isinstance(value, str | list):
        frame[column] = frame[column].astype(object)
    frame.iloc[row, frame.columns.get_loc(column)] = value
    return frame


HOURS = pd.date_range("2024-01-01", periods=30, freq="h")


@lru_cache
def fitted() -> Forecaster:
    """A model of the wide frame."""
    return tiny().fit(wide())


@lru_cache
def fitted_long() -> Forecaster:
    """A model of the long frame, gaps allowed."""
    return tiny(missing="mask").fit(long())


@lru_cache
def fitted_quantiles() -> Forecaster:
    """A model with quantiles."""
    return tiny(quantiles=[0.1, 0.5, 0.9]).fit(wide())
