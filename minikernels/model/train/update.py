"""One update of a decoder: a batch, its loss, the gradients, the optimiser's step.

A decoder as small as these keeps a GPU busy for less time than Python needs to launch its kernels one by one. So on a
GPU the layers are compiled, and a whole update is captured once in a CUDA graph for each length of window, and
replayed.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from minikernels.model.train.torch_model import apply

__all__ = ["Run", "Update", "logits_of"]


@dataclass(frozen=True)
class Run:
    """The choices of one training run.

    Parameters
    ----------
    steps, batch, length : int
        Updates, and the windows and their bytes that each sees.
    long_every : int
        Every so many steps the windows are four times as long and a quarter as many; 0 for never.
    rate, warmup, decay : float, int, float
        Peak learning rate, steps to reach it, weight decay of the matrices.
    dropout : float
        Share of each layer's output that is dropped.
    taught : float
        Share of each target that is a teacher's probabilities; the rest is the byte that stands in the text.
    validate_every, seed : int
        Steps between validations; seed of batches and dropout.
    """

    steps: int
    batch: int = 32
    length: int = 512
    long_every: int = 8
    rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.1
    dropout: float = 0.0
    taught: float = 0.0
    validate_every: int = 1000
    seed: int = 0


class Update:
    """What moves a decoder by one step at each call.

    Parameters
    ----------
    model : Decoder
        Its weights are updated in place.
    optimiser : Optimiser
        Of the model.
    text : ndarray of uint8
        What windows are taken from.
    run : Run
        The choices.
    teacher : Decoder, optional
        Whose probabilities are learnt from; needed where ``run.taught`` is not 0.
    captured : bool, optional
        Whether to compile and capture; by default on a GPU.
    """

    def __init__(self, model, optimiser, text, run, teacher=None, captured=None):
        self.model, self.optimiser, self.run = model, optimiser, run
        self.teacher = teacher.eval() if run.taught else None
        self.device = model.embedding.device
        self.text = torch.from_numpy(np.array(text)).to(self.device)
        self.captured = model.embedding.is_cuda if captured is None else captured
        self.through = _compiled() if self.captured else apply
        self.graphs = {}

    def __call__(self, step):
        """Make step number `step`; return the mean loss of its bytes, in nats, as a tensor.

        Batch, rate and dropout depend on the step alone: a resumed run is the same run.
        """
        run = self.run
        longer = 4 if run.long_every and step % run.long_every == 0 else 1
        length, batch = run.length * longer, max(1, run.batch // longer)
        rng = np.random.default_rng((run.seed, step))
        starts = torch.from_numpy(rng.integers(0, len(self.text) - length - 1, batch))
        self.optimiser.rate.fill_(rate(step, run))
        if run.dropout:
            torch.manual_seed(run.seed * 1_000_003 + step)
        if not self.captured:
            return self._update(starts.to(self.device), length)
        if length not in self.graphs:
            self.graphs[length] = self._capture(starts, length)
        graph, where, loss = self.graphs[length]
        where.copy_(starts)
        graph.replay()
        return loss

    def _update(self, starts, length):
        self.model.train()
        windows = self.text[starts[:, None] + torch.arange(length + 1, device=self.device)].long()
        loss, target = self._losses(windows)
        target.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        return loss.detach()

    def _losses(self, windows):
        """Return the mean loss of the bytes, and what is to become less."""
        read, following = windows[:, :-1], windows[:, 1:].flatten()
        logits = logits_of(self.model, read, self.through).flatten(0, 1)
        loss = F.cross_entropy(logits, following)
        if self.teacher is None:
            return loss, loss
        with torch.no_grad():
            taught = logits_of(self.teacher, read, self.through).flatten(0, 1).softmax(dim=-1)
        share = self.run.taught
        return loss, (1 - share) * loss + share * F.cross_entropy(logits, taught)

    def _capture(self, starts, length):
        """Return (graph, the tensor it reads the windows' starts from, the loss it writes); the weights stay."""
        where = starts.to(self.device)
        changed = [*self.model.parameters(), *self.optimiser.tensors()]
        before = [tensor.detach().clone() for tensor in changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, and lets libraries allocate what they want
            for _ in range(3):
                self._update(where, length)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self._update(where, length)
        with torch.no_grad():
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)
        return graph, where, loss


def _compiled():
    torch._dynamo.config.recompile_limit = 64  # a variant for each kind of layer, length of window, and decoder
    return torch.compile(apply, dynamic=False)


def logits_of(model, tokens, through=apply):
    """Return the logits (B, T, 256) of a decoder, float32; on a GPU its layers compute in bfloat16."""
    # A cast that is cached in one graph would be missing in the next.
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda, cache_enabled=False):
        return model(tokens, through=through).float()


def rate(step, run):
    """Return the learning rate: a linear rise, then a line down to 0 at the end."""
    if step < run.warmup:
        return run.rate * (step + 1) / run.warmup
    return run.rate * (run.steps - step) / max(1, run.steps - run.warmup)
