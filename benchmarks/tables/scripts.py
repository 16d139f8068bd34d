"""Tables of the rows that single scripts of ``benchmarks`` write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.tables.parts import markdown, records


def gaps(results: Path) -> str:
    """Show the cost of missing look-back points, for each way of filling them."""
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


def m3(results: Path) -> str:
    """Show errors and times on all series of M3, with one fit per group."""
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


def peers(results: Path) -> str:
    """Compare the CPU seconds of a training step with those of other libraries."""
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
    """Compare the CPU time of a policy with that of fixed patches."""
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


def score_function_noise(results: Path) -> str:
    """Show the effect of each part of variance reduction, as means over networks."""
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
    """Return the number of steps whose mean is half signal; a bound where the ratio may be 0."""
    if ratio > 2 * error:
        return f"{1 / ratio:.2g}" if ratio > 0.1 else f"{1 / ratio:.0f}"
    return f"over {1 / (max(ratio, 0.0) + 2 * error):.0f}"
