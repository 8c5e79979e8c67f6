"""Compares the instances that the heads of runs find with Otsu + watershed, by a paired bootstrap over images.

    python -m benchmarks.instances outputs/cells outputs/cells_1

Scores are segmentation accuracies of whole validation images, as at the end of a training; several runs, such as seeds
of one, are averaged image by image. Brackets hold the 2.5th and 97.5th percentile of the mean over images drawn anew.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.harness import say, table
from sam_ft import Predictor
from sam_ft.cli.config import build
from sam_ft.cli.runs import load_run
from sam_ft.data.datasets import Split
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.sources.run_lengths import RunLengthMasks, compress_ids
from sam_ft.data.splits import open_split
from sam_ft.evaluation.found import find_by_head
from sam_ft.evaluation.instances import compress_gt
from sam_ft.evaluation.without_prompts import pixels
from sam_ft.instances.otsu import OtsuOptions, segment_otsu
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Sample

NAMES = ("sa50", "sa75", "msa")
DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instances", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs with a head, of the same data")
    runs = parser.parse_args().runs
    split = open_split(build(load_run(runs[0], ("data",)).cfg.data), "val")
    baseline = np.array([score(sample, otsu(sample)) for sample in samples(split)])
    heads = np.array([score_run(run, split) for run in runs])  # (runs, images, 3)
    draws = np.random.default_rng(0).integers(len(split), size=(DRAWS, len(split)))
    rows = []
    for column, name in enumerate(NAMES):
        head, gain = heads[..., column], heads[..., column].mean(axis=0) - baseline[:, column]
        low, high = np.percentile(gain[draws].mean(axis=1), [2.5, 97.5])
        seeds = " ".join(f"{mean:.3f}" for mean in head.mean(axis=1))
        row = {"score": name, "Otsu + watershed": f"{baseline[:, column].mean():.3f}", "head": f"{head.mean():.3f}"}
        rows.append(row | {"each run": seeds, "gain": f"{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}]"})
    print(table(rows))


def score_run(run: Path, split: Split) -> list[list[float]]:
    """The scores of the objects that the head of a run finds in each image."""
    say(str(run))
    predictor = Predictor.from_run(run)
    task = PromptedSegmentation(predictor.model, precision=load_run(run, ("model",)).precision)
    found = (find_by_head(task, predictor.options, ArrayWindows(pixels(sample)), "") for sample in samples(split))
    return [score(sample, one.masks) for sample, one in zip(samples(split), found, strict=True)]


def score(sample: Sample, masks: RunLengthMasks) -> list[float]:
    """`NAMES` of one image."""
    accuracy = SegmentationAccuracy()
    accuracy.update(sample.name, masks.rles(), compress_gt(sample.masks, sample.size), sample.ignore)
    scores = accuracy.compute()
    return [scores[name] for name in NAMES]


def otsu(sample: Sample) -> RunLengthMasks:
    return compress_ids(segment_otsu(pixels(sample), OtsuOptions()))


def samples(split: Split) -> list[Sample]:
    return [split[index] for index in range(len(split))]


if __name__ == "__main__":
    main()
