"""Whether training helped, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sam_ft.data.tiled import image_of_tile
from sam_ft.report.page.run_files import RunFiles

DRAWS, SEED = 2000, 0
FEW_IMAGES = 10


class Verdict(NamedTuple):
    """before, after: mean IoU over objects · low, high: 95 % interval of the change · images: that were drawn anew"""

    before: float
    after: float
    low: float
    high: float
    images: int

    def sentence(self, prompt: str) -> str:
        change = f"IoU {self.before:.3f} → {self.after:.3f} with prompt {prompt}"
        if self.images < 2:
            return f"{change} on a single image: too few to say whether training helped."
        interval = f"95 % interval {self.low:+.3f} to {self.high:+.3f} by a bootstrap over {self.images} images"
        if self.low > 0:
            outcome = "Training helped"
        elif self.high < 0:
            outcome = "Training made it worse"
        else:
            outcome = "No clear effect"
        few = " These are few images: others may differ by more." if self.images < FEW_IMAGES else ""
        return f"{outcome}: {change} ({self.after - self.before:+.3f}; {interval}).{few}"


def compare(images: Sequence[str], zero_shot: np.ndarray, tuned: np.ndarray) -> Verdict:
    """The mean IoU of objects, zero-shot and tuned, and how its change varies with the images.

    The bootstrap draws images with replacement, each with all of its objects: those of an image are alike.

    images: name of the image of each object · zero_shot, tuned: (N,) IoU
    """
    numbers: dict[str, int] = {}
    place = np.array([numbers.setdefault(name, len(numbers)) for name in images])
    counts = np.bincount(place)
    gains = np.bincount(place, weights=tuned - zero_shot)
    rng = np.random.default_rng(SEED)
    changes = np.empty(DRAWS)
    for number in range(DRAWS):  # one at a time: all together would not fit in memory for many images
        drawn = rng.integers(len(counts), size=len(counts))
        changes[number] = gains[drawn].sum() / counts[drawn].sum()
    low, high = np.percentile(changes, [2.5, 97.5])
    return Verdict(float(zero_shot.mean()), float(tuned.mean()), float(low), float(high), len(counts))


def verdict_lines(files: RunFiles) -> list[str]:
    """The sentence about the prompted masks of a run, and one about its head."""
    progress, settings = files.progress, files.settings
    if "zero_shot" not in progress:
        return ["This run has no result yet: it has no checkpoint."]
    before, after = progress["zero_shot"], progress["best"]
    kept = not progress.get("best_epoch") and progress.get("mix") is None
    lines = []
    if settings.get("train_only") == "head":
        lines.append("The head alone was trained; masks for prompts are those of the run that it started from.")
    elif kept:
        lines.append(
            f"Training did not help: no epoch was better than zero-shot ({files.monitor} {before[files.monitor]:.3f}) "
            f"on {before['images']} images. The checkpoint holds the weights from before training."
        )
    elif files.objects.models == ["zero_shot", "tuned"]:
        ious = (files.objects.columns[f"{model}_iou"] for model in files.objects.models)
        lines.append(
            compare([image_of_tile(name) for name in files.objects.names], *ious).sentence(files.objects.prompt)
        )
    else:
        lines.append(
            f"IoU {before['iou']:.3f} → {after['iou']:.3f} on {before['images']} images; there is no interval without "
            "the scores of each object."
        )
    if not kept:
        lines.append("The best epoch was chosen by these images: expect somewhat less on others.")
    if progress.get("head_scores") and progress.get("baseline"):
        lines.append(_head_line(progress["baseline"], progress["head_scores"]))
    return lines


def _head_line(baseline: Mapping[str, float], head: Mapping[str, float]) -> str:
    name, title, other = (
        ("miou", "mIoU", "the majority class") if "miou" in head else ("msa", "mSA", "Otsu's threshold and a watershed")
    )
    outcome = "better than" if head[name] > baseline[name] else "no better than"
    return f"Without prompts the head is {outcome} {other}: {title} {baseline[name]:.3f} → {head[name]:.3f}."
