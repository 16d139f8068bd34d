"""The loss of one training step, the same for fixed, differentiable and sampled patchers.

(a) If the patcher's plan asks for scores, compute the loss of its rollouts with the network in eval
mode and without gradient: dropout noise and batch statistics would hide the differences between
rollouts.
(b) Compute the loss in train mode on some of the rollouts, and add the patcher's auxiliary loss.

Tensor suffixes: N rows, G rollouts, T steps, H horizon.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from adaptivepatch.distributions import Rollout, SegmentationDistribution, StepContext, StepPlan
from adaptivepatch.network import Lookback, PatchNetwork
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.devices import autocast
from adaptivepatch.training.losses import RowLoss, weighted_sum
from adaptivepatch.training.record import StepOutput
from adaptivepatch.training.sampler import Batch


class TrainingStep(nn.Module):
    """The loss of a batch as one forward pass, so that DistributedDataParallel can wrap it.

    Parameters
    ----------
    network : PatchNetwork
        Network to train.
    row_loss : callable
        Loss of each row; see `adaptivepatch.training.losses.RowLoss`.
    total_weight : callable, optional
        Function that maps this process's sum of row weights to the mean over processes.
    precision : torch.dtype, optional
        Lower precision of the forward pass.
    """

    def __init__(
        self,
        network: PatchNetwork,
        row_loss: RowLoss,
        total_weight: Callable[[Tensor], Tensor] | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.row_loss = row_loss
        self.total_weight = total_weight or (lambda weight: weight)
        self.precision = precision

    def forward(self, batch: Batch, generator: torch.Generator, progress: float) -> StepOutput:
        """Return the loss of a batch.

        Parameters
        ----------
        batch : Batch
            Batch of N rows.
        generator : torch.Generator
            Generator of the rollouts.
        progress : float
            Share of the training that is done, from 0 to 1.
        """
        with autocast(batch.series.device, self.precision):
            return self._loss(batch, generator, progress)

    def _loss(self, batch: Batch, generator: torch.Generator, progress: float) -> StepOutput:
        patcher = self.network.patcher
        lookback, distribution = self.network.segment(batch.series, batch.observed, batch.group)
        plan = patcher.plan(progress)
        if plan.num_samples:
            rollout = distribution.sample(plan.num_samples, generator)
        else:
            rollout = Rollout(distribution.mode)
        scores = mode_loss = None
        if plan.is_scored:
            scores = self._score(lookback, distribution, rollout.segmentation, batch)
        if plan.is_mode_scored:
            mode_loss = self._score(lookback, distribution, distribution.mode, batch)[0]

        chosen = _training_rollout(plan, distribution, rollout, generator)
        forecast = self.network.forecast(lookback, distribution, chosen)
        row_loss, target_observed = self._row_loss(forecast.value, batch)
        total, weight = weighted_sum(row_loss, target_observed)
        forecast_loss = total / self.total_weight(weight).clamp(min=1e-12)

        context = StepContext(
            series=lookback.series,
            observed=lookback.observed,
            target=batch.target,
            distribution=distribution,
            rollout=rollout,
            forecast_loss=_per_sample(row_loss.detach(), batch) if scores is None else scores,
            hidden=forecast.hidden,
            group=batch.group,
            progress=progress,
            target_observed=batch.target_observed,
            mode_loss=mode_loss,
            scale=lookback.scale,
        )
        auxiliary = None if patcher.is_frozen else patcher.auxiliary_loss(context)
        if auxiliary is None:
            auxiliary = torch.zeros_like(forecast_loss)
        own = self.network.backbone.auxiliary_loss()
        if own is not None:
            auxiliary = auxiliary + own
        return StepOutput(forecast_loss + auxiliary, forecast_loss.detach(), auxiliary.detach())

    @torch.no_grad()
    def _score(
        self,
        lookback: Lookback,
        distribution: SegmentationDistribution,
        segmentation: Segmentation,
        batch: Batch,
    ) -> Tensor:
        """Return the loss of every rollout and row, shape (G, N)."""
        self.network.eval()
        rows, losses = len(batch.target), []
        for start in range(0, segmentation.num_rows, rows):  # one rollout at a time fits the cache
            rollout = Rollout(segmentation.select(slice(start, start + rows)))
            forecast = self.network.forecast(lookback, distribution, rollout)
            losses.append(self._row_loss(forecast.value, batch)[0])
        self.network.train()
        return torch.stack(losses)

    def _row_loss(self, forecast: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the loss of each row of each rollout, and which of its targets are observed."""
        copies = len(forecast) // len(batch.target)
        observed = batch.target_observed
        if observed is not None:
            observed = observed.repeat(copies, 1)
        return self.row_loss(forecast, batch.target.repeat(copies, 1), observed), observed


def _training_rollout(
    plan: StepPlan,
    distribution: SegmentationDistribution,
    rollout: Rollout,
    generator: torch.Generator,
) -> Rollout:
    """Return the segmentations on which the gradient of the forecast loss is computed."""
    if plan.grad_samples < plan.num_samples:
        rollout = rollout.head(plan.grad_samples, rollout.segmentation.num_rows // plan.num_samples)
    if plan.mode_share == 0 or plan.num_samples == 0:
        return rollout
    sampled, mode = rollout.segmentation, distribution.mode
    chance = torch.rand(sampled.num_rows, generator=generator, device=sampled.device)
    on_mode = chance < plan.mode_share
    gate = rollout.gate
    if gate is not None:  # the gate rates the sampled boundaries, not the mode's
        gate = torch.where(on_mode[:, None], torch.ones_like(gate), gate)
    mixed = Segmentation.where(on_mode, mode.repeat(sampled.num_rows // mode.num_rows), sampled)
    return Rollout(mixed, gate=gate)


def _per_sample(row_loss: Tensor, batch: Batch) -> Tensor:
    """Reshape (G * N,) to (G, N)."""
    return row_loss.view(-1, len(batch.target))
