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
# # 07 kv_compression: caches in fewer bytes
#
# $$x \approx \mathit{minimum} + \mathit{scale} \cdot \mathit{code}$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The input is real: the cache of a small trained model that has read the start of Python's own
# `textwrap.py`. No GPU is needed: the kernels run, unchanged, on a machine written in NumPy that counts what a GPU
# would count.
#
# Letters: H query heads, G key/value heads, S tokens, D head width. `00_how_to_read` explains sectors, warps and
# barriers; `01_gqa` why decoding waits for the cache.

# %%
import inspect
import textwrap

import numpy as np
from IPython.display import SVG

import minikernels.model as m
from minikernels import kv_compression, simt
from minikernels.bench import compression
from minikernels.figures import ladder, svg
from minikernels.kv_compression import evict, traffic
from minikernels.widgets import CacheTimeline, TilePlayer, TrafficMeter, WarpView

# %%
text = inspect.getsource(textwrap).encode()
layer = m.load("mha").activations(text[:256], layer=1, dtype=np.float16)


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. What four bits weigh
#
# 256 tokens, 8 key/value heads, D = 32, float16. Each group of 64 tokens of a channel is rounded to 16 levels between
# its least and its greatest number.
#
# **Predict**: how many bytes do the keys take then, scales and minima (16 bits each) included?

# %%
guess = None  # 131,072 as float16

# %%
q, k, v = np.ascontiguousarray(layer.q[:, :, -1]), layer.k, layer.v
(B, H, D), (G, S) = q.shape, k.shape[1:3]
k_cache = kv_compression.quantize(k, bits=4, axis="channel")
v_cache = kv_compression.quantize(v, bits=4, axis="token")

# %%
sizes = [("float16", k.nbytes), *((f"int{bits}", kv_compression.quantize(k, bits=bits, axis="channel").bytes())
                                   for bits in (8, 4))]
SVG(svg(ladder(sizes, unit="bytes")))

# %%
compare(guess, k_cache.bytes(), G * S * D * 4 // 8 + 2 * G * (S // 64) * D * 2)

# %% [markdown]
# **Explain**: a group of 64 pays 32 bits for its scale and minimum, half a bit a number:
#
# $$\mathit{bits} + \frac{2 \cdot 16}{\mathit{group}}$$
#
# 4.5 bits, 3.56 times less than 16. Small groups follow the numbers better and weigh more. Every number comes back
# within half a scale. The newest tokens, which do not fill a group yet, stay in 16 bits: the residual window.
#
# **Exercise 07.1**: round groups of numbers, also those whose numbers are all equal. Graded on values.
# `minikernels check 07.1`, or in a cell:

# %%
from minikernels.grading import check

check("07.1")

# %% [markdown]
# ## 2. Who shares a scale
#
# A scale can serve 64 tokens of one channel, or the channels of one token. Keys have channels that are large in every
# token.
#
# **Predict**: how many times as large is the error of 4-bit keys when the channels of a token share a scale?

# %%
guess = None

# %%
def error(x, axis):
    cache = kv_compression.quantize(x, bits=4, axis=axis, group=32)
    return float(np.sqrt(np.mean((cache.dequantize(np.float64) - x) ** 2)))


# %%
def expected(x, axis):
    scales = kv_compression.quantize(x, bits=4, axis=axis, group=32).scales.astype(np.float64)
    return float(np.sqrt(np.mean(scales**2) / 12))  # uniform within half a scale


# %%
channels = np.abs(k[0, 0].astype(np.float32)).max(axis=0)
SVG(svg(ladder([(f"channel {d}", float(channels[d])) for d in range(0, D, 4)], unit="largest |k|")))

# %%
compare(guess, round(error(k, "token") / error(k, "channel"), 2),
        round(expected(k, "token") / expected(k, "channel"), 2))

# %% [markdown]
# **Explain**: a scale is a group's range over 15, and a rounded number is off by up to half of it, evenly spread:
#
# $$\sqrt{\mathrm{mean}(\mathit{scale}^2) / 12}$$
#
# Across channels the largest sets the scale for all; along tokens a channel keeps its own range. Values have no such
# channels, and are used a token at a time: they are rounded by token.
#
# **Exercise** with a pencil: a channel that is always near 10 beside 31 that lie within 0.5 of zero. How many of the
# 16 levels are left to those 31, by token?

# %%
print(f"{15 * 1 / (10 + 0.5):.1f} steps of 15 between -0.5 and 0.5")

# %% [markdown]
# ## 3. Fewer bytes that ask for more
#
# `v1_dequantize` reads, for every number, its code, its scale and its minimum. Each lane owns a channel.
#
# **Predict**: how many bytes do the lanes ask for, of the keys' scales alone?

# %%
guess = None  # the scales themselves are 2,048 bytes

# %%
with simt.collect() as launches:
    o = kv_compression.decode(q, k_cache, v_cache, rung="v1_dequantize")
v1, letters = launches[0], {"B": B, "H": H, "G": G, "S": S, "D": D, "itemsize": 2}

# %%
TrafficMeter([("v1_dequantize", traffic.v1_dequantize(**letters), v1.by_array)], quantity="load_bytes")

# %%
WarpView("lane // 2", itemsize=1)

# %%
compare(guess, v1.by_array["k_scales"].load_bytes, G * S * D * 2)

# %% [markdown]
# **Explain**: three loads for one number: more bytes asked for than a float16 cache has,
#
# $$2\, G\, S\, D\, (1 + 2 \cdot 2)\ \text{bytes}$$
#
# Sectors soften it (two lanes share a byte of codes, 32 lanes read 16 bytes of one sector), but each request costs an
# instruction, and a decoding GPU has few to spare: compression is no speed by itself.
#
# **Exercise 07.3**: values from two codes a byte, each byte read once. Budget: one request a token for 64 channels, no
# barrier. `minikernels check 07.3`.

# %%
print(f"{v1.by_array['k_codes'].load_sectors:,} sectors of codes in {v1.by_array['k_codes'].load_requests:,} requests")

# %% [markdown]
# ## 4. Scales leave the loop
#
# 64 tokens share their keys' scales. `v2_folded_scales` multiplies the query by them once a group.
#
# **Predict**: how many bytes of the keys' scales now?

# %%
guess = None

# %%
with simt.collect() as launches:
    o = kv_compression.decode(q, k_cache, v_cache, rung="v2_folded_scales")
v2 = launches[0]

# %%
rows = {"v1_dequantize": v1, "v2_folded_scales": v2}
TrafficMeter([(name, getattr(traffic, name)(**letters), launch.by_array) for name, launch in rows.items()])

# %%
small = [np.ascontiguousarray(x) for x in (q[:, :1, :8], k[:, :1, :36, :8], v[:, :1, :36, :8])]
caches = [kv_compression.quantize(x, bits=4, axis=axis, group=16) for x, axis in zip(small[1:], ("channel", "token"))]
with simt.record(blocks=[0], registers=("part", "s", "m", "l"), lanes=(0, 7)) as recording:
    kv_compression.decode(small[0], *caches, rung="v2_folded_scales")
TilePlayer(recording.trace, step=80)

# %%
compare(guess, v2.by_array["k_scales"].load_bytes, G * (S // 64) * D * 2)

# %% [markdown]
# **Explain**: with one group's scales and minima,
#
# $$q \cdot k = q \cdot k_{\min} + (q \odot k_s) \cdot c$$
#
# and all but the last product is the same for 64 tokens. Values' scales go into the weights p. The CUDA C++ rungs read
# 32 codes with one load, and turn two codes into two float16 with one logical operation.
#
# **Exercise 07.2**: scores with folded scales. Budget: scales and minima once a group, codes once, one barrier a group.
# `minikernels check 07.2`.

# %%
check("07.2")

# %% [markdown]
# ## 5. Tokens that can go
#
# Attention is not spread evenly. `evict.attention_mass` adds up what each token got, over all queries so far.
#
# **Predict**: of what the last 32 queries spend, what percentage goes to the first 4 of the 256 tokens and to the 64
# newest?

# %%
guess = None

# %%
last = layer.q[:, :, -32:].astype(np.float32)  # the last 32 queries
mass = evict.attention_mass(last, k.astype(np.float32))
kept = evict.streaming(S, sinks=4, recent=64)
heavy = evict.heavy_hitters(mass, keep=34, recent=34)

# %%
share = [(f"head {g}", float(100 * evict.take(mass, kept)[0, g].sum() / mass[0, g].sum())) for g in range(G)]
SVG(svg(ladder(share, unit="% of attention")))

# %%
steps = [evict.streaming(n, sinks=4, recent=28) for n in range(1, 129)]
slots = np.array([np.isin(np.arange(128), tokens) for tokens in steps])
CacheTimeline(slots, slots.sum(axis=1) * 4 * G * D, np.arange(1, 129) * 4 * G * D, text=text[:128].decode())

# %%
held = [round(100 * float(evict.take(mass, where).sum() / mass.sum())) for where in (kept, heavy)]
compare(guess, held[0], round(100 * len(kept) / S))  # closed form: were it spread evenly
print(f"the 34 heaviest and the 34 newest hold {held[1]} %")

# %% [markdown]
# **Explain**: 68 of 256 tokens are 27 %, and hold far more than 27 % of the attention. Streaming keeps tokens by place:
# the first, on which heads rest that have nowhere to look, and the newest. Heavy hitters are chosen by the attention
# they got, each head its own. What is dropped is gone: a later query cannot ask for it.
#
# **Exercise 07.5**: a cache on a budget. Graded on values. `minikernels check 07.5`.

# %%
check("07.5")

# %% [markdown]
# ## 6. What it costs
#
# Dynamic Memory Compression merges a token into its head's last slot instead of dropping it. The tiny model was never
# trained to; here it merges where two keys point the same way. Bits per byte say what each method costs.
#
# **Predict**: int4 has 30 % of the bytes. How many bits per byte does it cost more than float16?

# %%
guess = None

# %%
recorded = compression.rows()
for row in recorded:
    print(f"{row['method']:42} {100 * row['bytes'] / recorded[0]['bytes']:6.1f} %  {row['bits_per_byte']:.3f}")

# %%
slots = compression.slots_by_head(m.load("mha"), text[:256], least=0.9)
SVG(svg(ladder([(f"layer {n}, head {g}", slots[n][g]) for n in (0, 2) for g in range(G)], unit="slots of 256 tokens")))

# %%
tiny, held_out = m.load("mha"), m.held_out(512)
bits = {method.name: compression.measure(method, tiny, held_out)[0] for method in compression.METHODS[:3:2]}
print(*(f"{name}: {cost:.3f} on 512 bytes, measured here" for name, cost in bits.items()), sep="\n")

# %%
more = recorded[2]["bits_per_byte"] - recorded[0]["bits_per_byte"]
compare(guess, round(bits["int4, keys by channel"] - bits["float16"], 4), round(more, 4))  # here; recorded on more text

# %% [markdown]
# **Explain**: rounding keeps every token and loses little; dropping is free as long as nobody asks for what is gone;
# merging without training hurts soonest. A slot is a weighted mean,
#
# $$k \leftarrow \frac{z\, k + \omega\, k_t}{z + \omega}, \qquad z \leftarrow z + \omega$$
#
# and heads end with different numbers of slots: each is a sequence of its own in a pool of pages (04).
#
# **Exercise 07.4**: merge tokens into slots. Graded on values. `minikernels check 07.4`.

# %%
check("07.4")

# %% [markdown]
# ## Codes that are numbers already
#
# Fewer bytes leave fewer instructions for each: at full bandwidth some 4 a code and lane. `v6_mma` needs 3.6, loads and
# waits not counted. `v7_matrices` needs half: a 16-bit float with nothing but low bits set is *subnormal*, its value
# the bits times $2^{-24}$, and tensor cores multiply it exactly. So a mask unpacks two codes, and a second mask two
# more, 16 times as large.

# %%
word = np.array([0x9A3C51E7], np.uint32)  # eight 4-bit codes, 7 first, 9 last
for shift, mask in ((0, 0x000F000F), (0, 0x00F000F0), (8, 0x000F000F), (8, 0x00F000F0)):
    pair = (word >> np.uint32(shift) & np.uint32(mask)).view(np.float16)
    print(f"{mask:#010x}", pair, "are", pair.astype(np.float64) * 2.0**24, "times 2**-24")

# %% [markdown]
# The sums of the second masks are divided by 16, once a token. `v8_ring` copies later tokens into a ring in shared
# memory while it multiplies. Times on a real GPU, recorded by `minikernels bench`; the line is our own float16 decode
# of the same cache. The bytes promise 3.56 times its speed.

# %%
from minikernels import catalog
from minikernels.bench.recorded import recordings, spelled

gpu = recordings()[0]
case = gpu.case("kv_compression", "float16")
found = {r.name: r.ms for r in gpu.results if (r.technique, r.case) == ("kv_compression", case)}
own = min((name for name in found if "dequantised" in name), key=found.get)
rungs = [rung.name for rung in catalog.technique("kv_compression").rungs if rung.kind == "raw"]
print(gpu.gpu, gpu.dates([gpu.of("kv_compression", rungs[-1], case)]), spelled(case))
SVG(svg(ladder([(name, found.get(name)) for name in rungs], reference=(own, found[own]))))

# %% [markdown]
# ## What this left out
#
# Time on the SIMT machine: it counts what a kernel moves and does, not how long it takes. The CUDA C++ rungs
# themselves (`minikernels/kv_compression/*.cu`), which need a GPU; `minikernels/kv_compression/NOTES.md` says what was
# tried on them. Two bits, and outliers kept apart. Training a model to merge, which is what makes DMC work. Codes in
# pages.
#
# Papers: KIVI (arXiv:2402.02750), Dynamic Memory Compression (arXiv:2403.09636), StreamingLLM (arXiv:2309.17453), H2O
# (arXiv:2306.14048). The derivation stands in `minikernels/kv_compression/README.md`.
