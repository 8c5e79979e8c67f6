from dataclasses import astuple

import numpy as np

from sam_ft.instances.search import CANDIDATES, candidates_for, search_thresholds
from sam_ft.instances.watershed import WatershedThresholds

AREAS = candidates_for([160] * 10)
START = WatershedThresholds(min_area=40)


def test_each_threshold_is_found_where_the_score_is_highest():
    wanted = WatershedThresholds(0.7, 0.2, 2.0, 160)

    def score(thresholds):
        return -sum(abs(mine - best) for mine, best in zip(astuple(thresholds), astuple(wanted), strict=True))

    assert search_thresholds(score, AREAS) == (wanted, 0)


def test_nothing_better_leaves_the_start_after_one_round():
    tried = []

    def score(thresholds):
        tried.append(thresholds)
        return 0.5

    assert search_thresholds(score, AREAS) == (START, 0.5)
    assert len(tried) == 1 + sum(
        len([v for v in values if v != getattr(START, name)]) for name, values in AREAS.items()
    )
    assert len(set(tried)) == len(tried)


def test_minimum_areas_follow_the_objects_and_drop_few_of_them():
    sizes = np.arange(1, 101) * 10
    candidates = candidates_for(sizes)
    assert candidates.items() >= CANDIDATES.items()
    assert candidates["min_area"] == [15, 30, 60]
    assert (sizes < 60).mean() == 0.05
    assert candidates_for(sizes * 100)["min_area"][-1] > 5000
    assert candidates_for([1, 1])["min_area"] == candidates_for([])["min_area"] == [1]
