"""What a patcher is given before training: enough rows, not all of them."""

from __future__ import annotations

import pytest
import torch

from adaptivepatch import FixedPatcher, Forecaster, Trainer, TransformerBackbone
from adaptivepatch.estimators import fitting
from tests.builders import daily_frame

HORIZON, CONTEXT = 4, 16


class Recorder(FixedPatcher):
    """Fixed patches that keep what `prepare` is given."""

    def prepare(self, series, observed, generator):
        self.given, self.observed_given = series, observed


def given(num_channels, rows=400, seed=0, missing="error", drop=()):
    frame = daily_frame(rows, [f"c{k:03d}" for k in range(num_channels)])
    for place, channel in drop:
        frame.iloc[place, channel] = float("nan")
    model = Forecaster(
        HORIZON,
        context_length=CONTEXT,
        patcher=Recorder(8),
        backbone=TransformerBackbone(d_model=4, num_layers=1),
        trainer=Trainer(max_steps=1, batch_size=2),
        missing=missing,
        random_state=seed,
    )
    return model.fit(frame, refit=False).patcher_


@pytest.fixture
def few_rows(monkeypatch):
    monkeypatch.setattr(fitting, "_PREPARE_ROWS", 100)
    monkeypatch.setattr(fitting, "_PREPARE_WINDOWS", (4, 50))


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(("channels", "fewest"), [(1, 50), (5, 50), (60, 100)])
def test_rows_are_capped_however_many_channels_there_are(channels, fewest):
    assert fewest <= len(given(channels).given) <= 100


@pytest.mark.usefixtures("few_rows")
def test_rows_left_out_are_chosen_by_the_seed_and_keep_their_gaps():
    drop = [(place, 3) for place in range(5, 300, 7)]
    one, same, other = (given(60, seed=s, missing="mask", drop=drop) for s in (0, 0, 1))
    assert torch.equal(one.given, same.given)
    assert torch.equal(one.observed_given, same.observed_given)
    assert not torch.equal(one.given, other.given)
    assert one.observed_given.shape == one.given.shape
    is_gappy = ~one.observed_given.all(1)
    assert 0 < int(is_gappy.sum()) < 20  # 1 channel of 60


def test_few_windows_are_given_as_a_whole():
    assert len(given(2, rows=120).given) == 2 * len(given(1, rows=120).given)
