"""What is profiled of every ladder: technique -> (rung, sizes by letter, dtype, options of the input)."""

__all__ = ["CASES"]

BOTH = ("float32", "float16")

FLASH = {"B": 1, "H": 4, "G": 2, "T": 200, "S": 300, "D": 64}  # ragged in T and S, two query heads a group
FIRST_ROWS_BLIND = {**FLASH, "T": 70, "S": 45}
FLASH_CASES = [
    (rung, FLASH, dtype, {"causal": causal}) for dtype in BOTH for causal in (True, False)
    for rung in ("v1_three_pass", "v2_tiled", "v2_keys_outside", "v3_split_rows", "v4_register_tiles")
]
FLASH_CASES += [("v5_mma", {**FLASH, "D": D}, "float16", {"causal": c}) for D in (40, 64, 128) for c in (True, False)]
FLASH_CASES += [("v4_register_tiles", {**FIRST_ROWS_BLIND, "D": D}, "float32", {"causal": True}) for D in (7, 100, 128)]
FLASH_CASES += [(rung, {**FIRST_ROWS_BLIND, "D": 40}, "float16", {"causal": True})
                for rung in ("v2_tiled", "v3_split_rows", "v5_mma")]

DECODE = {"B": 3, "H": 8, "G": 2, "S": 300, "D": 64}  # lengths 300, 200 and 100
DECODE_RUNGS = ("v1_block_per_head", "v2_shared_group", "v3_warp_dot")
GQA_CASES = [(rung, DECODE, dtype, {}) for dtype in BOTH for rung in DECODE_RUNGS]
GQA_CASES += [(rung, {**DECODE, "H": 6, "S": 131, "D": 40}, "float16", {}) for rung in DECODE_RUNGS]
GQA_CASES += [(rung, {**DECODE, "H": 32, "G": 1, "S": 77, "D": 128}, "float32", {}) for rung in DECODE_RUNGS]
GQA_CASES += [(rung, {**DECODE, **other}, "float16", {})
              for rung in ("v4_wide_loads", "v5_split_kv", "v6_stream_k", "v7_mma_group", "v8_mma_stream_k")
              for other in ({}, {"H": 6, "S": 131, "D": 40}, {"H": 32, "G": 1, "S": 77, "D": 128})]

SCAN = {"B": 2, "T": 70, "E": 72, "N": 16}  # ragged in T; the last warp has 8 channels
SCAN_RUNGS = ("v1_channel_major", "v2_token_major", "v3_hillis_steele", "v4_blelloch", "v5_registers", "v6_three_phase")
SCAN_CASES = [(rung, SCAN, dtype, {}) for dtype in BOTH for rung in SCAN_RUNGS]
SCAN_CASES += [(rung, {"B": 1, "T": 41, "E": 37, "N": 5}, "float16", {}) for rung in SCAN_RUNGS]
SCAN_CASES += [("v6_three_phase", {"B": 1, "T": 700, "E": 64, "N": N}, "float32", {}) for N in (3, 16, 64)]
SCAN_PAIRS = ("v7_channel_pairs", "v8_staging_warps")
SCAN_CASES += [(rung, SCAN, dtype, {}) for dtype in BOTH for rung in SCAN_PAIRS]
SCAN_CASES += [(rung, {"B": 1, "T": 41, "E": 37, "N": 5}, "float16", {}) for rung in SCAN_PAIRS]
SCAN_CASES += [("v8_staging_warps", {"B": 1, "T": 700, "E": 64, "N": N}, "float32", {}) for N in (3, 16, 64)]

SPARSE = {"B": 1, "H": 2, "G": 1, "T": 100, "S": 150, "D": 64}  # blocks of 16 x 16, ragged at both ends
SPARSE_RUNGS = ("v1_masked_dense", "v2_skip_test", "v3_block_lists", "v4_full_partial")
SPARSE_CASES = [(rung, SPARSE, dtype, {"causal": causal}) for dtype in BOTH for causal in (True, False)
                for rung in SPARSE_RUNGS]
SPARSE_RAW = ("v5_mma", "v6_async")
SPARSE_CASES += [(rung, {**SPARSE, "D": 40}, "float16", {"causal": True}) for rung in (*SPARSE_RUNGS, *SPARSE_RAW)]
SPARSE_CASES += [(rung, {**SPARSE, "D": D}, "float16", {"causal": False}) for rung in SPARSE_RAW for D in (64, 128)]

PAGED = {"B": 3, "H": 8, "G": 2, "S": 150, "P": 16, "D": 64}  # lengths 150, 100 and 50
PAGED_RUNGS = ("v1_gather", "v2_page_table", "v3_warp_key", "v4_fetch_ahead", "v5_split_kv")
PAGED_CASES = [(rung, PAGED, dtype, {}) for dtype in BOTH for rung in PAGED_RUNGS]
PAGED_CASES += [(rung, {**PAGED, "H": 6, "S": 67, "P": 5, "D": 40}, "float16", {}) for rung in PAGED_RUNGS]
PAGED_CASES += [(rung, {**PAGED, "H": H, "D": D}, "float16", {})
                for rung in ("v6_mma_group", "v7_async_ring", "v8_stream_k") for H, D in ((8, 64), (24, 128))]

LINEAR = {"B": 2, "H": 2, "T": 70, "D": 64}
LINEAR_CASES = [(rung, LINEAR, dtype, {}) for dtype in BOTH for rung in ("v1_recurrent", "v2_chunk")]
LINEAR_CASES += [(rung, {**LINEAR, "T": 41, "D": 24}, "float16", {}) for rung in ("v1_recurrent", "v2_chunk")]
LINEAR_CASES += [(rung, {**LINEAR, "T": T, "D": D}, "float16", {})
                 for rung in ("v3_mma_chunk", "v4_split_along_time") for T, D in ((70, 64), (300, 128))]

KV = {"B": 3, "H": 8, "G": 2, "S": 150, "D": 64}  # lengths 150, 100 and 50, the newest tokens in 16 bits
KV_RUNGS = ("v1_dequantize", "v2_folded_scales", "v3_wide_loads", "v4_half2", "v5_split_kv", "v6_mma")
KV_CASES = [(rung, KV, dtype, {}) for dtype in BOTH for rung in KV_RUNGS]
KV_CASES += [(rung, {**KV, "H": 12, "D": 128}, "float16", {}) for rung in KV_RUNGS]
KV_CASES += [(rung, {**KV, **wider}, "float16", {})
             for wider in ({}, {"H": 12, "D": 128}) for rung in ("v7_matrices", "v8_ring")]

CASES = {
    "gqa": GQA_CASES, "flash": FLASH_CASES, "block_sparse": SPARSE_CASES, "paged": PAGED_CASES,
    "selective_scan": SCAN_CASES, "linear_attention": LINEAR_CASES, "kv_compression": KV_CASES,
}
