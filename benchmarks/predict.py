"""Segmenting new images without prompts: time by pixels, memory of a large image, and the time of other ways."""

import argparse
import contextlib
import logging
import os
import runpy
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import tifffile
import torch
from torch import Tensor

from benchmarks import jobs
from benchmarks.discs import WRITTEN_TILE, disc_ids, draw_discs, write_discs
from benchmarks.harness import ROOT, Answer, Side, gigabytes, in_turn, machine, peak, ratio, say, seconds, table
from benchmarks.pictures import save_pair
from benchmarks.unet import UNet, train_on_discs
from sam_ft import Predictor
from sam_ft.data.io.windows import DECODE_LIMIT, ArrayWindows, ImageWindows
from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.evaluation.found import FoundObjects, find_by_grid, find_by_head
from sam_ft.evaluation.tiled_maps import predict_in_tiles
from sam_ft.instances.watershed import WatershedThresholds, segment_maps
from sam_ft.types import Size
from sam_ft.utils.tiles import TileGrid

IMAGE_SIDE, CELL = 512, 48  # training images, with a disc in each cell
UNET_TILE, UNET_WIDTHS, UNET_STEPS = 256, (32, 64, 128), 60
LARGE_TILE = 1024  # of the large image, whose discs are as much larger
DEEP, COLORS = 20, 4  # bytes of a pixel while a PNG of 16 bits, or one in color, is decoded

GROWTH = f"""
One image of each side, a TIFF with about {1e6 / CELL**2:.0f} bright discs a megapixel on a smooth background,
LiteMedSAM with a head, tiles of {IMAGE_SIDE} px, maps and watershed as in predict.py, without writing files.

- *s/MP / 1 MP*: seconds per megapixel / those of the first line; above 1, time grows faster than the pixels. In
  brackets the lowest and the highest round.
- *tiles*: they overlap by a quarter, and the last of a row by more, so a megapixel has not always the same number.
- *memory*: of the process with the model → at most while the image was segmented.
"""
MEMORY = f"""
`predict.py run=... images=FILE tile={LARGE_TILE} refine=null save=[labels]` in a process of its own, on a TIFF of
tiles of {WRITTEN_TILE} px compressed with zlib, and discs of twice the size. *memory*: resident before → at most. A PNG
is decoded as a whole, up to {DECODE_LIMIT / 1e9:.1f} GB: {DECODE_LIMIT**0.5:,.0f} px a side in gray of 8 bits,
{(DECODE_LIMIT / COLORS) ** 0.5:,.0f} px in color, {(DECODE_LIMIT / DEEP) ** 0.5:,.0f} px with 16 bits; larger ones
are refused.
"""
WAYS = """
One image of 512 px with {objects} discs, in memory; each way in the same process, in turn, after a round of warming up.

- *ratio*: seconds of this way / seconds of the head. In brackets the lowest and the highest round.
- *head*: encoder, head and watershed. *head, refine*: the box of each object also goes to the mask decoder.
- *grid*: encoder and SAM's point grid with three candidates a point. Candidates of a pred_iou above 0.88 would also
  be resized and compared; LiteMedSAM, as tuned here with boxes, has few or none.
- *U-Net*: three levels of two convolutions with {widths} channels, {parameters:.2f} M parameters, trained here for
  {steps} steps on the maps of the head, on tiles of {tile} px without resizing, with the same watershed.
- *parameters*: of all that runs. *objects*: that were found.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sides", nargs="+", type=int, default=[1000, 2000, 4000, 8000], help="of growth, in pixels")
    parser.add_argument("--large", type=int, default=20_000, help="side of the image of memory, in pixels")
    parser.add_argument("--grids", nargs="+", type=int, default=[16, 32], help="points a side")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; growth makes one of its largest image")
    options = parser.parse_args()
    sections = [machine()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("training a head")
        run = train_run(folder)
        for part in options.only:
            title, measure = PARTS[part]
            rows, notes = measure(options, folder, run)
            sections += [f"### {title}", table(rows), notes.strip()]
    print(*sections, sep="\n\n")


def train_run(folder: Path) -> Path:
    """The directory of a run with LiteMedSAM's published weights, whose head finds discs."""
    # The image to validate on is small: its objects all go through the decoder.
    for split, count, side in (("train", 4, IMAGE_SIDE), ("val", 1, 4 * CELL)):
        for number in range(count):
            window = (slice(number * 960, number * 960 + side), slice(0, side))
            save_pair(folder / "discs" / split, f"discs_{number}", draw_discs(*window, CELL), disc_ids(*window, CELL))
    own = [f"data.root={folder / 'discs'}", "data.objects=instances", "head=instances", "model=lite_medsam"]
    weights = jobs.weights_of("lite_medsam", folder)
    steps = ["epochs=8", "batch_size=1", "max_objects_per_image=1", "monitor=msa", "workers=0"]
    jobs.train([*own, f"model.checkpoint={weights}", *steps], folder / "run", folder / "home")
    return folder / "run"


def growth(options: argparse.Namespace, folder: Path, run: Path) -> tuple[list[dict], str]:
    rows, first = [], [0.0]
    for side in options.sides:
        path, megapixels = folder / f"{side}.tif", side**2 / 1e6
        write_discs(path, side, CELL)
        repeats = 1 if len(options.sides) > 1 and side == max(options.sides) else options.repeats
        say(f"{side} px: {repeats} rounds")
        # A process for each, so that the memory of one is not that of another.
        with Side(Ways, run, ours=True) as segmenter:
            segmenter.ask("warm_up")
            answers = [segmenter.ask("file", path) for _ in range(repeats)]
            path.unlink()
        taken = [one / megapixels for one in seconds(answers)]
        first = first if rows else taken
        rows.append(
            {
                "side": side,
                "megapixels": f"{megapixels:.0f}",
                "tiles": len(TileGrid((side, side), IMAGE_SIDE)),
                "objects": answers[0].value,
                "s/MP / 1 MP": ratio(taken, [median(first)] * len(taken)),
                "memory in GB": f"{gigabytes(segmenter.loaded)} → {gigabytes(peak(answers))}",
                "s/MP in this run": f"{median(taken):.2f}",
                "rounds": repeats,
            }
        )
    return rows, GROWTH


def memory(options: argparse.Namespace, folder: Path, run: Path) -> tuple[list[dict], str]:
    side = options.large
    path, labels = folder / "large.tif", folder / "predictions/labels/large.tif"
    say(f"{side} px: writing it")
    write_discs(path, side, CELL * LARGE_TILE // IMAGE_SIDE)
    overrides = [f"run={run}", f"images={path}", f"output={folder / 'predictions'}", f"tile={LARGE_TILE}"]
    say(f"{side} px: predict.py")
    with Side(Script, ours=True) as script:
        answer = script.ask("predict", [*overrides, "refine=null", "save=[labels]"])
    row = {
        "side": side,
        "megapixels": f"{side**2 / 1e6:.0f}",
        "tiles": len(TileGrid((side, side), LARGE_TILE)),
        "objects": int(tifffile.imread(labels).max()),
        "memory in GB": f"{gigabytes(script.loaded)} → {gigabytes(answer.peak)}",
        "below 4 GB": "yes" if answer.peak < 4e9 else "no",
        "s/MP in this run": f"{answer.seconds / side**2 * 1e6:.2f}",
        "minutes in this run": f"{answer.seconds / 60:.1f}",
    }
    path.unlink()
    return [row], MEMORY


def ways(options: argparse.Namespace, folder: Path, run: Path) -> tuple[list[dict], str]:
    with Side(Ways, run, ours=True) as side:
        say(f"U-Net: {UNET_STEPS} steps")
        side.ask("train_unet")
        parameters = side.ask("parameters").value
        calls = {"head": partial(side.ask, "head", False), "head, refine": partial(side.ask, "head", True)}
        calls |= {f"grid {n} × {n}": partial(side.ask, "grid", n) for n in options.grids}
        calls["U-Net"] = partial(side.ask, "unet")
        say(f"{len(calls)} ways, {options.repeats} + 1 rounds")
        taken: dict[str, list[Answer]] = in_turn(calls, options.repeats)
    rows = [
        {
            "way": way,
            "ratio": ratio(seconds(answers), seconds(taken["head"])),
            "objects": answers[0].value,
            "parameters in M": f"{parameters['U-Net' if way == 'U-Net' else 'head'] / 1e6:.2f}",
            "s an image in this run": f"{median(seconds(answers)):.2f}",
            "rounds": options.repeats,
        }
        for way, answers in taken.items()
    ]
    objects = int(disc_ids(*TEST_WINDOW, CELL).max())
    widths = ", ".join(map(str, UNET_WIDTHS))
    size = parameters["U-Net"] / 1e6
    return rows, WAYS.format(objects=objects, widths=widths, parameters=size, steps=UNET_STEPS, tile=UNET_TILE)


TEST_WINDOW = (slice(9600, 9600 + IMAGE_SIDE), slice(9600, 9600 + IMAGE_SIDE))
PARTS = {
    "growth": ("Time by pixels", growth),
    "memory": ("A large image", memory),
    "ways": ("Beside other ways", ways),
}


class Ways:
    """The ways to find the objects of an image, each as predict.py goes it, and a U-Net; all give their number."""

    def __init__(self, run: Path) -> None:
        logging.disable(logging.WARNING)  # of the grid, which finds nothing
        self.predictor = Predictor.from_run(run, device="cpu")
        self.task, self.options = self.predictor._task, self.predictor.options
        self.image = ArrayWindows(draw_discs(*TEST_WINDOW, CELL)[..., None].repeat(3, axis=2))
        self.network = UNet(UNET_WIDTHS)

    def warm_up(self) -> None:
        self.head(False)

    def file(self, path: Path) -> int:
        options = replace(self.options, tile=IMAGE_SIDE, refine=False)
        with ImageWindows(path) as image:
            return len(find_by_head(self.task, options, image, path.name).masks)

    def head(self, refine: bool) -> int:
        return self._count(find_by_head(self.task, replace(self.options, refine=refine), self.image, ""))

    def grid(self, points_per_side: int) -> int:
        return self._count(find_by_grid(self.task, points_per_side, self.image, ""))

    def unet(self) -> int:
        bands = predict_in_tiles(self.image, TileGrid(self.image.size, UNET_TILE), UNET_TILE, self._predict, 4)
        return len(compress_ids(segment_maps(np.concatenate(list(bands), axis=1), WatershedThresholds())))

    def train_unet(self) -> None:
        train_on_discs(self.network, UNET_STEPS, UNET_TILE, CELL)

    def parameters(self) -> dict[str, int]:
        models = {"head": self.task.model, "U-Net": self.network}
        return {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}

    @torch.no_grad()
    def _predict(self, images: Tensor, sizes: list[Size]) -> Tensor:
        return self.network(images).sigmoid()

    def _count(self, found: FoundObjects) -> int:
        return len(found.masks)


class Script:
    """predict.py in this process."""

    def predict(self, overrides: list[str]) -> None:
        os.chdir(ROOT)
        sys.argv = ["predict.py", *overrides]
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for Markdown
            runpy.run_path("predict.py", run_name="__main__")


if __name__ == "__main__":
    main()
