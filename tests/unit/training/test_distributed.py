"""Two CPU processes compute what one does. They get the environment that torchrun gives them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.unit.training.distributed_worker import CASES, fit

ROOT = Path(__file__).parents[3]
EQUAL = [case for case in CASES if case != "batchnorm"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of both processes, over gloo on the loopback interface."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.training.distributed_worker", str(folder)],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        errors = [worker.communicate(timeout=280)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    return {case: fit(case) for case in EQUAL}


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[k].double() - second[k].double()).abs().max()) for k in first)


@pytest.mark.parametrize("case", EQUAL)
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_give_the_gradients_of_one(ranks, alone, case, rank):
    found, expected = ranks[rank][case], alone[case]
    assert largest_difference(found["gradients"], expected["gradients"]) < 1e-6
    assert largest_difference(found["state"], expected["state"]) < 1e-6
    assert any(float(g.abs().max()) > 1e-4 for g in expected["gradients"].values())


@pytest.mark.parametrize("case", EQUAL)
def test_two_processes_report_the_losses_of_one(ranks, alone, case):
    for found, expected in zip(ranks[0][case]["history"], alone[case]["history"], strict=True):
        for key, value in expected.items():
            if key == "train_loss" and case != "plain":
                # A mean over steps of float32 sums.
                assert found[key] == pytest.approx(value, rel=1e-5), key
            else:
                assert found[key] == pytest.approx(value, rel=1e-6), key


@pytest.mark.parametrize("case", CASES)
def test_processes_decide_together(ranks, case):
    """Above all with BatchNorm, whose statistics, hence validation losses, are per process."""
    first, second = (r[case] for r in ranks)
    assert first["history"] == second["history"]
    assert first["best_step"] == second["best_step"]
    assert first["num_steps"] == second["num_steps"]
    parameters = first["gradients"].keys()
    assert all(torch.equal(first["state"][k], second["state"][k]) for k in parameters)


def test_sampling_processes_stay_in_step(ranks):
    assert largest_difference(ranks[0]["random"], ranks[1]["random"]) == 0


def test_processes_use_accelerate_and_leave_the_generator_alone(ranks):
    assert all(r["accelerate"] for r in ranks)
    assert all(r["generator_untouched"] for r in ranks)
