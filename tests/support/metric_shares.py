"""Scores random masks and class maps, distributed over the processes of two_processes.py."""

import torch

from sam_ft.evaluation.classes import ClassScores
from sam_ft.metrics import BoundaryIou, SegmentationMetrics, SurfaceDistance
from sam_ft.utils import distributed
from tests.support.masks import random_pairs

COUNTS = [3, 1, 0, 4, 2, 2]  # of objects per tile; the second process gets those at odd places
IMAGES = [0, 1, 2, 3, 4, 0]  # the image of each tile: both processes have one of the first image


def scored():
    metric = SegmentationMetrics([BoundaryIou(), SurfaceDistance()])
    for index in range(distributed.rank(), len(COUNTS), distributed.world_size()):
        predicted, gt = random_pairs(COUNTS[index], (40, 50), seed=index)
        draws = torch.rand(COUNTS[index], 6, generator=torch.Generator().manual_seed(index))
        metric.update(
            f"image_{IMAGES[index]}", predicted, gt, draws[:, 0], (draws[:, 1] * 3).long(), click_ious=draws[:, 2:]
        )
    return metric.compute({0: "a", 1: "b", 2: "c", 3: "absent"})


def scored_classes():
    scores = ClassScores(["background", "a", "b", "absent"])
    for index in range(distributed.rank(), len(COUNTS), distributed.world_size()):
        predicted, gt = torch.randint(0, 3, (2, 40, 50), generator=torch.Generator().manual_seed(index)).numpy()
        scores.add(predicted, gt)
    return scores.compute()
