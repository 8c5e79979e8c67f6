"""The images of the page, and the masks that were found in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sam_ft.app.objects import PageObject
from sam_ft.app.preview import Preview
from sam_ft.app.segmenter import Segmenter
from sam_ft.cli.image_files import ImageFile, result_names
from sam_ft.data.io.windows import ImageWindows
from sam_ft.data.sources.pairing import SUFFIXES
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.types import Prompts
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import write_atomic
from sam_ft.writers.instances import Instances


class OpenImage(NamedTuple):
    file: str
    windows: ImageWindows
    preview: Preview


class Workspace:
    """One image is open at a time; the masks of all of them are kept, as run lengths.

    Images are called by `ImageFile.file`. No other path is opened, whatever a request names.

    segmenters: {name: a model}, "tuned" and "zero-shot" · images: those of the command, and those of `uploads` follow
    uploads: the folder of images that are added · reading: how the run reads images, see `ImageWindows`
    classes: {label: name} of the objects
    """

    def __init__(
        self,
        segmenters: Mapping[str, Segmenter],
        images: Sequence[ImageFile],
        uploads: Path,
        reading: Mapping[str, Any],
        classes: Mapping[int, str],
    ) -> None:
        self.segmenters = segmenters
        self.images = {image.file: image for image in images}
        self.reading = dict(reading)
        self.classes = classes
        self._uploads = uploads
        self._opened: OpenImage | None = None
        # Run lengths, score and label of each mask that the page knows by its number.
        self._found: dict[str, list[tuple[bytes, float, int]]] = {}
        for path in sorted(uploads.glob("*")) if uploads.is_dir() else []:
            if path.name not in self.images and _is_image_name(path.name):
                self._add(path.name)

    def open(self, file: str) -> OpenImage:
        """Opens an image, and closes the one before. Raises: DataError when it cannot be read."""
        if file not in self.images:
            raise DataError(f"{file} is not among the images of this page")
        if self._opened is None or self._opened.file != file:
            windows = ImageWindows(self.images[file].path, **self.reading)
            try:
                preview = Preview(windows)
            except BaseException:
                windows.close()
                raise
            if self._opened is not None:
                self._opened.windows.close()
            self._opened = OpenImage(file, windows, preview)
        return self._opened

    def predict(self, file: str, model: str, prompts: Prompts, label: int) -> PageObject | None:
        """The mask of one object, of the class `label`; None where it is empty."""
        if label not in self.classes:
            raise DataError(f"label={label} is not a class; expected one of {', '.join(map(str, self.classes))}")
        found = self._segmenter(file, model).predict(prompts)
        return None if found is None else self._keep(file, found.x0, found.y0, found.mask, found.pred_iou, label)

    def find_all(self, file: str, points_per_side: int) -> list[PageObject]:
        """All objects, by the tuned model."""
        found = self._segmenter(file, "tuned").find_all(points_per_side)
        return [
            self._keep(file, *found.masks.crop(place), float(found.scores[place]), int(found.labels[place]))
            for place in range(len(found.masks))
        ]

    def instances(self, file: str, numbers: Sequence[int]) -> Instances:
        """The masks of these numbers, in this order. Raises: DataError when there is no such mask."""
        image, windows, known = self.images.get(file), self.open(file).windows, self._found.get(file, [])
        assert image is not None
        if unknown := [number for number in numbers if not 0 <= number < len(known)]:
            raise DataError(f"{file}: there is no mask {unknown[0]}; reload the page")
        kept = [known[number] for number in numbers]
        return Instances(
            name=image.name,
            file=image.file,
            path=image.path,
            masks=RunLengthMasks([counts for counts, *_ in kept], windows.size),
            scores=torch.tensor([score for _, score, _ in kept], dtype=torch.float32),
            labels=torch.tensor([label for *_, label in kept], dtype=torch.int64),
            classes=self.classes,
            image=windows,
            values=windows.values,
        )

    def upload(self, name: str, data: bytes) -> str:
        """Stores an image, and returns the name by which it is called.

        Raises: DataError when it is empty, cannot be read, or has the name of another one.
        """
        file = name.replace("\\", "/").rpartition("/")[2]
        if not _is_image_name(file):
            raise DataError(f"{file}: the name is not that of an image; expected one of {', '.join(SUFFIXES)}")
        if not data:
            raise DataError(f"{file}: is empty (0 bytes)")
        if file in self.images:
            if self.images[file].path.read_bytes() != data:
                raise DataError(f"{file}: another image of this name is there already; rename it")
            return file
        path = self._uploads / file
        write_atomic(path, data)
        self._add(file)
        try:
            self.open(file)
        except DataError:
            del self.images[file]
            path.unlink()
            raise
        return file

    def _add(self, file: str) -> None:
        """Lists a file of `uploads`; its results have a name of their own."""
        taken = {image.name for image in self.images.values()}
        name = next((name for name in (result_names([file])[0], file) if name not in taken), f"upload_{file}")
        self.images[file] = ImageFile(name, file, self._uploads / file)

    def _segmenter(self, file: str, model: str) -> Segmenter:
        if model not in self.segmenters:
            raise DataError(f"model={model} is not known; expected one of {', '.join(self.segmenters)}")
        windows, segmenter = self.open(file).windows, self.segmenters[model]
        if segmenter.image is not windows:
            segmenter.open(windows)
        return segmenter

    def _keep(self, file: str, x0: int, y0: int, mask: NDArray[np.bool_], score: float, label: int) -> PageObject:
        known = self._found.setdefault(file, [])
        known.append((encode_crop(x0, y0, mask, self.open(file).windows.size), score, label))
        return PageObject(len(known) - 1, x0, y0, mask, score, label)


def _is_image_name(file: str) -> bool:
    return Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
