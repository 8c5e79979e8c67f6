from dataclasses import astuple

from sam_ft.instances.search import CANDIDATES, search_thresholds
from sam_ft.instances.watershed import WatershedThresholds

START = WatershedThresholds()


def test_each_threshold_is_found_where_the_score_is_highest():
    wanted = WatershedThresholds(0.7, 0.2, 2.0, 40)

    def score(thresholds):
        return -sum(abs(mine - best) for mine, best in zip(astuple(thresholds), astuple(wanted), strict=True))

    assert search_thresholds(score, START) == (wanted, 0)


def test_nothing_better_leaves_the_start_after_one_round():
    tried = []

    def score(thresholds):
        tried.append(thresholds)
        return 0.5

    assert search_thresholds(score, START) == (START, 0.5)
    assert len(tried) == 1 + sum(
        len([v for v in values if v != getattr(START, name)]) for name, values in CANDIDATES.items()
    )
    assert len(set(tried)) == len(tried)
