"""Fits that go on: resumed, fine-tuned, refitted as time goes by, ended by Ctrl-C."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    PatchTSTBackbone,
    Trainer,
    WindowRegressor,
    model_folder,
)
from adaptivepatch.errors import OutputExistsError
from adaptivepatch.estimators.resuming import digest_of_weights
from adaptivepatch.training import checkpoint
from adaptivepatch.training.trainer import ForecastLoop
from tests.builders import daily_frame
from tests.unit.estimators.fit_worker import TRAINED, forecaster, to_be_killed

ROOT = Path(__file__).parents[3]
FRAME = daily_frame()
PATIENCE = 280  # seconds for a process, on a machine that may be busy


def state(model):
    return model.network_.state_dict()


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


class Stop(Exception):
    """Raised by a callback in place of a crash."""


@functools.cache  # fitted once, then only read
def uninterrupted(other="random"):
    return forecaster(**OTHERS[other]).fit(FRAME)


def stop_at(number):
    def callback(step, metrics):
        if step >= number:
            raise Stop

    return callback


def work(folder, mode, *rest, **options):
    command = [sys.executable, "-m", "tests.unit.estimators.fit_worker", str(folder), mode]
    return subprocess.Popen([*command, *map(str, rest)], cwd=ROOT, **options)


# ------------------------------------------------------------------------------- resume


OTHERS = {
    "random": {},
    "patchtst": {"backbone": PatchTSTBackbone(d_model=8, num_layers=1)},
    # Delay, learning and rest of the policy lie in what is resumed.
    "reinpatch": {"patcher": TRAINED["reinpatch"]},
    "chunking": {"patcher": TRAINED["chunking"]},
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("stop", [7, 28, 30])
def test_a_stopped_fit_goes_on_to_the_same_bits(tmp_path, other, stop):
    model, whole = forecaster(**OTHERS[other]), uninterrupted(other)
    with pytest.raises(Stop):
        clone(model).fit(FRAME, checkpoint=tmp_path, callback=stop_at(stop))
    torch.rand(5)
    resumed = clone(model).fit(FRAME, resume=tmp_path)
    assert_same_bits(state(resumed), state(whole))
    assert resumed.record_.best_step == whole.record_.best_step
    losses = [entry["validation_loss"] for entry in whole.record_.history]
    assert [entry["validation_loss"] for entry in resumed.record_.history] == losses
    pd.testing.assert_frame_equal(resumed.predict(), whole.predict(), check_exact=True)


def test_checkpoints_change_nothing_and_a_finished_fit_is_read_back(tmp_path):
    whole = uninterrupted()
    kept = forecaster().fit(FRAME, checkpoint=tmp_path)
    assert_same_bits(state(kept), state(whole))
    steps = []
    again = forecaster().fit(FRAME, resume=tmp_path, callback=lambda step, _: steps.append(step))
    assert_same_bits(state(again), state(whole))
    assert steps == []  # nothing was left to do


def test_the_refit_is_resumed_too(tmp_path, monkeypatch):
    whole = uninterrupted()
    write, written = checkpoint.CheckpointFile.write, []

    def write_or_stop(file, now):
        write(file, now)
        written.append(file.path.name)
        if written.count("refit.safetensors") == 2:
            raise Stop

    monkeypatch.setattr(checkpoint.CheckpointFile, "write", write_or_stop)
    with pytest.raises(Stop):
        forecaster().fit(FRAME, checkpoint=tmp_path)
    monkeypatch.undo()
    assert_same_bits(state(forecaster().fit(FRAME, resume=tmp_path)), state(whole))


def test_patience_ends_a_resumed_fit_where_it_ended(tmp_path):
    trainer = Trainer(max_steps=200, validate_every=3, patience=2, learning_rate=0.05, device="cpu")
    whole = forecaster(trainer=trainer).fit(FRAME)
    assert whole.record_.num_steps < 200
    stop = stop_at(whole.record_.num_steps)  # after the last validation
    with pytest.raises(Stop):
        forecaster(trainer=trainer).fit(FRAME, checkpoint=tmp_path, callback=stop)
    resumed = forecaster(trainer=trainer).fit(FRAME, resume=tmp_path)
    assert resumed.record_.num_steps == whole.record_.num_steps
    assert_same_bits(state(resumed), state(whole))


def test_without_validation_a_fit_is_resumed(tmp_path):
    short = daily_frame(rows=12)
    with pytest.warns(UserWarning, match="hold out"):
        whole = forecaster().fit(short)
    with pytest.warns(UserWarning, match="hold out"), pytest.raises(Stop):
        forecaster().fit(short, checkpoint=tmp_path, callback=stop_at(14))
    with pytest.warns(UserWarning, match="hold out"):
        resumed = forecaster().fit(short, resume=tmp_path)
    assert_same_bits(state(resumed), state(whole))


def test_an_open_seed_is_that_of_the_checkpoint(tmp_path):
    model = forecaster(random_state=None)
    with pytest.raises(Stop):
        clone(model).fit(FRAME, checkpoint=tmp_path, callback=stop_at(14))
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("*.safetensors"):
        (copy / file.name).write_bytes(file.read_bytes())
    one = clone(model).fit(FRAME, resume=tmp_path)
    assert_same_bits(state(clone(model).fit(FRAME, resume=copy)), state(one))


@pytest.mark.parametrize(
    "patcher",
    ["reinpatch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("random", "chunking"))],
)
def test_a_kill_inside_a_checkpoint_write_loses_one_checkpoint(tmp_path, patcher):
    worker = work(tmp_path, "checkpoint", 4, patcher)
    assert worker.wait(timeout=PATIENCE) == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in left if not name.startswith(".")] == ["train.safetensors"]
    assert len(left) == 2  # the unfinished write is beside it
    done = checkpoint.read_state(tmp_path / "train.safetensors").facts["record"]
    assert done["num_steps"] == 6  # of writes at steps 0, 3, 6 and the killed 9
    resumed = to_be_killed(patcher).fit(FRAME, resume=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert_same_bits(state(resumed), state(to_be_killed(patcher).fit(FRAME)))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # seven processes, on a machine that may be busy
def test_five_kills_later_the_weights_are_the_same(tmp_path):
    """Four kills at random moments, one inside a checkpoint write, each going on from the last."""
    moments, kills = random.Random(time.time_ns()), []
    folder, file = tmp_path / "checkpoints", tmp_path / "checkpoints" / "train.safetensors"
    for number in range(5):
        mode = "resume" if number else "checkpoint"
        before = file.stat().st_mtime_ns if file.exists() else None
        worker = work(folder, mode, 3) if number == 2 else work(folder, mode)
        if number != 2:
            while not file.exists() or file.stat().st_mtime_ns == before:
                assert worker.poll() is None, "the fit ended before it could be killed"
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.3))
            worker.kill()
        assert worker.wait(timeout=PATIENCE) == -signal.SIGKILL
        kills.append(checkpoint.read_state(file).facts["record"]["num_steps"])
    assert work(folder, "resume").wait(timeout=PATIENCE) == 0
    assert work(tmp_path / "whole", "checkpoint").wait(timeout=PATIENCE) == 0
    print("killed with checkpoints of steps", kills)
    assert kills == sorted(kills)
    one, other = (Forecaster.load(f / "model") for f in (folder, tmp_path / "whole"))
    assert_same_bits(state(one), state(other))


def test_resuming_another_fit_is_refused(tmp_path):
    with pytest.raises(Stop):
        forecaster().fit(FRAME, checkpoint=tmp_path, callback=stop_at(7))
    begin = r"resumed with the data and settings that it began with\. Since the checkpoint in .*, "
    for changed, frame, message in [
        (forecaster(horizon=5), FRAME, "horizon was 6 and is 5"),
        (forecaster(random_state=4), FRAME, r"seed was \d+ and is \d+"),
        (forecaster(), FRAME + 1, "the data have changed"),
        (forecaster(patcher=FixedPatcher(4)), FRAME, "patcher was .*random.* and is .*fixed"),
        (
            forecaster(trainer=Trainer(max_steps=31, validate_every=7, batch_size=8, device="cpu")),
            FRAME,
            "trainer.max_steps was 30 and is 31",
        ),
    ]:
        with pytest.raises(InvalidParameterError, match=begin + message):
            changed.fit(frame, resume=tmp_path)
    with pytest.raises(InvalidParameterError, match="refit was True and is False"):
        forecaster().fit(FRAME, resume=tmp_path, refit=False)


def test_checkpoint_folders_are_not_mixed_up(tmp_path):
    with pytest.raises(InvalidModelError, match=r"there is no 'train.safetensors' in .*Pass check"):
        forecaster().fit(FRAME, resume=tmp_path)
    with pytest.raises(Stop):
        forecaster().fit(FRAME, checkpoint=tmp_path, callback=stop_at(7))
    with pytest.raises(OutputExistsError, match=r"already\. Pass resume=\.\.\. to continue"):
        forecaster().fit(FRAME, checkpoint=tmp_path)
    with pytest.raises(InvalidParameterError, match=r"either 'checkpoint', to begin, or 'resume'"):
        forecaster().fit(FRAME, checkpoint=tmp_path, resume=tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-40]), "is damaged or not a checkpoint"),
        (lambda file: file.write_bytes(b"PK\x03\x04" * 9), "is damaged or not a checkpoint"),
        (lambda file: file.write_bytes(b""), "is damaged or not a checkpoint"),
        (
            lambda file: model_folder.save_file({"a": torch.ones(1)}, file),
            "is not a checkpoint: its header lacks",
        ),
        (
            lambda file: model_folder.save_file(
                {"a": torch.ones(1)}, file, {"adaptivepatch": '{"format": 99, "identity": {}}'}
            ),
            "is a checkpoint of format 99, but this version reads only formats up to 1",
        ),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, damage, message):
    with pytest.raises(Stop):
        forecaster().fit(FRAME, checkpoint=tmp_path, callback=stop_at(7))
    damage(tmp_path / "train.safetensors")
    with pytest.raises(InvalidModelError, match=message):
        forecaster().fit(FRAME, resume=tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    whole = uninterrupted()
    save, calls = model_folder.save_file, []

    def full(*arguments):
        save(*arguments)
        calls.append(None)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "save_file", full)
    with pytest.raises(OSError, match="No space left on device"):
        forecaster().fit(FRAME, checkpoint=tmp_path)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["train.safetensors"]
    assert_same_bits(state(forecaster().fit(FRAME, resume=tmp_path)), state(whole))


# ------------------------------------------------------------------------------- Ctrl-C


@pytest.fixture(autouse=True)
def ctrl_c_counts():
    """Deliver SIGINT as Ctrl-C, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(number):
    def callback(step, metrics):
        if step >= number:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


def test_ctrl_c_keeps_the_best_model_and_says_how_to_go_on(tmp_path):
    with pytest.warns(UserWarning, match=r"interrupted at step 14 of 30.*resume='.*'\.$") as seen:
        model = forecaster().fit(FRAME, checkpoint=tmp_path, callback=interrupt_at(14))
    assert seen[0].filename == __file__
    assert model.record_.interrupted
    assert model.record_.best_step in (7, 14)
    assert len(model.predict()) == 12
    best = min(entry["validation_loss"] for entry in model.record_.history)
    assert model.record_.best_loss == best
    resumed = forecaster().fit(FRAME, resume=tmp_path)
    assert not resumed.record_.interrupted
    assert_same_bits(state(resumed), state(uninterrupted()))


def test_ctrl_c_in_the_refit_keeps_the_selected_model(monkeypatch):
    selected = forecaster().fit(FRAME, refit=False)
    next_step = ForecastLoop.next_step

    def step_or_interrupt(loop, done):
        if loop.is_repeat and done == 3:
            raise KeyboardInterrupt
        return next_step(loop, done)

    monkeypatch.setattr(ForecastLoop, "next_step", step_or_interrupt)
    with pytest.warns(UserWarning, match=r"again on all rows was.*Next time pass checkpoint="):
        model = forecaster().fit(FRAME)
    assert model.record_.interrupted
    assert_same_bits(state(model), state(selected))


def test_ctrl_c_before_the_first_validation_ends_the_fit(monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ForecastLoop, "next_step", interrupted)
    earlier = forecaster()
    with pytest.raises(KeyboardInterrupt):
        earlier.fit(FRAME)
    assert not hasattr(earlier, "model_")


def test_ctrl_c_stops_the_array_face(monkeypatch):
    values = np.random.default_rng(0).normal(size=(60, 30))
    model = WindowRegressor(trainer=Trainer(max_steps=10, validate_every=1), random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(values[:, :24], values[:, 24:], callback=interrupt_at(2))


# ------------------------------------------------------------------------------- fine-tuning


def test_fine_tuning_begins_with_the_weights_of_the_model(tmp_path):
    trainer = Trainer(max_steps=10, validate_every=5, learning_rate=1e-12, device="cpu")
    model = uninterrupted()
    folder = model.save(tmp_path / "model")
    other = daily_frame(channels=("x", "y", "z"), seed=5)
    tuned = forecaster(trainer=trainer).fit(other, init=folder)
    for name, value in state(tuned).items():
        torch.testing.assert_close(value, state(model)[name], rtol=0, atol=1e-9)
    assert tuned.channels_ == ("x", "y", "z")
    assert tuned.record_.history[0]["step"] == 0
    assert "train_loss" not in tuned.record_.history[0]


def test_fine_tuning_never_ends_worse_on_validation():
    model = forecaster().fit(FRAME, refit=False)
    harmful = Trainer(max_steps=6, validate_every=2, learning_rate=10.0, device="cpu")
    tuned = forecaster(trainer=harmful).fit(FRAME, init=model)
    assert tuned.record_.best_step == 0
    assert_same_bits(state(tuned), state(model))


def test_fine_tuning_helps_on_little_data():
    source = forecaster(trainer=Trainer(max_steps=120, learning_rate=3e-3, device="cpu"))
    source.fit(daily_frame(rows=600, seed=1))
    few = daily_frame(rows=60, seed=2)
    later = daily_frame(rows=400, seed=2)
    brief = Trainer(max_steps=10, learning_rate=1e-4, device="cpu")
    tuned = forecaster(trainer=brief).fit(few, init=source)
    scratch = forecaster(trainer=brief).fit(few)
    start = later.index[60]
    assert tuned.backtest(later, start=start).mase() < scratch.backtest(later, start=start).mase()


def test_the_model_itself_goes_on(tmp_path):
    model = forecaster().fit(FRAME[:200])
    before = {name: value.clone() for name, value in state(model).items()}
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    one, other = model.fit(FRAME, init=model), loaded.fit(FRAME, init=loaded)
    assert_same_bits(state(one), state(other))
    assert not all(torch.equal(before[name], state(one)[name]) for name in before)


def test_fine_tuning_is_resumed_to_the_same_bits(tmp_path):
    model = forecaster().fit(FRAME[:200])
    whole = forecaster().fit(FRAME, init=model)
    with pytest.raises(Stop):
        forecaster().fit(FRAME, init=model, checkpoint=tmp_path, callback=stop_at(14))
    model.fit(FRAME + 1)  # the weights to begin with are kept in the folder
    assert_same_bits(state(forecaster().fit(FRAME, init=model, resume=tmp_path)), state(whole))
    assert_same_bits(state(forecaster().fit(FRAME, resume=tmp_path)), state(whole))


def test_initial_weights_of_an_earlier_run_are_not_taken(tmp_path):
    first, second = forecaster().fit(FRAME[:200]), forecaster(random_state=9).fit(FRAME[:200])
    whole = forecaster().fit(FRAME, init=second)
    with pytest.raises(Stop):
        forecaster().fit(FRAME, init=first, checkpoint=tmp_path, callback=stop_at(7))
    (tmp_path / "train.safetensors").unlink()  # as if killed before it was written
    with pytest.raises(Stop):
        forecaster().fit(FRAME, init=second, checkpoint=tmp_path, callback=stop_at(7))
    assert_same_bits(state(forecaster().fit(FRAME, resume=tmp_path)), state(whole))


def test_fine_tuning_with_counters_among_the_weights_is_resumed(tmp_path):
    small = PatchTSTBackbone(d_model=8, num_layers=1, num_heads=2, d_ff=16)
    model = forecaster(backbone=small).fit(FRAME[:200])  # BatchNorm counts, in int64
    with pytest.raises(Stop):
        clone(model).fit(FRAME, init=model, checkpoint=tmp_path, callback=stop_at(7))
    whole = clone(model).fit(FRAME, init=model)
    assert_same_bits(state(clone(model).fit(FRAME, resume=tmp_path)), state(whole))


def test_a_digest_of_initial_weights_follows_their_values():
    one, other = ({"a": torch.ones(3), "b": torch.full((2,), value)} for value in (0.0, 1.0))
    assert digest_of_weights(one) == digest_of_weights(dict(reversed(one.items())))
    assert digest_of_weights(one) != digest_of_weights(other)
    assert digest_of_weights(None) is None


def test_a_fit_without_initial_weights_is_not_resumed_with_some(tmp_path):
    with pytest.raises(Stop):
        forecaster().fit(FRAME, checkpoint=tmp_path, callback=stop_at(7))
    with pytest.raises(InvalidParameterError, match="init was None and is '.*'"):
        forecaster().fit(FRAME, init=forecaster().fit(FRAME[:100]), resume=tmp_path)


def test_the_refit_of_another_fit_is_never_taken(tmp_path):
    forecaster().fit(FRAME, checkpoint=tmp_path)
    (tmp_path / "train.safetensors").unlink()
    with pytest.raises(OutputExistsError, match="holds a checkpoint already"):
        forecaster().fit(FRAME + 1, checkpoint=tmp_path)
    other = tmp_path / "other"
    with pytest.raises(Stop):
        forecaster().fit(FRAME + 1, checkpoint=other, callback=stop_at(7))
    (tmp_path / "refit.safetensors").rename(other / "refit.safetensors")
    with pytest.raises(
        InvalidModelError, match="the state of a run with different data or settings"
    ):
        forecaster().fit(FRAME + 1, resume=other)


def test_another_shape_cannot_be_fine_tuned(tmp_path):
    model = uninterrupted()
    begin = r"needs a model of the same shape[.,] .*"
    for changed, message in [
        (
            forecaster(horizon=5),
            "horizon of the model is 6, but .* this forecaster is 5",
        ),
        (
            forecaster(context_length=30),
            "context_length .* is 24, but .* this forecaster is 30",
        ),
        (forecaster(patcher=FixedPatcher(4)), "patcher of the model is .*random.*fixed"),
        (
            forecaster(backbone=PatchTSTBackbone()),
            "backbone of .*transformer.*patchtst",
        ),
        (forecaster(quantiles=[0.1, 0.5, 0.9]), r"quantiles of the model is None, .*is \(0.1"),
        (forecaster(values_per_patch=3), "weights of the model do not fit"),
    ]:
        with pytest.raises(InvalidParameterError, match=begin + message):
            changed.fit(FRAME, init=model)
    with pytest.raises(TypeError, match="must be a fitted Forecaster or the folder .* an unfitted"):
        forecaster().fit(FRAME, init=forecaster())
    with pytest.raises(TypeError, match=r"must be a fitted Forecaster .*Got 3 instead"):
        forecaster().fit(FRAME, init=3)
    with pytest.raises(InvalidModelError, match="Pass the folder of a saved model"):
        forecaster().fit(FRAME, init=tmp_path / "absent")


# ------------------------------------------------------------------------------- refits


def test_refits_use_all_rows_before_each_block():
    start, every = FRAME.index[230], 10
    model = forecaster().fit(FRAME[:150])
    weights = {name: value.clone() for name, value in state(model).items()}
    result = model.backtest(FRAME, start=start, refit_every=every)
    assert len(result) == 260 - 230 - 6 + 1
    for block in range(3):
        first = 230 + block * every
        alone = forecaster().fit(FRAME[:first])
        expected = alone.backtest(FRAME[: first + every + 6 - 1], start=FRAME.index[first])
        rows = slice(block * every, block * every + len(expected))
        np.testing.assert_array_equal(result.prediction[rows], expected.prediction[:every])
        np.testing.assert_array_equal(result.naive_scale[rows], expected.naive_scale[:every])
        np.testing.assert_array_equal(result.actual[rows], expected.actual[:every])
    assert_same_bits(state(model), weights)  # the fitted model is not changed


def test_refits_repeat_the_arguments_of_fit_also_after_loading(tmp_path):
    model = forecaster().fit(FRAME[:150], refit=False, validation_rows=20)
    loaded = Forecaster.load(model.save(tmp_path / "model"))
    start = FRAME.index[250]
    result = model.backtest(FRAME, start=start, refit_every=100)
    alone = forecaster().fit(FRAME[:250], refit=False, validation_rows=20)
    expected = alone.backtest(FRAME, start=start)
    np.testing.assert_array_equal(result.prediction, expected.prediction)
    again = loaded.backtest(FRAME, start=start, refit_every=100)
    np.testing.assert_array_equal(again.prediction, result.prediction)


def test_refits_follow_the_calendar_of_items_of_different_length():
    late = daily_frame(rows=120, channels=("y",), seed=1)
    late.index = late.index + pd.Timedelta(hours=140)
    parts = {"early": daily_frame(rows=260, channels=("y",)), "late": late}
    frame = pd.concat(
        [
            part.rename_axis("timestamp").reset_index().assign(item_id=id_)
            for id_, part in parts.items()
        ],
        ignore_index=True,
    )
    model = forecaster().fit(frame)
    start = parts["early"].index[142]  # two rows of the late item: too few to train on
    result = model.backtest(frame, start=start, refit_every=60)
    plain = model.backtest(frame, start=start)
    assert len(result) == len(plain)
    assert result.cutoff.equals(plain.cutoff)
    late_scale = result.naive_scale[result.item_id == "late"][:, 0]
    early_block = result.cutoff[result.item_id == "late"] < start + pd.Timedelta(hours=59)
    assert np.isnan(late_scale[early_block]).all()  # not met in that training
    assert np.isfinite(late_scale[~early_block]).all()


def test_refits_need_a_start_and_rows_before_it():
    model = uninterrupted()
    with pytest.raises(InvalidParameterError, match=r"Got start=None\. Pass start"):
        model.backtest(FRAME, refit_every=10)
    with pytest.raises(InvalidFrameError, match=r"at least 8 earlier rows.*longest series has 5"):
        model.backtest(FRAME[:20], start=FRAME.index[5], refit_every=10)
    with pytest.raises(InvalidParameterError, match="'refit_every'.*Got 0"):
        model.backtest(FRAME, start=FRAME.index[200], refit_every=0)
