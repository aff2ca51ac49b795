"""StateView: the D x D state of linear attention token by token, and how long it remembers."""

import numpy as np
import traitlets

from minikernels.figures import state_evolution
from minikernels.widgets.data import checked, size
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end

__all__ = ["StateView"]

LONGEST, WIDEST = 1024, 128


class StateView(Widget):
    """S_t = decay S_{t-1} + k_t v_t^T and o_t = q_t S_t of one head, with a decay that can be changed.

    Parameters
    ----------
    q, k, v : array_like of shape (T, D)
        Of one head; at most 1,024 tokens, 128 wide.
    decay : float
        From 0 to 1, the factor of the state at every token.
    gate : array_like of shape (T, D), optional
        Log-gates, 0 or less: each row of the state has a factor of its own at every token, and `decay` stays 1.
    step : int, optional
        The token; the last by default.
    itemsize : int
        Bytes of an element of a cache that would keep k and v instead; the state is float32.

    Attributes
    ----------
    step, decay : int, float
        Synced both ways.
    state : ndarray of shape (D, D)
        After the token at `step`.
    norms : ndarray of shape (T,)
        Of the state after each token.
    memory : ndarray of shape (step + 1,)
        How much of each token is left in the state: the product of the factors since, mean over the rows.

    Raises
    ------
    ShapeError, DtypeError, ValueError
        If the arrays do not fit one another, or a decay or gate would make the state grow.
    """

    _esm = front_end("shared.js", "frame.js", "state_model.js", "state.js")
    _css = front_end("shared.css", "frame.css", "state.css")

    step = traitlets.Int(0).tag(sync=True)
    decay = traitlets.Float(1.0).tag(sync=True)

    def __init__(self, q, k, v, *, decay=1.0, gate=None, step=None, itemsize=2):
        self.q = checked("q", q, "TD", "f").astype(np.float64)
        self.k, self.v = (checked(name, x, "TD", "f", q=(self.q, "TD")).astype(np.float64)
                          for name, x in (("k", k), ("v", v)))
        T, D = self.q.shape
        size("T", T, 1, LONGEST), size("D", D, 1, WIDEST)
        if gate is not None:
            gate = checked("gate", gate, "TD", "f", q=(self.q, "TD")).astype(np.float64)
            if (gate > 0).any():
                raise ValueError("gate holds a log-gate above 0: the state would grow without bound")
            if decay != 1:
                raise ValueError(f"decay={decay} and a gate are two factors of one state; give one of them")
        self.gate, self.itemsize = gate, size("itemsize", itemsize, 1, 8)
        arrays = {"q": self.q, "k": self.k, "v": self.v, **({} if gate is None else {"gate": gate})}
        header = {"T": T, "D": D, "itemsize": self.itemsize, "gated": gate is not None}
        super().__init__(_packed=pack(header, {name: x.astype(np.float32) for name, x in arrays.items()},
                                      exact=set(arrays)))
        self.decay, self.step = float(decay), T - 1 if step is None else int(step)

    @traitlets.validate("step")
    def _inside(self, proposal):
        return min(max(proposal.value, 0), len(self.q) - 1)

    @traitlets.validate("decay")
    def _fading(self, proposal):
        if not 0 <= proposal.value <= 1:
            raise traitlets.TraitError(f"decay is from 0 to 1, and not {proposal.value}")
        return proposal.value if self.gate is None else 1.0

    @property
    def factors(self):
        """The factor of each row of the state at each token, (T, D)."""
        return np.full(self.q.shape, self.decay) if self.gate is None else np.exp(self.gate)

    def _states(self):
        state = np.zeros((self.q.shape[1],) * 2)
        for factor, k, v in zip(self.factors, self.k, self.v, strict=True):
            state = factor[:, None] * state + np.outer(k, v)
            yield state

    @property
    def state(self):
        """The state after the token at `step`."""
        return next(state for t, state in enumerate(self._states()) if t == self.step)

    @property
    def norms(self):
        """The Frobenius norm of the state after each token."""
        return np.array([np.linalg.norm(state) for state in self._states()])

    @property
    def memory(self):
        """How much of each token up to `step` is left in the state."""
        later = self.factors[1:self.step + 1][::-1]
        since = np.cumprod(np.concatenate([np.ones((1, self.q.shape[1])), later]), axis=0)
        return since[::-1].mean(axis=1)

    @property
    def title(self):
        """The token, and what the state holds against a cache."""
        T, D = self.q.shape
        return (f"StateView: token {self.step} of {T - 1}, a state of {4 * D * D:,} B where a cache holds "
                f"{2 * (self.step + 1) * D * self.itemsize:,} B")

    def picture(self):
        """Return a matplotlib figure of the state, its norm over time, and what it remembers."""
        return state_evolution(self.state, self.norms, self.memory, self.title.split(": ")[1])
