from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.nn.policies.candidates import candidate_sites, even_starts, recency_starts
from adaptivepatch.segmentation import Segmentation


@pytest.mark.parametrize(("num_steps", "patches"), [(10, 4), (96, 7), (30, 12), (5, 5), (7, 1)])
def test_even_starts_are_those_of_even_patches(num_steps, patches):
    even = Segmentation.even(num_steps, patches)
    assert even_starts(num_steps, patches) == even.patch_starts[0].tolist()


def test_recency_starts_are_those_of_the_docstring():
    starts = recency_starts(1344, 21, 16)
    lengths = [b - a for a, b in zip(starts, [*starts[1:], 1344], strict=True)]
    assert lengths[::-1][:3] == [16, 18, 20]
    assert lengths[:2] == [161, 143]
    assert recency_starts(100, 10, 10) == even_starts(100, 10)


@settings(max_examples=200, deadline=None)
@given(
    num_steps=st.integers(2, 400),
    rate=st.floats(1, 100),
    per_block=st.one_of(st.none(), st.integers(1, 12)),
    shortest=st.one_of(st.none(), st.integers(1, 20)),
)
def test_every_block_offers_its_reference_start(num_steps, rate, per_block, shortest):
    patches = max(1, int(num_steps / rate))
    starts = (
        even_starts(num_steps, patches)
        if shortest is None
        else recency_starts(num_steps, patches, shortest)
    )
    sites = candidate_sites(tuple(starts), num_steps, per_block)
    assert list(sites.positions) == sorted(set(sites.positions))
    assert list(sites.blocks) == sorted(sites.blocks)
    assert all(0 < step < num_steps for step in sites.positions)
    assert [sites.positions[site] for site in sites.reference] == starts[1:]
    assert [sites.blocks[site] for site in sites.reference] == list(range(patches - 1))
    if per_block is None:
        assert len(sites.positions) == (num_steps - 1 if patches > 1 else 0)
        return
    ends = [*starts[1:], num_steps]
    for block, start in enumerate(starts[1:]):
        offered = sites.blocks.count(block)
        low, high = (starts[block] + start) // 2 + 1, (start + ends[block + 1]) // 2
        at_hand = min(high, num_steps - 1) - low + 1
        assert offered == min(per_block, at_hand)


def test_sites_are_spread_on_both_sides():
    sites = candidate_sites((0, 48, 96), 144, 7)
    assert sites.positions[:7] == (25, 33, 40, 48, 56, 64, 72)


@pytest.mark.parametrize("per_block", [6, None])
def test_one_patch_leaves_no_site(per_block):
    assert candidate_sites((0,), 30, per_block).positions == ()
