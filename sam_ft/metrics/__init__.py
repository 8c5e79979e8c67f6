"""How good predicted masks are: scores of each object, and their means."""

from sam_ft.metrics.boundary import BoundaryIou
from sam_ft.metrics.scores import Measure, Scores
from sam_ft.metrics.summary import Summary
from sam_ft.metrics.surface import SurfaceDistance

__all__ = ["BoundaryIou", "Measure", "Scores", "Summary", "SurfaceDistance"]
