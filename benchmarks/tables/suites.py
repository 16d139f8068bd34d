"""Tables of the rows of ``adaptivepatch bench run``, except for those of the family suites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks.tables.parts import against, markdown, records

PLANTED_ARMS = (
    *("oracle", "uniform", "random", "change_points", "two_window", "frozen_policy"),
    *("as_described", "forecast_reward", "reconstruction_warmup"),
)
"""Order of the arms in the table of the planted benchmark."""


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


def _small_name(arm: str) -> str:
    """Return the name of an arm in the table: "recency_48_8" is "recency, newest 8"."""
    name, newest = re.fullmatch(r"(\w+?)_\d+(?:_(\d+))?", arm).groups()  # type: ignore[union-attr]
    other = {"described": "as described", "reinpatch_recency": "reinpatch from recency"}
    name = other.get(name, name.replace("_", " "))
    return name if newest is None else f"{name}, newest {newest}"


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
    """Compare policies with the static grid from which they start; 3 seeds are exploratory."""
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
