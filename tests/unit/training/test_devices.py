from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.training.devices import (
    PRECISIONS,
    Processes,
    autocast,
    resolve_device,
    resolve_precision,
)

CPU = torch.device("cpu")


def test_devices_resolve():
    assert resolve_device("cpu") == CPU
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    with pytest.raises(InvalidParameterError, match="must be 'auto', 'cpu', 'cuda'.*Got 'gpu'"):
        resolve_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(InvalidParameterError, match="'cuda.*is not available.*device='cpu'"):
        resolve_device("cuda:1")


def test_precisions_resolve():
    assert resolve_precision("float64") == (torch.float64, None)
    assert resolve_precision("bfloat16") == (torch.float32, torch.bfloat16)
    assert set(PRECISIONS) == {"float32", "float64", "bfloat16"}
    with pytest.raises(InvalidParameterError, match="'precision'.*'float32'.*Got 'fp16'"):
        resolve_precision("fp16")


def test_autocast_is_for_the_block_only():
    with autocast(CPU, torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(CPU, None):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("world_size", [None, "1"])
def test_one_process_is_alone(monkeypatch, world_size):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    alone = Processes.current(CPU)
    assert (alone.count, alone.rank, alone.device) == (1, 0, CPU)
    module, value = torch.nn.Linear(1, 1), torch.ones(())
    assert alone.wrap(module) is module
    assert alone.mean(value) is value


def test_one_process_never_imports_accelerate():
    code = """
import sys
import torch
from tests.builders import series_source, small_network
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.trainer import Trainer, WindowSets
torch.set_num_threads(1)
source, windows = series_source()
Trainer(max_steps=2, device="cpu").fit(
    small_network(), source, WindowSets(windows, windows[:3]), make_loss("mse"), seed=0
)
assert "accelerate" not in sys.modules, "accelerate was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 32, 33])
def test_shares_are_the_batch(count, size):
    windows = torch.arange(size)
    shares = [Processes(CPU, count=count, rank=rank).share(windows) for rank in range(count)]
    assert all(len(share) for share in shares)
    if size >= count:
        assert sorted(torch.cat(shares).tolist()) == windows.tolist()
    else:  # too little to split: everyone computes the same
        assert all(torch.equal(share, windows) for share in shares)
