"""A threshold is valid for what it was found for: saved, copied, in other dtypes."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from adaptivepatch import Forecaster, Trainer, TransformerBackbone, load_patcher
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.patchers.deviation import DeviationPatcher
from adaptivepatch.patchers.dynamic_chunking import DynamicChunkingPatcher
from adaptivepatch.patchers.dynamic_pooling import DynamicPoolingPatcher
from adaptivepatch.patchers.entropy import EntropyPatcher
from adaptivepatch.patchers.score_function import ScoreFunctionPatcher
from tests.builders import daily_frame

STEPS, RATE = 48, 5.1  # of which no binary number is

MAKERS = {
    "deviation": lambda **p: DeviationPatcher(budget="target", **p),
    "entropy": lambda **p: EntropyPatcher(budget="min", train_steps=3, **p),
    "chunking": lambda **p: DynamicChunkingPatcher(**p),
    "pooling": lambda **p: DynamicPoolingPatcher(**p),
    "score_function": lambda **p: ScoreFunctionPatcher(window=2, **p),
}
every_maker = pytest.mark.parametrize("make", list(MAKERS.values()), ids=list(MAKERS))


def series(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, STEPS, generator=generator, dtype=torch.float64).to(dtype)


def prepared(make, dtype=torch.float32):
    patcher = make(compression_rate=RATE).to(dtype)
    patcher.prepare(series(dtype), None, torch.Generator())
    return patcher.eval()


def starts(patcher, dtype=torch.float32):
    return patcher(series(dtype, seed=1)).mode.boundary_mask


@every_maker
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_threshold_survives_copies_and_folders(make, dtype, tmp_path):
    patcher = prepared(make, dtype)
    expected = starts(patcher, dtype)
    for again in (copy.deepcopy(patcher), pickle.loads(pickle.dumps(patcher))):
        assert torch.equal(starts(again, dtype), expected)
    if dtype == torch.float32:
        loaded = load_patcher(patcher.save_pretrained(tmp_path / "patcher"))
        assert torch.equal(starts(loaded), expected)
    with pytest.raises(NotFittedError):
        starts(clone(patcher).to(dtype), dtype)


@every_maker
def test_a_change_of_type_is_no_change_of_rate(make):
    patcher = prepared(make)
    patcher.prepared_for = patcher.prepared_for.bfloat16()
    patcher.check_prepared()


@every_maker
def test_a_frozen_threshold_is_refused_at_another_rate_and_a_free_one_found_again(make, tmp_path):
    folder = prepared(make).save_pretrained(tmp_path / "patcher")
    frame = daily_frame(200, ("y",))
    for frozen in (True, False):
        loaded = load_patcher(folder, compression_rate=8, frozen=frozen)
        with pytest.raises(
            InvalidParameterError, match=r"compression_rate=5\.1.*used with .*rate=8"
        ):
            starts(loaded)
        model = Forecaster(
            4,
            context_length=STEPS,
            patcher=loaded,
            backbone=TransformerBackbone(d_model=16, num_layers=1),
            trainer=Trainer(max_steps=2, batch_size=8),
        )
        if frozen:
            with pytest.raises(InvalidParameterError, match="unless the patcher is frozen"):
                model.fit(frame)
        else:
            assert float(model.fit(frame).patcher_.prepared_for[0]) == 8
