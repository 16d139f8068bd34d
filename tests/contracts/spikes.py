"""Thin versions of the published methods, to prove that one contract carries them all.

They are as small as the wiring allows and no part of the library: what counts is what each of them
needs from `PatchNetwork`, the training step and `Segmentation`. ``test_spikes.py`` trains them.

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
    Deterministic,
    Rollout,
    SegmentationDistribution,
    StepContext,
    StepPlan,
)
from adaptivepatch.network import PatchNetwork, build_network
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.nn.tokens.heads import TimeAlignedHead
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.patchers.base import Patcher, rate_capacity
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


# ------------------------------------------------------------------- 2. dynamic chunking (H-Net)


class ChunkingPatcher(Patcher):
    """Cosine router over its own point encoder, with the ratio loss."""

    name = "chunking_spike"
    trainable = True

    def __init__(self, compression_rate: float = 4.0, width: int = 8, weight: float = 0.03) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.width = width
        self.weight = weight
        self.encoder = PointEncoder(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def capacity(self, num_steps: int) -> int:
        return rate_capacity(self, num_steps, self.compression_rate / 1.5)

    def propose(self, series, observed, group):
        points = self.encoder(series)
        cosine = F.cosine_similarity(self.query(points[:, :-1]), self.key(points[:, 1:]), dim=-1)
        prob = mean_in_groups(F.pad((1 - cosine) / 2, (1, 0), value=1.0), group)
        chosen = Segmentation.from_scores(prob.detach(), self.capacity(series.shape[1]), 0.5)
        confidence = torch.where(chosen.boundary_mask, prob, 1 - prob)
        gate = 1 + (confidence - confidence.detach())
        return Deterministic(chosen, boundary_prob=prob, features=points, gate=gate)

    def auxiliary_loss(self, context: StepContext) -> Tensor:
        rate = self.compression_rate
        chosen = context.distribution.mode.boundary_mask[:, 1:].float().mean()
        prob = context.distribution.boundary_prob[:, 1:].mean()
        ratio = (rate - 1) * chosen * prob + (1 - chosen) * (1 - prob)
        return self.weight * rate / (rate - 1) * ratio


class SelectEmbedding(nn.Module):
    """The point vector at a patch's start is its token."""

    def forward(self, series, segmentation, *, halo, observed, gate, features):
        start = segmentation.patch_starts.clamp(max=segmentation.num_steps - 1)
        return features.gather(1, start[..., None].expand(-1, -1, features.shape[-1]))


def ema_scan(decay: Tensor, values: Tensor) -> Tensor:
    """z_k = p_k v_k + (1 - p_k) z_{k-1} over (N, P, D) in log2(P) doubling steps."""
    keep, total, shift = (1 - decay)[..., None], decay[..., None] * values, 1
    while shift < values.shape[1]:
        keep_before = F.pad(keep[:, :-shift], (0, 0, shift, 0), value=1.0)
        total_before = F.pad(total[:, :-shift], (0, 0, shift, 0))
        total, keep, shift = keep * total_before + total, keep * keep_before, 2 * shift
    return total


class Dechunk(nn.Module):
    """Smooth the hidden tokens, give them back to the points, add the points' own vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.residual = nn.Linear(width, width)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    def forward(self, hidden, segmentation, distribution, rollout):
        num_rows, num_steps = segmentation.boundary_mask.shape
        start = segmentation.patch_starts.clamp(max=num_steps - 1)
        decay = distribution.boundary_prob.gather(1, start).clamp(1e-4, 1 - 1e-4)
        points = broadcast(ema_scan(decay.float(), hidden.float()), segmentation)
        if rollout.gate is not None:
            points = points * rollout.gate[..., None]
        points = points + self.residual(distribution.features.float())
        every_step = Segmentation.even(num_steps, num_steps, num_rows, hidden.device)
        return points.to(hidden.dtype), every_step


# ------------------------------------------------------------------------------ 3. Gumbel pooling


class RelaxedBernoulli(SegmentationDistribution):
    """Independent boundaries, relaxed at temperature 0.5, at most `capacity` patches."""

    def __init__(self, logits: Tensor, features: Tensor, capacity: int, group: Tensor | None):
        self.logits, self.features, self.capacity, self.group = logits, features, capacity, group
        self.boundary_prob = logits.sigmoid()

    @property
    def mode(self) -> Segmentation:
        """The likeliest starts, as many as are expected. (All those likelier than 0.5 would be
        none at all for a predictor that is right about its rate and knows nothing else.)"""
        logits = self.logits.detach()
        place = logits[:, 1:].argsort(dim=1, descending=True, stable=True).argsort(1)
        expected = self.boundary_prob.detach()[:, 1:].sum(1, keepdim=True).round()
        likely = F.pad(place < expected.clamp(max=self.capacity - 1), (1, 0), value=True)
        return Segmentation(likely, capacity=self.capacity, validate=False)

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Rollout:
        shape = (num_samples, *self.logits.shape)
        noise = torch.rand(shape, device=self.logits.device, generator=generator)
        noise = share_in_groups(noise, self.group).clamp(1e-6, 1 - 1e-6).logit()
        relaxed = ((self.logits + noise) / 0.5).sigmoid().flatten(0, 1)
        chosen = Segmentation.from_scores(relaxed.detach(), self.capacity, threshold=0.5)
        through = relaxed - relaxed.detach()
        return Rollout(chosen, action=(relaxed > 0.5).float() + through, gate=1 + through)


class GumbelPatcher(Patcher):
    """Boundary predictor trained by the forecast, held to its rate by a binomial prior."""

    name = "gumbel_spike"
    stochastic = True
    trainable = True

    def __init__(self, compression_rate: float = 4.0, width: int = 8) -> None:
        super().__init__()
        self.compression_rate = compression_rate
        self.width = width
        self.encoder = PointEncoder(width)
        self.predictor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def capacity(self, num_steps: int) -> int:
        return rate_capacity(self, num_steps, self.compression_rate / 2)

    def propose(self, series, observed, group):
        points = self.encoder(series)
        logits = mean_in_groups(self.predictor(points)[..., 0], group)
        return RelaxedBernoulli(logits, points, self.capacity(series.shape[1]), group)

    def auxiliary_loss(self, context: StepContext) -> Tensor:
        boundaries = context.rollout.action[:, 1:]
        total, count = float(boundaries.shape[1]), boundaries.sum(1)
        rate = torch.tensor(1 / self.compression_rate)
        log_prob = (
            torch.lgamma(torch.tensor(total + 1))
            - torch.lgamma(count + 1)
            - torch.lgamma(total - count + 1)
            + count * rate.log()
            + (total - count) * (1 - rate).log()
        )
        return -log_prob.mean() / total


class PoolEmbedding(nn.Module):
    """Mean of the point vectors of a patch."""

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, series, segmentation, *, halo, observed, gate, features):
        points = features if gate is None else features * gate[..., None]
        return self.norm(self.projection(pool_mean(points, segmentation, observed)))


# ------------------------------------------------------------------------------- 4. two levels


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


class NestedFixedPatcher(Patcher):
    """Fixed patches of fixed patches."""

    name = "nested_fixed_spike"

    def __init__(self, fine: FixedPatcher, coarse: FixedPatcher) -> None:
        super().__init__()
        self.fine = fine
        self.coarse = coarse

    def capacity(self, num_steps: int) -> int:
        return self.fine.capacity(num_steps)

    def reference_patches(self, num_steps: int) -> Segmentation:
        return with_parent(
            self.fine.reference_patches(num_steps),
            self.coarse.reference_patches(self.capacity(num_steps)),
        )

    def propose(self, series, observed, group):
        reference = self.reference_patches(series.shape[1])
        return Deterministic(reference.to(series.device).expand(len(series)))


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
    unpatch: nn.Module | None = None,
) -> PatchNetwork:
    """Build a network whose head reads patches, or points."""
    reference = patcher.reference_patches(NUM_STEPS)
    core.build(reference)
    cells = Segmentation.even(NUM_STEPS, NUM_STEPS) if at_points else reference
    head = TimeAlignedHead(cells, core.d_model, horizon)
    return PatchNetwork(patcher, embedding, core, head, unpatch=unpatch)


def segmental(core: str) -> PatchNetwork:
    embedding = MeanEmbedding(D_MODEL)
    return assemble(SegmentalPolicy(), embedding, backbone(core), at_points=True, horizon=NUM_STEPS)


def chunking(core: str) -> PatchNetwork:
    patcher = ChunkingPatcher(width=D_MODEL)
    embedding, unpatch = SelectEmbedding(), Dechunk(D_MODEL)
    return assemble(patcher, embedding, backbone(core), at_points=True, unpatch=unpatch)


def pooling(core: str) -> PatchNetwork:
    return assemble(GumbelPatcher(width=8), PoolEmbedding(8, D_MODEL), backbone(core))


def nested_fixed(core: str) -> PatchNetwork:
    patcher = NestedFixedPatcher(FixedPatcher(4), FixedPatcher(3))
    two_levels = NestedBackbone(backbone(core), backbone(core))
    return build_network(patcher, two_levels, context_length=NUM_STEPS, horizon=HORIZON)


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
    "chunking": Spike(chunking, waves),
    "pooling": Spike(pooling, waves),
    "nested_fixed": Spike(nested_fixed, waves, without_gradient=("missing_token", "length_weight")),
    "nested_policy": Spike(nested_policy, waves, without_gradient=("missing_token",)),
    "shared_chunking": Spike(chunking, grouped),
    "shared_pooling": Spike(pooling, grouped),
    "shared_policy": Spike(nested_policy, grouped, without_gradient=("missing_token",)),
    "gaps_fixed": Spike(gaps_fixed, gappy, without_gradient=("length_weight",)),
    "gaps_random": Spike(gaps_random, gappy),
    "gaps_policy": Spike(nested_policy, gappy),
    "gaps_pooling": Spike(pooling, gappy),
}


def batches(spike: Spike, seed: int, num_rows: int = 32) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield spike.data(num_rows, generator)
