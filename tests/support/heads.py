"""A run whose model has a head that finds the discs of `tests.support.blobs`."""

import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from sam_ft import Predictor
from sam_ft.data.map_targets import instance_targets
from sam_ft.data.transforms import resize_for_evaluation
from sam_ft.evaluation.prompted import encode_images, images_batch
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.models.heads import InstanceHead
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import save_partial_weights
from tests.support.blobs import Blobs

THRESHOLDS = WatershedThresholds(foreground=0.4, height=0.1, smoothing=0.5, min_area=12)


def write_head_run(run: Path, directory: Path, steps: int = 150, **options: object) -> Path:
    """Copies a run without a head to `directory`, and trains a head on the features of its model: about 3 seconds."""
    shutil.copytree(run, directory)
    model = Predictor.from_run(run, device="cpu").model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = InstanceHead()
    model.attach_head(head)
    side, task, blobs = model.image_size, PromptedSegmentation(model), Blobs([2, 3, 4, 5, 3, 4])
    images, sizes, maps = torch.zeros(len(blobs), 3, side, side, dtype=torch.uint8), [], []
    for place, sample in zip(images, (blobs[index] for index in range(len(blobs))), strict=True):
        small = resize_for_evaluation(sample, side)
        place[:, : small.size[0], : small.size[1]] = small.image
        sizes.append(small.size)
        maps.append(instance_targets(sample, 0, image_size=side, side=model.mask_side))
    features = encode_images(task, images_batch(images, sizes)).embedding
    targets = torch.stack(maps)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = head.loss(head(features, images), targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("mask_decoder.", f"{head.name}.")))
    notes = asdict(SegmentOptions(THRESHOLDS, **options))
    save_partial_weights(model, directory / "checkpoints/best.safetensors", **notes)
    return directory
