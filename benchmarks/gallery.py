"""Draws validation images of a run in five columns: image, box prompts, zero-shot masks, tuned masks, ground truth.

    python -m benchmarks.gallery outputs/nuclei docs/nuclei.png --images NAME NAME NAME

Drawn is the square of CUT pixels that holds the most objects; scores are those of the whole image. Without --images the
facts by which to choose are printed for every validation image, and nothing is drawn.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.harness import say, table
from sam_ft import Predictor
from sam_ft.cli.config import build
from sam_ft.cli.runs import load_run
from sam_ft.data.splits import open_split
from sam_ft.report.pictures import draw_masks, draw_prompts, stretch_contrast
from sam_ft.types import Prompts, Sample
from sam_ft.utils.geometry import masks_to_boxes

CUT = 144  # pixels of an image
TIMES = 2  # pixels of the picture for one of the image
MARGIN, TITLE = 8, 22  # pixels between panels, and of a line of text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("run", type=Path, help="the directory of a finished run")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--images", nargs="+", metavar="NAME", help="of validation images, in the order of the rows")
    chosen = parser.parse_args()
    cfg = load_run(chosen.run).cfg
    split = open_split(build(cfg.data), "val")
    predictors = {"zero-shot": Predictor(build(cfg.model)), "tuned": Predictor.from_run(chosen.run)}
    samples = [split[split.names.index(name)] for name in chosen.images or split.names]
    rows, facts = [], []
    for sample in samples:
        masks = {title: predict(predictor, sample) for title, predictor in predictors.items()}
        scores = {title: iou(predicted, sample.masks).mean().item() for title, predicted in masks.items()}
        overlaps = {title: overlap_share(predicted) for title, predicted in masks.items()}
        rows.append(draw_row(sample, masks, scores))
        facts.append(
            {"image": sample.name, "pixels": f"{sample.size[1]} × {sample.size[0]}", "objects": len(sample.masks)}
            | {f"IoU, {title}": f"{score:.3f}" for title, score in scores.items()}
            | {f"overlap, {title}": f"{share:.3f}" for title, share in overlaps.items()}
        )
    print(table(facts))
    if chosen.images:
        save_rows(chosen.picture, rows)
        say(f"{chosen.picture}: {chosen.picture.stat().st_size / 1e3:.0f} kB")


def predict(predictor: Predictor, sample: Sample) -> Tensor:
    """(N, H, W) bool, from the tight boxes of the ground truth."""
    image = sample.image.permute(1, 2, 0).contiguous().numpy()
    masks, _, _ = predictor.predict(image, boxes=masks_to_boxes(sample.masks).numpy())
    return torch.from_numpy(masks[:, 0])


def iou(predicted: Tensor, gt: Tensor) -> Tensor:
    """(N,) of each object with its own ground truth."""
    return (predicted & gt).flatten(1).sum(1) / (predicted | gt).flatten(1).sum(1)


def overlap_share(masks: Tensor) -> float:
    """The share of covered pixels that more than one mask covers."""
    covers = masks.sum(0)
    return ((covers > 1).sum() / (covers > 0).sum().clamp(min=1)).item()


def densest_cut(masks: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the square of CUT pixels round an object's center that holds the most whole objects."""
    boxes = masks_to_boxes(masks)
    limits = torch.tensor([masks.shape[2] - CUT, masks.shape[1] - CUT]).clamp(min=0)
    corners = ((boxes[:, :2] + boxes[:, 2:]) / 2 - CUT / 2).clamp(min=0).minimum(limits).int()  # (N, 2) x, y
    inside = (boxes[None, :, :2] >= corners[:, None]) & (boxes[None, :, 2:] <= corners[:, None] + CUT)  # (N, N, 2)
    x, y = corners[inside.all(2).sum(1).argmax()].tolist()
    return slice(y, y + CUT), slice(x, x + CUT)


def draw_row(sample: Sample, masks: dict[str, Tensor], scores: dict[str, float]) -> list[tuple[str, Tensor]]:
    """The five panels of an image, each a title and (3, TIMES * CUT, TIMES * CUT) uint8."""
    rows, columns = densest_cut(sample.masks)
    image = enlarge(stretch_contrast(sample.image)[:, rows, columns])
    boxes = (masks_to_boxes(sample.masks) - torch.tensor([columns.start, rows.start] * 2)) * TIMES
    near = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < TIMES * CUT).all(1)
    prompts = draw_prompts(image, [(near.nonzero()[:, 0], Prompts(boxes=boxes[near]))])
    panels = {f"{title}, IoU {scores[title]:.2f}": masks[title] for title in masks} | {"ground truth": sample.masks}
    drawn = [(title, draw_masks(image, enlarge(shown[:, rows, columns]))) for title, shown in panels.items()]
    return [("image", image), ("box prompts", prompts), *drawn]


def enlarge(picture: Tensor) -> Tensor:
    return picture.repeat_interleave(TIMES, -1).repeat_interleave(TIMES, -2)


def save_rows(path: Path, rows: list[list[tuple[str, Tensor]]]) -> None:
    """Writes a PNG pixel for pixel: matplotlib would resize the panels and lose lines."""
    side = TIMES * CUT
    width, height = len(rows[0]) * (side + MARGIN) - MARGIN, len(rows) * (side + TITLE + MARGIN) - MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for row, panels in enumerate(rows):
        for column, (title, picture) in enumerate(panels):
            x, y = column * (side + MARGIN), row * (side + TITLE + MARGIN)
            pen.text((x + side / 2, y), title, fill="black", font=font, anchor="ma")
            sheet.paste(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()), (x, y + TITLE))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main()
