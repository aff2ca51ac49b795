"""Who absorbs which keys: every tile once, stream-K never later than fixed splits, and the share that a GPU wants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minikernels.core.decode import shares
from minikernels.gqa import schedule

LENGTHS = st.lists(st.integers(0, 300), max_size=6)
SMALL = {"lengths": LENGTHS, "rows": st.integers(1, 4), "block_s": st.sampled_from([1, 16, 64]),
         "places": st.integers(1, 9)}


def covered(plan, lengths, rows, block_s):
    """Return whether the pieces of a plan are every tile of every row, once."""
    taken = sorted((p.b, p.row, p.first + i) for pieces in plan.places for p in pieces for i in range(p.tiles))
    tiles = schedule.tiles_of(lengths, block_s)
    return taken == [(b, row, i) for b, n in enumerate(tiles) for row in range(rows) for i in range(n)]


@settings(max_examples=60, deadline=None)
@given(**SMALL, splits=st.integers(1, 7))
def test_every_tile_is_absorbed_once(lengths, rows, block_s, places, splits):
    assert covered(schedule.fixed_splits(lengths, rows, block_s, splits, places), lengths, rows, block_s)
    assert covered(schedule.stream_k(lengths, rows, block_s, places), lengths, rows, block_s)


@settings(max_examples=60, deadline=None)
@given(**SMALL, splits=st.integers(1, 7))
def test_stream_k_ends_first_and_as_early_as_can_be(lengths, rows, block_s, places, splits):
    total = rows * sum(schedule.tiles_of(lengths, block_s))
    run = schedule.stream_k(lengths, rows, block_s, places)
    assert run.makespan == -(-total // places)
    assert run.makespan <= schedule.fixed_splits(lengths, rows, block_s, splits, places).makespan
    assert run.tiles == total


def test_one_long_sequence_among_short_ones_is_what_fixed_splits_wait_for():
    lengths = [16 * 1024] + [1024] * 15
    for splits in (1, 2, 4, 8):
        fixed = schedule.fixed_splits(lengths, rows=8, block_s=64, splits=splits, places=264)
        assert fixed.makespan >= 256 // splits
    stream = schedule.stream_k(lengths, rows=8, block_s=64, places=264)
    assert stream.makespan == -(-8 * (256 + 15 * 16) // 264)
    assert stream.efficiency > 0.9


def test_a_place_works_on_at_most_two_rows_that_it_shares():
    plan = schedule.stream_k([200, 0, 513, 90, 31], rows=3, block_s=16, places=7)
    tiles = schedule.tiles_of([200, 0, 513, 90, 31], 16)
    for pieces in plan.places:
        cut = [p for p in pieces if p.tiles < tiles[p.b]]
        assert len(cut) <= 2
        assert all(p in (pieces[0], pieces[-1]) for p in cut)


@pytest.mark.parametrize(("rows", "tiles", "places"), [(1, 1, 132), (8, 256, 132), (132, 64, 132), (133, 64, 132),
                                                       (3, 7, 2), (500, 3, 4), (1, 0, 132)])
def test_the_chosen_split_is_as_good_as_any(rows, tiles, places):
    def time(n):
        return np.ceil(rows * n / places) * (np.ceil(tiles / n) + 1)

    chosen = shares(rows, tiles, places)
    assert 1 <= chosen <= max(1, tiles)
    assert all(time(chosen) <= time(n) for n in range(1, max(1, min(tiles, 128)) + 1))
