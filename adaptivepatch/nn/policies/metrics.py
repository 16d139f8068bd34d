"""Metrics of policies for the training history."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from adaptivepatch.segmentation import Segmentation

_LENGTHS = (0.25, 0.5, 0.75, 1.25, 1.5, 2.0, math.inf)
_NAMES = (
    "policy_reward_spread",
    "policy_entropy",
    "policy_identical",
    "policy_signal_to_noise",
    "compression_rate",
    "mode_agreement",
    *(f"lengths_to_{edge:g}" for edge in _LENGTHS),
)


class MetricMeans:
    """Means of scalars since the last `take`; values stay on their device until then."""

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Add one value for each of the given names."""
        for name, value in found.items():
            self._found.setdefault(name, []).append(value.detach())

    def take(self) -> dict[str, float]:
        """Return the mean for every name, and reset all means."""
        found, self._found = self._found, {}
        return {
            name: float(torch.stack([v.double().cpu() for v in values]).mean())
            for name, values in found.items()
        }


class PolicyMetrics(MetricMeans):
    """Means of the metrics of a policy, always under the same names."""

    def take(self) -> dict[str, float]:
        """Return the mean for every name, or NaN if it has no values, and reset all means."""
        means = dict.fromkeys(_NAMES, math.nan) | super().take()
        identical = means["policy_identical"]
        means["policy_collapsed"] = identical if math.isnan(identical) else float(identical > 0.99)
        return means


@torch.no_grad()
def gradient_norm(module: nn.Module) -> float:
    """Return the norm of a module's current gradients; NaN if there are none."""
    norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
    return float(torch.stack(norms).norm()) if norms else math.nan


def policy_metrics(loss: Tensor, rollout: Segmentation, entropy: Tensor) -> dict[str, Tensor]:
    """Return metrics of the rollouts of a training step.

    Parameters
    ----------
    loss : Tensor of shape (G or 1, N)
        Loss of every rollout and row, or of one rollout if rollouts were not scored.
    rollout : Segmentation
        Segmentations of G * N rows, rollout-major.
    entropy : Tensor of shape (N,) or (G * N,)
        Entropy of the policy, in nats.
    """
    masks = rollout.boundary_mask.view(-1, loss.shape[1], rollout.num_steps)
    spread = loss.std(0).mean() if len(loss) > 1 else loss.new_zeros(())
    return {
        "policy_reward_spread": spread,
        "policy_entropy": entropy.mean(),
        "policy_identical": (masks == masks[:1]).all(2).all(0).double().mean(),
        "compression_rate": rollout.compression_rate.double().mean(),
    }


def mode_metrics(mode: Segmentation, reference: Segmentation) -> dict[str, Tensor]:
    """Return the mode's agreement with the reference, and its distribution of patch lengths.

    Parameters
    ----------
    mode : Segmentation
        Most probable segmentation of N rows.
    reference : Segmentation
        Reference segmentation, as one row.
    """
    starts = reference.boundary_mask[:, 1:]
    kept = (mode.boundary_mask[:, 1:] & starts).double().sum(1)
    real = mode.patch_lengths[mode.patch_mask].double()
    mean = mode.num_steps * mode.num_rows / len(real)
    edges = torch.tensor(_LENGTHS, dtype=torch.float64, device=real.device) * mean
    shares = torch.bucketize(real, edges).bincount(minlength=len(edges)).double() / len(real)
    return {
        "mode_agreement": (kept / starts.sum().clamp(min=1)).mean(),
        **{f"lengths_to_{edge:g}": share for edge, share in zip(_LENGTHS, shares, strict=True)},
    }
