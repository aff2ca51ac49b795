"""The optimiser: Muon [1]_ for the layers' projections, AdamW for everything else.

References
----------
.. [1] Jordan et al., Muon: an optimizer for hidden layers, 2024; scaled as in Liu et al., arXiv:2502.16982.
"""

import torch

__all__ = ["Optimiser", "orthogonal"]

PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down", "input", "select")


class Optimiser:
    """Update a decoder's weights from their gradients, by operations that a CUDA graph can hold.

    Parameters
    ----------
    model : Decoder
        Its parameters are updated in place.
    decay : float
        Weight decay of the matrices.
    momentum : float
        Of Muon.

    Attributes
    ----------
    rate : tensor of shape ()
        Learning rate of the next step; fill it before.
    """

    def __init__(self, model, decay, momentum=0.95):
        named, cuda = list(model.named_parameters()), model.embedding.is_cuda
        projections = [p for name, p in named if name.rsplit(".", 1)[-1] in PROJECTIONS]
        rest = [(name, p) for name, p in named if all(p is not projection for projection in projections)]
        # The scan's rates do not decay: a_log = 0 is no neutral rate.
        matrices = [p for name, p in rest if p.ndim == 2 and not name.endswith("a_log")]
        others = [p for name, p in rest if p.ndim < 2 or name.endswith("a_log")]
        self.rate = torch.zeros((), device=model.embedding.device)
        self.adam = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.rate, betas=(0.9, 0.95), fused=cuda, foreach=False, capturable=cuda,
        )  # fmt: skip
        self._make_state(matrices + others)
        self.decay, self.momentum = decay, momentum
        # Equal shapes together, lying or standing: one batched orthogonalisation each.
        shapes = {}
        for p in projections:
            shapes.setdefault((min(p.shape), max(p.shape)), []).append(p)
        self.stacks = list(shapes.values())
        self.moments = [torch.zeros(len(stack), *shape, device=self.rate.device) for shape, stack in shapes.items()]

    def _make_state(self, parameters):
        """Make AdamW's moments now, by a step of rate 0: a graph must find them there."""
        for p in parameters:
            p.grad = torch.zeros_like(p)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        for state in self.adam.state.values():
            state["step"].zero_()

    @torch.no_grad()
    def step(self):
        """Update every weight at the current rate, and drop the gradients."""
        for stack, moment in zip(self.stacks, self.moments, strict=True):
            gradient = torch.stack([_lying(p.grad) for p in stack])
            moment.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(moment, self.momentum))
            # 0.2 sqrt(the longer side) gives an orthogonal update the size of AdamW's, so that both share one rate.
            update *= -0.2 * max(stack[0].shape) ** 0.5 * self.rate
            torch._foreach_mul_(stack, 1 - self.rate * self.decay)
            torch._foreach_add_(stack, [u if _lies(p) else u.mT for p, u in zip(stack, update, strict=True)])
            for p in stack:
                p.grad = None
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def tensors(self):
        """Return every tensor that a step changes, but for the weights."""
        states = self.adam.state.values()
        return [*self.moments, *(value for state in states for value in state.values() if torch.is_tensor(value))]


def _lies(p):
    return p.shape[0] <= p.shape[1]


def _lying(p):
    return p if _lies(p) else p.mT


def orthogonal(x, iterations=5):
    """Return matrices (count, rows, columns) with the singular vectors of x and singular values near one.

    A quintic Newton-Schulz iteration, whose coefficients [1]_ chose for speed: values end between about 0.7 and 1.2.
    There must be no more rows than columns.
    """
    y = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), y, beta=3.4445)
    return y.to(x.dtype)
