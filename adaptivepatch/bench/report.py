"""Tables of README and docs, rendered from committed results; no number is typed by hand.

A document marks the place of a table by ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptivepatch.bench.report_family import (
    family_etth1,
    family_planted,
    score_function_noise,
)
from adaptivepatch.bench.report_parts import against, markdown, records
from adaptivepatch.errors import InvalidParameterError, suggest

PLANTED_ARMS = (
    *("oracle", "uniform", "random", "change_points", "two_window", "frozen_policy"),
    *("as_described", "forecast_reward", "reconstruction_warmup"),
)
"""Order of the arms in the table of the planted benchmark."""

_PLACE = re.compile(r"(<!-- table: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def patchtst_etth1(results: Path) -> str:
    """List every run of PatchTST/42 on ETTh1-96."""
    runs = pd.read_csv(results / "patchtst_etth1.csv").sort_values("seed")
    rows = [
        [
            str(run["seed"]),
            f"{run['test_mse']:.4f}",
            f"{run['test_mae']:.4f}",
            str(run["num_windows"]),
            f"{run['best_step'] / run['steps_per_epoch']:.0f}",
            f"{run['fit_seconds'] / 60:.0f}",
            run["commit"],
        ]
        for run in records(runs)
    ]
    mean = ["mean", f"{runs.test_mse.mean():.4f}", f"{runs.test_mae.mean():.4f}", "", "", "", ""]
    header = ["seed", "test MSE", "test MAE", "windows", "best epoch", "minutes", "commit"]
    return markdown(header, [*rows, mean])


def recency(results: Path) -> str:
    """Compare uniform and recency patches at equal token count."""
    runs = pd.read_csv(results / "recency.csv")
    rows = []
    for dataset, part in runs.groupby("dataset", sort=False):
        mean = part.groupby("arm").test_mse.mean()
        for arm in ("uniform_336", "uniform_672", "uniform_1344", "recency_1344"):
            of_arm = part[part.arm == arm].sort_values("seed")
            change = 100 * (mean[arm] / mean["uniform_1344"] - 1)
            rows.append(
                [
                    str(dataset),
                    arm.partition("_")[0],
                    str(of_arm.context_length.iloc[0]),
                    str(of_arm.tokens.iloc[0]),
                    ", ".join(f"{mse:.4f}" for mse in of_arm.test_mse),
                    f"{mean[arm]:.4f}",
                    "" if arm == "uniform_1344" else f"{change:+.1f} %",
                ]
            )
    header = [
        "data",
        "patches",
        "look-back",
        "tokens",
        "test MSE by seed",
        "mean",
        "against uniform, 1344",
    ]
    return markdown(header, rows)


def gaps(results: Path) -> str:
    """Show what missing look-back points cost, by way of filling."""
    table = pd.read_csv(results / "gaps.csv")
    names = {"mask": 'missing="mask"', "last_value": "last value", "window_mean": "window mean"}
    rows = []
    for share in sorted(table.missing_share.unique()):
        of_share = table[table.missing_share == share]
        means = [of_share[of_share.filling == name].increase_percent.mean() for name in names]
        rows.append([f"{100 * share:.0f} %", *(f"{mean:+.2f} %" for mean in means)])
    return markdown(["missing", *names.values()], rows)


def quantiles(results: Path) -> str:
    """Compare quantile forecasts with a seasonal naive one."""
    rows = [
        [
            row["model"],
            str(row["seed"]),
            f"{row['quantile_loss']:.4f}",
            f"{100 * row['coverage_80']:.1f} %",
            str(row["num_crossings"]),
        ]
        for row in records(pd.read_csv(results / "quantiles.csv"))
    ]
    return markdown(
        ["model", "seed", "quantile loss", "inside the 80 % interval", "crossings"], rows
    )


def compare_etth1_ot(results: Path) -> str:
    """List the arms of a comparison on the oil temperature of ETTh1."""
    rows = []
    for row in records(pd.read_csv(results / "compare_etth1_ot.csv")):
        low, high = 100 * row["low"], 100 * row["high"]
        rows.append(
            [
                row["arm"],
                f"{row['tokens']:.0f}",
                f"{row['test_error']:.4f}",
                "" if row["verdict"] == "baseline" else f"{100 * row['difference']:+.1f} %",
                "" if pd.isna(low) else f"{low:+.1f} to {high:+.1f} %",
                f"{row['fit_cost']:.2f}",
                "" if pd.isna(row["verdict"]) else row["verdict"],
            ]
        )
    header = [
        *("patches", "tokens", "test MSE", "error to baseline", "95 % interval"),
        *("cost of a fit", "verdict"),
    ]
    return markdown(header, rows)


def compare_pedestrians(results: Path) -> str:
    """List the arms of the comparison on pedestrian counts, chunks beside even chunks."""
    rows = []
    for row in records(pd.read_csv(results / "compare_pedestrians.csv")):
        rows.append(
            [
                row["arm"],
                f"{row['tokens']:.0f}",
                f"{row['test_error']:.4f} ± {row['test_error_std']:.4f}",
                _change(row, ("difference", "low", "high")),
                _change(row, [f"equal_tokens_{key}" for key in ("difference", "low", "high")]),
                _change(row, [f"control_{key}" for key in ("difference", "low", "high")]),
                f"{row['fit_cpu_seconds']:.0f} / {row['predict_cpu_seconds']:.1f}",
            ]
        )
    header = [
        *("patches", "tokens", "test MAE", "to the best fixed", "to fixed of as many tokens"),
        *("to even chunks", "CPU s, fit / prediction"),
    ]
    return markdown(header, rows)


def _change(row: dict[str, Any], keys: Sequence[str]) -> str:
    """Return a change in percent with its interval, where it has one."""
    difference, low, high = (100 * row[key] for key in keys)
    if pd.isna(difference):
        return ""
    interval = "" if pd.isna(low) else f" ({low:+.1f} to {high:+.1f})"
    return f"{difference:+.1f} %{interval}"


def compare_calibration(results: Path) -> str:
    """Count the verdicts of comparisons whose answer is known."""
    table = pd.read_csv(results / "compare_calibration.csv")
    kinds = {"a_a": "the same patcher twice", "planted": "5 % planted"}
    rows = []
    for kind, name in kinds.items():
        verdict = table[table.kind == kind].verdict
        counts = [int((verdict == word).sum()) for word in ("helps", "no evidence", "hurts")]
        rows.append([name, str(len(verdict)), *(f"{count}" for count in counts)])
    return markdown(["compared", "times", "helps", "no evidence", "hurts"], rows)


def compare_intervals(results: Path) -> str:
    """Count wrong verdicts on simulated losses, by what differs between fits."""
    table = pd.read_csv(results / "compare_intervals.csv")
    rows = []
    for row in records(table):
        parts = [
            f"seeds {100 * row['seed_sd']:g} %" if row["seed_sd"] else "",
            f"seeds in time {row['seed_noise']:g}" if row["seed_noise"] else "",
            f"arms in time {row['arm_noise']:g}" if row["arm_noise"] else "",
            f"persistence {row['persistence']:g}" if row["persistence"] else "",
        ]
        shares = [f"{100 * row[name]:.1f} %" for name in ("plain", "built", "power")]
        rows.append([str(row["windows"]), ", ".join(filter(None, parts)), *shares])
    header = ["test windows", "what differs", "plain: wrong", "built: wrong", "built: finds 5 %"]
    return markdown(header, rows)


def peers(results: Path) -> str:
    """Show CPU seconds of a training step, ours and other libraries'."""
    names = {"ours": "adaptivepatch", "ours_transformer": "adaptivepatch, TransformerBackbone"}
    names |= {"transformers": "transformers", "neuralforecast": "NeuralForecast"}
    names |= {"gluonts": "GluonTS"}
    kinds = {"bare_step": "bare step", "public_fit": "step of `fit`"}
    rows = [
        [
            str(row["look_back"]),
            kinds[row["what"]],
            names[row["library"]],
            f"{row['seconds']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f}",
        ]
        for row in records(pd.read_csv(results / "peers.csv"))
        if row["what"] in kinds
    ]
    return markdown(
        ["look-back", "what", "PatchTST of", "CPU seconds", "times ours", "range of rounds"], rows
    )


def m3(results: Path) -> str:
    """Show fit and predict on every series of M3, one fit per group."""
    rows = [
        [
            row["group"],
            str(row["num_series"]),
            str(row["horizon"]),
            f"{row['smape']:.2f}",
            f"{row['smape_seasonal_naive']:.2f}",
            f"{row['cpu_seconds']:.0f}",
        ]
        for row in records(pd.read_csv(results / "m3.csv"))
    ]
    header = ["group", "series", "horizon", "sMAPE", "seasonal naive", "CPU seconds"]
    return markdown(header, rows)


def planted(results: Path) -> str:
    """Compare the arms of the planted benchmark with the oracle's true boundaries."""
    runs = pd.read_csv(results / "planted.csv").sort_values(["dataset", "seed"])
    rows = []
    for dataset, part in runs.groupby("dataset"):
        oracle = part[part.arm == "oracle"].test_mse.mean()
        for arm in PLANTED_ARMS:
            of_arm = part[part.arm == arm]
            if of_arm.empty:
                continue
            mean = of_arm.mean(numeric_only=True)
            rows.append(
                [
                    str(dataset).removeprefix("planted_").upper(),
                    arm.replace("_", " "),
                    str(of_arm.reward.iloc[0]),
                    ", ".join(f"{mse:.3f}" for mse in of_arm.test_mse),
                    f"{mean.test_mse:.3f}",
                    f"{mean.test_mse / oracle:.2f}",
                    ", ".join(f"{f1:.2f}" for f1 in of_arm.boundary_f1),
                    ", ".join(f"{f1:.2f}" for f1 in of_arm.shifted_f1),
                    f"{mean.fit_cpu_seconds / 60:.1f}",
                ]
            )
    header = [
        *("task", "boundaries", "reward", "test MSE by seed", "mean", "times oracle"),
        *("F1 by seed", "F1 after the best shift", "CPU minutes of a fit"),
    ]
    return markdown(header, rows)


def small(results: Path) -> str:
    """Compare patchers at equal token count with the small protocol; 3 seeds are exploratory."""
    header = [
        *("data", "tokens", "patches", "test MSE by seed", "to fixed", "95 % interval"),
        *("to fixed aligned", "95 % interval", "validation MSE"),
    ]
    files = [results / name for name in ("small_etth.csv", "small_weather.csv")]
    return markdown(header, [row for file in files if file.is_file() for row in _small_rows(file)])


def _small_rows(file: Path) -> Iterator[list[str]]:
    runs = pd.read_csv(file).sort_values("seed", kind="stable")
    for (dataset, tokens), part in runs.groupby(["dataset", "tokens"], sort=True):
        names = part.arm.drop_duplicates()
        bases = [
            part[part.arm.str.fullmatch(rf"{name}_\d+")] for name in ("fixed", "fixed_aligned")
        ]
        for arm in names:
            of_arm = part[part.arm == arm]
            compared: list[str] = []
            for base in bases:
                is_other = arm not in set(base.arm) and arm != bases[0].arm.iloc[0]
                found = against(file, of_arm, base, len(names) - 1) if is_other else ("", "")
                compared.extend(found)
            yield [
                str(dataset),
                str(tokens),
                _small_name(arm),
                ", ".join(f"{mse:.4f}" for mse in of_arm.test_mse),
                *compared,
                f"{of_arm.validation_loss.mean():.4f}",
            ]


def embedding(results: Path) -> str:
    """Compare both embeddings of fixed and of random patches; 3 seeds are exploratory."""
    file, rows = results / "small_etth.csv", []
    runs = pd.read_csv(file).sort_values("seed", kind="stable")
    for dataset, part in runs.groupby("dataset", sort=True):
        for rate in (48, 16):
            for resampled, aligned in (("fixed", "fixed_aligned"), ("random_resampled", "random")):
                own = part[part.arm == f"{aligned}_{rate}"]
                base = part[part.arm == f"{resampled}_{rate}"]
                by_seed = (", ".join(f"{mse:.4f}" for mse in some.test_mse) for some in (base, own))
                compared = against(file, own, base, num_comparisons=1)
                name = resampled.partition("_")[0]
                rows.append([str(dataset), str(rate), name, *by_seed, *compared])
    header = ["data", "points per patch", "patches", "resampled", "aligned"]
    return markdown([*header, "aligned to resampled", "95 % interval"], rows)


def recency_policy(results: Path) -> str:
    """Compare policies with the static grid they start from; 3 seeds are exploratory."""
    return _to_one_arm(results / "recency_policy.csv", "recency")


def levels_etth1(results: Path) -> str:
    """Compare one, two and three levels at nearly equal work; 3 seeds are exploratory."""
    return _to_one_arm(results / "levels_etth1.csv", "one_level")


def _to_one_arm(file: Path, base: str) -> str:
    runs = pd.read_csv(file).sort_values("seed", kind="stable")
    rows = []
    for dataset, part in runs.groupby("dataset", sort=True):
        of_base = part[part.arm == base]
        for arm in part.arm.drop_duplicates():
            own = part[part.arm == arm]
            compared = ("", "")
            if arm != base:
                compared = against(file, own, of_base, part.arm.nunique() - 1)
            rows.append(
                [
                    str(dataset),
                    str(arm).replace("reinpatch_", "reinpatch from ").replace("_", " "),
                    ", ".join(f"{mse:.4f}" for mse in own.test_mse),
                    f"{own.test_mse.mean():.4f}",
                    *compared,
                ]
            )
    header = [
        *("data", "patches", "test MSE by seed", "mean"),
        *(f"to {base.replace('_', ' ')}", "95 % interval"),
    ]
    return markdown(header, rows)


def _small_name(arm: str) -> str:
    """Return how a table calls an arm: "recency_48_8" is "recency, newest 8"."""
    name, newest = re.fullmatch(r"(\w+?)_\d+(?:_(\d+))?", arm).groups()  # type: ignore[union-attr]
    other = {"described": "as described", "reinpatch_recency": "reinpatch from recency"}
    name = other.get(name, name.replace("_", " "))
    return name if newest is None else f"{name}, newest {newest}"


def shared_channels(results: Path) -> str:
    """Compare boundaries per channel with boundaries shared by channels, on planted sets."""
    runs = pd.read_csv(results / "shared_channels.csv").sort_values("seed")
    rows = []
    for row in records(pd.read_csv(results / "shared_channels_intervals.csv")):
        part = runs[runs["set"] == row["set"]]
        by_arm = [
            ", ".join(f"{mse:.3f}" for mse in part[part.arm == arm].test_mse)
            for arm in ("per_channel", "shared")
        ]
        low, high = 100 * row["low"], 100 * row["high"]
        rows.append(
            [
                row["set"].replace("_", "-"),
                *by_arm,
                f"{100 * row['difference']:+.0f} %",
                f"{low:+.0f} to {high:+.0f} %",
            ]
        )
    header = ["channels", "MSE per channel", "MSE shared", "sharing", "95 % interval"]
    return markdown(header, rows)


def policy_cost(results: Path) -> str:
    """Show what a policy costs beside fixed patches."""
    rows = [
        [
            str(row["d_model"]),
            row["what"],
            row["patcher"],
            f"{1000 * row['seconds']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f}",
        ]
        for row in records(pd.read_csv(results / "policy_cost.csv"))
    ]
    header = ["width", "what", "patches", "CPU milliseconds", "times fixed", "range of rounds"]
    return markdown(header, rows)


TABLES: dict[str, Callable[[Path], str]] = {
    table.__name__: table
    for table in (
        *(patchtst_etth1, recency, gaps, quantiles, m3),
        *(compare_etth1_ot, compare_pedestrians, compare_calibration, compare_intervals),
        *(peers, planted, small, embedding, recency_policy, levels_etth1, shared_channels),
        *(policy_cost, family_etth1, family_planted, score_function_noise),
    )
}


def marked_tables(text: str) -> list[str]:
    """Return the names of the tables that a document marks."""
    return [place["name"] for place in _PLACE.finditer(text)]


def render(text: str, results: Path) -> str:
    """Fill every marked table of a document.

    Parameters
    ----------
    text : str
        Markdown.
    results : Path
        Folder of the committed CSV files.

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
