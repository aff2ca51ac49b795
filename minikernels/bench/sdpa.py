"""PyTorch's softmax attention as a production kernel to be timed beside: one entry a backend."""

import warnings
from functools import partial
from importlib import import_module

from minikernels.bench.suite import Entry

__all__ = ["PEERS", "peers", "scaled_dot_product_attention"]

PEERS = {"SDPA flash": "FLASH_ATTENTION", "SDPA efficient": "EFFICIENT_ATTENTION", "SDPA cuDNN": "CUDNN_ATTENTION",
         "SDPA math": "MATH"}
SPOKEN = {"FLASH_ATTENTION": "Flash", "EFFICIENT_ATTENTION": "Memory efficient", "CUDNN_ATTENTION": "cuDNN"}  # by torch


def peers(make, there):
    """Return an Entry for each backend of torch's attention; ``make(sdpa, q, k, v)`` makes its function."""
    try:
        torch = import_module("torch")  # a peer, not a dependency
    except ImportError:
        return [Entry("peer", name, None, "torch is not installed") for name in PEERS]
    tensors = [torch.from_dlpack(there[name]) for name in "qkv"]
    entries = []
    for name, backend in PEERS.items():
        sdpa = partial(scaled_dot_product_attention, torch, backend)
        try:
            entries.append(Entry("peer", name, make(sdpa, *tensors)))
        except RuntimeError as error:  # this backend does not take the dtype, the shape or this GPU
            entries.append(Entry("peer", name, None, str(error).strip().splitlines()[0]))
    return entries


def scaled_dot_product_attention(torch, backend, q, k, v, causal):
    """Return torch's attention by one backend alone; RuntimeError with torch's reason where it cannot run it."""
    kernels, shared = torch.nn.attention, q.shape[1] != k.shape[1]
    with kernels.sdpa_kernel(getattr(kernels.SDPBackend, backend)), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=shared)
        except RuntimeError as error:
            raise RuntimeError(why(backend, [str(warning.message) for warning in said]) or str(error)) from error


def why(backend, said):
    """Return torch's reason not to use a backend: the warning after "... not used because:" of that backend."""
    name = SPOKEN.get(backend)
    for heading, reason in zip(said, said[1:], strict=False):
        if name and heading.startswith(name) and "not used because" in heading:
            return reason.split(" (Triggered")[0].strip()
    return ""
