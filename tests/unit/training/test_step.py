from __future__ import annotations

import numpy as np
import pytest
import torch

from adaptivepatch.distributions import StepPlan
from adaptivepatch.network import Forecast
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.training.loop import train_step
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import series_source, small_network

CONTEXT, HORIZON = 24, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(count=6, gaps=0.0, channels=2):
    source, windows = series_source(num_channels=channels, gaps=gaps)
    return source.batch(windows[:count])


class Recording(RandomPatcher):
    """Samples several rollouts and records the context its loss is given."""

    grad_samples, share, scores_mode = 1, 0.0, False

    def plan(self, progress):
        return StepPlan(3, True, self.scores_mode, self.grad_samples, self.share)

    def auxiliary_loss(self, context):
        self.context = context
        return 2 * context.hidden.square().mean()


@pytest.mark.parametrize("backbone", ["patchtst", "transformer"])
def test_a_fixed_step_is_the_mean_loss_of_the_forecast(backbone):
    batch = batch_of()
    network = small_network(backbone).train()
    output = TrainingStep(network, make_loss("mse"))(batch, generator(), 0.0)
    expected = (small_network(backbone).train()(batch.series) - batch.target).square().mean()
    np.testing.assert_allclose(float(output.loss.detach()), float(expected.detach()), rtol=1e-12)
    assert float(output.auxiliary_loss) == 0
    assert torch.equal(output.loss.detach(), output.forecast_loss)
    assert not output.forecast_loss.requires_grad


def test_every_observed_target_has_the_same_weight():
    batch = batch_of(gaps=0.3)
    network = small_network().eval()
    output = TrainingStep(network, make_loss("mae"))(batch, generator(), 0.0)
    forecast = network(batch.series, batch.observed)
    errors = (forecast - batch.target).abs()[batch.target_observed]
    np.testing.assert_allclose(
        float(output.forecast_loss), float(errors.mean().detach()), rtol=1e-12
    )


def test_total_weight_replaces_the_own_weight():
    batch = batch_of()
    plain = TrainingStep(small_network().eval(), make_loss("mse"))(batch, generator(), 0.0)
    halved = TrainingStep(small_network().eval(), make_loss("mse"), lambda w: 2 * w)
    assert float(halved(batch, generator(), 0.0).forecast_loss) == float(plain.forecast_loss) / 2


@pytest.mark.parametrize("backbone", ["patchtst", "transformer"])
def test_rollouts_are_scored_in_eval_mode_without_gradient(backbone):
    batch = batch_of(gaps=0.2)
    num_rows = len(batch.series)
    network = small_network(backbone, Recording(4), dropout=0.3).train()
    step = TrainingStep(network, make_loss("mse"))
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    output = step(batch, generator(), 0.25)
    context = network.patcher.context
    assert network.training
    assert context.progress == 0.25
    assert context.forecast_loss.shape == (3, num_rows)
    assert not context.forecast_loss.requires_grad
    assert context.hidden.requires_grad
    assert len(context.hidden) == num_rows  # one of the three rollouts
    assert context.rollout.segmentation.num_rows == 3 * num_rows
    assert torch.equal(context.target_observed, batch.target_observed)
    assert float((context.series.mean(1)).abs().max()) < 1  # normalised, gaps filled
    changed = [k for k, v in before.items() if not torch.equal(network.state_dict()[k], v)]
    assert bool(changed) == (backbone == "patchtst")  # by the training pass

    reference = small_network(backbone, Recording(4), dropout=0.3).eval()
    lookback, distribution = reference.segment(batch.series, batch.observed)
    with torch.no_grad():
        value = reference.forecast(lookback, distribution, context.rollout).value
    for g in range(3):
        rows = slice(g * num_rows, (g + 1) * num_rows)
        expected = make_loss("mse")(value[rows], batch.target, batch.target_observed)
        torch.testing.assert_close(context.forecast_loss[g], expected)
    np.testing.assert_allclose(
        float(output.auxiliary_loss), float(2 * context.hidden.square().mean().detach()), rtol=1e-12
    )
    np.testing.assert_allclose(
        float(output.loss.detach()), float(output.forecast_loss + output.auxiliary_loss), rtol=1e-12
    )


@pytest.mark.parametrize(("share", "seen"), [(0.0, "sample"), (1.0, "mode"), (0.5, "both")])
def test_the_gradient_is_taken_on_modes_and_samples(share, seen, monkeypatch):
    patcher = Recording(4)
    patcher.share = share
    network = small_network(patcher=patcher).train()
    batch = batch_of(count=20)
    used = []
    forecast = type(network).forecast

    def spy(self, lookback, distribution, rollout):
        used.append(rollout.segmentation)
        result = forecast(self, lookback, distribution, rollout)
        assert isinstance(result, Forecast)
        return result

    monkeypatch.setattr(type(network), "forecast", spy)
    TrainingStep(network, make_loss("mse"))(batch, generator(), 0.0)
    *scored, trained = used
    num_rows = len(batch.series)
    assert [rollout.num_rows for rollout in scored] == [num_rows] * 3
    mode = network.segment(batch.series)[1].mode.boundary_mask
    same_mode = (trained.boundary_mask == mode).all(1)
    same_sample = (trained.boundary_mask == scored[0].boundary_mask).all(1)
    assert bool((same_mode | same_sample).all())
    if seen == "sample":
        assert bool(same_sample.all())
    elif seen == "mode":
        assert bool(same_mode.all())
    else:
        assert 0.2 < float(same_mode.double().mean()) < 0.8


def test_the_mode_is_scored_where_the_plan_says_so():
    patcher = Recording(4)
    patcher.scores_mode = True
    network = small_network(patcher=patcher).train()
    batch = batch_of(gaps=0.2)
    TrainingStep(network, make_loss("mse"))(batch, generator(), 0.0)
    reference = small_network(patcher=Recording(4)).eval()
    with torch.no_grad():
        forecast = reference(batch.series, batch.observed)
    expected = make_loss("mse")(forecast, batch.target, batch.target_observed)
    torch.testing.assert_close(network.patcher.context.mode_loss, expected)


def test_a_plan_without_samples_trains_on_the_mode(monkeypatch):
    patcher = RandomPatcher(4)
    monkeypatch.setattr(patcher, "plan", lambda progress: StepPlan(num_samples=0))
    network = small_network(patcher=patcher).train()
    batch = batch_of()
    draws = generator()
    output = TrainingStep(network, make_loss("mse"))(batch, draws, 0.0)
    assert torch.equal(draws.get_state(), generator().get_state())
    expected = make_loss("mse")(network(batch.series), batch.target, None).mean()
    torch.testing.assert_close(output.forecast_loss, expected.detach())


@pytest.mark.parametrize("grad_samples", [1, 2, 3])
def test_several_rollouts_may_carry_gradient(grad_samples):
    patcher = Recording(4)
    patcher.grad_samples = grad_samples
    network = small_network(patcher=patcher).train()
    batch = batch_of(gaps=0.2)
    output = TrainingStep(network, make_loss("mse"))(batch, generator(), 0.0)
    context = network.patcher.context
    assert len(context.hidden) == grad_samples * len(batch.series)
    # Without dropout and batch statistics the training loss is the mean of the scored ones.
    weight = batch.target_observed.double().mean(1)
    expected = (context.forecast_loss[:grad_samples] * weight).sum() / (grad_samples * weight.sum())
    np.testing.assert_allclose(float(output.forecast_loss), float(expected), rtol=1e-10)


def test_train_step_moves_every_weight_and_clips():
    batch = batch_of(gaps=0.5)
    network = small_network(patcher=RandomPatcher(4)).train()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    step = TrainingStep(network, make_loss("mse"))
    train_step(step, optimizer, batch, generator=generator(), gradient_clip=1e-3)
    moved = [p.detach() - b for p, b in zip(network.parameters(), before, strict=True)]
    norm = torch.sqrt(sum(m.square().sum() for m in moved))
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_rows_outside_the_batch_do_not_exist():
    """Leaving out a row whose targets are all unobserved changes nothing (no batch statistics)."""
    batch = batch_of(gaps=0.2)
    extra = Batch(
        torch.cat([batch.series, batch.series[:1]]),
        torch.cat([batch.observed, batch.observed[:1]]),
        torch.cat([batch.target, torch.full_like(batch.target[:1], float("nan"))]),
        torch.cat([batch.target_observed, torch.zeros_like(batch.target_observed[:1])]),
        None,
    )
    step = TrainingStep(small_network(patcher=FixedPatcher(4)).eval(), make_loss("mse"))
    losses = [float(step(b, generator(), 0.0).forecast_loss) for b in (batch, extra)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
