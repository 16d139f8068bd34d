"""Tables of the comparisons of `adaptivepatch.compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.tables.parts import markdown, records


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
    """List the arms of the comparison on pedestrian counts, with chunks against even chunks."""
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
        *("patches", "tokens", "test MAE", "vs best fixed", "vs fixed, same number of tokens"),
        *("vs even chunks", "CPU s, fit / prediction"),
    ]
    return markdown(header, rows)


def _change(row: dict[str, Any], keys: Sequence[str]) -> str:
    """Return a change in percent, with its interval if it has one."""
    difference, low, high = (100 * row[key] for key in keys)
    if pd.isna(difference):
        return ""
    interval = "" if pd.isna(low) else f" ({low:+.1f} to {high:+.1f})"
    return f"{difference:+.1f} %{interval}"


def compare_calibration(results: Path) -> str:
    """Count what the intervals of comparisons show whose answer is known."""
    table = pd.read_csv(results / "compare_calibration.csv")
    kinds = {
        "a_a": "the same patcher twice, thorough",
        "planted": "5 % planted, thorough",
        "a_a_default": "the same patcher twice, default",
    }
    rows = []
    for kind, name in kinds.items():
        verdict = table[table.kind == kind].verdict
        if not len(verdict):
            continue
        counts = [int((verdict == word).sum()) for word in ("helps", "no evidence", "hurts")]
        rows.append([name, str(len(verdict)), *(f"{count}" for count in counts)])
    return markdown(["compared", "times", "less error", "not shown", "more error"], rows)


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
