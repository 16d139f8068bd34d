"""The optimizer of a network: AdamW, with the patcher's own groups of parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptivepatch.network import PatchNetwork


def make_optimizer(
    network: PatchNetwork, learning_rate: float, weight_decay: float, first_beta: float = 0.9
) -> torch.optim.Optimizer:
    """Return AdamW over the groups of `parameter_groups`.

    Parameters
    ----------
    network : PatchNetwork
        Network, on its device.
    learning_rate : float
        Base learning rate.
    weight_decay : float
        Weight decay of all groups. With 0, AdamW equals Adam.
    first_beta : float, default=0.9
        Decay of the running mean of gradients.
    """
    groups = parameter_groups(network, learning_rate)
    betas = (first_beta, 0.999)
    return torch.optim.AdamW(groups, betas=betas, weight_decay=weight_decay, fused=True)


def parameter_groups(network: PatchNetwork, learning_rate: float) -> list[dict[str, Any]]:
    """Return the optimizer groups of a network: the patcher's own, after all other parameters.

    A module with an attribute `rate_factor` is trained at this multiple of the learning rate. So
    are its submodules, unless they have a `rate_factor` of their own.

    Parameters
    ----------
    network : PatchNetwork
        Network, on its device.
    learning_rate : float
        Base learning rate.
    """
    groups: list[dict[str, Any]] = network.patcher.parameter_groups(learning_rate)
    taken = {id(parameter) for parameter in network.patcher.parameters()}
    by_factor: dict[float, list[nn.Parameter]] = {1.0: []}
    _by_factor(network, 1.0, taken, by_factor)
    rest = [
        {"params": own, "lr": factor * learning_rate} for factor, own in by_factor.items() if own
    ]
    return [*rest, *groups]


def _by_factor(
    module: nn.Module, factor: float, taken: set[int], found: dict[float, list[nn.Parameter]]
) -> None:
    """Collect the trained parameters of a module by their factor, each parameter once."""
    factor = getattr(module, "rate_factor", factor)
    for parameter in module.parameters(recurse=False):
        if parameter.requires_grad and id(parameter) not in taken:
            taken.add(id(parameter))
            found.setdefault(factor, []).append(parameter)
    for child in module.children():
        _by_factor(child, factor, taken, found)
