"""Measure how far a reader has to travel through the package, and fail where it is too far.

    python tools/structure.py

Three measurements, each with a limit:

* **Imports.** Modules that import one another in a loop (imports for type checkers included), and
  the longest chain of imports, in arrows from the top module to the bottom one.
* **Frames.** Functions on the stack, and files they are in, from ``Forecaster.fit`` and from
  ``WindowRegressor.fit`` to `train_step`, in a real fit of two steps.
* **The way of the data.** The package's functions that are given the frame of a fit, or what is
  made of it until its series are on the device, in the order of their first calls. What the data
  are asked themselves, such as their length, does not count.
  Consecutive functions of one file are one place. A climb is a move to a file that stands above
  the one before it in the order of imports; a return is a move to a file that was left before.
"""

from __future__ import annotations

import ast
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGE = "adaptivepatch"
ROOT = Path(__file__).parents[1]

LIMITS = {
    "modules in import cycles": 0,
    "longest chain of imports": 12,
    "frames from Forecaster.fit to train_step": 6,
    "files from Forecaster.fit to train_step": 4,
    "frames from WindowRegressor.fit to train_step": 6,
    "files from WindowRegressor.fit to train_step": 4,
    "places of the data": 12,
    "climbs of the data": 3,
    "returns of the data": 2,
}


# --------------------------------------------------------------------------------------- imports


def read_imports() -> dict[str, set[str]]:
    """Return the modules of the package that each of its modules imports when it is loaded."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / PACKAGE).rglob("*.py")
    }
    found = {}
    for module, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[module] = {
            target for target in _imported(tree, files) if target not in (module, PACKAGE)
        }
    return found


def _imported(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that are imported outside of functions, for type checkers as well."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.ImportFrom) and child.module in files:
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield inner if inner in files else child.module
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in files)
        yield from _imported(child, files)


def measure_heights(imports: dict[str, set[str]]) -> tuple[dict[str, int], set[str]]:
    """Return the longest chain of imports below each module, and the modules in cycles."""
    heights: dict[str, int] = {}
    cyclic: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> int:
        if module in above:
            cyclic.update(above[above.index(module) :])
            return 0
        if module not in heights:
            below = [visit(other, (*above, module)) for other in sorted(imports[module])]
            heights[module] = 1 + max(below, default=-1)
        return heights[module]

    for module in imports:
        visit(module, ())
    return heights, cyclic


# ------------------------------------------------------------------------------------------ fits


def fit_frame() -> None:
    """Fit a tiny `Forecaster`."""
    import numpy as np
    import pandas as pd

    from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone

    stamps = pd.date_range("2024-01-01", periods=60, freq="h")
    df = pd.DataFrame({"a": np.sin(np.arange(60)), "b": np.cos(np.arange(60))}, index=stamps)
    backbone = TransformerBackbone(d_model=8, num_layers=1)
    model = Forecaster(4, 16, FixedPatcher(8), backbone, trainer=Trainer(max_steps=2))
    model.fit(df)


def fit_arrays() -> None:
    """Fit a tiny `WindowRegressor`."""
    import numpy as np

    from adaptivepatch import (
        FixedPatcher,
        Trainer,
        TransformerBackbone,
        WindowRegressor,
        sliding_windows,
    )

    X, y = sliding_windows(np.sin(np.arange(60)), context_length=16, horizon=4)
    backbone = TransformerBackbone(d_model=8, num_layers=1)
    WindowRegressor(FixedPatcher(8), backbone, trainer=Trainer(max_steps=2)).fit(X, y)


def stack_of_a_step(fit: Callable[[], None]) -> list[tuple[str, str]]:
    """Return file and function of each frame from ``fit`` of the estimator to `train_step`."""
    stack: list[tuple[str, str]] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if stack or event != "call" or frame.f_code.co_name != "train_step":
            return
        current: FrameType | None = frame
        while current is not None:
            stack.append((_file_of(current), current.f_code.co_qualname))
            current = current.f_back

    _run_watched(fit, watch)
    own = [(file, name) for file, name in stack[::-1] if file]
    first = next(n for n, (_, name) in enumerate(own) if name.endswith(".fit"))
    return own[first:]


def way_of_the_data() -> list[tuple[str, str]]:
    """Return file and function of each call that carries the data, in the order of first calls."""
    way: list[tuple[str, str]] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not (file := _file_of(frame)):
            return
        code = frame.f_code
        arguments = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self"}
        call = (file, code.co_qualname)
        is_function = not code.co_name.startswith("<")
        if is_function and call not in way and any(_carries(frame, name) for name in arguments):
            way.append(call)

    _run_watched(fit_frame, watch)
    first = next(n for n, (_, name) in enumerate(way) if name == "Forecaster.fit")
    return way[first:]


CARRIERS = {"DataFrame", "Panel", "Windows", "PanelTrainingData"}


def _carries(frame: FrameType, argument: str) -> bool:
    return type(frame.f_locals.get(argument)).__name__ in CARRIERS


def _file_of(frame: FrameType) -> str:
    """Return the file of a frame below the package, or an empty string."""
    path = Path(frame.f_code.co_filename)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT / PACKAGE) else ""


def _run_watched(fit: Callable[[], None], watch: Callable[[FrameType, str, Any], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit()  # imports and caches, unwatched
        threading.setprofile(watch)
        sys.setprofile(watch)
        try:
            fit()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def count_moves(way: list[tuple[str, str]], heights: dict[str, int]) -> dict[str, int]:
    """Return the number of places, climbs and returns of a way."""
    places: list[str] = []
    for file, _ in way:
        if not places or places[-1] != file:
            places.append(file)

    def height(file: str) -> int:
        return heights[file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")]

    pairs = list(pairwise(places))
    return {
        "places of the data": len(places),
        "climbs of the data": sum(height(to) > height(here) for here, to in pairs),
        "returns of the data": len(places) - len(set(places)),
    }


def main() -> int:
    """Print every measurement beside its limit; return 1 if one exceeds it."""
    heights, cyclic = measure_heights(read_imports())
    found = {
        "modules in import cycles": len(cyclic),
        "longest chain of imports": max(heights.values()),
    }
    for name, fit in (("Forecaster", fit_frame), ("WindowRegressor", fit_arrays)):
        stack = stack_of_a_step(fit)
        found[f"frames from {name}.fit to train_step"] = len(stack)
        found[f"files from {name}.fit to train_step"] = len({file for file, _ in stack})
        if "-v" in sys.argv:
            print(*(f"    {file}: {function}" for file, function in stack), sep="\n")
    way = way_of_the_data()
    found |= count_moves(way, heights)
    if "-v" in sys.argv:
        print(*(f"    {file}: {function}" for file, function in way), sep="\n")
    for name, value in found.items():
        print(f"{name:45} {value:3}  (at most {LIMITS[name]})")
    over = [name for name, value in found.items() if value > LIMITS[name]]
    for name in over:
        print(f"structure: {name} exceeds its limit.", file=sys.stderr)
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
