"""Predicted, counted and hardware-counted bytes on one line."""

import numpy as np

from minikernels import catalog, simt
from minikernels.core.sectors import SECTOR
from minikernels.core.traffic import Traffic
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import GREY, SERIES, in_bytes, panel
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.sources import Missing

TECHNIQUES = tuple(catalog.names())
BESIDE = "none; what the course rests on"
LARGEST = 2_000_000  # sectors up to which a launch is repeated on the SIMT machine here
ALIKE = "float32"  # the precision in which it is: the other counts as well, and takes as long


def plate(sources):
    """Return the plate: each profiled case's sectors, by the GPU, by closed form and by the SIMT machine."""
    points, gpus, lacking = {}, set(), []
    for name in catalog.names():
        technique = catalog.technique(name)
        rungs = {rung.name: rung for rung in technique.rungs}
        for case in sources.counters.get(name, {"cases": []})["cases"]:
            if case["rung"] in rungs:
                points.setdefault(name, []).append(counted(technique, rungs[case["rung"]], case))
        if name in points:
            about = sources.counters[name]["provenance"]
            tool = about["ncu"].split(" (")[0].replace("Version", "ncu")
            gpus.add(f"{about['gpu']}, driver {about['driver']}, {tool}")
        else:
            lacking.append(name)
    if not points:
        raise Missing("no counters are recorded; `minikernels bench --counters` reads them")
    every = [point for found in points.values() for point in found]
    exact = sum(hardware == form for hardware, form, _ in every)
    off = max(abs(form / hardware - 1) for hardware, form, _ in every)
    ran = [(hardware, machine) for hardware, _, machine in every if machine is not None]
    same = sum(hardware == machine for hardware, machine in ran)
    missing = f" Not profiled: {joined(lacking)}." if lacking else ""
    caption = (
        f"{len(every)} launches of {joined(points)}, each as a GPU's own counters saw it. Of the closed forms {exact} "
        f"are exact to the sector, and the worst is {percent(off)} off; of the {len(ran)} numba kernels that were run "
        f"here on the SIMT machine {same} are. Where they differ the compiler did other than the source says, or a "
        f"copy was asynchronous, which the counters bill at nine sectors for eight.{missing}")
    alt = ("Above, predicted against hardware-counted bytes on logarithmic axes: points along the diagonal. "
           f"Below, the difference in per cent: {exact} of {len(every)} points at zero, none further off than "
           f"{percent(off)}.")
    provenance = (f"Sectors of 32 bytes, loads and stores: {joined(sorted(gpus))}; closed forms and the SIMT machine "
                  "at the same sizes.")
    return Plate("Predicted, counted, measured: one line", lambda: draw(points), caption, alt, provenance)


def counted(technique, rung, case):
    """Return the bytes of one case by hardware, closed form and, where it is quick, the SIMT machine, else None."""
    inputs = technique.random(case["sizes"], case["dtype"], **case["options"])
    hardware = case["counts"]["load_sectors"] + case["counts"]["store_sectors"]
    form = technique.traffic(rung, inputs)
    machine = None
    if rung.kind == "numba" and case["dtype"] == ALIKE and hardware <= LARGEST and case["options"].get("causal", True):
        with simt.collect() as launches:
            technique.run(rung, inputs)
        total = sum((launch.traffic for launch in launches), Traffic())
        machine = SECTOR * (total.load_sectors + total.store_sectors)
    return SECTOR * hardware, SECTOR * (form.load_sectors + form.store_sectors), machine


def draw(points):
    """Draw the line, and what is left of it below."""
    figure = new_figure(7.2, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    every = [hardware for found in points.values() for hardware, *_ in found]
    ends = [min(every) / 2, max(every) * 2]
    upper.plot(ends, ends, color=GREY, linewidth=1, zorder=0)
    lower.axhline(0, color=GREY, linewidth=1, zorder=0)
    for number, (name, found) in enumerate(points.items()):
        colour, marker, _ = SERIES[number]
        hardware, form = (np.array([point[i] for point in found], float) for i in (0, 1))
        look = {"linestyle": "none", "marker": marker, "markersize": 6, "color": colour, "alpha": 0.85}
        upper.plot(hardware, form, label=name, markeredgecolor="white", markeredgewidth=0.5, **look)
        lower.plot(hardware, 100 * (form / hardware - 1), markeredgecolor="white", markeredgewidth=0.5, **look)
    ran = np.array([(hardware, machine) for found in points.values() for hardware, _, machine in found
                    if machine is not None], float).reshape(-1, 2)
    ring = {"linestyle": "none", "marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": INK}
    upper.plot(ran[:, 0], ran[:, 1], label="SIMT machine", markeredgewidth=0.8, **ring)
    lower.plot(ran[:, 0], 100 * (ran[:, 1] / ran[:, 0] - 1), markeredgewidth=0.8, **ring)
    upper.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="predicted, or counted by the machine")
    upper.xaxis.set_major_formatter(in_bytes)
    upper.yaxis.set_major_formatter(in_bytes)
    for axes in (upper, lower):
        axes.minorticks_off()
        axes.grid(axis="y")
    upper.legend(loc="upper left")
    lower.set(xlabel="bytes in sectors, counted by the GPU", ylabel="difference in %")
    panel(lower, "what is left")
    return figure
