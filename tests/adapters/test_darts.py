"""The Darts model does what Darts' own torch models do, and forecasts as a `Forecaster` does."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from adaptivepatch import (
    DeviationPatcher,
    FixedPatcher,
    Forecaster,
    InvalidModelError,
    InvalidParameterError,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
    load_patcher,
)
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.optimizer import make_optimizer
from adaptivepatch.training.record import TrainingDivergedError
from adaptivepatch.training.step import TrainingStep
from tests.test_docs import python_blocks

pytest.importorskip("darts", reason="darts is not installed")
pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
BACKBONE = TransformerBackbone(d_model=8, num_layers=1, num_heads=2, d_ff=16)
QUANTILES = (0.1, 0.5, 0.9)
LIGHTNING = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(scope="module", autouse=True)
def quiet():
    for name in ("pytorch_lightning", "lightning_fabric", "darts"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Lightning writes logs into the current folder if a model was saved with ``clean=True``."""
    monkeypatch.chdir(tmp_path)


def model_class():
    from adaptivepatch.adapters.darts import AdaptivePatchModel

    return AdaptivePatchModel


def make(**changes):
    settings = {
        "input_chunk_length": 24,
        "output_chunk_length": 4,
        "patcher": FixedPatcher(4),
        "backbone": BACKBONE,
        "n_epochs": 1,
        "batch_size": 64,
        "random_state": 0,
        "pl_trainer_kwargs": LIGHTNING,
    }
    return model_class()(**{**settings, **changes})


def frame(num_rows=90, seed=0):
    """Two channels, whose columns are not sorted, far from 0."""
    rng = np.random.default_rng(seed)
    values = np.sin(np.arange(num_rows)[:, None] / 4 + np.arange(2))
    values = 1000 + 50 * values + 5 * rng.normal(size=values.shape)
    index = pd.date_range("2024-01-01", periods=num_rows, freq="h")
    return pd.DataFrame(values, index=index, columns=["load", "heat"])


def series(num_rows=90, seed=0, dtype=np.float32):
    from darts import TimeSeries

    found = TimeSeries.from_dataframe((frame(num_rows, seed) - 1000) / 50)
    return found.astype(dtype)


def unscaled(num_rows=90):
    from darts import TimeSeries

    return TimeSeries.from_dataframe(frame(num_rows))


def mae():
    from darts.metrics import mae as metric

    return metric


@pytest.fixture(scope="module")
def fitted():
    return make().fit(series())


def equal(one, other):
    return np.array_equal(one.values(), other.values())


# ------------------------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "patcher",
    [ReinPatcher(6), pytest.param("dynamic_chunking", marks=pytest.mark.slow)],
    ids=["rein", "chunking"],
)
def test_a_step_in_lightning_is_a_step_of_our_loop(patcher, monkeypatch):
    """Sampling, the patcher's losses and its learning rates are those of `train_step`."""
    seen = []
    forward = TrainingStep.forward

    def recorded(self, batch, generator, progress):
        copies = torch.Generator()
        copies.set_state(generator.get_state())
        seen.append((copy.deepcopy(self.network), batch, copies, progress))
        return forward(self, batch, generator, progress)

    monkeypatch.setattr(TrainingStep, "forward", recorded)
    backbone = TransformerBackbone(d_model=8, num_layers=1, num_heads=2, d_ff=16, dropout=0.0)
    model = make(patcher=patcher, backbone=backbone, batch_size=32, n_epochs=1).fit(series())
    monkeypatch.undo()

    assert [progress for *_, progress in seen] == [0.0, 0.5]  # 63 windows in 2 steps
    network, batch, generator, progress = seen[0]
    optimizer = make_optimizer(network, 1e-3, 0.0)
    step = TrainingStep(network, make_loss("mse"))
    train_step(step, optimizer, batch, generator=generator, progress=progress)
    for name, weight in seen[1][0].state_dict().items():
        torch.testing.assert_close(weight, network.state_dict()[name], rtol=0, atol=1e-6)
    assert model.network_.patcher is model.patcher_


def test_policy_history_is_readable_after_training_and_loading(tmp_path):
    model = make(patcher=ReinPatcher(6), batch_size=8, n_epochs=2)
    model.fit(series(), val_series=series(40, seed=1))
    assert [entry["step"] for entry in model.history_] == [8, 16]
    names = {"policy_signal_to_noise", "policy_entropy", "mode_agreement", "validation_loss"}
    assert names <= set(model.history_[0])
    table = pd.DataFrame(model.history_)
    assert np.isfinite(table[[*names]].max()).all()
    model.save(str(tmp_path / "model.pt"))
    loaded = model_class().load(str(tmp_path / "model.pt"))
    pd.testing.assert_frame_equal(pd.DataFrame(loaded.history_), table)


@pytest.mark.slow
def test_patchers_are_prepared_on_training_windows():
    """The threshold of this patcher is found on training windows, and kept by a second fit."""
    patcher = DeviationPatcher(6, budget="min")
    model, other = (make(patcher=patcher).fit(series(seed=seed)) for seed in (0, 5))
    threshold = float(model.patcher_.threshold)
    assert threshold != float(other.patcher_.threshold)
    model.fit(series(seed=5))
    assert float(model.patcher_.threshold) == threshold


def test_lr_schedulers():
    """The scheduler scales all groups, and the policy keeps its multiple of the rate."""
    model = make(
        patcher=ReinPatcher(6),
        n_epochs=2,
        optimizer_cls=torch.optim.SGD,
        optimizer_kwargs={"lr": 0.01},
        lr_scheduler_cls=torch.optim.lr_scheduler.ExponentialLR,
        lr_scheduler_kwargs={"gamma": 0.5},
    )
    model.fit(series())
    rates = [group["lr"] for group in model.trainer.optimizers[0].param_groups]
    factor = model.patcher_.parameter_groups(1.0)[0]["lr"]
    assert factor != 1
    assert rates == pytest.approx([0.0025, 0.0025 * factor])


def test_val_set():
    """The logged validation loss is that of Darts: a mean of squares, or a sum over quantiles."""
    from darts.utils.likelihood_models import QuantileRegression

    for likelihood in (None, QuantileRegression([*QUANTILES])):
        model = make(likelihood=likelihood).fit(series(), val_series=series(60, seed=1))
        model.model.eval()
        logged = float(model.trainer.callback_metrics["val_loss"])
        assert model.history_[0]["validation_loss"] == pytest.approx(logged, rel=1e-5)
        batches = model.trainer.datamodule.val_dataloader()
        losses, sizes = [], []
        for batch in batches:
            with torch.no_grad():
                output = model.model(batch.to_module_input(stage="val"))
                loss = model.model._compute_loss(
                    output, batch.future_target, torch.nn.MSELoss(), None
                )
            losses.append(float(loss))
            sizes.append(len(batch.future_target))
        assert logged == pytest.approx(np.average(losses, weights=sizes), rel=1e-4)


@pytest.mark.slow
def test_sample_weights_change_the_loss(fitted):
    weighted = make().fit(series(), sample_weight="linear")
    assert weighted.history_[0]["train_loss"] < 0.9 * fitted.history_[0]["train_loss"]


@pytest.mark.slow
def test_same_seed_gives_the_same_model():
    forecasts = [make(patcher=ReinPatcher(6)).fit(series()).predict(4) for _ in range(2)]
    assert equal(*forecasts)


@pytest.mark.slow
def test_a_training_that_diverges_says_so():
    model = make(batch_size=8, optimizer_kwargs={"lr": 1e30}, instance_norm=False)
    with pytest.raises(TrainingDivergedError, match="optimizer_kwargs"):
        model.fit(series())


# ------------------------------------------------------------------------------------ forecasts


def test_prediction_with_different_n(fitted):
    whole = fitted.predict(4)
    assert equal(fitted.predict(2), whole[:2])
    assert len(fitted.predict(11)) == 11
    longer = fitted.predict(8)
    assert equal(longer[:4], whole)
    again = fitted.predict(4, series=series().append(whole.astype(np.float32)))
    np.testing.assert_allclose(longer[4:].values(), again.values(), rtol=1e-5)


def test_multi_ts_prediction():
    many = [series(), series(70, seed=1)]
    model = make().fit(many)
    first, second = model.predict(6, series=many)
    assert first.start_time() == many[0].end_time() + many[0].freq
    assert equal(second, model.predict(6, series=many[1]))
    assert list(first.components) == ["load", "heat"]


def test_batch_predictions(fitted):
    """A forecast has the same bits in every batch."""
    many = [series(40 + number, seed=number) for number in range(5)]
    small = fitted.predict(4, series=many, batch_size=2)
    large = fitted.predict(4, series=many, batch_size=64)
    assert all(equal(*pair) for pair in zip(small, large, strict=True))


@pytest.mark.slow
def test_components_are_forecast_independently(fitted):
    alone = make().fit(series()["load"])
    alone.model.network.load_state_dict(fitted.network_.state_dict())
    together = fitted.predict(4).values()[:, 0]
    np.testing.assert_allclose(alone.predict(4, series=series()["load"]).values()[:, 0], together)


def test_probabilistic():
    from darts.utils.likelihood_models import QuantileRegression

    model = make(likelihood=QuantileRegression([*QUANTILES])).fit([series(), series(60, seed=1)])
    drawn = model.predict(6, series=series(), num_samples=20, random_state=1)
    assert drawn.all_values().shape == (6, 2, 20)
    assert equal_samples(drawn, model.predict(6, series=series(), num_samples=20, random_state=1))
    quantiles = model.predict(4, series=series(), predict_likelihood_parameters=True)
    assert list(quantiles.components)[:3] == ["load_q0.100", "load_q0.500", "load_q0.900"]
    assert (np.diff(quantiles.values()[:, :3], axis=1) >= 0).all()


def equal_samples(one, other):
    return np.array_equal(one.all_values(), other.all_values())


def test_residuals(fitted):
    errors = fitted.residuals(series(), forecast_horizon=1, retrain=False)
    forecasts = fitted.historical_forecasts(series(), forecast_horizon=1, retrain=False)
    expected = (series().slice_intersect(forecasts) - forecasts).values()
    np.testing.assert_allclose(errors.values(), expected, atol=1e-6)


def test_optimised_historical_forecasts_equal_slow_ones(fitted):
    options = {"forecast_horizon": 6, "stride": 7, "retrain": False, "last_points_only": False}
    fast = fitted.historical_forecasts(series(60), **options)
    slow = fitted.historical_forecasts(series(60), enable_optimization=False, **options)
    assert len(fast) == len(slow) == 5
    assert all(equal(*pair) for pair in zip(fast, slow, strict=True))


def test_backtest(fitted):
    errors = fitted.backtest(
        series(), forecast_horizon=4, retrain=False, last_points_only=False, metric=mae()
    )
    assert 0 < errors < 5


@pytest.mark.slow
def test_historical_forecasts_that_train_again():
    forecasts = make().historical_forecasts(series(60), start=0.8, stride=6, retrain=True)
    assert len(forecasts) == 3


def test_gridsearch():
    past, future = series().split_before(80)
    grid = {
        "input_chunk_length": [24],
        "output_chunk_length": [4],
        "patcher": ["fixed", ReinPatcher(6)],
        "backbone": [BACKBONE],
        "n_epochs": [1],
        "batch_size": [64],
        "pl_trainer_kwargs": [LIGHTNING],
    }
    best, parameters, error = model_class().gridsearch(grid, past, val_series=future, metric=mae())
    assert parameters["patcher"] in grid["patcher"]
    assert error > 0
    assert best.model is None  # as for all models of Darts


@pytest.mark.slow
def test_an_output_shift_leaves_a_gap():
    model = make(output_chunk_shift=2).fit(series())
    assert model.predict(3).start_time() == series().end_time() + 3 * series().freq


@pytest.mark.slow
def test_bounds_and_shared_patches():
    model = make(patcher=ReinPatcher(6), bounds=(0, 0.5), share_segmentation=True).fit(series())
    values = model.predict(9).values()
    assert values.min() >= 0
    assert values.max() <= 0.5


# ------------------------------------------------------------------------------------------ gaps


def with_gaps():
    found = series()
    values = found.values(copy=True)
    values[40:44, 0] = np.nan
    values[-24:, 1] = np.nan
    return found.with_values(values)


def test_gaps_are_refused_unless_they_are_masked():
    with pytest.raises(InvalidParameterError, match="missing='mask'"):
        make().fit(with_gaps())
    model = make(missing="mask", patcher="deviation").fit(with_gaps(), val_series=with_gaps())
    values = model.predict(3).values()
    assert np.isfinite(values[:, 0]).all()
    assert np.isnan(values[:, 1]).all()  # nothing observed in its look-back
    assert np.isfinite([*model.history_[0].values()]).all()


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("clean", [False, True])
def test_save_load(fitted, tmp_path, clean):
    path = str(tmp_path / "model.pt")
    fitted.save(path, clean=clean)
    loaded = model_class().load(path)
    again = str(tmp_path / "again.pt")
    loaded.save(again)  # without a forecast in between
    options = {"series": series(), "verbose": False}
    for model in (loaded, model_class().load(again)):
        assert equal(model.predict(6, **options), fitted.predict(6, **options))
        assert repr(model.model_params["patcher"]) == "FixedPatcher(patch_length=4)"


@pytest.mark.slow
def test_save_load_of_a_frozen_patcher(tmp_path):
    patcher = load_patcher("reinpatch-small")
    model = make(patcher=patcher, input_chunk_length=64).fit(series())
    model.save(str(tmp_path / "model.pt"))
    loaded = model_class().load(str(tmp_path / "model.pt"))
    assert loaded.patcher_.is_frozen
    for name, weight in loaded.model_params["patcher"].state_dict().items():
        assert torch.equal(weight, patcher.state_dict()[name])
        assert torch.equal(weight, loaded.patcher_.state_dict()[name])


class OwnPatcher(FixedPatcher):
    """A patcher of the user."""

    name = "own"


def test_a_class_of_the_user_must_be_registered_to_be_loaded(tmp_path):
    from darts.utils.serialization import clear_safe_globals, get_safe_globals

    path, before = str(tmp_path / "model.pt"), get_safe_globals()
    make(patcher=OwnPatcher(4)).fit(series()).save(path)
    assert isinstance(model_class().load(path).patcher_, OwnPatcher)
    clear_safe_globals()
    register(before)
    with pytest.raises(InvalidModelError, match=r"add_safe_globals\(\[YourClass\]\)"):
        model_class().load(path)
    register([OwnPatcher])
    assert isinstance(model_class().load(path).patcher_, OwnPatcher)


def register(classes):
    from darts.utils.serialization import add_safe_globals

    add_safe_globals(classes)


def test_load_weights(fitted, tmp_path):
    path = str(tmp_path / "model.pt")
    fitted.save(path)
    other = make(optimizer_kwargs={"lr": 1e-2})
    other.load_weights(path)
    assert equal(other.predict(4, series=series()), fitted.predict(4))
    with pytest.raises(InvalidParameterError, match=r"FixedPatcher\(patch_length=6\)"):
        make(patcher=FixedPatcher(6)).load_weights(path)


@pytest.mark.slow
def test_checkpoints_resume(tmp_path):
    options = {"work_dir": str(tmp_path), "model_name": "run", "save_checkpoints": True}
    make(patcher=ReinPatcher(6), **options).fit(series(), val_series=series(40, seed=1))
    resumed = model_class().load_from_checkpoint("run", work_dir=str(tmp_path), best=False)
    resumed.fit(series(), val_series=series(40, seed=1), epochs=3)
    assert [entry["epoch"] for entry in resumed.history_] == [0, 1, 2]


@pytest.mark.slow
def test_lr_find():
    found = make(patcher=ReinPatcher(6), batch_size=8).lr_find(series(), num_training=5)
    assert len(found.results["lr"]) == 5


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["past_covariates", "future_covariates"])
def test_covariates_refused(fitted, name):
    given = {name: series()}
    for call in (
        lambda: make().fit(series(), **given),
        lambda: make().fit(series(), val_series=series(), **{f"val_{name}": series()}),
        lambda: fitted.predict(3, **given),
        lambda: fitted.historical_forecasts(series(), retrain=False, **given),
        lambda: fitted.residuals(series(), retrain=False, **given),
    ):
        with pytest.raises(InvalidParameterError, match="takes no covariates"):
            call()


def test_static_covariates_and_encoders_refused(fitted):
    static = series().with_static_covariates(pd.DataFrame({"shop": [1.0]}))
    with pytest.raises(InvalidParameterError, match=r"with_static_covariates\(None\)"):
        make().fit(static)
    with pytest.raises(InvalidParameterError, match=r"with_static_covariates\(None\)"):
        fitted.predict(3, series=static)
    with pytest.raises(InvalidParameterError, match="add_encoders"):
        make(add_encoders={"cyclic": {"past": ["hour"]}})


def test_parameters_refused():
    from darts.utils.likelihood_models import GaussianLikelihood
    from darts.utils.losses import SmapeLoss

    for parameter, value in {
        "likelihood": GaussianLikelihood(),
        "loss_fn": SmapeLoss(),
        "use_reversible_instance_norm": True,
        "missing": "drop",
        "bounds": (1, 0),
        "input_chunk_length": 1,
        "share_segmentation": [["load"]],
        "embedding": "other",
    }.items():
        with pytest.raises(InvalidParameterError) as caught:
            make(**{parameter: value})
        assert caught.value.parameter == parameter
    with pytest.raises(InvalidParameterError, match="1 pairs for series of 2 components"):
        make(scaling=[(0.0, 1.0)]).fit(series())
    with pytest.raises(InvalidParameterError, match="Call fit"):
        make().history_  # noqa: B018
    with pytest.raises(InvalidParameterError, match="ONNX"):
        make().to_onnx()


# -------------------------------------------------------------------------- from and to Forecaster


def forecaster(patcher, quantiles=None, **options):
    return Forecaster(
        horizon=4,
        context_length=24,
        patcher=patcher,
        backbone=BACKBONE,
        quantiles=quantiles,
        trainer=Trainer(max_steps=4, device="cpu"),
        random_state=0,
        **options,
    )


def wide(forecast):
    """The point forecasts of a `Forecaster`, in the order of the columns of its frame."""
    table = forecast.pivot_table(index="timestamp", columns="target_name", values="prediction")
    return table[["load", "heat"]].to_numpy()


@pytest.mark.parametrize("quantiles", [None, QUANTILES])
@pytest.mark.parametrize(
    "patcher",
    [
        ReinPatcher(6),
        pytest.param(FixedPatcher(4), marks=pytest.mark.slow),
        pytest.param("dynamic_chunking", marks=pytest.mark.slow),
    ],
    ids=["rein", "fixed", "chunking"],
)
def test_from_forecaster_and_back(patcher, quantiles, tmp_path):
    """The forecasts are equal on every window, and after saving, and on the way back."""
    own = forecaster(patcher, quantiles).fit(frame())
    model = model_class().from_forecaster(own, pl_trainer_kwargs=LIGHTNING)
    model.save(str(tmp_path / "model.pt"))
    backtest = own.backtest(frame())
    for host in (model, model_class().load(str(tmp_path / "model.pt"))):
        windows = host.historical_forecasts(
            unscaled(),
            forecast_horizon=4,
            retrain=False,
            last_points_only=False,
            predict_likelihood_parameters=quantiles is not None,
        )
        values = np.stack([window.values() for window in windows])
        values = values.reshape(*backtest.prediction.shape, -1)[:, :, ::-1]  # sorted by name
        expected = backtest.quantile_prediction
        if quantiles is None:
            expected = backtest.prediction[..., None]
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    if quantiles is None:  # from the end of the series of fit
        np.testing.assert_allclose(model.predict(4).values(), wide(own.predict()), rtol=1e-6)

    back = model.to_forecaster(unscaled())
    pd.testing.assert_frame_equal(back.predict(), own.predict(), rtol=1e-6)
    back.save(tmp_path / "folder")
    pd.testing.assert_frame_equal(Forecaster.load(tmp_path / "folder").predict(), back.predict())


@pytest.mark.slow
def test_from_forecaster_continues_training():
    own = forecaster(FixedPatcher(4)).fit(frame())
    model = model_class().from_forecaster(own, n_epochs=1, pl_trainer_kwargs=LIGHTNING)
    before = model.predict(4)
    model.fit(unscaled())
    assert len(model.history_) == len(own.record_.history) + 1
    assert model.history_[-1]["train_loss"] < 10  # of scaled values
    assert not equal(before, model.predict(4))


@pytest.mark.slow
def test_from_forecaster_with_several_items():
    long = pd.concat(
        [
            frame(60, seed).rename_axis("timestamp").reset_index().assign(item_id=name)
            for seed, name in enumerate("xy")
        ]
    )
    long.loc[long.item_id == "y", ["load", "heat"]] *= 3
    own = forecaster(FixedPatcher(4)).fit(long)
    with pytest.raises(InvalidParameterError, match="2 items, such as 'x'"):
        model_class().from_forecaster(own)
    from darts import TimeSeries

    second = long[long.item_id == "y"].set_index("timestamp")[["load", "heat"]]
    model = model_class().from_forecaster(own, item_id="y", pl_trainer_kwargs=LIGHTNING)
    found = model.predict(4, series=TimeSeries.from_dataframe(second))
    forecast = wide(own.predict().query("item_id == 'y'"))
    np.testing.assert_allclose(found.values(), forecast, rtol=1e-6)


@pytest.mark.slow
def test_what_cannot_be_converted(fitted):
    convert = model_class().from_forecaster
    for options, parameter in (
        ({"transform": "log1p"}, "transform"),
        ({"share_segmentation": [["load", "heat"]]}, "share_segmentation"),
        ({"quantiles": (0.1, 0.5)}, "quantiles"),
    ):
        with pytest.raises(InvalidParameterError) as caught:
            convert(forecaster(FixedPatcher(4), **options).fit(frame()))
        assert caught.value.parameter == parameter
    for options, parameter in (
        ({"output_chunk_shift": 1}, "output_chunk_shift"),
        ({"instance_norm": False}, "instance_norm"),
        ({"loss_fn": torch.nn.HuberLoss(delta=2.0)}, "loss_fn"),
    ):
        with pytest.raises(InvalidParameterError) as caught:
            make(**options).fit(series()).to_forecaster()
        assert caught.value.parameter == parameter
    with pytest.raises(InvalidParameterError, match="series=..."):
        make().fit([series(), series()]).to_forecaster()
    several = fitted.to_forecaster([series(), series(70, seed=1)])
    expected = fitted.predict(4, series=series(70, seed=1)).values()
    found = wide(several.predict().query("item_id == 1"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------- document


@pytest.mark.slow
def test_the_examples_of_the_document_run(ltsf_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "darts.md").read_text(encoding="utf-8")
    blocks = python_blocks(text.replace("```python norun\n", "```python\n"))
    assert blocks
    space = {"__name__": "__main__"}
    for _, code, _ in blocks:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, space)
