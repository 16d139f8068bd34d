"""What every patcher promises, whoever wrote it. Runs over the registry.

A patcher that is registered is covered: by its default arguments and, if it has a compression rate,
by a rate of 4. `EXTRA` adds configurations. The checks are functions of a way to make a patcher, so
that the last tests can show that they notice patchers that break the promise.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import math
import pickle
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone

import adaptivepatch.patchers
from adaptivepatch.distributions import Deterministic, Rollout, SegmentationDistribution
from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.model_folder import build_component, describe
from adaptivepatch.nn.placement.groups import mean_in_groups
from adaptivepatch.patchers.base import Patcher, StaticPatcher
from adaptivepatch.patchers.fixed import FixedPatcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.random import RandomPatcher
from adaptivepatch.patchers.rate import RatePatcher
from adaptivepatch.patchers.recency import RecencyPatcher
from adaptivepatch.registry import BACKBONES, PATCHERS
from adaptivepatch.segmentation import Segmentation
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep
from tests.builders import small_network

ROWS, STEPS = 6, 48

# Optional: more ways to configure a patcher than its defaults and a rate of 4 points per patch.
EXTRA = {
    "fixed": [{"patch_length": 8, "stride": 4}, {"patch_length": 7, "stride": 5}],
    "recency": [{"compression_rate": 6, "shortest": 2}],
    "random": [{"compression_rate": 3.7, "seed": 5}],
    "periodic": [{"period": 7, "cycles": 1.5}],
    "deviation": [
        {"compression_rate": 4, "budget": "min"},
        {"compression_rate": 4, "budget": "target", "window": 5},
        {"compression_rate": 4, "min_length": 2, "max_length": 8},
    ],
    "change_point": [{"compression_rate": 5, "min_length": 3}],
    "entropy": [
        {"compression_rate": 4, "budget": "target", "rule": "rise"},
        {"compression_rate": 4, "score": "surprisal", "min_length": 2},
    ],
    "score_function": [
        {"compression_rate": 4, "budget": "min"},
        {"compression_rate": 4, "budget": "exact", "window": 3},
        {"compression_rate": 4, "window": 2},
    ],
    "dynamic_chunking": [
        {"compression_rate": 4, "wiring": "encoder", "budget": "exact"},
        {"compression_rate": 4, "router": "cosine", "alignment_weight": 0.01},
        {"compression_rate": 4, "router": "even"},
        {"compression_rate": 4, "router": "even", "budget": "min"},
        {"compression_rate": 4, "budget": "min", "smoothing": True},
        {"compression_rate": 4, "sharpness": 6.0, "mixer": "attention"},
    ],
    "dynamic_pooling": [
        {"compression_rate": 4, "predictor": "spikes"},
        {"compression_rate": 4, "predictor": "spikes", "budget": "exact", "mixer": "attention"},
        {"compression_rate": 4, "budget": "exact"},
        {"compression_rate": 4, "budget": "min", "threshold": "half"},
        {"compression_rate": 4, "alignment_weight": 0.01},
    ],
}

# Made anew for every test: a patcher that holds patchers must not share them.
HIERARCHIES = {
    "random-fixed": lambda: HierarchicalPatcher(RandomPatcher(3), FixedPatcher(compression_rate=4)),
    "halo-random": lambda: HierarchicalPatcher(FixedPatcher(8, 4), RandomPatcher(2.5)),
    "three-levels": lambda: HierarchicalPatcher(
        RandomPatcher(2), HierarchicalPatcher(RandomPatcher(3, seed=1), RecencyPatcher(4, 1))
    ),
    "padded": lambda: HierarchicalPatcher(
        Uneven(), HierarchicalPatcher(Uneven(3), RandomPatcher(2))
    ),
}


class Uneven(RandomPatcher):
    """Half as many patches as random ones where the row's newest value is negative."""

    name = "uneven"

    def __init__(self, compression_rate=4.0, seed=0):
        super().__init__(compression_rate, seed)

    def propose(self, series, observed, group):
        return FewerPatches(super().propose(series, observed, group))


class FewerPatches(SegmentationDistribution):
    def __init__(self, full):
        self.full = full

    def thin(self, segmentation):
        copies = segmentation.num_rows // len(self.full.series)
        falls = mean_in_groups(self.full.series[:, -1:], self.full.group) < 0
        mask = segmentation.boundary_mask
        kept = mask & ((mask.long().cumsum(1) % 2 == 1) | ~falls.repeat(copies, 1))
        return Segmentation(kept, capacity=segmentation.capacity)

    @property
    def mode(self):
        return self.thin(self.full.mode)

    def sample(self, num_samples, generator=None):
        return Rollout(self.thin(self.full.sample(num_samples, generator).segmentation))


def configurations():
    for name, cls in PATCHERS.items():
        options = [{}, *EXTRA.get(name, [])]
        if "compression_rate" in inspect.signature(cls).parameters:
            options.append({"compression_rate": 4})
        for option in options:
            text = "-".join(f"{key}={value}" for key, value in option.items()) or "defaults"
            yield pytest.param(lambda cls=cls, option=option: cls(**option), id=f"{name}-{text}")
    for name, make in HIERARCHIES.items():
        yield pytest.param(make, id=f"hierarchical-{name}")


def in_networks():
    """Every configuration with one backbone, and the defaults of every patcher with the others."""
    first, *others = sorted(BACKBONES, key="transformer".__ne__)
    for given in configurations():
        for backbone in (first, *(others if given.id.endswith("-defaults") else ())):
            yield pytest.param(*given.values, backbone, id=f"{given.id}-{backbone}")


every_patcher = pytest.mark.parametrize("make", list(configurations()))
every_network = pytest.mark.parametrize(("make", "backbone"), list(in_networks()))


def rows(num_rows=ROWS, num_steps=STEPS, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    series = torch.randn(num_rows, num_steps, generator=generator, dtype=torch.float64)
    return series.cumsum(1).sub(series.cumsum(1).mean(1, keepdim=True)).to(dtype)


def seeded(make, seed=0):
    """What `make` returns, of weights that do not depend on the tests before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def brief(patcher):
    """Let a forecaster that `prepare` trains be poor: no check needs a good one."""
    if hasattr(patcher, "train_steps"):
        patcher.set_params(train_steps=20)
    return patcher


@functools.cache  # `prepare` may train
def prepared(make, dtype, seed):
    patcher = brief(seeded(make, seed).to(dtype))
    patcher.prepare(rows(32, dtype=dtype, seed=3), None, torch.Generator().manual_seed(0))
    return patcher


def built(make, dtype=torch.float32, train=False, seed=0):
    """The patcher after it has seen data, where it asks for that."""
    return copy.deepcopy(prepared(make, dtype, seed)).train(train)


def mask_of(patcher, series, group=None):
    return masks(patcher(series, None, group).mode)


def masks(segmentation):
    """Boundary masks of all levels, side by side."""
    found = [segmentation.boundary_mask]
    while (segmentation := segmentation.parent) is not None:
        found.append(segmentation.boundary_mask)
    return torch.cat(found, 1)


def plain(params):
    """Parameters by value: components are equal to themselves only."""
    return {k: repr(v) if isinstance(v, BaseEstimator) else v for k, v in params.items()}


def without_space(text):
    return "".join(text.split())


# ---------------------------------------------------------------------------------- registry


def test_every_patcher_file_is_listed():
    folder = Path(adaptivepatch.patchers.__file__).parent
    for file in sorted(folder.glob("*.py")):
        if file.stem in ("__init__", "base", "rate"):
            continue
        module = importlib.import_module(f"adaptivepatch.patchers.{file.stem}")
        found = [
            cls
            for cls in vars(module).values()
            if inspect.isclass(cls)
            and issubclass(cls, Patcher)
            and not inspect.isabstract(cls)
            and cls.__module__ == module.__name__
            and not cls.__name__.startswith("_")
        ]
        assert found, f"{file.name} defines no patcher"
        for cls in found:
            assert PATCHERS.get(cls.name) is cls, (
                f"adaptivepatch/registry.py lacks the line {file.stem!r}: {cls.__name__!r}"
            )
            assert getattr(adaptivepatch, cls.__name__) is cls


def test_names_are_unique_and_found():
    assert len({cls.name for cls in PATCHERS.values()}) == len(PATCHERS)
    for name, cls in PATCHERS.items():
        assert cls.name == name
        assert PATCHERS.find(name) is cls
    with pytest.raises(InvalidParameterError, match="Unknown patcher 'fixd'.*mean 'fixed'"):
        PATCHERS.find("fixd")


# ---------------------------------------------------------------------------------- estimator


@every_patcher
def test_parameters_round_trip(make):
    patcher = make()
    params = patcher.get_params()
    for name in inspect.signature(type(patcher)).parameters:
        assert name in params
        assert getattr(patcher, name) is params[name]
    again = type(patcher)().set_params(**params)
    assert again.get_params() == params
    assert repr(again) == repr(patcher)
    for name, value in patcher.get_params(deep=False).items():
        default = inspect.signature(type(patcher)).parameters[name].default
        if value != default:
            assert without_space(f"{name}={value!r}") in without_space(repr(patcher))


@every_patcher
def test_clone_has_the_parameters_and_its_own_weights(make):
    patcher = make()
    copy = clone(patcher)
    assert copy is not patcher
    assert type(copy) is type(patcher)
    assert plain(copy.get_params()) == plain(patcher.get_params())
    ours = {id(p) for p in patcher.parameters()}
    assert not ours & {id(p) for p in copy.parameters()}


@every_patcher
def test_pickle_and_state_dict_round_trip(make):
    patcher, series = built(make), rows()
    expected = mask_of(patcher, series)
    again = pickle.loads(pickle.dumps(patcher))
    assert repr(again) == repr(patcher)
    assert torch.equal(mask_of(again, series), expected)
    fresh = brief(seeded(make, seed=1)).eval()
    fresh.load_state_dict(patcher.state_dict())
    assert torch.equal(mask_of(fresh, series), expected)


@every_patcher
def test_description_round_trips(make):
    patcher = make()
    again = build_component(describe(patcher), "patcher", {"uneven": Uneven})
    assert type(again) is type(patcher)
    assert plain(again.get_params()) == plain(patcher.get_params())


@every_patcher
def test_a_frozen_patcher_is_cloned_to_itself(make):
    patcher = make().freeze()
    assert clone(patcher) is patcher
    assert clone(patcher.train()) is patcher
    assert not patcher.training
    assert not any(p.requires_grad for p in patcher.parameters())
    assert patcher.parameter_groups(1e-3) == []


@every_patcher
def test_class_tags_tell_the_truth(make):
    patcher = built(make)
    assert patcher.trainable == any(p.requires_grad for p in patcher.parameters())
    for progress in (0.0, 0.5, 1.0):
        plan = patcher.plan(progress)
        assert plan.grad_samples <= max(1, plan.num_samples)
        assert plan.num_samples <= 1 or plan.is_scored or patcher.trainable
        assert 0 <= plan.mode_share <= 1
    series = rows()
    patcher.train()
    drawn = [
        masks(patcher(series).sample(1, torch.Generator().manual_seed(k)).segmentation)
        for k in range(3)
    ]
    if not patcher.stochastic:
        assert torch.equal(drawn[0], drawn[1])
    elif patcher.capacity(STEPS) > 1:
        assert not torch.equal(drawn[0], drawn[1]) or not torch.equal(drawn[0], drawn[2])


# ---------------------------------------------------------------------------------- mode


def check_mode_is_valid(make):
    patcher, series = built(make), rows()
    mode = patcher(series).mode
    assert isinstance(mode, Segmentation)
    assert mode.boundary_mask.shape == series.shape
    assert mode.device == series.device
    assert bool(mode.boundary_mask[:, 0].all())
    assert mode.patch_lengths.sum(1).tolist() == [STEPS] * ROWS
    while mode is not None:  # read again with all checks
        Segmentation(mode.boundary_mask, mode.capacity, mode.parent, mode.exact)
        mode = mode.parent


@every_patcher
def test_mode_is_valid(make):
    check_mode_is_valid(make)


@every_patcher
def test_mode_is_deterministic_and_leaves_the_global_generators_alone(make):
    patcher, series = built(make), rows()
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = mask_of(patcher, series)
    assert torch.equal(mask_of(patcher, series), first)
    patcher(series).sample(3, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def check_rows_do_not_influence_each_other(make):
    patcher, series = built(make), rows(9)
    together = mask_of(patcher, series)
    for n in range(9):
        assert torch.equal(mask_of(patcher, series[n : n + 1])[0], together[n])
    order = torch.tensor([4, 8, 0, 2, 1, 7, 3, 6, 5])
    assert torch.equal(mask_of(patcher, series[order]), together[order])
    changed = series.clone()
    changed[3] = 100
    assert torch.equal(mask_of(patcher, changed)[4:], together[4:])


@every_patcher
def test_rows_do_not_influence_each_other(make):
    check_rows_do_not_influence_each_other(make)


def check_budget_is_respected(make):
    for num_steps in (1, 2, 5, 23, STEPS):
        patcher, series = built(make), rows(num_steps=num_steps)
        slots = patcher.capacity(num_steps)
        assert 1 <= slots <= num_steps
        rate = getattr(patcher, "compression_rate", None)
        if getattr(patcher, "budget", "exact") == "target":
            assert slots == num_steps
        elif rate is not None:
            assert slots == max(1, math.floor(num_steps / rate))
        rollout = patcher.train()(series).sample(4, torch.Generator().manual_seed(0))
        for segmentation in (patcher.eval()(series).mode, rollout.segmentation):
            assert int(segmentation.num_patches.max()) <= slots
            assert segmentation.capacity <= slots


@every_patcher
def test_budget_is_respected(make):
    check_budget_is_respected(make)


def realised(patcher, num_steps):
    return num_steps / float(patcher(rows(300, num_steps)).mode.num_patches.double().mean())


def aims_at_a_rate(patcher):
    """Whether the rate is only aimed at; faithful and half forms promise none before training."""
    named = {getattr(patcher, name, None) for name in ("router", "threshold")}
    return getattr(patcher, "budget", "exact") == "target" and not named & {"cosine", "half"}


def check_another_length_has_the_rate(make):
    patcher = built(make)
    if aims_at_a_rate(patcher) and patcher.compression_rate <= 6:
        for num_steps in (24, 96):
            assert 0.6 < realised(patcher, num_steps) / patcher.compression_rate < 1.7


@every_patcher
def test_another_length_has_the_rate(make):
    check_another_length_has_the_rate(make)


def check_another_rate_is_had_or_refused(make, rate=8.0):
    patcher = built(make)
    if "compression_rate" not in patcher.get_params() or patcher.compression_rate is None:
        return
    patcher.set_params(compression_rate=rate)
    try:
        found = realised(patcher, STEPS)
    except InvalidParameterError:
        with pytest.raises(InvalidParameterError, match="found for compression_rate="):
            mask_of(patcher, rows())
        patcher.prepare(rows(32, seed=3), None, torch.Generator().manual_seed(0))
        found = realised(patcher, STEPS)
    if getattr(patcher, "budget", "exact") == "exact":
        assert found == pytest.approx(rate)
    elif aims_at_a_rate(patcher):
        assert 0.6 < found / rate < 1.7


@every_patcher
def test_another_rate_is_had_or_refused(make):
    check_another_rate_is_had_or_refused(make)


@every_patcher
def test_reference_fits_the_network(make):
    patcher = make()
    for num_steps in (1, 7, STEPS):
        reference = patcher.reference_patches(num_steps)
        assert (reference.num_rows, reference.num_steps) == (1, num_steps)
        assert int(reference.num_patches) == reference.capacity  # no empty cell
        assert reference.capacity <= patcher.capacity(num_steps)
        assert patcher.nominal_length(num_steps) >= 1
        assert patcher.halo >= 0


def check_prefix(make):
    """Changing the future must leave earlier boundaries as they are."""
    patcher, series = built(make), rows()
    expected = mask_of(patcher, series)
    for step in range(1, STEPS):
        changed = series.clone()
        changed[:, step:] = rows(seed=7)[:, step:] * 10
        assert torch.equal(mask_of(patcher, changed)[:, :step], expected[:, :step]), step


@every_patcher
def test_causal_patchers_pass_the_prefix_test(make):
    if make().causal:
        check_prefix(make)


# ---------------------------------------------------------------------------------- groups


def check_groups_share(make):
    patcher, series = built(make), rows(9)
    group = torch.tensor([5, 0, 5, 2, 0, 2, 5, 7, 0])
    mode = mask_of(patcher, series, group)
    rollout = patcher.train()(series, None, group).sample(2, torch.Generator().manual_seed(0))
    drawn = masks(rollout.segmentation).view(2, 9, -1)
    patcher.eval()
    for number in group.unique():
        members = (group == number).nonzero()[:, 0]
        assert bool((mode[members] == mode[members[:1]]).all())
        assert bool((drawn[:, members] == drawn[:, members[:1]]).all())
        alone = mask_of(patcher, series[members], group[members])
        assert torch.equal(alone, mode[members])  # other groups have no influence
    observed = torch.rand(series.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    filled = torch.where(observed, series, 0.0)
    with_gaps = masks(patcher.eval()(filled, observed, group).mode)
    for number in group.unique():  # a gap of one row is not a decision of its own
        assert len(with_gaps[group == number].unique(dim=0)) == 1
    single = mask_of(patcher, series, torch.arange(9))
    assert torch.equal(single, mask_of(patcher, series))


@every_patcher
def test_rows_of_a_group_share_their_boundaries(make):
    check_groups_share(make)


# ---------------------------------------------------------------------------------- samples


@every_patcher
def test_samples_are_valid_and_rollout_major(make):
    patcher, series = built(make, train=True), rows()
    for num_samples in (1, 3):
        check_samples(patcher, series, num_samples)


def check_samples(patcher, series, num_samples):
    distribution = patcher(series)
    rollout = distribution.sample(num_samples, torch.Generator().manual_seed(0))
    total = num_samples * ROWS
    segmentation = rollout.segmentation
    assert segmentation.boundary_mask.shape == (total, STEPS)
    assert bool(segmentation.boundary_mask[:, 0].all())
    if rollout.action is not None:
        assert rollout.action.shape == masks(segmentation).shape
    if rollout.log_prob is not None:
        assert rollout.log_prob.shape == (num_samples, ROWS)
        assert rollout.log_prob.requires_grad or not patcher.trainable
    if rollout.gate is not None:
        assert rollout.gate.shape == (total, STEPS)
        torch.testing.assert_close(rollout.gate, torch.ones_like(rollout.gate))
    if distribution.boundary_prob is not None:
        assert distribution.boundary_prob.shape == series.shape
        assert bool(((distribution.boundary_prob >= 0) & (distribution.boundary_prob <= 1)).all())
    if distribution.entropy() is not None:
        assert distribution.entropy().shape == (ROWS,)
    if not patcher.stochastic:
        for g in range(num_samples):
            part = masks(segmentation)[g * ROWS : (g + 1) * ROWS]
            assert torch.equal(part, masks(distribution.mode))
    head = rollout.head(1, ROWS)
    assert torch.equal(masks(head.segmentation), masks(segmentation)[:ROWS])


def check_samples_are_reproducible(make):
    patcher, series = built(make, train=True), rows()

    def draw(seed):
        rollout = patcher(series).sample(2, torch.Generator().manual_seed(seed))
        return masks(rollout.segmentation)

    assert torch.equal(draw(3), draw(3))


@every_patcher
def test_samples_are_reproducible(make):
    check_samples_are_reproducible(make)


def check_frequencies(make, num_steps=6, draws=4000):
    """Samples follow the probabilities the distribution states."""
    patcher, series = built(make, train=True), rows(1, num_steps)
    distribution = patcher(series)
    rollout = distribution.sample(draws, torch.Generator().manual_seed(1))
    if distribution.boundary_prob is not None and rollout.gate is None:
        prob = distribution.boundary_prob[0].detach().double()
        share = rollout.segmentation.boundary_mask.double().mean(0)
        sigma = (prob * (1 - prob) / draws).sqrt()
        if rollout.action is None or torch.equal(
            rollout.action.bool()[:, :num_steps], rollout.segmentation.boundary_mask
        ):
            assert bool(((share - prob).abs() <= 5 * sigma + 1e-6).all())
    if rollout.log_prob is None:
        return
    actions = [tuple(action) for action in rollout.action.tolist()]
    prob = dict(zip(actions, rollout.log_prob.detach()[:, 0].double().exp().tolist(), strict=True))
    assert sum(prob.values()) <= 1 + 1e-6
    if len(actions[0]) == num_steps:  # of 2**5 actions, those not met in 4,000 draws are unlikely
        assert sum(prob.values()) >= 0.98
    for action, count in Counter(actions).items():
        sigma = np.sqrt(draws * prob[action] * (1 - prob[action]))
        assert abs(count - draws * prob[action]) <= 5 * sigma + 1e-6


@every_patcher
def test_sample_frequencies_match_the_stated_probabilities(make):
    check_frequencies(make)


@pytest.mark.parametrize(
    ("num_steps", "rate"), [(5, 2), (6, 2), (6, 1.5), (7, 2.4), (4, 1), (3, 9)]
)
def test_random_boundaries_are_uniform_over_all_subsets(num_steps, rate):
    patcher = RandomPatcher(rate)
    num_patches = patcher.capacity(num_steps)
    subsets = list(combinations(range(1, num_steps), num_patches - 1))
    draws = 400 * len(subsets)
    rollout = patcher(torch.zeros(1, num_steps)).sample(draws, torch.Generator().manual_seed(0))
    masks = rollout.segmentation.boundary_mask
    found = Counter(tuple(row[1:].nonzero()[:, 0].add(1).tolist()) for row in masks)
    assert set(found) == set(subsets)
    chi_square = sum((found[s] - 400) ** 2 / 400 for s in subsets)
    free = len(subsets) - 1
    assert chi_square <= free + 5 * np.sqrt(2 * free) + 1e-9


# ---------------------------------------------------------------------------------- input


def check_values_must_be_finite(make, bad=float("nan")):
    """A gap that is not declared as one is an error, not a value."""
    series = rows()
    series[2, 5:7] = bad
    with pytest.raises(InvalidParameterError, match="must be finite. Got 2 values.*observed"):
        built(make)(series)


@pytest.mark.parametrize("name", PATCHERS)
def test_the_guards_of_forward_stay(name):
    """Patchers implement `propose`; what `forward` refuses is then the same for all of them."""
    cls = PATCHERS[name]
    check_values_must_be_finite(cls)
    check_values_must_be_finite(cls, float("inf"))
    for shape in ((4, 3, 96), (96,)):
        with pytest.raises(
            InvalidParameterError, match=r"must have shape \(rows, steps\).*flatten"
        ):
            built(cls)(torch.zeros(shape))


@every_patcher
def test_constant_series_single_steps_and_both_types(make):
    for dtype in (torch.float32, torch.float64):
        patcher = built(make, dtype)
        for series in (
            torch.zeros(3, STEPS, dtype=dtype),
            torch.full((3, STEPS), -2.5, dtype=dtype),
            rows(3, 1, dtype),
            rows(1, 2, dtype),
            rows(dtype=dtype),
        ):
            mode = patcher.eval()(series).mode
            assert mode.boundary_mask.shape == series.shape
            rollout = patcher.train()(series).sample(2, torch.Generator().manual_seed(0))
            assert rollout.segmentation.boundary_mask.shape == (2 * len(series), series.shape[1])


@every_patcher
def test_observed_masks_are_accepted(make):
    series, observed = rows(), torch.rand(ROWS, STEPS) < 0.7
    observed[0] = False
    assert built(make)(series, observed).mode.boundary_mask.shape == series.shape


def follows_data(patcher):
    """Whether boundaries follow the values, by what a patcher declares to be.

    Those of a `StaticPatcher` are the same for all series; a patcher that draws and is not trained
    draws by chance. A patcher of several levels follows the data if one of them does.
    """
    levels = getattr(patcher, "levels", ())
    if levels:
        return any(follows_data(level) for level in levels)
    by_chance = patcher.stochastic and not patcher.trainable
    return not isinstance(patcher, StaticPatcher) and not by_chance


def check_observed_matters(make):
    """A filled gap is no value: to declare one must be able to move boundaries."""
    patcher, series = built(make), rows(32)
    if not follows_data(patcher):
        return
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():  # policies are initialised to the same boundaries for all rows
        for weight in patcher.parameters():
            weight.add_(0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    without_gaps = masks(patcher(series).mode)
    everything = torch.ones_like(series, dtype=torch.bool)
    assert torch.equal(masks(patcher(series, everything).mode), without_gaps)
    gap = everything.clone()
    gap[:, 12:30] = False
    found = [
        masks(patcher(series, observed).mode)
        for observed in (gap, torch.rand(series.shape, generator=generator) < 0.6)
    ]
    assert all(bool(mask[:, 0].all()) for mask in found)
    assert any(not torch.equal(mask, without_gaps) for mask in found)


@every_patcher
def test_what_is_observed_matters(make):
    check_observed_matters(make)


@pytest.mark.parametrize(
    "cls", [c for c in PATCHERS.values() if "compression_rate" in inspect.signature(c).parameters]
)
@pytest.mark.parametrize("rate", [0.5, "4"])
def test_a_rate_below_one_is_refused_when_used(cls, rate):
    patcher = cls(compression_rate=rate)  # constructors only store
    message = rf"'compression_rate' parameter of {cls.__name__} must be a float in the range \[1"
    with pytest.raises(InvalidParameterError, match=message):
        patcher(rows())


# ---------------------------------------------------------------------------------- in a network


def one_batch(gaps):
    series = 3 * rows(ROWS, STEPS + 4, torch.float64) + 5
    observed = torch.rand(ROWS, STEPS + 4, generator=torch.Generator().manual_seed(2)) >= gaps
    if gaps == 0:
        return Batch(series[:, :STEPS], None, series[:, STEPS:], None, None)
    return Batch(
        series[:, :STEPS],
        observed[:, :STEPS],
        series[:, STEPS:],
        observed[:, STEPS:],
        torch.arange(ROWS) // 2,
    )


def check_every_parameter_gets_gradient(make, backbone="transformer"):
    network = small_network(backbone, brief(seeded(make)), context_length=STEPS, d_model=16)
    step = TrainingStep(network.train(), make_loss("mse"))
    for gaps in (0.0, 0.2):
        output = step(one_batch(gaps), torch.Generator().manual_seed(0), 0.5)
        assert bool(output.loss.isfinite())
        output.loss.backward()
    missing = [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not bool((p.grad != 0).any()))
    ]
    # The length embedding is silent where all patches have the nominal length; the missing token
    # where no patch is without an observed step.
    allowed = {"embedding.length_weight", "embedding.missing_token"}
    assert not [name for name in missing if name.startswith("patcher.")], missing
    if network.patcher.capacity(STEPS) > 1:  # else attention has no choice to learn
        assert set(missing) <= allowed, missing
    found = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in found)


@every_network
def test_every_parameter_gets_gradient(make, backbone):
    check_every_parameter_gets_gradient(make, backbone)


@every_network
def test_forecasts_of_rows_do_not_influence_each_other(make, backbone):
    network = small_network(backbone, brief(seeded(make)), context_length=STEPS, d_model=16).eval()
    series = 3 * rows(dtype=torch.float64) + 5
    with torch.no_grad():
        together = network(series)
        for n in range(ROWS):
            alone = network(series[n : n + 1])[0]
            assert float((alone - together[n]).abs().max()) < 1e-11


@every_network
def test_a_training_step_draws_only_from_its_generator(make, backbone):
    network = small_network(backbone, brief(seeded(make)), context_length=STEPS, d_model=16).train()
    state, step = torch.get_rng_state(), TrainingStep(network, make_loss("mse"))
    weights, losses = copy.deepcopy(network.state_dict()), []
    for _ in range(2):
        network.load_state_dict(weights)  # running statistics move
        losses.append(step(one_batch(0.2), torch.Generator().manual_seed(4), 0.0).loss.item())
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------- the checks notice broken promises


class Leaky(Patcher):
    """Cuts where the batch mean is high: looks at other rows, and at the future."""

    name = "leaky"

    def propose(self, series, observed, group):
        level = (series - series.mean()).abs()
        return Deterministic(Segmentation.from_scores(level, self.capacity(series.shape[1])))

    def capacity(self, num_steps):
        return max(1, num_steps // 4)


class Spendthrift(Leaky):
    """One patch more than it announces, and no sharing inside groups."""

    def propose(self, series, observed, group):
        return Deterministic(
            Segmentation.from_scores(series, min(series.shape[1], 1 + series.shape[1] // 4))
        )


class Deaf(RatePatcher):
    """Compares with a level that was found for one rate and length, whatever is asked for."""

    name = "deaf"

    def __init__(self, compression_rate=4.0, budget="target"):
        super().__init__()
        self.compression_rate = compression_rate
        self.budget = budget

    def prepare(self, series, observed, generator):
        self.level = series.abs().quantile(1 - 1 / self.compression_rate)

    def propose(self, series, observed, group):
        mask = series.abs() * (series.shape[1] / STEPS) ** 2 > self.level
        mask[:, 0] = True
        return Deterministic(Segmentation(mask))


class Overconfident(RandomPatcher):
    """States that every step is as likely a boundary as a coin's head."""

    def propose(self, series, observed, group):
        distribution = super().propose(series, observed, group)
        distribution.boundary_prob = torch.full_like(series, 0.5)
        return distribution


class Unseeded(RandomPatcher):
    """Draws from the global generator."""

    def propose(self, series, observed, group):
        distribution = super().propose(series, observed, group)
        sample = distribution.sample
        distribution.sample = lambda num_samples, generator=None: sample(num_samples)
        return distribution


class Idle(Leaky):
    """Has a weight that nothing trains."""

    trainable = True

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))


class Blind(RatePatcher):
    """Cuts at the largest steps, also at those into and out of a filled gap."""

    name = "blind"
    budget = "exact"

    def __init__(self, compression_rate=4.0):
        super().__init__()
        self.compression_rate = compression_rate

    def propose(self, series, observed, group):
        change = torch.nn.functional.pad(series.diff(dim=1).abs(), (1, 0))
        scores = mean_in_groups(change, group)
        return Deterministic(Segmentation.from_scores(scores, self.num_patches(series.shape[1])))


class Filling(Leaky):
    """Takes NaN for 0."""

    def forward(self, series, observed=None, group=None):
        return super().forward(series.nan_to_num(), observed, group)


@pytest.mark.parametrize(
    ("check", "cls"),
    [
        (check_samples_are_reproducible, Unseeded),
        (check_every_parameter_gets_gradient, Idle),
        (check_values_must_be_finite, Filling),
        (check_observed_matters, Blind),
        (check_rows_do_not_influence_each_other, Leaky),
        (check_prefix, Leaky),
        (check_budget_is_respected, Spendthrift),
        (check_groups_share, Spendthrift),
        (check_frequencies, Overconfident),
        (check_another_length_has_the_rate, Deaf),
        (check_another_rate_is_had_or_refused, Deaf),
    ],
)
def test_the_checks_notice_a_broken_promise(check, cls):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(cls)
