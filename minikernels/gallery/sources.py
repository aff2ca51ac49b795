"""What figures are drawn from: everything recorded, handed in as it was read, and questions to it.

Nothing here names a file: `minikernels.commands.figures` reads the recordings, so that a figure can be drawn from any
others. A question picks the GPU that answers most of it, and raises `Missing` where none does.
"""

from dataclasses import dataclass, field

from minikernels import catalog

__all__ = ["Missing", "Sources", "fastest", "place", "spelled"]


class Missing(Exception):
    """A figure's data is not recorded; the message says what is lacking."""


@dataclass(frozen=True)
class Sources:
    """All that was recorded.

    Attributes
    ----------
    recordings : tuple
        One a GPU, with ``gpu``, ``driver``, ``date`` and ``results``; a result has ``technique``, ``name``,
        ``is_peer``, ``case`` (sizes, dtype, causal, variant), ``ms``, ``flop`` and ``bytes``.
    roofs : tuple of dict
        One a GPU: ``name``, ``source``, ``bandwidth`` and ``compute``.
    counters : dict
        Technique -> its ``provenance`` and ``cases``, as a profiler counted them.
    documents : dict
        Name -> what was measured on the tiny model: ``compression``, ``conversions``, ``gate``.
    """

    recordings: tuple = ()
    roofs: tuple = ()
    counters: dict = field(default_factory=dict)
    documents: dict = field(default_factory=dict)

    def results(self, technique, what, wanted):
        """Return (recording, results) of the GPU with the most results of one technique that are `wanted`.

        Parameters
        ----------
        technique : str
        what : str
            What is asked for, in words, for the error.
        wanted : callable
            ``wanted(result) -> bool``.

        Raises
        ------
        Missing
            If no GPU has any.
        """
        names = [rung.name for rung in catalog.technique(technique).rungs]
        found = [(recording, [r for r in recording.results if r.technique == technique and wanted(r)
                              and (r.is_peer or r.name in names)]) for recording in self.recordings]
        recording, results = max(found, key=lambda pair: (len(pair[1]), pair[0].date), default=(None, []))
        if not results:
            raise Missing(f"no GPU has recorded {what}; `minikernels bench {technique}` does")
        order = {name: i for i, name in enumerate(names)}
        return recording, sorted(results, key=lambda r: (r.is_peer, order.get(r.name, 0)))

    def ladder(self, technique, dtype="float16"):
        """Return (recording, results) of the case in which most rungs of a technique were timed, on one GPU."""
        def plain(result):
            return result.case[1] == dtype

        recording, results = self.results(technique, f"the ladder of {technique} in {dtype}", plain)
        case = recording.case(technique, dtype)
        return recording, [result for result in results if result.case == case]

    def roof(self, gpu):
        """Return the ceilings of a GPU."""
        for machine in self.roofs:
            if machine["name"] == gpu:
                return machine
        raise Missing(f"no ceilings of {gpu} are recorded; `minikernels bench --roofs` measures them")

    def bandwidth(self, gpu):
        """Return the highest bandwidth that was measured on a GPU, in GB/s, or None."""
        found = [one["gb_per_s"] for machine in self.roofs if machine["name"] == gpu for one in machine["bandwidth"]]
        return max(found, default=None)

    def document(self, name):
        """Return what was measured on the tiny model under a name."""
        if name not in self.documents:
            raise Missing(f"{name} is not recorded")
        return self.documents[name]


def fastest(results):
    """Return the result with the least time, or None."""
    return min(results, key=lambda result: result.ms, default=None)


def spelled(case, without=()):
    """Return a case as a reader writes it, without the sizes that a figure varies: ``B4 H16 D64 float16 causal``."""
    sizes, dtype, causal, variant = case
    words = [*(f"{letter}{size}" for letter, size in sizes if letter not in without), dtype, "causal" * causal]
    words += [] if "variant" in without else [variant]
    return " ".join(word for word in words if word)


def place(recording, results):
    """Return where and when results were measured: ``NVIDIA H200, driver 580.159.04, 2026-11-22``."""
    return f"{recording.gpu}, driver {recording.driver}, {recording.dates(results)}"
