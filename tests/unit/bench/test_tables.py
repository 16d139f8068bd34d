"""Tables of the documents, rendered from files of results that are made up."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import InvalidParameterError
from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.results import windows_path
from adaptivepatch.bench.task import read_suite
from benchmarks.tables.__main__ import main
from benchmarks.tables.family import family_etth1, family_planted
from benchmarks.tables.rendering import TABLES, render
from benchmarks.tables.scripts import score_function_noise
from benchmarks.tables.suites import PLANTED_ARMS


def test_documents_are_rendered_in_place(tmp_path):
    text = "before\n<!-- table: gaps -->\nold\n<!-- end -->\nafter"
    pd.DataFrame(
        {
            "missing_share": [0.1] * 3,
            "filling": ["mask", "last_value", "window_mean"],
            "increase_percent": [1.0, 2.0, 3.0],
        }
    ).to_csv(tmp_path / "gaps.csv")
    rendered = render(text, tmp_path)
    assert "| 10 % | +1.00 % | +2.00 % | +3.00 % |" in rendered
    assert rendered.startswith("before\n")
    assert rendered.endswith("after")
    assert render(rendered, tmp_path) == rendered
    with pytest.raises(InvalidParameterError, match=f"Unknown table 'gap'.*{min(TABLES)}"):
        render(text.replace("gaps", "gap"), tmp_path)


def test_the_command_fills_tables_and_says_which(tmp_path, capsys):
    document = tmp_path / "a.md"
    document.write_text("<!-- table: gaps -->\n<!-- end -->\n")
    (tmp_path / "b.md").write_text("text\n")
    main([str(document), str(tmp_path / "b.md")])
    assert capsys.readouterr().out.splitlines() == [
        f"{document}: gaps",
        f"{tmp_path / 'b.md'}: no marked table",
    ]
    assert "| missing |" in document.read_text()


def test_the_table_refers_to_the_oracle_of_the_task(tmp_path):
    rows = [
        {
            "dataset": dataset,
            "arm": arm,
            "seed": seed,
            "reward": "none",
            "test_mse": mse + 0.01 * seed,
            "boundary_f1": 0.5,
            "shifted_f1": 0.75,
            "fit_cpu_seconds": 90.0,
        }
        for dataset, scale in (("planted_b", 2), ("planted_a", 1))
        for arm, mse in (("uniform", 0.98 * scale), ("oracle", 0.18 * scale))
        for seed in (2, 1)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "planted.csv", index=False)
    lines = TABLES["planted"](tmp_path).splitlines()[2:]
    assert [line[:12] for line in lines] == [
        "| A | oracle",
        "| A | unifor",
        "| B | oracle",
        "| B | unifor",
    ]
    assert lines[1] == (
        "| A | uniform | none | 0.990, 1.000 | 0.995 | 5.10 | 0.50, 0.50 | 0.75, 0.75 | 1.5 |"
    )
    assert "| 0.375 | 1.00 |" in lines[2]


def test_the_table_knows_every_arm_of_the_suite():
    assert {run.arm.name for run in read_suite("planted")} <= set(PLANTED_ARMS)


def family_rows(suite, arms, **columns):
    table = pd.DataFrame(dict.fromkeys(find_protocol("family").columns, np.nan), range(len(arms)))
    return table.assign(suite=suite, arm=arms, **columns)


def test_tables_rank_at_equal_tokens_and_at_equal_time(tmp_path, monkeypatch):
    arms = ["fixed_aligned_48", "fixed_16", "chunking_48"]
    measured = ["fixed", "fixed", "dynamic_chunking"]
    monkeypatch.setattr("benchmarks.tables.family.PATCHERS", [*measured, "random"])
    etth1 = family_rows(
        "family_etth1",
        3 * arms,
        dataset="ETTh1",
        task="t",
        settings_id="s",
        context_length=336,
        horizon=2,
        seed=[1, 1, 1, 2, 2, 2, 3, 3, 3],
        test_mse=3 * [0.5, 0.4, 0.45],
        predict_cpu_seconds=3 * [1.0, 2.0, 3.0],
        fit_cpu_seconds=1.0,
        train_rate=48.0,
        compression_rate=[50.0, 50.0, 49.0, 50.0, 50.0, 50.0, 50.0, 50.0, 51.0],
        enrichment=2.0,
        enrichment_z=9.0,
        churn=0.5,
        settings=[json.dumps({"patcher": {"name": name}}) for name in 3 * measured],
    )
    noise = np.random.default_rng(0).normal(size=200)
    for row in etth1.to_dict("records"):
        path = windows_path(tmp_path / "family.csv", row)
        path.parent.mkdir(exist_ok=True)
        np.save(path, (row["test_mse"] * (1 + 0.1 * noise)).astype(np.float32))
    planted = family_rows(
        "family_planted",
        ["fixed", "oracle"],
        dataset="planted_a",
        context_length=192,
        horizon=24,
        seed=1,
        test_mse=[1.0, 0.25],
        boundary_f1=[0.2, 1.0],
        fit_cpu_seconds=3.0,
    )
    pd.concat([etth1, planted]).to_csv(tmp_path / "family.csv", index=False)
    pairs = pd.DataFrame({"arm": "chunking_48", "beyond_chance": [0.2, 0.3, 0.4]})
    pairs.to_csv(tmp_path / "boundary_agreement.csv", index=False)
    text = family_etth1(tmp_path)
    assert text.endswith(" |\n\nNot measured yet: random.")
    lines = [line.split(" | ") for line in text.splitlines()[2:-2]]
    assert [line[1] for line in lines] == ["chunking", "fixed aligned", "fixed"]
    assert lines[0][2] == "0.4500 ± 0.0000"
    assert lines[0][3:5] == ["-10.0 %", "-10.0 to -10.0 %"]  # equal windows, 10 % apart
    assert lines[0][5] == "+12.5 %"  # fixed patches of 16 points are as fast, and better
    assert lines[0][6:10] == ["48.0 / 50.0 (49.0 to 51.0)", "2.00 (z 9)", "0.50", "0.30"]
    assert lines[1][6:10] == ["48.0 / 50.0", "2.00 (z 9)", "0.50", ""]
    assert lines[1][3:6] == ["", "", "+0.0 %"]
    assert lines[2][3:6] == ["", "", "+0.0 %"]
    planted_lines = family_planted(tmp_path).splitlines()[2:]
    assert [line.split(" | ")[:4] for line in planted_lines] == [
        ["| A", "oracle", "0.2500", "0.25"],
        ["| A", "fixed", "1.0000", "1.00"],
    ]


def test_the_table_of_noise_compares_networks_with_themselves(tmp_path):
    """Noise is a geometric mean of ratios; a ratio that may be zero gives a bound of steps."""
    parts = pd.DataFrame({"setting": ["all", "none"], "signal_to_noise": [0.25, -0.001]})
    networks = [
        parts.assign(form="direct", window=1, seed=seed, noise=[noise, noise * times])
        for seed, noise, times in ((1, 1.0, 4.0), (2, 100.0, 9.0))
    ]
    table = pd.concat(networks).assign(standard_error=0.01)
    table.to_csv(tmp_path / "score_function_noise.csv", index=False)
    lines = [line.split(" | ") for line in score_function_noise(tmp_path).splitlines()[2:]]
    assert [line[2] for line in lines] == ["all", "none"]
    assert lines[0][3:] == ["0.25 ± 0.007", "0.25 to 0.25", "4", "1 |"]
    assert lines[1][3:] == ["-0.001 ± 0.007", "-0.001 to -0.001", "over 71", "6 |"]
