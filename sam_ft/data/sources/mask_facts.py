"""Facts about masks, and the hints where those of most masks of a split are what a wrong setting gives."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_ft.data.io.objects import ObjectMap, count_components
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.leaks import mask_key
from sam_ft.data.sources.survey import Hint

MANY_PARTS = 1.5  # separate parts of an object on average; from here on each may be an object
SAMPLED = 100  # images of which the parts of the masks are counted; counting takes a quarter of the time of reading
VOID_IDS = (254, 255, 65535)  # ids at the end of their types, which often mark pixels to ignore
FEW_THIN = 4  # ids without an area that may be specks, whatever the others
TRIMAPS = ([127, 255], [128, 255])  # the unknown border and the object


@dataclass(frozen=True)
class MaskFacts:
    """Facts about one mask.

    ids: number of objects · framing: ids of which the box is the whole frame · has_background: some pixel is no object
    void: the largest id if it is in `VOID_IDS` and the id before it is not there, the border of a trimap, else 0
    parts: number of connected areas of all objects, None if they were not counted
    thin: number of ids without an area, see `_count_thin` · keys: see `mask_key`
    """

    ids: int
    framing: tuple[int, ...]
    has_background: bool
    void: int = 0
    parts: int | None = None
    thin: int = 0
    keys: Sequence[str] = ()


def find_facts(own: ObjectMap, rules: Rules, with_parts: bool) -> MaskFacts:
    """with_parts: count the connected areas too"""
    found = np.flatnonzero(own.areas[1:]) + 1
    parts = count_components(own.ids > 0, rules.min_area) if with_parts else None
    thin = _count_thin(own) if rules.objects == "instances" else 0
    void = _void_id(found.tolist())
    return MaskFacts(len(found), _framing_ids(own.ids), bool(own.areas[0]), void, parts, thin, mask_key(own))


def _void_id(ids: list[int]) -> int:
    """The id of pixels to ignore among those of a mask, 0 if none looks like it."""
    if ids in TRIMAPS:
        return ids[0]
    others = ids[:-2] if ids[-2:] == [254, 255] else ids[:-1]
    return ids[-1] if others and ids[-1] in VOID_IDS and others[-1] < ids[len(others)] - 1 else 0


def _count_thin(own: ObjectMap) -> int:
    """The number of ids of which no pixel is equal to its neighbors to the right and below."""
    if own.count <= FEW_THIN:
        return 0
    first = own.ids[:-1, :-1]
    filled = (first == own.ids[1:, :-1]) & (first == own.ids[:-1, 1:]) & (first > 0)
    return own.count - int(np.count_nonzero(np.bincount(first[filled])))


def counts_parts(rules: Rules, position: int, total: int) -> bool:
    """Whether the parts of an image's objects are counted: of `SAMPLED` images, spread over the whole split.

    They tell nothing of components, which have one each, and of classes, which have many.
    """
    return rules.objects in ("whole", "instances") and position % -(-total // SAMPLED) == 0


def mask_hints(facts: Sequence[Sequence[MaskFacts]], rules: Rules) -> list[Hint]:
    """What to look at, of the masks of each image of a split, where they hold objects."""
    images = [[one for one in own if one.ids] for own in facts]
    drawn = [one for own in images for one in own]
    if not drawn or rules.objects == "classes":
        return []
    framed = [one for one in drawn if one.framing]
    total = sum(map(bool, images))
    framed_images = sum(any(one.framing for one in own) for own in images)
    parts, ids = _total_parts(drawn)
    many_parts = ids > 0 and parts >= MANY_PARTS * ids
    if rules.objects == "instances" and not any(one.has_background for one in drawn):
        hints = [_no_background_hint(drawn, framed)]
    elif 2 * framed_images > total:
        several = len(drawn) > total
        hints = [_frame_hint(f"{framed_images} of {total} images", rules, many_parts, several)]
    else:
        hints = [_parts_hint(parts / ids, drawn, rules)] if many_parts else []
    if blended := sum(one.thin > max(FEW_THIN, one.ids - one.thin) for one in drawn):
        hints.append(_blended_hint(blended, drawn))
    if doubled := sum(len({one.keys for one in own}) < len(own) for own in images):
        problem = f"in {doubled} of {total} images the same mask is there twice, and its objects count twice"
        hints.append(Hint(problem, "remove the copies"))
    voids = Counter(one.void for one in drawn if one.void and not blended)
    if rules.objects == "instances" and rules.ignore_index is None and 2 * voids.total() > len(drawn):
        ((void, count),) = voids.most_common(1)
        problem = f"{count} of {len(drawn)} masks hold the id {void} apart from the others, which is nearly always void"
        hints.append(Hint(problem, f"data.ignore_index={void} makes its pixels count in no loss and no score"))
    return hints


def _no_background_hint(drawn: Sequence[MaskFacts], framed: Sequence[MaskFacts]) -> Hint:
    """Of id masks as trimaps are, in which the background has an id too."""
    problem = "no pixel of any mask is 0, the background"
    if framed:
        ((common, count),) = Counter(key for one in framed for key in one.framing).most_common(1)
        problem += f", and the box of id {common} is the whole frame in {count} of {len(drawn)} masks"
    advice = (
        "name the id of the background with data.background (of masks of colors its color, as [255,255,255]) and those "
        "of borders with data.ignore_index, or choose the ids that are objects with data.objects=classes, data.classes "
        "and data.other=background"
    )
    return Hint(problem, advice)


def _blended_hint(blended: int, drawn: Sequence[MaskFacts]) -> Hint:
    problem = f"in {blended} of {len(drawn)} masks most ids are only along edges, and each counts as an object"
    advice = (
        "the edges are blended, as anti-aliasing and smooth resizing leave them, unless the objects are specks; save "
        "the masks by nearest-neighbor interpolation"
    )
    return Hint(problem, advice)


def _frame_hint(count: str, rules: Rules, many_parts: bool, several: bool) -> Hint:
    if rules.objects == "instances":
        inverted = "the masks are inverted (save them with 0 for the background)"
    else:
        inverted = f"the masks are inverted (set data.invert={str(not rules.invert).lower()})"
    reasons = [
        inverted,
        "a value is void or background and no object (set data.ignore_index or data.background, or "
        "data.objects=classes and data.classes)",
        "the object is in the alpha channel (save it as a gray image)",
    ]
    if many_parts:
        reasons.append("each separate part is an object (set data.objects=components)")
    if several:
        reasons.append("one of the masks of an image is that of the background (leave it out by data.mask_suffix)")
    problem = f"the box of an object is the whole frame in {count}"
    return Hint(problem, f"look at the pictures; likely reasons: {'; '.join(reasons)}")


def _parts_hint(parts: float, drawn: Sequence[MaskFacts], rules: Rules) -> Hint:
    if rules.objects == "whole":
        problem = f"masks hold {parts:.1f} separate parts on average"
        return Hint(problem, "data.objects=components makes each an object of its own", "note")
    if all(one.ids == 1 for one in drawn):
        return Hint(
            f"each mask holds a single id, in {parts:.1f} separate parts on average",
            "data.objects=components makes each part an object of its own",
        )
    return Hint(
        f"an id has {parts:.1f} separate parts on average, as classes have",
        "data.objects=classes data.components_per_class=true makes each part an object of its class",
    )


def _total_parts(drawn: Sequence[MaskFacts]) -> tuple[int, int]:
    """The parts and the ids of the masks of which the parts were counted."""
    counted = [(one.parts, one.ids) for one in drawn if one.parts]
    return sum(parts for parts, _ in counted), sum(ids for _, ids in counted)


def _framing_ids(ids: NDArray[np.integer]) -> tuple[int, ...]:
    """The ids other than 0 that are in the first and the last row and column."""
    edges = (ids[0], ids[-1], ids[:, 0], ids[:, -1])
    if not all(edge.any() for edge in edges):
        return ()
    common = set(np.unique(edges[0]).tolist()) - {0}
    for edge in edges[1:]:
        common &= set(np.unique(edge).tolist())
    return tuple(sorted(common))
