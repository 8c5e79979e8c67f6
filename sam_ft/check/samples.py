"""A sheet of samples as the model will see them."""

from pathlib import Path

from torch import Tensor

from sam_ft.check.inspect import Inspection
from sam_ft.check.looks import examined
from sam_ft.data.transforms import ResizeLongestSide, resize_image
from sam_ft.prompts import Prompter
from sam_ft.report.pictures import DPI, Panel, readable, save_sheet, with_masks, with_prompts
from sam_ft.types import Prompts, Sample, Size, collate
from sam_ft.utils.geometry import resize_masks, resized_size, scale_boxes, scale_points

EACH = 8  # samples of a split
COLUMNS = 4
SHOWN = 512  # pixels of a panel's longest side: every pixel of it is drawn, so no outline is lost


def draw_samples(path: Path, found: Inspection, prompter: Prompter, seed: int = 0) -> bool:
    """Writes a PNG of samples spread evenly over each split, with masks and the first round of prompts.

    → whether there was any to draw
    """
    panels = []
    for name, part in found.parts.items():
        usable, count = part.usable, min(EACH, len(part.usable))
        for place in range(count):
            sample = None
            if part.split is not None:
                sample, _ = examined(part.split, usable[place * len(usable) // count])
            if sample is not None:
                panels.append(_panel(name, sample, found.input_side, prompter, seed))
    if panels:
        rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
        save_sheet(path, {"": rows}, inches=SHOWN / DPI)
    return bool(panels)


def _panel(split: str, sample: Sample, input_side: int, prompter: Prompter, seed: int) -> Panel:
    count = len(sample.masks)
    sample = ResizeLongestSide(input_side)(sample)
    size = sample.size
    shown = size if max(size) <= SHOWN else resized_size(size, SHOWN)
    picture = with_masks(readable(resize_image(sample.image, shown)), resize_masks(sample.masks, shown))
    title = f"{split}: {sample.name}, {len(sample.masks)} object{'' if len(sample.masks) == 1 else 's'}"
    if lost := count - len(sample.masks):
        title += f" ({lost} too small for a pixel)"
    return title, with_prompts(picture, _prompts(sample, input_side, prompter, seed, shown))


def _prompts(
    sample: Sample, input_side: int, prompter: Prompter, seed: int, shown: Size
) -> list[tuple[Tensor, Prompts]]:
    if not len(sample.masks):
        return []
    batch, groups = collate([sample], input_side), []
    for asking, objects in prompter.split(batch, seed):
        asked = asking(batch.select(objects), seed)
        boxes = None if asked.boxes is None else scale_boxes(asked.boxes, sample.size, shown)
        points: Tensor | None = None if asked.points is None else scale_points(asked.points, sample.size, shown)
        groups.append((objects, Prompts(boxes, points, asked.point_labels)))
    return groups
