"""The masks that prompts are made from, and a prediction compared with them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sam_ft.types import Batch, Prediction, Size, dense
from sam_ft.utils.cpu_kernels import areas


@dataclass
class GroundTruth:
    """All objects of a batch: in the input frame in training, in evaluation in the original frame of their one image.

    masks: (M, H, W) bool · valid: (M, H, W) bool, false on padding and on pixels to ignore
    input_size: height and width that the masks have in the input frame
    """

    masks: Tensor
    valid: Tensor
    input_size: Size

    @property
    def scale(self) -> tuple[float, float]:
        """x and y of this frame times these lie in the input frame."""
        (height, width), (h, w) = self.masks.shape[-2:], self.input_size
        return w / width, h / height


def ground_truth(batch: Batch) -> GroundTruth:
    """The masks of a batch in the frame that its prompts and errors are found in.

    Raises:
        ValueError: an evaluation batch of several images, which have no frame in common; take `batch.image(index)`
    """
    # Training: in the input frame, where padding is not valid. Evaluation: in the original frame, without padding.
    if not batch.originals:
        return GroundTruth(batch.masks, batch.valid_pixels(), (batch.image_size, batch.image_size))
    if len(batch.originals) > 1:
        raise ValueError(f"the batch has {len(batch.originals)} images; expected one, from batch.image(index)")
    original = batch.originals[0]
    masks = dense(original.masks)
    valid = torch.ones_like(masks[:1]) if original.ignore is None else ~original.ignore[None]
    return GroundTruth(masks, valid.expand_as(masks), batch.sizes[0])


@dataclass
class Comparison:
    """Predicted masks beside the ground truth, in a frame in which both were brought.

    predicted, gt, valid: (M, h, w) bool
    scale, offset: pixel x, y of this frame lies at x, y · scale + offset in the input frame
    """

    predicted: Tensor
    gt: Tensor
    valid: Tensor
    scale: tuple[float, float]
    offset: float = 0.0

    @property
    def false_negatives(self) -> Tensor:
        return self.gt & ~self.predicted & self.valid

    @property
    def false_positives(self) -> Tensor:
        return self.predicted & ~self.gt & self.valid

    def to_input(self, pixels: Tensor) -> Tensor:
        """pixels: (..., 2) x, y → (..., 2) float32 in the input frame"""
        return scale_pixels(pixels, self.scale) + self.offset

    def iou(self) -> Tensor:
        """(M,) float64 on the CPU."""
        # Ignored pixels are in neither part of the union.
        overlap = areas(self.predicted & self.gt & self.valid)
        # nan if prediction and gt are both empty on valid pixels.
        return overlap / (overlap + areas(self.false_negatives) + areas(self.false_positives)).double()


def scale_pixels(pixels: Tensor, scale: tuple[float, float]) -> Tensor:
    """pixels: (..., 2) x, y times `scale` → (..., 2) float32; copies nothing to the device, so no GPU waits"""
    x, y = pixels.float().unbind(-1)
    return torch.stack([x * scale[0], y * scale[1]], dim=-1)


def compare_on_grid(prediction: Prediction, gt: GroundTruth) -> Comparison:
    """Compares logits (M, 1, 4s, 4s) with the pixel of the input frame at the middle of each of their cells.

    It costs a sixteenth of a comparison at the input side of 1024 and needs no upsampling.
    """
    cell = gt.masks.shape[-1] // prediction.logits.shape[-1]
    middle = slice(cell // 2, None, cell)
    predicted = prediction.logits[:, 0] > 0
    masks, valid = gt.masks[:, middle, middle], gt.valid[:, middle, middle]
    # The middle of cell x is the pixel x · cell + cell // 2 of the input frame: scale and offset.
    return Comparison(predicted, masks, valid, (cell, cell), cell // 2)
