"""What every backbone promises. Runs over the registry."""

from __future__ import annotations

import importlib
import inspect
import pickle
from pathlib import Path

import pytest
import torch
from sklearn.base import clone

import adaptivepatch.backbones
from adaptivepatch.backbones.base import Backbone
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.model_folder import build_component, describe
from adaptivepatch.registry import BACKBONES, COMBINATIONS, backbone_class
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask, small_backbone

STEPS, ROWS, D = 24, 5, 8

every_backbone = pytest.mark.parametrize("name", list(BACKBONES))
both_modes = pytest.mark.parametrize("training", [True, False])


def build(name, reference=None, dtype=torch.float64, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = small_backbone(name)
        backbone.build(Segmentation.even(STEPS, 6) if reference is None else reference)
        backbone = backbone.to(dtype)
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def padded_case(extra=0):
    """Tokens, mask and start times of rows with different numbers of patches."""
    segmentation = Segmentation(random_mask(ROWS, STEPS, 0.25, seed=3))
    segmentation = Segmentation(segmentation.boundary_mask, segmentation.capacity + extra)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(ROWS, segmentation.capacity, D, generator=generator).double()
    return tokens, segmentation.patch_mask, segmentation.patch_starts


def test_every_backbone_file_is_listed():
    folder = Path(adaptivepatch.backbones.__file__).parent
    for file in sorted(folder.glob("*.py")):
        if file.stem in ("__init__", "base"):
            continue
        module = importlib.import_module(f"adaptivepatch.backbones.{file.stem}")
        found = [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, Backbone)
            and cls.__module__ == module.__name__
        ]
        assert found, f"{file.name} defines no backbone"
        for cls in found:
            assert {**BACKBONES, **COMBINATIONS}.get(cls.name) is cls, (
                f"{cls.__name__} is not listed"
            )
            assert getattr(adaptivepatch, cls.__name__) is cls


def test_names_are_found():
    for name, cls in BACKBONES.items():
        assert cls.name == name
        assert backbone_class(name) is cls
    with pytest.raises(InvalidParameterError, match="Unknown backbone 'PatchTSTT'.*'patchtst'"):
        backbone_class("PatchTSTT")


@every_backbone
def test_parameters_clone_pickle_and_description_round_trip(name):
    for backbone in (BACKBONES[name](), small_backbone(name), build(name)):
        params = backbone.get_params()
        assert set(inspect.signature(type(backbone)).parameters) == set(params)
        copy = clone(backbone)
        assert copy.get_params() == params
        assert list(copy.parameters()) == []  # fresh: no trained weights travel with a clone
        assert type(backbone)(**params).get_params() == params
        again = build_component(describe(backbone), "backbone")
        assert again.get_params() == params
    assert "num_layers=1" in repr(BACKBONES[name](num_layers=1))


@every_backbone
def test_state_dict_and_pickle_keep_the_function(name):
    tokens, mask, starts = padded_case()
    backbone = build(name).eval()
    expected = backbone(tokens, mask, starts)
    fresh = build(name, seed=9).eval()
    assert not torch.equal(fresh(tokens, mask, starts), expected)
    fresh.load_state_dict(backbone.state_dict())
    assert torch.equal(fresh(tokens, mask, starts), expected)
    assert torch.equal(pickle.loads(pickle.dumps(backbone))(tokens, mask, starts), expected)


@every_backbone
@both_modes
def test_padding_has_no_influence(name, training):
    tokens, mask, starts = padded_case()
    results = []
    for fill, start in ((None, None), (1e3, 0), (-7.0, 5)):
        given = tokens.clone()
        times = starts.clone()
        if fill is not None:
            given[~mask] = fill
            times[~mask] = start
        given.requires_grad_()
        backbone = build(name).train(training)
        hidden = backbone(given, mask, times)
        assert bool((hidden[~mask] == 0).all())
        hidden.square().sum().backward()
        assert bool((given.grad[~mask] == 0).all())
        gradients = [p.grad for p in backbone.parameters()]
        results.append((hidden.detach(), given.grad, gradients, backbone.state_dict()))
    for other in results[1:]:
        assert torch.equal(other[0], results[0][0])
        assert torch.equal(other[1], results[0][1])
        for mine, theirs in zip(other[2], results[0][2], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
        for key, value in other[3].items():  # batch statistics
            assert torch.equal(value, results[0][3][key]), key


@every_backbone
@both_modes
def test_more_padding_changes_nothing(name, training):
    tokens, mask, starts = padded_case()
    wider, wide_mask, wide_starts = padded_case(extra=3)
    wider[:, : tokens.shape[1]] = tokens
    hidden = build(name).train(training)(tokens, mask, starts)
    wide = build(name).train(training)(wider, wide_mask, wide_starts)
    torch.testing.assert_close(wide[:, : tokens.shape[1]], hidden, rtol=0, atol=1e-11)


@every_backbone
@both_modes
def test_a_full_mask_is_no_mask(name, training):
    tokens = torch.randn(ROWS, 6, D, dtype=torch.float64)
    starts = Segmentation.even(STEPS, 6).patch_starts
    mask = torch.ones(ROWS, 6, dtype=torch.bool)
    plain = build(name).train(training)(tokens, None, starts)
    masked = build(name).train(training)(tokens, mask, starts.expand(ROWS, -1))
    torch.testing.assert_close(plain, masked, rtol=0, atol=1e-12)


@every_backbone
def test_padded_rows_equal_short_rows(name):
    tokens, mask, starts = padded_case()
    backbone = build(name).eval()
    together = backbone(tokens, mask, starts)
    for n in range(ROWS):
        used = int(mask[n].sum())
        alone = backbone(tokens[n : n + 1, :used], None, starts[n : n + 1, :used])
        torch.testing.assert_close(together[n, :used], alone[0], rtol=0, atol=1e-12)


@every_backbone
def test_positions_are_those_of_the_reference(name):
    reference = Segmentation.from_lengths(torch.tensor([[9, 6, 4, 3, 2]]))
    backbone = build(name, reference)
    assert torch.equal(backbone.positions(reference.patch_starts)[0], backbone.positions.table)
    # Exchanging two tokens with their start times exchanges their hidden vectors.
    tokens = torch.randn(2, 5, D, dtype=torch.float64)
    order = torch.tensor([3, 1, 4, 0, 2])
    backbone.eval()
    hidden = backbone(tokens, None, reference.patch_starts)
    moved = backbone(tokens[:, order], None, reference.patch_starts[:, order])
    torch.testing.assert_close(moved, hidden[:, order], rtol=0, atol=1e-12)
    # And without moving the start times it does not.
    other = backbone(tokens[:, order], None, reference.patch_starts)
    assert float((other - moved).detach().abs().max()) > 1e-3


@every_backbone
def test_every_parameter_gets_gradient(name):
    tokens, mask, starts = padded_case()
    backbone = build(name).train()
    weight = torch.randn(D, dtype=torch.float64)
    (backbone(tokens, mask, starts) @ weight).square().sum().backward()
    missing = [n for n, p in backbone.named_parameters() if not bool((p.grad != 0).any())]
    assert missing == []


@every_backbone
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_types_and_a_single_token(name, dtype):
    backbone = build(name, Segmentation.even(4, 1), dtype).train()
    tokens = torch.randn(1, 1, D, dtype=dtype)
    hidden = backbone(tokens, None, torch.zeros(1, 1, dtype=torch.long))
    assert hidden.shape == (1, 1, D)
    assert hidden.dtype == dtype
    assert bool(hidden.isfinite().all())


@every_backbone
def test_dropout_acts_in_training_only(name):
    tokens, mask, starts = padded_case()
    backbone = small_backbone(name, dropout=0.5)
    backbone.build(Segmentation.even(STEPS, 6))
    backbone.double().train()
    state = torch.get_rng_state()
    assert not torch.equal(backbone(tokens, mask, starts), backbone(tokens, mask, starts))
    torch.set_rng_state(state)
    backbone.eval()
    assert torch.equal(backbone(tokens, mask, starts), backbone(tokens, mask, starts))


@every_backbone
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"d_model": 0}, r"'d_model' parameter of \w+ must be an int in the range \[1, inf\)"),
        ({"num_layers": 1.5}, r"'num_layers' parameter of \w+ must be an int.*Got 1.5"),
        ({"num_heads": True}, "'num_heads' parameter.*Got True"),
        ({"d_ff": -3}, "'d_ff' parameter.*Got -3"),
        ({"d_model": 10, "num_heads": 4}, "must be a multiple of num_heads=4. Got 10 instead"),
        ({"dropout": 1.0}, r"'dropout' parameter of \w+ must be a float in the range \[0, 1\)"),
        ({"dropout": -0.1}, "Got -0.1"),
    ],
)
def test_parameter_errors(name, parameters, message):
    backbone = BACKBONES[name](**parameters)  # constructors only store
    with pytest.raises(InvalidParameterError, match=message):
        backbone.build(Segmentation.even(STEPS, 6))
