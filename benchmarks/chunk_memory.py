"""The memory that chunks take on a GPU: objects decoded at once, images encoded at once.

    python -m benchmarks.chunk_memory > benchmarks/chunk_memory.txt

The numbers of `sam_ft/models/chunks.py` come from it. Progress goes to stderr. Without a GPU it exits with 2.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from time import perf_counter

import torch

from sam_ft.adapt import Freeze
from sam_ft.data.collate import collate
from sam_ft.data.transforms import resize_for_evaluation, resize_longest_side
from sam_ft.losses import Bce, Combined, Iou
from sam_ft.models import Sam
from sam_ft.models.build import SPECS, build_sam
from sam_ft.prompts import Box, Point, Prompter
from sam_ft.task import PromptedSegmentation
from sam_ft.training.step import split_into_passes
from sam_ft.types import Batch, Features, Original, Sample

HEAD = ("model", "side", "precision", "what", "count", "peak bytes", "bytes each", "ms each")
PROMPTERS: dict[str, Prompter] = {"box": Box(), "point": Point()}  # a single point has three candidates

NOTES = """
Random weights, the default loss, one image of the input side with objects of a tenth of it. "peak bytes" is
torch.cuda.max_memory_allocated in the call less torch.cuda.memory_allocated before it; "bytes each" divides it by the
count, "ms each" is the second call's time divided by the count.
- train box, train point: forward and backward pass of the decoder, of which the gradients of its weights are a part
- predict box, predict point: the decoder without a graph, and the masks in the original frame
- encode: the whole image encoder without a graph
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunk_memory", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lite_medsam", "vit_t", "vit_b"], choices=list(SPECS))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--objects", nargs="+", type=int, default=[8, 16, 32, 64], metavar="M")
    parser.add_argument("--images", nargs="+", type=int, default=[1, 2, 4, 8], metavar="B")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: this script measures the memory of one", file=sys.stderr)
        return 2
    device = torch.cuda.get_device_properties(0)
    print(f"{device.name}, {device.total_memory} bytes; torch {torch.__version__}\n{NOTES}")
    print("\t".join(HEAD), flush=True)
    for model_type in options.models:
        torch.manual_seed(0)
        model = build_sam(model_type).cuda()
        Freeze(["mask_decoder.*"])(model)
        for precision in options.precisions:
            task = PromptedSegmentation(model, Combined({"bce": Bce(), "soft_iou": Iou()}), precision)
            for what, count, call in calls(task, options.objects, options.images):
                print(f"{model_type} {precision} {what} {count}", file=sys.stderr, flush=True)
                bytes_, seconds = measure(call, model)
                row = (model_type, model.image_size, precision, what, count, bytes_, bytes_ // count)
                print(*row, f"{1e3 * seconds / count:.2f}", sep="\t", flush=True)
    return 0


def calls(
    task: PromptedSegmentation, objects: list[int], images: list[int]
) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """(what, count, call) of everything that is measured for one model in one precision."""
    side = task.model.image_size
    features = random_features(task.model)

    def train(batch: Batch, prompter: Prompter, count: int) -> None:
        (given,) = split_into_passes(task, batch, prompter, 0, count).decoder
        task(given)["loss"].sum().backward()

    def predict(batch: Batch, prompter: Prompter, count: int) -> None:
        list(task.predict(batch, prompter, count))

    for count in objects:
        sample = rectangles(side, count)
        training = collate([resize_longest_side(sample, side)], side, features).to(task.model.device)
        original = Original(sample.masks, None, sample.size)
        scored = collate([resize_for_evaluation(sample, side)], side, features, [original]).to(task.model.device)
        for name, prompter in PROMPTERS.items():
            yield f"train {name}", count, lambda b=training, p=prompter, n=count: train(b, p, n)
            yield f"predict {name}", count, lambda b=scored, p=prompter, n=count: predict(b, p, n)
    # Not through `task.prefix`, which splits the images.
    for count in images:
        pixels = torch.randint(256, (count, 3, side, side), dtype=torch.uint8, device=task.model.device)

        def encode(pixels: torch.Tensor = pixels) -> None:
            with torch.no_grad(), task.autocast():
                task.model.prefix(pixels, [(side, side)] * len(pixels), task.cut)

        yield "encode", count, encode


def random_features(model: Sam) -> Features:
    return Features((torch.randn(1, *model.embedding_shape, device=model.device),))


def rectangles(side: int, count: int) -> Sample:
    """An image with equal rectangles, each a little further right than the one before."""
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    step = side // (2 * count) or 1
    for i in range(count):
        masks[i, side // 4 : side // 4 + side // 10, i * step : i * step + side // 10] = True
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    return Sample(image, masks, torch.arange(count), "rectangles", (side, side), torch.arange(count))


def measure(call: Callable[[], None], model: Sam) -> tuple[int, float]:
    """(peak bytes above those before, seconds) of a call, after one that loads the kernels."""
    call()
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    started = perf_counter()
    call()
    torch.cuda.synchronize()
    seconds = perf_counter() - started
    peak = torch.cuda.max_memory_allocated()
    model.zero_grad(set_to_none=True)
    return peak - before, seconds


if __name__ == "__main__":
    sys.exit(main())
