from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptivepatch.training.sampler import ArraySource, SeriesSource, ShuffledBatches
from tests import oracles


@pytest.mark.parametrize(("count", "size"), [(10, 3), (9, 3), (1, 4), (5, 5), (7, 1), (3, 100)])
def test_every_window_is_visited_once_an_epoch(count, size):
    windows = 100 + 2 * torch.arange(count)
    batches = ShuffledBatches(windows, size, torch.Generator().manual_seed(0))
    per_epoch = -(-count // size)
    orders = []
    for _ in range(3):
        epoch = list(islice(batches, per_epoch))
        assert [len(b) for b in epoch[:-1]] == [size] * (per_epoch - 1)
        order = torch.cat(epoch).tolist()
        assert sorted(order) == windows.tolist()
        orders.append(order)
    if count > 6:
        assert len({tuple(order) for order in orders}) == 3


def test_order_depends_on_the_generator_only():
    def take(seed):
        batches = ShuffledBatches(torch.arange(20), 6, torch.Generator().manual_seed(seed))
        return torch.cat(list(islice(batches, 4))).tolist()

    state = torch.get_rng_state()
    assert take(1) == take(1)
    assert take(1) != take(2)
    assert torch.equal(torch.get_rng_state(), state)


def make_source(values, past=4, horizon=2, **options):
    return SeriesSource(
        values, past, horizon, device=torch.device("cpu"), dtype=torch.float64, **options
    )


def test_rows_are_window_major_then_channels():
    values = np.arange(24.0).reshape(12, 2)
    batch = make_source(values, channel_groups=[0, 0]).batch(torch.tensor([3, 0]))
    expected = [values[s : s + 4, c] for s in (3, 0) for c in (0, 1)]
    np.testing.assert_array_equal(batch.series, expected)
    targets = [values[s + 4 : s + 6, c] for s in (3, 0) for c in (0, 1)]
    np.testing.assert_array_equal(batch.target, targets)
    assert batch.group.tolist() == [0, 0, 1, 1]
    assert batch.observed is None
    assert batch.target_observed is None
    assert make_source(values).batch(torch.tensor([1])).group is None


def test_some_channels_may_share():
    source = make_source(np.arange(36.0).reshape(9, 4), channel_groups=[0, 1, 0, 2])
    assert source.batch(torch.tensor([2, 0])).group.tolist() == [0, 1, 0, 2, 3, 4, 3, 5]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_batches_and_learnable_equal_the_loop(data):
    num_steps, channels = data.draw(st.integers(6, 20)), data.draw(st.integers(1, 3))
    past, horizon = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 2))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    values = rng.normal(size=(num_steps, channels))
    values[rng.random(values.shape) < data.draw(st.sampled_from([0.2, 0.6, 0.9]))] = np.nan
    values[0, 0] = np.nan  # so that there is a mask
    seen = ~np.isnan(values)
    source = make_source(values, past, horizon, channel_groups=[0] * channels)
    windows = torch.arange(num_steps - past - horizon + 1)

    expected = [w for w in windows.tolist() if oracles.learnable(seen, past, horizon, w)]
    assert source.learnable(windows).tolist() == expected

    rows, groups = [], []
    for w in windows.tolist():
        for c in range(channels):
            own = seen[w : w + past, c].sum() >= 2
            if own and seen[w + past : w + past + horizon, c].any():
                rows.append((w, c))
                groups.append(w)
    batch = source.batch(windows)
    assert len(batch.series) == len(rows)
    assert batch.group.tolist() == groups
    for n, (w, c) in enumerate(rows):
        past_seen, future_seen = seen[w : w + past, c], seen[w + past : w + past + horizon, c]
        assert batch.observed[n].tolist() == past_seen.tolist()
        assert batch.target_observed[n].tolist() == future_seen.tolist()
        np.testing.assert_array_equal(
            batch.series[n][batch.observed[n]], values[w : w + past, c][past_seen]
        )
    assert bool(batch.series.isfinite().all())

    series, observed, group = source.lookbacks(windows)  # prediction leaves no row out
    assert len(series) == len(windows) * channels
    assert observed.shape == series.shape
    assert group.tolist() == np.repeat(np.arange(len(windows)), channels).tolist()


def test_without_gaps_every_window_is_learnable():
    source = make_source(np.zeros((9, 1)))
    assert source.learnable(torch.arange(4)).tolist() == [0, 1, 2, 3]


def test_lookbacks_may_end_at_the_last_step():
    values = np.arange(9.0)[:, None]
    values[2] = np.nan
    source = make_source(values)
    series, observed, _ = source.lookbacks(torch.tensor([5]))
    assert series.tolist() == [[5, 6, 7, 8]]
    assert observed.tolist() == [[True] * 4]
    assert source.learnable(torch.tensor([5])).tolist() == []  # no target, no error


def test_array_source():
    past, future = torch.randn(6, 4), torch.randn(6, 2)
    batch = ArraySource(past, future).batch(torch.tensor([5, 2]))
    assert torch.equal(batch.series, past[[5, 2]])
    assert torch.equal(batch.target, future[[5, 2]])
    assert (batch.observed, batch.target_observed, batch.group) == (None, None, None)
    past[5, 1], future[2, 0] = torch.nan, torch.nan
    batch = ArraySource(past, future).batch(torch.tensor([5, 2]))
    assert batch.observed.tolist() == [[True, False, True, True], [True] * 4]
    assert batch.target_observed.tolist() == [[True, True], [False, True]]
    assert batch.series[0, 1] == 0
    assert batch.target[1, 0] == 0
