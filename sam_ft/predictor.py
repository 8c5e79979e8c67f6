"""Predicts masks for new images, with a model or with the best weights of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sam_ft.data.io.images import READING, check_reading, read_image
from sam_ft.data.io.windows import ArrayWindows, ImageWindows
from sam_ft.data.transforms import resize_image
from sam_ft.evaluation.found import find_by_head
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.models import Sam
from sam_ft.prompts import scale_prompts
from sam_ft.prompts.arrays import prompts_from_arrays
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.types import OBJECT, dense
from sam_ft.utils import distributed
from sam_ft.utils.geometry import resized_size

MAX_DENSE_BYTES = 2**33  # of the masks that `Predictor.segment` returns


class Predictor:
    """Predicts masks from prompts as segment-anything's SamPredictor does, on images of any size, for many objects.

    The embedding of the last image is kept, so further prompts on the same image do not encode it again.

    precision: "float32" gives the masks of SamPredictor; "bfloat16", or "auto" on a GPU that supports it, is faster
        there and changes pixels at the edges
    intensity ... channels: how images given by their path are read, see `read_image`
    options: of `segment`, by default those that a run stored, or `SegmentOptions()`
    """

    def __init__(
        self,
        model: Sam,
        precision: str = "float32",
        intensity: str = "percentile",
        page: int | None = None,
        projection: str | None = None,
        channels: Sequence[int] | None = None,
        options: SegmentOptions | None = None,
    ) -> None:
        check_reading(intensity, page, projection, channels)
        self.model = model.eval()
        self._reading: dict[str, Any] = dict(zip(READING, (intensity, page, projection, channels), strict=True))
        self.options = options or SegmentOptions()
        self._task = PromptedSegmentation(model, precision=precision)
        self._image: NDArray | None = None
        self._weights: list[tuple] = []

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        device: str | torch.device | None = None,
        precision: str = "float32",
        trust: Sequence[str] = (),
    ) -> "Predictor":
        """A predictor with the model of a run and its best weights, which reads images as the run did.

        run: the directory that training wrote · device: default is this process's GPU, else the CPU
        precision: as in the constructor, independent of the run's
        trust: packages of your own that the run's model may call; its loss, metric and data are not built

        Raises:
            ConfigError: the directory holds no run, or one of another format version; its model calls code outside of
                sam_ft and `trust`.
            CheckpointError: the weights are missing or do not fit their base.
        """
        from sam_ft.cli.config import build  # imported here: a Predictor of a model does not need Hydra
        from sam_ft.cli.runs import load_run

        if isinstance(trust, str):
            raise ValueError(f"trust={trust!r}; expected a list of packages, [{trust!r}]")
        found = load_run(run, ("model",), trust)
        model = build(found.cfg.model)
        notes = load_partial_weights(model, found.directory / "checkpoints/best.safetensors")
        model = model.to(device or distributed.device())
        return cls(model, precision, **found.reading, options=SegmentOptions.from_notes(notes))

    @property
    def classes(self) -> Mapping[int, str]:
        """{label: name} of the objects that `segment` finds."""
        return OBJECT if self.model.head is None else self.model.head.classes

    def segment(
        self, image: NDArray[np.uint8] | str | Path
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]]:
        """Finds all objects of an image without prompts, as predict.py does; the model needs a head.

        image: see `predict`
        → masks (N, H, W) bool, which do not overlap, scores (N,) and labels (N,), keys of `classes`

        Raises:
            ValueError: the array has a wrong shape or type, the model has no head, or the masks do not fit into
                `MAX_DENSE_BYTES`; `sam_ft.evaluation.found.find_by_head` gives them as run lengths.
            DataError: the file cannot be read.
        """
        if isinstance(image, str | Path):
            with ImageWindows(image, **self._reading) as windows:
                masks, scores, labels = find_by_head(self._task, self.options, windows, str(image))
        else:
            _check_image(image)
            masks, scores, labels = find_by_head(self._task, self.options, ArrayWindows(image), "")
        if (needed := len(masks) * masks.size[0] * masks.size[1]) > MAX_DENSE_BYTES:
            raise ValueError(
                f"{len(masks)} masks of {masks.size[1]} x {masks.size[0]} pixels take {needed / 1e9:.0f} GB; write "
                "label images with predict.py, or call sam_ft.evaluation.found.find_by_head for run lengths"
            )
        return dense(masks).numpy(), scores.numpy(), labels.numpy()

    @torch.no_grad()
    def predict(
        self,
        image: NDArray[np.uint8] | str | Path,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = False,
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """Predicts masks of N objects; every given prompt has N as its first axis.

        image: (H, W, 3) uint8 RGB, or the path of a file in any format that training reads
        boxes: (N, 4) x0, y0, x1, y1 in pixels of the image
        points: (N, K, 2) x, y in pixels of the image, with point_labels: (N, K), 1 object, 0 background, -1 padding
        mask_input: (N, 1, 4s, 4s) logits of an earlier prediction
        N may be 0: [] for every given prompt, from a detector that found nothing, gives no masks.

        Returns masks (N, C, H, W) bool, pred_iou (N, C), and logits (N, C, 4s, 4s); C is 3 with `multimask_output`,
        else 1.

        Raises:
            ValueError: an array has a wrong shape or type, no prompt was given, a box is empty, a box or a point lies
                outside the image or has coordinates from 0 to 1, a point has another label, or a number is not finite.
            DataError: the file cannot be read.
        """
        if isinstance(image, str | Path):
            image = read_image(image, **self._reading)
        _check_image(image)
        size = (image.shape[0], image.shape[1])
        given = {"boxes": boxes, "points": points, "point_labels": point_labels, "mask_input": mask_input}
        prompts = prompts_from_arrays(size, self.model.mask_side, self.model.device, **given)
        # mask_input has no frame of pixels and stays
        prompts = scale_prompts(prompts, size, resized_size(size, self.model.image_size))
        count = next(len(p) for p in (prompts.boxes, prompts.points, prompts.masks) if p is not None)
        if not count:
            # The image is not encoded: (0, C, H, W), (0, C), (0, C, 4s, 4s).
            shape, side = (0, 3 if multimask_output else 1), self.model.mask_side
            return (
                np.zeros((*shape, *size), bool),
                np.zeros(shape, np.float32),
                np.zeros((*shape, side, side), np.float32),
            )
        self._set_image(image)
        # one image, so all objects lie on image 0
        index = torch.zeros(count, dtype=torch.int64, device=self.model.device)
        with self._task.autocast():
            prediction = self.model.decode(self._features, prompts, index, multimask_output)
        logits = prediction.logits.float()
        masks = self.model.postprocess(logits, self._input_size, self._original_size) > 0
        return masks.cpu().numpy(), prediction.pred_iou.float().cpu().numpy(), logits.cpu().numpy()

    def _set_image(self, image: NDArray) -> None:
        weights = self._state_of_encoder()
        # compare contents, not identity: the caller may have changed the array in place
        if self._image is not None and np.array_equal(image, self._image) and weights == self._weights:
            return
        side = self.model.image_size
        self._original_size = (image.shape[0], image.shape[1])
        self._input_size = resized_size(self._original_size, side)
        own = np.array(image, order="C")  # a copy: arrays from Pillow are read-only, which torch refuses
        small = resize_image(torch.from_numpy(own).permute(2, 0, 1), self._input_size)
        padded = torch.zeros(1, 3, side, side, dtype=torch.uint8)
        padded[0, :, : self._input_size[0], : self._input_size[1]] = small
        with self._task.autocast():
            self._features = self.model.encode(padded.to(self.model.device), [self._input_size])
        self._image, self._weights = own, weights

    def _state_of_encoder(self) -> list[tuple]:
        """A value that changes whenever the encoder's weights are moved or written to, as by loading a checkpoint."""
        tensors = self.model.image_encoder.state_dict().values()
        # torch counts in-place writes (_version), but not for tensors made in inference mode
        return [(t.data_ptr(), None if t.is_inference() else t._version) for t in tensors]


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f"image is of type {type(image).__name__}; expected a path, or an array (H, W, 3) of uint8 in RGB order, "
            "such as sam_ft.read_image(path)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"image is {image.dtype} {image.shape}; expected uint8 (H, W, 3) in RGB order, as sam_ft.read_image(path) "
            "gives it from a file of any depth"
        )
