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
# # 01 gqa: query heads that share keys and values
#
# $$o_h = \mathrm{softmax}(q_h K_g^\top \cdot \mathit{scale})\, V_g, \qquad g = \lfloor h / (H/G) \rfloor$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: what a small trained model computes while it reads Python's own `textwrap.py`. No
# GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU would count.
#
# Letters: H query heads, G key/value heads, S keys, D head width. `00_how_to_read` explains sectors, warps and
# barriers.

# %%
import inspect
import textwrap

import numpy as np

import minikernels.model as m
from minikernels import gqa, simt
from minikernels.bench import generation
from minikernels.gqa import schedule, traffic
from minikernels.widgets import HeadGroups, TilePlayer, TrafficMeter, WarpView

text = inspect.getsource(textwrap).encode()

# %% [markdown]
# The chapter in one picture: 8 query heads read 2 key/value heads. Choose another G; then let a block take the group.

# %%
HeadGroups(heads=8, groups=2, keys=256, width=32, itemsize=4, shared=False)


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. What the cache buys
#
# A model that writes text makes one token at a time. It can read all the text again for each, or keep every layer's
# keys and values: the cache.
#
# **Predict**: the model has read 1,024 bytes. How many times as long does the next byte take *without* the cache?

# %%
guess = None

# %%
costs = generation.token_costs(m.load("mha"), text, [64, 256, 1024], runs=3)
for cost in costs:
    print(f"after {cost.length:5,} bytes: {cost.without_ms:8.1f} ms without, {cost.with_ms:6.1f} ms with a cache of "
          f"{cost.cache_bytes:,} bytes")

# %%
compare(guess, round(costs[-1].without_ms / costs[-1].with_ms), 1024 + 1)  # closed form: tokens computed, old and new

# %% [markdown]
# **Explain**: without a cache a step computes $S + 1$ tokens, with it one. The measured ratio is another: one token at
# a time is slow for its work, and attention's share grows with $S^2$. The price is memory, for every token and layer
#
# $$2\, G\, D \cdot 4\ \text{bytes}$$
#
# and from now on each step must *read* all of it. Standard attention over the prompt also holds T x T scores a head;
# tiled attention does not:

# %%
times = generation.attention_ms(m.load("mha"), text, [256, 1024])
for rung, row in times.items():
    print(f"{rung:10}", *(f"{ms:8.1f} ms" for ms in row))

# %% [markdown]
# **Exercise**: with a pencil, the cache of a model with 32 layers, G = 8, D = 128, 16 bits and 100,000 tokens. Then:

# %%
32 * 2 * 8 * 128 * 2 * 100_000

# %% [markdown]
# ## 2. Every query head reads for itself
#
# From here on: one new token, 8 query heads, 2 key/value heads, 256 keys. `v1_block_per_head` gives each query head a
# block.
#
# **Predict**: how many bytes of k does the launch load?

# %%
guess = None  # H = 8, G = 2, S = 256, D = 32, float32

# %%
layer = m.load("gqa2").activations(text[:256], layer=1)
q, k, v = np.ascontiguousarray(layer.q[:, :, -1]), layer.k, layer.v
(B, H, D), (G, S) = q.shape, k.shape[1:3]
sizes = {"B": B, "H": H, "G": G, "S": S, "D": D}

# %%
with simt.collect() as launches:
    o = gqa.decode(q, k, v, rung="v1_block_per_head")
v1 = launches[0]

# %%
TrafficMeter([("v1_block_per_head", traffic.v1_block_per_head(**sizes), v1.by_array)], quantity="load_bytes")

# %%
compare(guess, v1.by_array["k"].load_bytes, H * S * D * 4)

# %% [markdown]
# **Explain**: each of the H blocks reads the S keys of its group:
#
# $$H \cdot S \cdot D \cdot 4\ \text{bytes}$$
#
# though the cache has only $G \cdot S \cdot D$ numbers. Each number is multiplied once and dropped. A GPU could do
# hundreds of multiplications in the time it takes to fetch it.
#
# **Exercise 01.2**: the same in NumPy, with nothing repeated, for any G and a cache that is partly filled. Graded on
# values. `minikernels check 01.2`, or in a cell:

# %%
from minikernels.grading import check

check("01.2")

# %% [markdown]
# ## 3. A tile for the whole group
#
# `v2_shared_group` gives a block a key/value head and all R = H / G query heads that share it. A tile of K and V goes
# to shared memory once.
#
# **Predict**: how many bytes of k now?

# %%
guess = None

# %%
with simt.collect() as launches:
    o = gqa.decode(q, k, v, rung="v2_shared_group")
v2 = launches[0]

# %%
rows = {"v1_block_per_head": v1, "v2_shared_group": v2}
TrafficMeter([(name, getattr(traffic, name)(**sizes), launch.by_array) for name, launch in rows.items()])

# %%
small = [np.ascontiguousarray(x) for x in (q[:, :4, :8], k[:, :1, :48, :8], v[:, :1, :48, :8])]
with simt.record(blocks=[0], registers=("first", "thread"), lanes=(0, 31)) as recording:
    gqa.decode(*small, rung="v2_shared_group")
TilePlayer(recording.trace, step=60)

# %%
compare(guess, v2.by_array["k"].load_bytes, G * S * D * 4)

# %% [markdown]
# **Explain**: K and V cross HBM once a group:
#
# $$G \cdot S \cdot D \cdot 4\ \text{bytes}$$
#
# a factor of $R = H/G$ less than before. Multi-head attention (R = 1) gains nothing, multi-query attention (G = 1)
# most: what GQA saves, a kernel must collect.
#
# **Exercise 01.3**: the tile loop of such a block. Budget: k and v once, in full sectors, 3 barriers a tile.
# `minikernels check 01.3`.

# %%
print("barriers:", v2.traffic.barriers, "= 3 x", G, "blocks x", S // 32, "tiles")

# %% [markdown]
# ## 4. The same bytes in fewer sectors
#
# In v1 a thread owns a key: lane i of a warp reads element d of row i of K. In `v3_warp_dot` a warp owns a key and its
# lanes read neighbouring columns.
#
# **Predict**: how many sectors of 32 bytes does v1 touch with one request for k?

# %%
guess = None

# %%
with simt.collect() as launches:
    o = gqa.decode(q, k, v, rung="v3_warp_dot")
v3 = launches[0]
for name, launch in (("v1", v1), ("v3", v3)):
    print(name, launch.by_array["k"].load_sectors, "sectors,", launch.by_array["k"].load_requests, "requests for k")

# %%
WarpView("lane * D", itemsize=4, names={"D": D})

# %%
compare(guess, v1.by_array["k"].load_sectors // v1.by_array["k"].load_requests, min(32, 32 * D * 4 // 32))

# %% [markdown]
# **Explain**: 32 lanes that stand $4 D$ bytes apart touch 32 sectors and use 4 bytes of each; side by side they touch
# 4 and use all. Type `lane` into the widget. Then each lane holds a part of the dot product, and five shuffles add
# them up: no shared memory, no barrier in the loop. The CUDA C++ rungs load 16 bytes a lane.
#
# **Exercise 01.4**: a dot product by a warp. Budget: k once, in full sectors, ceil(D / 32) requests a key, no barrier.
# `minikernels check 01.4`.

# %%
check("01.4")

# %% [markdown]
# ## 5. Ragged lengths: who reads which keys
#
# Sixteen sequences, one of them long. A block takes one tile of 64 keys after another; the GPU holds 264 blocks at
# once.
#
# **Predict**: every row is cut into 4 equal shares. After how many tiles is the last block done?

# %%
guess = None  # 8 key/value heads

# %%
lengths = [16_384] + [1_024] * 15
fixed = {n: schedule.fixed_splits(lengths, rows=8, block_s=64, splits=n, places=264) for n in (1, 2, 4, 8)}
stream = schedule.stream_k(lengths, rows=8, block_s=64, places=264)

# %%
from IPython.display import SVG

from minikernels.figures import ladder, svg

bars = [(f"shares a row: {n}", plan.makespan) for n, plan in fixed.items()]
SVG(svg(ladder(bars, unit="tiles", reference=("stream-K", stream.makespan))))

# %%
compare(guess, fixed[4].makespan, 16_384 // 64 // 4)
print(f"busy: {fixed[4].efficiency:.0%} with 4 shares, {stream.efficiency:.0%} with stream-K")

# %% [markdown]
# **Explain**: equal shares of unequal rows are unequal, and all wait for the longest row's. LeanAttention lists the
# tiles of all rows and gives each block an equal run: it ends after
#
# $$\lceil \mathrm{tiles} / \mathrm{places} \rceil$$
#
# the least there can be. A row that a cut goes through is merged: with $M = \max_i m_i$, the states $l_i$ and $o_i$ are
# added, each times $e^{m_i - M}$.
#
# **Exercise 01.5**: where each block's run begins. Graded on values, with rows that have no tile.
# `minikernels check 01.5`.

# %% [markdown]
# ## 6. What fewer heads cost
#
# A multi-head model can be made to share: average the key and value heads of each group (`gqa.pool_heads`), then
# train a little longer: here for another 5 % of the steps. "aligned" heads were turned towards each other first, in a
# way that changes nothing but their mean; `gqa2` and `mqa` are made so.
#
# **Predict**: mha costs 8 key/value heads a token. How many bits per byte does its conversion to G = 2 cost, before any
# more training?

# %%
guess = None  # 8 bits per byte is what a model knows that knows nothing

# %%
for G_new, method, converted, uptrained in generation.conversions():
    after = "" if uptrained is None else f"{uptrained:.2f} after training"
    print(f"G={G_new} {method:7} {converted:6.2f} bits per byte, {after}")

# %%
tiny, held_out = m.load("mha"), m.held_out(2048)
pooled = {name: gqa.pool_heads(w, heads=8, groups=2) if name.endswith((".key", ".value")) else w
          for name, w in tiny.weights.items()}
converted = m.Model(tiny.config.with_groups(2), pooled).loss(held_out)
recorded = next(row[2] for row in generation.conversions() if row[:2] == (2, "mean"))

# %%
compare(guess, round(converted, 2), round(recorded, 2))  # measured here on 2,048 bytes; recorded on more text

# %%
losses = {}
for name in ("mha", "gqa2", "mqa"):
    tiny = m.load(name)
    losses[tiny.config.G] = tiny.loss(held_out)
    print(f"{name:5} G={tiny.config.G}: {losses[tiny.config.G]:.2f} bits per byte, cache "
          f"{len(tiny.config.layers) * 2 * tiny.config.G * tiny.config.D * 4:,} bytes a token")

# %%
HeadGroups(H, 8, keys=S, width=D, itemsize=4, quality=losses)

# %% [markdown]
# **Explain**: averaged heads are no head that any query was trained with, so the conversion alone breaks this model.
# Short training mends it, best from aligned means, worst from random heads. What stays is a small loss in bits, for
# a cache $H/G$ times smaller and a decoding step that reads as much less.
#
# **Exercise 01.1**: pool the heads of a projection. Graded on values, for any G from 1 to H.
# `minikernels check 01.1`.

# %%
check("01.1")

# %% [markdown]
# ## Bytes under way
#
# A step takes as long as its bytes, if enough of them are asked for at every moment: speed times latency, some 4.4 TB/s
# times a microsecond, is 33,000 bytes for each of 132 multiprocessors. `v4_wide_loads` has them on their way to
# registers. `v7_mma_group` copies to a ring in shared memory and multiplies on tensor cores, where a group's heads are
# the columns of one product: 8 cost what one does.

# %%
from minikernels.core.decode import group_tile
from minikernels.gqa import raw

plain, ring = raw.constants(4, 128, 2), group_tile(4, 128, limit=227 * 1024)  # R = 4, D = 128, float16
registers = plain["RESIDENT"] * 128 * 2 * plain["UNROLL"] * 16  # blocks, threads, K and V, loads, bytes
shared = ring["RESIDENT"] * 4 * (ring["STAGES"] - 1) * 2 * 16 * 128 * 2  # blocks, warps, steps, K and V, keys, D, bytes
print(f"under way on a multiprocessor: {registers:,} bytes at best in v4, then none while they are multiplied")
print(f"{shared:,} bytes at every moment in v7, which waits for the oldest alone")

# %% [markdown]
# What that is worth on a real GPU, recorded by `minikernels bench`; the line is the fastest production kernel on the
# same input.

# %%
from minikernels import catalog
from minikernels.bench.recorded import recordings, spelled

gpu = recordings()[0]
case = gpu.case("gqa", "float16")
found = {rung.name: gpu.of("gqa", rung.name, case) for rung in catalog.technique("gqa").rungs if rung.kind == "raw"}
best = gpu.production("gqa", case)
print(gpu.gpu, gpu.dates([best]), spelled(case))
SVG(svg(ladder([(name, result and result.ms) for name, result in found.items()], reference=(best.name, best.ms))))

# %% [markdown]
# ## What this left out
#
# Time on a GPU: the SIMT machine counts what a kernel moves and does, not how long it takes. The CUDA C++ rungs
# (`minikernels/gqa/*.cu`), which need one; `minikernels/gqa/NOTES.md` says what was tried on them. Caches in pages,
# which need no room reserved (04), and in fewer bits (07). Attention over the prompt (`gqa.attention`; fast in 02).
#
# Papers: Fast Transformer Decoding (arXiv:1911.02150), GQA (arXiv:2305.13245), LeanAttention (arXiv:2405.10480). The
# derivation stands in `minikernels/gqa/README.md`.
