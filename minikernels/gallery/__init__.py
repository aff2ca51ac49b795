"""The published figures: one script a figure, drawn from traces, closed forms, recordings and the tiny model.

``minikernels figures`` draws them. A script has ``plate(sources)``, which returns a `Plate`, and says which techniques
it belongs to (``TECHNIQUES``) and which figures of papers it is to be looked at beside (``BESIDE``).
"""

import importlib

__all__ = ["NAMES", "about", "load", "script"]

NAMES = (
    "ladders", "time_per_token", "roofline", "counts",
    "gqa_time", "gqa_quality", "gqa_schedules",
    "flash_memory", "flash_bytes", "flash_loops", "flash_speed",
    "block_sparse_patterns", "block_sparse_speedup", "block_sparse_gate",
    "paged_waste", "paged_page_size", "paged_sharing",
    "scan_layouts", "scan_trees", "scan_selection",
    "linear_speed", "linear_split", "linear_decay",
    "kv_quality", "kv_outliers", "kv_eviction", "kv_speed",
)


def script(name):
    """Return the module that draws a figure."""
    return importlib.import_module(f"minikernels.gallery.{name}")


def load(name, sources):
    """Return the plate of a figure; `Missing` where its data is not recorded."""
    return script(name).plate(sources)


def about(technique):
    """Return the figures of a technique, its own before those that it shares with others."""
    mine = [name for name in NAMES if technique in script(name).TECHNIQUES]
    return sorted(mine, key=lambda name: len(script(name).TECHNIQUES))
