"""Devices, precisions, and the processes of distributed training."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from adaptivepatch.errors import InvalidParameterError

PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float32": (torch.float32, None),
    "float64": (torch.float64, None),
    "bfloat16": (torch.float32, torch.bfloat16),
}
"""Maps a name to (type of weights and series, autocast type or None)."""


def resolve_device(device: str) -> torch.device:
    """Return the named device; "auto" means CUDA if available, else the CPU.

    "cuda" means the GPU with the local rank of this process, or GPU 0 in a single process.

    Raises
    ------
    InvalidParameterError
        If the name is not a device of this machine.
    """
    requested = device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidParameterError(
            f"The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got "
            f"{requested!r} instead.",
            parameter="device",
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise InvalidParameterError(
            f"The 'device' parameter of Trainer must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got "
            f"{requested!r} instead.",
            parameter="device",
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise InvalidParameterError(
            f"device={requested!r} is not available, because torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices. Use device='cpu' or device='auto'.",
            parameter="device",
        )
    return resolved


def resolve_precision(precision: str) -> tuple[torch.dtype, torch.dtype | None]:
    """Return (type of weights and series, autocast type or None) of a named precision.

    Raises
    ------
    InvalidParameterError
        If the name is unknown.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise InvalidParameterError(
            f"The 'precision' parameter of Trainer must be one of {sorted(PRECISIONS)}. Got "
            f"{precision!r} instead.",
            parameter="precision",
        )
    return PRECISIONS[precision]


@dataclass
class Processes:
    """Processes that train one model together: a single process, unless several are launched.

    ``accelerate launch`` and ``torchrun`` set the environment variable ``WORLD_SIZE``. A single
    process does not import accelerate, because the state of accelerate is global and would refuse a
    second model with another device or precision.

    Parameters
    ----------
    device : torch.device
        Device of this process.
    count, rank : int
        Number of processes, and index of this process.
    wrap : callable
        Function that wraps a module for distributed training.
    mean : callable
        Function that returns the mean of a tensor over the processes.
    """

    device: torch.device
    count: int = 1
    rank: int = 0
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda module: module)
    mean: Callable[[Tensor], Tensor] = field(default=lambda value: value)

    @classmethod
    def current(cls, device: torch.device) -> Processes:
        """Return this process alone, or all processes that were launched together."""
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls(device)
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        # Gaps and sampled boundaries decide which parameters a batch uses.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        accelerator = Accelerator(cpu=device.type == "cpu", kwargs_handlers=[unused])
        return cls(
            device=accelerator.device,
            count=accelerator.num_processes,
            rank=accelerator.process_index,
            wrap=accelerator.prepare_model,
            mean=lambda value: accelerator.reduce(value.clone(), reduction="mean"),
        )

    def share(self, windows: Tensor) -> Tensor:
        """Return this process's part of a batch, or all of a batch that is too small to split."""
        return windows if len(windows) < self.count else windows[self.rank :: self.count]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return a context that computes in a lower precision; with None it changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
