"""The selective scan for training: a plain loop, and a Triton kernel with its gradient for the GPU."""

import torch

try:
    import triton
    import triton.language as tl
except ImportError:  # no Triton on this platform: the loop serves
    triton = None

__all__ = ["scan_loop", "selective_scan"]

BLOCK_E = 8  # channels a program owns; with N = 16 states, four values a lane of one warp


@torch.compiler.disable  # the kernel is compiled already
def selective_scan(u, delta, a, b, c):
    """Return y_t = c_t . h_t, where h_t = exp(delta_t a) h_{t-1} + delta_t u_t b_t and h starts at 0.

    Parameters
    ----------
    u, delta : tensor of shape (B, T, E), float32
        Inputs and step sizes (after softplus).
    a : tensor of shape (E, N), float32
        Rates, negative.
    b, c : tensor of shape (B, T, N), float32
        Input and output vectors of each step.

    Returns
    -------
    tensor of shape (B, T, E), float32
        Differentiable in all five.
    """
    if not u.is_cuda or triton is None:
        return scan_loop(u, delta, a, b, c)
    return _Scan.apply(u, delta, a, b, c)


def scan_loop(u, delta, a, b, c):
    """Return the same as ``selective_scan``, one step after the other: the oracle of the kernel, and the CPU's way."""
    h = u.new_zeros(u.shape[0], *a.shape)
    ys = []
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * a) * h + (delta[:, t] * u[:, t])[:, :, None] * b[:, t, None, :]
        ys.append((h * c[:, t, None, :]).sum(-1))
    return torch.stack(ys, dim=1)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, a, b, c):
        u, delta, a, b, c = (x.contiguous() for x in (u, delta, a, b, c))
        B, T, E = u.shape
        N = a.shape[1]
        if E % BLOCK_E or N & (N - 1):
            raise ValueError(f"E={E} must be a multiple of {BLOCK_E} and N={N} a power of two")
        y, h = torch.empty_like(u), u.new_empty(B, T, E, N)
        _forward[(B, E // BLOCK_E)](u, delta, a, b, c, y, h, T, E, N, BLOCK_E, num_warps=1)
        ctx.save_for_backward(u, delta, a, b, c, h)
        return y

    @staticmethod
    def backward(ctx, dy):
        u, delta, a, b, c, h = ctx.saved_tensors
        B, T, E = u.shape
        N, blocks = a.shape[1], E // BLOCK_E
        du, ddelta = torch.empty_like(u), torch.empty_like(u)
        # A program sees some of the channels: it writes its share of what is summed over channels or over the batch.
        da, db, dc = u.new_empty(B, E, N), u.new_empty(blocks, B, T, N), u.new_empty(blocks, B, T, N)
        _backward[(B, blocks)](
            u, delta, a, b, c, h, dy.contiguous(), du, ddelta, da, db, dc, B, T, E, N, BLOCK_E, num_warps=1
        )
        return du, ddelta, da.sum(0), db.sum(0), dc.sum(0)


if triton is not None:

    @triton.jit
    def _forward(u, delta, a, b, c, y, h_all, T, E: tl.constexpr, N: tl.constexpr, BLOCK_E: tl.constexpr):
        """Own BLOCK_E channels of one sequence; write y and every state, which the gradient reads."""
        row = tl.program_id(0).to(tl.int64) * T  # index of [b, t=0] in (B, T)
        e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
        n = tl.arange(0, N)
        en = e[:, None] * N + n[None, :]
        rate = tl.load(a + en)
        h = tl.zeros((BLOCK_E, N), tl.float32)
        for t in range(T):
            at = row + t
            step, x = tl.load(delta + at * E + e), tl.load(u + at * E + e)
            bt, ct = tl.load(b + at * N + n), tl.load(c + at * N + n)
            h = tl.exp(step[:, None] * rate) * h + (step * x)[:, None] * bt[None, :]
            tl.store(y + at * E + e, tl.sum(h * ct[None, :], 1))
            tl.store(h_all + at * E * N + en, h)

    @triton.jit
    def _backward(
        u, delta, a, b, c, h_all, dy, du, ddelta, da, db, dc, B, T,
        E: tl.constexpr, N: tl.constexpr, BLOCK_E: tl.constexpr,
    ):  # fmt: skip
        """Walk the same channels from the last step to the first; dh carries exp(delta a) times the gradient of h."""
        row = tl.program_id(0).to(tl.int64) * T
        e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
        n = tl.arange(0, N)
        en = e[:, None] * N + n[None, :]
        share = tl.program_id(1).to(tl.int64) * B * T  # index of this program's slice of db and dc, in rows of N
        rate = tl.load(a + en)
        dh = tl.zeros((BLOCK_E, N), tl.float32)
        drate = tl.zeros((BLOCK_E, N), tl.float32)
        h = tl.load(h_all + (row + T - 1) * E * N + en)
        for back in range(T):
            t = T - 1 - back
            at = row + t
            step, x = tl.load(delta + at * E + e), tl.load(u + at * E + e)
            bt, ct = tl.load(b + at * N + n), tl.load(c + at * N + n)
            g = tl.load(dy + at * E + e)
            before = tl.load(h_all + (at - 1) * E * N + en, mask=(en >= 0) & (t > 0), other=0.0)
            decay = tl.exp(step[:, None] * rate)
            tl.store(dc + (share + at) * N + n, tl.sum(g[:, None] * h, 0))
            dh += g[:, None] * ct[None, :]
            slope = dh * before * decay
            along_b = tl.sum(dh * bt[None, :], 1)
            tl.store(du + at * E + e, along_b * step)
            tl.store(ddelta + at * E + e, along_b * x + tl.sum(slope * rate, 1))
            tl.store(db + (share + at) * N + n, tl.sum(dh * (step * x)[:, None], 0))
            drate += slope * step[:, None]
            dh = dh * decay
            h = before
        tl.store(da + tl.program_id(0).to(tl.int64) * E * N + en, drate)
