"""How much faster decoding is over a smaller cache, beside the factor by which the cache is smaller."""

from minikernels import catalog
from minikernels.figures import new_figure
from minikernels.figures.style import INK
from minikernels.gallery.look import BLUE, HALO, SKY
from minikernels.gallery.plate import Plate, joined, percent
from minikernels.gallery.sources import Missing, fastest, place, spelled

TECHNIQUES = ("kv_compression",)
BESIDE = "Liu et al. 2024 (KIVI): memory and throughput"
OWN = "dequantised"  # in the name of our own decode of the same cache in 16 bits


def plate(sources):
    """Return the plate: speed-up of every rung over our own 16-bit decode, in 8 and in 4 bits."""
    def wanted(result):
        return result.case[1] == "float16" and result.case[3] in ("", "8 bits")

    recording, results = sources.results("kv_compression", "decoding over a compressed cache", wanted)
    groups = {}
    for r in results:
        groups.setdefault(r.case[0], []).append(r)
    results = max(groups.values(), key=lambda rows: (len(rows), dict(rows[0].case[0])["S"]))
    bars, promised, beside = {}, {}, {}
    for r in results:
        bits = 8 if r.case[3] else 4
        base = next((other for other in results if other.case == r.case and OWN in other.name), None)
        if base is None:
            raise Missing("no GPU has recorded our own decode of the dequantised cache; "
                          "`minikernels bench kv_compression` does")
        sizes = dict(r.case[0])
        whole = 2 * sizes["B"] * sizes["G"] * sizes["S"] * sizes["D"] * 2
        promised[bits] = whole / r.bytes
        if r.is_peer:
            beside.setdefault(bits, []).append((base.ms, r))
        else:
            bars.setdefault(r.name, {})[bits] = base.ms / r.ms
    order = [rung.name for rung in catalog.technique("kv_compression").rungs if rung.name in bars]
    bars = {name: bars[name] for name in order}
    best = {bits: max((found[bits], name) for name, found in bars.items() if bits in found) for bits in promised}
    said = joined(f"at {bits} bits {rung} is {gain:.2f} times as fast, {percent(gain / promised[bits])} of the "
                  f"{promised[bits]:.2f} that the bytes promise" for bits, (gain, rung) in sorted(best.items()))
    slower = sum(max(found.values()) < 1 for found in bars.values())
    rivals = {bits: fastest(r for _, r in rows) for bits, rows in beside.items()}
    rival = {bits: next(base for base, r in beside[bits] if r is peer) / peer.ms for bits, peer in rivals.items()}
    bits = min(rival)
    caption = (
        f"1 is our own decode of the same cache in 16 bits. Compression is not speed by itself: {slower} of "
        f"{len(bars)} rungs spend more on unpacking than they save in bytes. {said[0].upper() + said[1:]}. "
        f"{rivals[bits].name} on the 16-bit cache stands at {rival[bits]:.2f}.")
    alt = (f"Bars for {len(bars)} rungs on a logarithmic scale, in {joined(f'{b} bits' for b in sorted(promised))}; "
           f"{slower} of them below 1; dashed lines mark the promised factors.")
    provenance = (f"{place(recording, results)}: {spelled(results[0].case, ('variant',))}, groups of 64; median of "
                  "CUDA events.")
    return Plate("Fewer bytes, more work: is it faster?", lambda: draw(bars, promised), caption, alt, provenance)


def draw(bars, promised):
    """Draw bars from 1 to each speed-up."""
    figure = new_figure(7.4, 1.5 + 0.5 * len(bars))
    axes = figure.subplots()
    looks = {8: {"color": SKY, "hatch": None}, 4: {"color": BLUE, "hatch": "////"}}
    for i, bits in enumerate(sorted(promised, reverse=True)):
        offset = (i - 0.5) * 0.36
        known = [(y, found[bits]) for y, found in enumerate(bars.values()) if bits in found]
        axes.barh([y + offset for y, _ in known], [x - 1 for _, x in known], 0.33, left=1, edgecolor="white",
                  label=f"{bits} bits", **looks[bits])
        for y, x in known:
            text = f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"
            axes.annotate(text, (x, y + offset), (4 if x > 1 else -4, 0), textcoords="offset points", va="center",
                          ha="left" if x > 1 else "right", fontsize=8, color=INK, bbox=HALO)
        axes.axvline(promised[bits], color=looks[bits]["color"], linewidth=1.4, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(f"promised\n{promised[bits]:.2f}", (promised[bits], len(bars) - 0.45),
                      (4, -2), textcoords="offset points", fontsize=8, color=looks[bits]["color"], va="top")
    axes.axvline(1, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) + 0.35, -0.6)
    axes.set_xscale("log", base=2)
    low = min(x for found in bars.values() for x in found.values())
    axes.set_xlim(low / 1.6, 2.2 * max(promised.values()))
    ticks = [2.0**n for n in range(-5, 4) if low / 1.6 < 2.0**n < 2.2 * max(promised.values())]
    axes.set_xticks(ticks, [f"{x:g}" if x >= 1 else f"1/{1 / x:g}" for x in ticks])
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("times as fast as our own decode in 16 bits")
    figure.legend(loc="outside upper left", ncols=2)
    return figure
