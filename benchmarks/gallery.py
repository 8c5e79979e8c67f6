"""Draws validation images of a run in five columns: image, box prompts, zero-shot masks, tuned masks, ground truth.

    python -m benchmarks.gallery outputs/nuclei docs/nuclei.png --images NAME NAME NAME
    python -m benchmarks.gallery outputs/cells docs/found.png --without-prompts --images NAME NAME NAME

With --without-prompts in three: image, the objects that the head finds, ground truth.
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
from sam_ft.evaluation.without_prompts import pixels
from sam_ft.metrics.average_precision import encode_masks
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.report.pictures import draw_masks, draw_prompts, stretch_contrast
from sam_ft.types import Prompts, Sample, Size, dense
from sam_ft.utils.geometry import masks_to_boxes

CUT = 144  # pixels of an image
TIMES = 2  # pixels of the picture for one of the image
MARGIN, TITLE = 8, 22  # pixels between panels, and of a line of text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("run", type=Path, help="the directory of a finished run")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--images", nargs="+", metavar="NAME", help="of validation images, in the order of the rows")
    parser.add_argument("--without-prompts", action="store_true", help="draw what the head of the run finds")
    chosen = parser.parse_args()
    cfg = load_run(chosen.run, ("data", "model")).cfg
    split = open_split(build(cfg.data), "val")
    tuned = Predictor.from_run(chosen.run)
    predictors = (
        {"tuned": tuned} if chosen.without_prompts else {"zero-shot": Predictor(build(cfg.model)), "tuned": tuned}
    )
    rows, facts = [], []
    for name in chosen.images or split.names:
        sample = split[split.names.index(name)]
        gt = dense(sample.masks)
        boxes = masks_to_boxes(gt)
        if chosen.without_prompts:
            found, score = find(tuned, sample)
            rows.append(
                draw_row(sample.image, boxes, {f"found, mSA {score:.2f}": found, "ground truth": gt}, prompts=False)
            )
            facts.append({"image": sample.name, "objects": len(gt), "found": len(found), "mSA": f"{score:.3f}"})
            continue
        masks = {title: predict(predictor, sample, boxes) for title, predictor in predictors.items()}
        scores = {title: iou(predicted, gt).mean().item() for title, predicted in masks.items()}
        overlaps = {title: overlap_share(predicted) for title, predicted in masks.items()}
        titled = {f"{title}, IoU {scores[title]:.2f}": masks[title] for title in masks} | {"ground truth": gt}
        rows.append(draw_row(sample.image, boxes, titled))
        facts.append(
            {"image": sample.name, "pixels": f"{sample.size[1]} × {sample.size[0]}", "objects": len(gt)}
            | {f"IoU, {title}": f"{score:.3f}" for title, score in scores.items()}
            | {f"overlap, {title}": f"{share:.3f}" for title, share in overlaps.items()}
        )
    print(table(facts))
    if chosen.images:
        save_rows(chosen.picture, rows)
        say(f"{chosen.picture}: {chosen.picture.stat().st_size / 1e3:.0f} kB")


def predict(predictor: Predictor, sample: Sample, boxes: Tensor) -> Tensor:
    """(N, H, W) bool, from the tight boxes of the ground truth, (N, 4)."""
    image = sample.image.permute(1, 2, 0).contiguous().numpy()
    masks, _, _ = predictor.predict(image, boxes=boxes.numpy())
    return torch.from_numpy(masks[:, 0])


def find(predictor: Predictor, sample: Sample) -> tuple[Tensor, float]:
    """(N, H, W) bool, the objects that the head finds, and their segmentation accuracy."""
    masks = torch.from_numpy(predictor.segment(pixels(sample))[0])
    accuracy = SegmentationAccuracy()
    accuracy.update(sample.name, encode_masks(masks), encode_masks(dense(sample.masks)), sample.ignore)
    return masks, accuracy.compute()["msa"]


def iou(predicted: Tensor, gt: Tensor) -> Tensor:
    """(N,) of each object with its own ground truth."""
    return (predicted & gt).flatten(1).sum(1) / (predicted | gt).flatten(1).sum(1)


def overlap_share(masks: Tensor) -> float:
    """The share of covered pixels that more than one mask covers."""
    covers = masks.sum(0)
    return ((covers > 1).sum() / (covers > 0).sum().clamp(min=1)).item()


def densest_cut(boxes: Tensor, size: Size) -> tuple[slice, slice]:
    """Rows and columns of the square of CUT pixels round an object's center that holds the most whole objects."""
    limits = torch.tensor([size[1] - CUT, size[0] - CUT]).clamp(min=0)
    corners = ((boxes[:, :2] + boxes[:, 2:]) / 2 - CUT / 2).clamp(min=0).minimum(limits).int()  # (N, 2) x, y
    inside = (boxes[None, :, :2] >= corners[:, None]) & (boxes[None, :, 2:] <= corners[:, None] + CUT)  # (N, N, 2)
    x, y = corners[inside.all(2).sum(1).argmax()].tolist()
    return slice(y, y + CUT), slice(x, x + CUT)


def draw_row(image: Tensor, boxes: Tensor, masks: dict[str, Tensor], prompts: bool = True) -> list[tuple[str, Tensor]]:
    """The panels of an image, each a title and (3, TIMES * CUT, TIMES * CUT) uint8.

    image: (3, H, W) · boxes: (N, 4) · masks: (N, H, W) bool by title · prompts: whether one panel shows the boxes
    """
    rows, columns = densest_cut(boxes, (image.shape[1], image.shape[2]))
    cut = enlarge(stretch_contrast(image)[:, rows, columns])
    boxes = (boxes - torch.tensor([columns.start, rows.start] * 2)) * TIMES
    near = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < TIMES * CUT).all(1)
    boxed = draw_prompts(cut, [(near.nonzero()[:, 0], Prompts(boxes=boxes[near]))])
    drawn = [(title, draw_masks(cut, enlarge(shown[:, rows, columns]))) for title, shown in masks.items()]
    return [("image", cut), *([("box prompts", boxed)] if prompts else []), *drawn]


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
