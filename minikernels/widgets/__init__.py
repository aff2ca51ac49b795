"""Widgets that show a recorded launch or plain numbers; they run no kernel and know no technique."""

from minikernels.widgets.expression import ExpressionError
from minikernels.widgets.heads import HeadGroups
from minikernels.widgets.meter import TrafficMeter
from minikernels.widgets.painter import MaskPainter
from minikernels.widgets.player import TilePlayer
from minikernels.widgets.pool import PoolView
from minikernels.widgets.roofline import Roofline
from minikernels.widgets.scan import ScanTree
from minikernels.widgets.state import StateView
from minikernels.widgets.timeline import CacheTimeline
from minikernels.widgets.warp import WarpView

__all__ = ["CacheTimeline", "ExpressionError", "HeadGroups", "MaskPainter", "PoolView", "Roofline", "ScanTree",
           "StateView", "TilePlayer", "TrafficMeter", "WarpView"]
