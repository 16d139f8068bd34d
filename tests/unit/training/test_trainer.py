from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone

from adaptivepatch.errors import AdaptivePatchError, InvalidParameterError
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.record import TrainingDivergedError, TrainingRecord, WindowSets
from adaptivepatch.training.sampler import ArraySource, SeriesSource
from adaptivepatch.training.schedules import make_schedule
from adaptivepatch.training.trainer import Trainer
from tests.builders import series_source, small_network

every_backbone = pytest.mark.parametrize("backbone", ["patchtst", "transformer"])


def fit(trainer=None, network=None, *, gaps=0.0, seed=0, validation=True, source=None, **options):
    network = small_network() if network is None else network
    dtype = next(network.parameters()).dtype
    made, windows = series_source(gaps=gaps, dtype=dtype)
    windows = made.learnable(windows)
    sets = WindowSets(windows[:40], windows[60:75] if validation else None)
    trainer = Trainer(max_steps=12, batch_size=8, device="cpu") if trainer is None else trainer
    source = made if source is None else source
    record = trainer.fit(network, source, sets, make_loss("mse"), seed=seed, **options)
    return network, record


def weights(network):
    return torch.cat([p.detach().double().flatten() for p in network.state_dict().values()])


class Scripted:
    """A source whose validation loss follows a script: targets are constant levels."""

    def __init__(self, losses, series):
        self.losses, self.series, self.calls = iter(losses), series, 0

    def batch(self, windows):
        batch = self.series.batch(windows % 50)
        if int(windows[0]) < 1000:
            return batch
        return batch._replace(target=torch.full_like(batch.target, next(self.losses)))


def scripted_fit(losses, network=None, **options):
    """Fit with validation targets so far away that their level alone makes the loss."""
    network = small_network() if network is None else network
    source = Scripted(losses, series_source()[0])
    options = {"max_steps": 20, "validate_every": 2, "batch_size": 8, "device": "cpu"} | options
    callback = options.pop("callback", None)
    record = Trainer(**options).fit(
        network,
        source,
        WindowSets(torch.arange(40), torch.arange(1000, 1004)),
        make_loss("mse"),
        seed=0,
        callback=callback,
    )
    return network, record


# ------------------------------------------------------------------------------- learning


@every_backbone
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_loss_falls(backbone, gaps):
    trainer = Trainer(max_steps=60, batch_size=16, learning_rate=5e-3, device="cpu")
    network, record = fit(trainer, small_network(backbone), gaps=gaps)
    losses = [row["train_loss"] for row in record.history]
    assert losses[-1] < 0.5 * losses[0]
    assert record.best_loss == min(row["validation_loss"] for row in record.history)
    assert not network.training


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.float32)],
)
@every_backbone
def test_all_precisions_work_in_one_process(precision, dtype, backbone):
    trainer = Trainer(max_steps=10, batch_size=8, device="cpu", precision=precision)
    for patcher in (None, RandomPatcher(4)):
        network, record = fit(trainer, small_network(backbone, patcher, dtype=dtype), gaps=0.2)
        assert all(p.dtype == dtype for p in network.parameters())
        assert math.isfinite(record.best_loss)


def test_precisions_agree():
    finals = {}
    for precision, dtype in (
        ("float64", torch.float64),
        ("float32", torch.float32),
        ("bfloat16", torch.float32),
    ):
        trainer = Trainer(max_steps=10, batch_size=8, device="cpu", precision=precision)
        finals[precision] = fit(trainer, small_network().to(dtype))[1].history[-1]["train_loss"]
    assert finals["float32"] == pytest.approx(finals["float64"], rel=1e-4)
    assert finals["bfloat16"] == pytest.approx(finals["float64"], rel=0.05)
    assert finals["bfloat16"] != finals["float32"]


# ------------------------------------------------------------------------------- randomness


@every_backbone
def test_same_seed_gives_the_same_bits(backbone):
    def run(seed):
        patcher = RandomPatcher(4)
        return weights(fit(network=small_network(backbone, patcher, dropout=0.2), seed=seed)[0])

    first = run(1)
    torch.rand(7)  # whatever the caller draws in between
    assert torch.equal(run(1), first)
    assert not torch.equal(run(2), first)


def test_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    fit(network=small_network(patcher=RandomPatcher(4), dropout=0.2))
    with pytest.raises(ZeroDivisionError):
        fit(network=small_network(dropout=0.2), callback=lambda step, metrics: 1 / 0)
    assert torch.equal(torch.get_rng_state(), torch_state)
    now = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, now, strict=True))


# ------------------------------------------------------------------------------- the record


def test_callback_gets_step_and_metrics():
    seen = []
    trainer = Trainer(max_steps=7, batch_size=8, validate_every=3, device="cpu")
    _, record = fit(trainer, callback=lambda step, metrics: seen.append((step, dict(metrics))))
    assert [step for step, _ in seen] == [3, 6, 7]
    keys = {"train_loss", "auxiliary_loss", "learning_rate", "validation_loss", "seconds"}
    assert all(set(metrics) == keys for _, metrics in seen)
    assert [row["step"] for row in record.history] == [3, 6, 7]
    assert {**seen[0][1], "step": 3.0} == record.history[0]
    assert (record.num_steps, record.total_steps, record.steps_per_epoch) == (7, 7, 5)
    assert record.seconds > 0


def test_errors_of_the_callback_propagate():
    class Stop(Exception):
        pass

    def callback(step, metrics):
        raise Stop(step)

    with pytest.raises(Stop, match="2"):
        fit(Trainer(max_steps=9, batch_size=8, validate_every=2, device="cpu"), callback=callback)


def test_without_validation_the_last_step_is_kept():
    _, record = fit(validation=False)
    assert (record.best_step, record.num_steps) == (12, 12)
    assert math.isnan(record.best_loss)
    assert "validation_loss" not in record.history[-1]


def test_validation_loss_is_that_of_the_kept_network():
    network, record = fit(gaps=0.3)
    source, windows = series_source(gaps=0.3)
    batch = source.batch(source.learnable(windows)[60:75])
    with torch.no_grad():
        errors = (network(batch.series, batch.observed) - batch.target).square()
    assert record.best_loss == pytest.approx(float(errors[batch.target_observed].mean()), rel=1e-9)


# ------------------------------------------------------------------------------- early stopping


def test_patience_stops_and_the_best_weights_come_back():
    states = []
    network = small_network("patchtst")  # BatchNorm statistics must come back, too

    def callback(step, metrics):
        states.append({k: v.clone() for k, v in network.state_dict().items()})

    _, record = scripted_fit([100, 80, 90, 95, 85, 1], network, patience=3, callback=callback)
    assert record.num_steps == 10  # validations at 2, 4 (best), 6, 8, 10
    assert record.best_step == 4
    for key, value in network.state_dict().items():
        assert torch.equal(value, states[1][key]), key
    assert not torch.equal(states[1]["head.projection.weight"], states[4]["head.projection.weight"])


def test_without_patience_all_steps_are_done():
    _, record = scripted_fit([100, 80, *[90] * 8])
    assert (record.num_steps, record.best_step) == (20, 4)


def test_patience_counts_from_the_last_improvement():
    _, record = scripted_fit([9, 10, 8, 10, 7, 10, 10, 1], patience=2)
    assert (record.num_steps, record.best_step) == (14, 10)


# ------------------------------------------------------------------------------- refit by plan


def test_a_plan_is_repeated_up_to_its_best_step():
    _, plan = scripted_fit([100, 80, *[90] * 8])
    trainer = Trainer(
        max_steps=20, validate_every=2, batch_size=8, learning_rate=1e-3, device="cpu"
    )
    seen = []
    network, record = fit(trainer, plan=plan, callback=lambda step, m: seen.append(m))
    assert (record.num_steps, record.best_step, record.total_steps) == (4, 4, 20)
    assert all("validation_loss" not in metrics for metrics in seen)
    # The schedule is that of the plan, not one squeezed into its best step.
    assert seen[-1]["learning_rate"] == pytest.approx(1e-3 * make_schedule("cosine")(3 / 20, 0))
    again, _ = fit(trainer, plan=TrainingRecord(best_step=4, total_steps=20, steps_per_epoch=5))
    assert torch.equal(weights(network), weights(again))


def test_a_plan_of_the_same_windows_gives_the_same_weights():
    network, plan = fit()
    again, record = fit(plan=plan)
    assert record.num_steps == plan.best_step
    assert torch.equal(weights(network), weights(again))


# ------------------------------------------------------------------------------- divergence


def test_a_diverging_training_loss_raises():
    trainer = Trainer(max_steps=50, batch_size=8, learning_rate=1e200, device="cpu")
    message = r"The training loss became nan by step \d+.*Lower learning_rate=1e\+200"
    with pytest.raises(TrainingDivergedError, match=message) as error:
        fit(trainer, validation=False)
    assert isinstance(error.value, AdaptivePatchError)
    assert isinstance(error.value, ArithmeticError)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_validation_loss_that_is_not_finite_raises(bad):
    with pytest.raises(TrainingDivergedError, match="validation loss became (nan|inf) by step 4"):
        scripted_fit([100, bad, 80])


# ------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize("name", ["cosine", "constant", "one_cycle", "patchtst"])
def test_learning_rate_follows_the_schedule(name):
    trainer = Trainer(
        max_epochs=6,
        batch_size=8,
        schedule=name,
        learning_rate=0.01,
        validate_every=1,
        device="cpu",
    )
    _, record = fit(trainer, validation=False)
    assert record.total_steps == 30
    schedule = make_schedule(name)
    for k, row in enumerate(record.history):
        assert row["learning_rate"] == pytest.approx(0.01 * schedule(k / 30, k / 5), rel=1e-12)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (8, 5, 300, 5)),
        ({"max_steps": 20}, (8, 5, 20, 2)),
        ({"max_steps": 5}, (8, 5, 5, 1)),
        ({"max_epochs": 3}, (8, 5, 15, 2)),
        ({"max_epochs": 3, "validate_every": 7}, (8, 5, 15, 7)),
        ({"batch_size": 1000}, (1000, 1, 300, 1)),
    ],
)
def test_lengths(options, expected):
    assert Trainer(**({"batch_size": 8} | options)).lengths(40) == expected


@pytest.mark.parametrize(
    ("options", "channels", "expected"),
    [
        ({}, 1, 256),
        ({}, 7, 37),  # 259 rows; 36 windows would have 252
        ({}, 862, 1),
        ({"batch_rows": 32}, 3, 11),
        ({"batch_size": 32}, 7, 32),
    ],
)
def test_a_batch_counts_rows_unless_windows_are_given(options, channels, expected):
    assert Trainer(**options).lengths(1000, channels).batch_size == expected


def test_the_default_number_of_steps_follows_the_rows():
    steps = [Trainer().lengths(windows, 4).total_steps for windows in (10, 2000, 3000, 10**6)]
    assert steps == [300, 625, 937, 1000]  # 20 epochs of 256 rows a step, from 300 to 1000


@pytest.mark.parametrize("validate_every", [1, 3, 50])
def test_validation_costs_at_most_its_share(validate_every):
    trainer = Trainer(max_steps=50, batch_size=4, validate_every=validate_every)
    lengths, windows = trainer.lengths(500), torch.arange(10_000) * 3
    kept = trainer.thinned(windows, lengths)
    times = math.ceil(50 / validate_every)
    # A step costs as much as three forecasts of its 4 rows; whole batches are validated on.
    assert len(kept) * times <= 0.2 * 50 * 4 * 3 + 4 * times
    gaps = kept.diff()
    assert [kept[0], kept[-1]] == [0, windows[-1]]
    assert gaps.max() - gaps.min() <= 3  # evenly spaced, up to rounding
    assert torch.equal(trainer.thinned(windows[:4], lengths), windows[:4])
    trainer.set_params(validation_share=None)
    assert trainer.thinned(windows, lengths) is windows


def test_the_record_tells_how_many_windows_are_validated_on():
    thin = Trainer(max_steps=4, batch_size=2, validate_every=1, device="cpu")
    _, record = fit(thin)
    assert 0 < record.num_validation_windows < record.num_held_out_windows
    whole = Trainer(max_steps=4, batch_size=2, validation_share=None, device="cpu")
    _, record = fit(whole)
    assert record.num_validation_windows == record.num_held_out_windows > 0


def record_of(losses, **changes):
    history = [{"step": float(k + 1), "validation_loss": loss} for k, loss in enumerate(losses)]
    best = min(range(len(losses)), key=losses.__getitem__)
    given = {"best_step": best + 1, "best_loss": losses[best], "num_steps": len(losses)}
    return TrainingRecord(history, total_steps=len(losses), **(given | changes))


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5, 4, 3, 2, 1], True),
        ([5, 4, 3, 1.005, 1], False),  # it has all but ended
        ([5, 4, 3, 1, 2], False),  # the best step is not the last
    ],
)
def test_a_loss_that_still_falls_is_found(losses, expected):
    assert record_of(losses).is_still_falling is expected
    assert not record_of(losses, interrupted=True).is_still_falling


def test_gradient_clip_and_weight_decay_act():
    plain = weights(fit()[0])
    for option in ({"gradient_clip": 1e-4}, {"weight_decay": 0.5}):
        trainer = Trainer(max_steps=12, batch_size=8, device="cpu", **option)
        assert not torch.equal(weights(fit(trainer)[0]), plain)


# ------------------------------------------------------------------------------- errors


def test_defaults_are_valid_and_clone():
    Trainer().check()
    trainer = Trainer(max_epochs=3, patience=2, gradient_clip=1.0)
    assert clone(trainer).get_params() == trainer.get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, r"'max_steps' parameter of Trainer must be an int in the range \[1"),
        ({"max_epochs": 1.5}, "'max_epochs'.*Got 1.5 instead"),
        ({"batch_size": 0}, r"'batch_size'.*\[1, inf\). Got 0"),
        ({"batch_size": 8, "batch_rows": 8}, "either 'batch_rows' or 'batch_size'"),
        ({"validation_share": 0}, r"'validation_share'.*\(0, inf\). Got 0"),
        ({"batch_size": True}, "'batch_size'.*Got True"),
        ({"patience": -1}, "'patience'.*Got -1"),
        ({"validate_every": "2"}, "'validate_every'.*Got '2'"),
        ({"max_steps": 5, "max_epochs": 5}, "either 'max_steps' or 'max_epochs'. Got max_steps=5"),
        ({"learning_rate": 0.0}, r"'learning_rate'.*\(0, inf\). Got 0.0"),
        ({"learning_rate": float("nan")}, "'learning_rate'.*Got nan"),
        ({"weight_decay": -0.1}, r"'weight_decay'.*\[0, inf\). Got -0.1"),
        ({"gradient_clip": 0}, r"'gradient_clip'.*\(0, inf\). Got 0"),
        ({"schedule": "linear"}, "Unknown schedule 'linear'"),
        ({"device": "gpu"}, "'device' parameter of Trainer"),
        ({"precision": "half"}, "'precision' parameter of Trainer"),
    ],
)
def test_parameter_errors(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        Trainer(**options).check()


def test_no_training_window_is_refused():
    source, _ = series_source()
    with pytest.raises(InvalidParameterError, match=r"at least one window, but there is none"):
        Trainer(device="cpu").fit(
            small_network(), source, WindowSets(torch.arange(0)), make_loss("mse"), seed=0
        )


def test_validation_without_a_target_is_refused():
    values = np.random.default_rng(0).normal(size=(200, 1))
    values[150:] = np.nan
    source = SeriesSource(values, 24, 4, device=torch.device("cpu"), dtype=torch.float64)
    sets = WindowSets(torch.arange(40), torch.arange(130, 132))
    with pytest.raises(
        InvalidParameterError, match="None of the 2 validation windows has an observed"
    ):
        Trainer(max_steps=2, device="cpu").fit(
            small_network(), source, sets, make_loss("mse"), seed=0
        )


def test_array_source_and_a_single_window():
    source = ArraySource(torch.randn(1, 24).double(), torch.randn(1, 4).double())
    for backbone in ("patchtst", "transformer"):
        record = Trainer(max_steps=3, device="cpu").fit(
            small_network(backbone), source, WindowSets(torch.arange(1)), make_loss("mae"), seed=0
        )
        assert record.num_steps == 3


def test_progress_is_the_share_of_all_steps(monkeypatch):
    network, seen = small_network(), []
    plan = network.patcher.plan
    monkeypatch.setattr(network.patcher, "plan", lambda done: seen.append(done) or plan(done))
    fit(Trainer(max_steps=8, batch_size=8, validate_every=4, device="cpu"), network)
    assert seen == [k / 8 for k in range(8)]
