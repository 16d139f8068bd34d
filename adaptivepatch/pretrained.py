"""Pretrained patchers: saving, publishing and loading a trained patcher without a forecaster.

A patcher is a folder in the layout of the Hugging Face Hub: ``config.json``, ``model.safetensors``
and the model card ``README.md``. Nothing is unpickled, and only registered or given classes are
built. Patchers that come with this package are in ``pretrained_patchers/NAME/``.
"""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from adaptivepatch import __version__, schema
from adaptivepatch.errors import (
    InvalidModelError,
    InvalidParameterError,
    OutputError,
    shortened,
    suggest,
)
from adaptivepatch.files import as_path, is_file, is_folder
from adaptivepatch.model_folder import (
    CONFIG,
    WEIGHTS,
    WithinWeights,
    build_component,
    describe,
    description,
    load_folder,
    load_weights,
    save_folder,
)
from adaptivepatch.torch_state import plain_torch, seeded

CARD = "README.md"
SHIPPED = Path(__file__).with_name("pretrained_patchers")
_KIND = "patcher"
_FILES = (CONFIG, WEIGHTS, CARD)


@dataclass(frozen=True)
class TrainingData:
    """One source of training series, for a model card.

    Parameters
    ----------
    name, license, origin : str
        Name, license and origin, as stated with the data.
    sha256 : str
        Digest of the file.
    num_series, num_points : int
        Numbers of series and points used for training.
    """

    name: str
    license: str
    origin: str
    sha256: str
    num_series: int
    num_points: int


@dataclass(frozen=True)
class PatcherCard:
    """Content of the model card of a pretrained patcher.

    Parameters
    ----------
    data : sequence of TrainingData
        Sources of the training series.
    command : str, optional
        Command that repeats the training.
    notes : sequence of str
        Sentences about the purpose of the patcher and about the checks of its results.
    history : sequence of mapping
        Rows of the training history, all with the same columns.
    license : str, default="apache-2.0"
        License of the weights, by its name on the Hub.
    date : str
        Date of training. Default: today.
    """

    data: Sequence[TrainingData] = ()
    command: str | None = None
    notes: Sequence[str] = ()
    history: Sequence[Mapping[str, Any]] = ()
    license: str = "apache-2.0"
    date: str = field(default_factory=lambda: datetime.datetime.now().date().isoformat())

    def render(self, patcher: Any) -> str:
        """Return the card of a patcher as Markdown; it begins with the metadata of the Hub."""
        count = sum(parameter.numel() for parameter in patcher.parameters())
        lines = ["---", f"license: {self.license}", "library_name: adaptivepatch"]
        lines += ["tags:", "- time-series", "- patching", f"- {patcher.name}", "---", ""]
        lines += ["# A pretrained patcher", ""]
        lines += [f"`{' '.join(repr(patcher).split())}`", ""]
        lines += ["It decides where the patches of a look-back begin. Any forecaster can be"]
        lines += ["trained on them. Load it with `adaptivepatch.load_patcher(...)`.", ""]
        lines += [f"* {count} parameters, adaptivepatch {__version__}, {self.date}"]
        lines += [f"* {note}" for note in self.notes]
        lines += ["", "## Training data", ""]
        if self.data:
            lines += _table(
                {
                    "name": source.name,
                    "series": source.num_series,
                    "points": source.num_points,
                    "license": source.license,
                    "origin": source.origin,
                    "SHA-256": source.sha256,
                }
                for source in self.data
            )
        else:
            lines += ["Not stated."]
        if self.command:
            lines += ["", "## Command", "", "```", self.command, "```"]
        if self.history:
            lines += ["", "## Course of training", "", *_table(self.history)]
        return "\n".join(lines) + "\n"


def _table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return rows as a Markdown table."""
    lines: list[str] = []
    for row in rows:
        if not lines:
            lines = [f"| {' | '.join(row)} |", f"|{' --- |' * len(row)}"]
        cells = [_cell(value) for value in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value).replace("|", "\\|")


def weights_digest(patcher: nn.Module) -> str:
    """Return the SHA-256 of a patcher's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(patcher.state_dict().items()):
        digest.update(name.encode())
        exact = value.detach().to("cpu", torch.float64)  # equal for all floating-point types
        digest.update(exact.contiguous().numpy().tobytes())
    return digest.hexdigest()


def frozen_parts(patcher: Any) -> list[Any]:
    """Return the patcher itself if it is frozen, else the outermost frozen patchers inside it."""
    if patcher.is_frozen:
        return [patcher]
    inner = [child for child in patcher.children() if isinstance(child, PretrainedMixin)]
    return [part for child in inner for part in frozen_parts(child)]


class PretrainedMixin:
    """Methods of a patcher that save, load and publish it without a forecaster."""

    card: str | None = None

    def save_pretrained(self, path: str | Path, card: Any = None, overwrite: bool = False) -> Path:
        """Write a folder that `from_pretrained` and the Hugging Face Hub can read.

        Parameters
        ----------
        path : path
            Folder for config.json, model.safetensors and the model card, README.md.
        card : PatcherCard, optional
            Content of the model card. Default: the card that the patcher was loaded with, if any.
        overwrite : bool, default=False
            Whether to replace a patcher that the folder holds.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        OutputExistsError
            If the folder holds a model and `overwrite` is False.
        """
        return save_patcher(self, path, card, overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, frozen: bool = True, revision: str | None = None, **params: Any
    ) -> Self:
        """Load a patcher of this class; see `adaptivepatch.load_patcher`.

        Parameters
        ----------
        path : path
            Folder, name of a patcher in this package, or repository of the Hugging Face Hub.
        frozen : bool, default=True
            Whether to freeze the patcher.
        revision : str, optional
            Branch, tag or commit of the repository.
        **params
            Parameters to change. The weights must not depend on them; `compression_rate` is one
            example.

        Returns
        -------
        Patcher
            The loaded patcher.
        """
        patcher: Self = load_patcher(path, frozen=frozen, revision=revision, kind=cls, **params)
        return patcher

    def push_to_hub(self, repository: str, card: Any = None, **options: Any) -> str:
        """Publish the patcher on the Hugging Face Hub; see `adaptivepatch.pretrained.push_patcher`.

        Parameters
        ----------
        repository : str
            Name of the repository, in the form ``owner/name``.
        card : PatcherCard, optional
            Content of the model card; see `save_pretrained`.
        **options
            Options `private`, `token` and `message`.

        Returns
        -------
        str
            Address of the commit.
        """
        return push_patcher(self, repository, card, **options)


# ---------------------------------------------------------------------------------------- writing


def save_patcher(
    patcher: Any, path: str | Path, card: PatcherCard | None = None, *, overwrite: bool = False
) -> Path:
    """Write the files of a patcher into a folder, where they replace earlier ones together.

    Parameters
    ----------
    patcher : Patcher
        Patcher to write, with its current weights.
    path : path
        Folder to write to.
    card : PatcherCard, optional
        Content of the model card. Default: the card that the patcher was loaded with or, without
        one, a card without training data.
    overwrite : bool, default=False
        Whether to replace a patcher that the folder holds.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExistsError
        If the folder holds a model and `overwrite` is False.
    OutputError
        If a file cannot be written.
    """
    if card is not None and not isinstance(card, PatcherCard):
        raise TypeError(
            f"The card argument of save_pretrained must be a PatcherCard. Got {card!r} instead. "
            "Leave card out to keep the card that the patcher was loaded with."
        )
    text = patcher.card if card is None else card.render(patcher)
    text = PatcherCard().render(patcher) if text is None else text
    config = {
        "kind": _KIND,
        "library_name": "adaptivepatch",
        "patcher": describe(patcher),
    }
    texts = {CARD: text}
    return save_folder(path, config, patcher.state_dict(), overwrite=overwrite, texts=texts)


def push_patcher(
    patcher: Any,
    repository: str,
    card: PatcherCard | None = None,
    *,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload patcher",
) -> str:
    """Publish a patcher on the Hugging Face Hub.

    Parameters
    ----------
    patcher : Patcher
        Patcher to publish, with its current weights.
    repository : str
        Name of the repository, in the form ``owner/name``; created if absent.
    card : PatcherCard, optional
        Content of the model card; see `save_patcher`.
    private : bool, default=False
        Whether a new repository is private.
    token : str, optional
        Access token of the account. Default: the token that ``hf auth login`` stored.
    message : str
        Message of the commit.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    InvalidParameterError
        If `repository` has another form.
    OutputError
        If the Hub cannot be reached or refuses the upload.
    """
    from huggingface_hub import HfApi

    if repository.count("/") != 1:
        raise InvalidParameterError(
            f"The name of a repository must have the form owner/name. Got {repository!r} instead.",
            parameter="repository",
        )
    with tempfile.TemporaryDirectory() as folder:
        save_patcher(patcher, folder, card, overwrite=True)
        try:
            api = HfApi(token=token)
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                allow_patterns=list(_FILES),
            )
        except Exception as error:  # errors of the network, the Hub or the name
            raise OutputError(
                f"Publishing to {repository!r} failed: {' '.join(str(error).split())}. Check the "
                "name and the network, and log in with: hf auth login."
            ) from error
    return str(commit)


# ---------------------------------------------------------------------------------------- reading


def shipped_patchers() -> list[str]:
    """Return the names of the patchers in this package."""
    if not SHIPPED.is_dir():
        return []
    return sorted(path.name for path in SHIPPED.iterdir() if (path / CONFIG).is_file())


def is_pretrained(name: str) -> bool:
    """Tell whether a name is the name of a patcher in this package or of a folder."""
    return name in shipped_patchers() or is_folder(as_path(name, "patcher"))


@plain_torch()
@seeded(None)
def load_patcher(
    path: str | Path,
    *,
    classes: Sequence[type] = (),
    frozen: bool = True,
    revision: str | None = None,
    kind: type | None = None,
    **parameters: Any,
) -> Any:
    """Load a pretrained patcher.

    With a frozen patcher, ``Forecaster(patcher=...)`` trains only the rest of the network.

    Parameters
    ----------
    path : path
        Folder that `Patcher.save_pretrained` wrote, name of a patcher in this package, or
        repository of the Hugging Face Hub in the form ``owner/name``. They are tried in this order.
    classes : sequence of type, optional
        Your own classes that the saved patcher uses.
    frozen : bool, default=True
        Whether to freeze the patcher. A frozen patcher has no gradients, stays in eval mode and is
        shared by clones.
    revision : str, optional
        Branch, tag or commit of a repository on the Hub.
    kind : type, optional
        Class that the patcher must be an instance of. Default: any patcher class.
    **parameters
        Parameters to change. The weights must not depend on them; `compression_rate` is one
        example. A patcher that starts patches above a threshold (`RatePatcher`) raises if it is
        used at another rate, unless its budget is exact or a fit prepares it again, which needs
        ``frozen=False``.

    Returns
    -------
    Patcher
        The loaded patcher, in eval mode.

    Raises
    ------
    InvalidModelError
        If the patcher does not exist, or this version cannot read it.
    InvalidParameterError
        If a parameter is unknown, or the weights depend on it.

    Examples
    --------
    >>> import torch
    >>> from adaptivepatch import load_patcher
    >>> patcher = load_patcher("reinpatch-small", compression_rate=24)
    >>> patcher(torch.randn(1, 96)).mode.num_patches.tolist()
    [4]
    """
    folder = _find(path, revision)
    config, weights = load_folder(folder, _KIND)
    classes = classes if kind is None else (*classes, kind)
    known = {getattr(given, "name", given.__name__): given for given in classes}
    with _reading(folder):
        schema.fields({"patcher": description}, others=True)(config, "config")
    changes = _checked(config, parameters)
    with _reading(folder), WithinWeights(weights, folder):
        described = {**config["patcher"], "frozen": False}
        described["parameters"] = {**described["parameters"], **changes}
        patcher = build_component(described, "patcher", known)
    if kind is not None and not isinstance(patcher, kind):
        raise InvalidModelError(
            f"{str(folder)!r} holds a {type(patcher).__name__}, not a {kind.__name__}. Load it "
            "with load_patcher(...)."
        )
    own = patcher.state_dict()
    fits = own.keys() == weights.keys() and all(own[n].shape == weights[n].shape for n in own)
    if parameters and not fits:
        raise InvalidParameterError(
            "The saved weights do not fit the patcher with "
            f"{', '.join(f'{name}={value!r}' for name, value in parameters.items())}. Leave out "
            "the parameters that change the network."
        )
    load_weights(patcher, weights, folder)
    if parameters:
        patcher.capacity(2048)  # raises for a wrong parameter
    patcher.card = _read_card(folder / CARD)
    patcher.eval()
    return patcher.freeze() if frozen else patcher


def _read_card(file: Path) -> str | None:
    """Return the text of a model card, or None if the file does not exist."""
    if not is_file(file):
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise InvalidModelError(
            f"The model card {str(file)!r} cannot be read as UTF-8 text ({error}). Convert it to "
            "UTF-8, or delete it."
        ) from error


def _checked(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters to change, after checking that the patcher has them."""
    available = config["patcher"]["parameters"]
    for name in parameters:
        if name not in available:
            raise InvalidParameterError(
                f"This patcher has no parameter {name!r}. Available: {sorted(available)}."
                f"{suggest(name, available)}",
                parameter=name,
            )
    return {
        name: {"component": describe(value)} if hasattr(value, "get_params") else value
        for name, value in parameters.items()
    }


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn errors that a damaged config causes into `InvalidModelError`."""
    try:
        yield
    except (InvalidModelError, InvalidParameterError):
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InvalidModelError(
            f"The {CONFIG} in {str(folder)!r} was not written by save_pretrained() "
            f"({schema.reason(error)}). Save the patcher again."
        ) from error


def _find(path: str | Path, revision: str | None) -> Path:
    """Return the folder of a patcher; a patcher on the Hub is downloaded first."""
    folder = as_path(path)
    if isinstance(path, str) and not is_folder(folder):
        if path in shipped_patchers():
            folder = SHIPPED / path
        elif path.count("/") == 1 and not path.startswith((".", "/", "~")):
            return _fetch(path, revision)
        else:
            raise InvalidModelError(
                f"{shortened(repr(path))} is neither a folder, nor a patcher in this package, nor "
                "a repository on the Hub (owner/name). Patchers in this package: "
                f"{shipped_patchers()}.{suggest(path, shipped_patchers())}"
            )
    if revision is not None:
        raise InvalidParameterError(
            f"revision selects a version of a repository on the Hub. Got {revision!r} for "
            f"{str(path)!r}, which is on this machine. Leave revision out.",
            parameter="revision",
        )
    return folder


def _fetch(repository: str, revision: str | None) -> Path:
    """Download a patcher's files from the Hub into the cache of the Hub's client."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # errors of the network, the Hub or the name
        raise InvalidModelError(
            f"{repository!r} is not a folder, and downloading it from the Hugging Face Hub failed: "
            f"{' '.join(str(error).split())}. Check the name and the network."
        ) from error
