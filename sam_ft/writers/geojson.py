"""GeoJSON as QuPath imports it."""

from pathlib import Path

from sam_ft.utils.files import as_json, write_atomic
from sam_ft.writers.instances import Instances
from sam_ft.writers.outlines import Ring, trace_outlines


def write_geojson(path: Path, instances: Instances) -> None:
    """Writes a FeatureCollection: a detection with a class, a color and a score for each object.

    Coordinates are pixel edges of the whole image, from its top left corner. An object of several parts is a
    MultiPolygon, and holes are kept.
    """
    names, colors, scores = instances.class_names(), instances.class_colors(), instances.short_scores()
    features = []
    for (x0, y0, mask), name, color, score in zip(instances.crops(), names, colors, scores, strict=True):
        parts = [[_closed(ring, x0, y0) for ring in rings] for rings in trace_outlines(mask)]
        several = len(parts) > 1
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "MultiPolygon" if several else "Polygon",
                    "coordinates": parts if several else parts[0],
                },
                "properties": {
                    "objectType": "detection",
                    "classification": {"name": name, "color": color},
                    "measurements": {"score": score},
                },
            }
        )
    # a line for each object
    lines = ",\n".join(as_json(feature) for feature in features)
    write_atomic(path, f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')


def _closed(ring: Ring, x0: int, y0: int) -> list[tuple[int, int]]:
    """The ring moved by x0, y0; the first point is repeated at the end."""
    return [(x + x0, y + y0) for x, y in [*ring, ring[0]]]
