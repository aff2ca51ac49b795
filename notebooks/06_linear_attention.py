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
# # 06 linear_attention: a state in place of a cache
#
# $$S_t = \mathrm{diag}(\lambda\, e^{g_t})\, S_{t-1} + k_t v_t^\top, \qquad o_t = q_t S_t$$
#
# Six passes, each in one rhythm: **predict** (write a number down), **run**, **see**, **measure**, **explain**,
# **exercise**. The q, k and v are real: a small model's, reading Python's own `textwrap.py`, rotary phases included. It
# was trained with softmax; the decays are TransNormerLLM's. No GPU is needed: the kernels run, unchanged, on a machine
# written in NumPy that counts what a GPU would count.
#
# Letters: B sequences, H heads, T tokens, D head width. `00_how_to_read` explains sectors, warps and barriers.

# %%
import inspect
import textwrap

import numpy as np

import minikernels.model as m
from minikernels import linear_attention as la
from minikernels import simt
from minikernels.bench import streaming
from minikernels.linear_attention import bounded, continual, reference, schedule, traffic, transnormer
from minikernels.widgets import StateView, TilePlayer, TrafficMeter, WarpView

# %%
text = inspect.getsource(textwrap).encode()


def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## 1. The millionth token
#
# A head of softmax attention keeps the keys and values of all tokens; a head of linear attention keeps one D x D
# matrix.
#
# **Predict**: D = 32, float32. How many bytes does a head of linear attention keep after 16,384 tokens?

# %%
guess = None

# %%
costs = streaming.step_costs([256, 1024, 4096, 16384])
for name, row in costs.items():
    print(f"{name:17}", *(f"{cost.us:8.0f} us {cost.state_bytes:>10,} B" for cost in row))

# %%
from IPython.display import SVG

from minikernels.figures import bytes_against_length, svg

curves = {name: [cost.state_bytes for cost in row] for name, row in costs.items() if "att" in name or "cache" in name}
SVG(svg(bytes_against_length([cost.length for cost in costs["ABC"]], curves).figure))

# %%
compare(guess, costs["linear attention"][-1].state_bytes, 32 * 32 * 4)

# %% [markdown]
# **Explain**: without the softmax, $(q_t k_s^\top) v_s$ may be taken as $q_t (k_s^\top v_s)$, and the sum over $s$ is
# one matrix:
#
# $$S_t = \lambda S_{t-1} + k_t v_t^\top$$
#
# Every token costs $4 D^2$ FLOP, wherever it stands. The other three rows bound softmax attention in other ways; the
# last pass comes back to them.
#
# **Exercise 06.1**: the recurrence, in NumPy. `minikernels check 06.1`, or in a cell:

# %%
from minikernels.grading import check

check("06.1")

# %% [markdown]
# ## 2. A column of the state a thread
#
# `v1_recurrent` gives each thread one column of the state, from the first token to the last. Only q, k, v and o move.
#
# **Predict**: 8 heads, 128 tokens, D = 32. How many bytes of k does the launch ask for?

# %%
guess = None

# %%
layer = m.load("mha").activations(text[:128], layer=1)
q, k, v, decay = layer.q, layer.k, layer.v, np.exp(-la.slopes(8))
B, H, T, D = q.shape
sizes = {"B": B, "H": H, "T": T, "D": D}

# %%
with simt.collect() as launches:
    o = la.attention(q, k, v, decay=decay, rung="v1_recurrent")
v1 = launches[0]

# %%
TrafficMeter([("v1_recurrent", traffic.v1_recurrent(**sizes), v1.by_array)], quantity="load_requests")

# %%
StateView(q[0, 4], k[0, 4], v[0, 4], decay=decay[4])

# %%
compare(guess, v1.by_array["k"].load_bytes, H * T * D * D * 4)

# %% [markdown]
# **Explain**: every thread needs all of $k_t$, so the bytes asked for are
#
# $$H\, T\, D \cdot D \cdot 4$$
#
# though k has D times fewer. All lanes of a warp ask for the same element: one sector a request, 4 bytes of it used,
# and D requests a token. What is small here is v: each thread reads its own column.
#
# **Exercise 06.4**: such a kernel. Budget: v and o once, no barrier. `minikernels check 06.4`.

# %%
WarpView("0 * lane + i", itemsize=4, names={"i": 5})

# %% [markdown]
# ## 3. A chunk in shared memory
#
# `v2_chunk` copies 16 tokens to shared memory at a time, computes what they give each other as pairs, and moves the
# state on once a chunk.
#
# **Predict**: how many load requests for k now? v1 made 32 a token and head.

# %%
guess = None

# %%
with simt.collect() as launches:
    o = la.attention(q, k, v, decay=decay, rung="v2_chunk")
v2 = launches[0]

# %%
rows = {"v1_recurrent": v1, "v2_chunk": v2}
TrafficMeter([(name, getattr(traffic, name)(**sizes), launch.by_array) for name, launch in rows.items()])

# %%
small = [np.ascontiguousarray(x[:, :1, :40, :8]) for x in (q, k, v)]
with simt.record(blocks=[0], registers=("first", "acc"), lanes=(0, 7)) as recording:
    la.attention(*small, decay=decay[:1], rung="v2_chunk")
TilePlayer(recording.trace, step=400)

# %%
compare(guess, v2.by_array["k"].load_requests, H * T * D // 32)

# %% [markdown]
# **Explain**: with $\Lambda_t = \lambda^{t+1}$ inside a chunk of C tokens,
#
# $$O = (Q K^\top \odot M) V + \Lambda Q S, \qquad S \leftarrow \lambda^C S + (\lambda^C \Lambda^{-1} K)^\top V$$
#
# with $M_{ts} = \lambda^{t-s}$. Each element crosses HBM once, and what is left to do are matrix products: the raw
# rungs give them to tensor cores.
#
# **Exercise 06.2**: a chunk in NumPy (`minikernels check 06.2`). **Exercise 06.5**: the staging kernel; q and k once, 2
# barriers a chunk (`minikernels check 06.5`).

# %%
check("06.2")

# %% [markdown]
# ## 4. Gates of -20
#
# Gated linear attention fades every channel by its own gate, $e^{g}$ with $g \le 0$, at every token. The textbook's way
# divides prefix products: $e^{b_t} / e^{b_s}$ with $b$ the sums of gates.
#
# **Predict**: with $g = -20$ at every step, after how many tokens is $e^{b}$ zero in float32?

# %%
guess = None  # the smallest float32 is about e^-103

# %%
b = np.cumsum(np.full(16, -20, np.float32))
products = np.exp(b)
print(products[:7])
with np.errstate(all="ignore"):
    print((products[:, None] / products)[7, :8])  # weights of token 7's past

# %%
gate = np.random.default_rng(0).choice([0, -20], q.shape).astype(np.float32)
o, state = la.attention(q, k, v, gate=gate, return_state=True)
for verdict in reference.judge(o, state, q, k, v, np.ones(H, np.float32), gate, 1.0).values():
    print(verdict.message)

# %%
compare(guess, int(np.argmax(products == 0)) + 1, int(np.ceil(104 / 20)))

# %% [markdown]
# **Explain**: the weight of token s at t is a product of gates *between* them,
#
# $$W_{ts} = e^{g_{s+1}} \cdots e^{g_t} \le 1 .$$
#
# Multiply those, and nothing overflows and nothing is divided. Sums of logarithms would not do either: beside -320 a
# float32 has no digits left for -0.1. Inside chunks of 16 all rungs carry each key from token to token; between chunks
# go prefix and suffix products.
#
# **Exercise 06.3**: such scores, in NumPy. `minikernels check 06.3`.

# %%
check("06.3")

# %% [markdown]
# ## 5. Sixteen heads, 132 multiprocessors
#
# One block walks over a head. One sequence of 16,384 tokens with 16 heads keeps 16 multiprocessors busy.
#
# **Predict**: into how many segments should each head be cut, if the GPU runs 132 blocks at once and a cut costs a
# second reading of k and v?

# %%
guess = None

# %%
cut = schedule.segments_of(heads=16, T=16_384, tile=64, places=132)
spans = [(f"{n} segments", schedule.makespan(16, 256, n, 132)) for n in (1, 2, 4, 8, 9, 16)]

# %%
from minikernels.figures import ladder

SVG(svg(ladder(spans, unit="tiles").figure))

# %%
compare(guess, cut[0], 132 // 16)

# %% [markdown]
# **Explain**: a segment does to the state before it
#
# $$S \mapsto \mathrm{left} \odot S + \mathrm{local}$$
#
# and computes left and local without knowing it. Such maps compose: so all segments run side by side, one small pass
# carries the state through, and all run again with the state they need. `v4_split_along_time` does it in three kernels.
#
# **Exercise 06.6**: the carry, in NumPy. `minikernels check 06.6`.

# %%
check("06.6")

# %% [markdown]
# ### On a real GPU
#
# What the CUDA C++ rungs took, recorded by `minikernels bench`; the line is the fastest production kernel on the same
# input. `v3` rounds and fades the state once for 16 tokens, `v5_wgmma` once for 64, and has scores computed ahead of it
# by warps of their own.

# %%
from minikernels import catalog
from minikernels.bench.recorded import recordings, spelled

gpu = recordings()[0]
case = gpu.case("linear_attention", "float16")
rungs = [rung.name for rung in catalog.technique("linear_attention").rungs if rung.kind == "raw"]
found = {name: gpu.of("linear_attention", name, case) for name in rungs}
best = gpu.production("linear_attention", case)
print(gpu.gpu, gpu.dates([best]), spelled(case))
bars = [(name, result and result.ms) for name, result in found.items()]
SVG(svg(ladder(bars, reference=(best.name, best.ms)).figure))

# %% [markdown]
# And gates? A pair of tokens that fades in between is no product for a tensor core. But
#
# $$e^{b_t - b_s} = e^{b_t - r}\, e^{r - b_s}$$
#
# for any r: one factor for the query, one for the key. `v6_factored_gates` takes r at the middle of 64 tokens. One of
# the two is then above 1, and float16 ends at 65,504: segments with strong gates are noticed, and done gate by gate.

# %%
b = np.cumsum(-0.1 * np.random.default_rng(0).random((64, D)), axis=0)  # sums of mild gates, over one chunk
factors = np.exp(b - b[31]), np.exp(b[31] - b)
pairs = np.einsum("ti,si,tsi->ts", q[0, 0, :64], k[0, 0, :64], np.exp(b[:, None] - b))
print("largest difference:", np.abs(np.tril(pairs - (q[0, 0, :64] * factors[0]) @ (k[0, 0, :64] * factors[1]).T)).max())
grown = 4 * np.exp(np.outer([0.05, 0.17, 0.3, 20], np.arange(33)))  # a key of 4 at gates of -0.05 to -20
print("tokens from the middle that float16 holds:", np.sum(grown < 65_504, axis=1) - 1, "of 32")

# %% [markdown]
# ## 6. What replaced the softmax
#
# Early linear attention divided by the sum of its scores. TransNormer found that training breaks there, and normalises
# the *output* instead.
#
# **Predict**: scores of about 0.001. How large can the gradient of a weight $s_j / \sum s$ by a score get, to a power
# of ten? (Of softmax: 1/4 at most.)

# %%
guess = None

# %%
scores = 0.001 * (0.5 + np.random.default_rng(0).random(12))
by_softmax, by_division = transnormer.weight_gradients(scores)
print(f"softmax {by_softmax:.2f}, division {by_division:.0f}")
for shrink in (1, 1e-2, 1e-4, 1e-6):
    print(shrink, *(f"{x:12.4g}" for x in transnormer.output_gradients(shrink * scores, v[0, 0, :12])))

# %%
compare(guess, round(by_division), round(1 / scores.sum() * (1 - scores.min() / scores.sum())))

# %% [markdown]
# **Explain**: a weight's gradient is $p_j (1[j = k] - p_k) / s_k$: it grows as $1 / s$ without end. Of a normalised
# output, RMSNorm$(\sum s_j v_j)$, it is bounded (right column): the root's $\epsilon$ stops it.
#
# Softmax can also be kept and its memory bounded: ABC writes all tokens to M slots; continual attention updates a
# window by the token that comes and the one that leaves.
#
# **Exercise**: which strengths make ABC's slots a sliding window?

# %%
x, y, z = (np.ascontiguousarray(a[0, 0]) for a in (q, k, v))
slots = bounded.attention(x, y, z, bounded.window(len(x), 16))
moving = continual.Retroactive(16, D)
outputs = [moving.step(*token)[-1] for token in zip(x, y, z, strict=True)]
print("largest difference:", np.abs(slots - outputs).max())

# %% [markdown]
# ## What this left out
#
# Time on a GPU: the SIMT machine counts what a kernel moves and does, not how long it takes. The CUDA C++ rungs
# (`minikernels/linear_attention/*.cu`), which need one; `NOTES.md` there says what was tried on them. Gradients
# (`la.attention_backward`). What a D x D matrix cannot remember: this model was trained with softmax, and its text
# would not survive the exchange untrained.
#
# Papers: Lightning Attention-2 (arXiv:2401.04658), Various Lengths, Constant Speed (arXiv:2405.17381), GLA
# (arXiv:2312.06635), The Devil in Linear Transformer (arXiv:2210.10340), TransNormerLLM (arXiv:2307.14995), ABC
# (arXiv:2110.02488), Continual Low-Rank Scaled Dot-product Attention (arXiv:2412.03214). The derivation stands in
# `minikernels/linear_attention/README.md`.
