"""The sizes and gates that every test of linear_attention runs at: 1, primes, a chunk less and more one, odd widths."""

import numpy as np

from minikernels.linear_attention import slopes

CASES = [  # B, H, T, D, gates, initial state
    (1, 1, 1, 1, None, False),
    (2, 3, 37, 16, None, True),
    (1, 2, 70, 33, "random", True),
    (3, 1, 15, 64, None, False),
    (1, 4, 16, 7, "mixed", True),  # whole chunks; gates of -20 and 0
    (1, 2, 50, 24, "strong", True),  # -20 at every step
    (2, 1, 33, 8, "ones", False),  # gates of 0 with decays of 1: nothing fades
    (1, 1, 20, 128, "random", True),
    (1, 3, 65, 40, None, True),
    (1, 1, 1, 64, "strong", True),
]


def label(case):
    """Return ``B2-H3-T37-D16-random-state``."""
    *sizes, gates, begun = case
    words = [*map("{}{}".format, "BHTD", sizes), *([gates] if gates else []), *(["state"] if begun else [])]
    return "-".join(words)


def made(case, dtype="float32", seed=0):
    """Return q, k, v, decay, gate, scale and initial state of a case, as the rungs' functions take them."""
    B, H, T, D, gates, begun = case
    rng = np.random.default_rng(seed)
    shape = B, H, T, D
    q, k, v = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    decay = np.ones(H, np.float32) if gates == "ones" else np.exp(-slopes(H)) if H else np.ones(0, np.float32)
    state = rng.standard_normal((B, H, D, D)).astype("float32") if begun else None
    return q, k, v, decay, gate(rng, shape, gates, dtype), 0.7, state


def gate(rng, shape, gates, dtype):
    """Return log-gates: none, all 0, all -20, half of them -20 and half 0, or from near 0 to -20."""
    if gates == "random":
        return (-20 * rng.random(shape) ** 3).astype(dtype)
    made = {"ones": lambda: np.zeros(shape), "strong": lambda: np.full(shape, -20.0),
            "mixed": lambda: np.where(rng.random(shape) < 0.5, -20.0, 0.0)}
    return made[gates]().astype(dtype) if gates else None


def options(inputs):
    """Return the keyword arguments of the public function for what `made` returned."""
    return dict(zip(("decay", "gate", "scale", "initial_state"), inputs[3:], strict=True))


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
