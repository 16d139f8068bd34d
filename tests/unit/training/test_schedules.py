from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from adaptivepatch import FixedPatcher, Trainer, WindowRegressor
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.training.schedules import SCHEDULES, first_beta, make_schedule


@pytest.mark.parametrize(
    ("name", "progress", "epochs", "expected"),
    [
        ("constant", 0, 0, 1),
        ("constant", 0.3, 9, 1),
        ("constant", 1, 99, 1),
        ("cosine", 0, 0, 1),
        ("cosine", 0.3, 3, (1 + math.cos(0.3 * math.pi)) / 2),
        ("cosine", 0.5, 5, 0.5),
        ("cosine", 1, 9, 0),
        ("one_cycle", 0, 0, 0.04),
        ("one_cycle", 0.15, 0, 0.52),
        ("one_cycle", 0.3, 0, 1),
        ("one_cycle", 0.65, 0, 0.50005),
        ("one_cycle", 1, 9, 1e-4),
        ("patchtst", 0, 0, 1),
        ("patchtst", 0.3, 3.99, 1),
        ("patchtst", 0.3, 4, 0.9),
        ("patchtst", 0.3, 5.5, 0.81),
        ("patchtst", 1, 13, 0.9**10),
        ("patchtst_as_run", 0, 0, 0.04),
        ("patchtst_as_run", 0.02, 0.99, 0.04),
        ("patchtst_as_run", 0.02, 1, 1),
        ("patchtst_as_run", 0.3, 3.99, 1),
        ("patchtst_as_run", 0.3, 5.5, 0.81),
    ],
)
def test_values(name, progress, epochs, expected):
    assert make_schedule(name)(progress, epochs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SCHEDULES.keys() - {"patchtst_as_run"}))
def test_factors_stay_in_range_and_move_smoothly(name):
    schedule = make_schedule(name)
    values = [schedule(k / 1000, k / 50) for k in range(1001)]
    assert all(0 <= v <= 1 for v in values)
    jumps = max(abs(a - b) for a, b in itertools.pairwise(values))
    assert jumps < (0.11 if name == "patchtst" else 0.006)
    assert max(values) == pytest.approx(1)


def test_patchtst_as_run_does_what_the_published_code_does():
    """A one-cycle scheduler is made and never stepped; "type3" sets the rate after every epoch."""
    base, epochs, steps = 1e-4, 8, 3
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=base)
    OneCycleLR(adam, steps_per_epoch=steps, pct_start=0.3, epochs=epochs, max_lr=base)
    group, schedule = adam.param_groups[0], make_schedule("patchtst_as_run")
    assert group["lr"] == pytest.approx(4e-6)
    assert first_beta("patchtst_as_run") == group["betas"][0] == 0.95
    for epoch in range(epochs):
        for step in range(steps):
            done = epoch * steps + step
            rate = base * schedule(done / (epochs * steps), done / steps)
            assert rate == pytest.approx(group["lr"]), epoch
        later = epoch + 1
        group["lr"] = base if later < 3 else base * 0.9 ** (later - 3)


@pytest.mark.parametrize(("name", "beta"), [("patchtst", 0.9), ("patchtst_as_run", 0.95)])
def test_a_schedule_states_the_first_beta(name, beta, monkeypatch):
    betas = []
    step = torch.optim.AdamW.step

    def observed(optimizer, *arguments):
        betas.extend(group["betas"] for group in optimizer.param_groups)
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", observed)
    past, future = torch.randn(20, 8).numpy(), torch.randn(20, 2).numpy()
    trainer = Trainer(max_steps=2, schedule=name, device="cpu")
    WindowRegressor(FixedPatcher(4), trainer=trainer).fit(past, future)
    assert set(betas) == {(beta, 0.999)}


def test_unknown_names_are_refused():
    with pytest.raises(InvalidParameterError, match="Unknown schedule 'cosin'.*mean 'cosine'"):
        make_schedule("cosin")
