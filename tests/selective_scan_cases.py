"""The sizes that every test of selective_scan runs at: 1, primes, a chunk less and more one, what may be left out."""

import numpy as np

CASES = [  # B, T, E, N, what is left out
    (1, 1, 1, 1, ""),
    (2, 37, 24, 16, ""),
    (1, 32, 8, 4, "d z delta_bias initial_state softplus"),  # a whole chunk, a whole block of channels
    (3, 33, 41, 5, "z"),
    (1, 31, 130, 2, "d initial_state"),  # a second block of threads
    (2, 65, 7, 16, "delta_bias"),
    (1, 1, 40, 3, "initial_state"),
    (1, 129, 9, 1, "softplus"),
    (1, 5, 3, 33, "z d"),
    (2, 64, 33, 8, "initial_state z"),
]


def label(case):
    """Return ``B2-T37-E24-N16`` and what is left out."""
    *sizes, left_out = case
    return "-".join([*map("{}{}".format, "BTEN", sizes), *(f"no-{name}" for name in left_out.split())])


def made(case, dtype="float32", seed=0):
    """Return the keyword arguments of scan, ``delta_softplus`` among them; step sizes are positive where it is off."""
    B, T, E, N, left_out = case
    rng = np.random.default_rng(seed)
    u, delta, z = (rng.standard_normal((B, T, E)) for _ in range(3))
    b, c = (rng.standard_normal((B, T, N)) for _ in range(2))
    given = {
        "u": u, "delta": delta, "a": -np.exp(rng.uniform(-1, 3, (E, N))), "b": b, "c": c, "d": rng.standard_normal(E),
        "z": z, "delta_bias": rng.uniform(-6, -1, E), "initial_state": rng.standard_normal((B, E, N)),
    }
    softplus = "softplus" not in left_out.split()
    if not softplus:
        given |= {"delta": 0.1 * np.abs(delta), "delta_bias": np.abs(given["delta_bias"]) / 100}
    typed = {name: x.astype(dtype if name in ("u", "delta", "b", "c", "z") else "float32") for name, x in given.items()}
    return {**typed, **dict.fromkeys(set(left_out.split()) & set(given)), "delta_softplus": softplus}


def right(verdicts):
    """Fail with the oracle's words unless every verdict passed."""
    wrong = [verdict.message for verdict in verdicts.values() if not verdict.passed]
    assert not wrong, "\n".join(wrong)
