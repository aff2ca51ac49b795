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
# # 04 paged: keys and values in pages
#
# $$K_b[t] = \mathrm{k\_pages}[\mathrm{page\_table}[b, \lfloor t/P \rfloor],\ t \bmod P]$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: what a small trained model computes while it reads Python's own `textwrap.py`. No
# GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU would count.
#
# Letters: H query heads, G key/value heads, S tokens of a sequence, D head width, P tokens of a page.
# `00_how_to_read` explains sectors, warps and barriers, `01_gqa` what decoding is.

# %%
import inspect
import textwrap

import numpy as np
from IPython.display import SVG

import minikernels.model as m
from minikernels import paged, simt
from minikernels.bench.beams import search
from minikernels.figures import ladder, svg
from minikernels.paged import beams, requests, traffic
from minikernels.widgets import PoolView, TilePlayer, TrafficMeter, WarpView


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. What a reserved row wastes
#
# A server keeps the keys and values of every request that it serves. It cannot know how long a request will become, so
# it reserves a row for the longest that the model takes: 2,048 tokens.
#
# **Predict**: a request brings 161 tokens and will write 338 more, the means of a well-known trace. How many slots of
# its row never hold a token?

# %%
guess = None

# %%
one = requests.simulate([requests.Request(0, 161, 338)], requests.Contiguous(2048, "max"))
print(dict(zip(requests.CATEGORIES, one.use[0].tolist(), strict=True)))

# %%
compare(guess, int(one.use[0, 2]), 2048 - 161 - 338)

# %%
trace = requests.trace(count=300, rate=0.5)  # log-normal lengths of those means, Poisson arrivals
servers = {f"row: {name}": requests.Contiguous(15_700, name) for name in ("max", "pow2", "oracle")}
servers["pages of 16"] = requests.Pages(15_700, P=16)  # 15,700 slots: a model of 13B on a GPU of 40 GB
lines = {name: requests.simulate(trace, memory, steps=600) for name, memory in servers.items()}

# %%
for name, line in lines.items():
    shares = "  ".join(f"{kind} {share:5.1%}" for kind, share in line.shares.items())
    print(f"{name:12} {shares}  {line.running.mean():4.0f} requests at once")

# %%
bars = [(name, 100 * line.shares["tokens"]) for name, line in lines.items()]
SVG(svg(ladder(bars, unit="% of the memory holds tokens")))

# %% [markdown]
# **Explain**: what a request will never use is *internal* waste, what it will use later is *reserved*; gaps too short
# for the next row are *external*. Even a server that knows every length (oracle) reserves
#
# $$\mathrm{prompt} + \mathrm{output} - \mathrm{tokens\ so\ far}$$
#
# slots for later. Pages are taken when they are needed and lie anywhere: only a last page is not full. More requests
# fit at once, and a step reads the weights once for all of them.
#
# **Exercise 04.5**: the slots of many requests by category, for rows and for pages. Graded on values.
# `minikernels check 04.5`, or in a cell:

# %%
from minikernels.grading import check

check("04.5")

# %% [markdown]
# ## 2. Gather first
#
# The keys of one layer go into a pool whose pages other sequences have used before. `v1_gather` copies a sequence's
# pages to one buffer and decodes from there.
#
# **Predict**: K and V of the sequence take 2 G S D numbers of 4 bytes. How many bytes of keys and values do the two
# kernels move?

# %%
guess = None  # H = G = 8, S = 250, D = 32

# %%
text = inspect.getsource(textwrap).encode()
layer = m.load("mha").activations(text[:250], layer=1)
k, v = (np.ascontiguousarray(x[0].swapaxes(0, 1)) for x in (layer.k, layer.v))  # (S, G, D)
pool = paged.PagePool(pages=40, P=16, G=8, D=32, dtype=np.float32)
others = [pool.allocate(np.roll(k[:n], 1, axis=0), v[:n]) for n in (40, 100, 60)]
pool.free(others[1])  # its seven pages are free again, in the middle of the pool
sequence = pool.allocate(k, v)

# %%
page_table, lengths = pool.table([sequence])
step = np.ascontiguousarray(layer.q[:, :, -1]), pool.k_pages, pool.v_pages, page_table, lengths
sizes = {"B": 1, "H": 8, "G": 8, "S": 250, "P": 16, "D": 32, "page_table": page_table}
print(page_table)

# %%
with simt.collect() as launches:
    o = paged.decode(*step, rung="v1_gather")
v1 = sum(launch.traffic for launch in launches)
moved = sum(x.hbm_bytes for name, x in v1.by_array.items() if name in ("k", "v", "k_pages", "v_pages"))

# %%
TrafficMeter([("v1_gather", traffic.v1_gather(**sizes), v1.by_array)])

# %%
compare(guess, moved, 3 * 2 * 8 * 250 * 32 * 4)

# %% [markdown]
# **Explain**: each key is read from its page, written to the buffer and read again:
#
# $$3 \cdot 2\, G\, S\, D \cdot 4\ \text{bytes}$$
#
# in every step, for every token that is written. Decoding waits for memory, so it takes three times as long as it must.
#
# **Exercise 04.1**: gather a sequence in NumPy, through its table, for any page size; mind entries that are no page.
# `minikernels check 04.1`.

# %% [markdown]
# ## 3. Read through the table
#
# `v2_page_table` copies nothing: token s is in page `page_table[b, s // P]`, slot `s % P`.
#
# **Predict**: how many bytes of keys and values now?

# %%
guess = None

# %%
with simt.collect() as launches:
    same = paged.decode(*step, rung="v2_page_table")
v2 = launches[0].traffic
print("largest difference from v1:", np.abs(same - o).max())

# %%
rows = [("v1_gather", traffic.v1_gather(**sizes), v1.by_array)]
TrafficMeter([*rows, ("v2_page_table", traffic.v2_page_table(**sizes), v2.by_array)])

# %%
small = paged.PagePool(pages=7, P=8, G=1, D=8, dtype=np.float32)
small.free(small.allocate(k[50:90, :1, :8], v[50:90, :1, :8]))  # a freed page is taken again: what it holds is old
short = small.allocate(k[:30, :1, :8], v[:30, :1, :8])
with simt.record(blocks=[0], registers=("page", "slot", "thread"), lanes=(0, 31)) as recording:
    paged.decode(step[0][:, :1, :8], small.k_pages, small.v_pages, *small.table([short]), rung="v2_page_table")
TilePlayer(recording.trace, step=40)

# %%
compare(guess, v2.by_array["k_pages"].load_bytes + v2.by_array["v_pages"].load_bytes, 2 * 8 * 250 * 32 * 4)
table = v2.by_array["page_table"]
print("of the table:", table.load_sectors, "sectors in", table.load_requests, "requests")

# %% [markdown]
# **Explain**: once again each key is read once,
#
# $$2\, G\, S\, D \cdot 4\ \text{bytes}$$
#
# and a table entry leads to P keys. Lanes that look up the same entry share a sector. What a lookup costs is time: the
# key's load must wait for it. The CUDA C++ rungs look up the next pages while the present ones are on their way.
#
# **Exercise 04.3**: scores of keys that lie in pages. Budget: k_pages once, the table once a key.
# `minikernels check 04.3`.

# %%
check("04.3")

# %% [markdown]
# ## 4. A warp a key
#
# In v2 a thread owns a key: 32 lanes read 32 rows of a page at once, a row of G heads apart. It keeps all scores in
# shared memory and waits at barriers. In `v3_warp_key` a warp owns a key, and keeps m, l and the output.
#
# **Predict**: how many sectors does v3 touch with one request for k?

# %%
guess = None  # D = 32 numbers of 4 bytes in a row, a sector is 32 bytes

# %%
with simt.collect() as launches:
    paged.decode(*step, rung="v3_warp_key")
v3 = launches[0].traffic
for name, found in (("v2", v2), ("v3", v3)):
    print(f"{name}: {found.by_array['k_pages'].load_sectors:,} sectors for k, {found.barriers} barriers")

# %%
WarpView("lane * G * D", itemsize=4, names={"G": 8, "D": 32})

# %%
rows = [("v2_page_table", traffic.v2_page_table(**sizes), v2.by_array)]
TrafficMeter([*rows, ("v3_warp_key", traffic.v3_warp_key(**sizes), v3.by_array)], quantity="load_sectors")

# %%
compare(guess, v3.by_array["k_pages"].load_sectors // v3.by_array["k_pages"].load_requests, 32 * 4 // 32)

# %% [markdown]
# **Explain**: a row lies in $4D/32$ sectors, whatever page it is in: pages break nothing, as long as a key is whole
# within one. With every key, m, l and o come under the new maximum,
#
# $$m' = \max(m, s), \quad l' = e^{m-m'} l + e^{s-m'}, \quad o' = e^{m-m'} o + e^{s-m'} v$$
#
# so no score is kept and nobody waits. The warps' states are merged at the end.
#
# **Exercise 04.4**: a warp's online softmax, a page at a time. Budget: pages once, one lookup each, no barrier.
# `minikernels check 04.4`.

# %% [markdown]
# ## 5. Pages that are shared
#
# Four answers to one prompt begin with the same tokens. `fork` gives a sequence all pages of another; who writes to a
# shared page gets a copy first.
#
# **Predict**: a prompt of 64 tokens, four samples of 40 tokens each, pages of 16. How many pages are used at the end?

# %%
guess = None

# %%
samples = beams.grow(beams.sample_parents(width=4, steps=40), prompt=64, P=16)
for table in samples.tables[-1]:
    print(table)

# %%
compare(guess, int(samples.used[-1]), 64 // 16 + 4 * -(-40 // 16))
print(f"alone they would have {samples.alone[-1]} pages")

# %%
parents, texts = search(m.load("gqa2"), text[:64], width=4, steps=40)  # the tiny model writes on, 4 beams wide
found = beams.grow(parents, prompt=64, P=16)
print(f"beam search: {found.used[-1]} pages, {found.copied.sum()} copies, {found.saved:.0%} saved over all steps")
print(*texts, sep="\n")

# %%
bars = [(f"{n} beams", 100 * beams.grow(beams.beam_parents(n, 100), prompt=160).saved) for n in (2, 4, 6)]
SVG(svg(ladder(bars, unit="% of the pages saved")))

# %% [markdown]
# **Explain**: samples share the prompt and nothing after it: $\mathrm{prompt}/P + \mathrm{width} \cdot \lceil
# \mathrm{steps}/P \rceil$ pages. Beams share more: a beam that is dropped frees its pages, and those that stay have had
# the same parents for all but the last tokens. A page has a count of its owners; at 0 it is free. Equal prompts of
# different users are found by a digest of each full page.
#
# **Exercise 04.2**: what one more token does to pages and counts. Graded on values. `minikernels check 04.2`.

# %%
check("04.2")

# %%
PoolView(24, 4, [("allocate", 9), ("allocate", 6), ("fork", 0), ("append", 2, 1), ("allocate", 11, 0, 9),
                 ("append", 1, 3), ("free", 0)])

# %% [markdown]
# ## 6. How long a page should be
#
# A long page leaves more of itself empty, a short one has more entries in the table and less that lies together.
#
# **Predict**: pages of 128 tokens. How many slots of a last page are empty, on average over all lengths?

# %%
guess = None

# %%
growing = paged.PagePool(pages=1, P=128, G=8, D=32, dtype=np.float32)
sequence, empty = growing.allocate(), []
for token in range(128):
    growing.append(sequence, k[token], v[token])
    empty.append(128 * growing.internal_waste)

# %%
compare(guess, float(np.mean(empty)), (128 - 1) / 2)

# %%
for P in (1, 4, 16, 64, 128):
    line = requests.simulate(trace, requests.Pages(15_700, P), steps=600)
    lookups = sum(-(-int(n) // P) for n in (250, 1000, 4000))  # of the table, for three sequences
    print(f"P={P:3}  {line.shares['tokens']:.1%} of the memory holds tokens; {lookups:5,} entries for 5,250 tokens")

# %% [markdown]
# **Explain**: a last page is on average half empty,
#
# $$(P - 1) / 2\ \text{slots a sequence}$$
#
# little beside hundreds of tokens if P is 16, much if it is 128. Below that, memory gains little more, and a kernel
# loses: the loads of a step are spread over more pages, each with a lookup. vLLM takes 16.
#
# **Exercise**: with a pencil, the bytes of one page of 16 tokens for 40 layers with G = 40, D = 128 and 16 bits. Then:

# %%
16 * 40 * 2 * 40 * 128 * 2

# %% [markdown]
# ## What paging costs
#
# A lookup more for every page, and rows that lie strewn over the pool: if a kernel looks up ahead and asks for enough
# bytes at once, next to nothing. What the CUDA C++ rungs took on a real GPU, recorded by `minikernels bench`; the line
# is the fastest production kernel, over a cache *without* pages.

# %%
from minikernels import catalog
from minikernels.bench.recorded import recordings, spelled

gpu = recordings()[0]
case = gpu.case("paged", "float16")
found = {rung.name: gpu.of("paged", rung.name, case) for rung in catalog.technique("paged").rungs if rung.kind == "raw"}
best = gpu.production("paged", case)
print(gpu.gpu, gpu.dates([best]), spelled(case))
SVG(svg(ladder([(name, result and result.ms) for name, result in found.items()], reference=(best.name, best.ms))))

# %% [markdown]
# ## What this left out
#
# Time on a GPU: the SIMT machine counts what a kernel moves and does, not how long it takes. The CUDA C++ rungs
# (`minikernels/paged/*.cu`), which need one: lookups ahead of time, keys split over blocks, groups on tensor cores, a
# ring of keys on their way, equal runs of all tiles (`minikernels/paged/NOTES.md` says what was tried).
# Attention over a prompt from pages, swapping to the host, evicting what only a digest remembers, the scheduler.
#
# Paper: PagedAttention (arXiv:2309.06180). The derivation stands in `minikernels/paged/README.md`.
