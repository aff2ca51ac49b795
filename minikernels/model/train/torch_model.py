"""The same decoder in PyTorch: weight for weight and name for name that of ``minikernels.model``."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minikernels.model.train.torch_scan import selective_scan

__all__ = ["Decoder", "apply"]


def apply(layer, x, turn, record):
    """Return the stream after a layer: the part of the decoder that is worth compiling."""
    return layer(x, turn, record)


class Decoder(nn.Module):
    """A byte-level decoder whose ``state_dict`` has the names and shapes of ``Config.shapes``.

    Parameters
    ----------
    config : Config
        The sizes.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(256, config.M))
        kinds = {"attention": Attention, "mamba": Mamba}
        self.layers = nn.ModuleList(kinds[kind](config) for kind in config.layers)
        self.norm = nn.Parameter(torch.ones(config.M))
        self._start()

    def _start(self):
        """Start from small normal weights; outputs that are summed into the stream are smaller by their number."""
        depth = 2 * len(self.layers)
        for name, weight in self.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if weight.ndim == 2 and last not in ("a_log", "taps", "delta"):
                scale = 1 / math.sqrt(weight.shape[1]) if last != "embedding" else 0.02
                nn.init.normal_(weight, std=scale / math.sqrt(depth) if last in ("output", "down") else scale)

    def set_dropout(self, share):
        """Set the share of each layer's output that is dropped in training."""
        for layer in self.layers:
            layer.dropout = share

    def forward(self, tokens, record=None, through=apply):
        """Return logits (B, T, 256); `record`, a list, receives each layer's activations.

        `through` applies a layer; it may be a compiled ``apply``.
        """
        x = F.embedding(tokens, self.embedding)
        turn = turns(tokens.shape[1], self.config, x.device) if self.config.rotary else None
        for layer in self.layers:
            x = through(layer, x, turn, record)
        return rms_norm(x, self.norm, self.config.epsilon) @ self.embedding.t()


class Layer(nn.Module):
    """A mixer and a SwiGLU feed-forward, each behind an RMSNorm and added to the stream."""

    def __init__(self, config):
        super().__init__()
        self.config, self.dropout = config, 0.0
        self.norm = nn.Parameter(torch.ones(config.M))
        self.norm_ffn = nn.Parameter(torch.ones(config.M))
        self.gate = nn.Parameter(torch.empty(config.F, config.M))
        self.up = nn.Parameter(torch.empty(config.F, config.M))
        self.down = nn.Parameter(torch.empty(config.M, config.F))

    def forward(self, x, turn, record):
        """Return the stream after this layer."""
        epsilon = self.config.epsilon
        x = x + self._drop(self.mix(rms_norm(x, self.norm, epsilon), turn, record))
        h = rms_norm(x, self.norm_ffn, epsilon)
        return x + self._drop(F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down))

    def _drop(self, x):
        return F.dropout(x, self.dropout, self.training)


class Attention(Layer):
    """Causal attention with H query heads and G key/value heads."""

    def __init__(self, config):
        super().__init__(config)
        M, H, G, D = config.M, config.H, config.G, config.D
        self.query = nn.Parameter(torch.empty(H * D, M))
        self.key = nn.Parameter(torch.empty(G * D, M))
        self.value = nn.Parameter(torch.empty(G * D, M))
        self.output = nn.Parameter(torch.empty(M, H * D))

    def mix(self, x, turn, record):
        """Return attention over the sequence, (B, T, M)."""
        B, T, _ = x.shape
        H, G, D = self.config.H, self.config.G, self.config.D
        q = F.linear(x, self.query).view(B, T, H, D).transpose(1, 2)
        k = F.linear(x, self.key).view(B, T, G, D).transpose(1, 2)
        v = F.linear(x, self.value).view(B, T, G, D).transpose(1, 2)
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        if record is not None:
            record.append({"q": q, "k": k, "v": v})
        # Repeated heads, not enable_gqa: only the repeated form reaches the fused kernels in every PyTorch.
        k, v = (y.repeat_interleave(H // G, dim=1) for y in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(o.transpose(1, 2).reshape(B, T, H * D), self.output)


class Mamba(Layer):
    """A selective state-space layer: projections, short convolution, selective scan, gate."""

    def __init__(self, config):
        super().__init__(config)
        M, E, N, R, K = config.M, config.E, config.N, config.R, config.K
        self.input = nn.Parameter(torch.empty(2 * E, M))
        self.taps = nn.Parameter(torch.empty(E, K).uniform_(-1, 1) / math.sqrt(K))
        self.taps_bias = nn.Parameter(torch.zeros(E))
        self.select = nn.Parameter(torch.empty(R + 2 * N, E))
        self.delta = nn.Parameter(torch.empty(E, R).uniform_(-1, 1) / math.sqrt(R))
        # Step sizes start log-uniform between 0.001 and 0.1; the bias is the inverse of softplus.
        step = torch.exp(torch.rand(E) * math.log(100) + math.log(0.001))
        self.delta_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.a_log = nn.Parameter(torch.log(torch.arange(1, N + 1).float()).repeat(E, 1))
        self.d = nn.Parameter(torch.ones(E))
        self.output = nn.Parameter(torch.empty(M, E))

    def mix(self, x, turn, record):
        """Return the scan over the sequence, (B, T, M)."""
        R, N, K = self.config.R, self.config.N, self.config.K
        u, z = F.linear(x, self.input).chunk(2, dim=-1)
        padded = F.pad(u.transpose(1, 2), (K - 1, 0))
        u = F.silu(F.conv1d(padded, self.taps.unsqueeze(1).to(u.dtype), self.taps_bias.to(u.dtype), groups=u.shape[-1]))
        u = u.transpose(1, 2)
        delta, b, c = F.linear(u, self.select).split((R, N, N), dim=-1)
        delta, a = F.linear(delta, self.delta), -torch.exp(self.a_log.float())
        if record is not None:
            scan_inputs = {"u": u, "delta": delta, "a": a, "b": b, "c": c, "d": self.d, "z": z}
            record.append(scan_inputs | {"delta_bias": self.delta_bias})
        step = F.softplus(delta.float() + self.delta_bias)
        y = selective_scan(u.float(), step, a, b.float(), c.float()) + self.d * u
        return F.linear(y * F.silu(z.float()), self.output)


def rms_norm(x, weight, epsilon):
    """Return x over its root mean square along the last axis, times `weight`, in float32."""
    return F.rms_norm(x.float(), weight.shape, weight, epsilon)


def turns(T, config, device):
    """Return the cosines and sines (T, D/2) of the rotary angles: position times a pair's frequency."""
    frequency = config.rotary_base ** (-torch.arange(0, config.D, 2, device=device, dtype=torch.float64) / config.D)
    angle = torch.arange(T, device=device, dtype=torch.float64)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """Turn channel pairs (i, i + D/2) of x (B, H, T, D)."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
