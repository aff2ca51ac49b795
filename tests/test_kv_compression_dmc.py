"""Dynamic Memory Compression: merging by hand, ragged heads in a pool, decoding over them, what is refused."""

import re

import numpy as np
import pytest

from minikernels import simt
from minikernels.core.errors import DeviceError, DtypeError, ShapeError
from minikernels.core.traffic import Traffic
from minikernels.kv_compression import dmc, reference_dmc, traffic_dmc
from tests.kv_compression_cases import right

paged = pytest.importorskip("minikernels.paged", reason="the pool of pages is the technique paged's")
over = pytest.mark.parametrize
FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
CASES = [  # B, H, G, D, P, tokens, share of them merged
    (1, 1, 1, 1, 1, 1, 0.0),
    (2, 8, 2, 64, 16, 50, 0.5),
    (1, 12, 1, 33, 4, 21, 0.3),  # an odd D; two blocks of heads
    (1, 32, 1, 32, 8, 20, 0.7),  # H / G = 32
    (3, 3, 3, 8, 16, 40, 0.9),
    (2, 4, 2, 100, 5, 17, 0.0),  # nothing merged: attention over all tokens
]


def made(case, dtype="float32", seed=0, spare=0):
    """Return q, the pool, with spare pages, the heads, and all tokens and decisions that went in."""
    B, H, G, D, P, tokens, share = case
    rng = np.random.default_rng(seed)
    pool = paged.PagePool(B * G * (tokens // P + 1) + spare, P, 1, D, dtype)
    heads = dmc.allocate(pool, B, G)
    k, v = (rng.standard_normal((tokens, B, G, D)).astype(dtype) for _ in "kv")
    alpha, omega = rng.random((tokens, B, G)) < share, rng.uniform(0.1, 2, (tokens, B, G)).astype(np.float32)
    for step in zip(k, v, alpha, omega):
        dmc.append(pool, heads, *step[:2], alpha=step[2], omega=step[3])
    return rng.standard_normal((B, H, D)).astype(dtype), pool, heads, (k, v, alpha, omega)


def by_hand(x, alpha, omega):
    """Return the slots of one head in float64: runs of tokens, averaged with their importances."""
    runs = np.cumsum(np.append(1, ~alpha[1:])) - 1
    return np.stack([np.average(x[runs == n].astype(np.float64), axis=0, weights=omega[runs == n])
                     for n in range(runs[-1] + 1)])


@over("case", CASES, ids=str)
@over(("dtype", "atol"), [("float32", 4e-6), ("float64", 1e-13)])
def test_a_slot_is_the_weighted_mean_of_the_tokens_merged_into_it(case, dtype, atol):
    _, pool, heads, (k, v, alpha, omega) = made(case, dtype)
    counts = dmc.lengths(pool, heads)
    for b, g in np.ndindex(counts.shape):
        k_slots, v_slots = pool.gather(int(heads.sequences[b, g]))
        own = alpha[:, b, g], omega[:, b, g].astype(np.float64)
        np.testing.assert_allclose(k_slots[:, 0], by_hand(k[:, b, g], *own), rtol=0, atol=atol)
        np.testing.assert_allclose(v_slots[:, 0], by_hand(v[:, b, g], *own), rtol=0, atol=atol)
        assert counts[b, g] == 1 + np.count_nonzero(~alpha[1:, b, g])
        last = np.flatnonzero(~own[0])[-1] if (~own[0][1:]).any() else 0
        np.testing.assert_allclose(heads.weight[b, g], own[1][last:].sum(), rtol=1e-6)


@over("case", CASES, ids=str)
@over("dtype", ["float32", "float16"])
@over("rung", list(dmc.DECODE))
def test_rung_is_right(rung, dtype, case):
    q, pool, heads, _ = made(case, dtype)
    o = dmc.decode(q, pool, heads, rung=rung)
    assert o.dtype == q.dtype
    table = pool.table([int(s) for s in heads.sequences.ravel()])
    right(reference_dmc.judge(o, q, pool.k_pages, pool.v_pages, *table, case[3] ** -0.5))


@over("case", CASES, ids=str)
@over("dtype", ["float32", "float16"])
def test_predicted_equals_counted(dtype, case):
    q, pool, heads, _ = made(case, dtype)
    with simt.collect() as launches:
        dmc.decode(q, pool, heads, rung="v1_ragged_heads")
    assert not [finding for launch in launches for finding in launch.findings]
    counted = sum((launch.traffic for launch in launches), Traffic())
    table = pool.table([int(s) for s in heads.sequences.ravel()])
    B, H, _, D, P = case[:5]
    predicted = traffic_dmc.v1_ragged_heads(B, H, D, P, *table, itemsize=q.itemsize)
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


def test_without_merging_it_is_attention_over_all_tokens():
    q, pool, heads, (k, v, *_) = made(CASES[-1])
    for b, h in np.ndindex(2, 4):
        score = k[:, b, h // 2] @ q[b, h] * 0.1
        p = np.exp(score - score.max())
        expected = p / p.sum() @ v[:, b, h // 2]
        for rung in dmc.DECODE:
            np.testing.assert_allclose(dmc.decode(q, pool, heads, rung=rung)[b, h], expected, atol=2e-6)


def test_bytes_read_follow_the_slots_of_each_head():
    q, pool, heads, _ = made((1, 2, 2, 32, 8, 40, 0.6))
    with simt.collect() as launches:
        dmc.decode(q, pool, heads, rung="v1_ragged_heads")
    slots = dmc.lengths(pool, heads).sum()
    assert 0 < slots < 80
    assert launches[0].traffic.by_array["k_pages"].load_bytes == slots * 32 * 4


def test_heads_that_were_forked_do_not_disturb_each_other():
    q, pool, heads, _ = made((1, 2, 2, 8, 4, 6, 0.0), spare=2)  # a copy of each head's last page
    before = dmc.decode(q, pool, heads)
    forks = np.array([[pool.fork(int(s)) for s in heads.sequences[0]]])
    fork = dmc.Heads(forks, heads.weight.copy())
    token = np.ones((1, 2, 8), np.float32)
    dmc.append(pool, fork, token, token, alpha=np.ones((1, 2), bool), omega=np.ones((1, 2)))
    np.testing.assert_array_equal(dmc.decode(q, pool, heads), before)
    assert not np.array_equal(dmc.decode(q, pool, fork), before)


def test_too_few_pages_change_nothing():
    pool = paged.PagePool(3, 2, 1, 4, np.float32)
    heads = dmc.allocate(pool, 1, 2)
    token, ones = np.ones((1, 2, 4), np.float32), np.ones((1, 2))
    never = np.zeros((1, 2), bool)
    for _ in range(2):
        dmc.append(pool, heads, token, token, alpha=never, omega=ones)
    before = [x.copy() for x in (pool.k_pages, heads.weight)]
    with pytest.raises(paged.OutOfPagesError, match="append a token to 2 heads"):
        dmc.append(pool, heads, token, token, alpha=never, omega=ones)
    assert dmc.lengths(pool, heads).tolist() == [[2, 2]]
    for x, y in zip(before, (pool.k_pages, heads.weight)):
        np.testing.assert_array_equal(x, y)
    dmc.append(pool, heads, 3 * token, token, alpha=~never, omega=ones)  # merging needs no page
    np.testing.assert_array_equal(pool.gather(0)[0][1, 0], np.full(4, 2, np.float32))
    dmc.free(pool, heads)
    assert pool.used_pages == 0


def shared(pool, G):
    """Return heads of which G share the slots of a first one, which is none of them any more."""
    heads = dmc.allocate(pool, 1, 1)
    token = np.arange(pool.k_pages.shape[3], dtype=pool.k_pages.dtype).reshape(1, 1, -1)
    dmc.append(pool, heads, token, token, alpha=np.zeros((1, 1), bool), omega=np.ones((1, 1)))
    forks = dmc.Heads(np.array([[pool.fork(int(heads.sequences[0, 0])) for _ in range(G)]]), np.ones((1, G)))
    dmc.free(pool, heads)
    return forks


def test_the_last_of_the_heads_that_share_a_page_needs_no_copy():
    pool = paged.PagePool(2, 2, 1, 4, np.float32)
    heads = shared(pool, 2)
    token, both = np.ones((1, 2, 4), np.float32), np.ones((1, 2), bool)
    dmc.append(pool, heads, token, 2 * token, alpha=both, omega=np.ones((1, 2)))
    assert (pool.used_pages, dmc.lengths(pool, heads).tolist()) == (2, [[1, 1]])
    np.testing.assert_array_equal(pool.gather(int(heads.sequences[0, 1]))[0][0, 0], [0.5, 1, 1.5, 2])


def test_tokens_that_are_alike_need_one_page_where_a_page_has_one_slot():
    pool = paged.PagePool(1, 1, 1, 1, np.float32)
    heads, one = dmc.allocate(pool, 1, 2), np.ones((1, 2, 1), np.float32)
    dmc.append(pool, heads, one, one, alpha=np.zeros((1, 2), bool), omega=np.ones((1, 2)))
    assert (pool.used_pages, dmc.lengths(pool, heads).tolist()) == (1, [[1, 1]])


@over("P", [1, 2, 3])
def test_pages_that_a_token_takes_are_foreseen(P):
    rng = np.random.default_rng(P)
    for _ in range(40):
        pool = paged.PagePool(200, P, 1, 1, np.float64)
        heads, kept = dmc.allocate(pool, 1, 4), []
        for _ in range(6):
            k = rng.integers(0, 2, (1, 4, 1)).astype(float)  # tokens that are often alike
            alpha, omega = rng.random((1, 4)) < 0.4, rng.uniform(0.5, 2, (1, 4))
            k[alpha] = rng.standard_normal((alpha.sum(), 1))  # a merged slot is like no other
            merge = alpha & (dmc.lengths(pool, heads) > 0)
            foreseen, free = dmc.pages_needed(pool, heads, merge, k, k), pool.free_pages
            dmc.append(pool, heads, k, k, alpha=alpha, omega=omega)
            assert foreseen == free - pool.free_pages
            if rng.random() < 0.5:  # a head goes on from another's slots
                g, other = rng.integers(0, 4, 2)
                kept.append(heads.sequences[0, g])
                heads.sequences[0, g] = pool.fork(int(heads.sequences[0, other]))
            elif kept:
                pool.free(int(kept.pop()))


def test_a_head_without_slots_gives_zero():
    pool = paged.PagePool(4, 2, 1, 4, np.float32)
    heads = dmc.allocate(pool, 1, 2)
    q = np.ones((1, 2, 4), np.float32)
    for rung in dmc.DECODE:
        assert not dmc.decode(q, pool, heads, rung=rung).any()
    pool.append(int(heads.sequences[0, 0]), q[:1, 0], q[:1, 0])
    for rung in dmc.DECODE:
        o = dmc.decode(q, pool, heads, rung=rung)
        np.testing.assert_allclose(o, [[[1] * 4, [0] * 4]])


def test_decisions_stand_in_the_last_channels():
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 4, 8)).astype(np.float32), 6 * rng.standard_normal((2, 2, 8)).astype(np.float32)
    alpha, omega = dmc.decisions(q, k)
    np.testing.assert_array_equal(alpha, k[..., -1] - 5 > 0)
    assert alpha.any() and not alpha.all()
    np.testing.assert_allclose(omega, 1 / (1 + np.exp(-(q[:, ::2, -1] + 5))), rtol=1e-6)
    assert omega.dtype == np.float32
    assert dmc.decisions(q, k, bias=-100.0)[0].all()


@over(("change", "error", "message"), [
    ({"k": np.zeros((1, 3, 4), np.float32)}, ShapeError, "k has shape (1, 3, 4) = (B, G, D); G=3 must equal G=2"),
    ({"v": np.zeros((1, 2, 5), np.float32)}, ShapeError, "v has shape (1, 2, 5) = (B, G, D); D=5 must equal D=4"),
    ({"k": np.zeros((1, 2, 4), np.float16)}, DtypeError, "k has dtype float16; it must be float32"),
    ({"alpha": np.zeros((1, 2))}, DtypeError, "alpha has dtype float64; it must be bool"),
    ({"alpha": np.zeros((2, 2), bool)}, ShapeError, "alpha has shape (2, 2) = (B, G); B=2 must equal B=1"),
    ({"omega": np.ones((1, 2), int)}, DtypeError, "omega has dtype int64"),
    ({"omega": np.array([[1.0, 0.0]])}, ShapeError, "omega must be above 0"),
    ({"omega": np.array([[1.0, np.nan]])}, ShapeError, "omega must be above 0"),
    ({"omega": np.array([[1.0, np.inf]])}, ShapeError, "omega must be above 0 and finite"),
])
def test_a_token_that_does_not_fit_is_refused(change, error, message):
    pool = paged.PagePool(4, 2, 1, 4, np.float32)
    heads = dmc.allocate(pool, 1, 2)
    token = np.ones((1, 2, 4), np.float32)
    given = {"k": token, "v": token, "alpha": np.zeros((1, 2), bool), "omega": np.ones((1, 2)), **change}
    with pytest.raises(error, match=re.escape(message)):
        dmc.append(pool, heads, given["k"], given["v"], alpha=given["alpha"], omega=given["omega"])
    assert dmc.lengths(pool, heads).tolist() == [[0, 0]]


def test_what_cannot_be_decoded_is_refused():
    pool = paged.PagePool(4, 2, 1, 4, np.float32)
    heads = dmc.allocate(pool, 1, 2)
    q = np.ones((1, 2, 4), np.float32)
    with pytest.raises(ShapeError, match=re.escape("heads has shape (1, 2) = (B, G); G=2 must divide H=3")):
        dmc.decode(np.ones((1, 3, 4), np.float32), pool, heads)
    with pytest.raises(DtypeError, match="k_pages has dtype float32 and q has float16"):
        dmc.decode(q.astype("float16"), pool, heads)
    with pytest.raises(DtypeError, match="heads is of type list"):
        dmc.decode(q, pool, [[0, 1]])
    with pytest.raises(ValueError, match="there is no rung 'v9' here; the rungs are reference, tiled, v1_ragged_heads"):
        dmc.decode(q, pool, heads, rung="v9")
    with pytest.raises(ShapeError, match="G must be 1: every head is a sequence of its own"):
        dmc.allocate(paged.PagePool(4, 2, 2, 4, np.float32), 1, 2)
    with pytest.raises(DeviceError, match="on the CPU"):
        dmc.decode(FromElsewhere(), pool, heads)


class FromElsewhere:
    """An array of a library that is not NumPy, on the CPU."""

    def __dlpack_device__(self):
        return 1, 0
