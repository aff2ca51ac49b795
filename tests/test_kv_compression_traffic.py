"""The closed forms of kv_compression: equal to what the SIMT machine counts, and to the formulas of the README."""

import pytest

from minikernels import kv_compression, simt
from minikernels.core.traffic import Traffic
from minikernels.kv_compression import numba_cuda, outputs, raw, traffic, traffic_matrices, traffic_raw
from tests.kv_compression_cases import CASES, Case, made

FIELDS = ["load_requests", "load_sectors", "load_bytes", "store_requests", "store_sectors", "store_bytes", "barriers"]
ALIKE = [case for case in CASES if not (case.v_bits or case.v_group)]  # the forms know caches of one layout
over = pytest.mark.parametrize


def form(rung, case, itemsize=4, **options):
    """Return the closed form of one case."""
    given = {"lengths": case.lengths, "bits": case.bits, "group": case.group, "window": case.window}
    return getattr(traffic, rung)(case.B, case.H, case.G, case.S, case.D, itemsize, **given, **options)


def same(predicted, launches):
    """Fail unless a closed form equals the sum of what launches counted."""
    counted = sum((launch.traffic for launch in launches), Traffic())
    assert {f: getattr(predicted, f) for f in FIELDS} == {f: getattr(counted, f) for f in FIELDS}


@over("dtype", ["float32", "float16"])
@over("case", ALIKE, ids=str)
@over("rung", ["v1_dequantize", "v2_folded_scales"])
def test_predicted_equals_counted(rung, case, dtype):
    q, k_cache, v_cache, lengths = made(case, dtype)
    with simt.collect() as launches:
        kv_compression.decode(q, k_cache, v_cache, lengths=lengths, rung=rung)
    assert not [finding for launch in launches for finding in launch.findings]
    same(form(rung, case, q.itemsize), launches)


@over("rung", ["v1_dequantize", "v2_folded_scales"])
def test_predicted_equals_counted_with_other_warps(rung):
    case = Case(2, 6, 2, 70, 33, (70, 41), 4, 8)
    q, k_cache, v_cache, lengths = made(case)
    with simt.collect() as launches:
        getattr(numba_cuda, f"launch_{rung}")(q, k_cache, v_cache, lengths.astype("int32"), 0.3, warps=2)
    same(form(rung, case, warps=2), launches)


def test_scales_of_keys_are_read_once_a_group_when_they_are_folded():
    q, k_cache, v_cache, _ = made(Case(1, 4, 1, 128, 64))
    read = {}
    for rung in ("v1_dequantize", "v2_folded_scales"):
        with simt.collect() as launches:
            kv_compression.decode(q, k_cache, v_cache, rung=rung)
        by_array = launches[0].traffic.by_array
        read[rung] = by_array["k_scales"].load_bytes
        assert by_array["k_codes"].load_bytes == 128 * 64  # a byte a lane asked for; two lanes share each
        assert by_array["v_scales"].load_bytes == 128 * 64 * 4
    assert read["v1_dequantize"] == 64 * read["v2_folded_scales"] == 128 * 64 * 4


def test_the_readme_formulas_are_the_closed_forms():
    B, H, G, S, D, item = 2, 6, 2, 128, 64, 2
    once = B * H * D * item
    for bits, ratio in ((8, 1.88), (4, 3.56)):
        case = Case(B, H, G, S, D, None, bits)
        cache = 2 * B * G * S * D * (bits + 32 / 64) / 8
        assert form("tiled", case, item).load_bytes == once + cache
        assert round(2 * B * G * S * D * item / cache, 2) == ratio
        v1, v2 = (form(rung, case, item) for rung in ("v1_dequantize", "v2_folded_scales"))
        extra = 4 * once + B * G * 4 * 32 * 4
        assert v1.load_bytes == extra + 2 * B * G * S * D * (1 + 2 * item)
        assert v2.load_bytes == extra + 2 * B * G * S * D * (1 + item) + 2 * B * G * S * D // 64 * item
    kept = Case(B, H, G, S + 9, D)
    assert form("tiled", kept, item).load_bytes == once + cache + 2 * B * G * 9 * D * item
    quarter = Case(B, H, G, S, D, (S, 64))
    assert form("tiled", quarter, item).load_bytes == once + cache * 3 / 4


def test_bytes_of_a_cache_are_those_of_its_arrays():
    for case in ALIKE:
        _, k_cache, v_cache, _ = made(case, "float16")
        held = traffic.Cache(case.G, case.S, case.D, 2, [case.S] * case.B, case.bits, case.group, case.window)
        assert held.bytes() == k_cache.bytes() + v_cache.bytes()


@over("item", [2, 4])
@over("case", [Case(2, 8, 2, 150, 64, (150, 33)), Case(3, 12, 1, 337, 128, (0, 1, 337), 8),
               Case(1, 6, 3, 229, 96, (227,), 4, 32, 20)], ids=str)
def test_the_cuda_rungs_read_the_caches_once(case, item):
    B, H, G, D = case.B, case.H, case.G, case.D
    parts, once = -(-H // G // (8 if case.bits == 8 else 4)), B * H * D * item
    codes = 128 // case.bits  # of a load; each of its lanes reads the scale and the minimum that they share
    N = max(0, case.S - case.window) // case.group * case.group
    cache = 0
    for n in case.lengths:
        old = min(n, N)
        cache += 2 * old * D * case.bits // 8 + 2 * (n - old) * D * item
        cache += 2 * item * (-(-old // case.group) * D + old * D // codes)
    look = B * G * parts * 128 * 4
    v3 = form("v3_wide_loads", case, item)
    assert v3.load_bytes == once + look + parts * G * cache
    assert v3.store_bytes == once
    assert form("v4_half2", case, item) == v3
    v5 = form("v5_split_kv", case, item, count=3)
    assert v5.load_bytes == 3 * (once + look + B * H * (32 * 8 + 4 * D)) + parts * G * cache
    assert v5.store_bytes == once + 3 * B * H * (D * 4 + 8)
    assert form("v5_split_kv", case, item, count=1) == v3


@over("item", [2, 4])
@over("case", [Case(2, 8, 2, 150, 64, (150, 33)), Case(3, 12, 1, 337, 128, (0, 1, 337), 8),
               Case(1, 6, 3, 229, 32, (227,), 4, 32, 20)], ids=str)
def test_the_tensor_cores_read_codes_once_and_scales_for_every_lane(case, item):
    B, H, G, D = case.B, case.H, case.G, case.D
    parts, once = -(-H // G // 8), B * H * D * item
    N = max(0, case.S - case.window) // case.group * case.group
    cache = 0
    for n in case.lengths:
        old, step = min(n, N), 32 if item == 2 else 16
        read = -(-old // step) * step  # a step of tokens is read whole
        cache += 2 * read * D * case.bits // 8 + 2 * (n - old) * D * item
        cache += 2 * 8 * item * (-(-old // case.group) * D + read * -(-D // case.group))
    look = B * G * parts * 128 * 4
    alone = form("v6_mma", case, item, count=1)
    assert alone.load_bytes == once + look + parts * G * cache
    assert alone.store_bytes == once
    several = form("v6_mma", case, item, count=3)
    assert several.load_bytes == 3 * (once + look + B * H * (32 * 8 + 4 * D)) + parts * G * cache
    assert several.store_bytes == once + 3 * B * H * (D * 4 + 8)


@over("case", [Case(2, 8, 2, 150, 64, (150, 33)), Case(3, 12, 1, 337, 128, (0, 1, 337), 8),
               Case(1, 6, 3, 229, 32, (227,), 4, 32, 20), Case(1, 1, 1, 100, 32, None, 8, 48)], ids=str)
def test_a_ring_reads_all_once_in_whole_sectors(case):
    B, H, G, D, item = case.B, case.H, case.G, case.D, 2
    parts, once = -(-H // G // 8), B * H * D * item
    N = max(0, case.S - case.window) // case.group * case.group
    step = raw.constants_v8(H // G, D, item, case.bits, case.group, case.group)["STEP"]
    cache = 0
    for n in case.lengths or (case.S,):
        old = min(n, N)
        read = -(-old // step) * step  # a step of tokens is copied whole
        cache += 2 * read * D * case.bits // 8 + 2 * (n - old) * D * item
        cache += 2 * item * (-(-old // case.group) * D + read * -(-D // case.group))
    look = B * G * parts * 128 * 4
    for count in (1, 3):
        ring = form("v8_ring", case, item, count=count)
        merged = 0 if count == 1 else count * B * H * (32 * 8 + 4 * D)
        assert ring.load_bytes == count * (once + look) + parts * G * cache + merged
        assert ring == form("v7_matrices", case, item, count=count)
        assert ring.store_bytes == once + (count > 1) * count * B * H * (D * 4 + 8)
    warps = B * G * parts * 4  # each looks up its length, which lies in one sector
    twice = sum(max(0, n - N) for n in case.lengths or (case.S,)) * G * parts * D * item * (case.bits == 4)
    alone = form("v8_ring", case, item, count=1)  # two requests share each sector of a recent value, over 4-bit codes
    assert alone.load_sectors - warps == (alone.load_bytes - look + twice) // 32


@over("bits", [8, 4])
@over("group", [7, 16, 64, 128])
def test_tiles_of_the_cuda_rungs_are_those_of_the_forms(bits, group):
    for R in (1, 3, 4, 5, 8, 9, 32):
        for D in (32, 64, 96, 128):
            tile = traffic_raw.Tile(R, traffic.Cache(1, 500, D, 2, [500], bits, group, 0))
            made_of = raw.constants(R, D, 2, bits, group, group)
            assert (tile.parts[0], tile.resident) == (made_of["HEADS"], made_of["RESIDENT"])
            assert made_of["UNROLL"] == 1 or tile.keys * made_of["UNROLL"] <= group
    for R, D, item in ((1, 32, 2), (7, 64, 4), (32, 128, 2), (4, 128, 4)):
        fragments = traffic_raw.Fragments(R, traffic.Cache(1, 500, D, item, [500], bits, group, 0))
        made_of = raw.constants_v6(R, D, item, bits, group, group)
        assert (fragments.parts[0], fragments.resident) == (made_of["HEADS"], made_of["RESIDENT"])
        if item == 2 and group % 16 == 0:
            steps = traffic_matrices.Steps(R, traffic.Cache(1, 500, D, item, [500], bits, group, 0))
            for made_of in (raw.constants_v7(R, D, item, bits, group, group),
                            raw.constants_v8(R, D, item, bits, group, group)):
                assert (steps.parts[0], steps.resident, steps.step) == tuple(
                    made_of[name] for name in ("HEADS", "RESIDENT", "STEP"))


def test_blocks_of_heads_are_those_of_the_kernels():
    for R in range(1, 33):
        parts = traffic.pieces(R)
        assert (parts[0], len(parts), sum(parts)) == (*outputs.chunks(R), R)
