"""Parts of tables: Markdown, and the change of an error with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adaptivepatch.bench.results import windows_path
from adaptivepatch.comparison.statistics import relative_difference


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def against(
    file: Path, own: pd.DataFrame, base: pd.DataFrame, num_comparisons: int
) -> tuple[str, str]:
    """Return the change of the error to a base and its interval, over the seeds that both have.

    Both are text. The interval is empty with fewer than three seeds, and both are empty without
    any.

    Parameters
    ----------
    file : Path
        Results file of the rows.
    own, base : pandas.DataFrame
        Rows of the arm and of the base.
    num_comparisons : int
        Number of intervals of the table that are read together, for the correction.
    """
    both = sorted({*base.seed} & {*own.seed})
    if not both:
        return "", ""
    errors, of_base = (_window_errors(file, some, both) for some in (own, base))
    found = relative_difference(
        errors,
        of_base,
        np.ones(errors.shape[1]),
        horizon=int(own.horizon.iloc[0]),
        num_comparisons=num_comparisons,
    )
    interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f} %" if len(both) > 2 else ""
    return f"{100 * found.difference:+.1f} %", interval


def _window_errors(file: Path, runs: pd.DataFrame, seeds: list[int]) -> NDArray[np.float64]:
    """Return the errors (seeds, windows) of the rows of an arm."""
    chosen = runs[runs.seed.isin(seeds)].sort_values("seed")
    return np.stack([np.load(windows_path(file, row)) for row in records(chosen)]).astype(float)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
