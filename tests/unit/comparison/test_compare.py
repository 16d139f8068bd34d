"""`compare` selects on validation, forecasts the test part once, and claims only what it shows."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import (
    Comparison,
    DeviationPatcher,
    FixedPatcher,
    Forecaster,
    GroupPolicyGradient,
    InvalidFrameError,
    InvalidParameterError,
    PeriodicPatcher,
    RandomPatcher,
    RecencyPatcher,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
    compare,
)
from adaptivepatch.comparison import fits
from adaptivepatch.comparison.arms import ArmRuns, default_patchers, fit_seed, make_arms
from adaptivepatch.comparison.findings import Contrast, Findings, JudgedArm
from adaptivepatch.comparison.result import conclude
from adaptivepatch.comparison.statistics import Interval
from adaptivepatch.comparison.verdict import sentences
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import make_windows
from adaptivepatch.training.record import TrainingRecord

ROOT = Path(__file__).parents[3]
ENTROPY = "patches at entropy quantiles, of the same number"
SMALL = {
    "horizon": 6,
    "context_length": 24,
    "backbone": TransformerBackbone(d_model=8, num_layers=1, num_heads=1, d_ff=8, dropout=0.0),
    "trainer": Trainer(max_steps=4, batch_size=8, validate_every=2),
}
ARMS = {
    "fixed 4": FixedPatcher(compression_rate=4),
    "fixed 8": FixedPatcher(compression_rate=8),
    "recency 8": RecencyPatcher(compression_rate=8, shortest=4),
    "random 8": RandomPatcher(compression_rate=8),
}


def wave(rows=300, items=1, seed=0):
    rng, step = np.random.default_rng(seed), np.arange(rows)
    frames = [
        pd.DataFrame(
            {
                "item_id": f"item {k}",
                "timestamp": pd.date_range("2024", periods=rows, freq="h"),
                "x": 10 * (k + 1) * (np.sin(step / 4 + k) + 0.3 * rng.normal(size=rows)),
            }
        )
        for k in range(items)
    ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def found():
    return compare(wave(), ARMS, seeds=2, **SMALL)


# ------------------------------------------------------------------------------------- the result


def test_table_has_a_row_per_arm_and_naive_forecast_and_runs_one_per_seed(found):
    assert found.table.arm.tolist() == [*ARMS, "last value", "day before", "week before"]
    roles = [*["baseline candidate"] * 2, "challenger", "control", *["naive"] * 3]
    assert found.table.role.tolist() == roles
    trained = found.table[found.table.role != "naive"]
    assert trained.tokens.tolist() == [6, 3, 3, 3]
    assert trained.compression_rate.tolist() == [4, 8, 8, 8]
    assert len(found.runs) == 8
    assert trained.equal_tokens_arm.tolist()[2:] == ["fixed 8", "fixed 8"]


def test_naive_forecasts_are_tested_like_the_models_and_bring_no_verdict(found):
    naive = found.table.set_index("arm").loc["day before"]
    x = wave().x
    scale = x[: 240 - 24].std(ddof=0)  # the last tenth before the test part is validation rows
    error = [x[k : k + 6].to_numpy() - x[k - 24 : k - 18].to_numpy() for k in range(240, 295)]
    assert naive.test_error == pytest.approx(np.mean(np.square(error)) / scale**2)
    base = found.table.set_index("arm").loc[found.baseline]
    assert naive.difference == pytest.approx(naive.test_error / base.test_error - 1)
    assert np.isnan(naive.low)
    assert naive.verdict == ""
    assert found.settings["comparisons"] == 2  # challenger and control


def test_every_test_window_counts_and_errors_are_their_means(found):
    assert found.settings["test_windows"] == 60 - 6 + 1  # a fifth of 300 rows, horizon 6
    assert found.settings["stride"] == 1
    for row in found.table.itertuples():
        losses = found.losses[row.arm]
        assert losses.shape == (2, 55)
        assert losses.mean() == pytest.approx(row.test_error)
        of_arm = found.runs[found.runs.arm == row.arm].test_error.to_numpy()
        expected = row.test_error if row.role == "naive" else of_arm
        assert losses.mean(axis=1) == pytest.approx(expected)


def test_baseline_and_headline_are_chosen_on_validation(found):
    mean = found.runs.groupby("arm").validation_error.mean()
    assert found.baseline == mean[["fixed 4", "fixed 8"]].idxmin()
    assert found.headline == "recency 8"
    row = found.table.set_index("arm").loc["recency 8"]
    base = found.table.set_index("arm").loc[found.baseline]
    assert row.difference == pytest.approx(row.test_error / base.test_error - 1)


def test_any_two_arms_can_be_compared(found):
    row = found.table.set_index("arm").loc["recency 8"]
    again = found.between("recency 8", found.baseline)
    assert (again.low, again.high) == pytest.approx((row.low, row.high), rel=1e-9)
    twin = found.between("recency 8", "fixed 8")
    assert twin.difference == pytest.approx(row.equal_tokens_difference)
    errors = found.table.set_index("arm").test_error
    with_control = found.between("recency 8", "random 8")
    assert with_control.difference == pytest.approx(errors["recency 8"] / errors["random 8"] - 1)
    assert with_control.low < with_control.difference < with_control.high
    assert found.windows.observed.tolist() == 55 * [6]
    with pytest.raises(InvalidParameterError, match="Unknown arm 'random 9'.*Did you mean"):
        found.between("recency 8", "random 9")


def test_two_seeds_are_exploratory(found):
    assert found.is_exploratory
    assert found.answer == "not shown"
    assert found.verdict.startswith("Not shown: an answer needs 5 trainings of every model (seeds)")
    assert set(found.table.verdict) <= {"baseline", "exploratory", ""}


def test_missing_controls_are_named(found):
    assert found.controls["random patches of the same number"] == "run: random 8"
    assert found.controls["learned patchers"].startswith("missing")
    assert found.controls[ENTROPY].startswith("missing")


def test_error_is_in_units_of_the_training_rows():
    """The scale of an item has no effect on the errors."""
    frame = wave(items=2)
    scaled = frame.assign(x=np.where(frame.item_id == "item 1", 1000 * frame.x, frame.x))
    arms = {"fixed 4": ARMS["fixed 4"], "recency 8": ARMS["recency 8"]}
    first, second = (compare(data, arms, seeds=1, **SMALL) for data in (frame, scaled))
    assert second.table.test_error.tolist() == pytest.approx(
        first.table.test_error.tolist(), rel=1e-4
    )
    assert first.settings["items_tested"] == 2


def test_fits_never_see_the_test_part():
    frame = wave()
    other = frame.copy()
    other.loc[240:, "x"] = 1e6
    arms = {"fixed 4": ARMS["fixed 4"], "recency 8": ARMS["recency 8"]}
    first, second = (compare(data, arms, seeds=1, **SMALL) for data in (frame, other))
    assert first.runs.validation_error.tolist() == second.runs.validation_error.tolist()
    assert first.runs.test_error.tolist() != second.runs.test_error.tolist()


def test_absolute_errors_gaps_and_seed_lists():
    frame = wave().drop(index=[20, 100, 270])
    result = compare(frame, ARMS, seeds=[3, 8], metric="MAE", missing="mask", **SMALL)
    assert result.runs.seed.tolist() == [3, 8] * 4
    assert result.settings["metric"] == "MAE"
    assert np.isfinite(result.table.test_error).all()


def test_result_does_not_depend_on_the_number_of_processes(found):
    events = []
    result = compare(
        wave(), ARMS, seeds=2, n_jobs=2, progress=lambda *event: events.append(event), **SMALL
    )
    exact = ["arm", "validation_error", "test_error", "difference", "low", "high", "tokens"]
    pd.testing.assert_frame_equal(result.table[exact], found.table[exact])
    assert [event[:2] for event in events] == [(k, 16) for k in range(17)]


def test_twins_have_different_random_streams():
    twins = {"once": FixedPatcher(8), "again": FixedPatcher(8)}
    result = compare(wave(), twins, baseline="once", seeds=1, **SMALL)
    assert result.table.role.tolist()[:2] == ["baseline candidate", "challenger"]
    assert result.runs.test_error.nunique() == 2


@pytest.mark.parametrize(
    ("embedding", "expected"),
    [
        ("aligned", {"aligned", None}),  # patches that overlap cannot be aligned
        ("resampled", {"resampled", None}),
        (None, {None}),
    ],
)
def test_arms_differ_in_boundaries_and_not_in_their_embedding(monkeypatch, embedding, expected):
    arms, used = {**ARMS, "overlapping": FixedPatcher(8, 4)}, {}

    def forecaster(*arguments, **settings):
        used[repr(settings["patcher"])] = settings["embedding"]
        return Forecaster(*arguments, **settings)

    monkeypatch.setattr(fits, "Forecaster", forecaster)
    result = compare(wave(), arms, seeds=1, embedding=embedding, **SMALL)
    assert set(used.values()) == expected
    assert used[repr(arms["overlapping"])] is None
    assert result.settings["embedding"] == embedding


def test_seeds_of_fits_depend_on_the_name_and_not_on_the_other_arms():
    assert fit_seed(0, "a") == fit_seed(0, "a")
    assert len({fit_seed(seed, name) for seed in range(50) for name in "abc"}) == 150


def test_an_interrupted_fit_interrupts_the_comparison(monkeypatch):
    real = Forecaster.fit

    def interrupted(self, *arguments, **settings):
        real(self, *arguments, **settings)
        self.record_.interrupted = True
        return self

    monkeypatch.setattr(Forecaster, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(wave(), ARMS, seeds=1, **SMALL)


# ---------------------------------------------------------------------------------------- wording


def arm(
    name,
    role,
    error,
    *,
    tokens=3.0,
    validation=None,
    cost=1.0,
    noise=0.002,
    learned=None,
    falling=0,
):
    """An arm with a mean loss, five seeds and 55 windows; `falling` fits were still improving."""
    rng = np.random.default_rng(len(name))
    spread = 1 + noise * np.array([-1.5, -0.5, 0.0, 0.5, 1.5])[:, None]
    total = error * spread * (1 + 0.01 * rng.normal(size=(1, 55)))
    return ArmRuns(
        name=name,
        role=role,
        kind=learned or "fixed",
        patcher=name,
        is_trainable=learned is not None,
        total=total,
        tokens=tokens,
        parameters=1,
        validation_error=np.full(5, error if validation is None else validation),
        best_step=np.ones(5, dtype=np.int64),
        still_falling=np.arange(5) < falling,
        fit_seconds=np.full(5, cost),
        predict_seconds=np.full(5, cost),
    )


def verdict_of(*arms, **naive):
    panel = read_frame(wave())
    windows = make_windows(panel, 24, 6, targets_from=240)
    settings = {
        "horizon": 6,
        "stride": 1,
        "confidence": 0.95,
        "metric": "MSE",
        "context_length": 24,
    }
    naive = {name.replace("_", " "): np.full(55, error) for name, error in naive.items()}
    return conclude(list(arms), list(range(5)), windows, np.ones(55), settings, naive)


FIXED = ("fixed", "baseline candidate", 1.0)
RANDOM = ("random", "control", 1.1)


def test_yes_says_by_how_much_and_what_it_is_due_to():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9, cost=2.0), arm(*RANDOM))
    assert result.answer == "yes"
    assert result.verdict == (
        "Yes, adaptive patches help here. Going from fixed, the best fixed patches on validation "
        "data, to new, the best adaptive ones there, changes the error (MSE) by -9.7 % (-10.3 % to "
        "-9.1 % with 95 % confidence; minus means less error) and takes 2.0 times the training "
        "time. The gain comes from where patches begin: compared with random (the same number of "
        "patches, which begin at random) the change is -18.3 % (-18.9 % to -17.7 %)."
    )
    assert result.table.verdict.tolist() == ["baseline", "less error", "more error"]


def test_more_error_is_no():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 1.1))
    assert result.answer == "no"
    start = "No, the best adaptive patches have more error than fixed, so keep fixed. Going from"
    assert result.verdict.startswith(start)
    assert "changes the error (MSE) by +10." in result.verdict
    assert result.table.verdict.tolist() == ["baseline", "more error"]


def test_a_difference_that_may_be_chance_is_not_shown():
    result = verdict_of(arm(*FIXED, noise=0.05), arm("new", "challenger", 0.99, noise=0.05))
    assert result.answer == "not shown"
    assert result.verdict.startswith(
        "Not shown that adaptive patches help here, so keep fixed. Going"
    )
    assert "The range includes 0 %, so that the difference may be chance." in result.verdict
    assert result.table.verdict.tolist() == ["baseline", "not shown"]


def test_a_gain_without_a_control_has_no_known_reason():
    result = verdict_of(
        arm(*FIXED), arm("new", "challenger", 0.9), arm("random", "control", 1.1, tokens=6.0)
    )
    assert result.answer == "yes"
    start = "Yes, adaptive patches have less error; what that is due to was not tested. Going"
    assert result.verdict.startswith(start)
    assert "no control with the same number of patches was run" in result.verdict
    assert "gain comes" not in result.verdict


@pytest.mark.parametrize("kind", ["mine", "dynamic_chunking"])
def test_random_patches_are_no_control_of_the_layers_of_a_learned_patcher(kind):
    result = verdict_of(
        arm(*FIXED), arm("new", "challenger", 0.9, learned=kind), arm("random", "control", 1.1)
    )
    assert "what that is due to was not tested" in result.verdict
    assert "gain comes" not in result.verdict


@pytest.mark.parametrize(
    ("random", "noise", "reason"),
    [
        (0.9, 0.002, "the gain comes at least in part from other properties of the patches."),
        (0.8, 0.002, "the adaptive choice is not the reason for the gain, which comes from other"),
        (1.0, 0.2, "the gain may come from other properties of the patches."),
    ],
)
def test_a_gain_that_random_patches_match_is_not_said_to_come_from_the_choice(
    random, noise, reason
):
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9),
        arm("random", "control", random, noise=noise),
    )
    assert result.answer == "yes"
    assert result.verdict.startswith(
        "Yes, a change lowers the error, but it is not shown that the reason is where patches begin"
    )
    assert reason in result.verdict
    assert "The gain comes" not in result.verdict
    assert "helps" not in result.table.verdict.tolist()


def test_a_gain_beyond_that_of_random_patches_comes_only_in_part_from_the_choice():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.8), arm("random", "control", 0.9))
    assert result.verdict.startswith("Yes, adaptive patches help here.")
    assert "The gain comes in part from where patches begin: compared with random" in result.verdict


@pytest.mark.parametrize(
    ("frozen", "noise", "text"),
    [
        (0.9, 0.002, "the gain comes at least in part from patches that vary in training."),
        (0.8, 0.002, "not the reason for the gain, which comes from patches that vary in training"),
        (1.0, 0.2, "the gain may come from patches that vary in training."),
        (1.0, 0.002, "The gain comes from learning where patches begin: compared with frozen (the"),
    ],
)
def test_gain_of_a_policy_that_never_learned_is_not_called_learning(frozen, noise, text):
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9, learned="reinpatch"),
        arm("frozen", "control", frozen, learned="reinpatch", noise=noise),
        arm(*RANDOM),
    )
    assert result.answer == "yes"
    assert text in result.verdict
    assert ("where patches begin:" in result.verdict) == (frozen == 1.0 and noise == 0.002)
    assert ("random" in result.verdict) == (frozen == 1.0 and noise == 0.002)
    assert result.controls["the same patcher without learning"] == "run: frozen"
    assert result.controls["learned patchers"] == "run: new"
    assert result.controls["random patches of the same number"] == "run: random"
    assert result.settings["comparisons"] == 3


def test_learning_that_is_no_better_than_chance_is_not_the_reason():
    """The learned patches beat their own control, but not random ones."""
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9, learned="reinpatch"),
        arm("frozen", "control", 1.0, learned="reinpatch"),
        arm("random", "control", 0.9),
    )
    assert result.verdict.startswith("Yes, a change lowers the error, but it is not shown")
    assert "compared with random (the same number of patches" in result.verdict.lower()
    assert "frozen" not in result.verdict


@pytest.mark.parametrize(("even", "is_reason"), [(0.9, False), (1.0, True)])
def test_gain_of_even_chunks_is_that_of_the_network(even, is_reason):
    result = verdict_of(
        arm(*FIXED),
        arm("chunks", "challenger", 0.9, learned="dynamic_chunking"),
        arm("even", "control", even, learned="dynamic_chunking"),
        arm("frozen", "control", 0.8, learned="reinpatch"),  # belongs to another patcher
    )
    assert "frozen" not in result.verdict
    assert "even (the same model with even patches) the change is" in result.verdict
    assert ("at least in part from the larger model" in result.verdict) != is_reason
    assert ("comes from learning where patches begin" in result.verdict) == is_reason


def test_gain_of_an_unlearned_patcher_of_the_user_is_reported():
    result = verdict_of(
        arm(*FIXED),
        arm("mine", "challenger", 0.9, learned="mine"),
        arm("still", "control", 0.9, learned="mine"),
    )
    assert "still (the same model without learned patches)" in result.verdict
    assert "the gain comes at least in part from other parts of the model." in result.verdict


def test_frozen_control_is_not_used_for_patchers_that_do_not_learn():
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9),
        arm("frozen", "control", 0.9, learned="reinpatch"),
    )
    assert "frozen" not in result.verdict


def test_a_challenger_that_validation_did_not_choose_makes_no_a_not_shown():
    result = verdict_of(
        arm(*FIXED),
        arm("chosen", "challenger", 1.1, validation=0.9),
        arm("lucky", "challenger", 0.8, validation=1.2),
    )
    assert result.answer == "not shown"
    assert result.verdict.startswith("Not shown that adaptive patches help here, so keep fixed.")
    text = (
        "On the test data lucky changes the error by -20.0 % (-20.3 % to -19.7 %), but validation"
    )
    assert f"{text} data did not choose it: compare again with newer data." in result.verdict
    assert "includes 0 %" not in result.verdict


def test_models_that_are_worse_than_a_naive_forecast_are_named():
    arms = arm(*FIXED), arm("new", "challenger", 1.2), arm(*RANDOM)
    warning = "Warning: on the test data repeating the day before has less error than"
    fine = verdict_of(*arms, last_value=2.0, day_before=1.5)
    assert "Warning" not in fine.verdict
    some = verdict_of(*arms, last_value=2.0, day_before=1.05)
    assert f"{warning} new and random." in some.verdict
    assert some.verdict.startswith("No, the best adaptive patches have more error than fixed, so ")
    all_ = verdict_of(*arms, last_value=2.0, day_before=0.5)
    assert f"{warning} every model." in all_.verdict
    assert ", and repeating the day before has less error than fixed. Going" in all_.verdict
    assert all_.table.arm.tolist() == ["fixed", "new", "random", "last value", "day before"]
    assert all_.table.difference.tolist()[-1] == pytest.approx(-0.5, abs=0.01)


def test_a_gain_that_a_naive_forecast_exceeds_says_so_first():
    arms = arm(*FIXED), arm("new", "challenger", 0.9), arm(*RANDOM)
    result = verdict_of(*arms, week_before=0.5)
    assert result.answer == "yes"
    start = "Yes, adaptive patches have less error, but repeating the week before has even less."
    assert result.verdict.startswith(start)


def test_a_naive_forecast_that_is_called_like_an_arm_gets_another_name():
    result = verdict_of(
        arm("last value", "baseline candidate", 1.0), arm("new", "challenger", 1), last_value=2.0
    )
    assert result.table.arm.tolist() == ["last value", "new", "last value (naive)"]
    assert result.between("new", "last value (naive)").difference == pytest.approx(-0.5, abs=0.01)


def test_trainings_that_were_still_improving_are_counted():
    text = "in 3 of 10 trainings the validation error was still falling at the last step"
    for falling in (0, 3):
        result = verdict_of(arm(*FIXED, falling=falling), arm("new", "challenger", 0.9))
        assert (text in result.verdict) == (falling == 3)
        assert result.runs.still_falling.sum() == falling


@pytest.mark.parametrize(
    ("losses", "best_step", "expected"),
    [
        ([1.0, 0.9, 0.8, 0.7], 40, True),
        ([1.0, 0.9, 0.8, 0.795], 40, False),  # less than 1 % in the last quarter
        ([1.0, 0.9, 0.6, 0.7], 30, False),
        ([1.0, 0.9, 0.8], 30, False),  # stopped early
        ([0.7], 40, False),  # nothing to compare with
    ],
)
def test_a_loss_is_still_falling_only_at_the_last_step(losses, best_step, expected):
    steps = 10 * np.arange(1, 1 + len(losses)) if len(losses) > 1 else [40]
    history = [{"step": k, "validation_loss": v} for k, v in zip(steps, losses, strict=True)]
    record = TrainingRecord(history, best_step, min(losses), int(steps[-1]), total_steps=40)
    assert fits.is_still_falling(record) is expected


def test_entropy_boundaries_are_a_control_if_their_tokens_are_equal():
    entropy = arm("entropy", "challenger", 1.1)._replace(kind="entropy")
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9), entropy)
    assert result.controls[ENTROPY] == "run: entropy"
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9), entropy._replace(tokens=4.0))
    assert result.controls[ENTROPY].startswith("missing")


def test_headline_is_chosen_on_validation_not_on_the_test_part():
    result = verdict_of(
        arm(*FIXED, validation=1.0),
        arm("lucky", "challenger", 0.8, validation=1.2),
        arm("chosen", "challenger", 1.0, validation=0.9),
    )
    assert result.headline == "chosen"
    assert result.table.set_index("arm").verdict["lucky"] == "less error"


def test_best_fixed_arm_must_be_beaten_and_the_one_of_equal_tokens_is_reported():
    result = verdict_of(
        arm("fine", "baseline candidate", 0.8, tokens=6.0),
        arm("coarse", "baseline candidate", 1.0, tokens=3.0),
        arm("new", "challenger", 0.9, tokens=3.0),
    )
    assert result.answer == "no"
    text = "Compared with coarse, which cuts the series into the same number of patches, the change"
    assert f"{text} is -10.1 % (" in result.verdict


def test_the_answer_in_the_documentation_is_that_of_the_committed_comparison():
    table = pd.read_csv(ROOT / "benchmarks/results/compare_pedestrians.csv").set_index("arm")
    runs = {
        name: arm(name, row.role, 1.0, tokens=row.tokens, cost=row.fit_cpu_seconds)
        for name, row in table.iterrows()
    }

    def interval(row, prefix=""):
        values = (row[prefix + key] for key in ("difference", "low", "high"))
        return Interval(*values, 9.0, 0.0, 0.0, 0.0, 9.0, 9)

    row, baseline = table.loc["chunks 24"], runs["fixed 8"]
    equal = Contrast(runs[row.equal_tokens_arm], interval(row, "equal_tokens_"))
    headline = JudgedArm(runs["chunks 24"], interval(row), equal)
    findings = Findings(
        arms=[headline],
        baseline=baseline,
        headline=headline,
        to_unlearned=None,
        to_random=None,
        naive=[],
        windows=pd.DataFrame(),
        settings={"seeds": range(5), "metric": "MAE", "confidence": 0.95},
    )
    text = " ".join((ROOT / "docs/compare.md").read_text("utf-8").replace("\n> ", " ").split())
    assert sentences(findings) in text


# ------------------------------------------------------------------------------------------ files


def test_results_are_saved_and_replaced_only_on_request(found, tmp_path):
    folder = found.save(tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {
        "table.csv",
        "runs.csv",
        "verdict.json",
        "comparison.png",
    }
    saved = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    assert (saved["answer"], saved["verdict"]) == ("not shown", found.verdict)
    assert saved["table"][0]["arm"] == "fixed 4"
    assert saved["table"][0]["low"] is None
    assert pd.read_csv(folder / "table.csv").arm.tolist() == found.table.arm.tolist()
    with pytest.raises(InvalidParameterError, match=r"only with overwrite=True.*holds table.csv"):
        found.save(folder)
    found.save(folder, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match=r"is a file"):
        found.save(tmp_path / "file")


def test_a_result_that_an_earlier_version_pickled_still_works(found):
    old = object.__new__(Comparison)
    fields = {name: value for name, value in vars(found).items() if name != "answer"}
    rows = found.table.role != "naive"
    old.__dict__.update(
        fields, table=found.table[rows], runs=found.runs.drop(columns="still_falling")
    )
    again = pickle.loads(pickle.dumps(old))
    assert again.to_dict()["answer"] is None
    assert again.between("recency 8", "fixed 8") == found.between("recency 8", "fixed 8")
    assert len(again.plot().axes) == 3


def test_figure_has_every_seed_of_every_arm_and_explains_the_roles(found):
    figure = found.plot()
    errors, differences, cost = figure.axes
    dots = [line for line in errors.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [2] * 4 + [1] * 3
    labels = [label.get_text() for label in errors.get_yticklabels()]
    marked = {found.baseline: "baseline", found.headline: "best adaptive"}
    for name, label in zip(found.table.arm, labels, strict=True):
        assert label == (f"{name} \u25c0 {marked[name]}" if name in marked else name)
    assert len(differences.collections) == 2  # intervals of challenger and control
    assert len(cost.lines) == 2 * 7 + 1
    legend = [text.get_text().partition(":")[0] for text in figure.legends[0].get_texts()]
    assert legend == ["fixed patches", "adaptive patches", "controls", "naive forecasts"]
    opening, rest = (text.get_text() for text in figure.texts)
    assert f"{opening} {rest}".replace("\n", " ") == found.verdict


def test_a_naive_forecast_far_away_does_not_squeeze_the_models():
    arms = arm(*FIXED), arm("new", "challenger", 1.2)
    figure = verdict_of(*arms, last_value=50.0, day_before=1.1).plot()
    errors, differences, _ = figure.axes
    assert errors.get_xlim()[1] < 1.5
    assert [text.get_text() for text in errors.texts] == ["50 \u25b6"]
    assert [text.get_text() for text in differences.texts] == ["+4916 \u25b6"]


# --------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "MSEE"}, r"'metric' parameter must be one of.*Did you mean 'MSE'"),
        ({"embedding": "raw"}, r"'embedding' parameter must be one of.*Got 'raw'"),
        ({"seeds": 0}, r"'seeds' parameter must be an int in the range \[1, inf\)"),
        ({"seeds": []}, r"must be the number of fits, or a sequence of different seeds. Got \[\]"),
        ({"seeds": [1, 1]}, r"different seeds. Got \[1, 1\]"),
        ({"n_jobs": 0}, r"'n_jobs' parameter"),
        ({"test_share": 1.0}, r"'test_share' parameter"),
        ({"patchers": [FixedPatcher(4), FixedPatcher(4)]}, r"given once.*is given 2 times"),
        ({"patchers": ["recency"]}, r"needs a baseline. None of \['recency'\]"),
        ({"patchers": ["fixed", "random"]}, r"needs a challenger"),
        ({"patchers": ["fixed", "recent"]}, r"Unknown patcher 'recent'"),
        ({"baseline": "fixed 5"}, r"baseline must be one of the arms.*Did you mean 'fixed"),
        ({"patchers": {"a": FixedPatcher(0), "b": RecencyPatcher()}}, r"'patch_length'"),
    ],
)
def test_mistakes_are_reported_before_any_fit(change, message):
    arguments = {"patchers": ARMS, "progress": pytest.fail, **SMALL, **change}
    with pytest.raises(InvalidParameterError, match=message):
        compare(wave(), **arguments)


def test_arms_that_are_not_patchers_are_refused():
    with pytest.raises(TypeError, match=r"Patcher instances or registered names. Got 3"):
        make_arms([FixedPatcher(), 3], 24)


def test_error_for_too_few_test_rows_states_how_many_are_needed():
    message = r"needs 35 test rows.*has 30 test rows of 150.*Pass 175 rows"
    with pytest.raises(InvalidFrameError, match=message):
        compare(wave(150), ARMS, **SMALL)
    many = compare(
        wave(60, items=10), {k: ARMS[k] for k in ("fixed 4", "recency 8")}, seeds=1, **SMALL
    )
    assert many.settings["items_tested"] == 10


@pytest.mark.parametrize("context_length", [2, 5, 20, 48, 336])
def test_default_arms_fit_into_the_lookback(context_length):
    arms = make_arms(default_patchers(context_length), context_length)
    tokens = {arm.name: arm.patcher.capacity(context_length) for arm in arms}
    assert {arm.role for arm in arms} == {"baseline candidate", "challenger", "control"}
    for name, count in tokens.items():
        assert count == tokens[f"fixed {name.rpartition(' ')[2]}"]


def test_default_arms_hold_the_learned_patcher_and_its_control():
    patchers = default_patchers(336, thorough=True)
    arms = {arm.name: arm for arm in make_arms(patchers, 336)}
    assert list(arms) == [
        *("fixed 8", "fixed 16", "fixed 24", "fixed 48"),
        *("recency 16", "recency 24", "recency 48"),
        *("reinpatch 24", "reinpatch 48", "dynamic_chunking 24", "dynamic_chunking 48"),
        *("frozen 24", "frozen 48", "even_chunks 24", "even_chunks 48"),
        *("random 16", "random 24", "random 48"),
    ]
    for length in (24, 48):
        learned, frozen = arms[f"reinpatch {length}"], arms[f"frozen {length}"]
        assert (learned.role, frozen.role) == ("challenger", "control")
        assert frozen.patcher.gradient.learning_rate == 0
        frozen.patcher.gradient.set_params(learning_rate=3.0)
        assert repr(frozen.patcher) == repr(learned.patcher)  # no other difference
        chunks, even = arms[f"dynamic_chunking {length}"], arms[f"even_chunks {length}"]
        assert (chunks.role, even.role) == ("challenger", "control")
        assert repr(even.patcher.set_params(router="calibrated")) == repr(chunks.patcher)
    assert not any(name.startswith("frozen") for name in default_patchers(336, ["recency"]))


def test_arms_have_one_rate_by_default():
    assert list(default_patchers(336)) == [
        *("fixed 8", "fixed 16", "fixed 24", "fixed 48"),
        *("recency 24", "reinpatch 24", "dynamic_chunking 24"),
        *("frozen 24", "even_chunks 24", "random 24"),
    ]


def test_a_learned_patcher_is_compared_with_its_control():
    rein = {"gradient": GroupPolicyGradient(num_samples=2)}
    still = {"gradient": GroupPolicyGradient(learning_rate=0)}
    arms = {"fixed": ARMS["fixed 8"], "new": ReinPatcher(8, **rein), "old": ReinPatcher(8, **still)}
    result = compare(wave(), arms, seeds=1, **SMALL)
    assert result.table.role.tolist()[:3] == ["baseline candidate", "challenger", "control"]
    assert result.headline == "new"
    assert result.table.tokens.tolist()[:3] == [3, 3, 3]
    assert result.controls["the same patcher without learning"] == "run: old"


def test_a_class_is_a_challenger_under_its_own_name():
    class Mine(DeviationPatcher):
        name = "mine"

    arms = default_patchers(96, ["recency", Mine], thorough=True)
    assert [name for name in arms if name.startswith("mine")] == ["mine 16", "mine 24", "mine 48"]
    assert isinstance(arms["mine 24"], Mine)
    assert arms["mine 24"].budget == "exact"
    for taken in ("fixed", "random", "frozen", "even_chunks", "recency"):
        Mine.name = taken
        with pytest.raises(
            InvalidParameterError, match=f"has the name '{taken}', which another arm has"
        ):
            default_patchers(96, ["recency", Mine])
    with pytest.raises(InvalidParameterError, match="PeriodicPatcher has none"):
        default_patchers(96, [PeriodicPatcher])


def test_unknown_challengers_are_refused():
    with pytest.raises(InvalidParameterError, match=r"Unknown patcher 'recenty'"):
        default_patchers(48, ["recenty"])
