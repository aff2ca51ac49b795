"""The caches that every test of kv_compression decodes over: ragged groups, windows, mixed layouts, G from 1 to H."""

from dataclasses import dataclass

import numpy as np

from minikernels import kv_compression


@dataclass(frozen=True)
class Case:
    """Sizes, lengths (None: all S), and how keys and values are quantised."""

    B: int
    H: int
    G: int
    S: int
    D: int
    lengths: tuple | None = None
    bits: int = 4
    group: int = 64
    window: int = 0
    v_bits: int | None = None  # the values' own, where they differ from the keys'
    v_group: int | None = None
    axes: tuple = ("channel", "token")

    def __str__(self):
        sizes = "-".join(f"{letter}{getattr(self, letter)}" for letter in "BHGSD")
        lengths = "" if self.lengths is None else "-" + ",".join(map(str, self.lengths))
        bits = f"int{self.bits}" + (f",{self.v_bits}" if self.v_bits else "")
        group = f"group{self.group}" + (f",{self.v_group}" if self.v_group else "")
        window = f"-window{self.window}" if self.window else ""
        axes = "" if self.axes == ("channel", "token") else f"-{'-'.join(self.axes)}"
        return f"{sizes}{lengths}-{bits}-{group}{window}{axes}"


CASES = [
    Case(1, 1, 1, 1, 1),  # nothing but a residual window
    Case(2, 8, 2, 150, 64, (150, 33)),
    Case(3, 12, 1, 137, 33, (0, 64, 137), 8, 16),  # an odd D; no key; two blocks of heads, the last of them ragged
    Case(1, 32, 1, 70, 128, None, 4, 32),  # H / G = 32
    Case(2, 6, 6, 33, 32, (32, 33), 8, 8, 5),  # multi-head, a window that is never rounded
    Case(1, 6, 3, 129, 40, (127,), 4, 64),
    Case(4, 4, 1, 128, 32, (0, 64, 65, 128), 8, 64),  # no residual window
    Case(1, 3, 1, 50, 7, None, 4, 3),  # groups that nothing divides
    Case(2, 2, 1, 64, 100, (0, 0)),  # no key at all
    Case(1, 4, 2, 100, 32, None, 4, 16, v_bits=8, v_group=24),  # boundaries at 96 and 96, by unlike groups
    Case(2, 4, 2, 100, 64, (100, 90), 8, 32, v_bits=4, v_group=20),  # boundaries at 96 and 100
]
MIXED = [  # axes that v1 takes, and the folding rungs do not
    Case(1, 4, 2, 70, 40, None, 4, 16, axes=("token", "token")),
    Case(2, 2, 1, 65, 33, (65, 40), 8, 32, axes=("channel", "channel")),
    Case(1, 3, 1, 40, 16, None, 4, 8, axes=("token", "channel")),
]


def made(case, dtype="float32", seed=0):
    """Return q, keys' cache, values' cache and lengths of a case; some channels of the keys are larger than others."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape).astype(dtype)
               for shape in ((case.B, case.H, case.D), *2 * ((case.B, case.G, case.S, case.D),)))
    k += np.asarray(3 * rng.standard_normal(case.D), dtype)
    k_cache = kv_compression.quantize(k, bits=case.bits, axis=case.axes[0], group=case.group, window=case.window)
    v_cache = kv_compression.quantize(v, bits=case.v_bits or case.bits, axis=case.axes[1],
                                      group=case.v_group or case.group, window=case.window)
    return q, k_cache, v_cache, np.asarray([case.S] * case.B if case.lengths is None else case.lengths, np.int64)


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
