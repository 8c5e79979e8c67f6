"""Metrics of predicted masks: values per object, and their means over a split."""

from sam_ft.metrics.aggregate import AggregatedScores
from sam_ft.metrics.boundary import BoundaryIou
from sam_ft.metrics.segmentation import ObjectMetric, SegmentationMetrics
from sam_ft.metrics.surface import SurfaceDistance

__all__ = ["AggregatedScores", "BoundaryIou", "ObjectMetric", "SegmentationMetrics", "SurfaceDistance"]
