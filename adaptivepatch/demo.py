"""The demo: patchers and naive forecasts on real data, with a table and two pictures.

`run_demo` does everything. It reports progress in sentences through a callback, which the command
line prints. One line in `default_arms` adds a patcher.

No setting was selected on the held-out hours. The validation rows before them selected the number
of steps, and the default one of five settings of the learned policy.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from adaptivepatch import plotting
from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.datasets.loading import load_auckland_pedestrians
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.estimators.backtest import Backtest
from adaptivepatch.estimators.forecaster import Forecaster
from adaptivepatch.files import as_path
from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.training.trainer import Trainer

DEFAULT_FOLDER = Path("demo_output")  # ignored by git
FILES = ("metrics.csv", "forecasts.csv", "forecast.png", "patches.png")
UNIT = "pedestrians per hour"
DAY, WEEK = 24, 7 * 24
ALL = "all sensors"
CONTROL = "even chunks"  # has the boundaries of fixed patches: measured, not drawn

Report = Callable[[str], None]


@dataclass(frozen=True)
class DemoSettings:
    """Sizes of the demo; the defaults take about a minute on two CPU cores.

    Parameters
    ----------
    horizon, context_length : int
        Hours to forecast and to look back.
    held_out : int
        Hours at the end of the data that training never sees.
    validation : int
        Hours before those, on which the number of steps is selected.
    max_steps, batch_size : int
        Largest number of training steps, and number of windows (of all sensors) per step.
    learning_rate : float
        Base learning rate.
    d_model : int
        Width of a token.
    seed : int
        Seed of weights, batch order and sampling.
    """

    horizon: int = 96
    context_length: int = 336
    held_out: int = 8 * WEEK
    validation: int = 4 * WEEK
    max_steps: int = 500
    batch_size: int = 8
    learning_rate: float = 5e-3
    d_model: int = 32
    seed: int = 0


SMOKE = DemoSettings(
    horizon=24, held_out=10 * DAY, validation=5 * DAY, max_steps=4, batch_size=2, d_model=8
)
"""Settings of a demo that takes seconds and learns nothing, to test that it runs."""


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Result of the demo.

    Parameters
    ----------
    metrics : pandas.DataFrame
        One row per forecast: method, kind ("model" or "naive"), MAE, RMSE, MASE, skill of a model
        (1 minus its MAE divided by that of the best naive forecast), patches, parameters,
        fit_seconds and predict_seconds.
    backtests : mapping of str to Backtest
        Forecasts of the held-out windows, models first; all have the same windows and targets.
    num_targets : int
        Number of observed targets, of all windows and sensors, that the metrics are means over.
    files : tuple of Path
        Written files.
    """

    metrics: pd.DataFrame
    backtests: Mapping[str, Backtest]
    num_targets: int
    files: tuple[Path, ...]

    def verdict(self) -> str:
        """Return sentences on which models beat every naive forecast in MAE and MASE."""
        scores = self.metrics.set_index("method")[["MAE", "MASE"]]
        is_model = (self.metrics["kind"] == "model").to_numpy()
        naive = scores[~is_model]
        ratios = scores[is_model] / naive.min()
        wins = (ratios < 1).all(axis=1)
        won = _and(list(wins.index[wins]))
        lost = _and(
            [
                f"{model} ({metric} {100 * (ratio - 1):.1f} % above that of "
                f"{naive[str(metric)].idxmin()!r})"
                for model, (metric, ratio) in _largest(ratios[~wins]).items()
            ]
        )
        better = f"Better than every naive forecast in MAE and MASE: {won}." if won else ""
        worse = f"NOT better than every naive forecast: {lost}." if lost else ""
        return f"{better} {worse}".strip()


def default_arms() -> dict[str, Patcher]:
    """Return the patchers that the demo compares, at 14 patches for 336 hours each.

    The policy ("learned") is trained at every other step, which halves the cost of its training.
    "Chunked" patches are those of H-Net, with a narrow network and the number of patches of the
    others. "Even chunks" have the same network without learned boundaries: the difference between
    the two is the effect of the boundaries.
    """
    return {
        "fixed patches": FixedPatcher(compression_rate=24),
        "recency patches": RecencyPatcher(compression_rate=24, shortest=12),
        "learned patches": ReinPatcher(24, gradient=GroupPolicyGradient(every=2)),
        "chunked patches": DynamicChunkingPatcher(24, budget="exact", width=8, num_layers=1),
        CONTROL: DynamicChunkingPatcher(24, budget="exact", router="even", width=8, num_layers=1),
    }


def demo_counts() -> pd.DataFrame:
    """Return the counts since 2023: after the lockdowns, and with all sensors installed."""
    return load_auckland_pedestrians().loc["2023":]


def run_demo(
    folder: str | Path = DEFAULT_FOLDER,
    *,
    counts: pd.DataFrame | None = None,
    arms: Mapping[str, Patcher] | None = None,
    settings: DemoSettings | None = None,
    overwrite: bool = False,
    progress: bool = False,
    report: Report | None = None,
) -> DemoResult:
    """Train each arm, forecast every held-out window, and write tables and pictures.

    Parameters
    ----------
    folder : path, default="demo_output"
        Folder to write metrics.csv, forecasts.csv, forecast.png and patches.png to.
    counts : pandas.DataFrame, optional
        Wide hourly frame. Default: `demo_counts`.
    arms : mapping of str to Patcher, optional
        Patchers to compare, by name. Default: `default_arms`.
    settings : DemoSettings, optional
        Sizes of the demo.
    overwrite : bool, default=False
        Replace files of these names in the folder.
    progress : bool, default=False
        Show progress bars; otherwise validations are reported.
    report : callable, optional
        Function that is called with one sentence at a time.

    Returns
    -------
    DemoResult
        Metrics, forecasts and written files.

    Raises
    ------
    InvalidParameterError
        If `folder` is a file, or holds files of these names and `overwrite` is False.
    """
    folder, settings = as_path(folder, "folder"), settings or DemoSettings()
    say = report or (lambda _: None)
    _check_folder(folder, overwrite)
    counts = demo_counts() if counts is None else counts
    training, start = counts.iloc[: -settings.held_out], counts.index[-settings.held_out]
    say(
        f"{counts.shape[1]} sensors, hourly from {counts.index[0]}. Training ends at "
        f"{training.index[-1]}; the {settings.held_out:,} hours from {start} on are held out."
    )
    rows, backtests, models = [], {}, {}
    for name, patcher in (default_arms() if arms is None else arms).items():
        model = _forecaster(patcher, settings, progress)
        say(f"{name}: training at most {settings.max_steps} steps ...")
        seconds = _fit(model, training, settings, None if progress else say)
        began, models[name] = time.perf_counter(), model
        backtests[name] = model.backtest(counts, start=start)
        rows.append(_model_row(name, model, seconds, time.perf_counter() - began))
        say(f"{name}: forecast every held-out window.")
    backtests, naive_rows = _with_naive_forecasts(backtests)
    metrics = _measure_all(rows + naive_rows, backtests)
    first = next(iter(backtests.values()))
    num_targets = int(np.isfinite(first.actual).sum())
    say(
        f"Every forecast is measured on the same {len(first):,} windows (all of the held-out "
        f"hours, stride 1) of {len(first.channels)} sensors and {settings.horizon} hours: "
        f"{num_targets:,} observed targets. Left out: {first.num_impossible} window-sensor "
        "pairs with fewer than 2 observed look-back points."
    )
    for name, backtest in backtests.items():
        share = np.isfinite(backtest.actual).sum() / num_targets
        if share < 1:
            say(f"{name!r} forecasts only {100 * share:.0f} % of them, for lack of earlier rows.")
    files = tuple(folder / name for name in FILES)
    folder.mkdir(parents=True, exist_ok=True)
    overall = metrics[metrics["sensor"] == ALL].drop(columns="sensor").reset_index(drop=True)
    metrics.to_csv(files[0], index=False, float_format="%.6g")
    _forecast_frame(backtests).to_csv(files[1], index=False, float_format="%.6g")
    drawn = {name: model for name, model in models.items() if name != CONTROL}
    _draw_forecasts({k: b for k, b in backtests.items() if k != CONTROL}, list(drawn), files[2])
    _draw_patches(drawn, counts, first, files[3])
    return DemoResult(overall, backtests, num_targets, files)


def _and(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _largest(ratios: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Return the column with the largest value of each row, and that value."""
    return {str(row): (str(values.idxmax()), values.max()) for row, values in ratios.iterrows()}


def _check_folder(folder: Path, overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InvalidParameterError(
            f"The demo needs a folder to write to. {str(folder)!r} is a file. Choose another path.",
            parameter="folder",
        )
    present = [name for name in FILES if (folder / name).exists()]
    if present and not overwrite:
        raise InvalidParameterError(
            f"The demo replaces files only with overwrite=True. {str(folder)!r} has "
            f"{_and(present)}. Name another folder, or pass overwrite=True.",
            parameter="overwrite",
        )


# --------------------------------------------------------------------------------------- models


def _forecaster(patcher: Patcher, settings: DemoSettings, progress: bool) -> Forecaster:
    return Forecaster(
        horizon=settings.horizon,
        context_length=settings.context_length,
        patcher=patcher,
        backbone=PatchTSTBackbone(
            d_model=settings.d_model, num_layers=1, d_ff=2 * settings.d_model, dropout=0.0
        ),
        embedding="aligned",  # for all arms, so that only their patches differ
        loss="mae",
        missing="mask",
        trainer=Trainer(
            max_steps=settings.max_steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            validate_every=max(1, settings.max_steps // 4),
            progress=progress,
        ),
        random_state=settings.seed,
    )


def _fit(
    model: Forecaster, training: pd.DataFrame, settings: DemoSettings, say: Report | None
) -> float:
    """Train the model and return the seconds that training took."""

    def announce(step: int, metrics: dict[str, float]) -> None:
        if say is not None:
            say(
                f"  step {step} of {settings.max_steps}: training {metrics['train_loss']:.3f}, "
                f"validation {metrics['validation_loss']:.3f}, {metrics['seconds']:.0f} s"
            )

    began = time.perf_counter()
    with warnings.catch_warnings():  # every model of the demo is trained for the same short time
        warnings.filterwarnings("ignore", "The validation loss was still falling")
        model.fit(training, validation_rows=settings.validation, refit=False, callback=announce)
    if model.record_.interrupted:
        raise KeyboardInterrupt  # an interrupted model cannot be compared
    return time.perf_counter() - began


def _model_row(name: str, model: Forecaster, fit: float, predict: float) -> dict[str, object]:
    return {
        "method": name,
        "kind": "model",
        "patches": model.patcher_.capacity(model.context_length_),
        "parameters": sum(p.numel() for p in model.network_.parameters()),
        "fit_seconds": fit,
        "predict_seconds": predict,
    }


# ---------------------------------------------------------------------------------- comparison


def _with_naive_forecasts(
    backtests: Mapping[str, Backtest],
) -> tuple[dict[str, Backtest], list[dict[str, object]]]:
    """Add backtests of naive forecasts of the same windows; return also their table rows."""
    result, rows = dict(backtests), list[dict[str, object]]()
    began = time.perf_counter()
    for name, backtest in next(iter(backtests.values())).naive_backtests():
        seconds, began = time.perf_counter() - began, time.perf_counter()
        result[name] = backtest
        rows.append({"method": name, "kind": "naive", "predict_seconds": seconds})
    return result, rows


def _measure_all(rows: list[dict[str, object]], backtests: Mapping[str, Backtest]) -> pd.DataFrame:
    """Return the metrics of every method, first over all sensors, then for each sensor."""
    details = pd.DataFrame(rows)
    overall = pd.concat([_scores(b).iloc[[0]] for b in backtests.values()], ignore_index=True)
    table = pd.concat([details[["method", "kind"]], overall, details.iloc[:, 2:]], axis=1)
    table.insert(2, "sensor", ALL)
    by_sensor = []
    for method, kind in zip(details["method"], details["kind"], strict=True):
        part = _scores(backtests[method], by="channel").rename_axis("sensor").reset_index()
        by_sensor.append(part.assign(method=method, kind=kind))
    return pd.concat([table, *by_sensor], ignore_index=True)


def _scores(backtest: Backtest, by: str | None = None) -> pd.DataFrame:
    """Return the metrics that the demo shows; its verdict replaces the warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model is worse than a naive forecast")
        table = backtest.metrics(by=by)
    return table[["MAE", "RMSE", "MASE", "skill_MAE"]].rename(columns={"skill_MAE": "skill"})


def _forecast_frame(backtests: Mapping[str, Backtest]) -> pd.DataFrame:
    """Return the forecasts of windows whose targets do not overlap, one column per method."""
    every = slice(None, None, next(iter(backtests.values())).actual.shape[1])
    frame = pd.DataFrame()
    for name, backtest in backtests.items():
        part = backtest.select(every).to_frame()
        if frame.empty:
            keys = ["cutoff", "timestamp", "target_name", "actual"]
            frame = part[keys].rename(columns={"target_name": "sensor"})
        frame[name] = part["prediction"]
    return frame


# ------------------------------------------------------------------------------------- pictures


def _middle(backtest: Backtest) -> int:
    return len(backtest) // 2  # the window to draw, not selected by its result


def _sensors_to_draw(backtest: Backtest) -> list[int]:
    """Return the sensors with the largest, the median and the smallest mean of observed counts."""
    order = np.argsort(-np.nanmean(backtest.actual, axis=(0, 1)))
    return list(dict.fromkeys([int(order[0]), int(order[len(order) // 2]), int(order[-1])]))


def _draw_forecasts(backtests: Mapping[str, Backtest], models: list[str], path: Path) -> None:
    """Draw the middle window of three sensors: look-back, targets, models, best naive forecast."""
    first = backtests[models[0]]
    window, sensors = _middle(first), _sensors_to_draw(first)
    naive = {k: float(_scores(b)["MAE"].iloc[0]) for k, b in backtests.items() if k not in models}
    shown = [*models, min(naive, key=naive.__getitem__)]
    stamps = first.windows.timestamps(window)
    tail = min(2 * DAY, first.windows.context_length)
    past = first.windows.past([window])[0, -tail:]
    past_stamps = pd.date_range(end=first.cutoff[window], periods=tail, freq=stamps[1] - stamps[0])
    figure, axes = plotting.new_figure(len(sensors), width=9.0, height=2.5, share_x=True)
    for ax, sensor in zip(axes[:, 0], sensors, strict=True):
        plotting.plot_forecast(
            stamps,
            first.actual[window, :, sensor],
            {name: backtests[name].prediction[window, :, sensor] for name in shown},
            past_stamps=past_stamps,
            past=past[:, sensor],
            ylabel="",
            title=first.channels[sensor],
            legend=False,
            ax=ax,
        )
    figure.supylabel(UNIT, fontsize="medium")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def _draw_patches(
    models: Mapping[str, Forecaster], counts: pd.DataFrame, backtest: Backtest, path: Path
) -> None:
    """Draw each model's patches of the busiest sensor in the look-back of the middle window."""
    sensor = backtest.channels[_sensors_to_draw(backtest)[0]]
    cutoff = backtest.cutoff[_middle(backtest)]
    steps = backtest.windows.context_length
    lookback = counts.loc[:cutoff].iloc[-steps:]
    figure, axes = plotting.new_figure(len(models), width=9.0, height=2.5, share_x=True)
    for ax, (name, model) in zip(axes[:, 0], models.items(), strict=True):
        by_step = model.segment(lookback, by="step").query("target_name == @sensor")
        lengths = by_step.groupby("patch").size().tolist()
        plotting.plot_segmentation(
            lookback[sensor].to_numpy(),
            lengths,
            stamps=lookback.index.to_numpy(),
            boundary_prob=by_step.get("boundary_prob"),
            ylabel="",
            title=f"{name}: {steps} hours in {len(lengths)} patches of {_span(lengths)} hours",
            ax=ax,
        )
    figure.supylabel(f"{UNIT}, {sensor}", fontsize="medium")
    figure.savefig(path, dpi=110)


def _span(lengths: list[int]) -> str:
    low, high = min(lengths), max(lengths)
    return str(low) if low == high else f"{low} to {high}"
