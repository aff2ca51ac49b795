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
# # 03 block_sparse: attention over the blocks that a mask keeps
#
# $$O = \mathrm{softmax}(Q K^\top \cdot \mathit{scale} + M)\, V, \qquad M_{ts} \in \{0, -\infty\}$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: what a small trained model computes while it reads Python's own `textwrap.py`. No
# GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU would count.
#
# Letters: H heads, T queries, S keys, D head width; a block of the mask has R queries by C keys. The kernels build on
# `02_flash`: a tile of keys in shared memory, a running maximum m, sum l and output o for every query.

# %%
import inspect
import textwrap

import numpy as np

import minikernels.model as m
from minikernels import block_sparse, simt
from minikernels.bench import gate
from minikernels.block_sparse import dba, distill, patterns, traffic
from minikernels.widgets import MaskPainter, TilePlayer, TrafficMeter, WarpView

text = inspect.getsource(textwrap).encode()


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %%
def show(mask):
    for row in np.atleast_2d(mask):
        print(" ".join("■" if kept else "·" for kept in row))


# %% [markdown]
# ## 1. Where attention lies
#
# A model reads 256 bytes. Cut its 256 x 256 attention matrix into blocks of 32 x 32 and add up the probabilities in
# each. Half of the matrix is the future; of the 36 blocks left, 8 lie on the diagonal.
#
# **Predict**: what percentage of all attention lies in those 8, a mean over heads?

# %%
guess = None

# %%
layer, block = m.load("mha").activations(text[:256], layer=3), (32, 32)
q, k, v, T = layer.q, layer.k, layer.v, 256
p = distill.probabilities(q, k, causal=True)
mass = distill.block_mass(p, block).mean(axis=(0, 1)) / 32  # each row of blocks adds up to 1

# %%
for row in mass:
    print(*(f"{100 * share:4.0f}" if share else "   ·" for share in row))

# %% [markdown]
# Paint blocks: recall, work and bytes follow, and `block_sparse.attention` takes `painter.mask` as it is.

# %%
painter = MaskPainter(distill.block_mass(p, block), block=block, width=q.shape[-1], itemsize=4)
painter

# %%
compare(guess, round(100 * mass.trace() / 8), round(100 * distill.recall(p, np.eye(8, dtype=bool)[None, None], block)))

# %% [markdown]
# Patterns by position guess where it lies. Each keeps some blocks; *recall* is the share of attention that they hold.

# %%
options = {"local": {"window": 33}, "strided": {"window": 1, "stride": 96}, "streaming": {"sinks": 4, "window": 33}}
options |= {"bigbird": {"window": 1, "anchors": 4, "extra": 1}, "random": {"density": 0.4}}
below = np.tri(8, dtype=bool)
masks = {name: getattr(patterns, name)(T, T, block=block, **given) & below for name, given in options.items()}
for name, mask in masks.items():
    print(f"{name:10} keeps {mask.sum():2} of 36 blocks and {distill.recall(p, mask, block):.0%} of attention")

# %%
show(masks["streaming"][0, 0])

# %% [markdown]
# **Explain**: a block in eight holds most of the attention, in this text at least: near the diagonal. So
#
# $$\mathit{density} = \frac{\text{cells in kept blocks}}{\text{all cells}}$$
#
# can be small while recall stays high. Blocks, not cells, because a GPU multiplies tiles: a tile is loaded and
# multiplied whole, or not at all.
#
# **Exercise 03.4**, after pass 5, scores blocks by content. For now, with a pencil: what density has a window of 512
# keys at T = 16,384?

# %%
512 / 16_384

# %% [markdown]
# ## 2. A mask that saves nothing
#
# Every head gets the 3 blocks a row in which its mean query and mean key meet best. `v1_masked_dense` computes all
# scores and sets the hidden ones to $-\infty$.
#
# **Predict**: how many bytes of k does the launch load?

# %%
guess = None  # H = 8 heads, S = 256 keys, D = 32, float32, 8 rows of blocks

# %%
mask = patterns.from_gate(q, k, block=block, top_k=3)
case = {"mask": mask, "block": block, "causal": True}
sizes = {"B": 1, "H": 8, "G": 8, "T": T, "S": T, "D": 32, **case}
print(f"density {traffic.work(1, 8, T, T, 32, **case) / (4 * 8 * T * T * 32):.1%}, of the causal cells "
      f"{traffic.work(1, 8, T, T, 32, **case) / (4 * 8 * T * (T + 1) / 2 * 32):.1%}")

# %%
with simt.collect() as launches:
    o = block_sparse.attention(q, k, v, **case, rung="v1_masked_dense")
v1 = launches[0]

# %%
TrafficMeter([("v1_masked_dense", traffic.v1_masked_dense(**sizes), v1.by_array)], quantity="load_bytes")

# %%
compare(guess, v1.by_array["k"].load_bytes, 8 * 8 * T * 32 * 4)

# %% [markdown]
# **Explain**: each of $H \lceil T/R \rceil$ blocks of threads reads all S keys,
#
# $$H \lceil T/R \rceil\, S\, D \cdot 4\ \text{bytes}$$
#
# as if there were no mask. A mask changes the result; only a kernel that asks it *before* it loads saves anything.
#
# **Exercise 03.2**: let a kernel skip the blocks that are not kept, and give 0 in rows that see nothing. Budget: k and
# v for kept blocks alone. `minikernels check 03.2`, or in a cell:

# %%
from minikernels.grading import check

check("03.2")

# %% [markdown]
# ## 3. Skip what is hidden, then list what is kept
#
# `v2_skip_test` asks the mask about every block that is not in the future. `v3_block_lists` has a list of the kept
# ones.
#
# **Predict**: how many bytes of k does v3 load?

# %%
guess = None  # every row of blocks keeps 3 blocks, but the first two rows see fewer

# %%
runs = {"v1_masked_dense": v1}
for rung in ("v2_skip_test", "v3_block_lists"):
    with simt.collect() as launches:
        o = block_sparse.attention(q, k, v, **case, rung=rung)
    runs[rung] = launches[0]

# %%
TrafficMeter([(name, getattr(traffic, name)(**sizes), launch.by_array) for name, launch in runs.items()])

# %%
lists = block_sparse.block_lists(mask, T, T, block, causal=True)
show(mask[0, 0])
print("starts ", *lists.starts[:9])
print("columns", *lists.columns[: lists.starts[8]])

# %%
compare(guess, runs["v3_block_lists"].by_array["k"].load_bytes, 8 * (1 + 2 + 6 * 3) * 32 * 32 * 4)

# %% [markdown]
# What a look-up costs: all lanes of a warp read the same number, one request and one sector.

# %%
WarpView("lane * 0 + 5", itemsize=4)

# %%
for length in (256, 16_384):
    asked, kept = (length // 32) ** 2 // 2, 3 * length // 32
    print(f"T = {length:6,}: v2 asks about {asked:7,} blocks a head to visit {kept:5,} of them")

# %% [markdown]
# **Explain**: with n kept blocks both kernels read
#
# $$n\, C\, D \cdot 4\ \text{bytes}$$
#
# of k. But v2's questions grow with $T^2$, and v3 looks up two ends of a list and one column a block. Here the two cost
# alike; at T = 16,384 with 3 blocks a row they do not.
#
# **Exercise 03.1**: make the lists from a mask, in NumPy. Graded on values, with rows that keep nothing.
# `minikernels check 03.1`.

# %% [markdown]
# ## 4. Full and partial blocks
#
# v3 compares every score's place with what its row may see. Yet only the diagonal's blocks have cells to hide.
# `v4_full_partial` visits a row's full blocks first, without mask code.
#
# **Predict**: of the blocks that the 8 heads visit, how many are partial?

# %%
guess = None

# %%
with simt.collect() as launches:
    o = block_sparse.attention(q, k, v, **case, rung="v4_full_partial")
runs["v4_full_partial"] = launches[0]
for rung in ("v3_block_lists", "v4_full_partial"):
    print(f"{rung:16} {runs[rung].traffic.branches:7,} branches of warps, {runs[rung].traffic.hbm_bytes:,} bytes")

# %%
small = [np.ascontiguousarray(x[:, :1, :64, :8]) for x in (q, k, v)]
given = {"mask": np.ones((1, 1, 4, 4), bool), "block": (16, 16), "causal": True}
with simt.record(blocks=[2], registers=("j", "m", "l"), lanes=(0, 15)) as recording:
    block_sparse.attention(*small, **given, rung="v4_full_partial")
TilePlayer(recording.trace, step=120)

# %%
TrafficMeter([(name, getattr(traffic, name)(**sizes), runs[name].by_array) for name in list(runs)[2:]])

# %%
compare(guess, int(lists.starts[-1] - lists.full.sum()), 8 * 8)

# %% [markdown]
# **Explain**: under a causal mask a row of blocks has one partial block, and with n blocks a row $n - 1$ full ones. v4
# reads one number more for each row of blocks and saves a branch on every key of every full block. On a tensor core,
# where the products are nearly free, the mask code would be much of what is left.
#
# **Exercise 03.3**: hide what must be hidden, in partial blocks alone. Budget: no branch on a cell of a full block.
# `minikernels check 03.3`.

# %% [markdown]
# ## On Hopper: long rows first
#
# `v7_wgmma`, the rung for Hopper, starts one block of threads on each of 132 multiprocessors. Each takes a tile of 128
# query rows, walks over its list, and takes the next. Under a causal mask the last rows of blocks are the longest.
#
# **Predict**: 16 heads, T = 16,384, a quarter of the blocks of 128 x 128 kept. Rows are dealt out in order, there and
# back. How many percent longer than the mean does the busiest multiprocessor work?

# %%
import heapq

from minikernels.bench import recorded, sparsity
from minikernels.block_sparse import raw_wgmma

long = np.empty((1, 16, 16_384, 128), np.float16)  # only its shape matters
chance = patterns.random(16_384, 16_384, block=(128, 128), density=0.25, heads=16)
lists, order = raw_wgmma.sorted_lists(long, long, chance, (128, 128), causal=True)
visits = np.diff(lists.starts)  # key blocks of each row of blocks, head after head


# %%
def dealt(visits, blocks=132):
    turns = np.pad(visits, (0, -len(visits) % blocks)).reshape(-1, blocks)
    turns[1::2] = turns[1::2, ::-1]
    return turns.sum(axis=0)


# %%
def taken(visits, blocks=132):
    work = [0] * blocks  # a heap: whoever has worked least is free first
    for visit in visits:
        heapq.heapreplace(work, work[0] + int(visit))
    return np.array(work)


# %%
shares = {"dealt out in order": dealt(visits), "taken when free, in order": taken(visits),
          "taken when free, long rows first": taken(visits[order])}
for name, work in shares.items():
    print(f"{name:33} busiest {work.max():5,} blocks, mean {work.mean():6,.0f}, so {work.max() / work.mean() - 1:6.1%}")

# %% [markdown]
# What a density then buys on a GPU, as recorded: the share of 1/density by which a kernel gets faster. All rows of
# these masks are equally long.

# %%
for recording in recorded.recordings():
    for name, shares in sparsity.speedups(recording).items():
        print(f"{name:17}", *(f"density {density:g}: {share:.2f}  " for density, share in shares.items()))

# %% [markdown]
# Everyone waits for the busiest. Where the longest job left is always taken next, the last to end is at
# most a *short* row behind. What is missing to 1 in the table is paid once a row, however long: its start, which no
# product overlaps in most kernels, and its output. With $n$ blocks in a row a share is left of
#
# $$\frac{n}{n + n_0}, \qquad n_0 \approx 1$$
#
# so density 0.1, with 13 blocks a row, loses more than 0.5 with 64.

# %% [markdown]
# ## 5. A gate that learns where to look
#
# SeerAttention pools queries and keys over blocks (mean, maximum, minimum), maps each to W numbers, and takes the
# softmax of their products. It is trained, here in a few seconds, to look like true attention pooled to blocks, and
# should then find more of it than mean query against mean key (`pooled`), from which training starts.
#
# **Predict**: the text below has 16 x 16 blocks of 16 x 16; half of those a row sees are kept. What percentage of
# attention does the *trained* gate find in a text that neither model nor gate has seen?

# %%
guess = None

# %%
tiny = m.load("mha")
samples = gate.lessons(tiny, windows=24, length=256, layers=[3])
weights, losses = gate.train(tiny, samples, steps=60)[3]
print(f"{len(samples[3])} texts; divergence {losses[0]:.3f} before, {losses[-1]:.3f} after 60 steps")

# %%
unseen = [each[:256] for each in gate.judged_texts()]
recall = gate.judge(tiny, {3: {"gate": weights}}, unseen)[3]
for choice, shares in recall.items():
    print(f"{choice:7}", *(f"{share:.1%}" for share in shares), f"  {gate.CHOICES[choice]}")

# %%
compare(guess, round(100 * recall["gate"][0]), round(100 * recall["mass"][0]))  # closed form: the best there is

# %% [markdown]
# A few seconds on short texts change little. Recorded with longer texts and all layers trained: recall (a mean over
# layers) and what the model's text then costs, in bits per byte.

# %%
found = gate.recorded()
print("all blocks:", found["bits_per_byte"]["dense"], "bits per byte; densities", *found["densities"])
for choice in found["choices"]:
    shares = np.mean([by_name[choice] for by_name in found["recall"].values()], axis=0)
    print(f"{choice:9}", *(f"{x:.3f}" for x in shares), " ", *(f"{x:.3f}" for x in found["bits_per_byte"][choice]))

# %% [markdown]
# **Explain**: with $z$ the gate's scores and $t$ the pooled attention, training lowers
#
# $$\mathrm{KL}(t \,\|\, \mathrm{softmax}(z)) = \sum_j t_j (\ln t_j - \ln \mathrm{softmax}(z)_j) .$$
#
# The gate trained on mass finds more mass. The one trained on each block's largest probability (`gate_max`, as in the
# paper) finds less, but costs fewer bits: what the model needs are the few keys that one query looks at hard.
#
# **Exercise 03.4**: the gate's scores, in NumPy. Graded on values. `minikernels check 03.4`.

# %%
check("03.4")

# %% [markdown]
# ## 6. Low rank instead of sparse
#
# DBA leaves no block out: 16 learned rows gather what T tokens hold, attend to one another, and are handed back. No T x
# T matrix appears.
#
# **Predict**: at T = 16,384 (M = 128 wide), how many times the FLOP of DBA does block-sparse attention of density 1/8
# take, in one head of D = 16?

# %%
guess = None

# %%
for length in (1024, 4096, 16_384, 65_536):
    sparse, low = 4 * length * length * 16 // 8, dba.work(1, length, 128)
    print(f"T = {length:6,}: dense {4 * length**2 * 16:18,} FLOP, density 1/8 {sparse:17,}, DBA {low:13,}")

# %%
x = np.random.default_rng(0).standard_normal((2, 256, 128)).astype(np.float32)
gather, expand = dba.maps(x, dba.random_weights(128))
both = expand @ gather
print("rank of the 256 x 256 map between tokens:", np.linalg.matrix_rank(both[0]), np.linalg.matrix_rank(both[1]))
print("the two texts' maps differ by up to", f"{np.abs(both[0] - both[1]).max():.3f}")

# %%
T = 16_384
compare(guess, round(4 * T * T * 16 / 8 / dba.work(1, T, 128)), round(T / 8 * 4 * 16 / (dba.work(1, T, 128) / T)))

# %% [markdown]
# **Explain**: density d still costs $d\, T^2$. DBA costs
#
# $$T\,(MN + MW + ML + LN + 2LW)$$
#
# multiply-adds and a little for the L rows, whatever T is. The price: it must be trained from the start, a token that
# needs one exact key finds it only among L means, and there is no causal form here.
#
# **Exercise 03.5**: gather, attend, hand back, in NumPy. Graded on values. `minikernels check 03.5`.

# %%
check("03.5")

# %% [markdown]
# ## What this left out
#
# Time on a GPU, rung by rung, beside FlexAttention (the README's table). How the tensor-core rungs
# (`minikernels/block_sparse/*.cu`) walk the same lists: tiles copied ahead, the products of two warpgroups in turn
# (`minikernels/block_sparse/NOTES.md`). The backward pass. Gates for decoding.
#
# Papers: FlashAttention, section 3.3 (arXiv:2205.14135), Big Bird (arXiv:2007.14062), SeerAttention (arXiv:2410.13276),
# DBA (arXiv:2211.16368). The derivation stands in `minikernels/block_sparse/README.md`.
