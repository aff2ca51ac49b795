"""SPADE's point on a toy: local attention never sees what one state-space layer below it remembers.

The task is to say at every token which symbol stood `distance` tokens before. A local attention layer computes some
function of the last `window` tokens; SPADE [1]_ puts a state-space branch beside it, in the bottom layer alone: a
diagonal linear recurrence, computed as a long convolution, which local layers above then build on. Here nothing but a
linear readout is fitted, by least squares; the state-space branch is S4D-Lin as it is initialised [2]_, and what a
local layer could know is given to the readout whole: every token of the window.

References
----------
.. [1] Zuo, Liu, Jiao, Charles, Manavoglu, Zhao, Gao, Efficient Long Sequence Modeling via State Space Augmented
   Transformer, arXiv:2212.08136.
.. [2] Gu, Gupta, Goel, Ré, On the Parameterization and Initialization of Diagonal State Space Models, arXiv:2206.11893.
"""

import numpy as np

__all__ = ["compare", "convolve", "copy_from_far", "decays", "recur"]

RIDGE = 1e-6  # keeps the least squares solvable where features depend on one another


def decays(N, step):
    """Return S4D-Lin's N decays of one step, exp(step (-1/2 + i pi n)), complex128."""
    return np.exp(step * (-0.5 + 1j * np.pi * np.arange(N)))


def recur(x, decay):
    """Return the states ``h_t = decay h_{t-1} + x_t`` of x (T, V): (T, V, N), one token after another."""
    h, states = np.zeros((x.shape[1], len(decay)), complex), []
    for row in x:
        h = decay * h + row[:, None]
        states.append(h)
    return np.array(states).reshape(*x.shape, len(decay))


def convolve(x, decay):
    """Return the same states by a convolution of x with ``decay ** t``, computed by FFT: no token waits for another."""
    T = len(x)
    kernel = decay ** np.arange(T)[:, None]  # (T, N)
    size = max(1, 2 * T)  # of a linear convolution, so that its end does not come round to its beginning
    product = np.fft.fft(x, size, axis=0)[:, :, None] * np.fft.fft(kernel, size, axis=0)[:, None]
    return np.fft.ifft(product, axis=0)[:T]


def copy_from_far(T, V, seed=0):
    """Return T random symbols out of V, one-hot: (T, V), float64."""
    return np.eye(V)[np.random.default_rng(seed).integers(0, V, T)]


def compare(distance=100, window=32, N=128, T=1200, V=8):
    """Return {branch: share of symbols named rightly} for local attention, a state-space layer, and both.

    Parameters
    ----------
    distance : int
        How many tokens before the present one the symbol stands.
    window : int
        Tokens that local attention sees, the present one included.
    N : int
        States of the state-space layer; they repeat after 2 N tokens, so N of at least `distance` can tell it apart.
    T : int
        Tokens, the first half of them to fit the readout.
    V : int
        Symbols; guessing names one in V.
    """
    x = copy_from_far(T, V)
    states = convolve(x, decays(N, 1 / N))
    ssm = np.concatenate((states.real, states.imag), axis=-1)
    local = np.stack([np.roll(x, i, axis=0) for i in range(window)], axis=-1)
    target = np.roll(x, distance, axis=0)
    seen = slice(max(distance, window), None)  # what was rolled in from the end is left out
    branches = {"local attention": local, "state-space layer": ssm, "both": np.concatenate((ssm, local), axis=-1)}
    return {name: named_rightly(f[seen], target[seen]) for name, f in branches.items()}


def named_rightly(features, target):
    """Return the share of symbols that a linear readout names, fitted on the first half and tried on the second.

    The readout's weights are the same for every symbol: features are (T, V, F), the target (T, V).
    """
    half, F = len(target) // 2, features.shape[-1]
    x, y = features[:half].reshape(-1, F), target[:half].ravel()
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(F), x.T @ y)
    return float(np.mean((features[half:] @ weights).argmax(axis=1) == target[half:].argmax(axis=1)))
