from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.errors import InvalidSegmentationError
from adaptivepatch.segmentation import Segmentation
from tests import oracles
from tests.builders import random_mask, segmentations, with_parent

VIEWS = ("patch_index", "patch_lengths", "patch_starts", "patch_mask", "num_patches")


@settings(max_examples=150, deadline=None)
@given(segmentations())
def test_patches_are_a_partition(segmentation):
    s = segmentation
    assert s.patch_lengths.shape == s.patch_starts.shape == s.patch_mask.shape
    assert s.patch_lengths.shape == (s.num_rows, s.capacity)
    assert s.patch_lengths.sum(1).tolist() == [s.num_steps] * s.num_rows
    for n in range(s.num_rows):
        patches = oracles.patches_of(s.boundary_mask[n].tolist())
        used = len(patches)
        assert s.num_patches[n] == used
        assert s.patch_mask[n].tolist() == [True] * used + [False] * (s.capacity - used)
        assert s.patch_starts[n].tolist() == [a for a, _ in patches] + [s.num_steps] * (
            s.capacity - used
        )
        assert s.patch_lengths[n].tolist() == [b - a for a, b in patches] + [0] * (
            s.capacity - used
        )
        inside = [p for p, (a, b) in enumerate(patches) for _ in range(a, b)]
        assert s.patch_index[n].tolist() == inside
    assert not s.exact  # never found out from the values
    assert torch.equal(s.compression_rate, s.num_steps / s.num_patches)


@settings(max_examples=150, deadline=None)
@given(segmentations())
def test_encodings_round_trip(segmentation):
    s = segmentation
    starts = s.patch_starts.where(s.patch_mask, torch.zeros_like(s.patch_starts))
    ends = torch.zeros_like(s.boundary_mask)
    for n in range(s.num_rows):
        for _, end in oracles.patches_of(s.boundary_mask[n].tolist()):
            ends[n, end - 1] = True
    unmarked = ends.clone()
    unmarked[:, -1] = False
    for again in (
        Segmentation.from_lengths(s.patch_lengths),
        Segmentation.from_starts(starts, s.num_steps),
        Segmentation.from_ends(ends, s.capacity),
        Segmentation.from_ends(unmarked, s.capacity),
    ):
        assert torch.equal(again.boundary_mask, s.boundary_mask)
        assert again.capacity == s.capacity
        for view in VIEWS:
            assert torch.equal(getattr(again, view), getattr(s, view))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_from_scores_keeps_exactly_the_best(data):
    num_steps = data.draw(st.integers(1, 16))
    capacity = data.draw(st.integers(1, num_steps))
    level = st.sampled_from([-2.0, 0.0, 0.5, 3.0])  # few values, hence ties
    row = st.lists(level, min_size=num_steps, max_size=num_steps)
    scores = torch.tensor(data.draw(st.lists(row, min_size=1, max_size=3)))
    s = Segmentation.from_scores(scores, capacity)
    assert s.num_patches.tolist() == [capacity] * len(scores)
    assert s.exact
    for n in range(len(scores)):
        assert s.patch_starts[n].tolist() == oracles.from_scores(scores[n].tolist(), capacity)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.data())
def test_even_rounds_half_up(num_steps, data):
    num_patches = data.draw(st.integers(1, num_steps))
    s = Segmentation.even(num_steps, num_patches, num_rows=3)
    # floor(x + 1/2) in whole numbers; Python's round() would go to the even one.
    expected = [
        math.floor((2 * k * num_steps + num_patches) / (2 * num_patches))
        for k in range(num_patches)
    ]
    assert s.patch_starts[0].tolist() == expected
    assert int(s.patch_lengths.max() - s.patch_lengths.min()) <= 1
    assert s.is_shared
    assert s.exact
    assert s.num_rows == 3


def test_from_scores_with_a_threshold_keeps_at_most_the_best():
    scores = torch.tensor([[0.0, 3, 1, 2], [9.0, 0, 0, 0]])
    s = Segmentation.from_scores(scores, 3, threshold=1.5)
    assert s.boundary_mask.tolist() == [[True, True, False, True], [True, False, False, False]]
    assert not s.exact
    assert s.capacity == 3


def test_an_exact_segmentation_must_be_full():
    mask = torch.tensor([[True, False, True], [True, False, False]])
    with pytest.raises(InvalidSegmentationError, match="promises 2.*but one row holds 1"):
        Segmentation(mask, exact=True)


def test_repeat_is_rollout_major():
    s = Segmentation(random_mask(2, 7))
    again = s.repeat(3)
    assert torch.equal(again.boundary_mask, s.boundary_mask.repeat(3, 1))
    assert Segmentation.even(7, 2, 2).repeat(3).is_shared
    assert s.repeat(1) is s


@settings(max_examples=60, deadline=None)
@given(segmentations(), st.data())
def test_the_coarse_level_is_the_partition_of_the_steps(segmentation, data):
    s = segmentation
    bits = st.lists(st.booleans(), min_size=s.capacity, max_size=s.capacity)
    mask = torch.tensor([data.draw(bits) for _ in range(s.num_rows)]) & s.patch_mask
    mask[:, 0] = True
    nested = Segmentation(s.boundary_mask, s.capacity, Segmentation(mask))
    coarse = nested.coarse
    assert coarse.capacity == nested.parent.capacity
    for n in range(s.num_rows):
        fine = oracles.patches_of(s.boundary_mask[n].tolist())
        starts = [fine[p][0] for p in range(len(fine)) if mask[n, p]]
        assert coarse.boundary_mask[n].nonzero()[:, 0].tolist() == starts
        steps = coarse.patch_index[n].tolist()
        assert steps == nested.parent.patch_index[n][nested.patch_index[n]].tolist()


def test_even_half_goes_up():
    assert Segmentation.even(10, 4).patch_starts[0].tolist() == [0, 3, 5, 8]  # 2.5, 5, 7.5


@settings(max_examples=60, deadline=None)
@given(segmentations())
def test_shared_views_equal_unshared_views(segmentation):
    row = segmentation.boundary_mask[:1]
    capacity = segmentation.capacity
    shared = Segmentation(row.expand(3, -1), capacity=capacity)
    copied = Segmentation(row.repeat(3, 1), capacity=capacity)
    assert shared.is_shared
    assert not copied.is_shared
    for view in VIEWS:
        first, second = getattr(shared, view), getattr(copied, view)
        assert torch.equal(first, second)
        assert first.dtype == second.dtype
        assert first.stride(0) == 0


def test_capacity_defaults_to_the_largest_row():
    mask = torch.tensor([[True, False, True, True], [True, False, False, False]])
    assert Segmentation(mask).capacity == 3
    assert Segmentation(mask, capacity=4).patch_lengths.tolist() == [[2, 1, 1, 0], [4, 0, 0, 0]]


def test_expand_select_and_where():
    one = Segmentation.even(6, 3)
    many = one.expand(4)
    assert many.is_shared
    assert many.num_rows == 4
    other = Segmentation(random_mask(4, 6, seed=1))
    picked = Segmentation.where(torch.tensor([True, False, False, True]), many, other)
    for n, source in enumerate((many, other, other, many)):
        assert torch.equal(picked.boundary_mask[n], source.boundary_mask[n])
    assert picked.capacity == max(3, other.capacity)
    rows = torch.tensor([2, 0])
    assert torch.equal(other.select(rows).boundary_mask, other.boundary_mask[rows])
    keep = torch.tensor([False, True, True, False])
    assert torch.equal(other.select(keep).boundary_mask, other.boundary_mask[keep])
    assert other.select(slice(0, 2)).num_rows == 2
    assert other.select(rows).capacity == other.capacity
    assert many.select(slice(1, 3)).is_shared


def test_parent_follows_rows():
    child = Segmentation(random_mask(3, 8, seed=3))
    parent = Segmentation(random_mask(3, child.capacity, seed=4))
    nested = Segmentation(child.boundary_mask, child.capacity, parent)
    rows = torch.tensor([2, 1])
    assert torch.equal(nested.select(rows).parent.boundary_mask, parent.select(rows).boundary_mask)
    assert nested.to("cpu").parent.num_rows == 3
    single = Segmentation(Segmentation.even(8, 4).boundary_mask, 4, Segmentation.even(4, 2))
    assert single.expand(5).parent.num_rows == 5


def test_pickles_and_copies():
    s = Segmentation(random_mask(2, 9))
    _ = s.patch_lengths
    for again in (pickle.loads(pickle.dumps(s)), copy.deepcopy(s)):
        assert torch.equal(again.boundary_mask, s.boundary_mask)
        assert torch.equal(again.patch_lengths, s.patch_lengths)


def test_is_frozen():
    with pytest.raises(AttributeError):
        Segmentation.even(4, 2).capacity = 3


def test_no_rows_is_allowed():
    s = Segmentation(torch.zeros(0, 5, dtype=torch.bool))
    assert s.num_rows == 0
    assert s.patch_lengths.shape[0] == 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(2, 3), r"must be a bool tensor of shape \(rows, steps\).*dtype=torch.float32"),
        (torch.ones(3, dtype=torch.bool), r"shape=\(3,\)"),
        (torch.ones(3, 0, dtype=torch.bool), r"at least one step.*shape=\(3, 0\)"),
        (torch.tensor([[True, False], [False, True]]), "row 1 has no boundary.*from_ends"),
    ],
)
def test_invalid_masks_are_refused(mask, message):
    with pytest.raises(InvalidSegmentationError, match=message):
        Segmentation(mask)


def test_rows_are_put_together_with_their_levels():
    first = with_parent(Segmentation.even(12, 4, 2), Segmentation.even(4, 2, 2))
    mask = torch.tensor([[True, False] * 6])
    second = with_parent(Segmentation(mask), Segmentation.even(6, 3))
    both = Segmentation.cat([first, second])
    assert torch.equal(both.boundary_mask[:2], first.boundary_mask)
    assert torch.equal(both.boundary_mask[2:], mask)
    assert both.patch_mask.sum(1).tolist() == [4, 4, 6]
    assert both.capacity == 6
    assert not both.exact
    assert both.parent.patch_lengths.tolist() == [[2, 4, 0], [2, 4, 0], [2, 2, 2]]
    assert both.coarse.patch_lengths.tolist() == [[6, 6, 0], [6, 6, 0], [4, 4, 4]]
    assert Segmentation.cat([first, first]).exact
    assert Segmentation.cat([first, Segmentation(mask)]).parent is None


def test_a_row_over_capacity_is_refused():
    with pytest.raises(InvalidSegmentationError, match="holds 3 patches.*capacity 2"):
        Segmentation(torch.ones(1, 3, dtype=torch.bool), capacity=2)


def test_a_parent_of_other_shape_is_refused():
    child = Segmentation.even(8, 4)
    with pytest.raises(InvalidSegmentationError, match=r"parent must partition 4 patches of 1"):
        Segmentation(child.boundary_mask, 4, Segmentation.even(5, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Segmentation.from_starts(torch.tensor([[0, 5]]), 5),
            r"starts must lie in \[0, 5\).*\[0, 5\]",
        ),
        (lambda: Segmentation.from_starts(torch.tensor([[-1, 2]]), 5), r"span \[-1, 2\]"),
        (lambda: Segmentation.from_starts(torch.tensor([[1, 2]]), 5), "row 0 has no boundary"),
        (
            lambda: Segmentation.from_lengths(torch.tensor([[2, 2], [3, 2]])),
            r"same sum in every row.*\[4, 5\]",
        ),
        (lambda: Segmentation.from_lengths(torch.tensor([[4, -1]])), "smallest length is -1"),
        (lambda: Segmentation.from_scores(torch.zeros(1, 3), 4), r"capacity must lie in \[1, 3\]"),
        (lambda: Segmentation.from_scores(torch.zeros(1, 3), 0), r"\[1, 3\]. Got 0"),
        (lambda: Segmentation.even(3, 4), r"num_patches must lie in \[1, 3\]. Got 4"),
        (lambda: Segmentation.even(3, 0), r"num_patches must lie in \[1, 3\]. Got 0"),
        (lambda: Segmentation.shared([1, 2], 4), r"increase strictly from 0.*\[1, 2\]"),
        (lambda: Segmentation.shared([0, 2, 2], 4), r"increase strictly"),
        (lambda: Segmentation.shared([], 4), r"increase strictly.*\[\]"),
    ],
)
def test_constructor_errors(make, message):
    with pytest.raises(InvalidSegmentationError, match=message):
        make()


def test_shared_refuses_starts_beyond_the_end():
    with pytest.raises(InvalidSegmentationError, match=r"below 4. Got \[0, 4\]"):
        Segmentation.shared([0, 4], 4)
