"""``adaptivepatch fit``: train a forecaster on a file and write it to a folder."""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptivepatch.cli import options
from adaptivepatch.cli.about import ABOUT, write_about
from adaptivepatch.cli.new_forecaster import (
    load_initial,
    make_forecaster,
    parse_bounds,
    parse_quantiles,
    read_setting,
    refuse_own_options,
)
from adaptivepatch.cli.options import (
    File,
    Freq,
    Gaps,
    Horizon,
    ItemId,
    Target,
    Timestamp,
    model_option,
)
from adaptivepatch.cli.screen import note, write_json
from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError

if TYPE_CHECKING:
    from adaptivepatch.cli.tables import Table
    from adaptivepatch.estimators.forecaster import Forecaster

EXAMPLES = r"""Examples:

adaptivepatch fit load.csv --horizon 96 --holdout 720 --model out/

adaptivepatch fit shops.csv.gz --item-id shop --timestamp day --target sales \
  --horizon 28 --quantiles 0.1,0.5,0.9 --missing mask --model shops/

adaptivepatch fit load.csv --horizon 96 --model recency/ --patcher recency \
  --set patcher__compression_rate=12 --set trainer__learning_rate=1e-3

adaptivepatch fit load.csv --horizon 96 --model out/ --resume"""

CHECKPOINT = "checkpoint"
_MODEL_FILES = ("config.json", "model.safetensors", ABOUT)


ModelFolder = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER", help="Folder to write to.", parser=options.user_path, show_default=False
    ),
]
ShortSeries = Annotated[
    options.Short,
    typer.Option(
        help="Refuse series that are too short, or skip them.", rich_help_panel=options.COLUMNS
    ),
]
Backbone = Annotated[
    str | None,
    model_option(
        f"Backbone: {options.BACKBONE_NAMES}.", metavar="NAME", show_default="a small patchtst"
    ),
]
LookBack = Annotated[
    int | None,
    model_option("Look-back in time steps.", show_default="336, or less for short series"),
]
PatcherName = Annotated[
    str,
    model_option(
        f"Patcher: {options.PATCHER_NAMES}; {options.OWN_OR_PRETRAINED} (it stays frozen).",
        metavar="NAME",
    ),
]
Quantiles = Annotated[
    str | None,
    model_option("Quantiles to forecast, such as 0.1,0.5,0.9.", metavar="LIST", show_default=False),
]
Bounds = Annotated[
    str | None,
    model_option(
        "Bounds that forecasts are clipped to: nonnegative, or LOW,HIGH; one may be left out.",
        metavar="LOW,HIGH",
        show_default=False,
    ),
]
Transform = Annotated[
    str | None,
    model_option(
        "Transform of the values before they are scaled: log1p, box_cox or yeo_johnson.",
        metavar="NAME",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    model_option(
        "Any other parameter, such as patcher__patch_length=24; repeat for more.",
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
MaxSteps = Annotated[
    int | None, model_option("Maximum number of training steps.", show_default="from the data")
]
MaxEpochs = Annotated[
    int | None, model_option("Maximum number of training epochs.", show_default=False)
]
End = Annotated[
    str | None,
    model_option(
        "Last stamp to train on. Later rows are held out, and evaluate starts with them.",
        metavar="STAMP",
        show_default="the last of FILE",
    ),
]
Holdout = Annotated[
    int | None,
    model_option(
        "Number of last time steps of FILE to hold out, as with --end.",
        metavar="N",
        min=1,
        show_default=False,
    ),
]
ValidationRows = Annotated[
    int | None,
    model_option("Last rows, which select the best step.", show_default="10 %, or the horizon"),
]
NoRefit = Annotated[bool, model_option("Skip the second training, on all rows.", "--no-refit")]
Seed = Annotated[int, model_option("Seed of all random numbers.")]
Device = Annotated[str, model_option("Device: auto, cpu, cuda, cuda:1, ...")]
Threads = Annotated[
    int | None,
    model_option("Number of CPU threads.", metavar="N", min=1, show_default="chosen by torch"),
]
Init = Annotated[
    Path | None,
    model_option(
        "Model to fine-tune. Its weights are the initial ones; its context length, patcher, "
        "backbone, quantiles, bounds and transform are used unless they are given.",
        metavar="FOLDER",
        parser=options.user_path,
        show_default=False,
    ),
]
Resume = Annotated[bool, model_option("Continue an interrupted fit.", "--resume")]


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
    context_length: LookBack = None,
    patcher: PatcherName = "fixed",
    backbone: Backbone = None,
    quantiles: Quantiles = None,
    bounds: Bounds = None,
    transform: Transform = None,
    settings: Settings = None,
    max_steps: MaxSteps = None,
    max_epochs: MaxEpochs = None,
    end: End = None,
    holdout: Holdout = None,
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
    Any other file is wide: one series, one column per channel. Ctrl-C saves
    the best model so far, and --resume continues from there.
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
        "quantiles": parse_quantiles(quantiles),
        "bounds": parse_bounds(bounds),
        "transform": transform,
        "missing": missing.value,
        "random_state": seed,
    }
    classes = [options.patcher_class(patcher)] if ":" in patcher else []
    trained = None if init is None else load_initial(init, classes, context, parameters)
    training = {"max_steps": max_steps, "max_epochs": max_epochs, "device": device}
    values = dict(map(read_setting, settings or []))
    refuse_own_options(values, context.command)
    forecaster = make_forecaster(parameters, training, values)
    table = read_table(file, Columns(item_id, timestamp, target or None, date_format))
    holds_out = end is not None or holdout is not None
    if holds_out:
        table = _without_last_rows(table, end, holdout, horizon)
    arguments: dict[str, Any] = {
        "freq": options.time_step(freq),
        "validation_rows": validation_rows,
        "refit": not no_refit,
        "short": short.value,
        "init": trained,
    }
    job.train(forecaster, table, arguments)
    about = {
        "date_format": date_format,
        "patcher": patcher,
        "rows_are_numbered": table.columns.timestamp is None,
    }
    if holds_out:
        about["rows_held_out"] = True
    job.save(forecaster, about)
    job.report(forecaster, as_json=as_json)


@dataclass
class _Job:
    """One fit and its model folder.

    Parameters
    ----------
    folder : path
        Folder of the model.
    force : bool
        Whether an existing model or checkpoint is replaced.
    resume : bool
        Whether training continues from the checkpoint in the folder.
    """

    folder: Path
    force: bool
    resume: bool

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint, which exists during training and after an interruption."""
        return self.folder / CHECKPOINT

    @property
    def old_checkpoint(self) -> Path:
        """Folder to which --force moves an earlier checkpoint until the model is saved."""
        return self.folder / f"{CHECKPOINT}.old"

    def check(self) -> None:
        """Raise before training if the model cannot be written after it."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidParameterError(
                f"A model is written into a folder. {str(self.folder)!r} is a file. Name a folder."
            )
        present = [name for name in _MODEL_FILES if (self.folder / name).exists()]
        has_checkpoint = (self.checkpoint / "train.safetensors").exists()
        if self.resume and not has_checkpoint:
            raise InvalidParameterError(
                "Resuming needs the checkpoint of an interrupted fit. There is none in "
                f"{str(self.folder)!r}. Omit --resume."
            )
        if has_checkpoint and not (self.resume or self.force):
            raise InvalidParameterError(
                f"{str(self.folder)!r} holds the checkpoint of an interrupted fit. Pass --resume "
                "to continue from it, or --force to start again."
            )
        if present and not (self.resume or self.force):
            raise InvalidParameterError(
                f"An existing model is replaced only with --force. {str(self.folder)!r} holds "
                f"{', '.join(present)}. Pass --force or name another folder."
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
                f"The model needs a folder that can be written to. {str(nearest)!r} cannot be "
                f"written to ({error.strerror}). Name another folder."
            ) from error

    def train(self, forecaster: Forecaster, table: Table, arguments: dict[str, Any]) -> None:
        """Fit the forecaster, print the progress and write checkpoints."""
        from adaptivepatch.cli.tables import ITEM_ID

        if self.checkpoint.exists() and not self.resume:  # kept until there is a new one
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
        """Keep a checkpoint that can be resumed; otherwise restore the earlier one."""
        from adaptivepatch.estimators.resuming import has_progress
        from adaptivepatch.training.record import TrainingDivergedError

        if self.resume:
            return
        if has_progress(self.checkpoint) and not isinstance(error, TrainingDivergedError):
            note("the checkpoint is kept. To continue, run the same command with --resume.")
            return
        self._remove_checkpoint()
        if self.old_checkpoint.exists():
            self.old_checkpoint.rename(self.checkpoint)

    def save(self, forecaster: Forecaster, about: dict[str, Any]) -> None:
        """Write the model, and delete the checkpoint unless the fit was interrupted."""
        forecaster.save(self.folder, overwrite=self.force or self.resume)
        write_about(self.folder, about)
        shutil.rmtree(self.old_checkpoint, ignore_errors=True)
        if not forecaster.record_.interrupted:
            self._remove_checkpoint()

    def _remove_checkpoint(self) -> None:
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def report(self, forecaster: Forecaster, *, as_json: bool) -> None:
        """Print a summary; end with exit status 130 after an interruption."""
        from adaptivepatch.cli.fitted_files import last_stamp
        from adaptivepatch.cli.stamps import as_text
        from adaptivepatch.data.steps import step_name

        record, history = forecaster.record_, forecaster.history_
        step, end = step_name(history.freq), as_text(last_stamp(forecaster), history.freq)
        if as_json:
            write_json(
                {
                    "model": str(self.folder),
                    "horizon": forecaster.horizon,
                    "context_length": forecaster.context_length_,
                    "items": history.num_items,
                    "skipped": forecaster.skipped_,
                    "channels": history.channels,
                    "freq": step,
                    "end": end,
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
                f"{history.num_items} series, {history.num_channels} channels, rows up to {end}; "
                f"best step {record.best_step} of {record.num_steps}, {found}, "
                f"{record.seconds:.1f} s."
            )
        if record.interrupted:
            where = f"at step {record.num_steps} of {record.total_steps}"
            if record.refit_interrupted:
                where = "during the second training, on all rows"
            note(
                f"interrupted {where}. "
                f"{str(self.folder)!r} holds the best model so far, not trained on the validation "
                "rows. To continue, run the same command with --resume (and without --force)."
            )
            raise SystemExit(130)


def _announce(step: int, metrics: dict[str, float]) -> None:
    """Print the losses at a validation."""
    parts = [
        f"{name} {metrics[key]:.4f}"
        for name, key in (("training", "train_loss"), ("validation", "validation_loss"))
        if key in metrics
    ]
    typer.echo(f"step {step}: {', '.join(parts)}, {metrics['seconds']:.1f} s", err=True)


def _without_last_rows(table: Table, end: str | None, holdout: int | None, horizon: int) -> Table:
    """Return the rows to train on: those up to a stamp that is the same for all series.

    Parameters
    ----------
    table : Table
        Content of the file.
    end : str, optional
        Last stamp to train on, written like those of the file.
    holdout : int, optional
        Number of last time steps of the file that are not trained on.
    horizon : int
        Number of steps to forecast.

    Raises
    ------
    InvalidParameterError
        If both limits are given, no rows are left, or no window is held out.
    """
    import pandas as pd

    from adaptivepatch.cli.stamps import as_in_file, moments, parse_stamp

    if end is not None and holdout is not None:
        raise InvalidParameterError(
            f"--end and --holdout exclude each other. Got {end!r} and {holdout!r}. Omit one of "
            "them."
        )
    frame, columns = table.frame, table.columns
    if columns.timestamp is None:
        stamps: pd.Series[Any] = pd.Series(range(len(frame)), index=frame.index)
    else:
        stamps = moments(frame[columns.timestamp])
    steps = stamps.drop_duplicates().sort_values()
    if end is not None:
        last, first = parse_stamp(end, "--end", stamps, columns.date_format), steps.iloc[0]
        if last < first:
            raise InvalidParameterError(
                "--end must not be before the first stamp of the file, "
                f"{as_in_file(first, columns.date_format)!r}. Got {end!r}. Pass a later stamp."
            )
    elif holdout is not None and horizon <= holdout < len(steps):
        last = steps.iloc[-holdout - 1]
    else:
        raise InvalidParameterError(
            f"--holdout must be at least the horizon, {horizon}, and less than the {len(steps)} "
            f"time steps of the file. Got {holdout!r}. Pass a number in this range."
        )
    kept = frame[stamps <= last]
    absent = 0
    if columns.item_id in frame.columns:
        absent = frame[columns.item_id].nunique() - kept[columns.item_id].nunique()
    note(
        f"{len(frame) - len(kept)} of {len(frame)} rows are held out"
        f"{f', among them all rows of {absent} series' if absent else ''}."
    )
    return replace(table, frame=kept)
