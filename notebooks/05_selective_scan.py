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
# # 05 selective_scan: a state instead of a cache
#
# $$h_t = e^{\Delta_t a} h_{t-1} + \Delta_t u_t\, b_t, \qquad o_t = (c_t \cdot h_t + d\, u_t)\,\mathrm{silu}(z_t)$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: what a Mamba layer of a small trained model computes while it reads Python's own
# `textwrap.py`. No GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU
# would count.
#
# Letters: T tokens, E channels, N states a channel. `00_how_to_read` explains sectors, warps and barriers.

# %%
import inspect
import textwrap

import numpy as np

import minikernels.model as m
from minikernels import catalog, simt
from minikernels.bench import scan as bench
from minikernels.figures import ladder, svg
from minikernels.selective_scan import aaren, entry, operators, scan, schedule, spade, traffic
from minikernels.widgets import ScanTree, TilePlayer, TrafficMeter, WarpView

# %%
text = inspect.getsource(textwrap).encode()
rung = catalog.technique("selective_scan").rung


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. What must be remembered
#
# The tiny hybrid model has Mamba layers of E = 256 channels with N = 16 states, and one attention layer.
#
# **Predict**: it has read 1,000 bytes of text. How many bytes does one Mamba layer carry to the next one, apart from
# three inputs of its short convolution?

# %%
guess = None

# %%
tiny, kept = m.load("hybrid"), {}
for length in (250, 500, 1000):
    state = m.State(tiny.config)
    tiny.forward(np.frombuffer(text[:length], np.uint8)[None], state)
    kept[length] = {kind: cache[-1].nbytes for kind, cache in zip(tiny.config.layers, state.caches, strict=True)}
    print(f"after {length:5,} bytes: {kept[length]}")  # of attention, the values; its keys take as much again

# %%
times = bench.token_us([256, 1024, 4096])
for name, row in times.items():
    print(f"{name:10}", *(f"{us:8.1f} us a token" for us in row))

# %%
from IPython.display import SVG

bars = [(f"attention's values, {length} bytes read", sizes["attention"]) for length, sizes in kept.items()]
SVG(svg(ladder([*bars, ("a Mamba layer's states", kept[1000]["mamba"])], unit="bytes")))

# %%
E, N = tiny.config.E, tiny.config.N
compare(guess, kept[1000]["mamba"], 4 * E * N)

# %% [markdown]
# **Explain**: a state is $E \cdot N$ float32 whatever was read, and a token's work is the same for each. Attention's
# cache grows with every token, and so does each token's work: in the long run the scan's line is flat and attention's
# is not. The price: what the state has forgotten is gone.
#
# **Exercise 05.1**: the recurrence in NumPy, with states handed in and out. Graded on values, with step sizes that
# overflow softplus. `minikernels check 05.1`, or in a cell:

# %%
from minikernels.grading import check

check("05.1")

# %% [markdown]
# ## 2. Two layouts of the same numbers
#
# A thread owns a channel. In `v1_channel_major` the tokens of a channel lie side by side in memory, in `v2_token_major`
# the channels of a token. The kernels differ in nothing else.
#
# **Predict**: T = 128 tokens, E = 256 channels, float32. How many sectors of 32 bytes does v1 touch to read u?

# %%
guess = None

# %%
inputs = entry.activations(tiny.activations(text[:128], layer=-1))
sizes = entry.sizes(inputs)
launches = {}
for name in ("v1_channel_major", "v2_token_major"):
    with simt.collect() as launched:
        entry.run(rung(name), inputs)
    launches[name] = launched[0]

# %%
rows = [(name, getattr(traffic, name)(**sizes), launch.by_array) for name, launch in launches.items()]
TrafficMeter(rows, quantity="load_sectors")

# %%
WarpView("lane * T", itemsize=4, names={"T": 128})

# %%
B, T, E, N = sizes.values()
compare(guess, launches["v1_channel_major"].by_array["u"].load_sectors, B * T * E)

# %% [markdown]
# **Explain**: the 32 lanes of a warp are 32 channels. $4 T$ bytes apart they touch 32 sectors and use 4 bytes of each;
# side by side they touch 4:
#
# $$B\,T\,E \quad \text{against} \quad B\,T\,E \cdot 4 / 32$$
#
# Type `lane` into the widget. The layout is not a detail of storage: it says which threads are neighbours.
#
# **Exercise 05.2**: the token loop of such a thread. Budget: u and step once, in full sectors.
# `minikernels check 05.2`.

# %%
print("u in v2:", launches["v2_token_major"].by_array["u"].load_sectors, "sectors")

# %% [markdown]
# ## 3. Tokens that do not wait
#
# A token is the map $h \mapsto \mathrm{decay}\, h + \mathrm{drive}$. Maps of this form compose to one of this form, in
# any grouping. `v3_hillis_steele` gives each token a thread: at step k every map is composed with the one $2^k$ tokens
# before.
#
# **Predict**: how many compositions does a chunk of 32 tokens take that way? (One after another: 31.)

# %%
guess = None

# %%
rng = np.random.default_rng(0)
maps = rng.uniform(0.5, 1, 32), rng.standard_normal(32)
for name, method in operators.SCANS.items():
    prefixes, cost = method(operators.affine, maps)
    print(f"{name:14} last drive {prefixes[1][-1]:.6f}  {cost.work:4} compositions in {cost.depth:2} steps")

# %%
small = entry.cut(inputs, tokens=32, channels=8, states=1)
with simt.record(blocks=[0], registers=("decay", "drive", "earlier"), lanes=(0, 31)) as recording:
    entry.run(rung("v3_hillis_steele"), small)
TilePlayer(recording.trace, step=40)

# %%
compare(guess, operators.hillis_steele(operators.affine, maps)[1].work, 32 * 5 - 32 + 1)

# %% [markdown]
# **Explain**: with C tokens
#
# $$C \log_2 C - C + 1 \ \text{compositions in}\ \log_2 C\ \text{steps}$$
#
# A step reads what the same step overwrites, so there are two sides, and a barrier after each step. The fewest steps,
# four times the work.
#
# **Exercise 05.3**: a step of this scan in shared memory. Budget: a barrier a step, no bank conflict.
# `minikernels check 05.3`.

# %%
check("05.3")

# %% [markdown]
# ## 4. Up a tree and down again
#
# `v4_blelloch` composes neighbours, then pairs of neighbours, and so on up a tree; on the way down the places between
# get their prefixes.
#
# **Predict**: how many compositions now, for 32 tokens?

# %%
guess = None

# %%
for name in ("v3_hillis_steele", "v4_blelloch"):
    with simt.collect() as launched:
        entry.run(rung(name), small)
    counted = launched[0].traffic
    print(f"{name}: {counted.barriers} barriers, {counted.flop:,} FLOP, "
          f"{counted.shared_load_conflicts:,} conflicts in shared memory")

# %%
with simt.record(blocks=[0], registers=("reach", "right"), lanes=(0, 31)) as recording:
    entry.run(rung("v4_blelloch"), small)
TilePlayer(recording.trace, step=60)

# %%
ScanTree(*maps, algorithm="blelloch")

# %%
WarpView("((lane // 8 + 1) * 4 - 1) * 8 + lane % 8", space="shared")

# %%
compare(guess, operators.blelloch(operators.affine, maps)[1].work, 2 * 32 - 2 - 5)

# %% [markdown]
# **Explain**: $2C - 2 - \log_2 C$ compositions, in $2 \log_2 C - 1$ steps: less than half the work of pass 3, nearly
# twice the steps. In the tree a warp's lanes reach for places 2, 4, 8, ... tokens apart, of 8 channels each, and meet
# in the same banks. Neither is fast for a Mamba layer: its channels are parallel already, and one token after another
# costs least.
#
# **Exercise 05.4**: this scan. Budget: the compositions and the steps above. `minikernels check 05.4`.

# %%
check("05.4")

# %% [markdown]
# ## 5. Few channels, many tokens
#
# One sequence of 16,384 tokens in 2,048 channels keeps 64 blocks busy, on a GPU with room for 528. So the tokens are
# cut into chunks, each scanned from a state of 0; then states are carried from chunk to chunk; then each chunk is
# scanned again from its true start.
#
# **Predict**: how many chunks end soonest?

# %%
guess = None

# %%
chunks, tiles = schedule.chunks(blocks=64, tiles=16_384 // 32, multiprocessors=132, resident=4)
print(chunks, "chunks of", tiles * 32, "tokens")

# %%
first, rest = ({n: x[:, t] if n in entry.TOKENS else x for n, x in inputs.items()} for t in (np.s_[:50], np.s_[50:]))
o, state = scan(**first, delta_softplus=True, return_state=True)
later = scan(**rest, delta_softplus=True, initial_state=state)
whole = scan(**inputs, delta_softplus=True)
print("largest difference:", np.abs(np.concatenate((o, later), axis=1) - whole).max())

# %%
work = {count: (1 + (count > 1)) * -(-64 * count // 528) / count for count in (1, 2, 4, 8, 9, 16)}
SVG(svg(ladder([(f"{count} chunks", time) for count, time in work.items()], unit="of one pass")))

# %%
compare(guess, chunks, 528 // 64)

# %% [markdown]
# **Explain**: a chunk too is one map: its decay is the product of its tokens' decays,
#
# $$\prod_t e^{\Delta_t a} = e^{a \sum_t \Delta_t}$$
#
# so only the sum of steps and the last state pass from chunk to chunk. Everything is computed twice, and eight times as
# much at once. Nine chunks need two rounds of blocks.
#
# **Exercise 05.5**: the states before each chunk. Graded on values, with chunks long enough to forget everything.
# `minikernels check 05.5`.

# %%
check("05.5")

# %% [markdown]
# ## 6. Attention as a recurrent network
#
# Softmax attention of one query has an associative operator as well: the state $(m, l, o)$ of some keys, maximum, sum
# and weighted sum. Aaren is the same scan with it; split-KV decoding ends with a reduction of it.
#
# **Predict**: 64 keys. After how many steps does the tree's scan have the query's output over *every* prefix of them?

# %%
guess = None

# %%
q, (k, v) = rng.standard_normal((2, 8)), rng.standard_normal((2, 1, 2, 64, 8))
prefixes, cost = aaren.attention(q, k, v)
stream = aaren.Stream(q, B=1)
steps = [stream.push(k[:, :, t], v[:, :, t]) for t in range(64)]
print("largest difference:", np.abs(np.stack(steps, axis=2) - prefixes).max(), "with", stream.nbytes, "bytes carried")

# %%
total, tree = operators.reduce_tree(operators.softmax, aaren.leaves(q, k, v))
print("all keys by a tree of merges:", tree, " prefixes:", cost)

# %%
for branch, share in spade.compare(distance=100, window=32, T=800).items():
    print(f"{branch:18} names {share:4.0%} of the symbols that stood 100 tokens ago")

# %%
compare(guess, cost.depth, 2 * 6 - 1)

# %% [markdown]
# **Explain**: the leaf of a token is $(s, 1, v)$; states merge by $M = \max(m, m')$, each $l$ and $o$ times
# $e^{m - M}$. Tokens one at a time need a state that does not grow. But the query must be fixed: a new query per token
# is a new scan. And SPADE's toy: what local attention cannot see, one state-space layer below it remembers.
#
# **Exercise 05.6**: such a stream. Graded on values, with masked tokens. `minikernels check 05.6`.

# %%
check("05.6")

# %% [markdown]
# What bounds such a kernel on a GPU is neither bytes nor FLOP. A multiprocessor computes 16 powers of two a clock, and
# reads 128 bytes of shared memory. A token of a channel needs 16 powers and its softplus; what it reads of shared
# memory depends on how many channels of a thread share one load of b and c.

# %%
from minikernels.bench.recorded import recordings, spelled

print("clocks of powers of two:", 17 / 16)
for name, channels in (("v5_registers", 1), ("v7_channel_pairs", 2)):
    print(f"clocks of shared memory in {name}:", traffic.staged_bytes(16, channels) / 128)

# %%
gpu = recordings()[0]
case = gpu.case("selective_scan", "float32")
found = {r.name: gpu.of("selective_scan", r.name, case) for r in catalog.technique("selective_scan").rungs
         if r.kind == "raw"}
best = gpu.production("selective_scan", case)
print(gpu.gpu, gpu.dates([best]), spelled(case))
bars = [(name, result and result.ms) for name, result in found.items()]
SVG(svg(ladder(bars, reference=best and (best.name, best.ms))))

# %% [markdown]
# ## What this left out
#
# The CUDA C++ rungs themselves (`minikernels/selective_scan/*.cu`), which keep states in registers and stage tokens in
# shared memory; `minikernels/selective_scan/NOTES.md` says what was tried on them, and what bounds them. The layer
# around the scan. Mamba-2's scalar decays, for which a chunk is a matrix product (06).
#
# Papers: Mamba (arXiv:2312.00752), Attention as an RNN (arXiv:2405.13956), SPADE (arXiv:2212.08136).
