"""Scores of predicted masks against true ones, kept as sums so that processes can add theirs together."""

from torch import Tensor

from sam_ft.distributed import sum_over_ranks
from sam_ft.geometry import areas


class IouDice:
    """Mean IoU and Dice over objects, over images, and how far the model's own guess of its IoU is off.

    A mean over objects weights an image by how many it holds; a mean over images (of the mean in each) does not.
    Call `update` once per image, then `compute` on all processes together.
    """

    monitors = ("iou", "dice", "iou_per_image", "dice_per_image")  # the scores of which more is better

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._sums = [0.0] * 5
        self._objects = 0
        self._images = 0

    def update(self, predicted: Tensor, true: Tensor, guessed_iou: Tensor) -> dict[str, Tensor]:
        """Adds one image's objects and returns their own scores.

        predicted, true: (N, H, W) bool in the original frame, `true` non-empty · guessed_iou: (N,)
        Returns {"iou", "dice"}: (N,) float64 on the CPU.
        """
        overlap = areas(predicted & true).double()
        both = (areas(predicted) + areas(true)).double()
        iou, dice = overlap / (both - overlap), 2 * overlap / both
        if len(iou):
            guess_error = (guessed_iou.double().cpu() - iou).abs()
            added = (iou.sum(), dice.sum(), iou.mean(), dice.mean(), guess_error.sum())
            self._sums = [total + float(value) for total, value in zip(self._sums, added, strict=True)]
            self._objects += len(iou)
            self._images += 1
        return {"iou": iou, "dice": dice}

    def compute(self) -> dict[str, float]:
        """The scores over all processes, with the counts of "objects" and "images" behind them.

        Without a single object every score is nan: there is nothing to be right or wrong about.
        """
        *sums, objects, images = sum_over_ranks([*self._sums, self._objects, self._images])
        counts = (objects, objects, images, images, objects)
        means = [total / count if count else float("nan") for total, count in zip(sums, counts, strict=True)]
        return {
            **dict(zip((*IouDice.monitors, "iou_guess_error"), means, strict=True)),
            "objects": objects,
            "images": images,
        }
