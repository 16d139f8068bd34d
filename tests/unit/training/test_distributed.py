"""Two CPU processes compute what one does. The workers are started as torchrun starts them."""

from __future__ import annotations

import os
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
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "tests.unit.training.distributed_worker", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
