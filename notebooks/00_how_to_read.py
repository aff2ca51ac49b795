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
# # 00 How to read this course
#
# What every chapter takes for granted: the letters, the machine that kernels run on, and how to predict what a kernel
# moves before it runs. Each pass has one rhythm: **predict** (write a number down), **run**, **see**, **measure**,
# **explain**. No GPU is needed.

# %%
import numpy as np

from minikernels import catalog, simt
from minikernels.launch import cuda, float32, kernel
from minikernels.widgets import TilePlayer, WarpView


# %%
def compare(guess, counted, closed_form):
    for name, value in (("your guess", guess), ("counted", counted), ("closed form", closed_form)):
        print(f"{name:12}", "not written down" if value is None else f"{value:>12,}")


# %% [markdown]
# ## Letters and layouts
#
# One letter has one meaning everywhere. Upper case is a size, lower case an array or an index; `_smem` and `_reg` say
# where an array lives, `_bytes`, `_ms`, `_flop` in which unit a number is.
#
# | letter | meaning | letter | meaning |
# |---|---|---|---|
# | B | sequences in a batch | T, S | queries, keys |
# | H | query heads | D | head width |
# | G | key/value heads; G divides H | E, N | channels and states of a scan |
# | C | chunk | P, W | page length, kept tokens |
#
# Queries are (B, H, T, D), keys and values (B, G, S, D), and the last axis is the one whose elements lie side by side
# in memory. Query head h reads key/value head h // (H / G).

# %%
q = np.zeros((2, 8, 256, 64), np.float32)  # (B, H, T, D)
b, h, t, d = 1, 3, 200, 5
print("q[b, h, t, d] is element", ((b * 8 + h) * 256 + t) * 64 + d, "of memory; strides in elements:",
      [s // 4 for s in q.strides])

# %% [markdown]
# ## The machine
#
# A launch is a **grid** of **blocks** of **threads**. 32 neighbouring threads are a **warp**: they execute one
# statement together, and each of them is a **lane**. Blocks do not wait for each other; threads of a block share
# **shared memory** (SRAM) and wait for each other at a **barrier**. Each thread has **registers** of its own. All of
# them reach **HBM**, through the L2 cache.
#
# One real GPU, an NVIDIA H200:
#
# | | how much | where the number is from |
# |---|---|---|
# | streaming multiprocessors (SMs) | 132 | datasheet |
# | threads of a block, at most | 1,024 | datasheet |
# | shared memory of a block, at most | 227 KB | datasheet |
# | registers of a thread, at most | 255 of 4 bytes | datasheet |
# | HBM | 141 GB at 4.8 TB/s | datasheet |
# | HBM, reading | 4,423 GB/s | measured 2026-11-22 |
# | HBM, copying (bytes read and written) | 4,257 GB/s | measured 2026-11-22 |
# | bf16 matrix multiplication | 704 TFLOP/s | measured 2026-11-22 |
#
# Divide the last by the reading rate: about 160 operations in the time of one byte. A kernel that does less than that
# for each byte it moves waits for memory, and most of this course is about moving less.

# %% [markdown]
# ## 1. Sectors: what a load really moves
#
# HBM and L2 move **sectors**: 32 aligned bytes. One load of one warp is a **request**; it moves every sector that any
# of its 32 lanes touches. Here is a kernel, and it runs on this laptop: arrays of NumPy go to a lockstep machine that
# counts as the hardware does.

# %%
@kernel
def copy(x, y):
    i = cuda.grid(1)  # this thread's number in the whole launch
    if i < x.shape[0]:
        y[i] = x[i]


# %% [markdown]
# **Predict**: how many sectors does it load for 1,000 float32?

# %%
guess = None

# %%
x = np.arange(1000, dtype=np.float32)
y = np.full_like(x, np.nan)
launch = copy[8, 128](x, y)  # 8 blocks of 128 threads

# %%
WarpView("lane", itemsize=4)

# %%
compare(guess, launch.traffic.load_sectors, -(-1000 * 4 // 32))

# %% [markdown]
# **Explain**: 32 lanes side by side ask for 128 bytes, 4 sectors, and use every byte of them. That is a **coalesced**
# access. 1,000 elements take $\lceil 1000 \cdot 4 / 32 \rceil$ sectors; the last warp has only 8 lanes at work, and
# its request touches 1 sector. The guard `if` keeps the other lanes from reading past the end: without it the machine
# stops and names block, thread and line.

# %% [markdown]
# ## 2. Strides: the same bytes, eight times the traffic
#
# Now thread i reads element `i * step % n`.

# %%
@kernel
def strided(x, y, step):
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] = x[i * step % x.shape[0]]


# %% [markdown]
# **Predict**: 1,024 elements, step 8. How many sectors?

# %%
guess = None

# %%
x = np.arange(1024, dtype=np.float32)
launch = strided[8, 128](x, np.empty_like(x), 8)

# %%
WarpView("lane * step", itemsize=4, names={"step": 8})

# %%
compare(guess, launch.by_array["x"].load_sectors, 1024 // 32 * 32)

# %% [markdown]
# **Explain**: lanes 8 elements apart are 32 bytes apart, so each lane touches a sector of its own: $32$ a request
# instead of 4. The launch asks for the same 4,096 bytes and moves 32,768. In general a request with a stride of $s$
# float32 touches $\min(32, 4 s)$ sectors. Edit the expression above and watch: `lane * 2`, `lane // 2`, `31 - lane`,
# `lane + 1`.

# %% [markdown]
# ## 3. Banks: when lanes of a warp wait for each other
#
# Shared memory has 32 **banks** of 4 bytes; word w lies in bank w % 32. A warp's request is served in one pass (a
# **wavefront**) if no two lanes want different words of one bank. Every further pass is a **conflict**. Lanes that
# want the *same* word share it.

# %%
N = 1024


# %%
@kernel
def shuffle(x, y, step):
    x_smem = cuda.shared.array(N, float32)
    i = cuda.threadIdx.x
    x_smem[i] = x[i]
    cuda.syncthreads()  # everything is written before anybody reads what another thread wrote
    y[i] = x_smem[i * step % N]


# %% [markdown]
# **Predict**: 1,024 threads, 32 warps, step 32. How many conflicts?

# %%
guess = None

# %%
launch = shuffle[1, 1024](x, np.empty_like(x), 32)

# %%
WarpView("lane * step", itemsize=4, space="shared", names={"step": 32})

# %%
compare(guess, launch.traffic.shared_load_conflicts, 32 * 31)

# %% [markdown]
# **Explain**: lanes 32 words apart all want bank 0: 32 passes, 31 of them conflicts, in each of 32 warps. With step
# 33 they meet 32 different banks and there is none: that is why tiles whose columns are read have rows *padded* by
# one. With any odd step there is no conflict; with step s there are $\gcd(s, 32)$ passes.

# %% [markdown]
# ## 4. Predict a kernel's traffic, then count it
#
# One thread sums one row of a matrix (T, D). Predict in letters first, then in numbers.

# %%
@kernel
def row_sum(x, y):
    t = cuda.grid(1)
    if t < x.shape[0]:
        y[t] = float32(0)
        for d in range(x.shape[1]):
            y[t] += x[t, d]


# %% [markdown]
# **Predict**: T = 64, D = 16, float32. Bytes loaded from x? And from y?

# %%
guess = None  # of x and y together

# %%
x = np.ones((64, 16), np.float32)
with simt.record(blocks=[0]) as recording:
    launch = row_sum[2, 32](x, np.full(64, np.nan, np.float32))

# %%
TilePlayer(recording.trace, step=10)

# %%
compare(guess, launch.traffic.load_bytes, 2 * 64 * 16 * 4)
for name, part in launch.by_array.items():
    print(f"{name}: {part.load_bytes:,} bytes loaded in {part.load_sectors} sectors, {part.store_bytes:,} stored in "
          f"{part.store_sectors}")

# %% [markdown]
# **Explain**: x is read once, $4\,T D$ bytes. But `y[t] += ...` reads and writes y at every turn: another $4\,T D$
# each way, for T results. A sum belongs in a register (`total = float32(0)`), which leaves $4\,T$ bytes stored. And x
# is read with a stride of D: count its sectors against bytes / 32. Bytes are what lanes ask for, sectors what moves:
# a good kernel keeps both small.

# %% [markdown]
# ## 5. How to read a ladder
#
# Each technique is a ladder of **rungs** from the paper's equation to a fast kernel. Neighbours differ by one idea. A
# rung has one name in four places: its code, its closed-form traffic, the catalog, and the row of its README.

# %%
for rung in catalog.technique("flash").rungs:
    print(f"{rung.name:20}{rung.kind:8}{rung.idea}")

# %% [markdown]
# `numpy` rungs spell a schedule out, `numba` rungs run on the machine you have just used and, unchanged, on a GPU,
# `raw` rungs are CUDA C++. For every numba rung the bytes that its closed form predicts equal the bytes counted; a
# test holds them to it, and the machine's counts of requests and sectors equal a GPU's own hardware counters.
#
# **Predict** the least time of a kernel from its bytes before you measure it: bytes over bandwidth. 1 GB read takes
# at least:

# %%
print(f"{1e9 / 4423e9 * 1e6:.0f} us on the H200 above")

# %% [markdown]
# ## Exercises
#
# Every chapter from 01 on ends its passes with an exercise: its budget in letters, and its check command, such as
# `minikernels check 02.3`. What sectors and banks mean for you is graded in 02.6. `minikernels check 02.6 --hint`
# helps.
#
# ## What this left out
#
# Time: the machine counts and does not clock. Caches: a sector that L2 already holds is counted like any other, and
# the whole course keeps to that. Occupancy, instruction issue and register spills, which decide between kernels that
# move the same bytes. GPUs that are not NVIDIA's, whose warps and sectors have other sizes.
