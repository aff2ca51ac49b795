"""Key/value caches in fewer bytes: 8 and 4 bits, tokens merged (DMC), tokens evicted; and decoding over them."""

from minikernels.kv_compression import dmc, evict
from minikernels.kv_compression.api import decode
from minikernels.kv_compression.cache import QuantizedCache, quantize

__all__ = ["QuantizedCache", "decode", "dmc", "evict", "quantize"]
