"""Samples become a batch, with all objects on one axis and an index back to their image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sam_ft.types import Batch, Features, Original, Sample, dense


def collate(
    samples: Sequence[Sample],
    image_size: int,
    features: Features | None = None,
    originals: Sequence[Original] = (),
    keep_pixels: bool = False,
) -> Batch:
    """Puts samples in the input frame into one batch.

    features: of all samples, which replace their pixels unless `keep_pixels` · originals: one per sample in evaluation

    An empty list makes a batch of no images: the share of a process that got none of the last, smaller batch.
    """
    counts = [len(sample.object_index) for sample in samples]
    masks_side = 0 if originals else image_size  # in evaluation, masks in the input frame would only fill memory

    # Writes each part into the top left corner of its place, zero elsewhere.
    def padded(shape: tuple[int, ...], side: int, dtype: torch.dtype, parts: Sequence[Tensor]) -> Tensor:
        whole = torch.zeros(*shape, side, side, dtype=dtype)
        for place, part in zip(whole.split([len(part) for part in parts]), parts, strict=True):
            place[..., : part.shape[-2], : part.shape[-1]] = part
        return whole

    def joined(parts: list[Tensor], empty: Tensor) -> Tensor:
        return torch.cat(parts) if parts else empty

    images = None
    if features is None or keep_pixels:
        images = padded((len(samples), 3), image_size, torch.uint8, [sample.image[None] for sample in samples])
    ignore = None
    if not originals and any(sample.ignore is not None for sample in samples):
        none = torch.zeros(1, 0, 0, dtype=torch.bool)  # padded to all false
        parts = [none if sample.ignore is None else sample.ignore[None] for sample in samples]
        ignore = padded((len(samples),), image_size, torch.bool, parts)
    maps = [sample.maps for sample in samples if sample.maps is not None]
    no_ids = torch.zeros(0, dtype=torch.int64)
    return Batch(
        images=images,
        features=features,
        masks=padded((sum(counts),), masks_side, torch.bool, [dense(sample.masks) for sample in samples]),
        boxes=joined([_boxes(s) for s in samples], torch.zeros(0, 4)),
        labels=joined([s.labels for s in samples], no_ids),
        object_index=joined([s.object_index for s in samples], no_ids),
        image_index=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts, dtype=torch.int64)),
        names=[s.name for s in samples],
        sizes=[s.size for s in samples],
        ignore=ignore,
        originals=list(originals),
        maps=torch.stack(maps) if maps else None,
        extremes=stack_extremes([sample.extremes for sample in samples]),
    )


def stack_extremes(extremes: Sequence[Tensor | None]) -> Tensor | None:
    """(B, 2), nan for images without extremes; None if there are none at all."""
    if all(one is None for one in extremes):
        return None
    return torch.stack([torch.full((2,), torch.nan) if one is None else one for one in extremes])


def _boxes(sample: Sample) -> Tensor:
    if sample.boxes is None:
        raise ValueError(f"{sample.name} has no boxes; resize it to the input frame before it joins a batch")
    return sample.boxes
