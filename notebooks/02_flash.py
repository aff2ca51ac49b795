# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 flash: attention without the T x S matrix
#
# $$O = \mathrm{softmax}(Q K^\top \cdot \mathit{scale})\, V$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: q, k and v of one head of a small trained model while it reads Python's own
# `textwrap.py`. No GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU
# would count.
#
# Letters: T queries, S keys, D head width; BLOCK_T queries a block, BLOCK_S keys a tile. `00_how_to_read` explains
# sectors, warps and barriers.

# %%
import inspect
import textwrap

import numpy as np

import minikernels.model as m
from minikernels import flash, simt
from minikernels.flash import traffic
from minikernels.widgets import TilePlayer, TrafficMeter, WarpView

text = inspect.getsource(textwrap)[:256]  # name a text of your own here

# %%
layer = m.load("mha").activations(text, layer=1)
q, k, v = (np.ascontiguousarray(x[:, :1]) for x in (layer.q, layer.k, layer.v))  # the first head
B, H, T, D = q.shape
sizes = {"B": B, "H": H, "G": 1, "T": T, "S": T, "D": D}
print("q", q.shape, "k", k.shape, "v", v.shape, q.dtype)


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. What the plain equation costs
#
# `v1_three_pass` is the equation as three kernels: scores, softmax, scores times V. The scores and the probabilities,
# float32, go to HBM in between.
#
# **Predict**: how many bytes do the three kernels *store*?

# %%
guess = None  # T = S = 256, D = 32

# %%
with simt.collect() as launches:
    o = flash.attention(q, k, v, rung="v1_three_pass")
v1 = sum(launch.traffic for launch in launches)

# %%
TrafficMeter([("v1_three_pass", traffic.v1_three_pass(**sizes), v1.by_array)], quantity="store_bytes")

# %%
compare(guess, v1.store_bytes, traffic.v1_three_pass(**sizes).store_bytes)

# %% [markdown]
# **Explain**: scores and probabilities are $T S$ numbers each; o and lse are only $T D$ and $T$:
#
# $$4\,(2\, T S + T D + T)\ \text{bytes}$$
#
# At T = S = 8192 that is half a gigabyte a head, and all of it is read back. The arithmetic is not what hurts. The
# trip to HBM is.
#
# **Exercise**: with a pencil, the bytes stored at T = S = 4096, D = 64. Then:

# %%
traffic.v1_three_pass(1, 1, 1, 4096, 4096, 64).store_bytes

# %% [markdown]
# ## 2. Online softmax: three numbers stand for a row
#
# The matrix exists because softmax wants the largest score of a row before it sums. Online softmax sums under the
# largest score *so far*, and rescales when a larger one comes.
#
# **Predict**: the last query meets 256 keys, one by one. How often does its maximum rise?

# %%
guess = None

# %%
scores = k[0, 0] @ q[0, 0, -1] * np.float32(D**-0.5)
m_so_far = np.maximum.accumulate(scores)
raised = 1 + np.count_nonzero(np.diff(m_so_far))

# %%
small = [np.ascontiguousarray(x[:, :, :96, :8]) for x in (q, k, v)]
with simt.record(blocks=[0], registers=("first", "m", "l", "alpha"), lanes=(0, 31)) as recording:
    flash.attention(*small, rung="v2_tiled")
TilePlayer(recording.trace, step=700)

# %%
compare(guess, raised, round(sum(1 / n for n in range(1, T + 1)), 2))  # closed form: keys in random order

# %% [markdown]
# **Explain**: in random order key n is the largest so far with probability 1/n, so the maximum rises about $\ln S$
# times. Each time, one factor mends all that was summed:
#
# $$\alpha = e^{m - m'}, \quad l' = \alpha\, l + e^{s - m'}, \quad o' = \alpha\, o + e^{s - m'} v$$
#
# A row keeps D + 2 numbers, whatever S is. Watch m, l and alpha in the player: alpha is 1 where nothing rose.
#
# **Exercise 02.1**: one row in NumPy, `exercises/02_flash/ex1_online_row.py`. Graded on values, with scores in the
# hundreds and keys that the row may not see. Check: `minikernels check 02.1`, or in a cell:

# %%
from minikernels.grading import check

check("02.1")

# %% [markdown]
# ## 3. Tiles: K and V once a block
#
# `v2_tiled` gives a thread one query row. The 64 threads of a block load a tile of 32 keys into shared memory
# together, and every one of them uses all of it.
#
# **Predict**: how many bytes of k does the whole launch load?

# %%
guess = None  # BLOCK_T = 64 rows a block

# %%
with simt.collect() as launches:
    o = flash.attention(q, k, v, rung="v2_tiled")
v2 = sum(launch.traffic for launch in launches)

# %%
rows = {"v1_three_pass": v1, "v2_tiled": v2}
TrafficMeter([(name, getattr(traffic, name)(**sizes), counted.by_array) for name, counted in rows.items()])

# %%
compare(guess, v2.by_array["k"].load_bytes, -(-T // 64) * T * D * 4)

# %% [markdown]
# **Explain**: each of the $\lceil T / \mathrm{BLOCK\_T} \rceil$ blocks reads k once:
#
# $$\lceil T / \mathrm{BLOCK\_T} \rceil \cdot S \cdot D \cdot 4\ \text{bytes}$$
#
# Scores live in registers and never reach HBM. Two barriers a tile keep it honest: one so that nobody reads a tile
# that is half loaded, one so that nobody overwrites a tile that others still read.
#
# **Exercise 02.3**: the tile loop. Budget: k and v at most ceil(T / BLOCK_T) times, in full sectors, 2 barriers a tile.
# `minikernels check 02.3`.
#
# **Exercise 02.5**: a kernel with one barrier missing. Budget: 2 barriers a tile and 1 at the end.
# `minikernels check 02.5`.

# %%
print("barriers:", v2.barriers, "=", "2 x", -(-T // 64), "blocks x", T // 32, "tiles")

# %% [markdown]
# ## 4. Which loop stands outside
#
# FlashAttention walks over keys outside and queries inside; FlashAttention-2 the other way round. The arithmetic is
# the same.
#
# **Predict**: `v2_keys_outside` fetches the state (o, m, l) of every row for each tile of keys and puts it back. How
# many bytes does it store in all, the result included?

# %%
guess = None  # BLOCK_S = 32: 8 tiles of keys

# %%
with simt.collect() as launches:
    o = flash.attention(q, k, v, rung="v2_keys_outside")
outside = sum(launch.traffic for launch in launches)

# %%
rows = {"v2_keys_outside": outside, "v2_tiled": v2}
TrafficMeter([(name, getattr(traffic, name)(**sizes), counted.by_array) for name, counted in rows.items()])

# %%
compare(guess, outside.store_bytes, traffic.v2_keys_outside(**sizes).store_bytes)

# %% [markdown]
# **Explain**: with $n = \lceil S / \mathrm{BLOCK\_S} \rceil$ tiles the state crosses HBM $n - 1$ times each way: $(n
# - 1)\, T (D + 2) \cdot 4$ bytes stored, and $T (D + 1) \cdot 4$ of result. Queries outside store the result and
# nothing else, and every tile of queries can be a block of its own. Keys split over blocks are still useful, for few
# queries and many keys: then two finished states are merged.
#
# **Exercise 02.2**: merge two states (m, l, o). Graded on values, with maxima hundreds apart. `minikernels check 02.2`.

# %% [markdown]
# ## 5. Causal: do not load what nobody sees
#
# Query t sees key s iff s <= t + S - T. A tile of keys beyond the last row of a block can be skipped whole.
#
# **Predict**: how many bytes of k does `v2_tiled` load now?

# %%
guess = None  # 4 blocks of 64 rows

# %%
with simt.collect() as launches:
    o = flash.attention(q, k, v, causal=True, rung="v2_tiled")
causal = sum(launch.traffic for launch in launches)

# %%
forms = {name: traffic.v2_tiled(**sizes, causal=name == "causal") for name in ("full", "causal")}
TrafficMeter([("full", forms["full"], v2.by_array), ("causal", forms["causal"], causal.by_array)])

# %%
compare(guess, causal.by_array["k"].load_bytes, sum(min(T, (i + 1) * 64) for i in range(T // 64)) * D * 4)

# %% [markdown]
# **Explain**: block i sees the keys up to its last row's diagonal, $\min(S, (i + 1)\,\mathrm{BLOCK\_T} + S - T)$, in
# whole tiles:
#
# $$\sum_i \min(S, (i+1)\,\mathrm{BLOCK\_T} + S - T) \cdot D \cdot 4\ \text{bytes}$$
#
# That tends to half of all as T grows. Inside the tile on the diagonal each row stops at its own last key. The bound
# of the tile loop must be the block's and not the thread's: a barrier stands in that loop.
#
# **Exercise 02.4**: both bounds, with T < S and T > S. Budget: no tile that no row of the block sees.
# `minikernels check 02.4`.

# %% [markdown]
# ## 6. The same bytes in fewer sectors
#
# HBM moves sectors of 32 bytes. In `v2_tiled` lane i reads column d of row i of q: the lanes stand D elements apart.
#
# **Predict**: how many sectors does one warp's request for q touch?

# %%
guess = None

# %%
q_loads = v2.by_array["q"]
k_loads = v2.by_array["k"]
print("q:", q_loads.load_sectors, "sectors,", q_loads.load_requests, "requests;  k:", k_loads.load_sectors,
      "sectors,", k_loads.load_requests, "requests")

# %%
WarpView("lane * D", itemsize=4, names={"D": D})

# %%
compare(guess, q_loads.load_sectors // q_loads.load_requests, min(32, 32 * D * 4 // 32))

# %% [markdown]
# **Explain**: 32 lanes that stand $4 D$ bytes apart touch 32 sectors and use 4 bytes of each; 32 lanes side by side
# touch 4 and use all. The loop over a tile of k hands neighbouring elements to neighbouring threads and pays 4. In
# `v3_split_rows` four lanes share a row, which is `(lane // 4) * D + lane % 4` in the widget above: 8 sectors. Try
# it, and `lane * 2`.
#
# **Exercise 02.6**: a coalesced load, and a row width without bank conflicts. Budget: k once, in full sectors, 0
# conflicts. `minikernels check 02.6`.

# %%
check("02.6")

# %% [markdown]
# ## The way back
#
# The backward pass keeps lse and multiplies every tile of scores again: $P = e^{S - \mathit{lse}}$ and
# $dS = P \circ (dO\,V^\top - \delta)$ give $dV = P^\top dO$, $dK = dS^\top Q$ and $dQ = dS\,K$. A block that owns
# keys sums dK and dV; of dQ it has one term of a sum over blocks. `v3_split_rows` walks the tiles once more for dQ: 7
# products a pair of tiles. The tensor-core rungs add their terms in HBM with atomics: 5 products.

# %%
from minikernels.flash import traffic_backward

o, lse = flash.attention(q, k, v, return_lse=True)
with simt.collect() as launches:
    flash.attention_backward(q, k, v, o, lse, np.ones_like(o), rung="v3_split_rows")
twice = sum(launch.traffic for launch in launches)

# %%
once = traffic_backward.v4_mma(**sizes, itemsize=2)
TrafficMeter([("two walks", traffic_backward.v3_split_rows(**sizes, itemsize=4), twice.by_array)])

# %%
print("two walks, float32:", twice.load_bytes, "bytes loaded, none added by atomics")
print("one walk,  float16:", once.load_bytes, "bytes loaded,", once.atomic_bytes, "added by atomics, in float32")

# %% [markdown]
# Atomics add in no fixed order: dK and dV come out the same on every run, dQ to the last bits. On tensor cores the two
# further products would cost more than that.

# %% [markdown]
# ## Bytes are not time
#
# What the ladder's kernels took on a real GPU, recorded by `minikernels bench`; the line is the fastest
# production kernel on the same input. A rung that moves fewer bytes is not always faster: once HBM no longer limits,
# registers, shared memory and the exponential unit do. Only a measurement says which.

# %%
from IPython.display import SVG

from minikernels.bench.recorded import recordings, spelled
from minikernels.figures import ladder, svg

gpu = recordings()[0]
case = gpu.case("flash", "float16")
rungs = [r for r in gpu.results if r.technique == "flash" and r.case == case and not r.is_peer]
best = gpu.production("flash", case)
print(gpu.gpu, gpu.dates([best]), spelled(case))
SVG(svg(ladder([(r.name, r.ms) for r in rungs], reference=(best.name, best.ms))))

# %%
from minikernels.bench.roofs import roofs
from minikernels.widgets import Roofline

points = [{"name": r.name, "flop": r.flop, "ms": r.ms,
           "bytes": getattr(traffic, r.name)(**dict(case[0]), itemsize=2).hbm_bytes} for r in rungs]
Roofline(points, roofs(gpu.gpu))

# %% [markdown]
# ## From `v5_mma` to `v7_wgmma`: who waits for whom
#
# From `v5_mma` on, tensor cores do the products: 4,096 FLOP a clock on an SM of a Hopper GPU. Exponentials stay on
# units that do 16 a clock. A tile is 128 queries x 128 keys.
#
# **Predict**, with a pencil: a kernel computes products and exponentials one after the other, never at once. What share
# of the tensor cores' peak can it reach at D = 64? And at D = 128?

# %%
exponentials = 128 * 128 / 16  # clocks
products = {D: 4 * 128 * 128 * D / 4096 for D in (64, 128)}
in_turn = {D: 100 * clocks / (clocks + exponentials) for D, clocks in products.items()}
print("clocks a tile: exponentials", exponentials, "products", products)

# %%
halves = [r for r in gpu.results if r.technique == "flash" and r.case[1:] == ("float16", False, "")]
wide = [r for r in halves if ("D", 128) in r.case[0] and ("T", 4096) in r.case[0]]
fastest = min(r.ms for r in wide if r.is_peer)
SVG(svg(ladder([(r.name, r.ms) for r in wide if not r.is_peer], reference=("production", fastest))))

# %%
peak = next(roof["tflop_per_s"] for roof in roofs(gpu.gpu)["compute"] if "float16" in roof["name"])
for r in (r for r in halves if r.name in ("v5_mma", "v6_async", "v7_wgmma") or r.is_peer):
    D = dict(r.case[0])["D"]
    print(f"D={D:3}  {r.name:16} {r.tflops:4.0f} TFLOP/s, {100 * r.tflops / peak:3.0f} % of a plain matrix product")

# %%
print("in turn:", {D: f"{share:.0f} %" for D, share in in_turn.items()})

# %% [markdown]
# **Why**: products take $16 D$ clocks a tile, exponentials 1,024 whatever D is, so in turn
#
# $$\frac{16 D}{16 D + 1024}: \quad 50\,\% \text{ at } D = 64, \quad 67\,\% \text{ at } D = 128$$
#
# `v6_async` hides the copies (cp.async), but a warp's mma.sync and its softmax still come in turn. `v7_wgmma` starts
# products and goes on: the next tile's maxima are found under them, warpgroups alternate, and one thread feeds all by
# TMA. What is above the line "in turn" is overlap.

# %% [markdown]
# ## What this left out
#
# Heads that share keys (01). Block-sparse masks (03). Keys split over blocks for decoding (01, 04). Tensor cores,
# asynchronous copies and swizzled shared memory, which the last rungs use, forward and backward
# (`minikernels/flash/*.cu` and its `NOTES.md`). And time: the SIMT machine counts what a kernel moves and does, not
# how long it takes.
#
# Papers: FlashAttention (arXiv:2205.14135), FlashAttention-2 (arXiv:2307.08691), FlashAttention-3 (arXiv:2407.08608),
# Online normalizer calculation for softmax (arXiv:1805.02867). The derivation stands in `minikernels/flash/README.md`.
