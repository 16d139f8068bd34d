"""The tables of docs/patchers.md: the suites ``family_...``, and the score function's noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from adaptivepatch.bench.report_parts import against, markdown

_RATES = (48, 24, 16, 8, 4)


def family_etth1(results: Path) -> str:
    """Rank all patchers on ETTh1-96, at each rate by their error."""
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
    return markdown(header, rows)


def _at_rate(file: Path, runs: pd.DataFrame, means: pd.DataFrame, rate: int) -> Iterator[list[str]]:
    """Yield the rows of one rate, best first."""
    fixed = means[means.index.str.startswith("fixed_")]
    of_rate = means[means.index.str.endswith(f"_{rate}")].sort_values("test_mse")
    base = runs[runs.arm == f"fixed_aligned_{rate}"]
    for arm, mean in of_rate.iterrows():
        own = runs[runs.arm == arm]
        is_base = arm == f"fixed_aligned_{rate}"
        compared = ("", "") if is_base else against(file, own, base, len(of_rate) - 1)
        # Fixed patches of whatever count that take no longer to predict with (5 % are noise).
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
    """Rank the patchers that hold 8 patches on the planted tasks."""
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


def score_function_noise(results: Path) -> str:
    """Show what each part of variance reduction does, as means over networks."""
    table = pd.read_csv(results / "score_function_noise.csv")
    networks = ["form", "window", "seed"]
    whole = table[table.setting == "all"].set_index(networks).noise
    table = table.join(whole.rename("noise_of_all"), on=networks)
    rows = []
    for (form, window, setting), own in table.groupby([*networks[:2], "setting"], sort=False):
        ratio = own.signal_to_noise
        error = float(np.sqrt((own.standard_error**2).sum())) / len(own)
        times = float(np.exp(np.log(own.noise / own.noise_of_all).mean()))
        rows.append(
            [
                str(form),
                str(window),
                str(setting),
                f"{ratio.mean():.2g} ± {error:.1g}",
                f"{ratio.min():.2g} to {ratio.max():.2g}",
                _steps(float(ratio.mean()), error),
                f"{times:.3g}",
            ]
        )
    header = [
        "form",
        "window",
        "parts",
        "signal to noise",
        "range of networks",
        "steps for half signal",
        "noise, times that of all",
    ]
    return markdown(header, rows)


def _steps(ratio: float, error: float) -> str:
    """Return how many steps average to half signal; a bound where the ratio may be zero."""
    if ratio > 2 * error:
        return f"{1 / ratio:.2g}" if ratio > 0.1 else f"{1 / ratio:.0f}"
    return f"over {1 / (max(ratio, 0.0) + 2 * error):.0f}"


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
