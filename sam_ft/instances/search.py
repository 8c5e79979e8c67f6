"""The thresholds of the watershed that suit a head, found on training images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sam_ft.instances.watershed import WatershedThresholds

# In the order in which they are searched: what is foreground first, then what separates objects.
CANDIDATES: Mapping[str, Sequence[float]] = {
    "foreground": (0.3, 0.4, 0.5, 0.6, 0.7),
    "height": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "smoothing": (0.5, 1.0, 2.0, 3.0),
    "min_area": (10, 20, 40, 80),
}


def search_thresholds(
    score: Callable[[WatershedThresholds], float], start: WatershedThresholds, rounds: int = 2
) -> tuple[WatershedThresholds, float]:
    """Coordinate descent: tries the candidates of one threshold after the other, and keeps the best of each.

    score: of training images, higher is better · rounds: over all thresholds; it ends early if one changes nothing
    → the thresholds and their score; of equal ones the earlier, so `start` stays where nothing is better
    """
    best, best_score = start, score(start)
    for _ in range(rounds):
        before = best
        for name, values in CANDIDATES.items():
            for value in values:
                tried = replace(best, **{name: value})  # type: ignore[arg-type]
                if tried != best and (found := score(tried)) > best_score:
                    best, best_score = tried, found
        if best == before:
            break
    return best, best_score
