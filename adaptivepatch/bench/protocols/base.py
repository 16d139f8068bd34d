"""`Protocol`: how the runs of a task are trained and measured, and the columns of their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptivepatch.bench.result_row import PROVENANCE, Measured, ResultRow


@dataclass(frozen=True)
class Protocol:
    """A way to train and measure the arms of a task.

    Parameters
    ----------
    measure : callable
        Function that does one run, called as ``measure(run, device=..., callback=...)``. ``device``
        is a name such as "cpu", used unless the trainer of the arm names one. ``callback`` is
        None, or is called as ``callback(step, metrics)`` after every validation. The function
        returns `Measured`.
    measures : type of NamedTuple
        Class of the measures; its fields are columns, in their order.
    costs : tuple of str
        Entries of `adaptivepatch.bench.result_row.costs` that are columns, after the measures.
    summary : str
        Template of one line about a row, in the syntax of `str.format`, with columns as names.
    settings : tuple of str, default=()
        Settings of the arm that have a column of their own, after the arm's name.
    verifies_data : bool, default=True
        Whether the Repeat forecast must reproduce its known errors on the data set before a run.
    """

    measure: Callable[..., Measured]
    measures: type[NamedTuple]
    costs: tuple[str, ...]
    summary: str
    settings: tuple[str, ...] = ()
    verifies_data: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a results file of this protocol, in order."""
        return (
            *("suite", "task", "dataset", "protocol", "horizon", "context_length", "arm"),
            *self.settings,
            *("settings_id", "seed"),
            *self.measures._fields,
            *self.costs,
            *PROVENANCE,
            "settings",
        )

    def cells(self, row: ResultRow) -> dict[str, Any]:
        """Return the values of a row by column, as a results file of this protocol holds them."""
        own = {name: row.run.arm.settings[name] for name in self.settings}
        values = {**row.values, **own}
        return {column: values[column] for column in self.columns}

    def summarise(self, row: ResultRow) -> str:
        """Return one line about a row."""
        return self.summary.format_map(self.cells(row))
