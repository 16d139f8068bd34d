"""The tables by name, and the rendering of documents.

A document marks the place of a table by ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from adaptivepatch.errors import InvalidParameterError, suggest
from benchmarks.tables.comparisons import (
    compare_calibration,
    compare_etth1_ot,
    compare_intervals,
    compare_pedestrians,
)
from benchmarks.tables.everyday import everyday, everyday_peers
from benchmarks.tables.family import family_etth1, family_planted
from benchmarks.tables.scripts import (
    gaps,
    m3,
    peers,
    policy_cost,
    quantiles,
    score_function_noise,
    shared_channels,
)
from benchmarks.tables.suites import (
    embedding,
    levels_etth1,
    patchtst_etth1,
    planted,
    recency,
    recency_policy,
    small,
)

TABLES: dict[str, Callable[[Path], str]] = {
    table.__name__: table
    for table in (
        *(patchtst_etth1, recency, gaps, quantiles, m3),
        *(compare_etth1_ot, compare_pedestrians, compare_calibration, compare_intervals),
        *(peers, planted, small, embedding, recency_policy, levels_etth1, shared_channels),
        *(policy_cost, family_etth1, family_planted, score_function_noise),
        *(everyday, everyday_peers),
    )
}
"""Functions that return a table as Markdown, given the folder of results."""

_PLACE = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def marked_tables(text: str) -> list[str]:
    """Return the names of the tables that a document marks."""
    return [place["name"] for place in _PLACE.finditer(text)]


def render(text: str, results: Path) -> str:
    """Return a document with all marked tables filled.

    Parameters
    ----------
    text : str
        Document in Markdown.
    results : Path
        Folder of the CSV files.

    Raises
    ------
    InvalidParameterError
        If a marked table is not one of `TABLES`.
    """

    def fill(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in TABLES:
            raise InvalidParameterError(
                f"Unknown table {name!r}. Available: {sorted(TABLES)}.{suggest(name, TABLES)}"
            )
        return f"{place[1]}{TABLES[name](results)}\n{place[3]}"

    return _PLACE.sub(fill, text)
