"""Thin patchers that ask of the contract what no patcher of the library asks.

A policy with an embedding, head cells and a loss of its own; a policy whose one action, an order of
starts, decides two levels; and a backbone of its own that reads levels. The thin versions of the
published methods that became patchers are gone: the contract checks of patchers run on the real
ones. ``test_spikes.py`` trains what is left.

Tensor suffixes: N rows, T steps, P patches, D width, H horizon, G rollouts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.distributions import (
    Rollout,
    SegmentationDistribution,
    StepContext,
    StepPlan,
)
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.nn.tokens.heads import TimeAlignedHead
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.sampler import Batch
from tests.builders import with_parent

# ------------------------------------------------------------------------------- shared pieces


class PointEncoder(nn.Module):
    """Two local convolutions over the series and its differences: (N, T) to (N, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, series: Tensor) -> Tensor:
        change = F.pad(series.diff(dim=1), (1, 0))
        points = F.gelu(self.first(torch.stack([series, change], 1)))
        return self.norm((points + self.second(points)).transpose(1, 2))


class MeanEmbedding(nn.Module):
    """One value a token, the mean of the patch: so coarse that boundaries matter."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.projection = nn.Linear(1, d_model)

    def forward(self, series, segmentation, *, halo, observed, gate, features):
        return self.projection(pool_mean(series[..., None], segmentation, observed))


def share_in_groups(noise: Tensor, group: Tensor | None) -> Tensor:
    """Give all rows of a group the noise (G, N, ...) of one of them."""
    return noise if group is None else noise[:, group.unique(return_inverse=True)[1]]


def gumbel(*shape: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(*shape, dtype=torch.float64, device=like.device, generator=generator)
    return -(-uniform.clamp(1e-12, 1 - 1e-12).log()).log()


def leave_one_out_loss(context: StepContext) -> Tensor:
    """Score-function loss with the mean of the other rollouts as baseline."""
    reward = -context.forecast_loss
    advantage = (reward - reward.mean(0)) * (len(reward) / (len(reward) - 1))
    weight = torch.ones_like(reward[0])
    if context.target_observed is not None:
        weight = context.target_observed.to(reward.dtype).mean(1)
    assert context.rollout.log_prob is not None
    weighted = advantage.detach() * context.rollout.log_prob * weight
    return -weighted.mean(0).sum() / weight.sum()


class Policy(Patcher):
    """Base of the two policies: logits of a small network, several rollouts, nothing else."""

    stochastic = True
    trainable = True

    def __init__(self, num_patches: int = 4) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.encoder = PointEncoder(8)
        self.logit = nn.Linear(8, 1, bias=False)  # only differences count

    def capacity(self, num_steps: int) -> int:
        return self.num_patches

    def logits(self, series: Tensor, group: Tensor | None) -> Tensor:
        return mean_in_groups(self.logit(self.encoder(series))[..., 0].double(), group)

    def plan(self, progress: float) -> StepPlan:
        return StepPlan(num_samples=4, is_scored=True)

    def auxiliary_loss(self, context: StepContext) -> Tensor:
        return leave_one_out_loss(context)


# --------------------------------------------------------- 1. segmental policy: exactly K patches

_NEVER = -1e30  # log-weight of the impossible; finite, so that no gradient is NaN


class Segmental(SegmentationDistribution):
    """Exactly K patches of limited length, weighted by the exponentials of their starts' logits."""

    def __init__(
        self,
        logits: Tensor,
        num_patches: int,
        lengths: tuple[int, int],
        group: Tensor | None = None,
    ) -> None:
        self.num_patches, self.shortest, self.longest, self.group = num_patches, *lengths, group
        self.weight = torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:]], 1).double()

    def _steps(self, reduce: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the scores (N, T + 1, lengths) of the last length, per number of patches; and
        the reduced score (N,) of all steps."""
        num_rows, num_steps = self.weight.shape
        total = torch.full((num_rows, num_steps + 1), _NEVER).to(self.weight)
        total[:, 0] = 0
        scores = []
        for _ in range(self.num_patches):
            start = F.pad(self.weight, (0, 1), value=_NEVER) + total
            padded = F.pad(start, (self.longest, 0), value=_NEVER)
            windows = [
                padded[:, self.longest - d : self.longest - d + num_steps + 1]
                for d in range(self.shortest, self.longest + 1)
            ]
            scores.append(torch.stack(windows, -1))
            total = reduce(scores[-1])
        return scores, total[:, -1]

    @cached_property
    def _forward(self) -> tuple[list[Tensor], Tensor]:
        return self._steps(lambda scores: scores.logsumexp(-1))

    def _walk_back(self, scores: list[Tensor], noise: Tensor | None, num_samples: int) -> Tensor:
        """Choose lengths from the last patch to the first; return starts (G, N, K)."""
        num_rows, num_steps = self.weight.shape
        end = torch.full((num_samples, num_rows), num_steps, device=self.weight.device)
        row, starts = torch.arange(num_rows, device=end.device), []
        for k in reversed(range(self.num_patches)):
            choice = scores[k].detach()[row, end]
            if noise is not None:
                choice = choice + noise[:, :, k]
            end = end - self.shortest - choice.argmax(-1)
            starts.append(end)
        return torch.stack(starts[::-1], -1)

    @property
    def mode(self) -> Segmentation:
        with torch.no_grad():
            scores, _ = self._steps(lambda scores: scores.amax(-1))
        return self._segmentation(self._walk_back(scores, None, 1))

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        options = self.longest - self.shortest + 1
        shape = (num_samples, len(self.weight), self.num_patches, options)
        noise = gumbel(*shape, like=self.weight, generator=generator)
        noise = share_in_groups(noise, self.group)
        chosen = self._segmentation(self._walk_back(self._forward[0], noise, num_samples))
        action = chosen.boundary_mask
        return Rollout(chosen, action=action, log_prob=self.log_prob(action))

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability (G, N) of masks (G * N, T)."""
        rollouts = action.view(-1, *self.weight.shape)
        return (self.weight * rollouts).sum(-1) - self._forward[1]

    @cached_property
    def boundary_prob(self) -> Tensor:
        with torch.enable_grad():
            weight = self.weight.detach().requires_grad_()
            free = Segmental(weight, self.num_patches, (self.shortest, self.longest))
            marginal = torch.autograd.grad(free._forward[1].sum(), weight)[0]
        marginal[:, 0] = 1
        return marginal

    def _segmentation(self, starts: Tensor) -> Segmentation:
        starts = starts.flatten(0, 1)
        mask = torch.zeros(len(starts), self.weight.shape[1], dtype=torch.bool)
        mask = mask.to(starts.device).scatter_(1, starts, True)
        return Segmentation(mask, capacity=self.num_patches, exact=True, validate=False)


class SegmentalPolicy(Policy):
    name = "segmental_spike"

    def propose(self, series, observed, group):
        limits = (2, 3 * series.shape[1] // 4)
        return Segmental(self.logits(series, group), self.num_patches, limits, group)


# ------------------------------------------------------------------------------- 2. two levels


class NestedBackbone(Backbone):
    """Fine tokens, a coarse backbone over their means per parent patch, and the way back."""

    name = "nested_spike"
    reads_levels = True

    def __init__(self, outer: Backbone, inner: Backbone) -> None:
        super().__init__()
        self.outer = outer
        self.inner = inner
        self.d_model = outer.d_model

    def build(self, reference: Segmentation) -> None:
        self.outer.build(reference)
        self.inner.build(reference.coarse)

    def forward(self, tokens, patch_mask, start_time, parent=None):
        fine = self.outer(tokens, patch_mask, start_time)
        first = parent.patch_starts.clamp(max=parent.num_steps - 1)
        coarse = self.inner(
            pool_mean(fine, parent, patch_mask),
            None if parent.exact else parent.patch_mask,
            start_time.expand(len(tokens), -1).gather(1, first),
            parent.parent,
        )
        return fine + broadcast(coarse, parent)


class OrderedStarts(SegmentationDistribution):
    """Plackett-Luce order of starts: all of them are fine boundaries, the first few coarse ones."""

    def __init__(self, logits: Tensor, num_fine: int, num_coarse: int, group: Tensor | None = None):
        self.logits, self.num_fine, self.num_coarse, self.group = (
            logits,
            num_fine,
            num_coarse,
            group,
        )

    def _nested(self, rank: Tensor) -> Segmentation:
        starts = rank > 0
        starts[:, 0] = True
        fine = Segmentation(starts, capacity=self.num_fine, exact=True, validate=False)
        coarse = rank.gather(1, fine.patch_starts)
        coarse = (coarse > 0) & (coarse < self.num_coarse)
        coarse[:, 0] = True
        parent = Segmentation(coarse, capacity=self.num_coarse, exact=True, validate=False)
        return with_parent(fine, parent)

    def _rank(self, scores: Tensor) -> Tensor:
        """Return, for the best ``num_fine - 1`` steps after 0, their place counted from 1."""
        order = scores[:, 1:].argsort(dim=1, descending=True)[:, : self.num_fine - 1] + 1
        place = torch.arange(1, self.num_fine, device=scores.device).expand_as(order)
        return torch.zeros_like(scores, dtype=torch.long).scatter_(1, order, place)

    @property
    def mode(self) -> Segmentation:
        return self._nested(self._rank(self.logits.detach()))

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        noise = gumbel(num_samples, *self.logits.shape, like=self.logits, generator=generator)
        noise = share_in_groups(noise, self.group)
        rank = self._rank((self.logits.detach() + noise).flatten(0, 1))
        return Rollout(self._nested(rank), action=rank, log_prob=self.log_prob(rank))

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability (G, N) of orders given as ranks (G * N, T)."""
        rank = action.view(-1, *self.logits.shape)[..., 1:]
        logits = self.logits[:, 1:]
        total = torch.zeros(rank.shape[:2], dtype=logits.dtype, device=logits.device)
        for place in range(1, self.num_fine):
            left = logits.masked_fill((rank > 0) & (rank < place), _NEVER)
            total = total + (logits * (rank == place)).sum(-1) - left.logsumexp(-1)
        return total


class NestedPolicy(Policy):
    name = "nested_policy_spike"
    num_coarse = 3

    def reference_patches(self, num_steps: int) -> Segmentation:
        fine = Segmentation.even(num_steps, self.num_patches)
        return with_parent(fine, Segmentation.even(self.num_patches, self.num_coarse))

    def propose(self, series, observed, group):
        return OrderedStarts(self.logits(series, group), self.num_patches, self.num_coarse, group)


# ---------------------------------------------------------------------------------- the spikes

NUM_STEPS, HORIZON, D_MODEL = 24, 8, 8


def backbone(name: str) -> Backbone:
    if name == "patchtst":
        return PatchTSTBackbone(d_model=D_MODEL, num_layers=1, num_heads=2, d_ff=16, dropout=0.0)
    return TransformerBackbone(d_model=D_MODEL, num_layers=1, num_heads=2, d_ff=16, dropout=0.0)


def assemble(
    patcher: Patcher,
    embedding: nn.Module,
    core: Backbone,
    *,
    at_points: bool = False,
    horizon: int = HORIZON,
) -> PatchNetwork:
    """Build a network whose head reads patches, or points."""
    reference = patcher.reference_patches(NUM_STEPS)
    core.build(reference)
    cells = Segmentation.even(NUM_STEPS, NUM_STEPS) if at_points else reference
    head = TimeAlignedHead(cells, core.d_model, horizon)
    return PatchNetwork(patcher, embedding, core, head)


def segmental(core: str) -> PatchNetwork:
    embedding = MeanEmbedding(D_MODEL)
    return assemble(SegmentalPolicy(), embedding, backbone(core), at_points=True, horizon=NUM_STEPS)


def nested_policy(core: str) -> PatchNetwork:
    two_levels = NestedBackbone(backbone(core), backbone(core))
    patcher = NestedPolicy(num_patches=6)
    return build_network(patcher, two_levels, context_length=NUM_STEPS, horizon=HORIZON)


def gaps_fixed(core: str) -> PatchNetwork:
    patcher = FixedPatcher(4)
    return build_network(patcher, backbone(core), context_length=NUM_STEPS, horizon=HORIZON)


def gaps_random(core: str) -> PatchNetwork:
    patcher = RandomPatcher(4.0)
    return build_network(patcher, backbone(core), context_length=NUM_STEPS, horizon=HORIZON)


# -------------------------------------------------------------------------------------- data


def waves(num_rows: int, generator: torch.Generator) -> Batch:
    """Sinusoids of period 8 with random phase and amplitude, and a little noise."""
    step = torch.arange(NUM_STEPS + HORIZON)
    phase = 2 * torch.pi * torch.rand(num_rows, 1, generator=generator)
    size = 1 + torch.rand(num_rows, 1, generator=generator)
    wave = size * torch.sin(2 * torch.pi * step / 8 + phase)
    wave = wave + 0.05 * torch.randn(wave.shape, generator=generator)
    return Batch(wave[:, :NUM_STEPS], None, wave[:, NUM_STEPS:], None, None)


def grouped(num_rows: int, generator: torch.Generator) -> Batch:
    """Waves in windows of four channels."""
    group = torch.arange(num_rows) // 4
    return waves(num_rows, generator)._replace(group=group)


def levels(num_rows: int, generator: torch.Generator) -> Batch:
    """Four levels of random length (at least 2) with noise; the future replays them without."""
    cuts = torch.rand(num_rows, NUM_STEPS // 2 - 1, generator=generator).argsort(1)[:, :3] + 1
    starts = torch.zeros(num_rows, NUM_STEPS, dtype=torch.bool).scatter_(1, 2 * cuts, True)
    values = torch.randn(num_rows, 4, generator=generator)
    clean = values.gather(1, starts.long().cumsum(1))
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    return Batch(noisy, None, clean, None, None)


def gappy(num_rows: int, generator: torch.Generator) -> Batch:
    """Waves with a fifth of all points missing, look-back and future, and one patch entirely."""
    batch = waves(num_rows, generator)
    observed = torch.rand(batch.series.shape, generator=generator) > 0.2
    observed[::2, 4:8] = False
    observed[:, -2:] = True
    target_observed = torch.rand(batch.target.shape, generator=generator) > 0.2
    target_observed[:, 0] = True
    target_observed[::3, 1:] = False
    return batch._replace(observed=observed, target_observed=target_observed)


class Spike(NamedTuple):
    """A network, its data, and what training has to achieve."""

    build: Callable[[str], PatchNetwork]
    data: Callable[[int, torch.Generator], Batch]
    steps: int = 60
    ratio: float = 0.5
    without_gradient: tuple[str, ...] = ()


SPIKES = {
    "segmental": Spike(segmental, levels, steps=130, ratio=0.2),
    "nested_policy": Spike(nested_policy, waves, without_gradient=("missing_token",)),
    "shared_policy": Spike(nested_policy, grouped, without_gradient=("missing_token",)),
    "gaps_fixed": Spike(gaps_fixed, gappy, without_gradient=("length_weight",)),
    "gaps_random": Spike(gaps_random, gappy),
    "gaps_policy": Spike(nested_policy, gappy),
}


def batches(spike: Spike, seed: int, num_rows: int = 32) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield spike.data(num_rows, generator)
