"""The thresholds of the watershed that suit a head, found on training images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from sam_ft.instances.watershed import WatershedThresholds

# In the order in which they are searched: what is foreground first, then what separates objects.
CANDIDATES: Mapping[str, Sequence[float]] = {
    "foreground": (0.3, 0.4, 0.5, 0.6, 0.7),
    "height": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "smoothing": (0.5, 1.0, 2.0, 3.0),
}
SMALL = 5  # percent of the objects that the largest minimum area may drop
SHARES = (0.25, 0.5, 1.0)  # of that area


def candidates_for(areas: ArrayLike) -> dict[str, Sequence[float]]:
    """`CANDIDATES` with minimum areas for objects of these sizes: the score of a few images tells too little of them.

    areas: (N,) pixels of training objects
    """
    sizes = np.asarray(areas)
    small = float(np.percentile(sizes, SMALL)) if sizes.size else 0.0
    return {**CANDIDATES, "min_area": sorted({max(1, round(share * small)) for share in SHARES})}


def search_thresholds(
    score: Callable[[WatershedThresholds], float], candidates: Mapping[str, Sequence[float]], rounds: int = 2
) -> tuple[WatershedThresholds, float]:
    """Coordinate descent: tries the candidates of one threshold after the other, and keeps the best of each.

    score: of training images, higher is better · candidates: of `candidates_for`
    rounds: over all thresholds; it ends early if one changes nothing
    → the thresholds and their score; of equal ones the earlier, of which the first are the defaults with the smallest
        area
    """
    best = WatershedThresholds(min_area=int(candidates["min_area"][0]))
    best_score = score(best)
    for _ in range(rounds):
        before = best
        for name, values in candidates.items():
            for value in values:
                tried = replace(best, **{name: value})  # type: ignore[arg-type]
                if tried != best and (found := score(tried)) > best_score:
                    best, best_score = tried, found
        if best == before:
            break
    return best, best_score
