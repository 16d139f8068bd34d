"""torch's global state: what a fit needs of it, and how it is left as it was.

torch keeps one generator, one default type and one default device for the whole process, and
gradient mode, inference mode and autocast for a thread. A fit must neither depend on what the
caller has set nor change it.
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
    """Compute as torch does when nothing has been set.

    Inside, tensors are made in float32 and on the CPU unless a call says otherwise, nothing is
    computed under the caller's autocast, and no inference mode is on.

    Parameters
    ----------
    grad : bool, default=False
        Whether gradients are recorded.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.set_grad_enabled(grad))
        if torch.get_default_device().type != "cpu":  # such a mode slows every operation
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_float32())
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """Make tensors in float32. The type is one for all threads, so it is set only if it differs."""
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
    """Draw from torch's global generators after seeding them, and leave them as they were.

    All threads share one such generator. Seeded blocks therefore run one after the other, so that
    none of them draws from the stream of another.

    Parameters
    ----------
    seed : int, optional
        None draws without seeding.
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
