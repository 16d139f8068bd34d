"""Readers of corpora: files of many series for pretraining patchers.

A corpus is one parquet file with a row per series: ``series_id``, ``domain``, ``freq``, ``start``,
``n``, ``n_missing``, ``k``, ``q`` and ``v``. A value is ``q / 10**k``, missing where q is null; if
k is -1, the list v holds the values instead. Reading needs pyarrow (extra ``data``).

Known corpora (``catalog.py``) are found by name in the folder ``ADAPTIVEPATCH_DATA`` and its
direct subfolders and must be the original files. Other files of this format are given by path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptivepatch.datasets.catalog import CORPORA, PERMITTED, CorpusInfo, corpus_info
from adaptivepatch.datasets.sources import DATA_FOLDER_VARIABLE, data_folder
from adaptivepatch.errors import DatasetError, require
from adaptivepatch.files import as_path

__all__ = [
    "CORPORA",
    "PERMITTED",
    "Corpus",
    "CorpusInfo",
    "corpus_info",
    "load_corpora",
    "load_corpus",
]

_COLUMNS = ("series_id", "k", "q", "v")
UNKNOWN_LICENSE = "not stated"


@dataclass(frozen=True, eq=False)
class Corpus:
    """The series of one corpus.

    Parameters
    ----------
    info : CorpusInfo
        Name, license, origin and digest of the file.
    series_id : tuple of str
        Name of each series.
    values : tuple of ndarray of shape (n,)
        Values of each series in float64, NaN where missing.
    """

    info: CorpusInfo
    series_id: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]

    def __len__(self) -> int:
        return len(self.values)

    def named(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield ``corpus/series`` and the values of every series."""
        for name, values in zip(self.series_id, self.values, strict=True):
            yield f"{self.info.name}/{name}", values


def load_corpora(names: Iterable[str | Path], folder: str | Path | None = None) -> list[Corpus]:
    """Read several corpora; the arguments are those of `load_corpus`.

    Raises
    ------
    DatasetError
        If a corpus cannot be read, or two files have the same content.
    """
    corpora: list[Corpus] = []
    for name in names:
        corpus = load_corpus(name, folder)
        if corpus.info.sha256 in {other.info.sha256 for other in corpora}:
            raise DatasetError(
                f"Each corpus may be named only once, but {str(name)!r} has the content of an "
                "earlier corpus. Leave it out.",
                parameter="names",
            )
        corpora.append(corpus)
    return corpora


def load_corpus(name: str | Path, folder: str | Path | None = None) -> Corpus:
    """Read a corpus.

    Parameters
    ----------
    name : str or path
        Name in `CORPORA`, or path of a parquet file (with a separator or the suffix .parquet).
    folder : path, optional
        Folder to search for a name, with its direct subfolders; default: ``ADAPTIVEPATCH_DATA``.

    Returns
    -------
    Corpus
        Series and their description; a file that is not in `CORPORA` has the license "not stated".

    Raises
    ------
    DatasetError
        If the corpus is unknown, or its file is absent, not the original or of another format.
    MissingDependencyError
        If pyarrow is not installed.
    """
    by_path = isinstance(name, Path) or Path(name).suffix == ".parquet" or Path(name).name != name
    path = as_path(name, "name") if by_path else _find(corpus_info(str(name)).name, folder)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"The corpus file {str(path)!r} cannot be read: {error.strerror}. Name a parquet file, "
            f"or one of {sorted(CORPORA)!r}.",
            parameter="name",
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if not by_path and digest != CORPORA[str(name)].sha256:
        raise DatasetError(
            f"File {str(path)!r} is not the original of {str(name)!r}: its SHA-256 is {digest!r} "
            f"instead of {CORPORA[str(name)].sha256!r}. Replace the file, or pass its path to use "
            "it as a corpus of your own.",
            parameter="name",
        )
    series_id, values = _read(content, path)
    known = next((info for info in CORPORA.values() if info.sha256 == digest), None)
    info = known or CorpusInfo(
        path.stem, len(values), sum(map(len, values)), UNKNOWN_LICENSE, path.name, digest
    )
    return Corpus(info, series_id, values)


def _find(name: str, folder: str | Path | None) -> Path:
    """Return the file of a known corpus."""
    root = data_folder(folder)
    if root is None:
        raise DatasetError(
            f"The file of corpus {name!r} was not found, because {DATA_FOLDER_VARIABLE!r} is not "
            f"set. Set it to the folder that holds '{name}.parquet', or pass the path of the file."
        )
    if not root.is_dir():
        raise DatasetError(
            f"Corpora are searched for in a folder, but {str(root)!r} is not a folder. Set "
            f"{DATA_FOLDER_VARIABLE} to the folder that holds '{name}.parquet'."
        )
    for place in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if (place / f"{name}.parquet").is_file():
            return place / f"{name}.parquet"
    raise DatasetError(
        f"The file of corpus {name!r} was not found: '{name}.parquet' is not in {str(root)!r} or "
        "its direct subfolders. Put it there, or pass the path of the file (SHA-256: "
        f"{CORPORA[name].sha256})."
    )


def _read(content: bytes, path: Path) -> tuple[tuple[str, ...], tuple[NDArray[np.float64], ...]]:
    """Return names and values of the series in a parquet file."""
    arrow = require("pyarrow", extra="data", purpose="Reading a corpus")
    parquet = require("pyarrow.parquet", extra="data", purpose="Reading a corpus")
    try:
        table = parquet.read_table(arrow.BufferReader(content))
        absent = [column for column in _COLUMNS if column not in table.column_names]
        if absent:
            raise ValueError(f"it lacks the columns {absent}")
        columns = [table[column] for column in _COLUMNS]
        rows = [
            (str(name.as_py()), _values(int(places.as_py()), whole, real))
            for name, places, whole, real in zip(*columns, strict=True)
        ]
    except (arrow.ArrowException, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{str(path)!r} cannot be read as a corpus ({error}). A corpus is a parquet file with "
            "the columns series_id, k, q and v. Write it as docs/pretrained.md shows."
        ) from error
    if not rows:
        raise DatasetError(f"The corpus file {str(path)!r} holds no series. Use another file.")
    return tuple(name for name, _ in rows), tuple(values for _, values in rows)


def _values(places: int, whole: Any, real: Any) -> NDArray[np.float64]:
    """Return the values of a series: `real` if `places` is -1, else ``whole / 10**places``."""
    chosen = real if places == -1 else whole
    values = np.asarray(chosen.values.to_numpy(zero_copy_only=False), dtype=np.float64)
    # Both numbers are exact, so the quotient is the float nearest to the decimal number.
    return values if places == -1 else values / 10.0**places
