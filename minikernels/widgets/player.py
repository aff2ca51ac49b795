"""TilePlayer: watch a recorded launch move tiles from HBM to SRAM to registers, step by step."""

import traitlets

from minikernels.figures import tile_step
from minikernels.widgets.packing import pack
from minikernels.widgets.page import Widget, front_end
from minikernels.widgets.recording import recording

__all__ = ["TilePlayer"]

SPEEDS = (1, 4, 16, 60, 250, 1000)  # steps a second


class TilePlayer(Widget):
    """Play, pause, step and scrub through one recorded launch, or two side by side on one clock.

    Parameters
    ----------
    trace : minikernels.simt.trace.Trace
        What `simt.record` kept.
    other : Trace, optional
        A second launch to play beside it; both take one statement a tick, and the shorter one waits at its end.
    step, block, speed : int, optional
        Where to begin, which recorded block to show (its place in ``trace.blocks``), steps a second.

    Attributes
    ----------
    step : int
        The statement that ran last, from 0; arrays are shown as `Trace.contents` has them after it. Synced both ways,
        so ``player.observe(f, "step")`` hears a drag in the browser and ``player.step = 40`` moves the browser.
    playing : bool
    speed : int
        Steps a second.
    block : int
        Index into ``trace.blocks``.
    last : int
        The last step there is (read only).

    Raises
    ------
    TypeError, ValueError
        If a trace is not one or holds no step.
    """

    _esm = front_end("shared.js", "playback.js", "tiles.js", "panels.js", "player.js")
    _css = front_end("shared.css", "player.css")

    step = traitlets.Int(0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Int(16).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    last = traitlets.Int(0, read_only=True)

    def __init__(self, trace, other=None, *, step=0, block=0, speed=16):
        self.traces = [trace] if other is None else [trace, other]
        packed = [recording(t) for t in self.traces]
        header = {"traces": [h for h, _, _ in packed], "speeds": SPEEDS}
        arrays, exact = {}, set()
        for number, (_, columns, whole) in enumerate(packed):
            arrays |= {f"{number}/{name}": array for name, array in columns.items()}
            exact |= {f"{number}/{name}" for name in whole}
        super().__init__(_packed=pack(header, arrays, exact=exact))
        self.set_trait("last", max(t.steps for t in self.traces) - 1)
        self.block, self.step, self.speed = int(block), int(step), int(speed)

    @traitlets.validate("step")
    def _inside(self, proposal):
        return min(max(proposal.value, 0), max(t.steps for t in self.traces) - 1)

    @traitlets.validate("block")
    def _recorded(self, proposal):
        blocks = min(len(t.blocks) for t in self.traces)
        if not 0 <= proposal.value < blocks:
            raise traitlets.TraitError(f"block {proposal.value} was not recorded; there are {blocks}: "
                                       f"{self.traces[0].blocks[:blocks]}")
        return proposal.value

    @traitlets.validate("speed")
    def _positive(self, proposal):
        if proposal.value < 1:
            raise traitlets.TraitError(f"speed is steps a second, 1 or more, and not {proposal.value}")
        return proposal.value

    @property
    def title(self):
        """The kernels' names and the step."""
        return f"TilePlayer: {' beside '.join(t.kernel for t in self.traces)}"

    def picture(self):
        """Return a matplotlib figure of the step shown now."""
        return tile_step(self.traces, self.step, block=self.block)
