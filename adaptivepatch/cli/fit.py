"""``adaptivepatch fit``: a file in, a model folder out."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.build import levels, load_initial, make_forecaster
from adaptivepatch.cli.screen import note, write_json
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError

if TYPE_CHECKING:
    from adaptivepatch.cli.tables import Table
    from adaptivepatch.estimators.forecaster import Forecaster

EXAMPLES = r"""Examples:

adaptivepatch fit load.csv --horizon 96 --model out/

adaptivepatch fit shops.csv.gz --item-id shop --timestamp day --target sales \
  --horizon 28 --quantiles 0.1,0.5,0.9 --missing mask --model shops/

adaptivepatch fit load.csv --horizon 96 --model recency/ --patcher recency \
  --set patcher__compression_rate=12 --set trainer__learning_rate=1e-3

adaptivepatch fit load.csv --horizon 96 --model out/ --resume"""

CHECKPOINT, ABOUT = "checkpoint", "cli.json"
_MODEL_FILES = ("config.json", "model.safetensors", ABOUT)
_COLUMNS, _MODEL = "Columns of FILE", "Model and training"


def _column(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=_COLUMNS, show_default=False, **more)


def _setting(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_MODEL, **more)


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Series: .csv or .tsv (also .gz, .xz), or .parquet.",
        show_default=False,
    ),
]
Horizon = Annotated[int, typer.Option(help="Time steps to forecast.", show_default=False)]
ModelFolder = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Folder to write to.", show_default=False)
]
ItemId = Annotated[
    str | None, _column("Series a row belongs to; default: item_id, if it is there.", metavar="COL")
]
Timestamp = Annotated[
    str | None,
    _column("Dates or integers; default: timestamp, date, ds, time, or first.", metavar="COL"),
]
Target = Annotated[
    list[str] | None, _column("Channel; repeat for more. Default: all others.", metavar="COL")
]
Freq = Annotated[str | None, _column("One time step, such as h, 15min or D; default: inferred.")]
Gaps = Annotated[
    options.Missing,
    typer.Option(help="Gaps: refuse, or keep unobserved.", rich_help_panel=_COLUMNS),
]
ShortSeries = Annotated[
    options.Short,
    typer.Option(help="Series too short: refuse, or leave out.", rich_help_panel=_COLUMNS),
]
ContextLength = Annotated[int, _setting("Time steps to look back.")]
PatcherName = Annotated[
    str,
    _setting(
        "fixed, random, recency, periodic, deviation, entropy, change_point, reinpatch, "
        "dynamic_chunking, dynamic_pooling, score_function, hierarchical; module:Class of your "
        "own; or, frozen, a pretrained one: reinpatch-small or its folder.",
        metavar="NAME",
    ),
]
BackboneName = Annotated[str, _setting("patchtst or transformer.", metavar="NAME")]
Quantiles = Annotated[
    str | None, _setting("Such as 0.1,0.5,0.9.", metavar="LEVELS", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    _setting(
        "Any other parameter, such as patcher__patch_length=24; repeat for more.",
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
MaxSteps = Annotated[int | None, _setting("Steps of training at most.", show_default="1000")]
MaxEpochs = Annotated[
    int | None, _setting("The same in passes over the windows.", show_default=False)
]
ValidationRows = Annotated[
    int | None,
    _setting("Last rows, to choose the number of steps by.", show_default="10 %, or the horizon"),
]
NoRefit = Annotated[bool, _setting("Do not train again on all rows.", "--no-refit")]
Seed = Annotated[int, _setting("Determines everything random.")]
Device = Annotated[str, _setting("auto, cpu, cuda, cuda:1, ...")]
Threads = Annotated[
    int | None, _setting("CPU threads.", metavar="N", min=1, show_default="torch's choice")
]
Init = Annotated[
    Path | None,
    _setting(
        "Fine-tune: begin with this model's weights, and with its context length, patcher, "
        "backbone and quantiles where they are not given.",
        metavar="FOLDER",
        show_default=False,
    ),
]
Resume = Annotated[bool, _setting("Go on with an interrupted fit.", "--resume")]


def fit(
    context: typer.Context,
    file: File,
    horizon: Horizon,
    model: ModelFolder,
    item_id: ItemId = None,
    timestamp: Timestamp = None,
    target: Target = None,
    freq: Freq = None,
    date_format: options.DateFormat = None,
    missing: Gaps = options.Missing.error,
    short: ShortSeries = options.Short.error,
    context_length: ContextLength = 336,
    patcher: PatcherName = "fixed",
    backbone: BackboneName = "patchtst",
    quantiles: Quantiles = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    max_epochs: MaxEpochs = None,
    validation_rows: ValidationRows = None,
    no_refit: NoRefit = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    init: Init = None,
    resume: Resume = False,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Train a forecaster on a file.

    A file with a column of item ids is long: one row per series and stamp.
    Any other is wide: one series, one column per channel. Ctrl-C keeps the
    best model so far, and --resume goes on from there.
    """
    from adaptivepatch.cli.tables import Columns, read_table

    job = _Job(model, force=force, resume=resume)
    job.check()
    options.set_threads(threads)
    parameters = {
        "horizon": horizon,
        "context_length": context_length,
        "patcher": patcher,
        "backbone": backbone,
        "quantiles": levels(quantiles),
        "missing": missing.value,
        "random_state": seed,
    }
    classes = [options.patcher_class(patcher)] if ":" in patcher else []
    trained = None if init is None else load_initial(init, classes, context, parameters)
    training = {"max_steps": max_steps, "max_epochs": max_epochs, "device": device}
    forecaster = make_forecaster(parameters, training, settings or [])
    table = read_table(file, Columns(item_id, timestamp, target or None, date_format))
    arguments: dict[str, Any] = {
        "freq": int(freq) if freq is not None and freq.isdigit() else freq,
        "validation_rows": validation_rows,
        "refit": not no_refit,
        "short": short.value,
        "init": trained,
    }
    job.train(forecaster, table, arguments)
    about = {"date_format": date_format, "patcher": patcher}
    job.save(forecaster, about)
    job.report(forecaster, as_json=as_json)


@dataclass
class _Job:
    """One fit, and what it does to the model folder.

    Parameters
    ----------
    folder : path
        The model folder.
    force, resume : bool
        What to do about what is in it.
    """

    folder: Path
    force: bool
    resume: bool

    @property
    def checkpoint(self) -> Path:
        """Where training can go on from; there while it runs or after an interruption."""
        return self.folder / CHECKPOINT

    @property
    def old_checkpoint(self) -> Path:
        """Where --force puts an earlier one until the fit has got further."""
        return self.folder / f"{CHECKPOINT}.old"

    def check(self) -> None:
        """Raise unless a model can be written: before training, not after it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidParameterError(
                f"A model is written into a folder. {str(self.folder)!r} is a file. Name another."
            )
        present = [name for name in _MODEL_FILES if (self.folder / name).exists()]
        has_checkpoint = (self.checkpoint / "train.safetensors").exists()
        if self.resume and not has_checkpoint:
            raise InvalidParameterError(
                "Resuming needs the checkpoint of an interrupted fit. There is none in "
                f"{str(self.folder)!r}. Leave --resume out."
            )
        if has_checkpoint and not (self.resume or self.force):
            raise InvalidParameterError(
                f"{str(self.folder)!r} holds the checkpoint of an interrupted fit. Pass --resume "
                "to go on from it, or --force to begin anew."
            )
        if present and not (self.resume or self.force):
            raise InvalidParameterError(
                f"Models are not replaced unasked. {str(self.folder)!r} has {', '.join(present)}. "
                "Name another folder, or pass --force."
            )
        self._check_writable()

    def _check_writable(self) -> None:
        from tempfile import TemporaryFile

        nearest = self.folder
        while not nearest.exists():
            nearest = nearest.parent
        try:
            with TemporaryFile(dir=nearest):
                pass
        except OSError as error:
            raise InvalidParameterError(
                f"The model needs a folder that can be written to. {str(nearest)!r} cannot "
                f"({error.strerror}). Name another."
            ) from error

    def train(self, forecaster: Forecaster, table: Table, arguments: dict[str, Any]) -> None:
        """Fit, showing progress and writing checkpoints."""
        from adaptivepatch.cli.tables import ITEM_ID

        if self.checkpoint.exists() and not self.resume:  # --force: kept until there is a new one
            shutil.rmtree(self.old_checkpoint, ignore_errors=True)
            self.checkpoint.rename(self.old_checkpoint)
        arguments = arguments | {"resume" if self.resume else "checkpoint": self.checkpoint}
        columns = table.columns
        shows_bar = sys.stderr.isatty()
        if shows_bar:
            forecaster.set_params(trainer__progress=True)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Training .*was interrupted")  # see `report`
                forecaster.fit(
                    table.frame,
                    item_id=columns.item_id or ITEM_ID,
                    timestamp=columns.timestamp or "timestamp",
                    target=columns.target,
                    callback=None if shows_bar else _announce,
                    **arguments,
                )
        except (AdaptivePatchError, KeyboardInterrupt) as error:
            self._after_failure(error)
            raise
        finally:
            if shows_bar:
                forecaster.set_params(trainer__progress=False)

    def _after_failure(self, error: BaseException) -> None:
        """Keep a checkpoint that training can go on from, else put back what was there."""
        from adaptivepatch.estimators.resuming import has_progress
        from adaptivepatch.training.record import TrainingDivergedError

        if self.resume:
            return
        if has_progress(self.checkpoint) and not isinstance(error, TrainingDivergedError):
            note("the checkpoint is kept; the same command with --resume goes on from it.")
            return
        self._remove_checkpoint()
        if self.old_checkpoint.exists():
            self.old_checkpoint.rename(self.checkpoint)

    def save(self, forecaster: Forecaster, about: dict[str, Any]) -> None:
        """Write the model; keep the checkpoint only if there is something left to do."""
        from adaptivepatch.files import write_atomic

        text = json.dumps(about, indent=2) + "\n"
        forecaster.save(self.folder, overwrite=self.force or self.resume)
        write_atomic(self.folder / ABOUT, lambda path: path.write_text(text, encoding="utf-8"))
        shutil.rmtree(self.old_checkpoint, ignore_errors=True)
        if not forecaster.record_.interrupted:
            self._remove_checkpoint()

    def _remove_checkpoint(self) -> None:
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def report(self, forecaster: Forecaster, *, as_json: bool) -> None:
        """Say what was trained; end with exit status 130 after an interruption."""
        from adaptivepatch.data.steps import step_name

        record, history = forecaster.record_, forecaster.history_
        step = step_name(history.freq)
        if as_json:
            write_json(
                {
                    "model": str(self.folder),
                    "horizon": forecaster.horizon,
                    "context_length": forecaster.context_length,
                    "items": history.num_items,
                    "skipped": forecaster.skipped_,
                    "channels": history.channels,
                    "freq": step,
                    "best_step": record.best_step,
                    "steps": record.num_steps,
                    "validation_loss": record.best_loss,
                    "seconds": record.seconds,
                    "interrupted": record.interrupted,
                }
            )
        else:
            loss = record.best_loss
            found = "no validation" if loss != loss else f"validation loss {loss:.4g}"
            typer.echo(
                f"Wrote {self.folder}: forecasts {forecaster.horizon} steps of {step!r}, "
                f"{history.num_items} series, {history.num_channels} channels; best step "
                f"{record.best_step} of {record.num_steps}, {found}, {record.seconds:.1f} s."
            )
        if record.interrupted:
            where = f"at step {record.num_steps} of {record.total_steps}"
            if record.refit_interrupted:
                where = "in training again on all rows"
            note(
                f"interrupted {where}. "
                f"{str(self.folder)!r} holds the best model so far, not trained on the validation "
                "rows. To go on, run the same command with --resume (and without --force)."
            )
            raise SystemExit(130)


def _announce(step: int, metrics: dict[str, float]) -> None:
    """Say what a validation found."""
    parts = [
        f"{name} {metrics[key]:.4f}"
        for name, key in (("training", "train_loss"), ("validation", "validation_loss"))
        if key in metrics
    ]
    typer.echo(f"step {step}: {', '.join(parts)}, {metrics['seconds']:.1f} s", err=True)
