"""Drawing primitives: Trace, Traffic or plain arrays in, matplotlib Axes out; nothing here runs a kernel."""

from minikernels.figures.grids import Grid, contents_before, grid
from minikernels.figures.heads import head_groups
from minikernels.figures.mask import block_mask
from minikernels.figures.pages import page_pool
from minikernels.figures.roofs import roofline
from minikernels.figures.scan import scan_tree
from minikernels.figures.state import state_evolution
from minikernels.figures.step import draw_tile, tile_step
from minikernels.figures.style import STYLE, new_figure, save, style, svg
from minikernels.figures.timeline import cache_timeline
from minikernels.figures.traffic import bytes_against_length, ladder, traffic_bars
from minikernels.figures.warp import warp_lanes

__all__ = ["Grid", "STYLE", "block_mask", "bytes_against_length", "cache_timeline", "contents_before", "draw_tile",
           "grid", "head_groups", "ladder", "new_figure", "page_pool", "roofline", "save", "scan_tree",
           "state_evolution", "style", "svg", "tile_step", "traffic_bars", "warp_lanes"]
