"""Pretrain in a process of its own that may be killed: CORPUS CHECKPOINT FOLDER [KILL_AT]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from adaptivepatch.datasets.corpora import load_corpora
from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.pretraining.pretrain import PretrainingSettings, identity_of, pretrain
from adaptivepatch.pretraining.windows import Cell
from adaptivepatch.training.checkpoint import CheckpointFile

SETTINGS = PretrainingSettings(
    steps=12,
    batch_size=8,
    cells=(Cell(32, 8), Cell(48, 8), Cell(64, 16)),
    d_model=8,
    num_layers=1,
    averages=(),
    validate_every=4,
    validation_rows=16,
    seed=3,
)


def make_patcher():
    gradient = GroupPolicyGradient(reward="log_loss", delay=0.0, frozen_share=0.0)
    torch.manual_seed(0)
    return ReinPatcher(prior=1.0, width=8, gradient=gradient)


def run(corpus, checkpoint, **more):
    patcher, corpora = make_patcher(), load_corpora([corpus])
    file = CheckpointFile(Path(checkpoint), identity_of(patcher, corpora, SETTINGS))
    return patcher, pretrain(patcher, corpora, SETTINGS, checkpoint=file, **more)


if __name__ == "__main__":
    torch.set_num_threads(1)
    kill_at = int(sys.argv[4]) if len(sys.argv) > 4 else 0

    def stop(step):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trained, record = run(sys.argv[1], sys.argv[2], on_step=stop)
    trained.save_pretrained(sys.argv[3])
