"""The planted benchmark: F1 by brute force, rules by brute force, fresh windows, rows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from adaptivepatch import InvalidParameterError
from adaptivepatch.bench.boundary_scores import best_shift, boundary_f1
from adaptivepatch.bench.planted_fit import (
    PlantedSource,
    build_planted_network,
    evaluate,
    held_out,
)
from adaptivepatch.bench.planted_patchers import LeastSquaresPatcher, TruePatcher, TwoWindowPatcher
from adaptivepatch.bench.protocols import find_protocol
from adaptivepatch.bench.runner import run_suite
from adaptivepatch.bench.task import read_suite
from adaptivepatch.cli import app
from adaptivepatch.datasets.planted import planted_windows
from adaptivepatch.errors import AdaptivePatchError
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.resolver import patcher_from_settings

CPU = torch.device("cpu")
TINY = """
about: a few steps, for a test
tasks:
  - {dataset: planted_b, horizon: 24, context_length: 192, protocol: planted}
seeds: [1]
base:
  reward: none
  backbone: {name: transformer, d_model: 8, num_layers: 1, dropout: 0.0}
  trainer: {max_steps: 4, learning_rate: 0.001, validate_every: 2}
arms:
  oracle: {patcher: {name: truth}}
  random: {reward: chance, patcher: {name: random, compression_rate: 24}}
"""


# ------------------------------------------------------------------------------------ boundaries


def most_pairs(found, wanted, tolerance):
    """Largest one-to-one matching, by trying every boundary with everything that is left."""
    if not found or not wanted:
        return 0
    first, rest = wanted[0], wanted[1:]
    best = most_pairs(found, rest, tolerance)
    for place in found:
        if abs(place - first) <= tolerance:
            left = [other for other in found if other != place]
            best = max(best, 1 + most_pairs(left, rest, tolerance))
    return best


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
def test_f1_equals_the_best_matching_by_brute_force(tolerance):
    rng = np.random.default_rng(tolerance)
    for _ in range(150):
        rate = rng.uniform(0.05, 0.5, size=2)
        masks = rng.random((2, 3, 14)) < rate[:, None, None]
        masks[:, :, 0] = True
        shift = int(rng.integers(-3, 4))
        pairs = total = 0
        for predicted, true in zip(*masks, strict=True):
            found = [int(step) + shift for step in np.flatnonzero(predicted) if step > 0]
            wanted = [int(step) for step in np.flatnonzero(true) if step > 0]
            pairs += most_pairs(found, wanted, tolerance)
            total += len(found) + len(wanted)
        expected = 2 * pairs / total if total else 1.0
        assert boundary_f1(masks[0], masks[1], tolerance, shift) == pytest.approx(expected)


def mask_of(*starts, num_steps=40):
    mask = np.zeros((1, num_steps), dtype=bool)
    mask[0, [0, *starts]] = True
    return mask


def test_f1_on_cases_done_by_hand():
    true = mask_of(10, 20, 30)
    assert boundary_f1(true, true) == 1
    assert boundary_f1(mask_of(12, 18, 30), true) == 1
    assert boundary_f1(mask_of(13, 17, 30), true) == pytest.approx(1 / 3)
    assert boundary_f1(mask_of(9, 10, 11), true) == pytest.approx(1 / 3)  # each counts once
    assert boundary_f1(mask_of(10), true) == pytest.approx(2 / 4)
    assert boundary_f1(mask_of(), true) == 0  # step 0 is no finding
    assert boundary_f1(mask_of(), mask_of()) == 1
    assert boundary_f1(mask_of(11), mask_of(10, 12), tolerance=1) == pytest.approx(2 / 3)
    assert boundary_f1(mask_of(1), mask_of(30), tolerance=2) == 0  # unused places match nothing


def test_the_best_shift_undoes_a_constant_offset():
    windows = planted_windows("planted_a", 200, np.random.default_rng(0))
    late = np.roll(windows.boundary_mask, 6, axis=1)
    late[:, 0] = True
    late[:, 6] = False  # where step 0 went
    assert boundary_f1(late, windows.boundary_mask) < 0.3
    score, shift = best_shift(late, windows.boundary_mask)
    assert (score, shift) == (1.0, -4)  # with the tolerance 4 steps back are enough
    assert best_shift(windows.boundary_mask, windows.boundary_mask) == (1.0, 0)


# ----------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize("min_length", [1, 2, 3])
def test_change_points_are_the_best_of_all_partitions(min_length):
    torch.manual_seed(min_length)
    series = torch.randn(6, 12).double()
    patcher = LeastSquaresPatcher(compression_rate=3, min_length=min_length)
    found = patcher(series).mode
    assert found.capacity == 4
    for row, lengths in zip(series, found.patch_lengths, strict=True):
        options = [
            (0, *starts, 12)
            for starts in itertools.combinations(range(1, 12), 3)
            if np.diff((0, *starts, 12)).min() >= min_length
        ]
        errors = [
            sum(float(row[a:b].var(correction=0)) * (b - a) for a, b in itertools.pairwise(edges))
            for edges in options
        ]
        best = options[int(np.argmin(errors))]
        assert lengths.tolist() == np.diff(best).tolist()


def test_change_points_do_not_depend_on_the_mean():
    series = torch.randn(4, 48, generator=torch.Generator().manual_seed(0)).double()
    patcher = LeastSquaresPatcher(compression_rate=8)
    expected = patcher(series).mode.boundary_mask
    assert torch.equal(patcher(series + 1e4).mode.boundary_mask, expected)
    with pytest.raises(InvalidParameterError, match=r"6 patches of 9 steps do not fit.*48"):
        LeastSquaresPatcher(8, min_length=9)(series)


def test_two_windows_equal_a_loop():
    series = torch.randn(5, 60, generator=torch.Generator().manual_seed(1)).double()
    for window in (2, 3, 7, 30):  # 30: all near the first peak, the rest by score alone
        patcher = TwoWindowPatcher(compression_rate=12, window=window)
        found = patcher(series).mode.boundary_mask
        for row, mask in zip(series.numpy(), found.numpy(), strict=True):
            score = [0.0] + [
                abs(row[t : t + window].mean() - row[max(0, t - window) : t].mean())
                for t in range(1, 60)
            ]
            chosen: list[int] = []
            while len(chosen) < 4:
                left = [t for t in range(1, 60) if t not in chosen]
                apart = [t for t in left if all(abs(t - c) >= window for c in chosen)]
                chosen.append(max(apart or left, key=lambda t: score[t]))
            assert np.flatnonzero(mask).tolist() == [0, *sorted(chosen)]


def test_both_rules_find_regimes_and_fall_for_doublets():
    scores = {}
    for task in ("planted_a", "planted_b"):
        windows = held_out(task, 1, 200)
        for patcher in (LeastSquaresPatcher(min_length=8), TwoWindowPatcher(window=8)):
            mask = patcher(windows.series).mode.boundary_mask.numpy()
            scores[task, patcher.name] = boundary_f1(mask, windows.boundary_mask.numpy())
    assert scores["planted_a", "change_points"] > 0.995
    assert scores["planted_a", "two_window"] > 0.98
    assert scores["planted_b", "change_points"] < 0.6
    assert scores["planted_b", "two_window"] < 0.6


def test_the_truth_must_be_told():
    patcher = TruePatcher()
    with pytest.raises(AdaptivePatchError, match=r"\(2, 192\).*None.*Set boundary_mask"):
        patcher(torch.zeros(2, 192))


# ---------------------------------------------------------------------------------------- source


def test_every_number_is_a_fresh_draw_that_can_be_repeated():
    source = PlantedSource("planted_a", 1, CPU, num_validation=100)
    sets = source.sets(3)
    assert sets.train.tolist() == [0, 1, 2]
    draws = [source.batch(sets.train[k : k + 1]) for k in range(3)]
    assert [tuple(batch.series.shape) for batch in draws] == [(64, 192)] * 3
    rows = torch.cat([batch.series for batch in draws])
    assert len(rows.unique(dim=0)) == 192
    again = PlantedSource("planted_a", 1, CPU, num_validation=100).batch(torch.tensor([2]))
    assert torch.equal(again.series, draws[2].series)
    assert torch.equal(again.target, draws[2].target)
    other = PlantedSource("planted_a", 2, CPU, num_validation=100)
    assert not torch.equal(other.batch(torch.tensor([2])).series, draws[2].series)
    both = source.batch(torch.tensor([0, 2]))
    assert torch.equal(both.series, torch.cat([draws[0].series, draws[2].series]))


def test_validation_is_the_same_for_all_seeds_and_complete():
    first, second = (PlantedSource("planted_b", seed, CPU, num_validation=100) for seed in (1, 2))
    numbers = first.sets(1).validation
    batches = [[source.batch(numbers[k : k + 1]) for k in range(2)] for source in (first, second)]
    series = [torch.cat([batch.series for batch in of_seed]) for of_seed in batches]
    assert torch.equal(*series)
    assert len(series[0].unique(dim=0)) == 100
    assert len(held_out("planted_b", 2, 7).series) == 7
    assert not torch.equal(held_out("planted_b", 2, 7).series, held_out("planted_b", 1, 7).series)
    assert not torch.equal(held_out("planted_a", 1, 7).target, held_out("planted_b", 1, 7).target)


def test_the_oracle_network_sees_the_true_boundaries_everywhere():
    settings = read_suite("planted")[0].arm.settings
    network = build_planted_network(settings, seed=1)
    assert isinstance(network.patcher, TruePatcher)
    source = PlantedSource("planted_b", 1, CPU, network.patcher, num_validation=70)
    test = held_out("planted_b", 2, 150)
    mse, mae, predicted = evaluate(network, source, test)
    np.testing.assert_array_equal(predicted, test.boundary_mask.numpy())
    assert boundary_f1(predicted, test.boundary_mask.numpy()) == 1

    batch = source.batch(torch.tensor([5]))
    true = planted_windows("planted_b", 64, np.random.default_rng([3, 1, 5]))
    mask = network.segment(batch.series)[1].mode.boundary_mask
    np.testing.assert_array_equal(mask.numpy(), true.boundary_mask)

    network.patcher.boundary_mask = test.boundary_mask
    with torch.no_grad():
        expected = (network(test.series) - test.target).square().mean()
    assert mse == pytest.approx(float(expected), rel=1e-5)
    assert 0 < mae < mse**0.5


def test_a_token_is_the_mean_the_log_length_and_the_start():
    """Look-backs with equal patch means, lengths and starts have equal forecasts."""
    network = build_planted_network(read_suite("planted")[0].arm.settings, seed=1).double()
    torch.nn.init.normal_(network.embedding.length_weight)
    mask = torch.zeros(1, 192, dtype=torch.bool)
    mask[0, [0, 10, 30, 60, 100, 120, 150, 180]] = True
    series = torch.randn(1, 192, generator=torch.Generator().manual_seed(2)).double()

    def forecast(values, boundaries):
        network.patcher.boundary_mask = boundaries
        return network(values)

    shuffled = series.clone()
    shuffled[0, 30:60] = series[0, 30:60].flip(0)  # the same mean
    expected = forecast(series, mask)
    torch.testing.assert_close(forecast(shuffled, mask), expected, rtol=0, atol=1e-12)
    other_mean = series.clone()
    other_mean[0, 30:60] += 0.1
    assert not torch.allclose(forecast(other_mean, mask), expected, atol=1e-6)
    constant = torch.ones_like(series)  # all means are equal, for any boundaries
    moved = mask.clone()
    moved[0, 30], moved[0, 33] = False, True
    assert not torch.allclose(forecast(constant, moved), forecast(constant, mask), atol=1e-6)


# ----------------------------------------------------------------------------------------- suite


def test_the_packaged_suite_builds_every_arm_at_equal_token_count():
    runs = read_suite("planted")
    assert {run.seed for run in runs} == {1, 2, 3}
    assert {run.task.dataset for run in runs} == {"planted_a", "planted_b"}
    assert len({run.key for run in runs}) == len(runs)
    for run in runs[: len({run.arm.name for run in runs})]:
        network = build_planted_network(run.arm.settings, run.seed)
        assert network.patcher.capacity(192) == 8
        assert network.backbone.d_model == 32
        assert isinstance(run.arm.settings["reward"], str)


def test_the_described_arm_is_the_preset():
    arm = next(run.arm for run in read_suite("planted") if run.arm.name == "as_described")
    built = patcher_from_settings(arm.settings["patcher"])
    assert isinstance(built, ReinPatcher)
    assert repr(built) == repr(ReinPatcher.as_described(24))


def test_policy_arms_differ_in_what_they_are_named_for_only():
    arms = {run.arm.name: dict(run.arm.settings["patcher"]) for run in read_suite("planted")}
    names = ("frozen_policy", "forecast_reward", "reconstruction_warmup")
    frozen, forecast, warmup = (arms[name].pop("gradient") for name in names)
    assert arms[names[0]] == arms[names[1]] == arms[names[2]]
    assert frozen["learning_rate"] == 0
    assert warmup == {**forecast, "warmup": warmup["warmup"]}
    assert "warmup" not in forecast


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_rows_are_complete_repeatable_and_skipped_when_there(suite, tmp_path):
    out = tmp_path / "planted.csv"
    rows = run_suite(suite, out, device="cpu")
    assert [row.run.arm.name for row in rows] == ["oracle", "random"]
    assert run_suite(suite, out, device="cpu") == []
    table = pd.read_csv(out)
    assert table.columns.tolist() == list(find_protocol("planted").columns)
    assert table.notna().all(axis=None)
    assert table.reward.tolist() == ["none", "chance"]
    assert (table.num_windows == 5000).all()
    assert (table.tokens == 8).all()
    assert table.boundary_f1.tolist() == pytest.approx([1, 0.2], abs=0.1)
    assert (table.shifted_f1 >= table.boundary_f1).all()
    assert table.num_steps.tolist() == [4, 4]
    true = held_out("planted_b", 2, 5000).boundary_mask[:8].numpy()
    assert json.loads(table.example_starts[0]) == [np.flatnonzero(row).tolist() for row in true]
    assert np.isfinite(table.test_mse).all()
    curves = pd.read_csv(out.with_suffix(".curves.csv"))
    assert curves.step.tolist() == [2, 4, 2, 4]
    assert json.loads(curves.patcher[0]) == {}
    for row in table.itertuples():
        losses = curves[curves.arm == row.arm].validation_loss
        assert losses.min() == pytest.approx(row.validation_mse)

    again = run_suite(suite, tmp_path / "again.csv", device="cpu")
    assert [row.measures for row in again] == [row.measures for row in rows]


def test_the_command_runs_planted_suites(suite, tmp_path):
    out = tmp_path / "planted.csv"
    arguments = ["bench", "run", str(suite), "--out", str(out), "--arm", "oracle"]
    result = CliRunner().invoke(app, [*arguments, "--dataset", "planted_b"])
    assert result.exit_code == 0, result.output
    assert "planted_b oracle seed 1: test MSE" in " ".join(result.output.split())
    assert "boundary F1 1.000" in " ".join(result.output.split())
    assert "Nothing to do" in CliRunner().invoke(app, arguments).output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("protocol: planted", "protocol: plantid", r"Unknown protocol 'plantid'.*mean 'planted'"),
        ("dataset: planted_b", "dataset: ETTh1", r"A planted task is one of.*'ETTh1'"),
        ("horizon: 24", "horizon: 48", r"with horizon 24.*horizon=48"),
        ("reward: none", "instance_norm: true", r"'oracle' has .*'instance_norm'"),
        (
            "{name: truth}",
            "{name: truth, compression_rate: 12}",
            r"has 16 patches.*to 24",
        ),
    ],
)
def test_suites_that_cannot_be_run_say_why(old, new, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(TINY.replace(old, new))
    with pytest.raises(InvalidParameterError, match=message):
        run_suite(path, tmp_path / "out.csv", only=lambda run: run.arm.name == "oracle")
