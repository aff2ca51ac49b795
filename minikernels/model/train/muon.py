"""The optimiser: Muon [1]_ for the layers' projections, AdamW for everything else.

References
----------
.. [1] Jordan et al., Muon: an optimizer for hidden layers, 2024; scaled as in Liu et al., arXiv:2502.16982.
"""

import torch

__all__ = ["Optimiser", "orthogonal"]

PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down", "input", "select")


class Optimiser:
    """Update a decoder's weights from their gradients.

    Parameters
    ----------
    model : Decoder
        Its parameters are updated in place.
    rate, decay : float
        Learning rate of AdamW at the start, weight decay of the matrices.
    muon : bool
        Whether projections are updated by Muon.
    momentum : float
        Of Muon.
    """

    def __init__(self, model, rate, decay, muon, momentum=0.95):
        named = list(model.named_parameters())
        projections = [p for name, p in named if muon and name.rsplit(".", 1)[-1] in PROJECTIONS]
        rest = [(name, p) for name, p in named if all(p is not projection for projection in projections)]
        # The scan's rates do not decay: a_log = 0 is no neutral rate.
        matrices = [p for name, p in rest if p.ndim == 2 and not name.endswith("a_log")]
        others = [p for name, p in rest if p.ndim < 2 or name.endswith("a_log")]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=model.embedding.is_cuda)
        self.decay, self.momentum = decay, momentum
        # Equal shapes together: one batched orthogonalisation each.
        shapes = {}
        for p in projections:
            shapes.setdefault(tuple(p.shape), []).append(p)
        self.stacks = list(shapes.values())
        self.moments = [torch.zeros(len(stack), *stack[0].shape, device=stack[0].device) for stack in self.stacks]

    @torch.no_grad()
    def step(self, rate):
        """Update every weight at a learning rate, and drop the gradients."""
        for stack, moment in zip(self.stacks, self.moments, strict=True):
            gradient = torch.stack([p.grad for p in stack])
            moment.lerp_(gradient, 1 - self.momentum)
            update = orthogonal(gradient.lerp(moment, self.momentum))
            torch._foreach_mul_(stack, 1 - rate * self.decay)
            # 0.2 sqrt(the longer side) gives an orthogonal update the size of AdamW's, so that both share one rate.
            torch._foreach_add_(stack, list(update.unbind()), alpha=-rate * 0.2 * max(stack[0].shape) ** 0.5)
            for p in stack:
                p.grad = None
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def state_dict(self):
        """Return what a resumed run needs."""
        return {"adam": self.adam.state_dict(), "moments": self.moments}

    def load_state_dict(self, state):
        """Take what ``state_dict`` returned."""
        self.adam.load_state_dict(state["adam"])
        for moment, saved in zip(self.moments, state["moments"], strict=True):
            moment.copy_(saved)


def orthogonal(x, iterations=5):
    """Return matrices (count, rows, columns) with the singular vectors of x and singular values near one.

    A quintic Newton-Schulz iteration, whose coefficients [1]_ chose for speed: values end between about 0.7 and 1.2.
    """
    tall = x.shape[1] > x.shape[2]
    y = (x.mT if tall else x).to(torch.bfloat16 if x.is_cuda else torch.float32)
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = y @ y.mT
        y = 3.4445 * y + (-4.7750 * gram + 2.0315 * gram @ gram) @ y
    return (y.mT if tall else y).to(x.dtype)
