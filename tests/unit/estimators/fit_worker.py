"""A fit in a process of its own, to be killed: folder of checkpoints, mode, write to die in.

Modes: "checkpoint" begins, "resume" goes on. With a third argument N the process kills itself
inside the N-th checkpoint write, between the temporary file and the move. A fourth names the
patcher: "random", or one of `TRAINED`. Without it, the fit is long, of random patches.
"""

from __future__ import annotations

import os
import signal
import sys

from adaptivepatch import (
    DynamicChunkingPatcher,
    Forecaster,
    GroupPolicyGradient,
    RandomPatcher,
    ReinPatcher,
    Trainer,
    TransformerBackbone,
)
from tests.builders import daily_frame

TRAINED = {
    "reinpatch": ReinPatcher(4, prior=1.0, gradient=GroupPolicyGradient(2, every=2)),
    # Its threshold follows the data, and its boundaries are drawn.
    "chunking": DynamicChunkingPatcher(4, width=8, num_layers=1, sharpness=6.0),
}


def forecaster(**changes):
    """Dropout, sampled boundaries, a refit, and an epoch that ends between validations."""
    settings = {
        "horizon": 6,
        "context_length": 24,
        "patcher": RandomPatcher(4),
        "backbone": TransformerBackbone(d_model=16, num_layers=1, dropout=0.2),
        "trainer": Trainer(max_steps=30, validate_every=7, batch_size=8, device="cpu"),
        "random_state": 3,
    }
    return Forecaster(**(settings | changes))


def to_be_killed(patcher=None):
    """The same with many more checkpoints."""
    steps = 400 if patcher is None else 30
    trainer = Trainer(max_steps=steps, validate_every=3, batch_size=8, device="cpu")
    return forecaster(trainer=trainer, patcher=TRAINED.get(patcher, RandomPatcher(4)))


def die_in_write(number):
    from adaptivepatch import files

    writes, fsync = iter(range(1, 10**6)), os.fsync

    def fsync_or_die(handle):
        fsync(handle)
        if next(writes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    files.os.fsync = fsync_or_die


if __name__ == "__main__":
    folder, mode, *rest = sys.argv[1:]
    if rest:
        die_in_write(int(rest[0]))
    model = to_be_killed(*rest[1:]).fit(daily_frame(), **{mode: folder})
    model.save(folder + "/model")
