"""`compare` selects on validation, forecasts the test part once, and claims only what it shows."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from adaptivepatch import (
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
from adaptivepatch.comparison import compare as module
from adaptivepatch.comparison import fits
from adaptivepatch.comparison.arms import default_patchers, fit_seed, make_arms
from adaptivepatch.comparison.fits import ArmRuns
from adaptivepatch.comparison.result import conclude
from adaptivepatch.data.frame import read_frame
from adaptivepatch.data.windows import make_windows

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


def test_table_has_a_row_per_arm_and_runs_one_per_seed(found):
    assert found.table.arm.tolist() == list(ARMS)
    assert found.table.role.tolist() == [*["baseline candidate"] * 2, "challenger", "control"]
    assert found.table.tokens.tolist() == [6, 3, 3, 3]
    assert found.table.compression_rate.tolist() == [4, 8, 8, 8]
    assert len(found.runs) == 8
    assert found.table.equal_tokens_arm.tolist()[2:] == ["fixed 8", "fixed 8"]


def test_every_test_window_counts_and_errors_are_their_means(found):
    assert found.settings["test_windows"] == 60 - 6 + 1  # a fifth of 300 rows, horizon 6
    assert found.settings["stride"] == 1
    for row in found.table.itertuples():
        losses = found.losses[row.arm]
        assert losses.shape == (2, 55)
        assert losses.mean() == pytest.approx(row.test_error)
        of_arm = found.runs[found.runs.arm == row.arm]
        assert losses.mean(axis=1) == pytest.approx(of_arm.test_error.to_numpy())


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
    assert found.verdict.startswith("Exploratory, as 2 seed(s) are fewer than 5")
    assert "helps" not in found.table.verdict.tolist()


def test_missing_controls_are_named(found):
    assert found.controls["random boundaries of as many tokens"] == "run: random 8"
    assert found.controls["learned patchers"].startswith("missing")
    assert found.controls["boundaries at entropy quantiles, of as many tokens"].startswith(
        "missing"
    )


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
    assert [event[:2] for event in events] == [(k, 8) for k in range(1, 9)] * 2


def test_twins_have_different_random_streams():
    twins = {"once": FixedPatcher(8), "again": FixedPatcher(8)}
    result = compare(wave(), twins, baseline="once", seeds=1, **SMALL)
    assert result.table.role.tolist() == ["baseline candidate", "challenger"]
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


def test_very_many_windows_are_thinned_and_the_stride_is_stated(monkeypatch):
    monkeypatch.setattr(module, "MAX_TEST_ROWS", 20)
    arms = {"fixed 4": ARMS["fixed 4"], "recency 8": ARMS["recency 8"]}
    result = compare(wave(), arms, seeds=1, **SMALL)
    assert result.settings["stride"] == 3
    assert result.settings["test_windows"] == 19
    assert result.settings["block_length"] >= SMALL["horizon"]


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
    name, role, error, *, tokens=3.0, validation=None, cost=1.0, seeds=5, noise=0.002, learned=None
):
    rng = np.random.default_rng(len(name))
    spread = 1 + noise * np.array([-1.5, -0.5, 0.0, 0.5, 1.5])[:seeds, None]
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
        validation_error=np.full(seeds, error if validation is None else validation),
        best_step=np.ones(seeds, dtype=np.int64),
        fit_seconds=np.full(seeds, cost),
        predict_seconds=np.full(seeds, cost),
    )


def verdict_of(*arms):
    panel = read_frame(wave())
    windows = make_windows(panel, 24, 6, targets_from=240)
    settings = {
        "horizon": 6,
        "stride": 1,
        "confidence": 0.95,
        "metric": "MSE",
        "context_length": 24,
    }
    return conclude(list(arms), list(range(5)), windows, np.ones(55), settings)


FIXED = ("fixed", "baseline candidate", 1.0)


def test_better_challenger_helps():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9, cost=2.0))
    start = "new helps by 9.7 % [9.2 %, 10.2 %] at 2.0 times the cost: its MSE is lower than that"
    assert result.verdict.startswith(start)
    assert result.verdict.endswith("best fixed arm on validation and of as many tokens.")
    assert result.table.verdict.tolist() == ["baseline", "helps"]


def test_worse_challenger_hurts():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 1.1))
    assert result.verdict.startswith("new hurts by ")
    assert "its MSE is higher than that of fixed" in result.verdict


def test_equal_challenger_has_no_evidence():
    result = verdict_of(arm(*FIXED, noise=0.05), arm("new", "challenger", 0.99, noise=0.05))
    assert result.verdict.startswith("No evidence that new helps: its MSE is ")


def test_gain_that_random_boundaries_have_too_is_not_called_placement():
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9), arm("random", "control", 0.9))
    assert "but random, the control, beats fixed too, so the gain is not specific" in result.verdict


@pytest.mark.parametrize(
    ("frozen", "noise", "text"),
    [
        (
            0.9,
            0.002,
            "but it is not significantly better than frozen, the same policy without learning (0.",
        ),
        (0.8, 0.002, "but frozen, the same policy without learning, is better still: the gain is "),
        (1.0, 0.2, "the gain may be that of the sampling noise"),
        (1.0, 0.002, None),
    ],
)
def test_gain_of_a_policy_that_never_learned_is_not_called_learning(frozen, noise, text):
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9, learned="reinpatch"),
        arm("frozen", "control", frozen, learned="reinpatch", noise=noise),
        arm("random", "control", 1.1),
    )
    assert result.verdict.startswith("new helps by 9.7 %")
    assert text in result.verdict if text else "frozen" not in result.verdict
    assert ("the gain is that of the sampling noise" in result.verdict) == (frozen < 1)
    assert "random" not in result.verdict
    assert result.controls["the same patcher without learned boundaries"] == "run: frozen"
    assert result.controls["learned patchers"] == "run: new"
    assert result.controls["random boundaries of as many tokens"] == "run: random"
    assert result.settings["comparisons"] == 3


@pytest.mark.parametrize(("even", "expected"), [(0.9, True), (1.0, False)])
def test_gain_of_even_chunks_is_that_of_the_network(even, expected):
    result = verdict_of(
        arm(*FIXED),
        arm("chunks", "challenger", 0.9, learned="dynamic_chunking"),
        arm("even", "control", even, learned="dynamic_chunking"),
        arm("frozen", "control", 0.8, learned="reinpatch"),  # belongs to another patcher
    )
    assert "frozen" not in result.verdict
    text = "not significantly better than even, the same network with even patches ("
    assert (text in result.verdict) == expected
    assert ("the gain is that of the network" in result.verdict) == expected


def test_gain_of_an_unlearned_patcher_of_the_user_is_reported():
    result = verdict_of(
        arm(*FIXED),
        arm("mine", "challenger", 0.9, learned="mine"),
        arm("still", "control", 0.9, learned="mine"),
    )
    text = "not significantly better than still, the same patcher without learned boundaries ("
    assert text in result.verdict
    assert "the gain is that of something other than learning them" in result.verdict


def test_frozen_control_is_not_used_for_patchers_that_do_not_learn():
    result = verdict_of(
        arm(*FIXED),
        arm("new", "challenger", 0.9),
        arm("frozen", "control", 0.9, learned="reinpatch"),
    )
    assert "frozen" not in result.verdict


def test_entropy_boundaries_are_a_control_if_their_tokens_are_equal():
    entropy = arm("entropy", "challenger", 1.1)._replace(kind="entropy")
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9), entropy)
    assert result.controls["boundaries at entropy quantiles, of as many tokens"] == "run: entropy"
    result = verdict_of(arm(*FIXED), arm("new", "challenger", 0.9), entropy._replace(tokens=4.0))
    assert result.controls["boundaries at entropy quantiles, of as many tokens"].startswith("miss")


def test_headline_is_chosen_on_validation_not_on_the_test_part():
    result = verdict_of(
        arm(*FIXED, validation=1.0),
        arm("lucky", "challenger", 0.8, validation=1.2),
        arm("chosen", "challenger", 1.0, validation=0.9),
    )
    assert result.headline == "chosen"
    assert result.table.set_index("arm").verdict["lucky"] == "helps"


def test_best_fixed_arm_must_be_beaten_and_the_one_of_equal_tokens_is_reported():
    result = verdict_of(
        arm("fine", "baseline candidate", 0.8, tokens=6.0),
        arm("coarse", "baseline candidate", 1.0, tokens=3.0),
        arm("new", "challenger", 0.9, tokens=3.0),
    )
    assert result.verdict.startswith("new hurts by 12.")
    assert "below coarse, of as many tokens" in result.verdict


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
    assert saved["verdict"] == found.verdict
    assert saved["table"][0]["arm"] == "fixed 4"
    assert saved["table"][0]["low"] is None
    assert pd.read_csv(folder / "table.csv").arm.tolist() == list(ARMS)
    with pytest.raises(InvalidParameterError, match=r"only with overwrite=True.*holds table.csv"):
        found.save(folder)
    found.save(folder, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match=r"is a file"):
        found.save(tmp_path / "file")


def test_figure_has_every_seed_of_every_arm(found):
    errors, differences, cost = found.plot().axes
    dots = [line for line in errors.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [2] * 4
    assert [label.get_text() for label in errors.get_yticklabels()] == list(ARMS)
    assert len(differences.collections) == 2  # intervals of challenger and control
    assert len(cost.lines) == 9


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
    arms = {arm.name: arm for arm in make_arms(None, 336)}
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


def test_a_learned_patcher_is_compared_with_its_control():
    rein = {"gradient": GroupPolicyGradient(num_samples=2)}
    still = {"gradient": GroupPolicyGradient(learning_rate=0)}
    arms = {"fixed": ARMS["fixed 8"], "new": ReinPatcher(8, **rein), "old": ReinPatcher(8, **still)}
    result = compare(wave(), arms, seeds=1, **SMALL)
    assert result.table.role.tolist() == ["baseline candidate", "challenger", "control"]
    assert result.headline == "new"
    assert result.table.tokens.tolist() == [3, 3, 3]
    assert result.controls["the same patcher without learned boundaries"] == "run: old"


def test_a_class_is_a_challenger_under_its_own_name():
    class Mine(DeviationPatcher):
        name = "mine"

    arms = default_patchers(96, ["recency", Mine])
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
