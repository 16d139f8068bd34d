"""Blocks of code that neither depend on torch's global state nor change it.

torch keeps one generator, one default type and one default device for the whole process, and
gradient mode, inference mode and autocast for each thread. A fit must neither depend on these
settings of the caller nor change them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

_DEFAULT_DTYPE = torch.float32
_lock = threading.RLock()


@contextmanager
def plain_torch(*, grad: bool = False) -> Iterator[None]:
    """Run a block with torch's own default settings.

    Inside the block, tensors are created in float32 and on the CPU unless a call says otherwise,
    and autocast and inference mode are off.

    Parameters
    ----------
    grad : bool, default=False
        Whether gradients are recorded.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.set_grad_enabled(grad))
        if torch.get_default_device().type != "cpu":  # setting a device slows every operation
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_float32())
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """Create tensors in float32. All threads share the default, so it is set only if needed."""
    before = torch.get_default_dtype()
    if before == _DEFAULT_DTYPE:
        yield
        return
    with _lock:
        torch.set_default_dtype(_DEFAULT_DTYPE)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def seeded(seed: int | None, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Seed torch's global generators for a block, and restore them afterwards.

    All threads share these generators. Seeded blocks therefore run one after the other, so that
    none draws from the stream of another.

    Parameters
    ----------
    seed : int, optional
        Seed of the generators. None: the generators are not seeded, only restored.
    devices : sequence of torch.device, optional
        CUDA devices whose generators are seeded and restored as well.
    """
    with _lock, torch.random.fork_rng(devices=list(devices)):
        if seed is not None:
            # torch.manual_seed would seed devices that are not forked, too.
            torch.default_generator.manual_seed(seed)
            for device in devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield
