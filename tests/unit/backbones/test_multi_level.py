"""The way down to coarse tokens and back: what a flat backbone promises holds for levels, too."""

from __future__ import annotations

import pickle

import pytest
import torch
from sklearn.base import clone

from adaptivepatch.backbones.base import Backbone
from adaptivepatch.backbones.multi_level import MultiLevelBackbone, for_levels
from adaptivepatch.backbones.patchtst import PatchTSTBackbone
from adaptivepatch.backbones.transformer import TransformerBackbone
from adaptivepatch.distributions import Rollout
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.model_folder import build_component, describe
from adaptivepatch.network import build_network
from adaptivepatch.nn.tokens.pooling import broadcast, pool_mean
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.registry import backbone_class
from adaptivepatch.segmentation import Segmentation
from tests.builders import random_mask, small_backbone, small_network, with_parent

STEPS, ROWS, D = 48, 5, 8
REFERENCE = with_parent(
    Segmentation.even(STEPS, 12), with_parent(Segmentation.even(12, 4), Segmentation.even(4, 2))
)

both_modes = pytest.mark.parametrize("training", [True, False])
every_form = pytest.mark.parametrize(
    ("name", "levels", "has_decoder"),
    [
        ("patchtst", 2, True),
        ("transformer", 2, True),
        ("patchtst", 2, False),
        ("transformer", 2, False),
        ("patchtst", 3, True),
        ("transformer", 3, True),
    ],
)


def parts(name, levels, has_decoder):
    def one():
        return small_backbone(name).set_params(num_layers=1)

    inner = one() if levels == 2 else parts(name, levels - 1, has_decoder)
    return MultiLevelBackbone(one(), inner, one() if has_decoder else None)


def build(form, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = parts(*form)
        backbone.build(REFERENCE)
        backbone = backbone.double()
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return backbone


def only_used(mask, used):
    return torch.cat([mask[:, :1], mask[:, 1:] & used[:, 1:]], 1)


def padded_case(extra=0):
    """Rows with different numbers of patches at all three levels."""
    fine = Segmentation(random_mask(ROWS, STEPS, 0.25, seed=3))
    middle = Segmentation(only_used(random_mask(ROWS, fine.capacity, 0.4, seed=4), fine.patch_mask))
    top = Segmentation(
        only_used(random_mask(ROWS, middle.capacity, 0.5, seed=5), middle.patch_mask)
    )
    if extra:  # the same patches in more slots
        top = Segmentation(
            torch.nn.functional.pad(top.boundary_mask, (0, extra)), top.capacity + extra
        )
        middle = Segmentation(
            torch.nn.functional.pad(middle.boundary_mask, (0, extra)), middle.capacity + extra
        )
        fine = Segmentation(fine.boundary_mask, fine.capacity + extra)
    whole = with_parent(fine, with_parent(middle, top))
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(ROWS, fine.capacity, D, generator=generator, dtype=torch.float64)
    return tokens, whole


def run(backbone, tokens, whole, starts=None):
    starts = whole.patch_starts if starts is None else starts
    mask = None if whole.exact else whole.patch_mask
    return backbone(tokens, mask, starts, whole.parent)


# ------------------------------------------------------------------------------------- padding


@every_form
@both_modes
def test_padding_has_no_influence(name, levels, has_decoder, training):
    tokens, whole = padded_case()
    mask = whole.patch_mask
    results = []
    for fill, start in ((None, None), (1e3, 0), (-7.0, 5)):
        given, times = tokens.clone(), whole.patch_starts.clone()
        if fill is not None:
            given[~mask] = fill
            times[~mask] = start
        given.requires_grad_()
        backbone = build((name, levels, has_decoder)).train(training)
        hidden = run(backbone, given, whole, times)
        assert bool((hidden[~mask] == 0).all())
        hidden.square().sum().backward()
        assert bool((given.grad[~mask] == 0).all())
        results.append((hidden.detach(), given.grad, [p.grad for p in backbone.parameters()]))
    for other in results[1:]:
        assert torch.equal(other[0], results[0][0])
        assert torch.equal(other[1], results[0][1])
        for mine, theirs in zip(other[2], results[0][2], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


@every_form
@both_modes
def test_more_padding_changes_nothing(name, levels, has_decoder, training):
    tokens, whole = padded_case()
    wider, wide = padded_case(extra=3)
    wider[:, : tokens.shape[1]] = tokens
    hidden = run(build((name, levels, has_decoder)).train(training), tokens, whole)
    more = run(build((name, levels, has_decoder)).train(training), wider, wide)
    torch.testing.assert_close(more[:, : tokens.shape[1]], hidden, rtol=0, atol=1e-11)


@every_form
def test_padded_rows_equal_short_rows(name, levels, has_decoder):
    tokens, whole = padded_case()
    backbone = build((name, levels, has_decoder)).eval()
    together = run(backbone, tokens, whole)
    for n in range(ROWS):
        used, coarse = int(whole.num_patches[n]), int(whole.parent.num_patches[n])
        row = slice(n, n + 1)
        top = whole.parent.parent.boundary_mask[row, :coarse]
        alone = with_parent(
            Segmentation(whole.boundary_mask[row], exact=True),
            with_parent(
                Segmentation(whole.parent.boundary_mask[row, :used], exact=True),
                Segmentation(top, exact=True),
            ),
        )
        hidden = run(backbone, tokens[row, :used], alone)
        torch.testing.assert_close(together[n, :used], hidden[0], rtol=0, atol=1e-12)


@every_form
@both_modes
def test_one_stored_row_is_as_good_as_many(name, levels, has_decoder, training):
    shared = REFERENCE.expand(ROWS)
    copies = Segmentation.cat([REFERENCE] * ROWS)
    assert shared.is_shared
    assert not copies.is_shared
    tokens = torch.randn(ROWS, 12, D, dtype=torch.float64)
    one_row = build((name, levels, has_decoder)).train(training)(
        tokens, None, shared.patch_starts[:1], shared.parent
    )
    many = run(build((name, levels, has_decoder)).train(training), tokens, copies)
    torch.testing.assert_close(one_row, many, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------ structure


class Listening(Backbone):
    """Returns its tokens and remembers what it was given."""

    name = "listening"

    def __init__(self, d_model=D):
        super().__init__()
        self.d_model = d_model

    def build(self, reference):
        self.reference = reference

    def forward(self, tokens, patch_mask, start_time, parent=None):
        self.given = (tokens, patch_mask, start_time, parent)
        return tokens


def test_coarse_tokens_are_means_with_the_start_and_mask_of_coarse_patches():
    tokens, whole = padded_case()
    inner = Listening()
    backbone = MultiLevelBackbone(Listening(), inner)
    backbone.build(REFERENCE)
    assert torch.equal(inner.reference.boundary_mask, REFERENCE.coarse.boundary_mask)
    backbone = backbone.double()
    hidden = run(backbone, tokens, whole)
    coarse, mask, starts, parent = inner.given
    used = whole.parent.patch_mask
    assert torch.equal(mask, used)
    assert torch.equal(starts[used], whole.coarse.patch_starts[used])
    assert parent is whole.parent.parent
    means = pool_mean(tokens, whole.parent, whole.patch_mask)
    torch.testing.assert_close(coarse, backbone.down(means))
    returned = broadcast(backbone.up(coarse), whole.parent)
    expected = (tokens + returned) * whole.patch_mask[..., None]
    torch.testing.assert_close(hidden, expected)


def test_the_decoder_reads_the_skip_connection():
    decoder = Listening()
    backbone = MultiLevelBackbone(Listening(), Listening(), decoder)
    backbone.build(REFERENCE)
    torch.nn.init.zeros_(backbone.up.weight)
    torch.nn.init.zeros_(backbone.up.bias)
    tokens = torch.randn(2, 12, D)
    hidden = run(backbone, tokens, REFERENCE.expand(2))
    assert torch.equal(hidden, tokens)
    assert torch.equal(decoder.given[0], tokens)


def test_training_begins_with_the_fine_level_alone():
    backbone = parts("transformer", 2, False)
    backbone.build(REFERENCE)
    backbone = backbone.eval()
    tokens = torch.randn(2, 12, D)
    whole = REFERENCE.expand(2)
    fine = backbone.encoder(tokens, None, whole.patch_starts)
    assert torch.equal(run(backbone, tokens, whole), fine)
    run(backbone, tokens, whole).square().sum().backward()
    assert bool(backbone.up.weight.grad.any())  # and goes on with the coarse one


@every_form
def test_what_is_coarse_matters(name, levels, has_decoder):
    backbone = build((name, levels, has_decoder)).eval()
    tokens = torch.randn(2, 12, D, dtype=torch.float64)
    other = with_parent(
        Segmentation.even(12, 4), Segmentation.shared([0, 3], 4)
    )  # the top level moves
    outputs = [
        run(backbone, tokens, with_parent(Segmentation.even(STEPS, 12), parent).expand(2))
        for parent in (REFERENCE.parent, other)
    ]
    assert torch.equal(*outputs) == (levels == 2)
    moved = with_parent(Segmentation.shared([0, 1, 2, 9], 12), Segmentation.even(4, 2))
    third = run(backbone, tokens, with_parent(Segmentation.even(STEPS, 12), moved).expand(2))
    assert float((third - outputs[0]).detach().abs().max()) > 1e-3


@every_form
def test_every_parameter_gets_gradient(name, levels, has_decoder):
    tokens, whole = padded_case()
    backbone = build((name, levels, has_decoder)).train()
    weight = torch.randn(D, dtype=torch.float64)
    (run(backbone, tokens, whole) @ weight).square().sum().backward()
    assert [n for n, p in backbone.named_parameters() if not bool((p.grad != 0).any())] == []


def test_levels_may_have_their_own_width():
    backbone = MultiLevelBackbone(
        TransformerBackbone(8, 1, 2), PatchTSTBackbone(32, 2, 4), TransformerBackbone(8, 2, 4)
    )
    network = build_network(
        HierarchicalPatcher(RandomPatcher(3), RandomPatcher(4)),
        backbone,
        context_length=STEPS,
        horizon=5,
    )
    assert network.embedding.weight.shape == (STEPS, 8)
    assert network(torch.randn(3, STEPS)).shape == (3, 5)


@pytest.mark.parametrize("name", ["patchtst", "transformer"])
def test_forecasts_follow_the_rollouts_of_every_level(name):
    patcher = HierarchicalPatcher(RandomPatcher(4), HierarchicalPatcher(RandomPatcher(3)))
    network = small_network(name, patcher, context_length=STEPS).eval()
    lookback, distribution = network.segment(torch.randn(ROWS, STEPS, dtype=torch.float64))
    rollout = distribution.sample(3, torch.Generator().manual_seed(0))
    together = network.forecast(lookback, distribution, rollout).value
    for g in range(3):
        part = rollout.segmentation.select(slice(ROWS * g, ROWS * (g + 1)))
        one = network.forecast(lookback, distribution, Rollout(part)).value
        torch.testing.assert_close(one, together[ROWS * g : ROWS * (g + 1)], rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------- dividing layers


def layers(backbone):
    """Number of layers of encoder, inner ones, decoder."""
    if not isinstance(backbone, MultiLevelBackbone):
        return backbone.num_layers
    decoder = backbone.decoder
    return (
        layers(backbone.encoder),
        layers(backbone.inner),
        0 if decoder is None else layers(decoder),
    )


@pytest.mark.parametrize(
    ("num_layers", "two", "three"),
    [
        (1, (1, 1, 0), (1, (1, 1, 0), 0)),
        (2, (1, 1, 0), (1, (1, 1, 0), 0)),
        (3, (1, 1, 1), (1, (1, 1, 0), 0)),
        (4, (1, 2, 1), (1, (1, 1, 0), 1)),
        (5, (1, 3, 1), (1, (1, 1, 1), 1)),
        (8, (1, 6, 1), (1, (1, 4, 1), 1)),
    ],
)
@pytest.mark.parametrize("cls", [PatchTSTBackbone, TransformerBackbone])
def test_layers_are_divided_among_levels(cls, num_layers, two, three):
    flat = cls(d_model=24, num_layers=num_layers, num_heads=3)
    second = with_parent(Segmentation.even(STEPS, 12), Segmentation.even(12, 4))
    assert for_levels(flat, Segmentation.even(STEPS, 12)) is flat
    divided = for_levels(flat, second)
    assert layers(divided) == two
    assert layers(for_levels(flat, REFERENCE)) == three
    assert type(divided.inner) is cls
    assert divided.inner.num_heads == 3
    assert flat.num_layers == num_layers


def test_levels_that_are_read_stay_as_they_are():
    class Reading(Listening):
        reads_levels = True

    second = with_parent(Segmentation.even(STEPS, 12), Segmentation.even(12, 4))
    reading = Reading()
    assert for_levels(reading, REFERENCE) is reading
    own = MultiLevelBackbone(Listening(), Listening())
    assert for_levels(own, second) is own
    flat_inner = MultiLevelBackbone(PatchTSTBackbone(num_layers=2), PatchTSTBackbone(num_layers=5))
    assert layers(for_levels(flat_inner, REFERENCE)) == (2, (1, 3, 1), 0)


def test_every_backbone_works_on_levels_by_itself():
    for name in ("patchtst", "transformer"):
        network = small_network(
            name, HierarchicalPatcher(FixedPatcher(4), FixedPatcher(3)), context_length=STEPS
        )
        assert isinstance(network.backbone, MultiLevelBackbone)
        assert network(torch.randn(2, STEPS, dtype=torch.float64)).shape == (2, 4)


# ---------------------------------------------------------------------------------- components


@every_form
def test_parameters_clone_pickle_and_description_round_trip(name, levels, has_decoder):
    form = (name, levels, has_decoder)
    backbone = build(form).eval()
    tokens, whole = padded_case()
    expected = run(backbone, tokens, whole)
    copy = clone(backbone)
    assert repr(copy) == repr(backbone)
    assert list(copy.parameters()) == []
    again = build_component(describe(backbone), "backbone")
    assert repr(again) == repr(backbone)
    assert torch.equal(run(pickle.loads(pickle.dumps(backbone)), tokens, whole), expected)
    again.build(REFERENCE)
    again = again.double().eval()
    again.load_state_dict(backbone.state_dict())
    assert torch.equal(run(again, tokens, whole), expected)
    assert backbone_class("multi_level") is MultiLevelBackbone


def test_nested_parameters_are_set():
    backbone = parts("patchtst", 3, True)
    backbone.set_params(inner__inner__num_layers=4, encoder__d_ff=9)
    assert backbone.inner.inner.num_layers == 4
    assert backbone.encoder.d_ff == 9


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("backbone", "error", "message"),
    [
        (MultiLevelBackbone(), TypeError, "'encoder' parameter of MultiLevelBackbone must.*None"),
        (MultiLevelBackbone(Listening()), TypeError, "'inner' parameter"),
        (MultiLevelBackbone(Listening(), Listening(), 3), TypeError, "'decoder'.*Got 3"),
        (
            MultiLevelBackbone(Listening(4), Listening(), Listening(8)),
            InvalidParameterError,
            "as wide as its encoder, d_model=4. Got 8 instead",
        ),
        (
            MultiLevelBackbone(PatchTSTBackbone(d_ff=0), Listening()),
            InvalidParameterError,
            "'d_ff' parameter of PatchTSTBackbone",
        ),
        (Listening(), InvalidParameterError, "Listening cannot be divided"),
        (PatchTSTBackbone(num_layers=0), InvalidParameterError, "'num_layers'.*Got 0"),
        (PatchTSTBackbone(num_layers="3"), InvalidParameterError, "'num_layers'.*Got '3'"),
    ],
)
def test_parameter_errors(backbone, error, message):
    patcher = HierarchicalPatcher(FixedPatcher(4), FixedPatcher(3))
    with pytest.raises(error, match=message):
        build_network(patcher, backbone, context_length=STEPS, horizon=2)


def test_more_levels_than_the_patcher_has_are_refused():
    backbone = MultiLevelBackbone(Listening(), MultiLevelBackbone(Listening(), Listening()))
    for patcher in (FixedPatcher(4), HierarchicalPatcher(FixedPatcher(4), FixedPatcher(3))):
        with pytest.raises(InvalidParameterError, match="a coarser level.*HierarchicalPatcher"):
            build_network(patcher, backbone, context_length=STEPS, horizon=2)
