"""One request for u in two layouts: where the 32 lanes of a warp find their numbers."""

import numpy as np

from minikernels import catalog, simt
from minikernels.figures import new_figure, warp_lanes
from minikernels.gallery.look import panel
from minikernels.gallery.plate import Plate, times
from minikernels.gallery.text import activations
from minikernels.simt.trace import LOAD

TECHNIQUES = ("selective_scan",)
BESIDE = "Gu and Dao 2023 (Mamba): the hardware-aware state expansion"
RUNGS = ("v1_channel_major", "v2_token_major")
TOKENS, CHANNELS, ARRAY = 32, 64, "u"


def plate(sources):
    """Return the plate: the lanes and sectors of one recorded request of each rung."""
    technique = catalog.technique("selective_scan")
    arrays, origin = activations("hybrid", TOKENS, mamba_layer())
    inputs = technique.activations(arrays, "float32")
    inputs = {name: narrowed(name, x) for name, x in inputs.items()}
    seen = {name: request(technique, technique.rung(name), inputs) for name in RUNGS}
    first, second = RUNGS
    whole = {name: traffic.by_array[ARRAY] for name, (_, _, traffic) in seen.items()}
    each = {name: one.load_sectors / one.load_requests for name, one in whole.items()}
    caption = (
        f"The first load of {ARRAY} by a warp, 32 channels of one token, as recorded. In {first} a channel's tokens "
        f"lie side by side: the lanes are {TOKENS} numbers apart, and a request touches {each[first]:.0f} sectors of "
        f"32 bytes for 4 bytes of each. In {second} a token's channels do: {each[second]:.0f} sectors, every byte "
        f"used. Over the whole launch {first} moves {times(whole[first].load_sectors / whole[second].load_sectors)} "
        f"the sectors of {second} for this array.")
    alt = ("Two rows of 32 lanes, each lane joined to its 4 bytes. Above, every lane ends in a sector of its own; "
           f"below, all of them end in {each[second]:.0f} neighbouring, filled sectors.")
    provenance = (f"Traces of both rungs: B1 T{TOKENS} E{CHANNELS} N{inputs['a'].shape[1]} float32; from {origin}.")
    return Plate("The same numbers, eight times the sectors" if round(each[first] / each[second]) == 8 else
                 "The same numbers, in more sectors or fewer", lambda: draw(seen), caption, alt, provenance)


def mamba_layer():
    """Return the last Mamba layer of the hybrid."""
    from minikernels.gallery.text import loaded

    return max(i for i, kind in enumerate(loaded("hybrid").config.layers) if kind == "mamba")


def narrowed(name, x):
    """Return an input's first channels."""
    if name in ("u", "delta", "z"):
        return np.ascontiguousarray(x[:, :, :CHANNELS])
    return np.ascontiguousarray(x[:CHANNELS]) if name in ("a", "d", "delta_bias") else x


def request(technique, rung, inputs):
    """Return (indices of 32 lanes, bytes of a number, Traffic) of the first load of the array by the first warp."""
    with simt.record(), simt.collect() as launches:
        technique.run(rung, inputs)
    for launch in launches:
        trace, columns = launch.trace, launch.trace.columns
        for access in range(len(columns["access_array"])):
            info = trace.arrays[columns["access_array"][access]]
            if info.name == ARRAY and columns["access_op"][access] == LOAD:
                part = slice(columns["access_start"][access], columns["access_start"][access + 1])
                lanes, index = columns["pool_lane"][part], columns["pool_index"][part]
                found = [int(index[lanes == lane][0]) for lane in range(32)]
                return found, np.dtype(info.dtype).itemsize, launch.traffic
    raise LookupError(f"{rung.name} loads no {ARRAY}")


def draw(seen):
    """Draw one request above the other."""
    figure = new_figure(8.6, 4.4)
    for axes, (name, (indices, itemsize, _)) in zip(figure.subplots(2, 1), seen.items()):
        warp_lanes(indices, itemsize, axes=axes)
        panel(axes, name)
        axes.annotate("lanes", (-0.3, 3.25), ha="right", va="center", fontsize=8.5, annotation_clip=False)
        axes.annotate("HBM", (-0.3, 0.9), ha="right", va="center", fontsize=8.5, annotation_clip=False)
    return figure
