"""Group relative policy gradient: advantages, the score-function loss, and their settings.

The functions are pure; `GroupPolicyGradient` holds the user's settings.

Tensor suffixes: N rows, G rollouts of a row, T steps, P patches.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from adaptivepatch.errors import InvalidParameterError, check_choice, check_float, check_int
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.parameters import Configurable
from adaptivepatch.segmentation import Segmentation

GROUP_BASELINES = ("rloo", "mean", "std")
BASELINES = (*GROUP_BASELINES, "greedy", "early_exit")


def group_advantage(reward: Tensor, baseline: Literal["rloo", "mean", "std"]) -> Tensor:
    """Compare the reward of every rollout with the other rollouts of its row.

    Parameters
    ----------
    reward : Tensor of shape (G, N)
        Rewards of at least 2 rollouts per row.
    baseline : {"rloo", "mean", "std"}
        Baseline that is subtracted. "rloo": the mean of the other rollouts, which is unbiased.
        "mean": the mean of all rollouts, which scales the expected gradient by (G - 1) / G. "std"
        (GRPO): the same as "mean", but the difference is divided by the row's standard deviation
        plus 1e-4, so that all rows have equal weight, even rows for which patches hardly matter.

    Returns
    -------
    Tensor of shape (G, N)

    References
    ----------
    W. Kool, H. van Hoof, M. Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019
    (rloo); Z. Shao et al., "DeepSeekMath", arXiv:2402.03300, section 4.1 (std); Z. Liu et al.,
    "Understanding R1-Zero-Like Training", arXiv:2503.20783 (mean).
    """
    samples = len(reward)
    centred = reward - reward.mean(0)
    if baseline == "rloo":
        return centred * (samples / (samples - 1))
    if baseline == "std":
        return centred / (reward.std(0) + 1e-4)
    return centred


def score_function_loss(advantage: Tensor, log_prob: Tensor, weight: Tensor) -> Tensor:
    """Return a scalar loss whose gradient is minus the policy gradient.

    The loss is ``- sum_n w_n mean_g A_gn log p(b_gn) / sum_n w_n``. No gradient flows through the
    advantage.

    Parameters
    ----------
    advantage, log_prob : Tensor of shape (G, N)
        Advantages A and log-probabilities of the raw actions b.
    weight : Tensor of shape (N,)
        Weight w of each row.
    """
    terms = advantage.detach().to(log_prob.dtype) * log_prob
    return -(terms.mean(0) * weight).sum() / weight.sum().clamp(min=1e-12)


def reconstruction_error(series: Tensor, segmentation: Segmentation) -> Tensor:
    """Return the mean squared distance of each row from its patch means, shape (G * N,).

    Parameters
    ----------
    series : Tensor of shape (N, T)
        Normalised look-backs with filled gaps.
    segmentation : Segmentation
        Segmentations of G * N rows, rollout-major.
    """
    rows = series.repeat(segmentation.num_rows // len(series), 1)
    means = broadcast(pool_mean(rows[..., None], segmentation), segmentation)[..., 0]
    return (rows - means).square().mean(1)


def signal_to_noise(gradient: Tensor) -> Tensor:
    """Return ``|mean|^2 / (trace of the covariance / N)`` of row gradients (N, D).

    The value is about 1 if the mean is only the noise of an average over N rows.
    """
    mean = gradient.mean(0)
    spread = (gradient - mean).square().sum() / max(1, len(gradient) - 1)
    return mean.square().sum() / (spread / len(gradient)).clamp(min=1e-30)


class GroupPolicyGradient(Configurable):
    """Settings for training a boundary policy on the forecast loss (GRPG).

    Parameters
    ----------
    num_samples : int, default=4
        Number G of rollouts per row. 1 requires the baseline "greedy" or "early_exit".
    baseline : {"rloo", "mean", "std", "greedy", "early_exit"}, default="rloo"
        Baseline of the reward. "rloo", "mean" and "std" are described in `group_advantage`.
        "greedy" is the reward of the mode, which costs one more forecast. "early_exit" is the
        reward of a linear forecaster that does not see patches.
    reward : {"loss", "log_loss"}, default="loss"
        Reward: minus the forecast loss of the row, or minus its logarithm, which gives rows of
        different scales equal weight.
    learning_rate : float, default=3.0
        Learning rate of the policy, as a multiple of the trainer's rate; 0 keeps the initial
        policy.
    entropy_bonus : float, default=0.0
        Weight of the policy's entropy, in units of the reward's scale per nat.
    clip : float, default=5.0
        Largest absolute advantage, in units of its running root mean square.
    delay : float, default=0.05
        Initial share of training in which the policy is not updated.
    warmup : float, default=0.0
        Share of training, after the delay, in which the reward is minus the mean squared distance
        of the series from its patch means.
    mode_share : float, default=0.5
        Share of rows whose forecast gradient uses the mode instead of a sample.
    frozen_share : float, default=0.2
        Final share of training in which the policy is not updated and the backbone trains on modes
        only.
    every : int, default=1
        Interval between policy updates, in training steps. Steps without an update cost no more
        than with fixed patches.

    Notes
    -----
    Training is joint and needs no relaxation: at every step, the policy follows
    ``E[(R - baseline) grad log p]``, and the backbone follows the gradient of the forecast loss for
    one of the segmentations. Advantages are divided by one running root mean square for all rows,
    then clipped.

    References
    ----------
    Y. Wu et al., "Dynamic Tokenization via Reinforcement Patching", arXiv:2603.26097.
    """

    name = "group_policy_gradient"

    def __init__(
        self,
        num_samples: int = 4,
        baseline: str = "rloo",
        reward: str = "loss",
        learning_rate: float = 3.0,
        entropy_bonus: float = 0.0,
        clip: float = 5.0,
        delay: float = 0.05,
        warmup: float = 0.0,
        mode_share: float = 0.5,
        frozen_share: float = 0.2,
        every: int = 1,
    ) -> None:
        self.num_samples = num_samples
        self.baseline = baseline
        self.reward = reward
        self.learning_rate = learning_rate
        self.entropy_bonus = entropy_bonus
        self.clip = clip
        self.delay = delay
        self.warmup = warmup
        self.mode_share = mode_share
        self.frozen_share = frozen_share
        self.every = every

    def check(self) -> None:
        """Raise `InvalidParameterError` if a parameter is out of its range."""
        check_int(self, num_samples=self.num_samples, every=self.every)
        check_choice(self, BASELINES, baseline=self.baseline)
        check_choice(self, ("loss", "log_loss"), reward=self.reward)
        check_float(
            self, "[0, inf)", learning_rate=self.learning_rate, entropy_bonus=self.entropy_bonus
        )
        check_float(self, "(0, inf)", clip=self.clip)
        shares = ("delay", "warmup", "mode_share", "frozen_share")
        check_float(self, "[0, 1]", **{name: getattr(self, name) for name in shares})
        if self.num_samples == 1 and self.baseline in GROUP_BASELINES:
            raise InvalidParameterError(
                f"The baseline {self.baseline!r} compares several rollouts of a row. Got "
                "num_samples=1. Use at least 2 samples, or baseline='greedy' or 'early_exit'.",
                parameter="num_samples",
            )
        without_updates = self.delay + self.frozen_share
        if without_updates + self.warmup > 1 or (without_updates == 1 and 0 < self.delay < 1):
            raise InvalidParameterError(
                "delay, warmup and frozen_share must leave the policy time to learn. Got delay="
                f"{self.delay!r}, warmup={self.warmup!r}, frozen_share={self.frozen_share!r}. "
                "Lower them: their sum must not exceed 1, and delay + frozen_share must be below 1."
            )

    def phase(self, progress: float) -> Literal["delay", "warmup", "learn", "frozen"]:
        """Return the policy's phase when the share `progress` of training, from 0 to 1, is done."""
        if progress >= 1 - self.frozen_share:
            return "frozen"
        if self.learning_rate == 0 or progress < self.delay:
            return "delay"
        return "warmup" if progress < self.delay + self.warmup else "learn"

    def advantage(self, error: Tensor, compared: Tensor | None) -> Tensor:
        """Return the reward of every rollout minus its baseline, shape (G, N).

        Parameters
        ----------
        error : Tensor of shape (G, N)
            Error of every rollout; the reward is its negative.
        compared : Tensor of shape (N,), (1, N) or (G, N), or None
            Error of the mode or of the early exit; None for the baselines of `group_advantage`.
        """
        if self.reward == "log_loss":
            error = error.clamp(min=1e-12).log()
            compared = None if compared is None else compared.clamp(min=1e-12).log()
        if compared is None:
            return group_advantage(-error, self.baseline)  # type: ignore[arg-type]
        return compared - error


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Average a scalar over all processes of distributed training."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / torch.distributed.get_world_size()
    return value
