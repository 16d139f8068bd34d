"""Tables of ``benchmarks/everyday.py`` and ``benchmarks/everyday_peers.py``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.tables.parts import markdown

DEFAULT, OLD = "default", "old_default"


def everyday(results: Path) -> str:
    """Show the default settings beside a naive forecast, tuned settings and the old defaults."""
    table = pd.read_csv(results / "everyday.csv")
    table = table[table.groupby("arm")["set"].transform("nunique") == table["set"].nunique()]
    error = table.pivot_table(index="set", columns="arm", values="mae", sort=False)
    seconds = table.pivot_table(index="set", columns="arm", values="fit_cpu_seconds", sort=False)
    naive = table.groupby("set", sort=False)["naive_mae"].first()
    best = error.drop(columns=[DEFAULT, OLD]).min(axis=1)
    above = error[DEFAULT] / best - 1
    rows = [
        [
            name,
            f"{naive[name]:.3f}",
            f"{error.loc[name, DEFAULT]:.3f}",
            f"{best[name]:.3f}",
            f"{100 * above[name]:+.1f} %",
            f"{error.loc[name, OLD]:.3f}",
            f"{seconds.loc[name, DEFAULT]:.0f}",
            f"{seconds.loc[name, OLD]:.0f}",
        ]
        for name in error.index
    ]
    medians = [f"{100 * above.median():+.1f} %", "", *_median_seconds(seconds, DEFAULT, OLD)]
    rows.append(["median", "", "", "", *medians])
    tuned = len(error.columns) - 2
    header = ["data", "best naive", "default", f"best of {tuned} tuned settings"]
    header += ["default to best tuned", "default before", "CPU seconds", "CPU seconds before"]
    return markdown(header, rows)


def everyday_peers(results: Path) -> str:
    """Show the default settings beside forecasters of other packages, on the sets that all have."""
    own = pd.read_csv(results / "everyday.csv")
    peers = pd.read_csv(results / "everyday_peers.csv")
    names = {DEFAULT: "adaptivepatch", "neuralforecast_patchtst": "NeuralForecast PatchTST"}
    names |= {"neuralforecast_nhits": "NeuralForecast NHITS", "darts_dlinear": "Darts DLinear"}
    joined = pd.concat([own[own.arm == DEFAULT], peers])
    error = joined.pivot_table(index="set", columns="arm", values="mae", sort=False)
    seconds = joined.pivot_table(index="set", columns="arm", values="fit_cpu_seconds", sort=False)
    error = error.dropna()
    seconds = seconds.loc[error.index]
    rows = [
        [name, *(f"{error[arm][name]:.3f} ({seconds[arm][name]:.0f} s)" for arm in names)]
        for name in error.index
    ]
    rows.append(
        ["median", *(f"{error[arm].median():.3f} ({seconds[arm].median():.0f} s)" for arm in names)]
    )
    return markdown(["data", *names.values()], rows)


def _median_seconds(seconds: pd.DataFrame, *arms: str) -> list[str]:
    return [f"{seconds[arm].median():.0f}" for arm in arms]
