"""A picture of samples as the model gets them, with their prompts."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.check.dataset import CheckResult
from sam_ft.check.per_image import examine_sample
from sam_ft.data.collate import collate
from sam_ft.data.transforms import resize_image, resize_longest_side
from sam_ft.prompts import Prompter, scale_prompts
from sam_ft.report.pictures import DPI, Panel, draw_masks, draw_prompts, save_sheet, stretch_contrast
from sam_ft.types import Prompts, Sample, Size, dense
from sam_ft.utils.geometry import resize_masks, resized_size

SAMPLES_PER_SPLIT = 8
COLUMNS = 4
OBJECTS_AT_ONCE = 32  # whose masks are dense
PANEL_SIDE = 512  # pixels of a panel's longest side; each is drawn as one pixel, so no outline is lost


def draw_samples(path: Path, result: CheckResult, prompter: Prompter, seed: int = 0) -> bool:
    """Writes a PNG of samples spread evenly over each split, with masks and the prompts of the first round.

    → whether there was a usable sample
    """
    panels = []
    for name, contents in result.splits.items():
        usable, count = contents.usable, min(SAMPLES_PER_SPLIT, len(contents.usable))
        for number in range(count):
            sample = None
            if contents.split is not None:
                sample, *_ = examine_sample(contents.split, usable[number * len(usable) // count])  # spread evenly
            if sample is not None:
                panels.append(_sample_panel(name, sample, result.input_side, prompter, seed))
    if panels:
        rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
        save_sheet(path, {"": rows}, inches=PANEL_SIDE / DPI)
    return bool(panels)


def _sample_panel(split: str, sample: Sample, input_side: int, prompter: Prompter, seed: int) -> Panel:
    # First to the model's input, then to the panel: details that the model loses are lost here too.
    input_size = resized_size(sample.size, input_side)
    size = input_size if max(input_size) <= PANEL_SIDE else resized_size(input_size, PANEL_SIDE)
    small = resize_image(sample.image, input_size)
    picture, groups, count = stretch_contrast(resize_image(small, size)), [], 0
    bare = replace(sample, image=sample.image[:, :0, :0])  # the image is resized once
    for chosen in torch.arange(len(sample.masks)).split(OBJECTS_AT_ONCE):
        part = resize_longest_side(bare.select(chosen), input_side)
        picture = draw_masks(picture, resize_masks(dense(part.masks), size), indices=part.object_index.tolist())
        groups += _prompts_at(size, part, input_side, prompter, seed)
        count += len(part.masks)
    title = f"{split}: {sample.name}, {count} object{'' if count == 1 else 's'}"
    if lost := len(sample.masks) - count:
        title += f" ({lost} too small for a pixel)"
    return title, draw_prompts(picture, groups)


def _prompts_at(
    size: Size, sample: Sample, input_side: int, prompter: Prompter, seed: int
) -> list[tuple[Tensor, Prompts]]:
    """The object indices of groups and their prompts of the first round, in pixels of a picture of `size`."""
    if not len(sample.masks):
        return []
    batch, groups = collate([sample], input_side), []
    for own_prompter, objects in prompter.split(batch, seed):
        prompts = own_prompter(batch.select(objects), seed)
        groups.append((batch.object_index[objects], scale_prompts(prompts, sample.size, size)))
    return groups
