"""The error about missing data.classes, with the values of the first masks as an option to copy and edit."""

from collections.abc import Sequence
from pathlib import Path

from sam_ft.data.io.class_masks import read_class_codes
from sam_ft.data.io.classes import list_codes
from sam_ft.data.io.mask_values import edge_codes, unique_values
from sam_ft.data.io.masks import read_mask
from sam_ft.data.io.rules import Rules
from sam_ft.utils.errors import ConfigError, DataError

INSPECTED_MASKS = 5
LISTED = 30  # values


def missing_classes_error(masks: Sequence[Path], rules: Rules) -> ConfigError:
    """Raises: DataError when one of the first masks cannot be read."""
    first = masks[:INSPECTED_MASKS]
    try:
        ids = sorted({code for path in first for code in unique_values(read_mask(path, rules.slices)) if code})
    except DataError:  # colors, or an unreadable file, which raises again
        return ConfigError(_about_colors(first, rules))
    named = [code for code in ids if code not in list_codes(rules.ignore_index, False)]
    ignore = ""
    # 255 beside small ids, as in PASCAL VOC and Cityscapes, is void.
    if rules.ignore_index is None and 255 in ids and 254 not in ids and len(ids) > 1:
        named.remove(255)
        ignore = " data.ignore_index=255 (255 is nearly always void; if here it is a class, name it like the others)"
    line = ", ".join(f"class_{code}: {code}" for code in named[:LISTED])
    return ConfigError(
        f"data.objects=classes needs data.classes. The first {len(first)} masks hold {len(ids)} ids but 0; "
        f"name them, and 0 or black too if it is a class: 'data.classes={{{line}}}'{ignore}"
    )


def _about_colors(masks: Sequence[Path], rules: Rules) -> str:
    of_masks, edges = [], 0
    for path in masks:
        codes, _ = read_class_codes(path, True, rules.slices)
        found = [code for code in unique_values(codes) if code]
        thin = {*edge_codes(codes, found)}
        blended = len(thin) > max(2, len(found) / 2)
        edges = max(edges, len(thin) * blended)
        of_masks.append({*found} - thin if blended else {*found})
    colors = sorted(set().union(*of_masks))
    text = f"data.objects=classes needs data.classes. The first {len(masks)} masks hold {len(colors)} colors but black"
    if edges:
        text += (
            f", and up to {edges} others that are only along edges: the edges are blended; save the masks by "
            "nearest-neighbor interpolation, or leave these pixels out with data.other=ignore"
        )
    if sum(map(len, of_masks)) < 1.5 * len(colors) and len(colors) > len(masks) > 1:
        return (
            f"{text}. Most of them are in one mask alone, as where each object has a color of its own: set "
            "data.objects=instances then, or name the colors of classes as 'data.classes={crop: [0, 128, 0]}'"
        )
    shown = [[code >> 16, code >> 8 & 255, code & 255] for code in colors[:LISTED]]
    line = ", ".join(f"class_{number}: {code}" for number, code in enumerate(shown, 1))
    return f"{text}; name them, and 0 or black too if it is a class: 'data.classes={{{line}}}'"
