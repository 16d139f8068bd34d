"""`Store`: the results of runs, one file each, and the tables that are built from them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.bench.claims import Claim, claim_file, wait_for_file
from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.result_row import Measured
from adaptivepatch.bench.results import (
    beside,
    check_columns,
    keyed_lines,
    read_lines,
    render_rows,
    windows_path,
)
from adaptivepatch.bench.task import KEY, Run
from adaptivepatch.errors import AdaptivePatchError, OutputExistsError
from adaptivepatch.files import make_folder, write_atomic

Key = tuple[str, ...]
"""Values of the columns `KEY`, as text."""

_FORMAT = 1


class Unit(NamedTuple):
    """Result of one run, as stored in its file: the rows of its tables, and its window errors.

    Values are text, as in the CSV files. ``window_mse`` has the shape (windows,) and is float32.
    """

    row: dict[str, str]
    curve: list[dict[str, str]]
    window_mse: NDArray[np.float32] | None

    @property
    def key(self) -> Key:
        """Key of the run."""
        return tuple(self.row[column] for column in KEY)

    @property
    def place(self) -> tuple[Any, ...]:
        """Sort key in the tables: first suite and seed, so that complete seeds are together."""
        row = self.row
        numbers = (int(row[name]) for name in ("seed", "horizon", "context_length"))
        return row["suite"], *numbers, row["dataset"], row["arm"], self.key


class Store:
    """Results of runs beside a results file ``NAME.csv``, shared by any number of processes.

    The folder ``NAME.results`` holds one file per result, which is written atomically and never
    changed. The tables ``NAME.csv`` and ``NAME.curves.csv`` and the folder ``NAME.windows`` are
    built from these files (`tables`). If a row of the tables has no such file, for example because
    an earlier version wrote it, it counts as a finished run and stays unchanged, byte for byte.

    Parameters
    ----------
    results : path
        File ``NAME.csv``. Neither the file nor its folder needs to exist.

    Examples
    --------
    ::

        store = Store("results.csv")
        for run in runs:
            claim = store.claim(run)
            if claim is None: # finished, or another process is doing it
                continue
            with claim:
                store.put(protocol.measure(run))
            store.tables()
    """

    def __init__(self, results: str | Path) -> None:
        self.results = Path(results)
        self.curves = beside(self.results, ".curves.csv")
        self.folder = beside(self.results, ".results")

    def finished(self) -> set[Key]:
        """Return the keys of all runs with a readable result.

        Raises
        ------
        InvalidParameterError
            If the results file has an incomplete line or lacks the columns of a key.
        """
        return self._rows() | {unit.key for unit in self._read()[0]}

    def claim(self, run: Run) -> Claim | None:
        """Claim a run for this process; the claim ends with the process or the `with` block.

        Parameters
        ----------
        run : Run
            Run to do.

        Returns
        -------
        Claim or None
            None if the run is finished or claimed by another process.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        InvalidParameterError
            If the results file has an incomplete line or lacks the columns of a key.
        """
        unit = self._path(run.key)
        claim = claim_file(make_folder(self.folder) / f"{unit.stem}.claim")
        if claim is None:
            return None
        if not unit.exists() and run.key not in self._rows():
            return claim
        claim.release()
        return None

    def put(self, measured: Measured) -> Path:
        """Write the result of a run that this process has claimed.

        Parameters
        ----------
        measured : Measured
            Result of the run; its window errors are stored in float32.

        Returns
        -------
        Path
            The new file.

        Raises
        ------
        OutputError
            If the file cannot be written. No part of it remains.
        OutputExistsError
            If the run has a result already.
        """
        unit = _unit_of(measured)
        path = self._path(unit.key)
        if path.exists():
            raise OutputExistsError(
                f"{str(path)!r} already holds the result of the run {unit.key}. Claim each run "
                "before doing it."
            )
        make_folder(self.folder)
        return write_atomic(path, lambda temporary: temporary.write_bytes(_encode(unit)))

    def tables(self) -> None:
        """Update the tables from the files of results, and remove leftover claims.

        Each table is replaced atomically. Rows without a file of results come first, unchanged; the
        rows from files follow in the order of `Unit.place`. If the folder of results does not
        exist, nothing is done.

        Raises
        ------
        OutputError
            If a table cannot be written; the files of results remain.
        AdaptivePatchError
            If files of results are damaged or have other columns. The tables then hold all other
            results.
        """
        if not self.folder.is_dir():
            return
        with wait_for_file(self.folder / "tables.claim"):
            units, problems = self._read()
            units.sort(key=lambda unit: unit.place)
            for unit in units:
                if unit.window_mse is not None:
                    path = windows_path(self.results, unit.row)
                    make_folder(path.parent)
                    _replace(path, _npy(unit.window_mse))
            keys = {unit.key for unit in units}
            # The table of runs is replaced last, so that a run with a row has its curve and its
            # window errors.
            _replace_rows(self.curves, [row for unit in units for row in unit.curve], keys)
            _replace_rows(self.results, [unit.row for unit in units], keys)
        for path in self.folder.glob("*.claim"):
            if path.with_suffix(".json").exists() and (claim := claim_file(path)) is not None:
                claim.release()
        if problems:
            raise AdaptivePatchError(
                f"Some result files in {str(self.folder)!r} cannot be read: {'; '.join(problems)}. "
                "Delete these files or move them to another folder, and repeat the command. Runs "
                "without a row are then done again. The tables hold all other results."
            )

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise `InvalidParameterError` if the results file has rows with other columns.

        An incomplete line in one of the two tables is an error, too.
        """
        check_columns(self.results, columns)
        read_lines(self.curves)

    def _rows(self) -> set[Key]:
        return {key for key, _ in keyed_lines(self.results)}

    def _path(self, key: Key) -> Path:
        """Return the path of a result: readable parts, and a digest of the whole key."""
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        named = dict(zip(KEY, key, strict=True))
        readable = re.sub(r"\W+", "_", f"{named['suite']}-{named['arm']}".lower(), flags=re.ASCII)
        return self.folder / f"{readable[:80]}-{named['seed']}-{digest}.json"

    def _read(self) -> tuple[list[Unit], list[str]]:
        """Return the readable units, and the path and fault of every other file."""
        units: list[Unit] = []
        problems: list[str] = []
        lines = read_lines(self.results)
        columns = lines[0].values if lines else None
        for path in sorted(self.folder.glob("*.json")):
            try:
                unit = _decode(path.read_bytes())
                if path != self._path(unit.key):
                    raise ValueError("its name does not belong to its run")
                columns = columns or list(unit.row)
                if list(unit.row) != columns:
                    raise ValueError("its columns differ from those of the table")
            except (OSError, ValueError, KeyError, TypeError) as error:
                problems.append(f"{str(path)!r} ({error})")
            else:
                units.append(unit)
        return units, problems


# ----------------------------------------------------------------------------------------- files


def _unit_of(measured: Measured) -> Unit:
    row, curve, window_mse = measured
    cells = find_protocol(row.run.task.protocol).cells(row)
    errors = None if window_mse is None else window_mse.astype(np.float32)
    return Unit(_as_text(cells), [_as_text(entry) for entry in curve], errors)


def _as_text(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in row.items()}


def _encode(unit: Unit) -> bytes:
    errors = unit.window_mse
    result = {
        "format": _FORMAT,
        "row": unit.row,
        "curve": unit.curve,
        "window_mse": None
        if errors is None
        else base64.b64encode(errors.astype("<f4").tobytes()).decode(),
    }
    return json.dumps({"sha256": _digest(result), "result": result}, indent=1).encode()


def _decode(content: bytes) -> Unit:
    found = json.loads(content)
    result = found["result"]
    if found["sha256"] != _digest(result):
        raise ValueError("its checksum differs")
    if result["format"] != _FORMAT:
        raise ValueError(f"it has format {result['format']}, but this version reads {_FORMAT}")
    text = result["window_mse"]
    errors = None if text is None else np.frombuffer(base64.b64decode(text), "<f4")
    return Unit(result["row"], result["curve"], errors)


def _digest(result: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def _npy(array: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _replace_rows(path: Path, rows: list[dict[str, str]], keys: Iterable[Key]) -> None:
    """Replace the rows of some keys in a CSV file; the other lines stay unchanged."""
    if not rows:
        return
    columns = list(rows[0])
    check_columns(path, columns)
    header = "".join(line.text for line in read_lines(path)[:1])
    kept = "".join(text for key, text in keyed_lines(path) if key not in keys)
    text = header + kept if header else ""
    text += render_rows(rows, columns, header=not header)
    _replace(path, text.encode("utf-8", errors="surrogateescape"))


def _replace(path: Path, content: bytes) -> None:
    """Replace a file atomically, unless it already has this content."""
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, lambda temporary: temporary.write_bytes(content))
