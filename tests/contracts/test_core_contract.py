"""What the core types promise to patchers, embeddings and backbones, beyond their own units."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.distributions import Deterministic, Rollout, StepPlan
from adaptivepatch.errors import InvalidSegmentationError
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.nn.tokens.patch_embedding import resample
from adaptivepatch.nn.tokens.pooling import pool_mean
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import with_parent
from tests.contracts.spikes import Segmental


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_mask(num_rows: int, num_steps: int, seed: int = 0, share: float = 0.3) -> Tensor:
    mask = torch.rand(num_rows, num_steps, generator=seeded(seed)) < share
    mask[:, 0] = True
    return mask


def levels_of(fine: Segmentation, seed: int = 1) -> Segmentation:
    mask = random_mask(fine.num_rows, fine.capacity, seed, 0.5) & fine.patch_mask
    return with_parent(fine, Segmentation(mask))


def equal(first: Segmentation, second: Segmentation) -> bool:
    same = torch.equal(first.boundary_mask, second.boundary_mask)
    same = same and (first.capacity, first.exact) == (second.capacity, second.exact)
    if first.parent is None or second.parent is None:
        return same and first.parent is second.parent
    return same and equal(first.parent, second.parent)


# --------------------------------------------------------------------------- shared segmentations


@pytest.mark.parametrize(
    "rows",
    [
        torch.tensor([3, 0, 0]),
        torch.tensor([True, False, True, True]),
        slice(1, 4),
        slice(None, None, 2),
        torch.tensor([], dtype=torch.long),
    ],
    ids=["index", "mask", "slice", "stride", "empty"],
)
def test_selected_rows_of_a_shared_segmentation_share_it(rows):
    shared = Segmentation.even(12, 3, num_rows=4)
    stored = Segmentation(shared.boundary_mask.contiguous(), capacity=3, exact=True)
    selected = shared.select(rows)
    assert equal(selected, stored.select(rows))
    assert selected.boundary_mask.untyped_storage().nbytes() == 12
    assert selected.is_shared or selected.num_rows == 0


def test_selecting_a_row_that_is_not_there_raises():
    with pytest.raises(IndexError):
        Segmentation.even(12, 3, num_rows=4).select(torch.tensor([4]))


def test_copies_of_a_shared_segmentation_cost_no_memory():
    shared = Segmentation.even(336, 21, num_rows=7)
    rollout = Deterministic(shared).sample(100)
    for copy in (rollout.segmentation, rollout.head(3, 7).segmentation, shared.to("cpu")):
        assert copy.is_shared
        assert copy.boundary_mask.untyped_storage().nbytes() == 336
        assert copy.patch_index.untyped_storage().nbytes() == 336 * 8
    assert rollout.head(3, 7).segmentation.num_rows == 21


def test_moved_segmentation_stays_shared():
    moved = Segmentation.even(12, 3, num_rows=4).to("meta")
    assert moved.is_shared
    assert moved.boundary_mask.shape == (4, 12)


# ------------------------------------------------------------------------------------ row order


def test_repeated_rows_are_those_of_a_rollout():
    fine = levels_of(Segmentation(random_mask(3, 12)))
    repeated = fine.repeat(2)
    assert equal(repeated, fine.select(torch.tensor([0, 1, 2, 0, 1, 2])))
    assert fine.repeat(1) is fine


def test_repeated_distribution_has_the_rows_of_its_rollouts():
    logits = torch.randn(3, 8, generator=seeded()).double()
    once = Segmental(logits, 3, (1, 6))
    once.features = torch.randn(3, 8, 2, generator=seeded(1))
    repeated = once.repeat(2)
    assert once.repeat(1) is once
    assert torch.equal(repeated.features[3:], once.features)
    assert torch.equal(repeated.boundary_prob, once.boundary_prob.repeat(2, 1))
    assert equal(repeated.mode, once.mode.repeat(2))
    assert repeated.entropy() is None
    rollout = repeated.sample(4, seeded())
    assert rollout.log_prob.shape == (4, 6)
    same = once.sample(8, seeded())
    assert torch.equal(rollout.log_prob, same.log_prob.view(4, 6))
    assert equal(rollout.segmentation, same.segmentation)


def test_costly_marginals_are_not_read_by_the_step(monkeypatch):
    class Marginals(Deterministic):
        @property
        def boundary_prob(self):
            raise AssertionError

        @boundary_prob.setter
        def boundary_prob(self, value):
            pass

    network = small_network(FixedPatcher(4))
    reference = FixedPatcher(4).reference_patches(16)
    monkeypatch.setattr(
        network.patcher, "propose", lambda series, *_: Marginals(reference.expand(len(series)))
    )
    monkeypatch.setattr(network.patcher, "plan", lambda progress: StepPlan(2, is_scored=True))
    assert step_loss(network, small_batch()).isfinite()


# --------------------------------------------------------------------------------------- levels


def test_coarse_level_in_steps_is_the_union_of_its_patches():
    fine = levels_of(Segmentation(random_mask(20, 24), capacity=20))
    coarse, parent = fine.coarse, fine.parent
    assert (coarse.capacity, coarse.parent) == (parent.capacity, None)
    assert torch.equal(coarse.num_patches, parent.num_patches)
    lengths = pool_mean(fine.patch_lengths[..., None].double(), parent, fine.patch_mask)[..., 0]
    real = torch.zeros_like(parent.patch_lengths)
    real.scatter_add_(1, parent.patch_index, fine.patch_mask.long())
    torch.testing.assert_close((lengths * real).long(), coarse.patch_lengths)


def test_coarse_level_of_shared_levels_is_shared():
    fine = with_parent(Segmentation.even(24, 6, 5), Segmentation.even(6, 2, 5))
    assert fine.coarse.is_shared
    assert fine.coarse.exact
    assert fine.coarse.patch_starts[0].tolist() == [0, 12]


def test_segmentation_without_a_coarser_level_says_so():
    with pytest.raises(InvalidSegmentationError, match="parent is None"):
        _ = Segmentation.even(8, 2).coarse


def test_rows_of_two_segmentations_keep_their_coarser_levels():
    first = levels_of(Segmentation(random_mask(6, 12, 1), capacity=12))
    second = levels_of(Segmentation(random_mask(6, 12, 2), capacity=9))
    condition = torch.tensor([True, False] * 3)
    mixed = Segmentation.where(condition, first, second)
    Segmentation(mixed.boundary_mask, mixed.capacity, mixed.parent)  # is valid
    for n, source in enumerate([first, second] * 3):
        assert torch.equal(mixed.coarse.boundary_mask[n], source.coarse.boundary_mask[n])
    assert Segmentation.where(condition, first, Segmentation.even(12, 3, 6)).parent is None


def test_parent_must_partition_the_slots_of_its_rows():
    fine = Segmentation(random_mask(3, 12), capacity=8)
    with pytest.raises(InvalidSegmentationError, match=r"parent must partition 8 patches of 3"):
        with_parent(fine, Segmentation.even(12, 2, 3))
    with pytest.raises(InvalidSegmentationError, match="unused patch slot"):
        Segmentation(
            fine.boundary_mask,
            capacity=8,
            parent=Segmentation(torch.ones(3, 8, dtype=torch.bool)),
        )


# ------------------------------------------------------------------------- padding and rounding


def test_threshold_keeps_at_most_the_best_of_the_budget():
    scores = torch.tensor([[0.0, 0.9, 0.2, 0.8, 0.7], [0.0, 0.1, 0.2, 0.6, 0.3]])
    rows = Segmentation.from_scores(scores, 3, threshold=0.5)
    assert rows.patch_starts.tolist() == [[0, 1, 3], [0, 3, 5]]
    assert not rows.exact
    assert Segmentation.from_scores(scores, 3).exact


def test_exact_promises_are_checked_and_kept():
    mask = random_mask(4, 12)
    with pytest.raises(InvalidSegmentationError, match="exact=True promises 12 patches"):
        Segmentation(mask, capacity=12, exact=True)
    exact = Segmentation.from_scores(torch.rand(4, 12, generator=seeded()), 3)
    for copy in (exact, exact.select(slice(2)), exact.repeat(2), exact.to("cpu")):
        assert copy.exact
    other = Segmentation.even(12, 4, 4)
    condition = torch.tensor([True, False, False, True])
    assert Segmentation.where(condition, exact, exact).exact
    assert not Segmentation.where(condition, exact, other).exact


class Marked(Patcher):
    """Starts a patch wherever the series is negative."""

    name = "marked"

    def capacity(self, num_steps: int) -> int:
        return num_steps

    def propose(self, series, observed, group):
        return Deterministic(Segmentation.from_scores(-series, series.shape[1], threshold=0.0))


@torch.no_grad()
@pytest.mark.parametrize("backbone", [PatchTSTBackbone, TransformerBackbone])
def test_padding_of_other_rows_rounds_nothing_differently(backbone):
    torch.manual_seed(0)
    network = build_network(Marked(), backbone(), context_length=32, horizon=4)
    network.norm.enabled = False
    network.eval()
    series = torch.randn(16, 32, generator=seeded())
    series[0] = -series[0].abs()  # a full row
    full = -series.abs()
    full[0] = series[0]
    assert torch.equal(network(series)[0], network(full)[0])


def test_resampling_a_patch_does_not_depend_on_the_longest_patch_of_the_batch():
    for seed in range(20):
        series = torch.randn(8, 120, generator=seeded(seed))
        mask = random_mask(8, 120, seed, 0.1)
        other = mask.clone()
        other[1:] = Segmentation.even(120, 8).boundary_mask
        first = resample(series, Segmentation(mask, capacity=40), 7)
        second = resample(series, Segmentation(other, capacity=40), 7)
        assert torch.equal(first[0], second[0])


def test_pooling_counts_what_it_is_told_to():
    values = torch.randn(5, 12, 2, generator=seeded()).double()
    counted = torch.rand(5, 12, generator=seeded(1)) < 0.5
    segmentation = Segmentation(random_mask(5, 12))
    pooled = pool_mean(values, segmentation, counted)
    for n in range(5):
        for p in range(segmentation.capacity):
            here = (segmentation.patch_index[n] == p) & counted[n]
            expected = values[n, here].mean(0) if here.any() else torch.zeros(2).double()
            torch.testing.assert_close(pooled[n, p], expected)


# --------------------------------------------------------------------------------- training step


def small_network(patcher: Patcher) -> PatchNetwork:
    torch.manual_seed(0)
    backbone = TransformerBackbone(d_model=8, num_layers=1, num_heads=2, dropout=0.0)
    return build_network(patcher, backbone, context_length=16, horizon=4)


def small_batch() -> Batch:
    values = torch.randn(6, 20, generator=seeded())
    return Batch(values[:, :16], None, values[:, 16:], None, None)


def step_loss(network: PatchNetwork, batch: Batch, loss: str = "mse") -> Tensor:
    step = TrainingStep(network.train(), make_loss(loss))
    return step(batch, seeded(), 0.0).loss


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gate_of_a_sample_does_not_reach_rows_trained_on_the_mode(share, monkeypatch):
    network = small_network(RandomPatcher(4.0))
    strength = torch.zeros(6, 16, requires_grad=True)
    distribution_of = network.patcher.propose

    def propose(series, observed, group):
        distribution = distribution_of(series, observed, group)
        draw = distribution.sample
        gate = 1 + (strength - strength.detach())
        distribution.sample = lambda *given: Rollout(draw(*given).segmentation, gate=gate)
        return distribution

    monkeypatch.setattr(network.patcher, "propose", propose)
    monkeypatch.setattr(network.patcher, "plan", lambda progress: StepPlan(mode_share=share))
    step_loss(network, small_batch()).backward()
    reached = strength.grad.any(1)
    assert reached.any() == (share < 1)
    assert reached.all() == (share == 0)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e30])
def test_unobserved_targets_reach_neither_loss_nor_gradient(loss, junk):
    batch = small_batch()
    observed = torch.rand(batch.target.shape, generator=seeded(1)) < 0.6
    dirty = batch.target.where(observed, torch.tensor(junk))
    losses, gradients = [], []
    for target in (batch.target, dirty):
        network = small_network(FixedPatcher(4))
        total = step_loss(network, batch._replace(target=target, target_observed=observed), loss)
        total.backward()
        losses.append(total.detach())
        gradients.append(network.head.projection.weight.grad)
    assert torch.equal(*losses)
    assert torch.equal(*gradients)


def test_unobserved_quantile_targets_reach_no_gradient():
    levels = (0.1, 0.5, 0.9)
    forecast = torch.zeros(2, 3, 3, requires_grad=True)
    target = torch.tensor([[1.0, float("nan"), 2.0], [float("nan"), 0.0, -1.0]])
    make_loss("mse", levels)(forecast, target, ~target.isnan()).sum().backward()
    assert forecast.grad.isfinite().all()


def test_patcher_is_told_which_targets_are_observed(monkeypatch):
    network, batch = small_network(FixedPatcher(4)), small_batch()
    observed = torch.rand(batch.target.shape, generator=seeded(1)) < 0.6
    seen = []
    monkeypatch.setattr(network.patcher, "auxiliary_loss", lambda context: seen.append(context))
    step_loss(network, batch._replace(target_observed=observed))
    step_loss(network, batch)
    assert seen[0].target_observed is observed
    assert seen[1].target_observed is None


def test_several_rollouts_see_the_features_of_their_rows(monkeypatch):
    """Rollouts of a patcher without chance are equal, and so is what they teach."""
    patcher = DynamicChunkingPatcher(4, width=8, num_layers=1, budget="exact")
    found, batch = [], small_batch()
    for plan in (StepPlan(), StepPlan(num_samples=3, is_scored=True, grad_samples=2)):
        network, seen = small_network(patcher), []
        monkeypatch.setattr(network.patcher, "plan", lambda progress, plan=plan: plan)
        monkeypatch.setattr(network.patcher, "auxiliary_loss", seen.append)
        network.zero_grad()
        step_loss(network, batch).backward()
        found.append({key: p.grad.clone() for key, p in patcher.named_parameters()})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-4, atol=1e-6)
        assert gradient.any(), key
    assert seen[0].forecast_loss.shape == (3, 6)
    assert seen[0].hidden.shape[0] == 2 * 6
    torch.testing.assert_close(seen[0].forecast_loss[0], seen[0].forecast_loss[2])


def test_forecast_takes_as_many_rollouts_as_it_is_given():
    network, batch = small_network(RandomPatcher(4.0)).eval(), small_batch()
    lookback, distribution = network.segment(batch.series)
    rollout = distribution.sample(3, seeded())
    together = network.forecast(lookback, distribution, rollout).value
    assert together.shape == (18, 4)
    for g, rows in enumerate(together.split(6)):
        part = Rollout(rollout.segmentation.select(slice(6 * g, 6 * g + 6)))
        alone = network.forecast(lookback, distribution, part).value
        torch.testing.assert_close(rows, alone)
