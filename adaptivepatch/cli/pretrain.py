"""``adaptivepatch pretrain-patcher``: train a patcher on corpora and write it to a folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.new_forecaster import read_setting
from adaptivepatch.cli.screen import note, write_json
from adaptivepatch.errors import InvalidParameterError

if TYPE_CHECKING:
    from adaptivepatch.datasets.corpora import Corpus
    from adaptivepatch.patchers.base import Patcher
    from adaptivepatch.pretrained import PatcherCard
    from adaptivepatch.pretraining.pretrain import PretrainingRecord, PretrainingSettings

EXAMPLES = r"""Examples:

adaptivepatch pretrain-patcher loads.parquet --out my_patcher

adaptivepatch pretrain-patcher permitted --out my_patcher --steps 20000 --check-overlap

adaptivepatch pretrain-patcher permitted --out my_patcher --steps 20000 --resume

adaptivepatch pretrain-patcher classics --out tiny --cell 96x8 --cell 192x16 --set width=8"""

PERMITTED = "permitted"
CHECKPOINT = "checkpoint.safetensors"
_NOT_SHOWN = ("resume", "force", "as_json")
_TRAINING = "Training"


def _setting(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_TRAINING, **more)


Corpora = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...",
        help="Names, parquet files, or 'permitted' for all known corpora with an open license.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder to write to.", parser=options.user_path)
]
PatcherName = Annotated[
    str,
    _setting(
        "Patcher whose policy is trained, such as reinpatch. Registered names: "
        f"{options.PATCHER_NAMES}. Or module:Class of your own.",
        metavar="NAME",
    ),
]
Settings = Annotated[
    list[str] | None,
    _setting(
        "Parameter of the patcher, such as width=32 or gradient__num_samples=8; repeat for more.",
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
Cells = Annotated[
    list[str] | None,
    _setting(
        "Look-back and compression rate, such as 336x16; repeat for more. Default: 12 cells from "
        "96x8 to 2048x96, except those that need longer series.",
        "--cell",
        metavar="TxR",
        show_default=False,
    ),
]
Steps = Annotated[int, _setting("Number of training steps, all cells together.")]
BatchSize = Annotated[int, _setting("Number of rows in a step.")]
LearningRate = Annotated[float, _setting("Learning rate of the forecasters that are trained too.")]
ValidateEvery = Annotated[int, _setting("Number of steps between two checkpoints.")]
Seed = Annotated[int, _setting("Seed of all random numbers.")]
CheckOverlap = Annotated[
    bool,
    typer.Option(
        "--check-overlap", help="Refuse corpora that contain series of the available benchmarks."
    ),
]
Resume = Annotated[bool, _setting("Continue an interrupted run.", "--resume")]


def pretrain_patcher(
    context: typer.Context,
    corpora: Corpora,
    out: Out,
    patcher: PatcherName = "reinpatch",
    settings: Settings = None,
    cell: Cells = None,
    steps: Steps = 10_000,
    batch_size: BatchSize = 64,
    learning_rate: LearningRate = 1e-3,
    validate_every: ValidateEvery = 500,
    seed: Seed = 0,
    threads: options.Threads = None,
    check_overlap: CheckOverlap = False,
    resume: Resume = False,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Train a patcher on many series, for any look-back and compression rate.

    The folder will hold config.json, model.safetensors and a model card, in the
    format of the Hugging Face Hub; load_patcher(FOLDER) loads it. Progress is
    saved at every checkpoint, and --resume continues from there.
    """
    from adaptivepatch.datasets.corpora import PERMITTED as OPEN
    from adaptivepatch.datasets.corpora import load_corpora
    from adaptivepatch.pretraining.pretrain import PretrainingSettings, make_card
    from adaptivepatch.pretraining.windows import CELLS, Cell

    job = _Job(out, steps, force=force, resume=resume)
    job.check()
    options.set_threads(threads)
    how = PretrainingSettings(
        steps=steps,
        batch_size=batch_size,
        cells=tuple(map(Cell.parse, cell)) if cell else CELLS,
        learning_rate=learning_rate,
        validate_every=validate_every,
        seed=seed,
    )
    how.check()
    made = _make_patcher(patcher, settings or [], seed)
    names = [name for given in corpora for name in (OPEN if given == PERMITTED else (given,))]
    series = load_corpora(names)
    notes = [_refuse_overlap(series)] if check_overlap else []
    if not cell:
        how = _without_long_cells(series, how)
    record = job.train(made, series, how)
    card = make_card(series, how, record, command=_command(context), notes=notes)
    job.save(made, card)
    job.report(made, record, series, as_json=as_json)


def _make_patcher(name: str, settings: list[str], seed: int) -> Patcher:
    """Return an untrained patcher."""
    from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
    from adaptivepatch.pretraining.pretrain import initialised

    made: Any = options.patcher_class(name)()
    if made.get_params(deep=False).get("gradient", made) is None:
        # Series differ in scale, so the reward is a log loss. The forecasters are discarded, so no
        # last phase trains them alone.
        made.set_params(gradient=GroupPolicyGradient(reward="log_loss", frozen_share=0.0))
    try:
        made.set_params(**dict(map(read_setting, settings)))
        return initialised(made, seed)  # after --set has set the sizes of the weights
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidParameterError):
            raise
        raise InvalidParameterError(f"{error}") from error


def _without_long_cells(series: list[Corpus], how: PretrainingSettings) -> PretrainingSettings:
    """Drop the pairs of look-back and rate for which every series is too short, and report them."""
    from adaptivepatch.pretraining.pretrain import fitting_cells

    fitting = fitting_cells(series, how)
    left_out = [str(cell) for cell in how.cells if cell not in fitting]
    if left_out:
        note(f"no series is long enough for {', '.join(left_out)}; these cells are omitted.")
    return replace(how, cells=fitting)


def _refuse_overlap(series: list[Corpus]) -> str:
    """Raise if a corpus contains a benchmark series; otherwise return a note for the card."""
    from adaptivepatch.datasets.overlap import OverlapIndex, benchmark_series

    references = benchmark_series()
    sets = sorted({name.partition("/")[0] for name in references})
    note(f"searching the corpora for series of {', '.join(sets)}.")
    index = OverlapIndex(references)
    found = [match for corpus in series for match in index.search(corpus.named())]
    if found:
        more = f" and {len(found) - 1} more pairs" if len(found) > 1 else ""
        raise InvalidParameterError(
            f"A corpus must not contain series of a benchmark. {found[0]}{more}. Omit that corpus."
        )
    return (
        f"A search by content (hashes of differences, correlation of excerpts, at several time "
        f"steps) found no series of {', '.join(sets)} in the training data."
    )


@dataclass
class _Job:
    """One run and its folder.

    Parameters
    ----------
    folder : path
        Folder to write to.
    steps : int
        Number of steps of the whole run.
    force : bool
        Whether an existing patcher or checkpoint is replaced.
    resume : bool
        Whether training continues from the checkpoint in the folder.
    """

    folder: Path
    steps: int
    force: bool
    resume: bool

    @property
    def checkpoint(self) -> Path:
        """File of the checkpoint, which exists during training and after an interruption."""
        return self.folder / CHECKPOINT

    def check(self) -> None:
        """Raise before training if the patcher cannot be written after it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidParameterError(
                f"A patcher is written into a folder. {str(self.folder)!r} is a file. Name a "
                "folder."
            )
        if self.resume and not self.checkpoint.exists():
            raise InvalidParameterError(
                "Resuming needs the checkpoint of an interrupted run. There is none in "
                f"{str(self.folder)!r}. Omit --resume."
            )
        if self.checkpoint.exists() and not (self.resume or self.force):
            raise InvalidParameterError(
                f"{str(self.folder)!r} holds the checkpoint of an interrupted run. Pass --resume "
                "to continue from it, or --force to start again."
            )
        if (self.folder / "config.json").exists() and not (self.resume or self.force):
            raise InvalidParameterError(
                f"An existing patcher is replaced only with --force. {str(self.folder)!r} holds "
                "one. Pass --force or name another folder."
            )

    def train(
        self, patcher: Patcher, series: list[Corpus], how: PretrainingSettings
    ) -> PretrainingRecord:
        """Train the patcher, print the progress and write checkpoints."""
        from adaptivepatch.files import make_folder
        from adaptivepatch.pretraining.pretrain import identity_of, pretrain
        from adaptivepatch.training.checkpoint import CheckpointFile

        make_folder(self.folder)
        if not self.resume:
            self.checkpoint.unlink(missing_ok=True)
        file = CheckpointFile(self.checkpoint, identity_of(patcher, series, how))
        try:
            with _progress(self.steps) as (on_step, on_validation):
                return pretrain(
                    patcher,
                    series,
                    how,
                    checkpoint=file,
                    on_step=on_step,
                    on_validation=on_validation,
                )
        except KeyboardInterrupt:
            note("the checkpoint is kept. To continue, run the same command with --resume.")
            raise

    def save(self, patcher: Patcher, card: PatcherCard) -> None:
        """Write the patcher and its card, then delete the checkpoint."""
        patcher.save_pretrained(self.folder, card, overwrite=True)
        self.checkpoint.unlink(missing_ok=True)

    def report(
        self,
        patcher: Patcher,
        record: PretrainingRecord,
        series: list[Corpus],
        *,
        as_json: bool,
    ) -> None:
        """Print a summary."""
        last, points = record.history[-1], sum(len(v) for c in series for v in c.values)
        count = sum(parameter.numel() for parameter in patcher.parameters())
        if as_json:
            write_json(
                {
                    "patcher": str(self.folder),
                    "parameters": count,
                    "steps": record.num_steps,
                    "seconds": record.seconds,
                    "corpora": [corpus.info.name for corpus in series],
                    "points": points,
                    "validation_loss": last["validation_loss"],
                    "uniform_loss": last["uniform_loss"],
                    "gain": last["gain"],
                    "history": record.history,
                }
            )
            return
        typer.echo(
            f"Wrote {self.folder}: {count} parameters, {record.num_steps} steps on {points} points "
            f"of {sum(map(len, series))} series in {record.seconds:.1f} s; held-out loss "
            f"{last['validation_loss']:.4g}, with uniform patches {last['uniform_loss']:.4g}."
        )


OnStep = Callable[[int], None]
OnValidation = Callable[[int, Mapping[str, float]], None]


@contextmanager
def _progress(total: int) -> Iterator[tuple[OnStep | None, OnValidation]]:
    """Show a progress bar on a terminal, and plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield None, _announce
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    status = TextColumn("{task.fields[status]}")
    with Progress(*columns, TimeRemainingColumn(), status, console=Console(stderr=True)) as bar:
        task = bar.add_task("pretraining", total=total, status="")

        def show(step: int, metrics: Mapping[str, float]) -> None:
            text = f"held-out {metrics['validation_loss']:.4f}, gain {100 * metrics['gain']:.2f} %"
            bar.update(task, completed=step, status=text)

        yield (lambda step: bar.update(task, completed=step)), show


def _announce(step: int, metrics: Mapping[str, float]) -> None:
    """Print the losses at a validation."""
    typer.echo(
        f"step {step}: training {metrics['train_loss']:.4f}, held-out "
        f"{metrics['validation_loss']:.4f}, with uniform patches {metrics['uniform_loss']:.4f}, "
        f"{metrics['seconds']:.1f} s",
        err=True,
    )


def _command(context: typer.Context) -> str:
    """Return the command that was typed, with absolute paths shortened to their names."""
    words = [context.command_path]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is None or source.name != "COMMANDLINE" or parameter.name in _NOT_SHOWN:
            continue
        value = context.params[str(parameter.name)]
        for one in value if isinstance(value, list | tuple) else [value]:
            if parameter.param_type_name == "option":
                words.append(parameter.opts[0])
            if one is not True:
                path = Path(str(one))
                words.append(shlex.quote(path.name if path.is_absolute() else str(one)))
    return " ".join(words)
