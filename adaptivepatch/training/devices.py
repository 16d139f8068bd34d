"""Device and precision of one process, and accelerate where several were launched."""

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
"""Name to (type of weights and series, autocast type)."""


def resolve_device(device: str) -> torch.device:
    """Return the named device; "auto" is CUDA where there is one, else the CPU.

    Of several launched processes each gets the GPU of its local rank.

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
            f"device={requested!r} needs a CUDA device, and torch {torch.__version__} sees "
            f"{torch.cuda.device_count()}. Use device='cpu' or device='auto'."
        )
    return resolved


def resolve_precision(precision: str) -> tuple[torch.dtype, torch.dtype | None]:
    """Return (type of weights and series, autocast type) of a named precision.

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
    """The processes that train one model together; one unless launched distributed.

    ``accelerate launch`` and ``torchrun`` announce themselves by the variable ``WORLD_SIZE``. In a
    single process accelerate is not imported: its state is global, so a second model with another
    device or precision would be refused.
    """

    device: torch.device
    count: int = 1
    rank: int = 0
    wrap: Callable[[nn.Module], nn.Module] = field(default=lambda module: module)
    mean: Callable[[Tensor], Tensor] = field(default=lambda value: value)

    @classmethod
    def current(cls, device: torch.device) -> Processes:
        """Return this process alone, or join the others it was launched with."""
        if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
            return cls(device)
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        # Which parameters take part depends on the batch: gaps, sampled boundaries.
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
        """Return this process's part of a batch; all of it where there is too little to split."""
        return windows if len(windows) < self.count else windows[self.rank :: self.count]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Compute in a lower precision inside the context; None changes nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
