"""Tables of the suites ``family_etth1`` and ``family_planted``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from adaptivepatch.registry import PATCHERS
from benchmarks.tables.parts import against, markdown

UNMEASURED = "Not measured yet:"
"""First words of the line below the table that names patchers without a row."""

_RATES = (48, 24, 16, 8, 4)


def family_etth1(results: Path) -> str:
    """Rank all patchers on ETTh1-96 by their error, at each rate."""
    runs = _runs(results, "family_etth1")
    means = runs.groupby("arm", sort=False).agg(
        dict.fromkeys(runs.select_dtypes("number").columns, "mean")
    )
    pairs = pd.read_csv(results / "boundary_agreement.csv")
    means["agreement"] = pairs.groupby("arm").beyond_chance.mean()
    rows = [row for rate in _RATES for row in _at_rate(results / "family.csv", runs, means, rate)]
    header = [
        "points per patch",
        "patches",
        "MSE",
        "to fixed aligned, equal tokens",
        "95 % interval",
        "to fixed, equal time",
        "realised, training / test",
        "enrichment",
        "churn",
        "agreement",
        "CPU s, training / prediction",
    ]
    return markdown(header, rows) + _unmeasured(runs)


def _unmeasured(runs: pd.DataFrame) -> str:
    """Return a line that names the registered patchers without a row, if there are any."""
    measured = {json.loads(settings)["patcher"].get("name") for settings in runs.settings}
    missing = [name for name in PATCHERS if name not in measured]
    return f"\n\n{UNMEASURED} {', '.join(missing)}." if missing else ""


def _at_rate(file: Path, runs: pd.DataFrame, means: pd.DataFrame, rate: int) -> Iterator[list[str]]:
    """Yield the rows of one rate, the smallest error first."""
    fixed = means[means.index.str.startswith("fixed_")]
    of_rate = means[means.index.str.endswith(f"_{rate}")].sort_values("test_mse")
    base = runs[runs.arm == f"fixed_aligned_{rate}"]
    for arm, mean in of_rate.iterrows():
        own = runs[runs.arm == arm]
        is_base = arm == f"fixed_aligned_{rate}"
        compared = ("", "") if is_base else against(file, own, base, len(of_rate) - 1)
        # Fixed patches of any length whose predictions take no longer (5 % are noise).
        as_fast = fixed[fixed.predict_cpu_seconds <= 1.05 * mean.predict_cpu_seconds]
        yield [
            str(rate),
            str(arm).rpartition("_")[0].replace("_", " "),
            _with_spread(own.test_mse),
            *compared,
            _percent(mean.test_mse / as_fast.test_mse.min() - 1) if len(as_fast) else "",
            f"{mean.train_rate:.1f} / {_with_range(own.compression_rate)}",
            _measure(mean.enrichment, mean.enrichment_z),
            f"{mean.churn:.2f}",
            "" if pd.isna(mean.agreement) else f"{mean.agreement:.2f}",
            f"{mean.fit_cpu_seconds:.0f} / {mean.predict_cpu_seconds:.1f}",
        ]


def _with_range(values: pd.Series) -> str:
    """Return the mean of the seeds, and their range where they differ by more than 1 %."""
    low, mean, high = values.min(), values.mean(), values.max()
    return f"{mean:.1f}" + (f" ({low:.1f} to {high:.1f})" if high > 1.01 * low else "")


def family_planted(results: Path) -> str:
    """Rank the patchers with exactly 8 patches on the planted tasks, by their error."""
    runs, rows = _runs(results, "family_planted"), []
    for task, part in runs.groupby("dataset"):
        means = part.groupby("arm").test_mse.mean().sort_values()
        for arm in means.index:
            own = part[part.arm == arm]
            rows.append(
                [
                    str(task).rpartition("_")[2].upper(),
                    str(arm),
                    _with_spread(own.test_mse),
                    f"{means[arm] / means['fixed']:.2f}",
                    f"{own.boundary_f1.mean():.2f}",
                    _measure(own.enrichment.mean(), own.enrichment_z.mean()),
                    f"{own.fit_cpu_seconds.mean():.0f}",
                ]
            )
    header = ["task", "patches", "MSE", "times fixed", "boundary F1", "enrichment", "CPU s"]
    return markdown(header, rows)


def _runs(results: Path, suite: str) -> pd.DataFrame:
    runs = pd.read_csv(results / "family.csv")
    return runs[runs.suite == suite].sort_values("seed")


def _with_spread(errors: pd.Series[float]) -> str:
    """Return the mean, and the standard deviation over seeds where there are several."""
    spread = f" ± {errors.std():.4f}" if len(errors) > 1 else ""
    return f"{errors.mean():.4f}{spread}"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _measure(value: float, z: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f} (z {z:.0f})"
