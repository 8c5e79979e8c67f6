"""The options of `segment_image` that suit a trained head, found on training images."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from sam_ft.data.datasets import Split
from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.data.tiled import image_size
from sam_ft.evaluation.instances import maps_of_images
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.evaluation.segmented import evaluate_head
from sam_ft.instances.search import search_thresholds
from sam_ft.instances.watershed import WatershedThresholds, segment_maps
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch
from sam_ft.utils import distributed

# Every candidate runs a watershed on all images, some 40 times: about 2 minutes of one core for so many pixels.
MAX_IMAGES, MAX_PIXELS = 32, 2**23
STARTS = (WatershedThresholds(), WatershedThresholds(foreground=0.3, center=0.3, boundary=0.1))
REFINED_IMAGES = 16  # on which the decoder is tried: it decodes each object


def choose_images(split: Split, images: Sequence[int]) -> list[int]:
    """Some images of a split, drawn by a fixed seed: few enough for a search, and at least one.

    images: positions to choose from → ascending
    """
    chosen, pixels = [], 0
    for place in torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MAX_IMAGES].tolist():
        height, width = image_size(split, images[place])
        pixels += height * width
        if chosen and pixels > MAX_PIXELS:
            break
        chosen.append(images[place])
    return sorted(chosen)


def find_options(
    task: PromptedSegmentation, split: Split, images: Sequence[int], batches: Iterable[Batch]
) -> tuple[SegmentOptions, dict[str, float]]:
    """The options of the best mSA: thresholds, and whether the decoder refines what the head finds.

    images: of `choose_images` · batches: of an evaluation loader of these
    → the options, and {"head", "refined"}: the mSA without and with the decoder on up to `REFINED_IMAGES` of the images
    """
    thresholds, _ = find_thresholds(task, batches)
    found = SegmentOptions(thresholds)
    tried = {"head": found, "refined": replace(found, refine=True)}
    some = images[:: -(-len(images) // REFINED_IMAGES)]
    scores = {name: evaluate_head(task, split, options, some, name)["msa"] for name, options in tried.items()}
    return tried["refined" if scores["refined"] > scores["head"] else "head"], scores


@torch.no_grad()
def find_thresholds(task: PromptedSegmentation, batches: Iterable[Batch]) -> tuple[WatershedThresholds, float]:
    """Searches the thresholds of the best mSA on the images of an evaluation loader, over all processes.

    → the thresholds, the same on all processes, and that mSA. Memory holds the maps of all images.
    """
    hidden, device = None if distributed.is_main() else True, task.model.device
    images = []
    for batch in tqdm(batches, "thresholds", leave=False, disable=hidden):
        on_device = batch.to(device, non_blocking=True)
        images += maps_of_images(task, task.encode(on_device), on_device)

    def score(thresholds: WatershedThresholds) -> float:
        accuracy = SegmentationAccuracy()
        for image in images:
            found = compress_ids(segment_maps(image.maps, thresholds)).rles()
            accuracy.update(image.name, found, image.gt, image.ignore)
        return accuracy.compute()["msa"]

    # The search changes one threshold at a time, so it leads nowhere from where nothing is found.
    start = max(STARTS, key=score)
    return search_thresholds(score, start)
