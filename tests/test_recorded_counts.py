"""Closed forms and the SIMT machine's counts equal what a GPU's own counters said of every ladder's kernels.

``minikernels bench --counters`` makes the recordings.
"""

import pytest

from minikernels import catalog, simt
from minikernels.bench import counters, ncu
from minikernels.bench.counter_cases import CASES
from minikernels.block_sparse import traffic as block_sparse_traffic
from minikernels.core.traffic import Traffic

RECORDED = {name: counters.read(name) for name in CASES if (counters.FOLDER / f"{name}.json").exists()}
GLOBAL = ("load_requests", "load_sectors", "store_requests", "store_sectors")
SHARED = ("shared_load", "shared_store")
COMPILED_OTHERWISE = {  # the compiler moved loads, so that the GPU ran another program than the source says
    "flash-v2_keys_outside-B1-H4-G2-T200-S300-D64-float32-causal":
        "fewer loads, most likely none for rows that do not see the key tile",
    "flash-v2_tiled-B1-H4-G2-T70-S45-D40-float16-causal":
        "unrolling peels off a step of 8 threads, which then run ahead of their warp",
    "paged-v5_split_kv-B3-H8-G2-S150-P16-D64-float32": "warps that get no key read no query: 42 of them, 4 heads each",
    "paged-v5_split_kv-B3-H8-G2-S150-P16-D64-float16": "warps that get no key read no query: 30 of them, 4 heads each",
}
IDLE = "a warp without a group of tokens never reads the length: one in each of the 6 blocks"
COMPILED_OTHERWISE |= {f"kv_compression-v2_folded_scales-B3-{sizes}": IDLE for sizes in (
    "H8-G2-S150-D64-float32", "H8-G2-S150-D64-float16", "H12-G2-S150-D128-float16")}
PEELED = "unrolling peels off a step of 8 threads, which then run ahead of their warp, as in flash's v2_tiled"
COMPILED_OTHERWISE |= {f"block_sparse-{rung}-B1-H2-G1-T100-S150-D40-float16-causal": PEELED for rung in (
    "v1_masked_dense", "v2_skip_test", "v3_block_lists", "v4_full_partial")}
UNASKED = "the one block row whose list is empty never reads how many of its blocks are full"
COMPILED_OTHERWISE |= {f"block_sparse-v4_full_partial-B1-H2-G1-T100-S150-D64-{dtype}-causal": UNASKED
                       for dtype in ("float32", "float16")}
UNEXPLAINED = {
    "gqa-v8_mma_stream_k-B3-H6-G2-S131-D40-float16":
        "one request of 365 more, of one sector; none of the source's loads explains it, and it was profiled once",
}
ASYNCHRONOUS = {  # rungs whose q, k and v come by cp.async
    "linear_attention": ("v3_mma_chunk", "v4_split_along_time"),
    "block_sparse": ("v5_mma", "v6_async"),
}
MERGED = {  # rungs whose neighbouring loads from shared memory the compiler turns into one of 64 or 128 bits
    "flash-v2_tiled": "k_smem[s, 4i] to [s, 4i+3], a row of K at a time",
    "flash-v2_keys_outside": "the same loop over a row of K and of V",
    "block_sparse-v1_masked_dense": "a row of K, and the same of V, four numbers at a time",
    "block_sparse-v2_skip_test": "the same",
    "block_sparse-v3_block_lists": "the same",
    "block_sparse-v4_full_partial": "the same",
    "gqa-v3_warp_dot": "the eight warps' m and l, side by side",
    "kv_compression-v1_dequantize": "the four warps' m and l, side by side",
    "kv_compression-v2_folded_scales": "the same",
    "paged-v1_gather": "the four warps' maxima and sums, side by side",
    "paged-v2_page_table": "the same",
    "paged-v3_warp_key": "the four warps' m and l",
}
ARBITRATED = {  # rungs whose conflicts differed by up to a few hundred between two recordings of the same launches
    "flash-v1_three_pass": "sums of a block, while the loads of the next columns arrive",
    "flash-v2_keys_outside": "a tile of keys is stored, while the states of the rows arrive",
    "flash-v3_split_rows": "a tile of keys is stored, while the next of its loads arrive",
}


def identity(name, case):
    words = [name, case["rung"], *(f"{letter}{n}" for letter, n in case["sizes"].items()), case["dtype"]]
    return "-".join([*words, *(option for option, on in case["options"].items() if on)])


def parameters(kinds, reasons):
    """Yield the recorded cases of rungs of these kinds, those with a reason marked as expected to differ."""
    for name, recording in RECORDED.items():
        technique = catalog.technique(name)
        for case in recording["cases"]:
            if technique.rung(case["rung"]).kind in kinds:
                label = identity(name, case)
                marks = [pytest.mark.xfail(reason=reasons[label], strict=True)] if label in reasons else []
                yield pytest.param(technique, case, id=label, marks=marks)


def made(technique, case):
    return technique.random(case["sizes"], case["dtype"], **case["options"])


def counted(technique, case):
    """Return what the SIMT machine counts of the same launch."""
    with simt.collect() as launches:
        technique.run(technique.rung(case["rung"]), made(technique, case))
    assert len(launches) == case["counts"]["kernels"]
    return sum((launch.traffic for launch in launches), Traffic()).as_dict()


def picked(traffic, names):
    return {name: getattr(traffic, name) for name in names}


def copied_rows(technique, case):
    """Return how many rows of q, k and v the blocks of a launch copy, for tiles of an even number of rows."""
    B, H, T = (case["sizes"][letter] for letter in "BHT")
    if technique.name == "linear_attention":
        return 3 * B * H * T
    inputs = made(technique, case)
    walk = block_sparse_traffic.Walk(**case["sizes"], itemsize=2, **{n: inputs[n] for n in ("mask", "block", "causal")})
    return B * H * T + 2 * int((walk.kept * walk.keys).sum())


@pytest.mark.parametrize(("technique", "case"), list(parameters(("numba", "raw"), COMPILED_OTHERWISE | UNEXPLAINED)))
def test_closed_form_equals_the_counters_of_the_gpu(technique, case):
    """Exactly; but a copy by cp.async counts by the 32-byte pieces of shared memory that eight lanes write.

    Rows begin there in turn at the start and in the middle of a piece: every 128 bytes of the latter touch one more.
    """
    predicted = picked(technique.traffic(technique.rung(case["rung"]), made(technique, case)), GLOBAL)
    if case["rung"] in ASYNCHRONOUS.get(technique.name, ()):
        predicted["load_sectors"] += copied_rows(technique, case) // 2 * -(-case["sizes"]["D"] // 64)
    assert predicted == {name: case["counts"][name] for name in GLOBAL}


def counted_here():
    """Yield the numba rungs' cases; of those that differ in the mask alone the causal one, which has what both have."""
    for parameter in parameters(("numba",), COMPILED_OTHERWISE):
        if parameter.values[1]["options"].get("causal", True):
            yield parameter


@pytest.mark.parametrize(("technique", "case"), list(counted_here()))
def test_the_machine_counts_what_the_gpu_counts(technique, case):
    """Global requests and sectors, shared wavefronts and conflicts; the compiler's and the hardware's part is named.

    A wavefront more than the addresses need is a conflict to the GPU's counter, also one that waits because arriving
    data of a global load hold the banks: the ladders in `ARBITRATED` show some, and never the same number twice.
    """
    mine, hardware, rung = counted(technique, case), case["counts"], f"{technique.name}-{case['rung']}"
    assert {name: mine[name] for name in GLOBAL} == {name: hardware[name] for name in GLOBAL}
    for way in SHARED:
        wavefronts, conflicts = f"{way}_wavefronts", f"{way}_conflicts"
        waited = hardware[conflicts] - mine[conflicts]
        assert waited == 0 or (rung in ARBITRATED and 0 < waited < hardware[wavefronts] / 6)
        needed = hardware[wavefronts] - waited
        assert needed == mine[wavefronts] or (way == "shared_load" and rung in MERGED and needed < mine[wavefronts])


def test_every_kernel_of_the_ladders_is_profiled():
    for name, recording in RECORDED.items():
        kernels = {rung.name for rung in catalog.technique(name).rungs if rung.kind == "numba"}
        assert {case["rung"] for case in recording["cases"]} >= kernels
        found = [{key: x for key, x in case.items() if key != "counts"} for case in recording["cases"]]
        assert found == [counters.described(case) for case in CASES[name]], f"{name}: profile the ladder again"


@pytest.mark.parametrize("rung", ["v4_register_tiles", "v5_mma"])
@pytest.mark.parametrize("D", [64, 128])
def test_raw_rungs_of_flash_meet_no_bank_conflicts_at_usual_widths(rung, D):
    for case in RECORDED["flash"]["cases"]:
        if case["rung"] == rung and case["sizes"]["D"] == D and case["sizes"]["T"] == 200:
            assert case["counts"]["shared_load_conflicts"] == case["counts"]["shared_store_conflicts"] == 0


@pytest.mark.parametrize("name", CASES)
def test_provenance_says_where_the_counts_come_from(name):
    if name not in RECORDED:
        pytest.skip(f"no GPU's counters of {name} are recorded yet: minikernels bench --counters")
    about = RECORDED[name]["provenance"]
    assert about["gpu"].startswith("NVIDIA")
    assert {"compute", "driver", "cuda", "versions", "ncu"} <= set(about)


def test_launches_are_summed_by_case():
    one = dict.fromkeys(ncu.METRICS, 2)
    rows = [("before", one), (counters.MARK, one), ("scores_kernel", one), ("values_kernel", one),
            (f"void {counters.MARK}()", one), ("v1_x", one)]
    first, second = counters.by_case(rows)
    assert (first["load_requests"], first["kernels"]) == (4, 2)
    assert (second["shared_store_conflicts"], second["kernels"]) == (2, 1)


def test_the_projects_kernels_are_known_by_name():
    found = counters.kernels()
    assert {counters.MARK, "scores_kernel", "v2_tiled", "v5_mma", "merge_splits", "v4_full_partial"} <= set(found)
    assert not any(name in found for name in ("screen", "wait"))
    assert all(any(rung in name for name in found) or rung in ("v1_three_pass", "v1_gather", "v6_three_phase")
               for name in CASES for rung, *_ in CASES[name])


def test_ncus_table_is_read_by_launch_and_metric():
    head = '"ID","Kernel Name","Metric Name","Metric Value"'
    rows = [f'"{n}","k{n}","{metric}","{n + 1},00{i % 10}"' for n in range(2) for i, metric in
            enumerate(ncu.METRICS.values())]
    table = "\n".join([head, *rows])
    (first, counts), (second, _) = ncu.launches(table + '\n"1","k1","another__metric.sum","7"')
    assert (first, second) == ("k0", "k1")
    assert (counts["load_requests"], counts["load_sectors"]) == (1000, 1001)
